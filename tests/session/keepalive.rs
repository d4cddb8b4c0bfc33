//! Keepalive and the register deadline.

use chat::{
    limits::Limits,
    wire::{self, Capability, client_envelope::Message as Sent},
};

use super::script::{ALL, Script, tick};

#[test]
fn the_register_and_keepalive_deadlines() {
    let mut script = Script::new(Limits {
        register_deadline_ms: 1_000,
        keepalive_interval_ms: 300,
        idle_deadline_ms: 900,
        ..Limits::default()
    });
    let newcomer = script.connect("newcomer");
    let silent = script.member("Silent", &[Capability::Keepalive]);
    let alive = script.member("Alive", &[Capability::Keepalive]);
    let plain = script.member("Plain", &[Capability::Presence]);
    let clients = [&newcomer, &silent, &alive, &plain];
    script.pass_ms(299, &clients);
    script.pass_ms(1, &clients);
    script.send(&alive, Sent::Pong(wire::Pong { token: 300 }));
    script.pass_ms(300, &clients);
    script.send(&alive, Sent::Pong(wire::Pong { token: 0 }));
    script.pass_ms(299, &clients);
    script.pass_ms(1, &clients);
    script.pass_ms(99, &clients);
    script.pass_ms(1, &clients);
    script.pass_ms(100_000, &[&plain]);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn a_member_that_is_not_read_from_is_not_silent() {
    let mut script = Script::new(Limits {
        keepalive_interval_ms: 300,
        idle_deadline_ms: 900,
        ..Limits::default()
    });
    let unread = script.member("Unread", &[Capability::Keepalive]);
    for _ in 0..5 {
        script.elapsed_ms += 1_000;
        let not_read = tick(false, true);
        script.handle(&unread, "tick, not read from", not_read);
    }
    script.pass_ms(300, &[&unread]);
    script.pass_ms(600, &[&unread]);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn a_tick_before_every_deadline_changes_nothing() {
    let mut script = Script::new(Limits::default());
    // Deadlines count from the connection, not from the server's start.
    script.elapsed_ms = 10_000_000;
    let newcomer = script.connect("newcomer");
    let member = script.member("Member", &ALL);
    let before = script.transcript.clone();
    for client in [&newcomer, &member] {
        let mut effects = Vec::new();
        let event = tick(true, true);
        let now = script.now();
        script
            .sessions
            .handle(&mut script.room, now, &client.id, event, &mut effects);
        assert_eq!(effects, []);
    }
    assert_eq!(script.transcript, before);
}
