//! A room that follows the order of a cluster: its place is written with its chats, and what
//! another order has taken the place of is set aside.

use chat::store::{Change, Keep, Kept, NewEpochReason, Options, Piece, Place, Store, Taken};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::*;

fn follower(folder: &TempDir) -> Options {
    Options {
        follows_cluster: true,
        ..options(folder.path())
    }
}

fn began(epoch: &str, seq: u64) -> Change {
    Change::Began {
        epoch: epoch.to_owned(),
        seq,
    }
}

fn place(position: u64) -> Place {
    Place {
        position,
        record: format!("node/1/{position}"),
    }
}

/// The epoch, the first and the last number of the tables that were set aside.
fn earlier(folder: &TempDir) -> Vec<(String, i64, i64, i64)> {
    let connection = Connection::open(database(folder.path())).expect("it is there");
    let sql = "SELECT nth, epoch, oldest_seq, last_seq FROM earlier ORDER BY nth";
    let mut statement = connection.prepare(sql).expect("SQL");
    let rows = statement.query_map([], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    });
    let rows: Vec<(i64, String, i64, i64)> =
        rows.expect("SQL").map(|it| it.expect("SQL")).collect();
    rows.into_iter()
        .map(|(nth, epoch, oldest_seq, last_seq)| {
            let sql = format!("SELECT count(*) FROM chat_{nth}");
            let count = connection.query_row(&sql, [], |row| row.get(0));
            (epoch, oldest_seq, last_seq, count.expect("SQL"))
        })
        .collect()
}

#[test]
fn a_place_is_there_after_any_end_with_the_chats_before_it() {
    for is_closed in [true, false] {
        let folder = folder();
        let (mut store, kept) = open(&follower(&folder));
        assert_eq!(kept.place, Place::default());
        commit(&mut store, &[began("life", 0), Change::Placed(place(4))]);
        assert_eq!(store.epoch(), "life");
        commit(
            &mut store,
            &[accepted(1), accepted(2), Change::Placed(place(9))],
        );
        match is_closed {
            true => store.close(NOW).expect("it closes"),
            false => drop(store),
        }
        let (store, kept) = open(&follower(&folder));
        let expected = Kept {
            epoch: "life".to_owned(),
            new_epoch: None,
            oldest_seq: 1,
            last_seq: 2,
            lines: vec![],
            owners: vec![],
            place: place(9),
        };
        assert_eq!(kept, expected);
        assert_eq!(store.epoch(), "life");
        assert_eq!(earlier(&folder), [], "there was nothing to set aside");
    }
}

/// The machine may lose what was not synced: the order has it.
#[test]
fn a_follower_begins_no_epoch_by_itself() {
    let folder = folder();
    let mut options = follower(&folder);
    options.sync = chat::store::SyncMode::Off;
    let (mut store, _) = open(&options);
    commit(
        &mut store,
        &[began("life", 0), accepted(1), Change::Placed(place(1))],
    );
    drop(store);
    options.boot_id = Some("another".to_owned());
    let (_, kept) = open(&options);
    assert_eq!((kept.new_epoch, kept.last_seq), (None, 1));
}

#[test]
fn another_order_sets_the_chats_aside() {
    let folder = folder();
    let (mut store, _) = open(&follower(&folder));
    commit(&mut store, &[began("life 1", 0), Change::Line(line(3))]);
    commit_chats(&mut store, 1, 20);
    // In the middle of a commit.
    commit(
        &mut store,
        &[
            accepted(21),
            began("life 2", 0),
            accepted(1),
            Change::Placed(place(2)),
        ],
    );
    commit_chats(&mut store, 2, 5);
    let page = all(&store.reader().expect("a reader"));
    assert_eq!(page.chats, (1..=5).map(chat).collect::<Vec<_>>());
    drop(store);
    let (mut store, kept) = open(&follower(&folder));
    assert_eq!((kept.epoch.as_str(), kept.oldest_seq), ("life 2", 1));
    assert_eq!((kept.last_seq, kept.lines), (5, vec![]));
    assert_eq!(earlier(&folder), [("life 1".to_owned(), 1, 21, 21)]);
    // Behind a gap in the same epoch: no page has one.
    commit(&mut store, &[began("life 2", 9), Change::Placed(place(7))]);
    commit_chats(&mut store, 10, 12);
    let page = all(&store.reader().expect("a reader"));
    assert_eq!((page.from, page.to, page.chats.len()), (10, 12, 3));
    assert_eq!(earlier(&folder)[1], ("life 2".to_owned(), 1, 5, 5));
    drop(store);
    let (_, kept) = open(&follower(&folder));
    assert_eq!((kept.oldest_seq, kept.last_seq), (10, 12));
}

