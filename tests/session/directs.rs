//! Directs: who receives them, what their sender learns, and how many may wait (CHAT-DM).

use chat::{
    limits::Limits,
    wire::{self, Capability, client_envelope::Message as Sent},
};

use super::script::{Client, Script};

const DIRECT: [Capability; 2] = [Capability::Receipts, Capability::Direct];

/// Limits under which a script may say as much as it likes.
fn no_rate() -> Limits {
    Limits {
        chat_interval_ms: None,
        ..Limits::default()
    }
}

fn direct(script: &mut Script, client: &Client, peer: &str, text: &str, id: u64) {
    let direct = wire::Direct {
        peer: peer.to_owned(),
        text: text.to_owned(),
        id,
        // CHAT-DM-4: only the server sets these.
        seq: 99,
        time_unix_ms: 1,
        files: Vec::new(),
    };
    script.send(client, Sent::Direct(direct));
}

fn ack(script: &mut Script, client: &Client, seq: u64) {
    script.send(client, Sent::DirectAck(wire::DirectAck { seq }));
}

/// How often a line of the transcript holds this.
fn count(script: &Script, what: &str) -> usize {
    let lines = script.transcript.lines();
    lines.filter(|line| line.contains(what)).count()
}

#[test]
fn a_direct_reaches_one_member_and_its_sender_learns_what_became_of_it() {
    let mut script = Script::new(Limits::default());
    let alice = script.member("Alice", &DIRECT);
    let bob = script.member("Bob", &DIRECT);
    let plain = script.member("Plain", &[Capability::Receipts]);
    let without_receipts = script.member("Half", &[Capability::Direct]);
    script.elapsed_ms += 5;
    direct(&mut script, &alice, "bOB", "hello", 1);
    direct(&mut script, &alice, "Bob", "again", 2);
    ack(&mut script, &bob, 3);
    ack(&mut script, &bob, 1);
    ack(&mut script, &bob, 1);
    direct(&mut script, &alice, "Nobody", "hello", 3);
    direct(&mut script, &alice, "Plain", "hello", 4);
    direct(&mut script, &alice, "Half", "hello", 5);
    direct(&mut script, &alice, "Bob", "a\nb", 6);
    direct(&mut script, &plain, "Bob", "not granted", 7);
    ack(&mut script, &without_receipts, 1);
    // To oneself, as to anybody.
    direct(&mut script, &alice, "Alice", "note", 8);
    ack(&mut script, &alice, 1);
    script.disconnect(bob);
    script.chat(&alice, "not counted", 9);
    script.disconnect(alice);
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn the_state_of_a_direct_goes_to_the_session_that_sent_it_alone() {
    let mut script = Script::new(no_rate());
    let alice = script.member("Alice", &DIRECT);
    let bob = script.member("Bob", &DIRECT);
    direct(&mut script, &alice, "Bob", "hello", 1);
    script.disconnect(alice);
    // Takes the place of the connection that has gone.
    let other = script.member("Alice", &DIRECT);
    assert_eq!(other.id.index(), 0);
    ack(&mut script, &bob, 1);
    direct(&mut script, &other, "Bob", "hello", 1);
    assert_eq!(count(&script, "delivered"), 0, "{}", script.transcript);
    ack(&mut script, &bob, 2);
    assert_eq!(count(&script, "direct 1 delivered true"), 1);
}

/// CHAT-DM-12
#[test]
fn a_recipient_that_acknowledges_nothing_is_soon_not_reachable() {
    for text in ["x".to_owned(), "x".repeat(4_096)] {
        let mut script = Script::new(no_rate());
        let alice = script.member("Alice", &DIRECT);
        let bob = script.member("Bob", &DIRECT);
        let mut accepted = 0;
        while count(&script, "NOT_REACHABLE") == 0 {
            accepted += 1;
            assert!(accepted <= 65, "the server holds as much as somebody sends");
            direct(&mut script, &alice, "Bob", &text, accepted);
        }
        assert!(accepted > 7, "a burst fits");
        // Whatever is acknowledged makes room.
        ack(&mut script, &bob, accepted - 1);
        assert_eq!(
            count(&script, "delivered true"),
            usize::try_from(accepted - 1).expect("few")
        );
        direct(&mut script, &alice, "Bob", &text, accepted + 1);
        assert_eq!(count(&script, "NOT_REACHABLE"), 1, "{accepted}");
    }
}

/// CHAT-DM-12
#[test]
fn a_sender_of_many_unacknowledged_directs_is_told_to_wait() {
    let mut script = Script::new(no_rate());
    let alice = script.member("Alice", &DIRECT);
    let names = ["B0", "B1", "B2", "B3", "B4", "B5", "B6", "B7"];
    let others: Vec<Client> = names
        .into_iter()
        .map(|name| script.member(name, &DIRECT))
        .collect();
    let mut sent = 0;
    'all: for name in names {
        for _ in 0..60 {
            sent += 1;
            direct(&mut script, &alice, name, "hello", sent);
            if count(&script, "RATE_LIMITED") > 0 {
                break 'all;
            }
        }
    }
    assert_eq!(sent, 257, "{}", script.transcript);
    ack(&mut script, &others[0], 1);
    direct(&mut script, &alice, "B7", "hello", 300);
    assert_eq!(count(&script, "RATE_LIMITED"), 1);
}

#[test]
fn a_closing_server_tells_no_states() {
    let mut script = Script::new(no_rate());
    let alice = script.member("Alice", &DIRECT);
    let bob = script.member("Bob", &DIRECT);
    direct(&mut script, &alice, "Bob", "hello", 1);
    script.close();
    script.disconnect(bob);
    script.disconnect(alice);
    assert_eq!(count(&script, "delivered"), 0, "CHAT-CLOSE-2");
}

/// CHAT-DM-6
#[test]
fn a_member_that_ignores_the_sender_is_not_reachable() {
    let mut script = Script::new(no_rate());
    let alice = script.member("Alice", &DIRECT);
    let carol = script.member("Carol", &DIRECT);
    let bob = script.member(
        "Bob",
        &[Capability::Receipts, Capability::Direct, Capability::Follow],
    );
    direct(&mut script, &alice, "Bob", "hello", 1);
    assert_eq!(count(&script, "NOT_REACHABLE"), 0, "{}", script.transcript);
    let filter = wire::Filter {
        ignore: vec!["aLICE".to_owned()],
        ..Default::default()
    };
    let follow = wire::Follow {
        id: 1,
        filter: Some(filter),
    };
    script.send(&bob, Sent::Follow(follow));
    direct(&mut script, &alice, "Bob", "and now?", 2);
    assert_eq!(count(&script, "NOT_REACHABLE"), 1, "{}", script.transcript);
    direct(&mut script, &carol, "Bob", "hello", 1);
    assert_eq!(count(&script, "NOT_REACHABLE"), 1, "{}", script.transcript);
}
