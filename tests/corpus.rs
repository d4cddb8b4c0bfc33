//! What the fuzzers found stays found: their bodies (`fuzz/bodies`) are replayed
//! over the inputs that are kept (`fuzz/corpus`). The fourth, the reader of
//! transcripts, is replayed by the tests of `chat-conformance`, where it lives.

use std::{fs, path::Path};

#[path = "../fuzz/bodies/framing.rs"]
mod framing;
#[path = "../fuzz/bodies/room.rs"]
mod room;
#[path = "../fuzz/bodies/screen.rs"]
mod screen;

fn replay(target: &str, run: fn(&[u8])) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("fuzz/corpus").join(target);
    let mut inputs = 0;
    for entry in fs::read_dir(&folder).expect("a corpus") {
        let path = entry.expect("an entry").path();
        let input = fs::read(&path).expect("an input");
        // Shown only when it fails.
        println!("replaying {}", path.display());
        run(&input);
        inputs += 1;
    }
    assert!(inputs > 10, "the corpus of {target} was not found");
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
