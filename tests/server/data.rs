//! A room on disk: what was told to anybody survives the server, and members read the
//! past (CHAT-RES, CHAT-HIST).

use std::{path::Path, process::Command};

use chat::wire::{
    Capability, ErrorCode, GetHistory, History, Register, Registered, Resume, ResumeFailure,
    client_envelope::Message as Sent, get_history::Edge, server_envelope::Message,
};
use tempfile::TempDir;

use crate::support::{self, Peer, TestServer};

const ALL: [Capability; 3] = [
    Capability::Receipts,
    Capability::Resume,
    Capability::History,
];

fn start(dir: &Path, options: &[&str]) -> TestServer {
    let dir = dir.to_str().expect("a path that is text");
    TestServer::start(&[&["--data", dir, "--rate-limit", "off"], options].concat())
}

/// What a client keeps of a session to resume it.
struct Kept {
    token: Vec<u8>,
    epoch: String,
    seq: u64,
    attempt: u32,
}

fn join(server: &TestServer, name: &str) -> (Peer, Kept) {
    let (peer, registered) = Peer::join_with(server, name, &ALL);
    (peer, kept(&registered))
}

fn kept(registered: &Registered) -> Kept {
    assert_eq!(registered.resume_token.len(), 16, "CHAT-RES-2");
    Kept {
        token: registered.resume_token.clone(),
        epoch: registered.epoch.clone(),
        seq: registered.seq,
        attempt: 1,
    }
}

fn resume(server: &TestServer, name: &str, kept: &Kept) -> (Peer, Registered) {
    let mut peer = Peer::connect(server);
    peer.send(&support::envelope(Sent::Register(Register {
        name: name.to_owned(),
        capabilities: ALL.iter().map(|&it| it.into()).collect(),
        resume: Some(Resume {
            token: kept.token.clone(),
            epoch: kept.epoch.clone(),
            seq: kept.seq,
            attempt: kept.attempt,
        }),
        ..Default::default()
    })));
    let registered = peer.registered();
    (peer, registered)
}

fn receipt(peer: &mut Peer) -> u64 {
    match peer.recv() {
        Message::Receipt(receipt) => receipt.seq,
        message => panic!("no receipt but {message:?}"),
    }
}

fn page(peer: &mut Peer, edge: Option<Edge>, limit: u32) -> History {
    ask(peer, edge, limit);
    match peer.recv() {
        Message::History(history) => {
            assert_eq!(history.id, 77);
            let numbers: Vec<_> = history.chats.iter().map(|chat| chat.seq).collect();
            let covered: Vec<_> = match history.from {
                0 => Vec::new(),
                from => (from..=history.to).collect(),
            };
            assert_eq!(numbers, covered, "CHAT-HIST-2");
            history
        }
        message => panic!("no page but {message:?}"),
    }
}

fn ask(peer: &mut Peer, edge: Option<Edge>, limit: u32) {
    peer.send(&support::envelope(Sent::GetHistory(GetHistory {
        id: 77,
        edge,
        limit,
        filter: None,
    })));
}

#[test]
fn what_was_told_is_there_after_kill_9_under_its_number() {
    let dir = TempDir::new().expect("a folder");
    let mut server = start(dir.path(), &[]);
    let (mut alice, mut kept) = join(&server, "Alice");
    let (mut bob, _) = join(&server, "Bob");
    for seq in 1..=20 {
        alice.send(&support::chat_with_id(&format!("text {seq}"), 100 + seq));
        assert_eq!(receipt(&mut alice), seq);
        assert_eq!(bob.chat().seq, seq);
    }
    server.signal("KILL");
    server.wait();

    let server = start(dir.path(), &[]);
    kept.seq = 15;
    let (mut alice, registered) = resume(&server, "Alice", &kept);
    assert_eq!(registered.epoch, kept.epoch);
    assert_eq!((registered.resumed_from, registered.seq), (16, 20));
    for seq in 16..=20 {
        assert_eq!(alice.hears(&format!("text {seq}")).seq, seq);
    }
    // CHAT-RES-11, over the restart.
    alice.send(&support::chat_with_id("text 20", 120));
    assert_eq!(receipt(&mut alice), 20);
    alice.send(&support::chat_with_id("new", 121));
    assert_eq!(receipt(&mut alice), 21);
}

