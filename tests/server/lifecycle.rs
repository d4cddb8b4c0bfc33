//! The life of a server and of its sessions, from the first line on standard output to
//! ServerClosing.

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use chat::wire::{Capability, ErrorCode, LeftReason};

use crate::support::{
    NOTHING, Peer, Received, TestServer, chat, command, frames, leave, output, signal,
};

/// How long a server may take to end (CHAT-CLOSE-3).
const END_WITHIN: Duration = Duration::from_secs(5);

/// A text of 4,000 bytes: few of them fill the buffers of a socket.
fn long_text() -> String {
    "x".repeat(4_000)
}

#[test]
fn the_log_names_members_but_not_their_texts() {
    // Reading this line while the server runs shows that it is flushed.
    let mut server = TestServer::start(&[]);
    assert!(server.address.ip().is_loopback());
    assert_ne!(server.address.port(), 0);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    alice.say("a secret");
    bob.hears("a secret");
    alice.send(&leave());
    alice.is_closed();
    server.signal("TERM");
    bob.sees_closing();
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(server.rest_of_stdout(), "");
    let log = server.log();
    for word in ["registered", "Alice", "Bob", "left"] {
        assert!(log.contains(word), "{word}: {log}");
    }
    assert!(!log.contains("secret"), "{log}");
}

#[test]
fn the_port_file_appears_whole_and_goes_at_the_end() {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("port");
    // A reader of the old file sees its old content: the new file replaces it.
    fs::write(&path, "old").expect("writable");
    let old = fs::File::open(&path).expect("it was just written");
    let path_text = path.to_str().expect("plain ASCII");
    let mut server = TestServer::start(&["--port-file", path_text]);
    let port = fs::read_to_string(&path).expect("it is there when the server listens");
    assert_eq!(port, format!("{}\n", server.address.port()));
    assert_eq!(std::io::read_to_string(old).expect("text"), "old");
    server.signal("INT");
    assert_eq!(server.wait().code(), Some(0));
    let left_over: Vec<_> = fs::read_dir(dir.path()).expect("it is there").collect();
    assert!(left_over.is_empty(), "{left_over:?}");
}

#[test]
fn a_port_file_that_cannot_be_written_keeps_the_server_from_starting() {
    let output = output(command(&["--port-file", "/nowhere/at/all/port"]));
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("cannot write the port"), "{stderr}");
}

/// `chat::files` tests the other kinds of file.
#[test]
fn a_port_file_that_is_no_regular_file_keeps_the_server_from_starting() {
    let dir = tempfile::tempdir().expect("a place for files");
    let [target, link] = ["target", "link"].map(|name| dir.path().join(name));
    fs::write(&target, "untouched").expect("writable");
    std::os::unix::fs::symlink(&target, &link).expect("writable");
    let output = output(command(&[
        "--port-file",
        link.to_str().expect("plain ASCII"),
    ]));
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("it is a symbolic link"), "{stderr}");
    assert!(link.is_symlink());
    assert_eq!(fs::read_to_string(&target).expect("text"), "untouched");
}

#[test]
fn a_port_file_that_cannot_be_put_in_place_leaves_nothing_behind() {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("port");
    fs::create_dir(&path).expect("writable");
    let path_text = path.to_str().expect("plain ASCII");
    let output = output(command(&["--port-file", path_text]));
    assert_eq!(output.status.code(), Some(1));
    let left: Vec<_> = fs::read_dir(dir.path()).expect("it is there").collect();
    assert_eq!(left.len(), 1, "only the folder: {left:?}");
}

#[test]
fn a_port_file_that_another_server_has_taken_over_stays() {
    let dir = tempfile::tempdir().expect("a place for files");
    let path = dir.path().join("port");
    let path_text = path.to_str().expect("plain ASCII");
    let mut first = TestServer::start(&["--port-file", path_text]);
    let mut second = TestServer::start(&["--port-file", path_text]);
    first.signal("TERM");
    assert_eq!(first.wait().code(), Some(0));
    let port = fs::read_to_string(&path).expect("the second one listens");
    assert_eq!(port, format!("{}\n", second.address.port()));
    second.signal("TERM");
    assert_eq!(second.wait().code(), Some(0));
    assert!(!path.exists());
}

