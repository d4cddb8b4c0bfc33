//! Several servers that keep the room on their disks, over a real NATS server: each goes on
//! from its disk after any end, and all have the same past.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use chat::wire::{
    Capability, Chat, ErrorCode, GetHistory, History, Registered, ResumeFailure,
    client_envelope::Message as Sent, get_history::Edge, server_envelope::Message,
};
use rusqlite::Connection;
use tempfile::TempDir;

use super::{
    cluster::{Nats, resume},
    cluster_faults::Crowd,
    support::{self, PATIENCE, Peer, TestServer},
};

const ALL: [Capability; 3] = [
    Capability::Receipts,
    Capability::Resume,
    Capability::History,
];

pub fn folder() -> TempDir {
    tempfile::tempdir().expect("there is space")
}

pub fn text(dir: &TempDir) -> &str {
    dir.path().to_str().expect("a path that is text")
}

/// A node that keeps the room in a folder.
pub fn node(nats: &Nats, name: &str, dir: &TempDir, options: &[&str]) -> TestServer {
    let own = ["--data", text(dir), "--rate-limit", "off"];
    nats.node(name, &[&own, options].concat())
}

/// A node in the place of one that has ended.
fn again(nats: &Nats, name: &str, dir: &TempDir, before: &TestServer) -> TestServer {
    node(nats, name, dir, &["--listen", &before.address.to_string()])
}

fn receipt(peer: &mut Peer) -> u64 {
    match peer.recv() {
        Message::Receipt(receipt) => receipt.seq,
        message => panic!("no receipt but {message:?}"),
    }
}

fn say(peer: &mut Peer, count: usize) -> u64 {
    for _ in 0..count {
        peer.say("a text that takes some bytes of the stream, so that there are checkpoints");
    }
    (0..count).map(|_| receipt(peer)).last().unwrap_or(0)
}

fn page(peer: &mut Peer, after: u64) -> History {
    peer.send(&support::envelope(Sent::GetHistory(GetHistory {
        id: 5,
        edge: Some(Edge::After(after)),
        limit: 100,
        filter: None,
    })));
    loop {
        match peer.recv() {
            Message::History(history) => return history,
            // Others speak.
            Message::Chat(_) => {}
            message => panic!("no page but {message:?}"),
        }
    }
}

/// All of the past that a node has.
pub fn past(node: &TestServer) -> (Registered, Vec<Chat>) {
    let (mut peer, registered) = Peer::join_with(node, "reader", &ALL);
    let mut chats = Vec::<Chat>::new();
    loop {
        let page = page(&mut peer, chats.last().map_or(0, |chat| chat.seq));
        if page.from == 0 {
            break;
        }
        let first = page.chats.first().map(|chat| chat.seq);
        let next = chats.last().map(|chat| chat.seq + 1);
        assert!(next.is_none() || next == first, "CHAT-HIST-2");
        chats.extend(page.chats);
    }
    peer.send(&support::leave());
    peer.rest();
    (registered, chats)
}

/// The epoch, the first and the last number of what a folder has set aside.
fn earlier(dir: &Path) -> Vec<(String, u64, u64)> {
    let connection = Connection::open(dir.join("room.sqlite")).expect("it is there");
    let sql = "SELECT epoch, oldest_seq, last_seq FROM earlier ORDER BY nth";
    let mut statement = connection.prepare(sql).expect("SQL");
    let rows = statement.query_map([], |row| {
        let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
        Ok((row.get(0)?, number(1)?, number(2)?))
    });
    rows.expect("SQL").map(|it| it.expect("SQL")).collect()
}

/// `chat-server history check` finds nothing wrong.
fn is_sound(dir: &TempDir) {
    let checked = support::output(support::command(&["history", text(dir), "check"]));
    let told = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success(), "{told}");
}

