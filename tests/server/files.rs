//! Files beside the talk.

use std::{fs, thread, time::Duration};

use chat::{
    client::Key,
    wire::{
        self, Capability, FileData, GetFile, PutFile, client_envelope::Message as Sent,
        server_envelope::Message,
    },
};
use sha2::{Digest, Sha256};

use crate::support::{Peer, TestServer, envelope, frames, ping};

const FILES: &[Capability] = &[Capability::Files];

/// How many pieces the file has: more than the buffers between server and client hold.
const PIECES: u64 = 2_000;
const PIECE_BYTES: u64 = 16 * 1024;

/// How many chats are said while it is sent.
const CHATS: u64 = 200;

/// CHAT-FILE-11: chats do not wait behind a file. A reader that takes the file slowly has
/// each chat as soon as the piece under way has gone.
#[test]
fn no_more_than_one_piece_goes_between_two_chats() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("room");
    let data = data.to_str().expect("UTF-8");
    let server = TestServer::start(&["--data", data, "--rate-limit", "off"]);
    let (mut alice, _) = Peer::join_with(&server, "Alice", FILES);
    let piece = vec![7; PIECE_BYTES as usize];
    let mut hasher = Sha256::new();
    (0..PIECES).for_each(|_| hasher.update(&piece));
    let sha256 = hasher.finalize().to_vec();
    let size = PIECES * PIECE_BYTES;
    alice.send(&envelope(Sent::PutFile(PutFile {
        sha256: sha256.clone(),
        size,
    })));
    assert!(matches!(alice.recv(), Message::FileState(state) if state.have == 0));
    for number in 0..PIECES {
        let offset = number * PIECE_BYTES;
        alice.send(&envelope(Sent::FileData(FileData {
            sha256: sha256.clone(),
            offset,
            data: piece.clone(),
        })));
        let have = offset + PIECE_BYTES;
        assert!(matches!(alice.recv(), Message::FileState(state) if state.have == have));
    }
    let mut bob = Peer::join(&server, "Bob");
    alice.send(&envelope(Sent::GetFile(GetFile {
        sha256,
        ..GetFile::default()
    })));
    // It does not read: the buffers fill, and the rest of the file waits.
    thread::sleep(Duration::from_millis(300));
    for number in 0..CHATS {
        bob.say(&format!("chat {number}"));
    }
    thread::sleep(Duration::from_millis(300));
    let (mut chats, mut pieces, mut next) = (0, 0, 0);
    while next < size {
        match alice.recv() {
            Message::FileData(data) => {
                assert_eq!(data.offset, next, "CHAT-FILE-10");
                next += data.data.len() as u64;
                pieces += 1;
                let is_between = chats > 0 && chats < CHATS;
                assert!(!is_between || pieces <= 1, "{pieces} behind chat {chats}");
            }
            Message::Chat(wire::Chat { text, .. }) => {
                assert_eq!(text, format!("chat {chats}"));
                chats += 1;
                pieces = 0;
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(chats, CHATS, "they came while the file did");
}

/// A piece of a file of sevens.
fn piece(sha256: &[u8], offset: u64, bytes: u64) -> wire::ClientEnvelope {
    envelope(Sent::FileData(FileData {
        sha256: sha256.to_vec(),
        offset,
        data: vec![7; bytes as usize],
    }))
}

/// CHAT-FILE-2: pieces are written while the next ones arrive, and what is sent behind them
/// is answered behind them: a piece that does not follow, a Ping, the end of the stream.
#[test]
fn what_is_sent_without_waiting_is_answered_in_its_turn() {
    const PIECES: u64 = 40;
    const BYTES: u64 = 1_000;
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("room");
    let server = TestServer::start(&["--data", data.to_str().expect("UTF-8")]);
    let asked = [Capability::Files, Capability::Keepalive];
    let (mut alice, _) = Peer::join_with(&server, "Alice", &asked);
    let size = PIECES * BYTES;
    let sha256 = Sha256::digest(vec![7; size as usize]).to_vec();
    let put = envelope(Sent::PutFile(PutFile {
        sha256: sha256.clone(),
        size,
    }));
    let half = PIECES / 2;
    let pieces = |range: std::ops::Range<u64>| {
        let pieces = range.map(|number| piece(&sha256, number * BYTES, BYTES));
        pieces.collect::<Vec<_>>()
    };
    let wrong = piece(&sha256, 1, BYTES);
    let mut sent = vec![put.clone()];
    sent.extend(pieces(0..half));
    sent.extend([wrong.clone(), ping(1), put]);
    sent.extend(pieces(half..PIECES));
    sent.extend([wrong, ping(2)]);
    alice.send_bytes(&frames(&sent));
    alice.half_close();
    let expect_states = |alice: &mut Peer, numbers: std::ops::RangeInclusive<u64>| {
        for number in numbers {
            let answer = alice.recv();
            let have = number * BYTES;
            assert!(
                matches!(&answer, Message::FileState(state) if state.have == have),
                "{answer:?}, not {have}"
            );
        }
    };
    let expect_refused = |alice: &mut Peer, code: wire::ErrorCode| {
        let answer = alice.recv();
        let is_refused = matches!(&answer, Message::Error(error) if error.code() == code);
        assert!(is_refused, "{answer:?}, not {code:?}");
    };
    let expect_pong = |alice: &mut Peer, token: u64| {
        let answer = alice.recv();
        let is_pong = matches!(&answer, Message::Pong(pong) if pong.token == token);
        assert!(is_pong, "{answer:?}, not the Pong {token}");
    };
    expect_states(&mut alice, 0..=half);
    expect_refused(&mut alice, wire::ErrorCode::FileMismatch);
    expect_pong(&mut alice, 1);
    expect_states(&mut alice, half..=PIECES);
    expect_refused(&mut alice, wire::ErrorCode::FileUnknown);
    expect_pong(&mut alice, 2);
    alice.is_closed();
}

/// Joins with a key, by which others know the member.
pub fn join_with_key(server: &TestServer, name: &str, secret: u8) -> Peer {
    let key = Key::from_secret([secret; 32]).expect("a key");
    let mut peer = Peer::connect(server);
    // There is no direct message without receipts.
    let asked = [Capability::Files, Capability::Direct, Capability::Receipts];
    peer.send(&envelope(Sent::Register(wire::Register {
        name: name.to_owned(),
        capabilities: asked.into_iter().map(i32::from).collect(),
        key: key.public().as_bytes().to_vec(),
        ..Default::default()
    })));
    let Message::Challenge(challenge) = peer.recv() else {
        panic!("CHAT-ID-2");
    };
    let proof = key.prove(&challenge, name).expect("a good nonce");
    peer.send(&envelope(Sent::Proof(proof)));
    peer.registered();
    peer
}

/// CHAT-FILE-4: what a Direct named to a key is nothing to the next who has its name.
#[test]
fn a_file_is_given_to_a_key_and_not_to_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("room");
    let server = TestServer::start(&["--data", data.to_str().expect("UTF-8")]);
    let mut alice = join_with_key(&server, "Alice", 1);
    let mut bob = join_with_key(&server, "Bob", 2);
    let content = b"for Bob".to_vec();
    let sha256 = Sha256::digest(&content).to_vec();
    let size = content.len() as u64;
    alice.send(&envelope(Sent::PutFile(PutFile {
        sha256: sha256.clone(),
        size,
    })));
    assert!(matches!(alice.recv(), Message::FileState(state) if state.have == 0));
    alice.send(&envelope(Sent::FileData(FileData {
        sha256: sha256.clone(),
        offset: 0,
        data: content.clone(),
    })));
    assert!(matches!(alice.recv(), Message::FileState(state) if state.have == size));
    alice.send(&envelope(Sent::Direct(wire::Direct {
        peer: "Bob".to_owned(),
        text: "for you".to_owned(),
        id: 1,
        files: vec![wire::File {
            sha256: sha256.clone(),
            size,
            name: "a.txt".to_owned(),
        }],
        ..Default::default()
    })));
    assert!(matches!(bob.recv(), Message::Direct(direct) if direct.files.len() == 1));
    bob.send(&crate::support::leave());
    bob.is_closed();
    let ask = |peer: &mut Peer| {
        peer.send(&envelope(Sent::GetFile(GetFile {
            sha256: sha256.clone(),
            ..GetFile::default()
        })));
        peer.recv()
    };
    let mut mallory = join_with_key(&server, "Bob", 3);
    let refused = ask(&mut mallory);
    let unknown = i32::from(wire::ErrorCode::FileUnknown);
    assert!(
        matches!(&refused, Message::Error(it) if it.code == unknown),
        "{refused:?}"
    );
    let mut robert = join_with_key(&server, "Robert", 2);
    let given = ask(&mut robert);
    assert!(
        matches!(&given, Message::FileData(it) if it.data == content),
        "{given:?}"
    );
}

/// The error of a download whose file cannot be read says which file it is: the client ends
/// that one, and does not wait.
#[test]
fn a_file_that_cannot_be_read_is_named_in_the_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("room");
    let server = TestServer::start(&["--data", data.to_str().expect("UTF-8")]);
    let (mut alice, _) = Peer::join_with(&server, "Alice", FILES);
    let content = b"here for a moment".to_vec();
    let sha256 = Sha256::digest(&content).to_vec();
    let size = content.len() as u64;
    alice.send(&envelope(Sent::PutFile(PutFile {
        sha256: sha256.clone(),
        size,
    })));
    assert!(matches!(alice.recv(), Message::FileState(state) if state.have == 0));
    alice.send(&envelope(Sent::FileData(FileData {
        sha256: sha256.clone(),
        offset: 0,
        data: content,
    })));
    assert!(matches!(alice.recv(), Message::FileState(state) if state.have == size));
    let whole = fs::read_dir(data.join("files/whole")).expect("the folder of the files");
    for file in whole {
        fs::remove_file(file.expect("an entry").path()).expect("the file");
    }
    alice.send(&envelope(Sent::GetFile(GetFile {
        sha256: sha256.clone(),
        ..GetFile::default()
    })));
    let answer = alice.recv();
    let Message::Error(error) = &answer else {
        panic!("CHAT-FILE-4: {answer:?}");
    };
    assert_eq!(error.code(), wire::ErrorCode::FileUnknown);
    assert_eq!((&error.sha256, error.id), (&sha256, 0), "CHAT-ERR-4");
}

