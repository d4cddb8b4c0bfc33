//! The types that `proto/chat.proto` defines, generated. What the messages mean, and
//! every rule about them, stands in the schema. They hold what it defines and nothing
//! else (CHAT-GROW-9): parsing drops unknown fields. Written by hand is one thing
//! alone: how a Register shows itself, which is without its password.

#![allow(missing_docs)] // Oneof arms and generated accessors carry none.

use std::fmt;

// Generated while building, or as they are kept: build.rs.
#[cfg(feature = "suite")]
include!(concat!(env!("OUT_DIR"), "/chat.v1.rs"));
#[cfg(not(feature = "suite"))]
include!("../proto/gen/chat.v1.rs");

/// So that no log, no panic and no failed test shows a password (CHAT-ADM-5,
/// CHAT-ADM-8).
impl fmt::Debug for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let capabilities: Vec<Capability> = self.capabilities().collect();
        let mut shown = f.debug_struct("Register");
        shown.field("name", &self.name);
        shown.field("capabilities", &capabilities);
        if !self.password.is_empty() {
            shown.field("password", &"(not shown)");
        }
        shown.finish()
    }
}

/// The schema itself: the text of `proto/chat.proto`, rules and all.
pub const SCHEMA: &str = include_str!("../proto/chat.proto");

/// The schema as a `FileDescriptorSet` in protobuf's binary encoding, comments
/// included, for programs that look messages up at run time.
#[cfg(feature = "suite")]
pub const DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/chat.v1.descriptors.bin"));
