//! Regression corpus: the fuzz targets of WebSocket and of requests, replayed over the
//! inputs that are kept.

use std::{fs, path::Path};

use super::{codec, http};

#[path = "../../../fuzz/bodies/http.rs"]
mod http_body;
#[path = "../../../fuzz/bodies/websocket.rs"]
mod websocket_body;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let mut inputs = 0;
    for entry in fs::read_dir(folder.join(target)).expect("a corpus") {
        let path = entry.expect("an entry").path();
        // Shown only when it fails.
        println!("replaying {}", path.display());
        run(&fs::read(&path).expect("an input"));
        inputs += 1;
    }
    assert!(inputs > 10, "the corpus of {target} was not found");
}

#[test]
fn websocket() {
    replay("websocket", websocket_body::run);
}

#[test]
fn requests() {
    replay("http", http_body::run);
}