/// Killed twice while members talk, with checkpoints meanwhile: nobody misses or hears twice
/// anything, and both disks have the same.
#[test]
fn a_node_that_is_killed_in_a_burst_goes_on_from_its_disk() {
    let nats = Nats::start();
    let (one, two) = (folder(), folder());
    let options = ["--cluster-checkpoint", "16KiB"];
    let first = node(&nats, "first", &one, &options);
    let second = node(&nats, "second", &two, &options);
    let addresses = [first.address.to_string(), second.address.to_string()];
    let crowd = Crowd::talk(&addresses.each_ref().map(String::as_str));
    first.signal("KILL");
    crowd.goes_on();
    let first = again(&nats, "first", &one, &first);
    crowd.goes_on();
    second.signal("KILL");
    let second = again(&nats, "second", &two, &second);
    crowd.agrees();
    let (registered, chats) = past(&first);
    assert_eq!(chats.len() as u64, registered.seq, "nothing is missing");
    assert_eq!(past(&second).1, chats);
    drop((first, second));
    is_sound(&one);
    is_sound(&two);
}

/// What no memory has any more comes from the disk, and what is sent again is accepted once.
#[test]
fn a_room_goes_on_after_all_nodes_have_ended() {
    let nats = Nats::start();
    let (one, two) = (folder(), folder());
    let options = ["--cluster-checkpoint", "4KiB"];
    let first = node(&nats, "first", &one, &options);
    let second = node(&nats, "second", &two, &options);
    let (mut alice, registered) = Peer::join_with(&first, "alice", &ALL);
    assert_eq!(say(&mut alice, 150), 150);
    alice.send(&support::chat_with_id("again and again", 1));
    assert_eq!(receipt(&mut alice), 151);
    let (before, chats) = past(&second);
    assert_eq!((before.oldest_seq, chats.len()), (1, 151));
    first.signal("KILL");
    second.signal("KILL");
    let second = again(&nats, "second", &two, &second);
    let first = again(&nats, "first", &one, &first);
    for node in [&first, &second] {
        let (after, same) = past(node);
        assert_eq!((after.epoch, after.oldest_seq), (before.epoch.clone(), 1));
        assert_eq!(same, chats);
    }
    let (mut alice, resumed) = resume(&second, &ALL, &registered, 0);
    assert_eq!(resumed.resumed_from, 1);
    for seq in 1..=151 {
        assert_eq!(alice.chat().seq, seq);
    }
    alice.send(&support::chat_with_id("again and again", 1));
    assert_eq!(receipt(&mut alice), 151, "it was accepted before");
    assert_eq!(say(&mut alice, 1), 152);
    assert_eq!(past(&first).1.len(), 152);
}

/// A NATS that may have lost something is another epoch, with its own numbers on each disk.
#[test]
fn another_epoch_sets_the_past_aside() {
    let mut nats = Nats::start();
    let dir = folder();
    let first = node(&nats, "first", &dir, &[]);
    let (mut alice, registered) = Peer::join_with(&first, "alice", &ALL);
    assert_eq!(say(&mut alice, 20), 20);
    nats.restart();
    first.wait_for_log("cut off the cluster");
    // It is back when it lets her in.
    let (mut alice, again) = loop {
        let mut peer = Peer::connect(&first);
        peer.send(&support::register("alice", &ALL));
        match peer.recv_or_end() {
            Some(Message::Registered(registered)) => break (peer, registered),
            _ => std::thread::sleep(std::time::Duration::from_millis(50)),
        }
    };
    assert_ne!(again.epoch, registered.epoch);
    assert_eq!((again.seq, again.oldest_seq), (0, 1));
    assert_eq!(say(&mut alice, 3), 3);
    let (_, chats) = past(&first);
    assert_eq!(chats.len(), 3);
    assert_eq!(earlier(dir.path()), [(registered.epoch.clone(), 1, 20)]);
    // Her name is in use, so another has her token.
    let registered = Registered {
        name: "bob".to_owned(),
        ..registered
    };
    let (_, resumed) = resume(&first, &ALL, &registered, 20);
    assert_eq!(resumed.resume_failure(), ResumeFailure::OtherEpoch);
}