#[test]
fn members_read_the_past_in_pages() {
    let dir = TempDir::new().expect("a folder");
    let mut server = start(dir.path(), &["--history-page-max", "10"]);
    let (mut alice, _) = join(&server, "Alice");
    assert_eq!(page(&mut alice, Some(Edge::Before(1)), 5).from, 0);
    for seq in 1..=25 {
        alice.send(&support::chat_with_id(&format!("text {seq}"), seq));
        assert_eq!(receipt(&mut alice), seq);
    }
    let (mut bob, registered) = Peer::join_with(&server, "Bob", &ALL);
    assert_eq!((registered.oldest_seq, registered.seq), (1, 25));
    let newest = page(&mut bob, Some(Edge::Before(registered.seq + 1)), 10);
    assert_eq!((newest.from, newest.to), (16, 25));
    assert_eq!(newest.chats[0].text, "text 16");
    assert_eq!(newest.chats[0].sender, "Alice");
    let before = page(&mut bob, Some(Edge::Before(newest.from)), 10);
    assert_eq!((before.from, before.to), (6, 15));
    let after = page(&mut bob, Some(Edge::After(3)), 4);
    assert_eq!((after.from, after.to), (4, 7));
    for (edge, range) in [
        (Edge::Before(0), (0, 0)),
        (Edge::Before(u64::MAX), (16, 25)),
        (Edge::After(0), (1, 10)),
        (Edge::After(25), (0, 0)),
        (Edge::After(u64::MAX), (0, 0)),
    ] {
        let page = page(&mut bob, Some(edge), 10);
        assert_eq!((page.from, page.to), range, "{edge:?}");
    }
    // CHAT-HIST-7
    for (edge, limit) in [
        (None, 5),
        (Some(Edge::After(0)), 0),
        (Some(Edge::After(0)), 11),
    ] {
        ask(&mut bob, edge, limit);
        assert_eq!(bob.is_refused(ErrorCode::RequestInvalid).id, 77);
    }
    // Requests and pings behind one another are answered in their order (CHAT-ORD-8).
    for id in 1..=3 {
        ask(&mut bob, Some(Edge::After(id)), 1);
        bob.send(&support::chat_with_id("between", id));
    }
    for id in 1..=3 {
        assert!(matches!(bob.recv(), Message::History(page) if page.from == id + 1));
        assert_eq!(receipt(&mut bob), 25 + id);
    }
    // What is closed in order is all there.
    server.signal("TERM");
    assert!(server.wait().success());
    let server = start(dir.path(), &["--history", "none"]);
    let (mut carol, registered) = Peer::join_with(&server, "Carol", &ALL);
    assert_eq!((registered.oldest_seq, registered.seq), (0, 28));
    ask(&mut carol, Some(Edge::After(0)), 1);
    let refused = carol.is_refused(ErrorCode::NotGranted);
    let expected = "this server does not let members read the past";
    assert_eq!((refused.id, &*refused.detail), (0, expected));
}

