//! Register: names, the access policy, capabilities and announced limits.

use chat::{
    limits::Limits,
    name::Name,
    password::Password,
    session::{AccessPolicy, Event, Offer, Sessions},
    wire::{self, ClientEnvelope, client_envelope::Message as Sent},
};

use super::script::{ALL, PASSWORD, Script};

#[test]
fn invalid_and_taken_names_are_rejected() {
    let mut script = Script::new(Limits::default());
    let holder = script.member("Alice", &[]);
    for name in [
        "aLICE",
        "all",
        "SERVER",
        "",
        "x y",
        "-x",
        "é",
        &"x".repeat(33),
    ] {
        let client = script.connect("newcomer");
        script.register(&client, name, &ALL);
        script.disconnect(client);
    }
    script.chat(&holder, "still here", 0);
    insta::assert_snapshot!(script.transcript);
}

/// CHAT-ADM-1 to CHAT-ADM-5.
#[test]
fn the_access_policy_checks_the_password_before_the_name() {
    let password = Password::parse(PASSWORD).expect("a password");
    let name = |name| Name::parse(name).expect("a name");
    let access = AccessPolicy {
        password: Some(password),
        names: Some([name("Alice"), name("bob")].into()),
        ..AccessPolicy::default()
    };
    let mut script = Script::with_access(Limits::default(), access);
    let present = script.connect("Alice");
    script.register_with_password(&present, "Alice", PASSWORD);
    let longer = format!("{PASSWORD}!");
    for (name, password) in [
        // Without the password a client learns nothing about names (CHAT-ADM-2).
        ("alice", ""),
        ("alice", "open sesam"),
        ("bob", &longer),
        ("bob", "OPEN SESAME"),
        ("carol", "wrong"),
        ("all", "wrong"),
        ("x y", ""),
        ("all", PASSWORD),
        ("x y", PASSWORD),
        ("carol", PASSWORD),
        ("aLICE", PASSWORD),
        ("BOB", PASSWORD),
    ] {
        let client = script.connect("newcomer");
        script.register_with_password(&client, name, password);
        assert!(!format!("{:?}", script.sessions).contains(PASSWORD));
        script.disconnect(client);
    }
    assert!(!script.transcript.contains(PASSWORD));
    insta::assert_snapshot!(script.transcript);
}

/// CHAT-ADM-3.
#[test]
fn a_password_is_ignored_without_an_access_policy() {
    let mut script = Script::new(Limits::default());
    let client = script.connect("newcomer");
    script.register_with_password(&client, "Alice", &"x".repeat(900));
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn first_messages_other_than_register_are_rejected() {
    let mut script = Script::new(Limits::default());
    for message in [
        Some(Sent::Chat(wire::Chat {
            text: "hello".to_owned(),
            id: 3,
            ..Default::default()
        })),
        Some(Sent::Leave(wire::Leave {})),
        Some(Sent::Ping(wire::Ping { token: 1 })),
        Some(Sent::Pong(wire::Pong { token: 1 })),
        None,
    ] {
        let client = script.connect("newcomer");
        let what = format!("{message:?}");
        script.handle(&client, &what, Event::Message(ClientEnvelope { message }));
        script.disconnect(client);
    }
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn known_capabilities_are_granted_and_others_ignored() {
    let mut script = Script::new(Limits::default());
    let client = script.connect("future");
    // Unspecified, unknown, and twice the same (CHAT-GROW-4).
    script.register_raw(&client, "Future", vec![0, 99, 2, -1, 2, 3], "0 99 2 -1 2 3");
    insta::assert_snapshot!(script.transcript);
}

#[test]
fn registered_announces_the_limits() {
    let limits = Limits {
        chat_interval_ms: None,
        ..Limits::default()
    };
    insta::assert_debug_snapshot!([Limits::default().announced(), limits.announced()]);
}

#[test]
fn sessions_return_their_limits() {
    let limits = Limits {
        connections_max: 7,
        ..Limits::default()
    };
    let sessions = Sessions::new(limits.clone(), AccessPolicy::default(), Offer::default());
    assert_eq!(sessions.limits(), &limits);
}