/// What is on the disk is not what messages name: it is not used, and can be uploaded again.
#[test]
fn a_file_that_was_cut_on_the_disk_is_unknown_until_it_is_uploaded_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("room");
    let options = ["--data", data.to_str().expect("UTF-8")];
    let server = TestServer::start(&options);
    let content = b"all of it".to_vec();
    let sha256 = Sha256::digest(&content).to_vec();
    let upload = |server: &TestServer| {
        let asked = [Capability::Files, Capability::Receipts];
        let (mut alice, _) = Peer::join_with(server, "Alice", &asked);
        alice.send(&envelope(Sent::PutFile(PutFile {
            sha256: sha256.clone(),
            size: content.len() as u64,
        })));
        assert!(matches!(alice.recv(), Message::FileState(state) if state.have == 0));
        alice.send(&envelope(Sent::FileData(FileData {
            sha256: sha256.clone(),
            offset: 0,
            data: content.clone(),
        })));
        let have = content.len() as u64;
        assert!(matches!(alice.recv(), Message::FileState(state) if state.have == have));
        alice
    };
    let ask = |peer: &mut Peer| {
        peer.send(&envelope(Sent::GetFile(GetFile {
            sha256: sha256.clone(),
            ..GetFile::default()
        })));
        peer.recv()
    };
    let mut alice = upload(&server);
    alice.send(&envelope(Sent::Chat(wire::Chat {
        text: "a.txt".to_owned(),
        id: 1,
        files: vec![wire::File {
            sha256: sha256.clone(),
            size: content.len() as u64,
            name: "a.txt".to_owned(),
        }],
        ..Default::default()
    })));
    assert!(matches!(alice.recv(), Message::Receipt(_)));
    drop((alice, server));
    let hash: String = sha256.iter().map(|it| format!("{it:02x}")).collect();
    let copy = data.join("files").join("whole").join(hash);
    std::fs::write(copy, &content[..3]).expect("it is there");
    let server = TestServer::start(&options);
    server.wait_for_log("is not the file that messages name");
    let (mut bob, _) = Peer::join_with(&server, "Bob", FILES);
    let refused = ask(&mut bob);
    let unknown = i32::from(wire::ErrorCode::FileUnknown);
    assert!(
        matches!(&refused, Message::Error(it) if it.code == unknown),
        "{refused:?}"
    );
    let mut alice = upload(&server);
    let given = ask(&mut alice);
    assert!(
        matches!(&given, Message::FileData(it) if it.data == content),
        "{given:?}"
    );
}
