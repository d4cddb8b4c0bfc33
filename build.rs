//! Generates the Rust types of `proto/chat.proto`, and the descriptor set that
//! the library embeds, without a protoc on the machine.

use std::{
    env,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use prost::Message;

const SCHEMA: &str = "proto/chat.proto";

/// The cases of the conformance suite, which its runner carries inside.
const TRANSCRIPTS: &str = "conformance/transcripts";

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
        // It holds a password, which src/wire.rs keeps from being shown.
        .skip_debug(["chat.v1.Register"])
        .compile_fds(descriptors)?;

    println!("cargo:rerun-if-changed={TRANSCRIPTS}");
    embed_transcripts(&out_dir)
}

/// Writes a table of (path below the folder, text) of all transcripts, so that
/// the runner is one file that works anywhere.
fn embed_transcripts(out_dir: &Path) -> Result<()> {
    let mut paths = Vec::new();
    let mut folders = vec![PathBuf::from(TRANSCRIPTS)];
    while let Some(folder) = folders.pop() {
        let entries =
            fs::read_dir(&folder).with_context(|| format!("reading {}", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() {
                folders.push(path);
            } else if matches!(
                path.extension().and_then(|e| e.to_str()),
                Some("chat" | "txt")
            ) {
                paths.push(path);
            }
        }
    }
    paths.sort();
    let mut table = String::from("&[\n");
    for path in paths {
        let name = path.strip_prefix(TRANSCRIPTS)?.to_string_lossy();
        let file = path.to_string_lossy();
        writeln!(
            table,
            "({name:?}, include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \"/\", {file:?}))),"
        )?;
    }
    table.push_str("]\n");
    fs::write(out_dir.join("transcripts.rs"), table)?;
    Ok(())
}
