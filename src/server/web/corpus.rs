//! Regression corpus: the fuzz targets of WebSocket and of requests, replayed over the
//! inputs that are kept; and over mutations of these, where no fuzzer can be had.

use std::{
    fs,
    panic::catch_unwind,
    path::Path,
    time::{Duration, Instant},
};

use fastrand::Rng;

use super::{codec, http};

#[path = "../../../fuzz/bodies/http.rs"]
mod http_body;
#[path = "../../../fuzz/bodies/websocket.rs"]
mod websocket_body;

/// How long inputs are mutated, in seconds.
const MUTATING_S: u64 = 120;

/// How many changes an input takes at most.
const CHANGES_MAX: usize = 6;

/// Bytes at the edges of lengths, opcodes and flags.
const EDGES: [u8; 12] = [0, 1, 2, 8, 9, 10, 0x7d, 0x7e, 0x7f, 0x80, 0x82, 0xff];

/// The inputs of a target, and their names.
fn inputs(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let entries = fs::read_dir(folder.join(target)).expect("a corpus");
    let read = entries.map(|entry| {
        let path = entry.expect("an entry").path();
        let input = fs::read(&path).expect("an input");
        (path.display().to_string(), input)
    });
    let inputs: Vec<_> = read.collect();
    assert!(inputs.len() > 10, "the corpus of {target} was not found");
    inputs
}

fn replay(target: &str, run: fn(&[u8])) {
    for (path, input) in inputs(target) {
        // Shown only when it fails.
        println!("replaying {path}");
        run(&input);
    }
}

/// One change of an input: of a byte or of a piece, which may come from another input.
fn change(input: &mut Vec<u8>, other: &[u8], rng: &mut Rng) {
    let at = rng.usize(0..=input.len());
    let piece = |bytes: &[u8], rng: &mut Rng| {
        let start = rng.usize(0..=bytes.len());
        let end = rng.usize(start..=bytes.len());
        bytes[start..end].to_vec()
    };
    match (rng.u8(0..7), input.get_mut(at)) {
        (0, Some(byte)) => *byte ^= 1 << rng.u8(0..8),
        (1, Some(byte)) => *byte = EDGES[rng.usize(0..EDGES.len())],
        (2, _) => input.insert(at, rng.u8(..)),
        (3, _) => drop(input.drain(at..rng.usize(at..=input.len()))),
        (4, _) => {
            let own = piece(input, rng);
            input.splice(at..at, own);
        }
        (5, _) => {
            let others = piece(other, rng);
            input.splice(at..at, others);
        }
        _ => input.truncate(at),
    }
}

/// Runs mutations of the inputs. Prints the one that fails.
fn mutate(target: &str, run: fn(&[u8])) {
    let (inputs, mut rng) = (inputs(target), Rng::new());
    let (start, mut runs) = (Instant::now(), 0_u64);
    while start.elapsed() < Duration::from_secs(MUTATING_S) {
        let [(_, input), (_, other)] = [(); 2].map(|()| &inputs[rng.usize(0..inputs.len())]);
        let mut input = input.clone();
        for _ in 0..rng.usize(1..=CHANGES_MAX) {
            change(&mut input, other, &mut rng);
        }
        runs += 1;
        assert!(
            catch_unwind(|| run(&input)).is_ok(),
            "an input of {target} fails: {}",
            input.escape_ascii()
        );
    }
    println!("{runs} mutations of {target}");
}

#[test]
fn websocket() {
    replay("websocket", websocket_body::run);
}

#[test]
fn requests() {
    replay("http", http_body::run);
}

#[test]
#[ignore = "two minutes of mutated inputs: see CONTRIBUTING.md"]
fn mutations_of_websocket() {
    mutate("websocket", websocket_body::run);
}

#[test]
#[ignore = "two minutes of mutated inputs: see CONTRIBUTING.md"]
fn mutations_of_requests() {
    mutate("http", http_body::run);
}
