//! Name reclaiming: the probe of a holder, and the newcomers that wait for it.

use chat::{
    limits::Limits,
    session::Event,
    wire::{self, Capability, client_envelope::Message as Sent},
};

use super::script::{Client, Script, long_deadlines, tick};

/// A member called Alice, and a newcomer that registers the same name.
fn contested(limits: Limits) -> (Script, Client, Client) {
    let mut script = Script::new(limits);
    let holder = script.member("Alice", &[Capability::Keepalive]);
    let newcomer = script.connect("newcomer");
    script.register(&newcomer, "alice", &[]);
    (script, holder, newcomer)
}

#[test]
fn a_holder_that_answers_keeps_its_name() {
    let mut script = Script::new(long_deadlines());
    let alice = script.member("Alice", &[Capability::Keepalive]);
    let plain = script.member("Plain", &[]);
    script.note("a holder without keepalive is not probed".to_owned());
    let newcomer = script.connect("newcomer");
    script.register(&newcomer, "PLAIN", &[]);

    script.note("a holder with keepalive is probed once for all newcomers".to_owned());
    let waiting = ["w1", "w2", "w3", "w4", "w5"].map(|label| script.connect(label));
    for client in &waiting {
        script.register(client, "ALICE", &[]);
    }
    let [w1, w2, w3, w4, _] = &waiting;
    let clients = [&alice, w1, w2, w3, w4];
    script.pass_ms(100, &clients);
    script.pass_ms(900, &clients);
    script.note("a newcomer that leaves makes room for another".to_owned());
    script.handle(w2, "is lost", Event::ConnectionLost);
    let late = script.connect("late");
    script.register(&late, "alice", &[]);
    script.note("the others still wait".to_owned());
    script.pass_ms(99, &[&alice, w1, w3, w4, &late]);
    script.send(&alice, Sent::Pong(wire::Pong { token: 100 }));
    script.pass_ms(100, &[&alice, w1, w3, w4, &late]);

    script.note("the holder is not probed again at once".to_owned());
    let again = script.connect("again");
    script.register(&again, "Alice", &[]);
    script.elapsed_ms += 3_800;
    let soon = script.connect("soon");
    script.register(&soon, "Alice", &[]);
    script.note("it is probed again one deadline after the first probe".to_owned());
    script.elapsed_ms += 1;
    let later = script.connect("later");
    script.register(&later, "Alice", &[]);
    script.pass_ms(100, &[&alice, &later]);
    script.chat(&alice, "still here", 0);
    script.chat(&plain, "me too", 0);
    insta::assert_snapshot!(script.transcript);
}

/// CHAT-NAME-11: a part of a frame is a sign of life, for the probe alone.
#[test]
fn a_part_of_a_frame_answers_a_name_probe() {
    let (mut script, alice, newcomer) = contested(long_deadlines());
    script.pass_ms(100, &[&alice, &newcomer]);
    script.pass_ms(100, &[&alice, &newcomer]);
    script.elapsed_ms += 4_000;
    let now = script.now();
    script
        .sessions
        .charge_inbound(&script.room, now, &alice.id, 0, (1, 0));
    script.pass_ms(1_000, &[&alice, &newcomer]);
    script.chat(&alice, "still here", 0);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn a_holder_that_does_not_answer_loses_its_name() {
    let mut script = Script::new(long_deadlines());
    let gone = script.member("Alice", &[Capability::Keepalive]);
    let witness = script.member("Witness", &[Capability::Presence]);
    let first = script.connect("first");
    let second = script.connect("second");
    script.register(&first, "alice", &[Capability::Receipts]);
    script.register(&second, "ALICE", &[]);
    let clients = [&gone, &witness, &first, &second];
    script.pass_ms(100, &clients);
    script.note("the Ping was sent".to_owned());
    script.pass_ms(100, &clients);
    script.pass_ms(4_999, &clients);
    script.pass_ms(1, &clients);
    script.pass_ms(100, &clients);
    script.chat(&first, "mine now", 1);
    insta::assert_snapshot!(script.transcript);
}

/// CHAT-NAME-8: the Ping cannot be sent, however long it waits.
#[test]
fn a_holder_that_takes_no_bytes_keeps_its_name() {
    let (mut script, holder, newcomer) = contested(long_deadlines());
    script.pass_ms(100, &[&holder, &newcomer]);
    script.elapsed_ms += 100;
    script.handle(&holder, "tick, replies not sent", tick(true, false));
    script.pass_ms(6_000, &[&holder, &newcomer]);
    script.chat(&holder, "still here", 0);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn a_name_probe_does_not_delay_keepalive_pings() {
    let (mut script, holder, newcomer) = contested(Limits {
        keepalive_interval_ms: 1_000,
        ..long_deadlines()
    });
    script.pass_ms(100, &[&holder, &newcomer]);
    script.note("the probe is open".to_owned());
    script.pass_ms(1_000, &[&holder, &newcomer]);
    script.send(&holder, Sent::Pong(wire::Pong { token: 100 }));
    script.pass_ms(100, &[&holder, &newcomer]);
    script.note("the probe was answered long ago".to_owned());
    script.pass_ms(10_000, &[&holder]);
    script.chat(&holder, "still here", 0);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn every_end_of_a_register_that_waits() {
    let mut script = Script::new(Limits {
        register_deadline_ms: 2_000,
        ..long_deadlines()
    });
    let holder = script.member("Alice", &[Capability::Keepalive]);
    script.note("it times out at the register deadline".to_owned());
    let late = script.connect("late");
    script.pass_ms(1_000, &[&late]);
    script.register(&late, "alice", &[]);
    script.pass_ms(999, &[&holder, &late]);
    script.pass_ms(1, &[&holder, &late]);
    script.note("it joins when the holder leaves".to_owned());
    let lucky = script.connect("lucky");
    script.register(&lucky, "alice", &[Capability::Keepalive]);
    script.pass_ms(100, &[&holder, &lucky]);
    script.send(&holder, Sent::Leave(wire::Leave {}));
    script.pass_ms(100, &[&lucky]);
    script.note("it is not read from, and must not send".to_owned());
    let hasty = script.connect("hasty");
    script.register(&hasty, "alice", &[]);
    assert!(script.sessions.is_throttled(&hasty.id));
    script.chat(&hasty, "hello?", 0);
    script.note("it receives ServerClosing when the server closes".to_owned());
    let last = script.connect("last");
    script.register(&last, "alice", &[]);
    script.close();
    script.pass_ms(100, &[&lucky, &last]);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn a_holder_that_is_not_read_from_keeps_its_name() {
    let (mut script, holder, newcomer) = contested(long_deadlines());
    let not_read = tick(false, true);
    script.handle(&holder, "tick, not read from", not_read);
    script.pass_ms(6_000, &[&holder, &newcomer]);
    script.chat(&holder, "still here", 0);
    insta::assert_snapshot!(script.transcript);
}
