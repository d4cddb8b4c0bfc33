//! The operator's command, `chat-server history`, beside a running server and without.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
};

use chat::store::{Change, NewEpochReason, Options, Store};

use crate::support::*;

/// `chat-server history DIR ...`, which none of the environment configures.
fn command(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chat-server"));
    command.arg("history").arg(dir).args(arguments).env_clear();
    command
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    command(dir, arguments).output().expect("it runs")
}

/// What a command that must succeed prints.
#[track_caller]
fn printed(dir: &Path, arguments: &[&str]) -> String {
    let output = run(dir, arguments);
    assert_eq!(text(&output.stderr), "", "{arguments:?}");
    assert!(output.status.success(), "{arguments:?}");
    text(&output.stdout)
}

/// The sentence of a command that must fail with exit code 1.
#[track_caller]
fn refused(dir: &Path, arguments: &[&str]) -> String {
    let output = run(dir, arguments);
    let sentence = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {sentence}");
    assert_eq!(text(&output.stdout), "", "{arguments:?}");
    assert_eq!(sentence.lines().count(), 1, "{sentence}");
    sentence
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// The numbers of printed messages.
fn numbers(printed: &str) -> Vec<u64> {
    let number = |line: &str| {
        let message: serde_json::Value = serde_json::from_str(line).expect("JSON");
        message["seq"].as_u64().expect("a number")
    };
    printed.lines().map(number).collect()
}

/// A room with these texts, open as by a running server.
fn room(options: &Options, texts: &[&str]) -> Store {
    let (mut store, kept) = open(options);
    say(&mut store, kept.last_seq, texts);
    store
}

fn say(store: &mut Store, last_seq: u64, texts: &[&str]) {
    for (index, text) in texts.iter().enumerate() {
        let mut chat = chat(last_seq + 1 + index as u64);
        chat.text = (*text).to_owned();
        commit(
            store,
            &[Change::Chat {
                chat,
                sent_by: None,
            }],
        );
    }
}

#[test]
fn export_prints_json_in_order_while_a_server_runs() {
    let folder = folder();
    let options = options(folder.path());
    let mut store = room(&options, &["say \"hi\" \\o/", "zwei", "drei"]);
    let first = format!(
        r#"{{"seq":1,"time_unix_ms":{},"sender":"sender1","text":"say \"hi\" \\o/"}}"#,
        NOW + 1
    );
    let all = printed(folder.path(), &["export"]);
    assert_eq!(all.lines().next(), Some(&*first));
    let message: serde_json::Value = serde_json::from_str(&first).expect("JSON");
    assert_eq!(message["text"], "say \"hi\" \\o/");
    assert_eq!(numbers(&all), [1, 2, 3]);
    say(&mut store, 3, &["vier"]);
    let export =
        |arguments: &[&str]| numbers(&printed(folder.path(), &[&["export"], arguments].concat()));
    assert_eq!(export(&["--from", "2", "--to", "3"]), [2, 3]);
    assert_eq!(export(&["--from", "4"]), [4]);
    assert_eq!(export(&["--to", "0"]), [0; 0]);
    assert_eq!(export(&["--from", "5"]), [0; 0]);
    store.close(NOW).expect("it closes");
    assert_eq!(export(&[]), [1, 2, 3, 4]);
}

#[test]
fn export_ends_quietly_when_nobody_reads_on() {
    let folder = folder();
    let (mut store, _) = open(&options(folder.path()));
    let changes: Vec<_> = (1..=30_000).map(accepted).collect();
    commit(&mut store, &changes);
    let mut export = command(folder.path(), &["export"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut line = String::new();
    let mut stdout = BufReader::new(export.stdout.take().expect("piped"));
    stdout.read_line(&mut line).expect("a line");
    drop(stdout);
    let mut stderr = String::new();
    export
        .stderr
        .take()
        .expect("piped")
        .read_to_string(&mut stderr)
        .expect("text");
    assert_eq!(stderr, "");
    assert!(export.wait().expect("it ends").success());
}

#[test]
fn search_finds_words_phrases_and_prefixes_in_the_newest_messages() {
    let folder = folder();
    let mut store = room(
        &options(folder.path()),
        &[
            "The deploy is done",
            "Café at noon?",
            "deploy it, done or not",
            "don't \"quote\" me",
        ],
    );
    let search = |words: &[&str]| numbers(&printed(folder.path(), &[&["search"], words].concat()));
    assert_eq!(search(&["DEPLOY"]), [1, 3]);
    assert_eq!(search(&["deploy", "not"]), [3]);
    assert_eq!(search(&["is done"]), [1]);
    assert_eq!(search(&["dep*"]), [1, 3]);
    assert_eq!(search(&["dep"]), [0; 0]);
    assert_eq!(search(&["cafe", "noon?"]), [2]);
    assert_eq!(search(&["don't"]), [4]);
    assert_eq!(search(&["\"quote\""]), [4]);
    assert_eq!(search(&["sender2"]), [2]);
    assert_eq!(search(&["deploy", "--limit", "1"]), [3]);
    assert_eq!(search(&["--expression", "deploy NOT is"]), [3]);
    let sentence = refused(folder.path(), &["search", "--expression", "NOT"]);
    assert!(sentence.contains("no expression of FTS5"), "{sentence}");
    say(&mut store, 4, &["deploy again"]);
    assert_eq!(search(&["deploy"]), [1, 3, 5]);
}

#[test]
fn an_index_follows_what_is_pruned_replaced_and_damaged() {
    let folder = folder();
    let mut options = options(folder.path());
    let store = room(
        &options,
        &["one apple", "two apples", "three", "four apple"],
    );
    let search = |word| numbers(&printed(folder.path(), &["search", word]));
    assert_eq!(search("apple"), [1, 4]);
    drop(store);
    options.keep.messages = Some(1);
    let (mut store, _) = open(&options);
    assert_eq!(store.prune(NOW), Ok(4));
    assert_eq!(search("apple"), [4]);
    let index = folder.path().join("search.sqlite");
    let mode = fs::metadata(&index).expect("an index").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let rows = || -> i64 {
        let index = rusqlite::Connection::open(&index).expect("an index");
        let sql = "SELECT count(*) FROM chat";
        index.query_row(sql, [], |row| row.get(0)).expect("a count")
    };
    assert_eq!(rows(), 1, "pruned messages leave no words");
    say(&mut store, 4, &["five"]);
    assert_eq!(search("five"), [5]);
    drop(store);
    // The numbers again, with other words, as after a restored copy.
    for path in ["room.sqlite", "room.sqlite-wal", "room.sqlite-shm"] {
        fs::remove_file(folder.path().join(path)).expect("it is there");
    }
    let mut store = room(&options, &["pear", "pear", "pear", "pear"]);
    let mut last = chat(5);
    last.time_unix_ms += 1;
    last.text = "pear".to_owned();
    commit(
        &mut store,
        &[Change::Chat {
            chat: last,
            sent_by: None,
        }],
    );
    assert_eq!(search("five"), [0; 0]);
    assert_eq!(search("pear"), [1, 2, 3, 4, 5]);
    fs::write(&index, "no database".repeat(100)).expect("ours");
    assert_eq!(search("pear"), [1, 2, 3, 4, 5]);
}

#[test]
fn prune_needs_a_bound_and_a_stopped_server() {
    let folder = folder();
    let options = options(folder.path());
    let (mut store, _) = open(&options);
    commit_chats(&mut store, 1, 3_000);
    let sentence = refused(folder.path(), &["prune", "--keep-messages", "10"]);
    assert!(
        sentence.contains("in use by another chat-server"),
        "{sentence}"
    );
    commit(&mut store, &[Change::Line(line(1)), accepted(3_001)]);
    store.close(NOW).expect("it closes");
    let output = run(folder.path(), &["prune"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let bytes = || {
        fs::metadata(database(folder.path()))
            .expect("a database")
            .len()
    };
    let before = bytes();
    let said = printed(
        folder.path(),
        &["prune", "--keep-messages", "10", "--keep-bytes", "1MiB"],
    );
    assert_eq!(said, "removed 2991 messages; 10 are left\n");
    assert!(bytes() < before / 2, "the space is given back");
    assert!(printed(folder.path(), &["check"]).contains("numbers 2992 to 3001"));
    let (_store, kept) = open(&options);
    assert_eq!((kept.oldest_seq, kept.last_seq), (2_992, 3_001));
    assert_eq!((kept.new_epoch, kept.lines), (None, vec![line(1)]));
}

#[test]
fn a_backup_is_made_while_a_server_runs_and_begins_a_new_epoch() {
    let folder = folder();
    let original = options(folder.path());
    let (mut store, _) = open(&original);
    commit_chats(&mut store, 1, 20);
    commit(&mut store, &[Change::Line(line(1))]);
    let file = folder.path().join("backup");
    let name = file.to_str().expect("text");
    assert_eq!(printed(folder.path(), &["backup", name]), "");
    commit_chats(&mut store, 21, 25);
    let mode = fs::metadata(&file).expect("a backup").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let content = fs::read(&file).expect("a backup");
    let token = [1_u8; 16];
    assert!(!content.windows(16).any(|it| it == token), "no tokens");
    let sentence = refused(folder.path(), &["backup", name]);
    assert!(sentence.contains("is there already"), "{sentence}");
    assert_eq!(fs::read(&file).expect("a backup"), content);
    let left: Vec<_> = fs::read_dir(folder.path())
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name())
        .filter(|name| name.to_string_lossy().starts_with(".chat-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");

    // Restored over a database whose server was killed, beside its log.
    drop(store);
    let log = folder.path().join("room.sqlite-wal");
    assert!(fs::metadata(&log).expect("a log").len() > 0);
    fs::copy(&file, database(folder.path())).expect("ours");
    let sentence = refused(folder.path(), &["export"]);
    assert!(
        sentence.contains("room.sqlite-wal is left from another database"),
        "{sentence}"
    );
    let restored = Options {
        epoch_if_new: "restored".to_owned(),
        ..original
    };
    let (mut store, kept) = open(&restored);
    assert_eq!(
        (kept.new_epoch, &*kept.epoch),
        (Some(NewEpochReason::Backup), "restored")
    );
    assert_eq!((kept.last_seq, kept.lines), (20, vec![]));
    commit_chats(&mut store, 21, 22);
    drop(store);
    assert_eq!(open(&restored).1.new_epoch, None, "the mark is gone");
    assert_eq!(printed(folder.path(), &["export"]).lines().count(), 22);
}

#[test]
fn check_finds_missing_and_damaged_messages() {
    let make = || {
        let folder = folder();
        let options = options(folder.path());
        let (mut store, _) = open(&options);
        commit_chats(&mut store, 1, 300);
        (folder, store)
    };
    let (folder, store) = make();
    let sound = printed(folder.path(), &["check"]);
    assert!(
        sound.contains("no fault found; 300 messages, numbers 1 to 300, 0 clients"),
        "{sound}"
    );
    store.close(NOW).expect("it closes");
    for (damage, words) in [
        (
            "DELETE FROM chat WHERE seq = 7",
            "messages 7 to 7 are missing",
        ),
        (
            "DELETE FROM chat WHERE seq < 5",
            "messages 1 to 4 are missing",
        ),
        (
            "UPDATE room SET oldest_seq = 3",
            "message 1 should have been removed",
        ),
        (
            "UPDATE chat SET text = 'x' WHERE seq = 9",
            "the size before message 10 is wrong",
        ),
        (
            "UPDATE chat SET more = x'ff' WHERE seq = 9",
            "message 9 cannot be read",
        ),
        ("DELETE FROM room", "no epoch"),
        (
            "INSERT INTO sent VALUES (301, 1, 2, 3, 4)",
            "belong to no message",
        ),
        (
            "INSERT INTO line VALUES (1, 'a', x'00', 0, 0, 0)",
            "broken tokens",
        ),
    ] {
        let (folder, store) = make();
        store.close(NOW).expect("it closes");
        let connection = rusqlite::Connection::open(database(folder.path())).expect("ours");
        connection.execute_batch(damage).expect("SQL");
        drop(connection);
        let sentence = refused(folder.path(), &["check"]);
        assert!(sentence.contains(words), "{damage}: {sentence}");
    }
    // A page of the table overwritten.
    let path = database(folder.path());
    let mut content = fs::read(&path).expect("a database");
    let middle = content.len() / 4096 / 2 * 4096;
    content[middle..middle + 4096].fill(0xAB);
    fs::write(&path, content).expect("ours");
    let sentence = refused(folder.path(), &["check"]);
    assert!(sentence.contains("is damaged"), "{sentence}");
}

#[test]
fn a_folder_without_a_room_is_named() {
    let folder = folder();
    let missing = folder.path().join("missing");
    for arguments in [
        &["export"][..],
        &["search", "word"],
        &["prune", "--keep-days", "1"],
        &["check"],
        &["backup", "file"],
    ] {
        for dir in [folder.path(), &missing] {
            let sentence = refused(dir, arguments);
            assert!(sentence.contains("there is no"), "{sentence}");
            assert!(sentence.contains("--data"), "{sentence}");
        }
    }
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0);
}
