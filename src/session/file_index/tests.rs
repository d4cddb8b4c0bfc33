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
        index.named_by_chat((&HASH, 10), seq, &limits, 1);
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
    index.named_by_chat((&HASH, 10), 1, &limits, 10_000);
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
            files.named_by_direct((&hash(file), 1), &numbered(recipient), 0);
        }
    }
    let held = |file: usize| {
        &files
            .whole
            .get(&hash(file))
            .expect("it is there")
            .access
            .recipients
    };
    assert_eq!(held(0).len(), RECIPIENTS_MAX);
    // The newest one has the file all the same.
    assert_eq!(*held(count - 1), [numbered(RECIPIENTS_MAX)]);
    let all: usize = files
        .whole
        .values()
        .map(|it| it.access.recipients.len())
        .sum();
    assert_eq!(all, files.recipients);
    assert!(all <= FILE_RECIPIENTS_MAX + count);
    let orphan_ms = i64::from(limits.file_orphan_ms);
    for _ in 0..count.div_ceil(EXPIRED_PER_CALL_MAX) {
        files.expire(1, &limits, orphan_ms * 2);
    }
    assert_eq!(files.recipients, 0);
}

/// The files that other nodes have, of a node whose bound is this.
fn node(files_max: u64) -> (FileIndex, Limits) {
    let limits = Limits {
        files_bytes_max: files_max * FILE_BYTES_MIN,
        member_files_bytes_max: files_max * FILE_BYTES_MIN,
        ..Limits::default()
    };
    (FileIndex::of_node(&limits), limits)
}

#[test]
fn a_server_alone_knows_no_file_that_it_has_not() {
    let (_, limits) = node(10);
    let mut files = FileIndex::default();
    files.named_by_chat((&HASH, 10), 3, &limits, 0);
    files.named_by_direct((&HASH, 10), &name("Bob"), i64::MAX);
    assert_eq!(files.size_for(&name("Bob"), &HASH, 0), None);
}

#[test]
fn a_node_knows_the_files_of_others_while_something_kept_names_them() {
    let (mut files, limits) = node(10);
    let (bob, carol) = (name("Bob"), name("Carol"));
    files.named_by_chat((&HASH, 10), 3, &limits, 0);
    assert_eq!(files.size_for(&bob, &HASH, 2), Some(10));
    assert_eq!(files.size_for(&bob, &HASH, 3), None, "it has not that chat");
    assert!(!files.has(&HASH) && files.used_bytes == 0);
    files.expire(3, &limits, 0);
    assert_eq!(files.size_for(&bob, &HASH, 0), Some(10));
    files.expire(4, &limits, 0);
    assert_eq!(files.size_for(&bob, &HASH, 0), None, "CHAT-FILE-17");
    files.named_by_direct((&HASH, 10), &bob, 1_000);
    files.expire(4, &limits, 999);
    assert_eq!(files.size_for(&bob, &HASH, 9), Some(10));
    assert_eq!(files.size_for(&carol, &HASH, 0), None);
    files.expire(4, &limits, 1_000);
    assert_eq!(files.size_for(&bob, &HASH, 9), None);
    assert_eq!(files.recipients, 0);
    // CHAT-MOD-8
    files.named_by_chat((&HASH, 10), 5, &limits, 0);
    files.chat_removed(5);
    assert_eq!(files.size_for(&bob, &HASH, 0), None);
}

#[test]
fn what_named_a_file_of_another_node_counts_once_it_comes_here() {
    let (mut files, limits) = node(10);
    let (alice, bob, carol) = (name("Alice"), name("Bob"), name("Carol"));
    files.named_by_chat((&HASH, 1), 3, &limits, 0);
    files.named_by_direct((&HASH, 1), &bob, 0);
    assert!(upload(&mut files, &alice, HASH, &limits));
    assert!(files.has(&HASH));
    assert_eq!(files.size_for(&bob, &HASH, 9), Some(1));
    assert_eq!(files.size_for(&carol, &HASH, 2), Some(1));
    assert_eq!(files.size_for(&carol, &HASH, 3), None);
    assert_eq!(files.recipients, 1);
    assert!(files.known_elsewhere(&HASH).is_none());
    let orphan_ms = i64::from(limits.file_orphan_ms);
    assert_eq!(files.expire(1, &limits, orphan_ms * 9), [], "3 is kept");
    assert_eq!(files.expire(4, &limits, orphan_ms * 20).len(), 1);
    assert_eq!(files.recipients, 0);
}

#[test]
fn another_epoch_has_no_chat_that_names_a_file() {
    let (mut files, limits) = node(10);
    let (alice, bob) = (name("Alice"), name("Bob"));
    assert!(upload(&mut files, &alice, HASH, &limits));
    files.named_by_chat((&HASH, 1), 3, &limits, 0);
    files.named_by_chat((&hash(1), 1), 3, &limits, 0);
    files.begin_epoch();
    assert_eq!(files.size_for(&bob, &HASH, 0), None);
    assert_eq!(files.size_for(&bob, &hash(1), 0), None);
    assert_eq!(files.size_for(&alice, &HASH, 0), Some(1), "it is hers");
}

#[test]
fn the_files_of_other_nodes_are_bounded_and_all_looked_at() {
    let count = 3 * EXPIRED_PER_CALL_MAX;
    let (mut files, limits) = node(count as u64);
    for file in 0..2 * count {
        files.named_by_chat((&hash(file), 1), 1 + file as u64, &limits, 0);
    }
    let known = |files: &FileIndex| {
        let known = (0..2 * count).filter(|&it| files.known_elsewhere(&hash(it)).is_some());
        known.count()
    };
    assert_eq!(known(&files), count);
    for _ in 0..5 {
        files.expire(1 + count as u64 / 2, &limits, 1);
    }
    assert_eq!(known(&files), count / 2);
}
