//! The module is private to the server, so it is taken in by its path.

#![no_main]
#![allow(dead_code)] // The server uses more of it.

#[path = "../bodies/websocket.rs"]
mod body;
#[path = "../../src/server/web/codec.rs"]
mod codec;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