/// It was away for longer than NATS keeps what was said, and no other node is there: it tells
/// from where on it has the past, and no page has a gap.
#[test]
fn a_node_that_was_overtaken_tells_from_where_on_it_has_the_past() {
    let nats = Nats::start();
    let (one, two) = (folder(), folder());
    let options = ["--cluster-checkpoint", "4KiB"];
    let first = node(&nats, "first", &one, &options);
    let second = node(&nats, "second", &two, &options);
    let (mut alice, _) = Peer::join_with(&first, "alice", &ALL);
    assert_eq!(say(&mut alice, 20), 20);
    assert_eq!(past(&second).1.len(), 20);
    second.signal("KILL");
    let mut said = 20;
    for _ in 0..30 {
        said = say(&mut alice, 20);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let (_, all) = past(&first);
    assert_eq!(all.len() as u64, said);
    drop(first);
    let second = again(&nats, "second", &two, &second);
    second.wait_for_log("the disk is behind what NATS keeps");
    let (registered, chats) = past(&second);
    assert!(registered.oldest_seq > 21, "{registered:?}");
    assert_eq!(chats.first().map(|it| it.seq), Some(registered.oldest_seq));
    assert_eq!(chats.last().map(|it| it.seq), Some(said));
    assert_eq!(earlier(two.path()), [(registered.epoch, 1, 20)]);
    assert!(all.ends_with(&chats));
}

/// A text that was removed is on no disk, that of a node that was away least of all.
#[test]
fn a_removed_text_leaves_all_disks() {
    let nats = Nats::start();
    let (one, two, control) = (folder(), folder(), folder());
    let socket = control.path().join("control");
    let socket = socket.to_str().expect("a path that is text");
    let first = node(&nats, "first", &one, &["--control", socket]);
    let second = node(&nats, "second", &two, &[]);
    let (mut alice, _) = Peer::join_with(&first, "alice", &ALL);
    alice.say("a secret word");
    assert_eq!(receipt(&mut alice), 1);
    assert_eq!(past(&second).1.len(), 1);
    second.signal("KILL");
    let removed = support::command(&["ctl", "--control", socket, "remove", "1"]);
    assert!(support::output(removed).status.success());
    let second = again(&nats, "second", &two, &second);
    for (node, dir) in [(&first, &one), (&second, &two)] {
        let (_, chats) = past(node);
        assert!(chats[0].removed && chats[0].text.is_empty(), "{chats:?}");
        for file in ["room.sqlite", "room.sqlite-wal"] {
            let bytes = std::fs::read(dir.path().join(file)).unwrap_or_default();
            let secret = b"a secret word";
            assert!(
                !bytes.windows(secret.len()).any(|it| it == secret),
                "{file}"
            );
        }
    }
}

/// What an operator bans at one node is on the disk of each, and outlives the end of all of
/// them and of the epoch. A node that was away brings nothing back that was lifted meanwhile.
#[test]
fn bans_are_on_every_disk_and_outlive_the_epoch() {
    let mut nats = Nats::start();
    let (one, two, control) = (folder(), folder(), folder());
    let socket = control.path().join("control");
    let socket = socket.to_str().expect("a path that is text");
    let ctl = |words: &[&str]| {
        let all = [&["ctl", "--control", socket], words].concat();
        let ran = support::output(support::command(&all));
        assert!(ran.status.success(), "{words:?}: {ran:?}");
    };
    let is_banned = |node: &TestServer, name: &str| {
        let mut peer = Peer::connect(node);
        peer.send(&support::register(name, &[]));
        match peer.recv() {
            Message::Registered(_) => false,
            Message::Error(error) if error.code() == ErrorCode::Banned => true,
            message => panic!("neither let in nor banned but {message:?}"),
        }
    };
    let control = ["--control", socket];
    let first = node(&nats, "first", &one, &control);
    let second = node(&nats, "second", &two, &[]);
    ctl(&["ban", "bob", "enough"]);
    ctl(&["mute", "carol"]);
    waits_for(two.path(), "bans", "bob # enough");
    waits_for(two.path(), "mutes", "carol");
    // All end, and NATS may have lost something: the one that comes back knows them.
    drop((first, second));
    nats.restart();
    let second = node(&nats, "second", &two, &[]);
    assert!(is_banned(&second, "bob"));
    let mut carol = Peer::join(&second, "carol");
    carol.say("am I muted?");
    carol.is_refused(ErrorCode::Muted);
    // While it is away, one ban is lifted and another is said.
    let first = node(&nats, "first", &one, &control);
    second.signal("KILL");
    ctl(&["unban", "bob"]);
    ctl(&["ban", "eve"]);
    waits_for(one.path(), "bans", "eve");
    drop(first);
    nats.restart();
    let first = node(&nats, "first", &one, &[]);
    let second = again(&nats, "second", &two, &second);
    waits_for(two.path(), "bans", "eve");
    for node in [&first, &second] {
        assert!(!is_banned(node, "bob"));
        assert!(is_banned(node, "eve"));
    }
}

/// Waits until a file in a folder has a text.
fn waits_for(folder: &Path, file: &str, text: &str) {
    let began = Instant::now();
    loop {
        let found = std::fs::read_to_string(folder.join(file)).unwrap_or_default();
        if found.contains(text) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{text} is not in {found:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The suite: about coming back and about the past over two nodes, and with a node that is
/// killed in the middle of a case.
#[test]
fn the_suite_passes_on_nodes_that_keep_the_room() {
    let nats = Nats::start();
    let (one, two) = (folder(), folder());
    let first = node(&nats, "first", &one, &[]);
    let second = node(&nats, "second", &two, &[]);
    let suite = |options: &[&str]| {
        let ran = Command::new(env!("CARGO_BIN_EXE_chat-conformance"))
            .arg("server")
            .args(["--cuts", "whole", "--timeout-scale", "4", "--skip-slow"])
            .args(options)
            .output()
            .expect("it is built");
        let told = String::from_utf8_lossy(&ran.stdout).into_owned();
        assert!(matches!(ran.status.code(), Some(0 | 3)), "{told}");
        told
    };
    let address = first.address.to_string();
    let also = second.address.to_string();
    let over_two = [&address, "--also", &also, "--exclusive"];
    suite(&[&over_two[..], &["--area", "resuming"]].concat());
    let told = suite(&[&over_two[..], &["--area", "history"]].concat());
    assert!(
        told.contains("passed          history/pages-are-whole"),
        "{told}"
    );
    let told = suite(&[&over_two[..], &["--area", "files", "--area", "following"]].concat());
    assert!(
        told.contains("passed          files/uploaded-named-and-fetched"),
        "{told}"
    );
    drop((first, second));
    let command = format!(
        "{} --listen 127.0.0.1:0 --cluster nats://127.0.0.1:{} --node third --data {{data}}",
        env!("CARGO_BIN_EXE_chat-server"),
        nats.port
    );
    let killed = ["--cmd", &command, "--jobs", "1"];
    let told = suite(
        &[
            &killed[..],
            &["--case", "*/crash-*", "--case", "*/restart-*"],
        ]
        .concat(),
    );
    assert!(
        told.contains("passed          history/crash-gives-no-number-twice"),
        "{told}"
    );
}

#[test]
fn one_node_has_a_folder_at_a_time() {
    let nats = Nats::start();
    let dir = folder();
    let _first = node(&nats, "first", &dir, &[]);
    let address = format!("nats://127.0.0.1:{}", nats.port);
    let options = [
        "--cluster",
        &address,
        "--node",
        "second",
        "--data",
        text(&dir),
    ];
    let refused = support::output(support::command(&options));
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success());
    assert!(told.contains("is in use by another chat-server"), "{told}");
}
