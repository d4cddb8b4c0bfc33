//! Capabilities, over sockets: presence, receipts and keepalive, and members without them.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use chat::wire::{Capability, ErrorCode, LeftReason};

use crate::support::{
    NOTHING, Peer, Received, TestServer, chat, chat_with_id, frames, leave, ping, pong,
};

/// CHAT-PRES-1, CHAT-PRES-2, CHAT-PRES-3, CHAT-PRES-5, CHAT-PRES-6.
#[test]
fn presence_reports_joins_leaves_and_reasons() {
    let server = TestServer::start(&[]);
    let (mut bob, _) = Peer::join_with(&server, "Bob", &[Capability::Presence]);
    assert_eq!(bob.sees_members(), (vec!["Bob".to_owned()], false));

    // Joined comes before the first Chat of the newcomer, Left after the last one.
    let mut alice = Peer::join(&server, "Alice");
    alice.send_bytes(&frames(&[chat("hello"), leave()]));
    bob.sees_joined("Alice");
    bob.hears("hello");
    bob.sees_left("Alice", LeftReason::Leave);
    alice.is_closed();

    let alice = Peer::join(&server, "ALICE");
    bob.sees_joined("ALICE");
    drop(alice);
    bob.sees_left("ALICE", LeftReason::ConnectionLost);

    let mut alice = Peer::join(&server, "Alice");
    bob.sees_joined("Alice");
    alice.send_bytes(&[0xff; 10]);
    bob.sees_left("Alice", LeftReason::ProtocolError);

    let mut alice = Peer::join(&server, "Alice");
    bob.sees_joined("Alice");
    alice.send_bytes(&[0xff, 0xff, 0x03]);
    bob.sees_left("Alice", LeftReason::ProtocolError);

    // A connection that never registered is not reported.
    let mut rejected = Peer::connect(&server);
    rejected.say("hello");
    rejected.is_ended(ErrorCode::NotRegistered);
    let (mut carol, _) = Peer::join_with(&server, "Carol", &[Capability::Presence]);
    bob.sees_joined("Carol");
    let (names, more) = carol.sees_members();
    assert_eq!(
        names.into_iter().collect::<BTreeSet<_>>(),
        set(["Bob", "Carol"])
    );
    assert!(!more);
    // Carol receives no Joined about herself: this is the next message.
    bob.say("welcome");
    carol.hears("welcome");
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

/// CHAT-PRES-1, CHAT-PRES-4: pages that are sent while members join and leave still add up
/// to the present members.
#[test]
fn members_in_several_pages_add_up() {
    let server = TestServer::start(&["--frame-bytes-max", "257", "--text-bytes-max", "1"]);
    let name = |index: usize| format!("a-name-of-thirty-two-bytes-{index:05}");
    let mut others: Vec<_> = (0..60)
        .map(|index| Peer::join(&server, &name(index)))
        .collect();
    for round in 0..10 {
        let observer = format!("Observer{round}");
        let (mut bob, _) = Peer::join_with(&server, &observer, &[Capability::Presence]);
        // Members from both ends of the order leave while the pages are sent.
        for index in [round, 59 - round] {
            others[index].send(&leave());
        }
        let mut late = Peer::join(&server, &name(100 + round));
        for index in [round, 59 - round] {
            others[index].rest();
        }
        // The observer has received all pages and presence before this chat.
        others[30].say("!");

        let mut members = BTreeSet::new();
        let mut pages = 0;
        let mut has_more = true;
        let mut is_marked = false;
        while has_more || !is_marked {
            match bob.recv() {
                Received::Members(page) => {
                    assert!(has_more, "after the last");
                    pages += 1;
                    has_more = page.more;
                    members.extend(page.names);
                }
                Received::Joined(joined) => {
                    members.insert(joined.name);
                }
                Received::Left(left) => {
                    members.remove(&left.name);
                }
                Received::Chat(_) => is_marked = true,
                other => panic!("{other:?}"),
            }
        }
        assert!(pages > 1, "the test needs more than one page");
        let mut expected = set([&observer]);
        expected.extend((round + 1..59 - round).map(name));
        expected.insert(name(100 + round));
        assert_eq!(members, expected, "round {round}");
        for peer in [&mut bob, &mut late] {
            peer.send(&leave());
            peer.rest();
        }
    }
}

/// CHAT-RCPT-1, CHAT-RCPT-2, CHAT-RCPT-3.
#[test]
fn each_chat_is_answered_by_a_receipt_or_an_error_in_order() {
    let server = TestServer::start(&["--rate-burst", "3", "--rate-limit", "1"]);
    let (mut alice, _) = Peer::join_with(&server, "Alice", &[Capability::Receipts]);
    let mut bob = Peer::join(&server, "Bob");
    alice.send_bytes(&frames(&[
        chat_with_id("one", 11),
        chat_with_id("", 12),
        chat_with_id("two", 13),
        chat_with_id("no\nline", 14),
        chat("three"),
        chat_with_id("too fast", u64::MAX),
    ]));
    let receipt = |message: Received| match message {
        Received::Receipt(receipt) => receipt,
        other => panic!("not a receipt: {other:?}"),
    };
    for (id, text) in [(11, "one"), (13, "two"), (0, "three")] {
        let receipt = receipt(alice.recv());
        let heard = bob.hears(text);
        assert_eq!((receipt.id, receipt.seq), (id, heard.seq));
        assert_eq!(receipt.time_unix_ms, heard.time_unix_ms);
        match id {
            11 => assert_eq!(alice.is_refused(ErrorCode::TextInvalid).id, 12),
            13 => assert_eq!(alice.is_refused(ErrorCode::TextInvalid).id, 14),
            _ => {}
        }
    }
    assert_eq!(alice.is_refused(ErrorCode::RateLimited).id, u64::MAX);
}

/// CHAT-GROW-7: a client without capabilities receives nothing that it did not ask for.
/// Every test checks that for every message; this one provokes many that it must not
/// receive.
#[test]
fn a_member_without_capabilities_receives_only_the_four_basic_messages() {
    let server = TestServer::start(&["--idle-deadline-ms", "300"]);
    let (mut alice, registered) = Peer::join_with(&server, "Alice", NOTHING);
    assert!(registered.capabilities.is_empty());
    let all = [
        Capability::Presence,
        Capability::Receipts,
        Capability::Keepalive,
    ];
    for index in 0..20 {
        let (mut bob, _) = Peer::join_with(&server, &format!("b{index}"), &all);
        bob.sees_members();
        bob.say("hello");
        assert!(matches!(bob.recv(), Received::Receipt(_)));
        alice.hears("hello");
        bob.send(&leave());
        bob.is_closed();
    }
    // CHAT-GROW-6: nor may Alice use a capability that she did not ask for.
    for message in [ping(1), pong(1)] {
        alice.send(&message);
        alice.is_refused(ErrorCode::NotGranted);
    }
    // CHAT-KEEP-6: and she may be silent without end, longer than a member with keepalive.
    let (mut kept, _) = Peer::join_with(&server, "Kept", &[Capability::Keepalive]);
    while let Received::Ping(_) = kept.recv() {}
    kept.is_closed();
    let mut bob = Peer::join(&server, "Bob");
    bob.say("are you there?");
    alice.hears("are you there?");
    alice.say("yes");
    bob.hears("yes");
}

/// CHAT-KEEP-1 to CHAT-KEEP-5.
#[test]
fn keepalive_pings_silent_members_and_ends_dead_ones() {
    let options = [
        "--idle-deadline-ms",
        "900",
        "--keepalive-interval-ms",
        "300",
    ];
    let server = TestServer::start(&options);
    let (mut watcher, _) = Peer::join_with(&server, "Watcher", &[Capability::Presence]);
    watcher.sees_members();
    let capabilities = [Capability::Keepalive];
    let start = Instant::now();
    let (mut dead, _) = Peer::join_with(&server, "Dead", &capabilities);
    let (mut alive, _) = Peer::join_with(&server, "Alive", &capabilities);
    watcher.sees_joined("Dead");
    watcher.sees_joined("Alive");

    alive.send(&ping(42));
    assert!(matches!(alive.recv(), Received::Pong(pong) if pong.token == 42));
    alive.send(&pong(99)); // answers no Ping, and does no harm
    // Stays a member for three times the deadline by answering.
    while start.elapsed() < Duration::from_millis(2_700) {
        match alive.recv() {
            Received::Ping(ping) => alive.send(&pong(ping.token)),
            other => panic!("{other:?}"),
        }
    }
    // The dead one was pinged too, more than once.
    let mut pings = Vec::new();
    let error = loop {
        match dead.recv() {
            Received::Ping(ping) => pings.push(ping.token),
            Received::Error(error) => break error,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(pings.len(), 2, "{pings:?}");
    assert_ne!(pings[0], pings[1]);
    assert_eq!(error.code(), ErrorCode::IdleTimeout);
    assert!(error.ends_session);
    dead.is_closed();
    watcher.sees_left("Dead", LeftReason::IdleTimeout);
    watcher.say("one left");
    loop {
        match alive.recv() {
            Received::Ping(_) => {}
            Received::Chat(chat) => break assert_eq!(chat.text, "one left"),
            other => panic!("{other:?}"),
        }
    }
}
