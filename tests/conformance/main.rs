//! Tests of the conformance suite: against the reference server and client, independent
//! implementations in Python, implementations broken on purpose, targets that speak
//! another protocol, and bad input.

mod audit;
mod bad_input;
mod blame;
mod bounds;
mod by_address;
mod capacity;
mod files;
mod hopeless;
mod implementations;
mod ladder;
mod left_behind;
mod load;
mod mutants;
mod network;
mod reference;
mod reports;
mod structure;
mod summary;
mod support;
