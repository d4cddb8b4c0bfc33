//! Identity: challenges, proofs, and names that keys own (CHAT-ID).

use std::collections::BTreeMap;

use chat::{
    client::Key,
    identity::{NONCE_BYTES, Nonce},
    limits::Limits,
    name::Name,
    session::{AccessPolicy, Offer, Sessions},
    wire::{self, ClientEnvelope, client_envelope::Message as Sent},
};

use super::script::{Client, Script, long_deadlines};

const NONCE: Nonce = [9; NONCE_BYTES];

fn key(secret: u8) -> Key {
    Key::from_secret([secret; 32]).expect("a key")
}

fn owned() -> AccessPolicy {
    AccessPolicy {
        first_proof_owns: true,
        ..AccessPolicy::default()
    }
}

/// A script of a server whose every nonce is the same.
fn script(access: AccessPolicy) -> Script {
    let offer = Offer {
        fresh_nonce: || Some(NONCE),
        ..Offer::default()
    };
    Script {
        sessions: Sessions::new(long_deadlines(), access, offer),
        ..Script::new(Limits::default())
    }
}

fn register_bytes(script: &mut Script, client: &Client, name: &str, key: &[u8], which: &str) {
    let register = wire::Register {
        name: name.to_owned(),
        key: key.to_vec(),
        ..Default::default()
    };
    let message = Some(Sent::Register(register));
    let what = format!("register {name:?} with {which}");
    let event = chat::session::Event::Message(ClientEnvelope { message });
    script.handle(client, &what, event);
}

fn register(script: &mut Script, client: &Client, name: &str, secret: u8) {
    let public = key(secret).public();
    register_bytes(
        script,
        client,
        name,
        public.as_bytes(),
        &format!("key {secret}"),
    );
}

fn signature(secret: u8, name: &str) -> Vec<u8> {
    let challenge = wire::Challenge {
        nonce: NONCE.to_vec(),
        epoch: "epoch-1".to_owned(),
    };
    let proof = key(secret).prove(&challenge, name);
    proof.expect("a good nonce").signature
}

fn prove(script: &mut Script, client: &Client, signature: Vec<u8>, which: &str) {
    let message = Some(Sent::Proof(wire::Proof { signature }));
    let event = chat::session::Event::Message(ClientEnvelope { message });
    script.handle(client, &format!("proof by {which}"), event);
}

/// A member that has proved its key.
fn member(script: &mut Script, label: &'static str, name: &str, secret: u8) -> Client {
    let client = script.connect(label);
    register(script, &client, name, secret);
    prove(
        script,
        &client,
        signature(secret, name),
        &format!("key {secret}"),
    );
    client
}

/// CHAT-ID-2, CHAT-ID-3, CHAT-ID-12
#[test]
fn a_client_with_a_key_proves_it_and_is_known_by_it() {
    let mut script = script(AccessPolicy::default());
    let alice = member(&mut script, "alice", "Alice", 1);
    let bob = script.member("Bob", &[]);
    script.chat(&alice, "with a key", 0);
    script.chat(&bob, "without", 0);
    // Open names belong to nobody.
    script.disconnect(alice);
    script.member("Alice", &[]);
    insta::assert_snapshot!(script.transcript);
}

/// CHAT-ID-4 to CHAT-ID-7
#[test]
fn what_is_no_proof_is_refused() {
    let mut script = script(owned());
    for length in [1, 31, 33, 900] {
        let client = script.connect("newcomer");
        let which = format!("{length} bytes");
        register_bytes(&mut script, &client, "Alice", &vec![7; length], &which);
        script.disconnect(client);
    }
    let right = signature(1, "Alice");
    let flipped = |index: usize| {
        let mut bytes = right.clone();
        bytes[index] ^= 1;
        bytes
    };
    for (which, bytes) in [
        ("nothing", Vec::new()),
        ("63 bytes", right[..63].to_vec()),
        ("65 bytes", [&right[..], &[0]].concat()),
        ("900 bytes", vec![7; 900]),
        ("the first bit flipped", flipped(0)),
        ("the last byte flipped", flipped(63)),
        ("another key", signature(2, "Alice")),
        ("the key for another name", signature(1, "alice")),
    ] {
        let client = script.connect("newcomer");
        register(&mut script, &client, "Alice", 1);
        prove(&mut script, &client, bytes, which);
        script.disconnect(client);
    }
    // A key that is no point of the curve.
    let client = script.connect("newcomer");
    register_bytes(&mut script, &client, "Alice", &[0xff; 32], "no point");
    prove(&mut script, &client, right.clone(), "key 1");
    script.disconnect(client);
    // A proof that nobody has asked for.
    let client = script.connect("newcomer");
    prove(&mut script, &client, right.clone(), "key 1");
    script.disconnect(client);
    let alice = member(&mut script, "alice", "Alice", 1);
    prove(&mut script, &alice, right, "key 1 again");
    script.chat(&alice, "still here", 0);
    insta::assert_snapshot!(script.transcript);
}

