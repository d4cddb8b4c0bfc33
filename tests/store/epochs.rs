//! What goes on after each kind of end, and what begins anew.

use std::path::Path;

use chat::store::{Change, Kept, NewEpochReason, Owner, Place, Sent, Store, SyncMode};

use crate::support::*;

#[test]
fn what_was_committed_is_there_after_any_end_of_the_process() {
    for sync in [SyncMode::Always, SyncMode::Interval, SyncMode::Off] {
        for is_closed in [true, false] {
            let folder = folder();
            let mut options = options(folder.path());
            options.sync = sync;
            let (mut store, kept) = open(&options);
            let fresh = Kept {
                epoch: "next".to_owned(),
                new_epoch: Some(NewEpochReason::New),
                oldest_seq: 1,
                last_seq: 0,
                lines: vec![],
                owners: vec![],
                place: Place::default(),
            };
            assert_eq!(kept, fresh);
            commit_chats(&mut store, 1, 20);
            let changes = [Change::Line(line(7)), Change::Owned(owner("Carol", 1))];
            commit(&mut store, &changes);
            match is_closed {
                true => store.close(NOW).expect("it closes"),
                false => drop(store),
            }
            let log = folder.path().join("room.sqlite-wal");
            assert_ne!(log.exists(), is_closed, "a closed room is one file");
            options.epoch_if_new = "another".to_owned();
            let (store, kept) = open(&options);
            let went_on = Kept {
                new_epoch: None,
                last_seq: 20,
                lines: vec![line(7)],
                owners: vec![owner("Carol", 1)],
                ..fresh
            };
            assert_eq!(kept, went_on, "{sync:?} {is_closed}");
            let page = all(&store.reader().expect("a reader"));
            assert_eq!(page.chats, (1..=20).map(chat).collect::<Vec<_>>());
        }
    }
}

/// A run of `sync` on one boot, ended as told, then a start on another boot.
fn start_on_another_boot(dir: &Path, sync: SyncMode, is_closed: bool) -> (Store, Kept) {
    let mut options = options(dir);
    options.sync = sync;
    let (mut store, _) = open(&options);
    commit(
        &mut store,
        &[
            Change::Line(line(1)),
            Change::Owned(owner("Carol", 1)),
            accepted(1),
            accepted(2),
        ],
    );
    match is_closed {
        true => store.close(NOW).expect("it closes"),
        false => drop(store),
    }
    options.boot_id = Some("another boot".to_owned());
    options.epoch_if_new = "another".to_owned();
    // The mode that counts is the one of the run before.
    options.sync = SyncMode::Always;
    open(&options)
}

#[test]
fn after_a_power_cut_numbers_go_on_in_a_new_epoch_unless_all_was_synced() {
    for (sync, is_closed, reason) in [
        (SyncMode::Always, false, None),
        (SyncMode::Always, true, None),
        (SyncMode::Interval, false, Some(NewEpochReason::MayHaveLost)),
        (SyncMode::Interval, true, None),
        (SyncMode::Off, false, Some(NewEpochReason::MayHaveLost)),
        (SyncMode::Off, true, None),
    ] {
        let folder = folder();
        let (mut store, kept) = start_on_another_boot(folder.path(), sync, is_closed);
        let is_new = reason.is_some();
        let epoch = if is_new { "another" } else { "next" };
        assert_eq!((kept.new_epoch, &*kept.epoch), (reason, epoch), "{sync:?}");
        assert_eq!((kept.oldest_seq, kept.last_seq), (1, 2), "{sync:?}");
        assert_eq!(kept.lines.is_empty(), is_new, "{sync:?}");
        assert_eq!(kept.owners, [owner("Carol", 1)], "{sync:?}");
        commit(&mut store, &[accepted(3)]);
        assert_eq!(all(&store.reader().expect("a reader")).to, 3);
    }
}

#[test]
fn a_new_epoch_is_begun_once() {
    let folder = folder();
    let mut options = options(folder.path());
    options.sync = SyncMode::Off;
    drop(open(&options));
    options.boot_id = Some("another boot".to_owned());
    options.epoch_if_new = "second".to_owned();
    drop(open(&options));
    options.epoch_if_new = "third".to_owned();
    let (_store, kept) = open(&options);
    assert_eq!((kept.new_epoch, &*kept.epoch), (None, "second"));
}