/// More was missed than is in memory: the rest comes from the disk, in order, and the
/// live chats behind it.
#[test]
fn a_session_resumes_from_the_disk_and_goes_on_live() {
    const CHATS: u64 = 3_000;
    let dir = TempDir::new().expect("a folder");
    let server = start(dir.path(), &["--history-memory", "0"]);
    let (alice, kept) = join(&server, "Alice");
    drop(alice);
    let (mut bob, _) = join(&server, "Bob");
    let text = "x".repeat(500);
    for id in 1..=CHATS {
        bob.send(&support::chat_with_id(&text, id));
    }
    for seq in 1..=CHATS {
        assert_eq!(receipt(&mut bob), seq);
    }
    let (mut alice, registered) = resume(&server, "Alice", &kept);
    assert_eq!((registered.resumed_from, registered.seq), (1, CHATS));
    // Live ones meanwhile.
    for id in CHATS + 1..=CHATS + 100 {
        bob.send(&support::chat_with_id(&text, id));
    }
    for seq in 1..=CHATS + 100 {
        assert_eq!(alice.chat().seq, seq);
    }
    // Another one, after a restart, that leaves in the middle: no gap in what it gets.
    drop(server);
    let server = start(dir.path(), &["--history-memory", "0"]);
    let again = Kept {
        attempt: 2,
        seq: 10,
        ..kept
    };
    let (mut alice, _) = resume(&server, "Alice", &again);
    alice.send(&support::leave());
    let mut next = 11;
    while let Some(message) = alice.recv_or_end() {
        assert!(matches!(message, Message::Chat(chat) if chat.seq == next));
        next += 1;
    }
    assert_eq!(next, CHATS + 101, "CHAT-LEAVE-2");
}

/// A page has what was accepted before it was asked for (CHAT-HIST-3), though the disk has
/// it later.
#[test]
fn a_page_has_the_chats_before_it_on_the_same_connection() {
    let dir = TempDir::new().expect("a folder");
    let server = start(dir.path(), &[]);
    let (mut alice, _) = join(&server, "Alice");
    for seq in 1..=100 {
        alice.send(&support::chat_with_id("text", seq));
        ask(&mut alice, Some(Edge::Before(u64::MAX)), 1);
        assert_eq!(receipt(&mut alice), seq);
        assert!(matches!(alice.recv(), Message::History(page) if page.to == seq));
    }
}

/// What a resumed session lacks is removed before it has read so far: it ends before the
/// gap, and the next one tells what is left.
#[test]
fn what_is_removed_during_a_resume_leaves_no_gap() {
    const CHATS: u64 = 3_000;
    let dir = TempDir::new().expect("a folder");
    let server = start(dir.path(), &[]);
    let (alice, mut kept) = join(&server, "Alice");
    drop(alice);
    let (mut bob, _) = join(&server, "Bob");
    // More than the buffers of the system take.
    let text = "x".repeat(4_000);
    for first in (1..=CHATS).step_by(500) {
        for id in first..first + 500 {
            bob.send(&support::chat_with_id(&text, id));
        }
        for id in first..first + 500 {
            assert_eq!(receipt(&mut bob), id);
        }
    }
    drop((bob, server));
    let options = [
        "--history-memory",
        "0",
        "--keep-messages",
        "10",
        "--write-deadline-ms",
        "1min",
    ];
    let server = start(dir.path(), &options);
    let (mut alice, registered) = resume(&server, "Alice", &kept);
    assert_eq!((registered.resumed_from, registered.seq), (1, CHATS));
    let (mut bob, _) = join(&server, "Bob");
    let mut id = CHATS;
    while page(&mut bob, Some(Edge::After(0)), 1).from <= CHATS - 10 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        id += 1;
        bob.send(&support::chat_with_id("more", id));
        assert_eq!(receipt(&mut bob), id);
    }
    let mut next = registered.resumed_from;
    let refused = loop {
        match alice.recv() {
            Message::Chat(chat) => assert_eq!(chat.seq, next, "CHAT-RES-9"),
            Message::Error(error) => break error,
            message => panic!("no chat but {message:?}"),
        }
        next += 1;
    };
    assert_eq!(refused.code(), ErrorCode::SlowConsumer);
    assert!(alice.recv_or_end().is_none());
    (kept.seq, kept.attempt) = (next - 1, 2);
    let (mut alice, registered) = resume(&server, "Alice", &kept);
    for seq in registered.resumed_from..=registered.seq {
        assert_eq!(alice.chat().seq, seq);
    }
}

