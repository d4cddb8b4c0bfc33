//! Names of one's own and files: seeded schedules of clients that contest names with keys,
//! and upload, name and fetch files over connections that are cut anywhere, against the
//! simplest room that can be right. A name that a key owns is nobody else's (CHAT-ID-8),
//! nobody is pointed at a file that is not whole, and nobody fetches one that is not for
//! it (CHAT-FILE).

mod files;
mod names;

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{Ed25519KeyPair, KeyPair},
};
use fastrand::Rng;

use super::*;
use crate::{
    identity::{PublicKey, signed_bytes},
    server::{
        file_queue::FileQueue,
        files::was_read,
        hub::{FileDone, Origin},
    },
    session::{FileIndex, FileOwner, FileTask, Hash, Written, WrittenPiece},
    wire::{Chat, Direct, Error, File, FileData, FileState, GetFile, Proof, PutFile, Register},
};

/// How many schedules run.
const SEEDS: u64 = 150;

/// How many steps each has.
const STEPS: usize = 180;

const CLIENTS: usize = 5;

const NAMES: [&str; 4] = ["ann", "Ann", "bob", "carl"];

const CHUNK_BYTES: usize = 1_000;

/// What happens in a schedule at least sometimes, and in how many of all at the least.
const REACHED: [(&str, usize); 18] = [
    ("registers", 100),
    ("NAME_OWNED", 100),
    ("NAME_IN_USE", 50),
    ("PROOF_WRONG", 50),
    ("takes its name back", 40),
    ("a part", 100),
    ("a whole file", 50),
    ("another file than its hash", 5),
    ("the disk fails", 20),
    ("several parts at once", 50),
    ("a part behind one that failed", 10),
    ("cut in an upload", 15),
    ("names a file", 15),
    ("names half a file", 40),
    ("fetches a file", 10),
    ("pieces read ahead", 5),
    ("fetches something else instead", 3),
    ("fetches what is not for it", 40),
];

/// The room, as it must be.
#[derive(Default)]
struct Room {
    /// Who holds each name; `None` for a connection that is gone, which the server notices
    /// when the disk has answered.
    holders: BTreeMap<String, Option<usize>>,
    /// Whose pieces of which file such a connection has sent, and how many of them are on
    /// their way to the disk.
    ghosts: BTreeMap<String, (String, Hash, usize)>,
    owners: BTreeMap<String, usize>,
    seq: u64,
    parts: BTreeMap<(String, Hash), Part>,
    whole: BTreeMap<Hash, Whole>,
}

struct Part {
    size: u64,
    have: u64,
    writing: u64,
}

#[derive(Default)]
struct Whole {
    size: u64,
    uploaders: BTreeSet<String>,
    recipients: BTreeSet<String>,
    last_seq: u64,
}

/// The disk of files: what was written of each upload, and what is whole.
#[derive(Default)]
struct Disk {
    parts: BTreeMap<(String, Hash, u64), Vec<u8>>,
    whole: BTreeMap<Hash, Vec<u8>>,
}

struct Client {
    key: Option<usize>,
    name: String,
    peer: Option<Peer>,
    after_seq: u64,
    /// Pieces of a file are on their way to the disk: so many.
    awaits_disk: Option<(Hash, usize)>,
    directs: u64,
}

struct World {
    rng: Rng,
    hub: Arc<Hub>,
    queue: Arc<FileQueue>,
    disk: Disk,
    room: Room,
    clients: Vec<Client>,
    contents: Vec<Vec<u8>>,
    next_id: u64,
    events: BTreeSet<&'static str>,
}

fn key_pair(key: usize) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[key as u8 + 1; 32]).expect("a seed of 32 bytes")
}

fn public_key(key: usize) -> PublicKey {
    PublicKey::from_bytes(key_pair(key).public_key().as_ref()).expect("32 bytes")
}

fn hash_of(content: &[u8]) -> Hash {
    let hash = digest(&SHA256, content);
    hash.as_ref().try_into().expect("32 bytes")
}