#[test]
fn lines_come_back_as_they_were_last_and_with_their_newest_ids() {
    let folder = folder();
    let options = options(folder.path());
    let (mut store, _) = open(&options);
    let mut first = line(1);
    let lines = [&first, &line(2), &line(u64::MAX)].map(|line| Change::Line(line.clone()));
    commit(&mut store, &lines);
    first.tokens = vec![[9; 16], [8; 16], [7; 16], [6; 16]];
    first.attempt = u32::MAX;
    first.seen_unix_ms += 1;
    // Two lines in turn, each id twice as large as i64 holds.
    let id = |seq: u64| u64::MAX - seq;
    let mut changes = vec![Change::Line(first.clone())];
    for seq in 1..=50 {
        let by = [1, u64::MAX][(seq % 2) as usize];
        let chat = chat(seq);
        changes.push(Change::Chat {
            chat,
            sent_by: Some((by, id(seq))),
        });
    }
    // A line that nobody knows has no ids.
    changes.push(Change::Chat {
        chat: chat(51),
        sent_by: Some((99, 1)),
    });
    changes.push(Change::LineEnded(2));
    commit(&mut store, &changes);
    drop(store);
    let (mut store, kept) = open(&options);
    let sent = |seqs: [u64; 4]| {
        seqs.map(|seq| Sent {
            id: id(seq),
            seq,
            time_unix_ms: chat(seq).time_unix_ms,
        })
        .to_vec()
    };
    first.sent = sent([44, 46, 48, 50]);
    let mut last = line(u64::MAX);
    last.sent = sent([43, 45, 47, 49]);
    let mut found = kept.lines;
    found.sort_by_key(|line| line.id);
    assert_eq!(found, [first, last]);
    commit(
        &mut store,
        &[Change::LineEnded(1), Change::LineEnded(u64::MAX)],
    );
    drop(store);
    assert_eq!(open(&options).1.lines, []);
}

#[test]
fn owners_come_back_as_they_were_last() {
    let folder = folder();
    let options = options(folder.path());
    let (mut store, _) = open(&options);
    let owned = |name: &str, key: u8| Change::Owned(owner(name, key));
    commit(
        &mut store,
        &[owned("Carol", 1), owned("bob", 2), owned("x", 3)],
    );
    // A name is the same in any mixture of upper and lower case.
    let changes = [owned("cAROL", 4), Change::Disowned("X".to_owned())];
    commit(&mut store, &changes);
    drop(store);
    let (_store, kept) = open(&options);
    let carol = Owner {
        name: "Carol".to_owned(),
        ..owner("", 4)
    };
    assert_eq!(kept.owners, [owner("bob", 2), carol]);
}

#[test]
fn ids_of_lines_take_a_bounded_place() {
    let folder = folder();
    let options = options(folder.path());
    let (mut store, _) = open(&options);
    let mut lines: Vec<_> = [1, 2, 3].map(line).into();
    lines.iter_mut().for_each(|line| line.began_seq = 0);
    let began: Vec<_> = lines.iter().cloned().map(Change::Line).collect();
    commit(&mut store, &began);
    let say = |store: &mut Store, seq, by| {
        let chat = chat(seq);
        commit(
            store,
            &[Change::Chat {
                chat,
                sent_by: Some((by, seq)),
            }],
        );
    };
    // One that says little keeps its ids under any flood of the others.
    (1..=3).for_each(|seq| say(&mut store, seq, 3));
    (4..=500).for_each(|seq| say(&mut store, seq, 1 + seq % 2));
    commit(&mut store, &[Change::LineEnded(2)]);
    (501..=1_000).for_each(|seq| say(&mut store, seq, 1));
    store.close(NOW).expect("it closes");
    let connection = rusqlite::Connection::open(database(folder.path())).expect("ours");
    let count = "SELECT count(*) FROM sent";
    let rows: u32 = connection
        .query_row(count, [], |row| row.get(0))
        .expect("a count");
    assert!(rows <= 24, "{rows} rows for two lines of 4 ids");
    drop(connection);
    let (mut store, kept) = open(&options);
    let ids = |kept: &Kept| -> Vec<Vec<u64>> {
        let ids = |line: &chat::store::Line| line.sent.iter().map(|sent| sent.id).collect();
        kept.lines.iter().map(ids).collect()
    };
    assert_eq!(ids(&kept), [vec![997, 998, 999, 1_000], vec![1, 2, 3]]);
    // A line of the same number is another line.
    let mut second = line(3);
    second.began_seq = 1_000;
    commit(&mut store, &[Change::LineEnded(3), Change::Line(second)]);
    say(&mut store, 1_001, 3);
    drop(store);
    assert_eq!(
        ids(&open(&options).1),
        [vec![997, 998, 999, 1_000], vec![1_001]]
    );
}
