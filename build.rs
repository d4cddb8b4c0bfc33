//! Generates the Rust types of `proto/chat.proto`, and the descriptor set that
//! the library embeds, without a protoc on the machine.

use std::{env, fs, path::PathBuf};

use anyhow::{Context, Result};
use prost::Message;

const SCHEMA: &str = "proto/chat.proto";

fn main() -> Result<()> {
    println!("cargo:rerun-if-changed={SCHEMA}");
    let out_dir = PathBuf::from(env::var("OUT_DIR").context("cargo sets OUT_DIR")?);

    // Source info carries the comments: they become the documentation of the types.
    let descriptors = protox::Compiler::new(["proto"])?
        .include_source_info(true)
        .open_file("chat.proto")?
        .file_descriptor_set();
    fs::write(
        out_dir.join("chat.v1.descriptors.bin"),
        descriptors.encode_to_vec(),
    )?;

    prost_build::Config::new()
        .out_dir(&out_dir)
        .compile_fds(descriptors)?;
    Ok(())
}