#[test]
fn without_data_nothing_is_kept_over_a_restart() {
    let server = TestServer::start(&[]);
    let (alice, registered) = Peer::join_with(&server, "Alice", &ALL);
    assert_eq!(registered.oldest_seq, 0);
    assert!(
        !registered
            .capabilities
            .contains(&Capability::History.into())
    );
    let kept = kept(&registered);
    drop((alice, server));
    let server = TestServer::start(&[]);
    let (_, registered) = resume(&server, "Alice", &kept);
    assert_eq!(registered.resume_failure(), ResumeFailure::OtherEpoch);
    assert_eq!(registered.resumed_from, 0);
}

#[test]
fn two_servers_do_not_share_a_folder() {
    let dir = TempDir::new().expect("a folder");
    let _server = start(dir.path(), &[]);
    let output = support::output(support::command(&[
        "--data",
        dir.path().to_str().expect("text"),
    ]));
    assert!(!output.status.success());
    let sentence = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        sentence.contains("in use by another chat-server"),
        "{sentence}"
    );
}

/// The disk fails: everybody is told, nothing that was not written is shown, and the
/// server ends with a sentence and an exit code.
#[test]
fn a_failed_write_is_told_and_ends_the_server() {
    let dir = TempDir::new().expect("a folder");
    let mut server = start(dir.path(), &[]);
    let (mut alice, _) = join(&server, "Alice");
    let (mut bob, _) = join(&server, "Bob");
    alice.send(&support::chat_with_id("written", 1));
    assert_eq!(receipt(&mut alice), 1);
    assert_eq!(bob.chat().seq, 1);
    // No file of it may grow any more.
    let limited = Command::new("prlimit")
        .args(["--pid", &server.process_id().to_string(), "--fsize=1:1"])
        .status();
    assert!(limited.expect("prlimit is there").success());
    alice.send(&support::chat_with_id("lost", 2));
    alice.sees_closing();
    bob.sees_closing();
    assert_eq!(server.wait().code(), Some(1));
    let log = server.log();
    assert!(log.contains("the database cannot be written"), "{log}");

    let server = start(dir.path(), &[]);
    let (mut carol, registered) = Peer::join_with(&server, "Carol", &ALL);
    assert_eq!(registered.seq, 1);
    assert_eq!(page(&mut carol, Some(Edge::Before(9)), 9).to, 1);
}

/// Receipts for what goes into a file without a name would be lies. Nobody speaks, and
/// the server notices all the same.
#[test]
fn a_folder_that_is_removed_ends_the_server() {
    let dir = TempDir::new().expect("a folder");
    let room = dir.path().join("room");
    let mut server = start(&room, &[]);
    let (mut alice, _) = join(&server, "Alice");
    alice.send(&support::chat_with_id("written", 1));
    assert_eq!(receipt(&mut alice), 1);
    std::fs::remove_dir_all(&room).expect("ours");
    alice.sees_closing();
    assert_eq!(server.wait().code(), Some(1));
    let log = server.log();
    assert!(
        log.contains("room.sqlite was removed while the server ran"),
        "{log}"
    );
}

/// Messages from before the limit was lowered fit into the frames of today.
#[test]
fn texts_longer_than_the_limit_of_today_are_cut() {
    let dir = TempDir::new().expect("a folder");
    let server = start(dir.path(), &[]);
    let (mut alice, mut kept) = join(&server, "Alice");
    let text = "ü".repeat(2_000);
    alice.send(&support::chat_with_id(&text, 1));
    assert_eq!(receipt(&mut alice), 1);
    drop(server);
    for (attempt, memory) in [(1, "0"), (2, "1MiB")] {
        let server = start(
            dir.path(),
            &[
                "--frame-bytes-max",
                "512",
                "--text-bytes-max",
                "101",
                "--history-memory",
                memory,
            ],
        );
        kept.attempt = attempt;
        let (mut alice, registered) = resume(&server, "Alice", &kept);
        assert_eq!(registered.resumed_from, 1);
        assert_eq!(alice.chat().text, "ü".repeat(50));
        assert_eq!(
            page(&mut alice, Some(Edge::After(0)), 1).chats[0].text,
            "ü".repeat(50)
        );
    }
}
