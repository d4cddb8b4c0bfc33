//! Messages: a conversation, non-fatal and fatal errors, and their size.

use chat::{
    frame::FrameError,
    limits::Limits,
    room::Room,
    session::{AccessPolicy, ConnectionId, Effect, Event, Offer, Sessions, Time},
    wire::{
        self, Capability, ClientEnvelope, LeftReason, client_envelope::Message as Sent,
        server_envelope::Message,
    },
};

use super::script::{ALL, Script};

#[test]
fn a_conversation() {
    let mut script = Script::new(Limits::default());
    let alice = script.member("Alice", &[]);
    let bob = script.member("Bob", &ALL);
    script.elapsed_ms += 5;
    script.chat(&alice, "hello", 7);
    script.chat(&bob, "hi", 8);
    script.chat(&bob, "there", 0);
    // CHAT-CHAT-4, CHAT-CHAT-5: a client sets fields that only the server sets.
    script.send(
        &alice,
        Sent::Chat(wire::Chat {
            text: "forged".to_owned(),
            sender: "Bob".to_owned(),
            seq: 99,
            time_unix_ms: 1,
            // CHAT-ID-12
            sender_id: vec![7; 16],
            ..wire::Chat::default()
        }),
    );
    script.send(&alice, Sent::Leave(wire::Leave {}));
    script.chat(&alice, "after the leave", 0);
    let again = script.member("ALICE", &[Capability::Presence]);
    script.handle(
        &again,
        "end of stream",
        Event::EndOfStream {
            inside_frame: false,
        },
    );
    script.disconnect(again);
    script.disconnect(bob);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn non_fatal_errors_leave_the_session_open() {
    let mut script = Script::new(Limits {
        text_bytes_max: 10,
        ..Limits::default()
    });
    let plain = script.member("Plain", &[]);
    let full = script.member("Full", &ALL);
    script.register(&plain, "Other", &ALL);
    script.chat(&plain, "", 1);
    script.chat(&plain, "a\nb", 2);
    script.chat(&plain, "a\u{85}b", 3);
    script.chat(&plain, "12345678901", 4);
    script.chat(&full, "12345678901", 5);
    script.send(&plain, Sent::Ping(wire::Ping { token: 5 }));
    script.send(&plain, Sent::Pong(wire::Pong { token: 5 }));
    script.send(&full, Sent::Ping(wire::Ping { token: 5 }));
    script.send(&full, Sent::Pong(wire::Pong { token: 5 }));
    script.handle(
        &plain,
        "an empty envelope",
        Event::Message(ClientEnvelope { message: None }),
    );
    script.chat(&plain, "1234567890", 0);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn fatal_events_end_the_session() {
    let too_long = FrameError::TooLong {
        length_bytes: u64::MAX,
        length_bytes_max: 8_192,
    };
    let mut script = Script::new(Limits::default());
    let watcher = script.member("Watcher", &[Capability::Presence]);
    for (what, event) in [
        ("bad length", Event::BadFrame(FrameError::Length)),
        ("frame too long", Event::BadFrame(too_long)),
        ("bad envelope", Event::BadEnvelope),
        (
            "end inside a frame",
            Event::EndOfStream { inside_frame: true },
        ),
        (
            "end of stream",
            Event::EndOfStream {
                inside_frame: false,
            },
        ),
        ("connection lost", Event::ConnectionLost),
        ("write timed out", Event::WriteTimedOut),
        ("evicted", Event::Evicted),
    ] {
        let client = script.member("Member", &[]);
        script.handle(&client, what, event);
        script.handle(&client, "connection lost again", Event::ConnectionLost);
        script.disconnect(client);
    }
    for (what, event) in [
        ("bad length", Event::BadFrame(FrameError::Length)),
        (
            "end inside a frame",
            Event::EndOfStream { inside_frame: true },
        ),
        ("connection lost", Event::ConnectionLost),
        ("write timed out", Event::WriteTimedOut),
        ("evicted", Event::Evicted),
    ] {
        let client = script.connect("newcomer");
        script.handle(&client, what, event);
        script.disconnect(client);
    }
    script.chat(&watcher, "still here", 0);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn a_slow_consumer_leaves_with_its_reason() {
    // CHAT-PRES-5; the snapshots show the other reasons.
    let mut script = Script::new(Limits::default());
    let client = script.member("Member", &[]);
    script.handle(&client, "write timed out", Event::WriteTimedOut);
    assert!(
        script
            .transcript
            .contains(LeftReason::SlowConsumer.as_str_name())
    );
    assert!(!script.transcript.contains("UNSPECIFIED"));
}

#[test]
fn every_error_fits_into_the_smallest_frame() {
    use prost::Message as _;
    // The longest sentences are those with the largest numbers.
    let limits = Limits {
        text_bytes_max: 1,
        frame_bytes_max: 257,
        chat_burst: 1,
        chat_interval_ms: Some(3_600_000),
        ..Limits::default()
    };
    let mut sessions = Sessions::new(limits, AccessPolicy::default(), Offer::default());
    let mut room = Room::new("e".repeat(64), &Limits::default());
    let now = Time {
        elapsed_ms: 0,
        unix_ms: i64::MAX,
        earliest_arrival_ms: 0,
    };
    let mut effects = Vec::new();
    let long_name = "n".repeat(32);
    let register = |name: &str| {
        Event::Message(ClientEnvelope {
            message: Some(Sent::Register(wire::Register {
                name: name.to_owned(),
                capabilities: vec![1, 2, 3],
                ..Default::default()
            })),
        })
    };
    let chat = |text: &str| {
        Event::Message(ClientEnvelope {
            message: Some(Sent::Chat(wire::Chat {
                text: text.to_owned(),
                id: u64::MAX,
                ..Default::default()
            })),
        })
    };
    let member = sessions.connect(now).expect("there is room");
    let mut handle =
        |id: &ConnectionId, event| sessions.handle(&mut room, now, id, event, &mut effects);
    handle(&member, register(&long_name));
    for event in [
        register("again"),
        chat(""),
        chat("\u{2029}"),
        chat("12"),
        chat("x"),
        chat("x"),
        Event::Message(ClientEnvelope { message: None }),
        Event::BadFrame(FrameError::TooLong {
            length_bytes: u64::MAX,
            length_bytes_max: u32::MAX,
        }),
    ] {
        handle(&member, event);
    }
    for name in ["", "all", "x y", &long_name] {
        let newcomer = sessions.connect(now).expect("there is room");
        sessions.handle(&mut room, now, &newcomer, register(name), &mut effects);
        let again = sessions.connect(now).expect("there is room");
        sessions.handle(&mut room, now, &again, register(&long_name), &mut effects);
        let twice = sessions.connect(now).expect("there is room");
        sessions.handle(&mut room, now, &twice, register(&long_name), &mut effects);
    }
    let mut errors = 0;
    for effect in &effects {
        if let Effect::Reply(envelope) = effect {
            let bytes_max = match &envelope.message {
                // CHAT-FRAME-12: Registered has a bound of its own.
                Some(Message::Registered(_)) => 1_024,
                _ => 257,
            };
            assert!(envelope.encoded_len() <= bytes_max, "{envelope:?}");
            errors += usize::from(matches!(envelope.message, Some(Message::Error(_))));
        }
    }
    assert!(errors >= 12, "{errors}");
}
