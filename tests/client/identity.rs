//! Keys: whose a name is, what others see of a key, and what a user is told when it has
//! changed (CHAT-ID).

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use chat::client::Key;
use chat::identity::SenderId;
use chat::wire::{Challenge, Chat, ErrorCode, Registered};

use crate::fake::{FromClient, Peer, Server, ToClient, limits};
use crate::program::{Outcome, Program};
use crate::screen::{Screen, Setup};
use crate::support::TestServer;

const KEY_FILE: &str = "chat-client/key";
const NAMES_FILE: &str = "chat-client/known_names";

/// Says one line, with the key in a folder, and leaves.
fn say(server: &str, name: &str, folder: &Path, line: &str) -> Outcome {
    say_with(&["--send", line, server, name], folder)
}

fn say_with(arguments: &[&str], folder: &Path) -> Outcome {
    let folder = folder.to_str().expect("UTF-8");
    Program::start_with(arguments, &[("XDG_DATA_HOME", folder)]).outcome()
}

fn key_in(folder: &Path) -> Key {
    let text = fs::read_to_string(folder.join(KEY_FILE)).expect("a key");
    Key::parse(&text).expect("a key")
}

fn mode(path: &Path) -> u32 {
    let metadata = fs::metadata(path).expect("it is there");
    metadata.permissions().mode() & 0o777
}

/// CHAT-ID-8, CHAT-ID-13, CHAT-ID-14
#[test]
fn a_name_belongs_to_the_key_that_was_made_on_first_use() {
    let server = TestServer::start(&["--names", "owned"]);
    let address = format!("chat://{}", server.address);
    let [alice, eve] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let said = say(&address, "Alice", alice.path(), "hello");
    assert_eq!((said.code, &*said.errors), (Some(0), ""));
    assert_eq!(mode(&alice.path().join(KEY_FILE)), 0o600);
    // Others cannot have the name, with or without a key.
    let refused = say(&address, "aLICE", eve.path(), "I am Alice");
    assert_eq!(refused.code, Some(4), "{refused:?}");
    assert!(
        refused
            .errors
            .contains("the name aLICE belongs to somebody else")
    );
    let arguments = ["--no-key", "--send", "me too", &address, "Alice"];
    assert_eq!(say_with(&arguments, alice.path()).code, Some(4));
    let said = say(&address, "Alice", alice.path(), "again");
    assert_eq!((said.code, &*said.errors), (Some(0), ""));
    // A key of another place is as good.
    let path = alice.path().join(KEY_FILE);
    let path = path.to_str().expect("UTF-8");
    let arguments = ["--key", path, "--send", "from elsewhere", &address, "Alice"];
    assert_eq!(say_with(&arguments, eve.path()).code, Some(0));
}

#[test]
fn an_operator_gives_a_name_to_the_key_that_the_client_shows() {
    let [alice, eve] = [(); 2].map(|()| tempfile::tempdir().expect("a folder"));
    let shown = say_with(&["--show-key"], alice.path());
    let key = key_in(alice.path()).public().to_string();
    assert_eq!(
        (shown.code, &*shown.output),
        (Some(0), &*format!("{key}\n"))
    );
    let owners = alice.path().join("owners");
    fs::write(&owners, format!("# us\nAlice {key}\n")).expect("ours");
    let server = TestServer::start(&["--owners", owners.to_str().expect("UTF-8")]);
    let address = format!("chat://{}", server.address);
    assert_eq!(say(&address, "alice", eve.path(), "hello").code, Some(4));
    assert_eq!(say(&address, "alice", alice.path(), "hello").code, Some(0));
    // Other names are open.
    assert_eq!(say(&address, "eve", eve.path(), "hello").code, Some(0));
}

#[test]
fn a_key_that_cannot_be_used_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let say = || say("chat://127.0.0.1:1", "Alice", folder.path(), "hello");
    say();
    let path = folder.path().join(KEY_FILE);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).expect("ours");
    let refused = say();
    assert_eq!(refused.code, Some(2));
    assert!(refused.errors.contains("chmod 600"), "{refused:?}");
    fs::rename(&path, folder.path().join("moved")).expect("ours");
    std::os::unix::fs::symlink(folder.path().join("moved"), &path).expect("ours");
    let refused = say();
    assert_eq!(refused.code, Some(2));
    assert!(refused.errors.contains("symbolic link"), "{refused:?}");
}

