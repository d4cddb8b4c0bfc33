//! File index: what the disk must remove of uploads.

use chat::{
    limits::Limits,
    session::{FileIndex, FileOwner, Hash, Removal, Written},
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
    let part = Written::Part;
    let written = index.written(&name("Alice"), HASH, 99, 50, part, &limits(), 0);
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
    let part = Written::Part;
    let late = index.written(&name("Alice"), HASH, 99, 50, part, &limits(), 0);
    assert_eq!(late, Err(ErrorCode::FileUnknown));
    assert_eq!(put(&mut index, "Alice", HASH, 98), (Ok(0), 0));
}

#[test]
fn an_upload_that_does_not_go_on_is_removed_but_not_while_a_piece_is_written() {
    let mut index = FileIndex::default();
    index.restore_partial(name("Alice"), HASH, 99, 50, 1_000);
    assert_eq!(index.data(&name("Alice"), HASH, 50, 10, 2_000), Ok(99));
    assert!(index.expire(1, &limits(), 2_000).is_empty());
    let part = Written::Part;
    let written = index.written(&name("Alice"), HASH, 99, 10, part, &limits(), 2_000);
    assert_eq!(written, Ok(60));
    let removed = index.expire(1, &limits(), 2_000 + ORPHAN_MS);
    let partial = Removal::Partial {
        owner: name("Alice"),
        hash: HASH,
        size: 99,
    };
    assert!(removed.contains(&partial), "{removed:?}");
}
