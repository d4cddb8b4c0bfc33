//! Files of several servers: each has those of its own members, and fetches the others over a
//! real NATS server.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use chat::wire::{
    self, Capability, ErrorCode, FileData, GetFile, PutFile, client_envelope::Message as Sent,
    server_envelope::Message,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::{
    cluster::Nats,
    support::{self, Peer, TestServer, envelope},
};

const ALL: &[Capability] = &[
    Capability::Files,
    Capability::History,
    Capability::Direct,
    Capability::Receipts,
];

const PIECE_BYTES: usize = 16 * 1024;

/// A file that takes several blocks between nodes, and is no whole number of pieces.
const FILE_BYTES: usize = 700_001;

fn folder() -> TempDir {
    tempfile::tempdir().expect("there is space")
}

fn node(nats: &Nats, name: &str, dir: &TempDir, options: &[&str]) -> TestServer {
    let data = dir.path().to_str().expect("a path that is text");
    let own = ["--data", data, "--rate-limit", "off"];
    nats.node(name, &[&own, options].concat())
}

/// A node in the place of one that has ended.
fn again(nats: &Nats, name: &str, dir: &TempDir, before: &TestServer) -> TestServer {
    node(nats, name, dir, &["--listen", &before.address.to_string()])
}

fn join(node: &TestServer, name: &str) -> Peer {
    Peer::join_with(node, name, ALL).0
}

/// Bytes that are not the same in any two blocks.
fn content(seed: usize) -> Vec<u8> {
    (0..FILE_BYTES)
        .map(|it| (it / 251 + it + seed) as u8)
        .collect()
}

/// The next message that is about files.
fn next(peer: &mut Peer) -> Message {
    loop {
        match peer.recv() {
            Message::Chat(_) | Message::Receipt(_) | Message::DirectState(_) => {}
            message => return message,
        }
    }
}

/// Uploads a file; how it is named in a message.
fn put(peer: &mut Peer, content: &[u8]) -> wire::File {
    let sha256 = Sha256::digest(content).to_vec();
    let size = content.len() as u64;
    peer.send(&envelope(Sent::PutFile(PutFile {
        sha256: sha256.clone(),
        size,
    })));
    assert!(matches!(next(peer), Message::FileState(state) if state.have == 0));
    let mut offset = 0;
    for data in content.chunks(PIECE_BYTES) {
        peer.send(&envelope(Sent::FileData(FileData {
            sha256: sha256.clone(),
            offset,
            data: data.to_vec(),
        })));
        offset += data.len() as u64;
        assert!(matches!(next(peer), Message::FileState(state) if state.have == offset));
    }
    wire::File {
        sha256,
        size,
        name: "a.bin".to_owned(),
    }
}

/// Fetches a file from an offset on.
fn get(peer: &mut Peer, file: &wire::File, offset: u64) -> Result<Vec<u8>, wire::Error> {
    peer.send(&envelope(Sent::GetFile(GetFile {
        sha256: file.sha256.clone(),
        offset,
        length: 0,
    })));
    let mut bytes = Vec::new();
    while offset + (bytes.len() as u64) < file.size {
        match next(peer) {
            Message::FileData(piece) => {
                assert_eq!(piece.offset, offset + bytes.len() as u64, "CHAT-FILE-10");
                bytes.extend(piece.data);
            }
            Message::Error(error) => return Err(error),
            message => panic!("no piece but {message:?}"),
        }
    }
    Ok(bytes)
}

/// It has the rest of the file, which holds this. Too much to print where it has not.
fn fetches(peer: &mut Peer, file: &wire::File, offset: usize, content: &[u8]) {
    let bytes = get(peer, file, offset as u64).expect("it may fetch it");
    assert!(bytes == content[offset..], "CHAT-FILE-10");
}

fn is_unknown(refused: Result<Vec<u8>, wire::Error>, file: &wire::File) {
    is_refused(refused, ErrorCode::FileUnknown, file);
}

fn is_refused(refused: Result<Vec<u8>, wire::Error>, code: ErrorCode, file: &wire::File) {
    let refused = refused.map(|bytes| bytes.len());
    let error = refused.expect_err("no such file");
    assert_eq!((error.code(), &error.sha256), (code, &file.sha256));
    assert!(!error.ends_session);
}

/// Names files in a chat, and waits for its receipt.
fn name(peer: &mut Peer, text: &str, file: &wire::File) -> u64 {
    peer.send(&envelope(Sent::Chat(wire::Chat {
        text: text.to_owned(),
        id: 1,
        files: vec![file.clone()],
        ..Default::default()
    })));
    loop {
        match peer.recv() {
            Message::Receipt(receipt) => return receipt.seq,
            Message::Error(error) => panic!("{error:?}"),
            _ => {}
        }
    }
}

