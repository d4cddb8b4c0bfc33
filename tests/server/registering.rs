//! Register, over sockets: accepted and rejected names, first messages, the deadline, and
//! a full server.

use chat::wire::{Capability, ClientEnvelope, ErrorCode, client_envelope::Message};

use crate::support::{
    NOTHING, Peer, Received, TestServer, chat, frame, frames, leave, ping, pong, register,
};

/// CHAT-NAME-1 to CHAT-NAME-4.
#[test]
fn a_rejected_name_does_not_disturb_its_holder() {
    use ErrorCode::{NameInUse, NameInvalid, NameReserved};
    let server = TestServer::start(&[]);
    let mut alice = Peer::join(&server, "Alice");
    let too_long = "a".repeat(33);
    let refused = [
        ("Alice", NameInUse),
        ("alice", NameInUse),
        ("aLICE", NameInUse),
        ("all", NameReserved),
        ("ALL", NameReserved),
        ("Server", NameReserved),
        ("", NameInvalid),
        (&too_long, NameInvalid),
        ("-alice", NameInvalid),
        (".", NameInvalid),
        ("a b", NameInvalid),
        ("alice\n", NameInvalid),
        ("alice\0", NameInvalid),
        ("élan", NameInvalid),
        ("a\u{202e}b", NameInvalid),
        ("\u{ff21}lice", NameInvalid),
    ];
    for (name, code) in refused {
        let mut peer = Peer::connect(&server);
        peer.send(&register(name, &[Capability::Presence]));
        peer.is_ended(code);
    }
    let mut bob = Peer::join(&server, "Bob");
    bob.say("first");
    assert_eq!(alice.hears("first").seq, 1);
    alice.say("second");
    assert_eq!(bob.hears("second").sender, "Alice");
}

/// CHAT-NAME-1, CHAT-NAME-2, CHAT-REG-4.
#[test]
fn a_name_keeps_its_case() {
    let server = TestServer::start(&[]);
    let longest = "Z".repeat(32);
    for name in ["a", "0", "A.b_c-D", "x-", "allx", "server.", &longest] {
        let (_peer, registered) = Peer::join_with(&server, name, NOTHING);
        assert_eq!(registered.name, name);
    }
}

/// CHAT-REG-2.
#[test]
fn a_first_message_other_than_register_is_rejected() {
    let server = TestServer::start(&[]);
    let mut alice = Peer::join(&server, "Alice");
    let firsts: [Vec<u8>; 8] = [
        frames(&[chat("hello")]),
        frames(&[leave()]),
        frames(&[ping(1)]),
        frames(&[pong(1)]),
        frames(&[ClientEnvelope { message: None }]),
        vec![0],                     // the same, in bytes
        frame(&[0xfa, 0x07, 1, 42]), // field 127: a message of another version
        // The server ignores the frames behind it.
        frames(&[chat("hello"), register("Bob", NOTHING), chat("hello")]),
    ];
    for bytes in firsts {
        let mut peer = Peer::connect(&server);
        peer.send_bytes(&bytes);
        peer.is_ended(ErrorCode::NotRegistered);
    }
    let mut bob = Peer::join(&server, "Bob");
    bob.say("the only chat");
    assert_eq!(alice.hears("the only chat").seq, 1);
}

/// CHAT-REG-5, CHAT-KEEP-6: the deadline concerns only clients that do not register.
#[test]
fn a_connection_that_does_not_register_in_time_is_closed_with_an_error() {
    let server = TestServer::start(&["--register-deadline-ms", "300"]);
    let mut member = Peer::join(&server, "Member");
    let mut silent = Peer::connect(&server);
    let mut halfway = Peer::connect(&server);
    let bytes = frames(&[register("Halfway", NOTHING)]);
    halfway.send_bytes(&bytes[..bytes.len() - 1]);
    silent.is_ended(ErrorCode::RegisterTimeout);
    halfway.is_ended(ErrorCode::RegisterTimeout);
    let mut other = Peer::join(&server, "Halfway");
    other.say("still here?");
    member.hears("still here?");
}

/// CHAT-REG-6, CHAT-ERR-3.
#[test]
fn a_second_register_changes_nothing() {
    let server = TestServer::start(&[]);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    for name in ["Alice", "Carol", "Bob", "all", "not a name"] {
        alice.send(&register(name, &[Capability::Presence]));
        alice.is_refused(ErrorCode::AlreadyRegistered);
    }
    alice.say("it is still me");
    assert_eq!(bob.hears("it is still me").sender, "Alice");
    let _carol = Peer::join(&server, "Carol");
}

