//! Chats, over sockets: valid texts, the chat rate, and the order of delivery.

use std::{thread, time::Duration};

use chat::wire::{self, Capability, ErrorCode, client_envelope::Message};

use crate::support::{Peer, Received, TestServer, chat, chat_with_id, envelope, frames};

/// CHAT-CHAT-6, CHAT-CHAT-7, CHAT-CHAT-8, CHAT-ERR-4.
#[test]
fn rejected_texts_are_neither_delivered_nor_numbered() {
    let server = TestServer::start(&[]);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    let too_long = "x".repeat(4_097);
    let too_long_in_bytes = "é".repeat(2_049);
    let refused = [
        ("", ErrorCode::TextInvalid),
        ("\n", ErrorCode::TextInvalid),
        ("two\nlines", ErrorCode::TextInvalid),
        ("a\rforged line", ErrorCode::TextInvalid),
        ("a\0b", ErrorCode::TextInvalid),
        ("\u{1b}[31mred", ErrorCode::TextInvalid),
        ("a\tb", ErrorCode::TextInvalid),
        ("\u{7f}", ErrorCode::TextInvalid),
        ("\u{85}", ErrorCode::TextInvalid),
        ("\u{9b}31m", ErrorCode::TextInvalid),
        ("a\u{2028}b", ErrorCode::TextInvalid),
        ("a\u{2029}b", ErrorCode::TextInvalid),
        (&too_long, ErrorCode::TextTooLong),
        (&too_long_in_bytes, ErrorCode::TextTooLong),
    ];
    for (index, (text, code)) in refused.into_iter().enumerate() {
        let id = index as u64 + 1_000;
        alice.send(&chat_with_id(text, id));
        assert_eq!(alice.is_refused(code).id, id, "{text:?}");
    }
    alice.say("fine");
    assert_eq!(bob.hears("fine").seq, 1);
}

/// CHAT-CHAT-3, CHAT-CHAT-10.
#[test]
fn texts_arrive_byte_for_byte() {
    let server = TestServer::start(&[]);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    let longest = "x".repeat(4_096);
    let longest_wide = "😀".repeat(1_024);
    let texts = [
        "x",
        " ",
        "  spaces at both ends  ",
        "\u{a0}",
        "e\u{301} is not é",
        "\u{202e}backwards\u{202c}",
        "\u{feff}\u{200b}\u{fffd}\u{10ffff}",
        "👩‍👩‍👧 \u{1f1e9}\u{1f1ea}",
        "@Alice: /quit %s \\n ${HOME}",
        &longest,
        &longest_wide,
    ];
    for text in texts {
        alice.say(text);
        assert_eq!(bob.chat().text.as_bytes(), text.as_bytes());
    }
}

/// CHAT-CHAT-4, CHAT-CHAT-5, CHAT-CHAT-9.
#[test]
fn a_client_cannot_forge_what_the_server_sets() {
    let server = TestServer::start(&[]);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    alice.send(&envelope(Message::Chat(wire::Chat {
        text: "hello".to_owned(),
        sender: "Bob".to_owned(),
        seq: 77,
        time_unix_ms: -5,
        id: 9,
        sender_id: vec![7; 16],
        ..wire::Chat::default()
    })));
    let got = bob.hears("hello");
    assert_eq!((got.sender.as_str(), got.seq, got.id), ("Alice", 1, 0));
    assert!(got.sender_id.is_empty(), "CHAT-ID-12");
    assert!(got.time_unix_ms > 0);
}

/// CHAT-ORD-4, CHAT-ORD-5, CHAT-ORD-6: the chats that a member receives begin behind the
/// number in its Registered.
#[test]
fn a_newcomer_receives_later_chats_and_no_earlier_ones() {
    let server = TestServer::start(&["--rate-limit", "off"]);
    let (mut alice, _) = Peer::join_with(&server, "Alice", &[Capability::Receipts]);
    for round in 0..50 {
        let chats: Vec<_> = (0..20).map(|_| chat("hello")).collect();
        alice.send_bytes(&frames(&chats));
        let (mut newcomer, registered) = Peer::join_with(&server, &format!("n{round}"), &[]);
        for seq in 1..=20 {
            let Received::Receipt(receipt) = alice.recv() else {
                panic!("receipts only");
            };
            assert_eq!(receipt.seq, round * 20 + seq);
        }
        for seq in registered.seq + 1..=(round + 1) * 20 {
            assert_eq!(newcomer.chat().seq, seq);
        }
        newcomer.half_close();
        newcomer.is_closed();
    }
}

/// CHAT-LIM-2, CHAT-LIM-3, CHAT-ERR-4: the server accepts a hundred pasted lines, and an
/// error says how long to wait.
#[test]
fn a_burst_is_accepted_and_then_the_rate_counts() {
    let server = TestServer::start(&["--rate-limit", "4"]);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    let chats: Vec<_> = (1..=110).map(|id| chat_with_id("pasted", id)).collect();
    alice.send_bytes(&frames(&chats));
    // On a slow machine Alice may earn a token or two more while the server reads, but
    // not for the last chat.
    let mut errors = Vec::new();
    while errors.last().is_none_or(|last: &wire::Error| last.id < 110) {
        let error = alice.is_refused(ErrorCode::RateLimited);
        assert!((101..=110).contains(&error.id), "{error:?}");
        assert!((1..=250).contains(&error.retry_after_ms), "{error:?}");
        errors.push(error);
    }
    let wait_ms = errors.last().map_or(0, |last| last.retry_after_ms);
    // The wait that the server asked for.
    thread::sleep(Duration::from_millis(wait_ms.into()));
    alice.send(&chat_with_id("after the wait", 110));
    for _ in 0..110 - errors.len() {
        bob.hears("pasted");
    }
    bob.hears("after the wait");
}

#[test]
fn without_a_rate_limit_no_chat_is_rejected() {
    let server = TestServer::start(&["--rate-limit", "off"]);
    let (mut alice, registered) = Peer::join_with(&server, "Alice", &[]);
    let limits = registered.limits.expect("CHAT-LIM-1");
    assert_eq!((limits.chat_burst, limits.chat_interval_ms), (0, 0));
    let mut bob = Peer::join(&server, "Bob");
    let chats: Vec<_> = (0..5_000).map(|_| chat("fast")).collect();
    alice.send_bytes(&frames(&chats));
    for seq in 1..=5_000 {
        assert_eq!(bob.hears("fast").seq, seq);
    }
    bob.say("no error came to you");
    alice.hears("no error came to you");
}