/// CHAT-ID-6
#[test]
fn nothing_but_a_proof_follows_a_challenge() {
    let mut script = script(owned());
    let chat = Sent::Chat(wire::Chat {
        text: "early".to_owned(),
        ..Default::default()
    });
    let register_again = Sent::Register(wire::Register {
        name: "Alice".to_owned(),
        ..Default::default()
    });
    for message in [chat, register_again, Sent::Leave(wire::Leave {})] {
        let client = script.connect("newcomer");
        register(&mut script, &client, "Alice", 1);
        script.send(&client, message);
        script.disconnect(client);
    }
    let client = script.connect("newcomer");
    register(&mut script, &client, "Alice", 1);
    let empty = chat::session::Event::Message(ClientEnvelope { message: None });
    script.handle(&client, "an empty envelope", empty);
    script.disconnect(client);
    // It is silent, and it is late.
    let client = script.connect("newcomer");
    register(&mut script, &client, "Alice", 1);
    script.pass_ms(19_999, &[&client]);
    script.pass_ms(1, &[&client]);
    insta::assert_snapshot!(script.transcript);
}

/// CHAT-ID-8 to CHAT-ID-10
#[test]
fn a_name_is_its_owners() {
    let mut script = script(owned());
    let ghost = member(&mut script, "ghost", "Alice", 1);
    let stranger = script.connect("stranger");
    script.register(&stranger, "alice", &[]);
    script.disconnect(stranger);
    let stranger = script.connect("stranger");
    register(&mut script, &stranger, "ALICE", 2);
    script.disconnect(stranger);
    // Its key ends its own ghost, and nothing before the proof does.
    let owner = script.connect("owner");
    register(&mut script, &owner, "aLICE", 1);
    script.chat(&ghost, "still here", 0);
    prove(&mut script, &owner, signature(1, "aLICE"), "key 1");
    script.chat(&ghost, "too late", 0);
    script.chat(&owner, "back", 0);
    script.disconnect(ghost);
    script.disconnect(owner);
    let stranger = script.connect("stranger");
    script.register(&stranger, "alice", &[]);
    script.disconnect(stranger);
    insta::assert_snapshot!(script.transcript);
}

/// CHAT-ID-8: two that ask at once for a name that nobody owns.
#[test]
fn the_first_proof_owns_and_not_the_first_register() {
    let mut script = script(owned());
    let first = script.connect("first");
    register(&mut script, &first, "Alice", 1);
    let second = member(&mut script, "second", "Alice", 2);
    prove(&mut script, &first, signature(1, "Alice"), "key 1");
    script.disconnect(first);
    script.disconnect(second);
    insta::assert_snapshot!(script.transcript);
}

/// CHAT-ID-10
#[test]
fn an_operator_gives_names_to_keys() {
    let alice = Name::parse("Alice").expect("a name");
    let mut script = script(AccessPolicy {
        owners: BTreeMap::from([(alice, key(1).public())]),
        ..AccessPolicy::default()
    });
    for (name, secret) in [("alice", 2), ("Bob", 2), ("ALICE", 1)] {
        let client = script.connect("newcomer");
        register(&mut script, &client, name, secret);
        prove(
            &mut script,
            &client,
            signature(secret, name),
            &format!("key {secret}"),
        );
        script.disconnect(client);
    }
    let client = script.connect("newcomer");
    script.register(&client, "alice", &[]);
    script.disconnect(client);
    insta::assert_snapshot!(script.transcript);
}

/// CHAT-ID-1: without randomness there is no Challenge, and no name is lost.
#[test]
fn keys_are_ignored_without_a_nonce() {
    let mut script = Script::new(Limits::default());
    let client = script.connect("newcomer");
    register_bytes(&mut script, &client, "Alice", &[7; 5], "5 bytes");
    script.chat(&client, "hello", 0);
    insta::assert_snapshot!(script.transcript);
}
