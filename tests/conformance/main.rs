//! The conformance suite judged in its turn: against the reference server and
//! client, against independent implementations in Python, against implementations
//! broken on purpose, against targets that speak no chat at all, and against its own
//! bad input.

mod bad_input;
mod by_address;
mod files;
mod hopeless;
mod implementations;
mod left_behind;
mod mutants;
mod reference;
mod reports;
mod structure;
mod support;
