//! Tests of the index of files.

use super::*;

const HASH: Hash = [7; 32];

fn name(text: &str) -> FileOwner {
    FileOwner::parse(text).expect("a name")
}

/// A file of one piece, which was written.
fn whole(owner: &FileOwner, hash: Hash, size: u64) -> WrittenPiece {
    WrittenPiece {
        index: 0,
        serial: 1,
        owner: owner.clone(),
        hash,
        size,
        offset: 0,
        bytes: size,
        written: Written::Whole,
    }
}

/// A file of Alice's that was whole at 0.
fn uploaded(limits: &Limits) -> FileIndex {
    let mut index = FileIndex::default();
    let alice = name("Alice");
    let mut removed = Vec::new();
    let begun = index.put(&alice, HASH, 10, limits, 0, &mut removed);
    assert_eq!((begun, removed), (Ok(0), Vec::new()));
    assert_eq!(index.data(&alice, HASH, 0, 10, 0), Ok(10));
    let whole = index.written(&whole(&alice, HASH, 10), limits, 0);
    assert_eq!(whole, Ok(10));
    index
}

/// When the file goes, if it is looked at as often as the hub does; chats from
/// `oldest_seq` on are kept.
fn gone_at(index: &mut FileIndex, from_ms: i64, oldest_seq: u64, limits: &Limits) -> i64 {
    let step_ms = i64::from(limits.file_orphan_ms) / 100;
    let mut times = (0..1_000).map(|step| from_ms + step * step_ms);
    let is_gone = |it: &i64| !index.expire(oldest_seq, limits, *it).is_empty();
    times.find(is_gone).expect("it goes")
}

#[test]
fn a_file_that_only_removed_chats_name_goes() {
    let limits = Limits::default();
    let orphan_ms = i64::from(limits.file_orphan_ms);
    let mut index = uploaded(&limits);
    for seq in [3, 5] {
        index.named_by_chat(&HASH, seq, &limits, 1);
    }
    let later = 10 * orphan_ms;
    for ms in (0..=later).step_by(1_000) {
        assert_eq!(index.expire(1, &limits, ms), [], "it is named");
    }
    let bob = name("Bob");
    index.chat_removed(5);
    assert_eq!(index.size_for(&bob, &HASH, 2), Some(10), "3 names it");
    assert_eq!(index.expire(1, &limits, later), []);
    index.chat_removed(3);
    assert_eq!(index.size_for(&bob, &HASH, 0), None, "CHAT-FILE-4");
    // CHAT-FILE-17
    let gone = gone_at(&mut index, later, 1, &limits) - later;
    assert!(gone > orphan_ms / 2 && gone <= orphan_ms, "{gone}");
    assert!(!index.has(&HASH) && index.used_bytes == 0);
}

/// CHAT-FILE-17, also where it was named and not any more before it was first looked at.
#[test]
fn a_file_that_nothing_names_goes_in_time() {
    let limits = Limits::default();
    let orphan_ms = i64::from(limits.file_orphan_ms);
    let mut index = uploaded(&limits);
    assert_eq!(gone_at(&mut index, 0, 1, &limits), orphan_ms);
    let mut index = uploaded(&limits);
    index.named_by_chat(&HASH, 1, &limits, 10_000);
    assert_eq!(gone_at(&mut index, 20_000, 2, &limits), 20_000 + orphan_ms);
}

fn numbered(number: usize) -> FileOwner {
    name(&format!("name{number}"))
}

fn hash(number: usize) -> Hash {
    let mut hash = Hash::default();
    for (to, from) in hash.iter_mut().zip(number.to_le_bytes()) {
        *to = from;
    }
    hash
}

/// Uploads a file of one byte, if there is space.
fn upload(index: &mut FileIndex, owner: &FileOwner, hash: Hash, limits: &Limits) -> bool {
    let begun = index.put(owner, hash, 1, limits, 0, &mut Vec::new());
    if begun.is_err() {
        return false;
    }
    index.data(owner, hash, 0, 1, 0).expect("it is next");
    let written = index.written(&whole(owner, hash, 1), limits, 0);
    written.is_ok()
}

/// However small they are, and though all names upload one and the same.
#[test]
fn files_and_their_owners_are_bounded() {
    let limits = Limits {
        files_bytes_max: 100 * FILE_BYTES_MIN,
        member_files_bytes_max: 100 * FILE_BYTES_MIN,
        ..Limits::default()
    };
    let mut files = FileIndex::default();
    let alice = name("Alice");
    let several = (0..1_000).filter(|&it| upload(&mut files, &alice, hash(it), &limits));
    assert_eq!(several.count(), 100);
    let mut files = FileIndex::default();
    let same = (0..1_000).filter(|&it| upload(&mut files, &numbered(it), HASH, &limits));
    assert_eq!(same.count(), 100);
    // All of it is given back.
    let orphan_ms = i64::from(limits.file_orphan_ms);
    assert_eq!(files.expire(1, &limits, orphan_ms * 2).len(), 1);
    assert_eq!((files.used_bytes, files.used_by.len()), (0, 0));
}

#[test]
fn recipients_of_files_are_bounded() {
    let limits = Limits::default();
    let mut files = FileIndex::default();
    let alice = name("Alice");
    let count = FILE_RECIPIENTS_MAX / RECIPIENTS_MAX + 2;
    for file in 0..count {
        assert!(upload(&mut files, &alice, hash(file), &limits));
        for recipient in 1..=RECIPIENTS_MAX {
            files.named_by_direct(&hash(file), &numbered(recipient), 0);
        }
    }
    let held = |file: usize| {
        &files
            .whole
            .get(&hash(file))
            .expect("it is there")
            .recipients
    };
    assert_eq!(held(0).len(), RECIPIENTS_MAX);
    // The newest one has the file all the same.
    assert_eq!(*held(count - 1), [numbered(RECIPIENTS_MAX)]);
    let all: usize = files.whole.values().map(|it| it.recipients.len()).sum();
    assert_eq!(all, files.recipients);
    assert!(all <= FILE_RECIPIENTS_MAX + count);
    let orphan_ms = i64::from(limits.file_orphan_ms);
    for _ in 0..count.div_ceil(EXPIRED_PER_CALL_MAX) {
        files.expire(1, &limits, orphan_ms * 2);
    }
    assert_eq!(files.recipients, 0);
}
