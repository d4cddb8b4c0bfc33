//! With the conformance suite: generates the Rust types of `proto/chat.proto` and the
//! descriptor set that the suite looks messages up in, without a protoc on the
//! machine, and embeds the cases. Everybody else builds the types as they are kept in
//! `proto/gen`; `tests/generated.rs` keeps the two equal.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "suite")]
    suite::generate()?;
    Ok(())
}

#[cfg(feature = "suite")]
mod suite {
    use std::{
        env,
        error::Error,
        fmt::Write,
        fs,
        path::{Path, PathBuf},
    };

    const SCHEMA: &str = "proto/chat.proto";

    /// The cases of the conformance suite, which its runner carries inside.
    const TRANSCRIPTS: &str = "conformance/transcripts";

    pub fn generate() -> Result<(), Box<dyn Error>> {
        println!("cargo:rerun-if-changed={SCHEMA}");
        let out_dir = PathBuf::from(env::var("OUT_DIR")?);

        let mut compiler = protox::Compiler::new(["proto"])?;
        // Source info carries the comments: they become the documentation of the types.
        compiler.include_source_info(true).open_file("chat.proto")?;
        fs::write(
            out_dir.join("chat.v1.descriptors.bin"),
            compiler.encode_file_descriptor_set(),
        )?;

        prost_build::Config::new()
            .out_dir(&out_dir)
            // It holds a password, which src/wire.rs keeps from being shown.
            .skip_debug(["chat.v1.Register"])
            .compile_fds(compiler.file_descriptor_set())?;

        println!("cargo:rerun-if-changed={TRANSCRIPTS}");
        embed_transcripts(&out_dir)
    }

    /// Writes a table of (path below the folder, text) of all transcripts, so that
    /// the runner is one file that works anywhere.
    fn embed_transcripts(out_dir: &Path) -> Result<(), Box<dyn Error>> {
        let mut paths = Vec::new();
        let mut folders = vec![PathBuf::from(TRANSCRIPTS)];
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder)
                .map_err(|error| format!("reading {}: {error}", folder.display()))?;
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
}