/// CHAT-CHAT-1, CHAT-CHAT-2, CHAT-CHAT-4, CHAT-CHAT-5, CHAT-ORD-1.
#[test]
fn a_chat_goes_to_the_others_and_never_back() {
    let server = TestServer::start(&[]);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    let mut carol = Peer::join(&server, "Carol");
    alice.say("hello");
    let to_bob = bob.hears("hello");
    assert_eq!(to_bob, carol.hears("hello"));
    assert_eq!((to_bob.sender.as_str(), to_bob.seq), ("Alice", 1));
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    let age_ms = now.as_millis() as i64 - to_bob.time_unix_ms;
    assert!((-1_000..60_000).contains(&age_ms), "{age_ms}");
    // Her own chat did not return to her: this is the first that she receives.
    bob.say("hi");
    assert_eq!(alice.hears("hi").seq, 2);
    assert_eq!(carol.hears("hi").sender, "Bob");
}

/// CHAT-NAME-5, CHAT-LEAVE-2, CHAT-LEAVE-5, CHAT-ERR-1: whatever ended the session, its
/// name is free when the connection closes.
#[test]
fn a_name_is_free_as_soon_as_its_session_has_ended() {
    let server = TestServer::start(&[]);
    let mut alice = Peer::join(&server, "Alice");
    alice.send(&leave());
    alice.is_closed();

    let mut alice = Peer::join(&server, "alice");
    alice.half_close();
    alice.is_closed();

    let mut alice = Peer::join(&server, "ALICE");
    alice.send_bytes(&[0xff; 10]);
    alice.is_ended(ErrorCode::MalformedFrame);

    Peer::join(&server, "Alice");
}

/// CHAT-LEAVE-3, CHAT-LEAVE-4.
#[test]
fn chats_before_leave_count_and_chats_after_it_do_not() {
    let server = TestServer::start(&[]);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    alice.send_bytes(&frames(&[chat("one"), chat("two"), leave(), chat("three")]));
    alice.is_closed();
    bob.hears("one");
    bob.hears("two");
    let mut carol = Peer::join(&server, "Carol");
    carol.say("four");
    assert_eq!(bob.hears("four").seq, 3);
}

/// CHAT-LEAVE-2.
#[test]
fn a_leaving_member_receives_every_chat_before_its_leave() {
    let server = TestServer::start(&["--rate-limit", "off"]);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join_narrow(&server, "Bob", NOTHING);
    // More than the sockets buffer, so that much is queued when he leaves.
    let chats: Vec<_> = (0..1_000).map(|_| chat(&long_text())).collect();
    let (mut carol, _) = Peer::join_with(&server, "Carol", &[Capability::Presence]);
    carol.sees_members();
    alice.send_bytes(&frames(&chats));
    for _ in 0..1_000 {
        carol.hears(&long_text());
    }
    bob.send(&leave());
    carol.sees_left("Bob", LeftReason::Leave);
    alice.say("too late for Bob");
    carol.hears("too late for Bob");
    // Bytes that he still sends must not cost him queued chats: a socket closed with
    // unread bytes discards what it has not sent.
    bob.say("one more thing");
    for seq in 1..=1_000 {
        assert_eq!(bob.chat().seq, seq);
    }
    bob.is_closed();
}

/// CHAT-CLOSE-1, CHAT-CLOSE-2, CHAT-CLOSE-3.
#[test]
fn a_signal_ends_it_politely_and_in_time_whatever_clients_do() {
    for name in ["TERM", "INT"] {
        let mut server = TestServer::start(&["--rate-limit", "off"]);
        let mut alice = Peer::join(&server, "Alice");
        let mut unregistered = Peer::connect(&server);
        // Never reads, and has more queued than its socket buffers.
        let stuck = Peer::join_narrow(&server, "Stuck", NOTHING);
        fill(&server, &mut alice, 2_000);
        // Never closes.
        let idle = Peer::join(&server, "Idle");

        let start = Instant::now();
        server.signal(name);
        alice.sees_closing();
        unregistered.sees_closing();
        assert_eq!(server.wait().code(), Some(0), "SIG{name}");
        assert!(start.elapsed() < END_WITHIN, "{:?}", start.elapsed());
        drop((stuck, idle));
    }
}

