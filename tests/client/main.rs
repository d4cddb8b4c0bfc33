//! `chat-client` against a server that does what each test tells it: what comes
//! out, what goes over the wire, how it ends. And, in `story`, against the real one.

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod fake;
mod library;
mod piped;
mod program;
mod registering;
mod screen;
mod story;
mod terminal;