#[test]
fn what_was_set_aside_is_bounded() {
    let folder = folder();
    let mut options = follower(&folder);
    let (mut store, _) = open(&options);
    for life in 1..=12 {
        commit(&mut store, &[began(&format!("life {life}"), 0)]);
        // A life without a chat pushes nothing out.
        commit(&mut store, &[began(&format!("empty {life}"), 0)]);
        commit_chats(&mut store, 1, 3);
    }
    let epochs = |folder| {
        earlier(folder)
            .into_iter()
            .map(|it| it.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(epochs(&folder).len(), 8);
    assert_eq!(epochs(&folder)[7], "empty 11");
    drop(store);
    // No more of them than of the present ones.
    options.keep.messages = Some(7);
    let (mut store, _) = open(&options);
    commit(&mut store, &[began("last", 0)]);
    assert_eq!(epochs(&folder), ["empty 11", "empty 12"]);
    drop(store);
    // No longer than these, whether the server runs or starts.
    options.keep.days = Some(1);
    let later = NOW + 2 * 86_400_000;
    let (mut store, _) = open(&options);
    store.prune(NOW).expect("it prunes");
    assert_eq!(epochs(&folder).len(), 2);
    store.prune(later).expect("it prunes");
    assert_eq!(epochs(&folder).len(), 0);
    commit_chats(&mut store, 1, 3);
    commit(&mut store, &[began("another", 0)]);
    assert_eq!(epochs(&folder), ["last"]);
    drop(store);
    options.now_unix_ms = later;
    open(&options);
    assert_eq!(epochs(&folder).len(), 0);
}

/// Its numbers may have gone on in the cluster.
#[test]
fn a_room_that_leaves_its_cluster_begins_a_new_epoch() {
    let folder = folder();
    let (mut store, _) = open(&follower(&folder));
    commit(
        &mut store,
        &[began("life", 0), accepted(1), Change::Placed(place(1))],
    );
    store.close(NOW).expect("it closes");
    let alone = options(folder.path());
    let (store, kept) = open(&alone);
    assert_eq!(kept.new_epoch, Some(NewEpochReason::LeftCluster));
    assert_eq!((kept.epoch.as_str(), kept.last_seq), ("next", 1));
    store.close(NOW).expect("it closes");
    let (_, kept) = open(&alone);
    assert_eq!(kept.new_epoch, None);
}

#[test]
fn one_node_has_a_folder_at_a_time() {
    let folder = folder();
    let (_store, _) = open(&follower(&folder));
    let refused = Store::open(&follower(&folder)).expect_err("it is in use");
    assert!(
        refused.to_string().contains("in use by another"),
        "{refused}"
    );
}

/// A store that has the chats 1 to 40 up to a position, and one that lacks those before 31.
fn giver_and_taker(keep: Keep) -> ([TempDir; 2], Store, Store) {
    let folders = [folder(), folder()];
    let (mut giver, _) = open(&follower(&folders[0]));
    commit(&mut giver, &[began("life", 0)]);
    commit_chats(&mut giver, 1, 40);
    commit(&mut giver, &[Change::Placed(place(90))]);
    let (mut taker, _) = open(&Options {
        keep,
        ..follower(&folders[1])
    });
    commit(&mut taker, &[began("life", 0)]);
    commit_chats(&mut taker, 1, 5);
    commit(&mut taker, &[began("life", 30), Change::Placed(place(80))]);
    commit_chats(&mut taker, 31, 40);
    (folders, giver, taker)
}

/// Gives pieces of three chats until there are no more, and returns the oldest numbers.
fn fill(giver: &Store, taker: &mut Store, mut oldest_seq: u64) -> Vec<Taken> {
    let reader = giver.reader().expect("a reader");
    let mut taken = Vec::new();
    while taken.len() < 20 {
        let piece = reader.piece_before(oldest_seq, 3, 1 << 20).expect("a read");
        if piece.chats.is_empty() {
            break;
        }
        assert_eq!((piece.epoch.as_str(), piece.position), ("life", 90));
        let it = taker.take_past(&piece, NOW).expect("it is written");
        let it = it.expect("it fits");
        taken.push(it);
        oldest_seq = it.oldest_seq;
        if it.is_enough {
            break;
        }
    }
    taken
}

#[test]
fn the_past_comes_in_pieces_from_another_store() {
    let (folders, giver, mut taker) = giver_and_taker(Keep::default());
    assert_eq!(earlier(&folders[1]), [("life".to_owned(), 1, 5, 5)]);
    let taken = fill(&giver, &mut taker, 31);
    assert_eq!(taken.len(), 10);
    let last = Taken {
        oldest_seq: 1,
        is_enough: false,
    };
    assert_eq!(taken.last(), Some(&last));
    let given = all(&giver.reader().expect("a reader"));
    assert_eq!(all(&taker.reader().expect("a reader")), given);
    assert_eq!(earlier(&folders[1]), [], "it has them again");
    commit_chats(&mut taker, 41, 42);
    drop(taker);
    let (_, kept) = open(&follower(&folders[1]));
    assert_eq!((kept.oldest_seq, kept.last_seq), (1, 42));
}

/// After each piece the folder is that of a store that was killed then.
#[test]
fn a_store_that_is_killed_between_pieces_has_no_gap() {
    let (folders, giver, mut taker) = giver_and_taker(Keep::default());
    let reader = giver.reader().expect("a reader");
    let mut oldest_seq = 31;
    while oldest_seq > 1 {
        let piece = reader.piece_before(oldest_seq, 7, 1 << 20).expect("a read");
        let taken = taker.take_past(&piece, NOW).expect("it is written");
        oldest_seq = taken.expect("it fits").oldest_seq;
        drop(taker);
        let (store, kept) = open(&follower(&folders[1]));
        assert_eq!((kept.oldest_seq, kept.last_seq), (oldest_seq, 40));
        let page = all(&store.reader().expect("a reader"));
        assert_eq!(page.chats, (oldest_seq..=40).map(chat).collect::<Vec<_>>());
        taker = store;
    }
}

#[test]
fn no_more_of_the_past_is_taken_than_is_kept() {
    let bytes = |from: u64| -> u64 {
        let bytes = |it: u64| (chat(it).text.len() + chat(it).sender.len() + 32) as u64;
        (from..=40).map(bytes).sum()
    };
    for keep in [
        Keep {
            messages: Some(18),
            ..Keep::default()
        },
        Keep {
            bytes: Some(bytes(23)),
            ..Keep::default()
        },
        Keep {
            bytes: Some(bytes(22) - 1),
            ..Keep::default()
        },
    ] {
        let (folders, giver, mut taker) = giver_and_taker(keep);
        let taken = fill(&giver, &mut taker, 31);
        let last = Taken {
            oldest_seq: 23,
            is_enough: true,
        };
        assert_eq!(taken.last(), Some(&last), "{keep:?}");
        // Nothing of it goes at once, and what comes pushes the oldest out.
        assert_eq!(taker.prune(NOW).expect("it prunes"), 23);
        drop(taker);
        let options = Options {
            keep,
            ..follower(&folders[1])
        };
        let (mut taker, kept) = open(&options);
        assert_eq!(kept.oldest_seq, 23);
        commit_chats(&mut taker, 41, 43);
        assert!(taker.prune(NOW).expect("it prunes") > 23, "{keep:?}");
    }
    // All are older than a day.
    let keep = Keep {
        days: Some(1),
        ..Keep::default()
    };
    let (_folders, giver, mut taker) = giver_and_taker(keep);
    let reader = giver.reader().expect("a reader");
    let piece = reader.piece_before(31, 3, 1 << 20).expect("a read");
    let taken = taker.take_past(&piece, NOW + 2 * DAY_MS).expect("a look");
    let none = Taken {
        oldest_seq: 31,
        is_enough: true,
    };
    assert_eq!(taken, Some(none));
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let (_folders, giver, mut taker) = giver_and_taker(Keep::default());
    let reader = giver.reader().expect("a reader");
    let before = all(&taker.reader().expect("a reader"));
    let whole = reader.piece_before(31, 3, 1 << 20).expect("a read");
    let with = |change: fn(&mut Piece)| {
        let mut piece = whole.clone();
        change(&mut piece);
        piece
    };
    for piece in [
        with(|it| it.epoch = "other".to_owned()),
        with(|it| it.chats.clear()),
        with(|it| drop(it.chats.pop())),
        with(|it| drop(it.chats.remove(1))),
        with(|it| it.chats[0].seq = 0),
        with(|it| it.chats[2].seq = u64::MAX),
    ] {
        assert_eq!(taker.take_past(&piece, NOW).expect("a look"), None);
        assert_eq!(all(&taker.reader().expect("a reader")), before);
    }
    // Nothing lies before what the giver has not.
    let piece = reader.piece_before(60, 3, 1 << 20).expect("a read");
    assert_eq!(piece.chats, []);
}