/// CHAT-ID-17
#[test]
fn a_changed_key_is_told_as_ssh_tells_it() {
    let server = TestServer::start(&[]);
    let address = format!("chat://{}", server.address);
    let [bob, alice, eve] = [(); 3].map(|()| tempfile::tempdir().expect("a folder"));
    let setup = Setup {
        data_folder: Some(bob.path()),
        ..Setup::default()
    };
    let mut screen = Screen::start_in(&[&address, "Bob"], &setup);
    screen.has("you are Bob");
    let said = |folder: &Path, line: &str| {
        assert_eq!(say(&address, "Alice", folder, line).code, Some(0));
    };
    said(alice.path(), "one");
    let first = key_in(alice.path()).sender_id();
    screen.has(&format!("Alice·{}: one", first.short()));
    said(eve.path(), "two");
    let second = key_in(eve.path()).sender_id();
    screen.has(&format!("THE KEY OF Alice HAS CHANGED from {first} to"));
    screen.has(&format!("Alice·{}(!): two", second.short()));
    // Told once.
    said(eve.path(), "three");
    screen.has(&format!("Alice·{}(!): three", second.short()));
    assert_eq!(screen.text().matches("HAS CHANGED").count(), 1);
    screen.type_keys("/trust alice\r");
    screen.has(&format!("from now on alice has the key {second}"));
    said(eve.path(), "four");
    screen.has(&format!("Alice·{}: four", second.short()));
    // It is remembered.
    screen.type_keys("/quit\r");
    screen.ends_with("code 0, terminal as before");
    assert_eq!(mode(&bob.path().join(NAMES_FILE)), 0o600);
    let screen = Screen::start_in(&[&address, "Bob"], &setup);
    screen.has("you are Bob");
    said(eve.path(), "five");
    screen.has(&format!("Alice·{}: five", second.short()));
    said(alice.path(), "six");
    screen.has("THE KEY OF Alice HAS CHANGED");
    screen.has(&format!("Alice·{}(!): six", first.short()));
}

/// Registers the next connection, which proves its key.
fn welcome(server: &Server) -> Peer {
    let mut peer = server.accept();
    let register = peer.register();
    let challenge = Challenge {
        nonce: vec![5; 32],
        epoch: "e".to_owned(),
    };
    peer.send(ToClient::Challenge(challenge));
    assert!(matches!(peer.receive(), Some(FromClient::Proof(_))));
    peer.send(ToClient::Registered(Registered {
        name: register.name,
        epoch: "e".to_owned(),
        limits: Some(limits()),
        ..Registered::default()
    }));
    peer
}

/// In a pipe it is told on the error output, and the output stays what it was.
#[test]
fn a_changed_key_is_told_to_a_script() {
    let server = Server::new();
    let folder = tempfile::tempdir().expect("a folder");
    let variables = [("XDG_DATA_HOME", folder.path().to_str().expect("UTF-8"))];
    let program = Program::start_with(&["--listen", &server.address(), "log"], &variables);
    let mut peer = welcome(&server);
    let id = |byte: u8| vec![byte; 16];
    for (seq, sender_id) in [(1, id(1)), (2, id(2)), (3, Vec::new()), (4, id(1))] {
        peer.send(ToClient::Chat(Chat {
            text: seq.to_string(),
            sender: "Bob".to_owned(),
            seq,
            time_unix_ms: 1,
            sender_id,
            ..Chat::default()
        }));
    }
    peer.closing("bye");
    let outcome = program.outcome();
    assert_eq!(outcome.output, "@Bob: 1\n@Bob: 2\n@Bob: 3\n@Bob: 4\n");
    let [first, second] = [1, 2].map(|byte| SenderId::from_bytes(&id(byte)).expect("16 bytes"));
    let changed = format!("THE KEY OF Bob HAS CHANGED from {first} to {second}");
    assert!(outcome.errors.contains(&changed), "{}", outcome.errors);
    let lost = format!("Bob HAS NO KEY and had {first} before");
    assert!(outcome.errors.contains(&lost), "{}", outcome.errors);
    assert_eq!(outcome.errors.matches("somebody else may").count(), 2);
}

/// What a server says with the code matters to no one: the client does not try again
/// (CHAT-ID-15), and asks for no proof twice.
#[test]
fn a_server_that_asks_again_gets_one_proof() {
    let server = Server::new();
    let folder = tempfile::tempdir().expect("a folder");
    let variables = [("XDG_DATA_HOME", folder.path().to_str().expect("UTF-8"))];
    let arguments = ["--reconnect", &server.address(), "Alice"];
    let program = Program::start_with(&arguments, &variables);
    let mut peer = server.accept();
    peer.register();
    for nonce in [vec![5; 32], vec![6; 32], vec![7; 3]] {
        let epoch = "e".to_owned();
        peer.send(ToClient::Challenge(Challenge { nonce, epoch }));
    }
    assert!(matches!(peer.receive(), Some(FromClient::Proof(_))));
    peer.end(ErrorCode::ProofWrong.into(), "no");
    assert_eq!(peer.receive(), None);
    let outcome = program.outcome();
    assert_eq!(outcome.code, Some(4), "{outcome:?}");
    assert!(outcome.errors.contains("--no-key"), "{outcome:?}");
}