fn fold(name: &str) -> String {
    name.to_ascii_lowercase()
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let limits = Limits {
            file_chunk_bytes_max: CHUNK_BYTES as u32,
            ..unlimited()
        };
        let queue = Arc::<FileQueue>::default();
        let mut origin = Origin::empty(&limits, "epoch".to_owned());
        origin.files = Some((Arc::clone(&queue), FileIndex::default()));
        let access = AccessPolicy {
            first_proof_owns: true,
            ..AccessPolicy::default()
        };
        let hub = Arc::new(Hub::new(limits, access, origin));
        tokio::spawn(tick(Arc::clone(&hub)));
        let client = |index: usize| Client {
            key: (index > 0).then_some(index % 3),
            name: String::new(),
            peer: None,
            after_seq: 0,
            awaits_disk: None,
            directs: 0,
        };
        let contents = (1..=2_u8).map(|byte| vec![byte; rng.usize(1..2_500)]);
        let contents = contents.collect();
        Self {
            rng,
            hub,
            queue,
            disk: Disk::default(),
            room: Room::default(),
            clients: (0..CLIENTS).map(client).collect(),
            contents,
            next_id: 1,
            events: BTreeSet::new(),
        }
    }

    async fn step(&mut self) {
        let index = self.rng.usize(0..CLIENTS);
        let client = &self.clients[index];
        let is_free = client.peer.is_some() && client.awaits_disk.is_none();
        match self.rng.u8(0..100) {
            0..40 if client.peer.is_none() => self.register(index).await,
            0..7 if is_free => self.put(index).await,
            7..40 if is_free => self.upload(index).await,
            40..55 if is_free => self.name_file(index).await,
            55..65 if is_free => self.give_file(index).await,
            65..75 if is_free => self.fetch(index).await,
            75..80 => self.cut(index).await,
            _ => self.write().await,
        }
        for index in 0..CLIENTS {
            self.read(index).await;
        }
    }

    /// Whose the files of a client are: its key's, or its name's without one.
    fn owner(&self, index: usize) -> String {
        let client = &self.clients[index];
        match client.key {
            Some(key) => format!("@{key}"),
            None => fold(&client.name),
        }
    }

    fn any_content(&mut self) -> (Vec<u8>, Hash) {
        let content = self.rng.choice(&self.contents).expect("there are some");
        (content.clone(), hash_of(content))
    }

    fn id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    async fn ask(&mut self, index: usize, message: Sent) {
        self.read(index).await;
        let peer = self.clients[index].peer.as_mut().expect("it is there");
        peer.send(message).await;
    }

    async fn expect_state(&mut self, index: usize, hash: Hash, expected: Result<u64, ErrorCode>) {
        let answer = self.answer(index).await;
        match expected {
            Ok(have) => {
                let sha256 = hash.to_vec();
                let state = FileState { sha256, have };
                assert_eq!(answer, Message::FileState(state), "CHAT-FILE-3");
            }
            Err(code) => match answer {
                Message::Error(Error {
                    code: told, sha256, ..
                }) => {
                    assert_eq!(told, i32::from(code), "CHAT-FILE-5");
                    assert_eq!(sha256, hash, "CHAT-ERR-4");
                }
                message => panic!("CHAT-FILE-4, CHAT-FILE-5: {message:?}, not {code:?}"),
            },
        }
    }

    async fn expect_refusal(&mut self, index: usize, code: ErrorCode, id: u64) {
        match self.answer(index).await {
            Message::Error(error) => {
                assert_eq!((error.code(), error.id), (code, id), "CHAT-FILE-1");
                assert!(!error.ends_session, "CHAT-ERR-2");
            }
            message => panic!("CHAT-FILE-1: {message:?}, not {code:?}"),
        }
    }

    /// What a client is answered.
    async fn answer(&mut self, index: usize) -> Message {
        loop {
            let peer = self.clients[index].peer.as_mut().expect("it is there");
            let message = peer.next().await.expect("an answer");
            match message {
                Message::Chat(_) | Message::Direct(_) | Message::DirectState(_) => {
                    self.received(index, message);
                }
                message => return message,
            }
        }
    }

    /// A client reads what has arrived.
    async fn read(&mut self, index: usize) {
        while let Some(peer) = self.clients[index].peer.as_mut() {
            match timeout(Duration::from_millis(1), peer.next()).await {
                // Its REPLACED is looked for where it is due.
                Err(_) => return,
                Ok(None) => panic!("{index} is closed without a reason"),
                Ok(Some(message)) => self.received(index, message),
            }
        }
    }

    fn received(&mut self, index: usize, message: Message) {
        let files = match message {
            Message::Chat(chat) => {
                let sender = self.room.holders.get(&fold(&chat.sender)).copied();
                if let Some(key) = sender.flatten().map(|sender| self.clients[sender].key) {
                    let id = key.map_or(Vec::new(), |key| {
                        public_key(key).sender_id().as_bytes().to_vec()
                    });
                    assert_eq!(chat.sender_id, id, "CHAT-ID-12");
                }
                chat.files
            }
            Message::Direct(direct) => {
                let client = &mut self.clients[index];
                client.directs += 1;
                assert_eq!(direct.seq, client.directs, "CHAT-DM-8");
                direct.files
            }
            Message::DirectState(_) => return,
            message => panic!("{index} receives {message:?}"),
        };
        for file in files {
            let hash = Hash::try_from(&file.sha256[..]).expect("32 bytes");
            let whole = self.disk.whole.get(&hash);
            let size = whole.map(|content| content.len() as u64);
            assert_eq!(
                size,
                Some(file.size),
                "CHAT-FILE-1: {index} is pointed at half a file"
            );
            assert!(self.may_fetch(index, &hash), "CHAT-FILE-4");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn names_and_files_belong_to_those_who_have_them() {
    let mut counts = BTreeMap::<&str, usize>::new();
    for seed in 0..SEEDS {
        eprintln!("seed {seed}");
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step().await;
        }
        for event in world.events {
            *counts.entry(event).or_default() += 1;
        }
    }
    eprintln!("{counts:#?}");
    for (event, least) in REACHED {
        let count = counts.get(event).copied().unwrap_or(0);
        assert!(count >= least, "{event} in {count} schedules, not {least}");
    }
}
