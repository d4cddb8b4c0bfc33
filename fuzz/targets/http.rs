//! The module is private to the server, so it is taken in by its path.

#![no_main]
#![allow(dead_code)] // The server uses more of it.

#[path = "../bodies/http.rs"]
mod body;
#[path = "../../src/server/web/http.rs"]
mod http;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
