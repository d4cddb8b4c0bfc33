//! What is refused, each with a sentence, and with nothing changed.

use std::{fs, os::unix::fs::PermissionsExt};

use chat::store::{Change, CommitError, OpenError, Options, Store, StoreReader};

use crate::support::*;

/// The sentence with which a store is refused.
#[track_caller]
fn refusal(options: &Options) -> String {
    let error: OpenError = Store::open(options).expect_err("it must be refused");
    error.to_string()
}

#[test]
fn a_folder_is_one_servers() {
    let folder = folder();
    let options = options(folder.path());
    let (mut store, _) = open(&options);
    let sentence = refusal(&options);
    assert!(
        sentence.contains("in use by another chat-server"),
        "{sentence}"
    );
    commit_chats(&mut store, 1, 3);
    drop(store);
    assert_eq!(open(&options).1.last_seq, 3);
}

#[test]
fn only_the_servers_user_reads_what_was_said() {
    let folder = folder();
    let options = Options {
        dir: folder.path().join("a"),
        ..options(folder.path())
    };
    let (mut store, _) = open(&options);
    commit_chats(&mut store, 1, 3);
    let mode = |path| {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(mode(options.dir.clone()), 0o700);
    let mut files = 0;
    for entry in fs::read_dir(&options.dir).expect("the folder") {
        let path = entry.expect("an entry").path();
        assert_eq!(mode(path.clone()), 0o600, "{path:?}");
        files += 1;
    }
    assert_eq!(
        files, 4,
        "the lock, the database, its log and what connections share"
    );
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = folder();
    let file = folder.path().join("file");
    fs::write(&file, "text").expect("ours");
    for dir in [file.clone(), file.join("below"), "/proc/chat".into()] {
        let sentence = refusal(&options(&dir));
        assert!(sentence.contains(dir.to_str().expect("text")), "{sentence}");
        assert!(
            sentence.contains("name a folder that this user may write"),
            "{sentence}"
        );
    }
}

#[test]
fn files_of_others_are_left_alone() {
    let foreign_database = {
        let folder = folder();
        let path = folder.path().join("foreign");
        let connection = rusqlite::Connection::open(&path).expect("a database");
        connection
            .execute_batch("CREATE TABLE x (y); PRAGMA user_version = 1;")
            .expect("SQL");
        drop(connection);
        fs::read(path).expect("it was written")
    };
    for content in [
        b"some text that is longer than a header ".repeat(20),
        foreign_database,
    ] {
        let folder = folder();
        fs::write(database(folder.path()), &content).expect("ours");
        let sentence = refusal(&options(folder.path()));
        assert!(
            sentence.contains("is not a database of chat-server"),
            "{sentence}"
        );
        assert_eq!(
            fs::read(database(folder.path())).expect("it is there"),
            content
        );
        let error = StoreReader::open(folder.path()).expect_err("it must be refused");
        assert!(error.to_string().contains("is not a database"), "{error}");
    }
}

#[test]
fn a_newer_database_is_left_to_the_newer_program() {
    let folder = folder();
    let options = options(folder.path());
    let (store, _) = open(&options);
    store.close(NOW).expect("it closes");
    let connection = rusqlite::Connection::open(database(folder.path())).expect("a database");
    connection
        .pragma_update(None, "user_version", 1_000)
        .expect("a pragma");
    drop(connection);
    let sentence = refusal(&options);
    assert!(
        sentence.contains("version 1000 of the database"),
        "{sentence}"
    );
    assert!(sentence.contains("use the newer one"), "{sentence}");
    let error = StoreReader::open(folder.path()).expect_err("it must be refused");
    assert!(error.to_string().contains("use the newer one"), "{error}");
}

#[test]
fn a_reader_makes_no_database() {
    let folder = folder();
    let error = StoreReader::open(folder.path()).expect_err("there is none");
    assert!(error.to_string().contains("there is no"), "{error}");
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0);
}

#[test]
fn a_number_out_of_order_ends_the_store() {
    let folder = folder();
    let (mut store, _) = open(&options(folder.path()));
    commit(&mut store, &[accepted(1)]);
    let refused = store.commit(&[Change::Line(line(1)), accepted(2), accepted(4)]);
    assert!(matches!(&refused, Err(CommitError::Failed(why)) if why.contains("chat 4")));
    assert_eq!(
        store.commit(&[accepted(2)]),
        refused,
        "no commit follows a failure"
    );
    drop(store);
    let kept = open(&options(folder.path())).1;
    assert_eq!((kept.last_seq, kept.lines), (1, vec![]), "all or nothing");
}

/// What is committed to a file without a name is gone when the server ends.
#[test]
fn nothing_is_committed_to_a_database_that_was_removed_or_replaced() {
    type Harm = fn(&std::path::Path);
    let ways: [(Harm, &str); 3] = [
        (
            |dir| fs::remove_dir_all(dir).expect("ours"),
            "room.sqlite was removed while the server ran",
        ),
        (
            |dir| fs::rename(dir, dir.with_extension("moved")).expect("ours"),
            "room.sqlite was removed while the server ran",
        ),
        (
            |dir| {
                let database = dir.join("room.sqlite");
                fs::copy(&database, dir.join("copy")).expect("ours");
                fs::rename(dir.join("copy"), database).expect("ours");
            },
            "room.sqlite was replaced by another file while the server ran",
        ),
    ];
    for (harm, words) in ways {
        let folder = folder();
        let options = options(&folder.path().join("room"));
        let (mut store, _) = open(&options);
        commit_chats(&mut store, 1, 3);
        harm(&options.dir);
        for error in [
            store
                .commit(&[accepted(4)])
                .expect_err("it must be refused"),
            store.prune(1).expect_err("it must be refused"),
        ] {
            assert!(matches!(error, CommitError::Failed(_)));
            assert!(error.to_string().contains(words), "{error}");
        }
        let left: Vec<_> = fs::read_dir(&options.dir).into_iter().flatten().collect();
        assert!(left.len() != 1, "{left:?}");
    }
}