/// Sends so many chats that a member that does not read has some queued.
fn fill(server: &TestServer, from: &mut Peer, count: usize) {
    let mut witness = Peer::join(server, "Witness");
    let chats: Vec<_> = (0..count).map(|_| chat(&long_text())).collect();
    from.send_bytes(&frames(&chats));
    for _ in 0..count {
        witness.hears(&long_text());
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let port_file = folder.path().join("port");
    let port_file_text = port_file.to_str().expect("plain");
    let mut server = TestServer::start(&["--rate-limit", "off", "--port-file", port_file_text]);
    let mut alice = Peer::join(&server, "Alice");
    // Delays the server's end for some seconds.
    let _stuck = Peer::join_narrow(&server, "Stuck", NOTHING);
    fill(&server, &mut alice, 2_000);
    server.signal("TERM");
    alice.sees_closing();
    let start = Instant::now();
    server.signal("TERM");
    assert_eq!(server.wait().code(), Some(130));
    assert!(start.elapsed() < Duration::from_secs(1));
    assert!(!port_file.exists());
}

/// CHAT-CLOSE-1.
#[test]
fn connections_that_wait_to_be_accepted_are_told_of_the_closing() {
    for _ in 0..5 {
        let mut server = TestServer::start(&[]);
        // A stopped server accepts no connection, but the system does.
        server.signal("STOP");
        let mut waiting: Vec<_> = (0..300).map(|_| Peer::connect(&server)).collect();
        server.signal("TERM");
        server.signal("CONT");
        for peer in &mut waiting {
            peer.sees_closing();
        }
        drop(waiting);
        assert_eq!(server.wait().code(), Some(0));
    }
}

/// CHAT-LEAVE-5, CHAT-PRES-5.
#[test]
fn a_client_that_is_killed_is_gone_at_once() {
    let server = TestServer::start(&[]);
    let (mut bob, _) = Peer::join_with(&server, "Bob", &[Capability::Presence]);
    bob.sees_members();
    let alice = Peer::join(&server, "Alice");
    bob.sees_joined("Alice");
    // Only another process holds her end of the connection.
    let mut client = Command::new("sleep")
        .arg("1000")
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(alice.stream)))
        .spawn()
        .expect("there is sleep");
    bob.say("still there?");
    signal(client.id(), "KILL");
    client.wait().expect("it is our child");
    bob.sees_left("Alice", LeftReason::ConnectionLost);
    Peer::join(&server, "Alice");
    bob.sees_joined("Alice");
}

/// CHAT-LEAVE-5.
#[test]
fn a_connection_that_is_reset_is_gone_at_once() {
    let server = TestServer::start(&[]);
    let (mut bob, _) = Peer::join_with(&server, "Bob", &[Capability::Presence]);
    bob.sees_members();
    let alice = Peer::join(&server, "Alice");
    bob.sees_joined("Alice");
    alice.reset();
    bob.sees_left("Alice", LeftReason::ConnectionLost);
    Peer::join(&server, "ALICE");
    bob.sees_joined("ALICE");
}

#[test]
fn clients_see_the_end_of_a_server_that_is_killed() {
    let server = TestServer::start(&[]);
    let mut alice = Peer::join(&server, "Alice");
    let mut unregistered = Peer::connect(&server);
    let address = server.address;
    server.signal("KILL");
    alice.is_closed();
    unregistered.is_closed();
    drop(server);
    // Its port is free at once.
    let server = TestServer::start(&["--listen", &address.to_string()]);
    assert_eq!(server.address, address);
    let (_, registered) = Peer::join_with(&server, "Alice", NOTHING);
    assert_eq!(registered.seq, 0);
}

/// CHAT-ORD-6, CHAT-ORD-7.
#[test]
fn an_epoch_is_shared_by_members_and_new_for_each_server() {
    let server = TestServer::start(&[]);
    let (mut alice, first) = Peer::join_with(&server, "Alice", &[Capability::Receipts]);
    alice.say("one");
    assert!(matches!(alice.recv(), Received::Receipt(receipt) if receipt.seq == 1));
    let (_, second) = Peer::join_with(&server, "Bob", NOTHING);
    assert_eq!((first.seq, second.seq), (0, 1));
    assert_eq!(first.epoch, second.epoch);
    assert!((1..=64).contains(&first.epoch.len()));
    assert!(first.epoch.bytes().all(|byte| byte.is_ascii_graphic()));
    let other = TestServer::start(&[]);
    assert_ne!(
        Peer::join_with(&other, "Alice", NOTHING).1.epoch,
        first.epoch
    );
}
