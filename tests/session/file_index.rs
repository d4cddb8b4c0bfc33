//! File index: what the disk must remove of uploads.

use chat::{
    limits::Limits,
    session::{FileIndex, FileOwner, Hash, Removal, Written, WrittenPiece},
    wire::ErrorCode,
};

const HASH: Hash = [7; 32];
const ORPHAN_MS: i64 = 8_000;

fn limits() -> Limits {
    Limits {
        file_orphan_ms: ORPHAN_MS as u32,
        ..Limits::default()
    }
}

fn name(name: &str) -> FileOwner {
    FileOwner::parse(name).expect("a name")
}

/// A piece of Alice's file of 99 bytes that was written.
fn part(offset: u64, bytes: u64) -> WrittenPiece {
    WrittenPiece {
        index: 0,
        serial: 1,
        owner: name("Alice"),
        hash: HASH,
        size: 99,
        offset,
        bytes,
        written: Written::Part,
    }
}

/// What an index answers at the time 0, and what the disk has to remove for it.
fn put(index: &mut FileIndex, by: &str, hash: Hash, size: u64) -> (Result<u64, ErrorCode>, usize) {
    let mut removed = Vec::new();
    let have = index.put(&name(by), hash, size, &limits(), 0, &mut removed);
    (have, removed.len())
}

#[test]
fn an_upload_that_changes_its_size_gives_the_disk_only_what_it_was_sent() {
    let mut index = FileIndex::default();
    for size in 1..100 {
        assert_eq!(put(&mut index, "Alice", HASH, size), (Ok(0), 0));
    }
    assert_eq!(index.data(&name("Alice"), HASH, 0, 50, ORPHAN_MS), Ok(99));
    // The same again: it goes on, once the piece is counted.
    assert_eq!(put(&mut index, "Alice", HASH, 99), (Ok(0), 0));
    let written = index.written(&part(0, 50), &limits(), 0);
    assert_eq!(written, Ok(50));
    assert_eq!(put(&mut index, "Alice", HASH, 99), (Ok(50), 0));
    assert_eq!(put(&mut index, "Alice", HASH, 98), (Ok(0), 1));
    assert_eq!(put(&mut index, "Alice", HASH, 97), (Ok(0), 0));
}

#[test]
fn a_piece_of_an_upload_that_was_replaced_does_not_count() {
    let mut index = FileIndex::default();
    assert_eq!(put(&mut index, "Alice", HASH, 99), (Ok(0), 0));
    assert_eq!(index.data(&name("Alice"), HASH, 0, 50, ORPHAN_MS), Ok(99));
    assert_eq!(put(&mut index, "Alice", HASH, 98), (Ok(0), 1));
    let late = index.written(&part(0, 50), &limits(), 0);
    assert_eq!(late, Err(ErrorCode::FileUnknown));
    assert_eq!(put(&mut index, "Alice", HASH, 98), (Ok(0), 0));
}

#[test]
fn an_upload_that_does_not_go_on_is_removed_but_not_while_a_piece_is_written() {
    let mut index = FileIndex::default();
    index.restore_partial(name("Alice"), HASH, 99, 50, 1_000);
    assert_eq!(index.data(&name("Alice"), HASH, 50, 10, 2_000), Ok(99));
    assert!(index.expire(1, &limits(), 2_000).is_empty());
    let written = index.written(&part(50, 10), &limits(), 2_000);
    assert_eq!(written, Ok(60));
    let removed = index.expire(1, &limits(), 2_000 + ORPHAN_MS);
    let partial = Removal::Partial {
        owner: name("Alice"),
        hash: HASH,
        size: 99,
    };
    assert!(removed.contains(&partial), "{removed:?}");
}

#[test]
fn pieces_are_taken_while_others_are_written_and_counted_in_their_order() {
    let mut index = FileIndex::default();
    let alice = name("Alice");
    assert_eq!(put(&mut index, "Alice", HASH, 99), (Ok(0), 0));
    assert_eq!(index.data(&alice, HASH, 0, 50, ORPHAN_MS), Ok(99));
    assert_eq!(index.data(&alice, HASH, 50, 10, ORPHAN_MS), Ok(99));
    let mismatch = Err(ErrorCode::FileMismatch);
    for (offset, bytes) in [(0, 1), (50, 1), (59, 1), (61, 1), (60, 0), (60, 40)] {
        assert!(!index.is_next(&alice, HASH, offset, bytes));
        assert_eq!(index.data(&alice, HASH, offset, bytes, ORPHAN_MS), mismatch);
    }
    // What is not written does not count.
    assert_eq!(put(&mut index, "Alice", HASH, 99), (Ok(0), 0));
    assert_eq!(index.written(&part(0, 50), &limits(), 0), Ok(50));
    assert!(index.expire(1, &limits(), 10 * ORPHAN_MS).is_empty());
    let failed = WrittenPiece {
        written: Written::Failed,
        ..part(50, 10)
    };
    assert_eq!(index.data(&alice, HASH, 60, 39, ORPHAN_MS), Ok(99));
    let full = Err(ErrorCode::FilesFull);
    assert_eq!(index.written(&failed, &limits(), 0), full);
    // Behind it there is no upload, until there is another one.
    let unknown = Err(ErrorCode::FileUnknown);
    assert_eq!(index.written(&part(60, 39), &limits(), 0), unknown);
    assert_eq!(put(&mut index, "Alice", HASH, 99), (Ok(0), 0));
    assert_eq!(index.data(&alice, HASH, 0, 50, ORPHAN_MS), Ok(99));
    assert_eq!(index.written(&part(60, 39), &limits(), 0), unknown);
    assert_eq!(index.written(&part(0, 50), &limits(), 0), Ok(50));
}
