//! The conformance suite judged in its turn: against the reference server and
//! client, against independent peers in Python, against peers broken on purpose,
//! against targets that are no peers at all, and against its own bad input.

mod bad_input;
mod files;
mod hopeless;
mod mutants;
mod peers;
mod reference;
mod reports;
mod support;
