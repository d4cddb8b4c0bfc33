//! The parser lives in a program, `chat-conformance`, so its modules are taken in
//! by their paths. They share nothing with the server but the schema's types.

#![no_main]
#![allow(dead_code)] // The program uses more of these modules than the parser does.

#[path = "../bodies/transcript.rs"]
mod body;
#[path = "../../conformance/runner/framing.rs"]
mod framing;
#[path = "../../conformance/runner/keys.rs"]
mod keys;
#[path = "../../conformance/runner/mark.rs"]
mod mark;
#[path = "../../conformance/runner/messages.rs"]
mod messages;
#[path = "../../conformance/runner/pattern.rs"]
mod pattern;
#[path = "../../conformance/runner/rules.rs"]
mod rules;
#[path = "../../conformance/runner/transcript/mod.rs"]
mod transcript;

libfuzzer_sys::fuzz_target!(|data: &[u8]| body::run(data));
