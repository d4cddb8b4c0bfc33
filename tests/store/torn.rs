//! A write-ahead log that ends anywhere, as a power cut leaves it: the commits before
//! the end are there, whole, and the others are not.

use std::{fs, path::Path};

use chat::store::StoreReader;

use crate::support::*;

/// A database with a log of some commits, and how long the log was after each.
struct Log {
    database: Vec<u8>,
    wal: Vec<u8>,
    /// The length, and the number of the last chat.
    commits: Vec<(usize, u64)>,
}

fn write_log() -> Log {
    let folder = folder();
    let options = options(folder.path());
    let (mut store, _) = open(&options);
    commit_chats(&mut store, 1, 100);
    store.close(NOW).expect("it closes");
    let (mut store, _) = open(&options);
    let wal = folder.path().join("room.sqlite-wal");
    let length = || fs::metadata(&wal).expect("a log").len() as usize;
    let mut commits = vec![(length(), 100)];
    for seq in 101..=104 {
        commit(&mut store, &[accepted(seq)]);
        commits.push((length(), seq));
    }
    let log = Log {
        database: fs::read(database(folder.path())).expect("a database"),
        wal: fs::read(&wal).expect("a log"),
        commits,
    };
    drop(store);
    log
}

/// Opens the database with its log cut off, and `tail` behind the cut.
#[track_caller]
fn open_cut(dir: &Path, log: &Log, cut: usize, tail: &[u8]) {
    fs::write(database(dir), &log.database).expect("ours");
    let wal = [&log.wal[..cut], tail].concat();
    fs::write(dir.join("room.sqlite-wal"), wal).expect("ours");
    let _ = fs::remove_file(dir.join("room.sqlite-shm"));
    let survived = log.commits.iter().rev().find(|(length, _)| *length <= cut);
    let expected = survived.map_or(100, |&(_, seq)| seq);
    let reader = StoreReader::open(dir).expect("it can be read");
    assert_eq!(
        all(&reader).to,
        expected,
        "cut at {cut}, {} bytes behind it",
        tail.len()
    );
    drop(reader);
    let (mut store, kept) = open(&options(dir));
    assert_eq!(
        (kept.last_seq, kept.new_epoch),
        (expected, None),
        "cut at {cut}"
    );
    commit(&mut store, &[accepted(expected + 1)]);
    let page = all(&store.reader().expect("a reader"));
    let chats: Vec<_> = (1..=expected + 1).map(chat).collect();
    assert_eq!(page.chats, chats, "cut at {cut}");
}

fn cut_everywhere(step: usize) {
    let log = write_log();
    let (begin, end) = (log.commits[1].0, log.wal.len());
    assert_eq!(end, log.commits[4].0, "the log ends with the last commit");
    let folder = folder();
    let garbage: Vec<u8> = (0..9_000_u32).map(|n| (n * n % 251) as u8).collect();
    let mut cuts = 0;
    for cut in (begin..=end)
        .step_by(step)
        .chain(log.commits.iter().flat_map(|&(length, _)| {
            // The borders of the commits, and of the headers behind them.
            [length - 1, length, length + 1, length + 24, length + 25]
        }))
    {
        let cut = cut.min(end);
        open_cut(folder.path(), &log, cut, &[]);
        // Blocks that were not written hold what was there before: nothing, or anything.
        open_cut(folder.path(), &log, cut, &garbage);
        cuts += 1;
    }
    println!("{cuts} cuts in {} bytes", end - begin);
}

#[test]
fn a_log_that_is_cut_off_keeps_the_commits_before_the_cut() {
    cut_everywhere(997);
}

#[test]
#[ignore = "takes minutes"]
fn a_log_that_is_cut_off_at_any_byte_keeps_the_commits_before_the_cut() {
    cut_everywhere(1);
}
