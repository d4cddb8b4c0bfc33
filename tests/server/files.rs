//! Files beside the talk.

use std::{thread, time::Duration};

use chat::wire::{
    self, Capability, FileData, GetFile, PutFile, client_envelope::Message as Sent,
    server_envelope::Message,
};
use sha2::{Digest, Sha256};

use crate::support::{Peer, TestServer, envelope};

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
