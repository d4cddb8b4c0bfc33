//! Pruning: each bound, and what stays.

use chat::store::{Change, Keep};

use crate::support::*;

/// Prunes until nothing more goes.
fn prune_all(store: &mut chat::store::Store, now: i64) -> u64 {
    let mut oldest = store.prune(now).expect("it prunes");
    loop {
        let next = store.prune(now).expect("it prunes");
        if next == oldest {
            return oldest;
        }
        assert!(next > oldest, "the oldest number only rises");
        oldest = next;
    }
}

#[test]
fn a_bound_of_messages_leaves_that_many() {
    let folder = folder();
    let mut options = options(folder.path());
    options.keep.messages = Some(3);
    let (mut store, _) = open(&options);
    commit_chats(&mut store, 1, 3);
    assert_eq!(prune_all(&mut store, NOW), 1);
    commit_chats(&mut store, 4, 10);
    assert_eq!(prune_all(&mut store, NOW), 8);
    assert_eq!(all(&store.reader().expect("a reader")).from, 8);
}

#[test]
fn a_bound_of_days_leaves_what_is_not_older() {
    let folder = folder();
    let mut options = options(folder.path());
    options.keep.days = Some(2);
    let (mut store, _) = open(&options);
    // In the order of their numbers: old, from a clock that was ahead, old, young, old.
    let days_ago = [5, -1_000, 4, 1, 3];
    for (index, days) in days_ago.into_iter().enumerate() {
        let mut chat = chat(index as u64 + 1);
        chat.time_unix_ms = NOW - days * DAY_MS;
        commit(
            &mut store,
            &[Change::Chat {
                chat,
                sent_by: None,
            }],
        );
    }
    assert_eq!(
        prune_all(&mut store, NOW - 3 * DAY_MS + 1),
        2,
        "the first is five days old"
    );
    assert_eq!(
        prune_all(&mut store, NOW),
        4,
        "a young one protects what is behind it"
    );
    assert_eq!(
        prune_all(&mut store, NOW + DAY_MS),
        4,
        "two days old to the millisecond"
    );
    assert_eq!(prune_all(&mut store, NOW + DAY_MS + 1), 6);
    assert_eq!(all(&store.reader().expect("a reader")).chats, []);
}

#[test]
fn a_bound_of_bytes_counts_texts_senders_and_rows() {
    let folder = folder();
    let mut options = options(folder.path());
    let bytes = |from: u64, to: u64| -> u64 {
        let one = |seq| 32 + chat(seq).text.len() + chat(seq).sender.len();
        (from..=to).map(|seq| one(seq) as u64).sum()
    };
    options.keep.bytes = Some(bytes(8, 20));
    let (mut store, _) = open(&options);
    commit_chats(&mut store, 1, 20);
    assert_eq!(prune_all(&mut store, NOW), 8);
    drop(store);
    options.keep.bytes = Some(bytes(15, 21) - 1);
    let (mut store, _) = open(&options);
    commit_chats(&mut store, 21, 21);
    assert_eq!(prune_all(&mut store, NOW), 16);
}

#[test]
fn numbers_go_on_when_all_chats_are_pruned() {
    let folder = folder();
    let mut options = options(folder.path());
    options.keep = Keep {
        messages: Some(0),
        days: Some(1_000),
        bytes: Some(1_000_000),
    };
    for is_closed in [true, false] {
        let (mut store, kept) = open(&options);
        let last = kept.last_seq;
        assert_eq!(kept.oldest_seq, last + 1);
        commit_chats(&mut store, last + 1, last + 10);
        assert_eq!(prune_all(&mut store, NOW), last + 11);
        match is_closed {
            true => store.close(NOW).expect("it closes"),
            false => drop(store),
        }
    }
    let (_store, kept) = open(&options);
    assert_eq!((kept.oldest_seq, kept.last_seq), (21, 20));
}

#[test]
fn one_call_does_a_bounded_part_of_the_work() {
    let folder = folder();
    let mut options = options(folder.path());
    options.keep.messages = Some(10);
    let (mut store, _) = open(&options);
    let changes: Vec<_> = (1..=5_000).map(accepted).collect();
    commit(&mut store, &changes);
    let steps: Vec<_> = (0..4).map(|_| store.prune(NOW)).collect();
    assert_eq!(steps, [Ok(2_001), Ok(4_001), Ok(4_991), Ok(4_991)]);
}

#[test]
fn pruning_leaves_what_lines_have_sent() {
    let folder = folder();
    let mut options = options(folder.path());
    options.keep.messages = Some(1);
    let (mut store, _) = open(&options);
    commit(&mut store, &[Change::Line(line(1))]);
    for seq in 1..=20 {
        let chat = chat(seq);
        commit(
            &mut store,
            &[Change::Chat {
                chat,
                sent_by: Some((1, 100 + seq)),
            }],
        );
    }
    assert_eq!(prune_all(&mut store, NOW), 20);
    drop(store);
    let (_store, kept) = open(&options);
    let ids: Vec<_> = kept.lines[0].sent.iter().map(|sent| sent.id).collect();
    assert_eq!(ids, [117, 118, 119, 120]);
}

#[test]
fn a_commit_prunes_as_part_of_it() {
    let folder = folder();
    let mut options = options(folder.path());
    options.keep.messages = Some(5);
    let (mut store, _) = open(&options);
    let mut oldest = Vec::new();
    for seqs in [1..=4, 5..=8, 9..=3_008, 3_009..=3_010] {
        let changes: Vec<_> = seqs.map(accepted).collect();
        oldest.push(store.commit_and_prune(&changes, NOW).expect("it commits"));
    }
    assert_eq!(oldest, [1, 4, 2_004, 3_006]);
    drop(store);
    let (store, kept) = open(&options);
    assert_eq!((kept.oldest_seq, kept.last_seq), (3_006, 3_010));
    assert_eq!(all(&store.reader().expect("a reader")).from, 3_006);
}
