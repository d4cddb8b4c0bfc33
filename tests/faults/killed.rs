//! Either side ends without a word, as after `kill -9`.

use std::{
    io::{Read, Write},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use chat::wire::{Capability, LeftReason};

use crate::support::{PATIENCE, Peer, TestServer, signal};

/// How often is looked whether a process has ended, in milliseconds.
const LOOK_MS: u64 = 10;

fn client(server: &TestServer, name: &str) -> Child {
    Command::new(env!("CARGO_BIN_EXE_chat-client"))
        .args([&format!("chat://{}", server.address), name])
        .env("XDG_DATA_HOME", env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the client starts")
}

/// CHAT-LEAVE-5, CHAT-NAME-5
#[test]
fn a_client_that_is_killed_has_left() {
    let server = TestServer::start(&[]);
    let (mut witness, _) = Peer::join_with(&server, "Witness", &[Capability::Presence]);
    witness.sees_members();
    let mut client = client(&server, "Victim");
    witness.sees_joined("Victim");
    let mut input = client.stdin.take().expect("it is piped");
    input.write_all(b"my last words\n").expect("it reads");
    witness.hears("my last words");
    signal(client.id(), "KILL");
    witness.sees_left("Victim", LeftReason::ConnectionLost);
    client.wait().expect("it is our child");
    // The name is free, in any case.
    Peer::join(&server, "VICTIM");
    witness.sees_joined("VICTIM");
}

#[test]
fn a_client_whose_server_is_killed_says_so() {
    let server = TestServer::start(&[]);
    let (mut witness, _) = Peer::join_with(&server, "Witness", &[Capability::Presence]);
    witness.sees_members();
    let mut client = client(&server, "Survivor");
    // Kept open: the client is not to end because its input does.
    let _input = client.stdin.take();
    witness.sees_joined("Survivor");
    server.signal("KILL");
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = client.try_wait().expect("it is our child") {
            break status;
        }
        assert!(Instant::now() < deadline, "the client should have ended");
        thread::sleep(Duration::from_millis(LOOK_MS));
    };
    let mut errors = String::new();
    let mut stderr = client.stderr.take().expect("it is piped");
    stderr.read_to_string(&mut errors).expect("it is text");
    assert_eq!(status.code(), Some(5), "{errors}");
    assert!(errors.contains("connection"), "{errors}");
    assert_eq!(witness.recv_or_end(), None);
}
