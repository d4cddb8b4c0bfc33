//! Regression corpus: the fuzz target of the transcript parser, replayed over the
//! inputs that are kept.

use std::{fs, path::Path};

#[path = "../../fuzz/bodies/transcript.rs"]
mod transcript;

#[test]
fn transcript() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/transcript");
    let mut inputs = 0;
    for entry in fs::read_dir(folder).expect("a corpus") {
        let path = entry.expect("an entry").path();
        // Shown only when it fails.
        println!("replaying {}", path.display());
        transcript::run(&fs::read(&path).expect("an input"));
        inputs += 1;
    }
    assert!(inputs > 10, "the corpus was not found");
}
