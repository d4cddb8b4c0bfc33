//! Limits: the chat rate, the inbound rate, the error budget, and connections.

use chat::{
    limits::Limits,
    session::{AddressLimit, Event},
    wire::{self, Capability, ClientEnvelope, client_envelope::Message as Sent},
};

use super::script::{Client, Script, long_deadlines, tick};

#[test]
fn the_chat_rate_limits_each_member_alone() {
    let mut script = Script::new(Limits {
        chat_burst: 2,
        chat_interval_ms: Some(100),
        ..Limits::default()
    });
    let alice = script.member("Alice", &[Capability::Receipts]);
    let bob = script.member("Bob", &[]);
    for id in 1..=3 {
        script.chat(&alice, "quick", id);
    }
    // A rejected text takes no token, and each member has its own bucket.
    script.chat(&alice, "", 4);
    script.chat(&bob, "mine", 1);
    script.pass_ms(100, &[]);
    script.chat(&alice, "later", 5);
    script.chat(&alice, "too soon", 6);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn a_session_ends_when_its_error_budget_is_used_up() {
    let mut script = Script::new(Limits {
        errors_max: Some(5),
        chat_burst: 1,
        chat_interval_ms: Some(1_000),
        ..Limits::default()
    });
    let alice = script.member("Alice", &[Capability::Receipts]);
    let bob = script.member("Bob", &[]);
    script.note("one non-fatal error of each kind".to_owned());
    script.chat(&alice, "fine", 1);
    script.chat(&alice, "too fast", 2);
    script.chat(&alice, "", 3);
    script.send(&alice, Sent::Ping(wire::Ping { token: 1 }));
    script.register(&alice, "Alice", &[]);
    let unknown = || Event::Message(ClientEnvelope { message: None });
    script.handle(&alice, "unknown", unknown());
    script.note("two errors are forgotten in 200 ms".to_owned());
    script.pass_ms(200, &[]);
    script.handle(&alice, "unknown", unknown());
    script.handle(&alice, "unknown", unknown());
    script.note("the errors of another member do not count".to_owned());
    script.handle(&bob, "unknown", unknown());
    script.chat(&alice, "one too many", 4);
    script.chat(&bob, "bye", 0);
    insta::assert_snapshot!(script.transcript);
}

/// CHAT-LIM-9.
#[test]
fn a_member_above_the_inbound_rate_is_throttled() {
    let mut script = Script::new(Limits {
        frames_per_second_max: Some(20),
        bytes_per_second_max: Some(200_000),
        ..long_deadlines()
    });
    let newcomer = script.connect("newcomer");
    let alice = script.member("Alice", &[]);
    let bob = script.member("Bob", &[]);
    let ended = script.member("Ended", &[]);
    script.send(&ended, Sent::Leave(wire::Leave {}));
    let mut charge_inbound = |client: &Client, elapsed_ms: u64, frames: usize, bytes: usize| {
        script.elapsed_ms = elapsed_ms;
        let is_throttled = script.sessions.charge_inbound(
            &script.room,
            script.now(),
            &client.id,
            frames,
            (bytes, 0),
        );
        assert_eq!(is_throttled, script.sessions.is_throttled(&client.id));
        is_throttled
    };
    // Nothing is charged before Register and after the end.
    assert!(!charge_inbound(&newcomer, 0, 1_000, 10_000_000));
    assert!(!charge_inbound(&ended, 0, 1_000, 10_000_000));
    assert!(!charge_inbound(&alice, 0, 200, 1));
    assert!(charge_inbound(&alice, 0, 1, 1));
    assert!(!charge_inbound(&bob, 0, 1, 2_000_000));
    assert!(charge_inbound(&bob, 0, 0, 1_000));
    // Each member has its own bucket, and may be read from again at a tick.
    script.pass_ms(4, &[&newcomer, &alice, &bob]);
    assert!(script.sessions.is_throttled(&bob.id));
    script.pass_ms(1, &[&newcomer, &alice, &bob]);
    assert!(!script.sessions.is_throttled(&bob.id));
    script.pass_ms(44, &[&newcomer, &alice, &bob]);
    assert!(script.sessions.is_throttled(&alice.id));
    script.chat(&alice, "not lost", 0);
    // A tick before that changes nothing.
    script.handle(&alice, "tick", tick(true, true));
    assert!(script.sessions.is_throttled(&alice.id));
    script.pass_ms(1, &[&newcomer, &alice, &bob]);
    assert!(!script.sessions.is_throttled(&alice.id));
    script.pass_ms(1, &[&newcomer, &alice, &bob]);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn a_full_server_rejects_connections() {
    let mut script = Script::new(Limits {
        connections_max: 1,
        ..Limits::default()
    });
    let only = script.connect("only");
    script.connect_rejected();
    script.disconnect(only);
    script.connect("next");
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn a_connection_rejected_for_its_address_takes_no_place() {
    let mut script = Script::new(Limits {
        connections_max: 1,
        ..Limits::default()
    });
    for limit in [
        AddressLimit::Concurrent,
        AddressLimit::Rate {
            retry_after_ms: 500,
        },
    ] {
        let client = script.connect("newcomer");
        script.reject(client, limit);
    }
    // connections_max is 1.
    script.connect("next");
    insta::assert_snapshot!(script.transcript);
}