/// CHAT-REG-3: the server handles frames in order, so a client need not wait for
/// Registered.
#[test]
fn messages_sent_with_register_are_handled_after_it() {
    let server = TestServer::start(&[]);
    let mut bob = Peer::join(&server, "Bob");
    let mut alice = Peer::connect(&server);
    alice.send_bytes(&frames(&[
        register("Alice", &[Capability::Receipts]),
        chat("one"),
        chat("two"),
        leave(),
    ]));
    alice.registered();
    for seq in 1..=2 {
        assert!(matches!(alice.recv(), Received::Receipt(receipt) if receipt.seq == seq));
    }
    alice.is_closed();
    bob.hears("one");
    bob.hears("two");
}

/// CHAT-REG-7, CHAT-GROW-4.
#[test]
fn known_capabilities_are_granted_and_unknown_ones_ignored() {
    let server = TestServer::start(&[]);
    let mut peer = Peer::connect(&server);
    let mut asked = register("Alice", NOTHING);
    let Some(Message::Register(message)) = &mut asked.message else {
        unreachable!("it is a Register");
    };
    message.capabilities = vec![2, 99, 2, 0, -1, i32::MAX];
    peer.send(&asked);
    let granted = peer.registered().capabilities;
    assert_eq!(granted, [i32::from(Capability::Receipts)]);
}

/// CHAT-LIM-1, CHAT-LIM-7.
#[test]
fn the_server_announces_its_configured_limits() {
    const OPTIONS: [&str; 32] = [
        "--frame-bytes-max",
        "8000",
        "--text-bytes-max",
        "1000",
        "--rate-limit",
        "20",
        "--rate-burst",
        "7",
        "--register-deadline-ms",
        "8000",
        "--idle-deadline-ms",
        "9000",
        "--keepalive-interval-ms",
        "4000",
        "--write-deadline-ms",
        "5000",
        "--lag-bytes-max",
        "3000000",
        "--resume-ms",
        "1min",
        "--resend-ids-max",
        "8",
        "--history-page-max",
        "20",
        "--file-bytes-max",
        "7000",
        "--file-chunk-bytes-max",
        "500",
        "--file-orphan-ms",
        "6000",
        "--files-per-chat-max",
        "2",
    ];
    let expected = chat::wire::Limits {
        frame_bytes_max: 8_000,
        text_bytes_max: 1_000,
        name_bytes_max: 32,
        chat_burst: 7,
        chat_interval_ms: 50,
        register_deadline_ms: 8_000,
        keepalive_interval_ms: 4_000,
        idle_deadline_ms: 9_000,
        write_deadline_ms: 5_000,
        lag_bytes_max: 3_000_000,
        // Twenty times the rate of one in 50 ms, and four of the longest frames.
        frames_per_second_max: 400,
        bytes_per_second_max: 640_000,
        // Half the register deadline.
        name_check_deadline_ms: 4_000,
        errors_max: 3_000,
        resume_ms: 60_000,
        resend_ids_max: 8,
        history_page_max: 20,
        covered_interval_ms: 20_000,
        filter_entries_max: 64,
        file_bytes_max: 7_000,
        file_chunk_bytes_max: 500,
        file_orphan_ms: 6_000,
        files_per_chat_max: 2,
        mentions_max: 8,
    };
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().to_str().expect("UTF-8");
    let server = TestServer::start(&[&OPTIONS[..], &["--data", data]].concat());
    let limits = Peer::join_with(&server, "Alice", NOTHING).1.limits;
    assert_eq!(limits.expect("CHAT-LIM-1"), expected);
    // What is not kept can neither be read nor sent: nothing limits it.
    let server = TestServer::start(&OPTIONS);
    let limits = Peer::join_with(&server, "Alice", NOTHING).1.limits;
    let expected = chat::wire::Limits {
        history_page_max: 0,
        file_bytes_max: 0,
        file_chunk_bytes_max: 0,
        file_orphan_ms: 0,
        files_per_chat_max: 0,
        ..expected
    };
    assert_eq!(limits.expect("CHAT-LIM-1"), expected);
}

/// CHAT-REG-9.
#[test]
fn a_full_server_rejects_connections_until_one_closes() {
    let server = TestServer::start(&["--connections-max", "2"]);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    // Many at once; each receives the error.
    let mut many: Vec<_> = (0..200).map(|_| Peer::connect(&server)).collect();
    for peer in &mut many {
        peer.is_ended(ErrorCode::ServerFull);
    }
    alice.say("nobody new");
    bob.hears("nobody new");
    bob.send(&leave());
    bob.is_closed();
    drop(bob);
    // Bob's place is free once the server has seen him close.
    server.wait_for_log("name=Bob why=\"left\"");
    let mut carol = loop {
        let mut peer = Peer::connect(&server);
        peer.send(&register("Carol", NOTHING));
        match peer.recv() {
            Received::Registered(_) => break peer,
            Received::Error(error) => assert_eq!(error.code(), ErrorCode::ServerFull),
            other => panic!("{other:?}"),
        }
    };
    carol.say("here I am");
    alice.hears("here I am");
}