fn hears(peer: &mut Peer, text: &str) {
    while peer.chat().text != text {}
}

fn files_here(dir: &TempDir) -> usize {
    let whole = dir.path().join("files").join("whole");
    fs::read_dir(whole).expect("it is there").count()
}

#[test]
fn a_member_fetches_what_another_node_has() {
    let nats = Nats::start();
    let (one, two) = (folder(), folder());
    let first = node(&nats, "first", &one, &[]);
    let second = node(&nats, "second", &two, &[]);
    let (mut alice, mut bob) = (join(&first, "Alice"), join(&second, "Bob"));
    let content = content(0);
    let file = put(&mut alice, &content);
    is_unknown(get(&mut bob, &file, 0), &file); // CHAT-FILE-4
    name(&mut alice, "a.bin", &file);
    hears(&mut bob, "a.bin");
    fetches(&mut bob, &file, 0, &content);
    fetches(&mut bob, &file, 300_000, &content);
    assert_eq!(files_here(&two), 0, "it stays where it is");
    // CHAT-FILE-1: whoever may fetch it may name it, there and to others.
    name(&mut bob, "again", &file);
    hears(&mut alice, "again");
    // The disk of the node knows which files its chats name.
    drop((bob, second));
    let second = node(&nats, "second", &two, &[]);
    let mut bob = join(&second, "Bob");
    fetches(&mut bob, &file, 0, &content);
    // The same file comes here: then it is had from here.
    put(&mut bob, &content);
    assert_eq!(files_here(&two), 1);
    drop((alice, first));
    let mut carol = join(&second, "Carol");
    fetches(&mut carol, &file, 0, &content);
}

#[test]
fn a_file_whose_node_is_gone_comes_back_with_it() {
    let nats = Nats::start();
    let (one, two) = (folder(), folder());
    let mut first = node(&nats, "first", &one, &[]);
    let second = node(&nats, "second", &two, &[]);
    let (mut alice, mut bob) = (join(&first, "Alice"), join(&second, "Bob"));
    let content = content(1);
    let file = put(&mut alice, &content);
    name(&mut alice, "a.bin", &file);
    hears(&mut bob, "a.bin");
    fetches(&mut bob, &file, 0, &content);
    first.signal("KILL");
    first.wait();
    // CHAT-CLUS-2
    is_refused(get(&mut bob, &file, 0), ErrorCode::NotReachable, &file);
    // The talk goes on meanwhile, and so does the download later.
    bob.say("still here");
    let first = again(&nats, "first", &one, &first);
    fetches(&mut bob, &file, 100_000, &content);
    drop(first);
}

/// `chat-client --save-to` waits for a node that is away, and says so.
#[test]
fn a_client_saves_a_file_when_its_node_is_back() {
    let nats = Nats::start();
    let (one, two, saved) = (folder(), folder(), folder());
    let mut first = node(&nats, "first", &one, &[]);
    let second = node(&nats, "second", &two, &[]);
    let (mut alice, mut carol) = (join(&first, "Alice"), join(&second, "Carol"));
    let content = content(5);
    let file = put(&mut alice, &content);
    name(&mut alice, "a.bin", &file);
    hears(&mut carol, "a.bin");
    first.signal("KILL");
    first.wait();
    let address = second.address.to_string();
    let folder = saved.path().to_str().expect("a path that is text");
    let mut bob = Command::new(env!("CARGO_BIN_EXE_chat-client"))
        .args([&address, "Bob", "--listen", "--save-to", folder])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it is built");
    let mut errors = BufReader::new(bob.stderr.take().expect("a pipe")).lines();
    let mut told = |text: &str| {
        let line = errors.find(|line| line.as_ref().is_ok_and(|line| line.contains(text)));
        assert!(line.is_some(), "{text}");
    };
    second.wait_for_log("name=Bob");
    name(&mut carol, "this", &file);
    told("waits to save a.bin: another server of the room has it and cannot be reached now");
    let first = again(&nats, "first", &one, &first);
    told("saved a.bin as ");
    let read = fs::read(saved.path().join("a.bin")).expect("it is saved");
    assert!(read == content);
    bob.kill().expect("it runs");
    bob.wait().expect("it has ended");
    drop(first);
}

