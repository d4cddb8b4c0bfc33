//! `chat-client` against a fake server: its output, its messages on the wire, its exit
//! codes. And, in `real_server`, against the real one.

#[path = "../support/mod.rs"]
mod support;

mod admission;
mod cutting;
mod directs;
mod fake;
mod files;
mod identity;
mod keys;
mod library;
mod past;
mod piped;
mod program;
mod real_server;
mod reconnect;
mod registering;
mod resuming;
mod runtime;
mod screen;
mod scripts;
mod snapshots;
mod terminal;
mod tls;
mod views;
