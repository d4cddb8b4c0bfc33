//! The types that `proto/chat.proto` defines, generated at build time. Nothing
//! here is written by hand: what the messages mean, and every rule about them,
//! stands in the schema.

#![allow(missing_docs)] // Oneof arms and generated accessors carry none.

include!(concat!(env!("OUT_DIR"), "/chat.v1.rs"));

/// The schema itself: the text of `proto/chat.proto`, rules and all.
pub const SCHEMA: &str = include_str!("../proto/chat.proto");

/// The schema as a `FileDescriptorSet` in protobuf's binary encoding, comments
/// included, for programs that look messages up at run time.
pub const DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/chat.v1.descriptors.bin"));
