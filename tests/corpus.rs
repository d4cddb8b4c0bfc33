//! What the fuzzers found stays found: their bodies (`fuzz/bodies`) are replayed
//! over the inputs that are kept (`fuzz/corpus`). The fourth, the reader of
//! transcripts, is replayed by the tests of `chat-conformance`, where it lives, and those of
//! the web listener by its own.

use std::{
    fs,
    path::{Path, PathBuf},
};

#[path = "../fuzz/bodies/framing.rs"]
mod framing;
#[path = "../fuzz/bodies/room.rs"]
mod room;
#[path = "../fuzz/bodies/screen.rs"]
mod screen;

/// How many inputs are kept for a target: each guards something of its own.
const INPUTS_MAX: usize = 50;

/// The inputs of a target.
fn inputs(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let entries = fs::read_dir(folder.join(target)).expect("a corpus");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let inputs: Vec<PathBuf> = paths.collect();
    assert!(inputs.len() > 10, "the corpus of {target} was not found");
    inputs
}

fn replay(target: &str, run: fn(&[u8])) {
    for path in inputs(target) {
        let input = fs::read(&path).expect("an input");
        // Shown only when it fails.
        println!("replaying {}", path.display());
        run(&input);
    }
}

/// A fuzzer names its findings by their digests; `just fuzz` has it put them
/// elsewhere.
#[test]
fn inputs_are_few_and_say_what_they_guard() {
    for target in [
        "framing",
        "http",
        "room",
        "screen",
        "transcript",
        "websocket",
    ] {
        let inputs = inputs(target);
        assert!(inputs.len() <= INPUTS_MAX, "{target}: {}", inputs.len());
        for path in inputs {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_plain = |c: char| c == '-' || c.is_ascii_lowercase() || c.is_ascii_digit();
            let is_digest = name.len() == 40 && name.chars().all(|c| c.is_ascii_hexdigit());
            assert!(
                name.chars().all(is_plain) && !is_digest,
                "{target}/{name} does not say what it guards: rename it, or remove it"
            );
        }
    }
}

#[test]
fn framing() {
    replay("framing", framing::run);
}

#[test]
fn room() {
    replay("room", room::run);
}

#[test]
fn screen() {
    replay("screen", screen::run);
}
