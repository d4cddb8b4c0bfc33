//! Micro-benchmarks of the hot paths: framing, appending to the log, following it.

use chat::{
    frame::{self, Split},
    log::{Audience, Log, Reader},
    wire::{self, ServerEnvelope, server_envelope::Message},
};
use divan::{Bencher, black_box, counter::ItemsCount};

/// How many frames one iteration handles.
const FRAMES: usize = 1_000;

/// The length of each text, in bytes.
const TEXT_BYTES: usize = 64;

/// How many bytes one write takes.
const WRITE_BYTES: usize = 64 * 1024;

fn main() {
    divan::main();
}

fn chat(seq: u64) -> ServerEnvelope {
    ServerEnvelope {
        message: Some(Message::Chat(wire::Chat {
            text: "x".repeat(TEXT_BYTES),
            sender: "somebody".to_owned(),
            seq,
            time_unix_ms: 1_700_000_000_000,
            id: 0,
            ..wire::Chat::default()
        })),
    }
}

fn joined() -> ServerEnvelope {
    ServerEnvelope {
        message: Some(Message::Joined(wire::Joined {
            name: "somebody".to_owned(),
        })),
    }
}

#[divan::bench]
fn split_frames(bencher: Bencher) {
    let mut bytes = Vec::new();
    for seq in 0..FRAMES {
        frame::encode(&chat(seq as u64), &mut bytes);
    }
    bencher.counter(ItemsCount::new(FRAMES)).bench(|| {
        let mut rest = black_box(&bytes[..]);
        let mut count = 0;
        while let Ok(Split::Frame { rest: after, .. }) = frame::split(rest, u32::MAX) {
            rest = after;
            count += 1;
        }
        assert_eq!(count, FRAMES);
    });
}

#[divan::bench]
fn encode_frames(bencher: Bencher) {
    let envelope = chat(1);
    let mut bytes = Vec::with_capacity(FRAMES * 2 * TEXT_BYTES);
    bencher.counter(ItemsCount::new(FRAMES)).bench_local(|| {
        bytes.clear();
        for _ in 0..FRAMES {
            frame::encode(black_box(&envelope), &mut bytes);
        }
    });
}

#[divan::bench]
fn append_to_log(bencher: Bencher) {
    let envelope = chat(1);
    let mut log = Log::new(1, 0);
    bencher.counter(ItemsCount::new(FRAMES)).bench_local(|| {
        for _ in 0..FRAMES {
            log.append(Audience::Everyone, black_box(&envelope));
        }
        log.commit();
    });
}

/// Follows a log with this many presence frames among a thousand messages, for a reader
/// without presence.
#[divan::bench(args = [0, 10, 100])]
fn follow_log(bencher: Bencher, presence_frames: usize) {
    bencher
        .counter(ItemsCount::new(FRAMES))
        .with_inputs(|| {
            let mut log = Log::new(1, 0);
            let reader = log.reader(false);
            for seq in 0..FRAMES {
                log.append(Audience::Everyone, &chat(seq as u64));
                if seq * presence_frames % FRAMES < presence_frames {
                    log.append(Audience::Presence, &joined());
                }
            }
            log.commit();
            (log, reader)
        })
        .bench_values(|(log, reader)| follow(log, reader));
}

/// The same for a sender that skips every tenth message, its own.
#[divan::bench]
fn follow_log_without_own(bencher: Bencher) {
    bencher
        .counter(ItemsCount::new(FRAMES))
        .with_inputs(|| {
            let mut log = Log::new(1, 0);
            let mut reader = log.reader(false);
            for seq in 0..FRAMES {
                let range = log.append(Audience::Everyone, &chat(seq as u64));
                if seq % 10 == 0 {
                    reader.skip(range);
                }
            }
            (log, reader)
        })
        .bench_values(|(log, reader)| follow(log, reader));
}

/// Advances through the log as a socket would.
fn follow(log: Log, mut reader: Reader) -> (Log, Reader) {
    while reader.position() < log.end() {
        let bytes = reader.unsent().bytes.len().min(WRITE_BYTES);
        reader.advance(black_box(bytes));
    }
    (log, reader)
}
