//! Speeds, which the long tests print: run them in release (CONTRIBUTING.md).

use std::time::Instant;

use chat::store::{Change, Options, Store, SyncMode};

use crate::support::*;

/// Commits of so many chats, as in a full burst.
const COMMIT_CHATS: u64 = 600;

/// Texts of 64 bytes from 100 lines, each with an id.
fn burst(first_seq: u64) -> Vec<Change> {
    (first_seq..first_seq + COMMIT_CHATS)
        .map(|seq| {
            let mut chat = chat(seq);
            chat.text = format!("{seq:064}");
            let sent_by = Some((seq % 100, seq));
            Change::Chat { chat, sent_by }
        })
        .collect()
}

fn begin(options: &Options) -> Store {
    let (mut store, _) = open(options);
    let lines: Vec<_> = (0..100).map(|id| Change::Line(line(id))).collect();
    commit(&mut store, &lines);
    store
}

#[test]
#[ignore = "measures, in release"]
fn commits() {
    for sync in [SyncMode::Always, SyncMode::Interval, SyncMode::Off] {
        for prunes in [false, true] {
            let folder = folder();
            let mut options = options(folder.path());
            options.sync = sync;
            options.sent_ids_max = 256;
            options.keep.messages = prunes.then_some(100_000);
            let mut store = begin(&options);
            let batches: Vec<_> = (0..2_000).map(|n| burst(n * COMMIT_CHATS + 1)).collect();
            let mut took = Vec::new();
            let mut wal_bytes = 0;
            let start = Instant::now();
            for (index, batch) in batches.iter().enumerate() {
                let start = Instant::now();
                let committed = store.commit_and_prune(batch, NOW);
                committed.expect("it commits");
                took.push(start.elapsed());
                if index % 100 == 0 {
                    let wal = folder.path().join("room.sqlite-wal");
                    wal_bytes = wal_bytes.max(std::fs::metadata(wal).expect("a log").len());
                }
            }
            let rate = 2_000.0 * COMMIT_CHATS as f64 / start.elapsed().as_secs_f64();
            // The bound of 16,000 pages, and the commit that reaches it.
            assert!(wal_bytes < 70 << 20, "the log has {wal_bytes} bytes");
            took.sort();
            let start = Instant::now();
            store.close(NOW).expect("it closes");
            println!(
                "{sync:?}, pruning {prunes}: {rate:.0} chats/s; a commit p50 {:?}, p99 {:?}, \
                 longest {:?}; log up to {} MB; closing {:?}",
                took[1_000],
                took[1_980],
                took[1_999],
                wal_bytes >> 20,
                start.elapsed()
            );
        }
    }
}

#[test]
#[ignore = "writes ten million rows, in release"]
fn ten_million_chats_open_within_a_second() {
    let folder = folder();
    let mut options = options(folder.path());
    options.sync = SyncMode::Off;
    let mut store = begin(&options);
    for n in 0..10_000_000_u64.div_ceil(COMMIT_CHATS) {
        commit(&mut store, &burst(n * COMMIT_CHATS + 1));
    }
    drop(store);
    for end in ["killed", "killed again", "closed"] {
        let start = Instant::now();
        let (store, kept) = open(&options);
        let took = start.elapsed();
        assert!(kept.last_seq >= 10_000_000 && kept.oldest_seq == 1);
        println!("{} chats, {end}: opened in {took:?}", kept.last_seq);
        assert!(took.as_millis() < 1_000);
        if end == "killed again" {
            store.close(NOW).expect("it closes");
        }
    }
}