#[test]
fn a_direct_gives_a_file_to_a_member_of_another_node_alone() {
    let nats = Nats::start();
    let (one, two) = (folder(), folder());
    let first = node(&nats, "first", &one, &[]);
    let second = node(&nats, "second", &two, &[]);
    let (mut alice, mut bob) = (join(&first, "Alice"), join(&second, "Bob"));
    let mut carol = join(&second, "Carol");
    let content = content(2);
    let file = put(&mut alice, &content);
    alice.send(&envelope(Sent::Direct(wire::Direct {
        peer: "Bob".to_owned(),
        text: "for you".to_owned(),
        id: 1,
        files: vec![file.clone()],
        ..Default::default()
    })));
    assert!(matches!(next(&mut bob), Message::Direct(direct) if direct.files == [file.clone()]));
    fetches(&mut bob, &file, 0, &content);
    is_unknown(get(&mut carol, &file, 0), &file);
}

/// CHAT-MOD-8: with the text of a chat, every node forgets what it named.
#[test]
fn a_file_of_a_removed_chat_is_nobodys_on_any_node() {
    let nats = Nats::start();
    let (one, two) = (folder(), folder());
    let control = folder();
    let socket = control.path().join("socket");
    let socket = socket.to_str().expect("a path that is text");
    let first = node(&nats, "first", &one, &["--control", socket]);
    let second = node(&nats, "second", &two, &[]);
    let (mut alice, mut bob) = (join(&first, "Alice"), join(&second, "Bob"));
    let content = content(3);
    let file = put(&mut alice, &content);
    let seq = name(&mut alice, "a.bin", &file);
    hears(&mut bob, "a.bin");
    assert!(get(&mut bob, &file, FILE_BYTES as u64 - 1).is_ok());
    let remove = ["ctl", "--control", socket, "remove", &seq.to_string()];
    let removed = support::output(support::command(&remove));
    assert!(removed.status.success(), "{removed:?}");
    // A chat behind it: then the second node has carried it out.
    alice.say("behind");
    hears(&mut bob, "behind");
    is_unknown(get(&mut bob, &file, 0), &file);
}

/// Numbers begin anew with another epoch: a chat that has the number of one that named a file
/// gives it to nobody.
#[test]
fn in_another_epoch_no_chat_names_the_files_of_the_last_one() {
    let mut nats = Nats::start();
    let (one, two) = (folder(), folder());
    let first = node(&nats, "first", &one, &[]);
    let second = node(&nats, "second", &two, &[]);
    let (mut alice, mut bob) = (join(&first, "Alice"), join(&second, "Bob"));
    let content = content(4);
    let file = put(&mut alice, &content);
    for _ in 0..5 {
        name(&mut alice, "a.bin", &file);
    }
    hears(&mut bob, "a.bin");
    assert!(get(&mut bob, &file, FILE_BYTES as u64 - 1).is_ok());
    nats.restart();
    let back = |node: &TestServer, name: &str| {
        node.wait_for_log("cut off the cluster");
        // It is back when it lets somebody in.
        loop {
            let mut peer = Peer::connect(node);
            peer.send(&support::register(name, ALL));
            match peer.recv_or_end() {
                Some(Message::Registered(_)) => return peer,
                _ => thread::sleep(Duration::from_millis(50)),
            }
        }
    };
    let (mut alice, mut bob) = (back(&first, "Alice"), back(&second, "Bob"));
    is_unknown(get(&mut bob, &file, 0), &file);
    let mut carol = join(&first, "Carol");
    is_unknown(get(&mut carol, &file, 0), &file);
    fetches(&mut alice, &file, 0, &content);
    name(&mut alice, "once more", &file);
    hears(&mut bob, "once more");
    fetches(&mut bob, &file, 0, &content);
}

/// A node whose copy is damaged says nothing, and does not hide the good one of another.
#[test]
fn a_damaged_copy_hides_no_good_one() {
    let nats = Nats::start();
    let (one, two, three) = (folder(), folder(), folder());
    let first = node(&nats, "first", &one, &[]);
    let second = node(&nats, "second", &two, &[]);
    let third = node(&nats, "third", &three, &[]);
    let (mut alice, mut bob) = (join(&first, "Alice"), join(&second, "Bob"));
    let mut carol = join(&third, "Carol");
    for seed in 5..10 {
        let content = content(seed);
        let file = put(&mut alice, &content);
        put(&mut carol, &content);
        name(&mut alice, &format!("file {seed}"), &file);
        hears(&mut bob, &format!("file {seed}"));
        let hash: String = file.sha256.iter().map(|it| format!("{it:02x}")).collect();
        let copy = one.path().join("files").join("whole").join(hash);
        fs::write(copy, &content[..1_000]).expect("it is there");
        fetches(&mut bob, &file, 0, &content);
        // The node with the damage has it from the other one too.
        fetches(&mut alice, &file, 0, &content);
    }
}
