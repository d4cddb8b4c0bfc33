//! Names of one's own and files: seeded schedules of clients that contest names with keys,
//! and upload, name and fetch files over connections that are cut anywhere, against the
//! simplest room that can be right. A name that a key owns is nobody else's (CHAT-ID-8),
//! nobody is pointed at a file that is not whole, and nobody fetches one that is not for
//! it (CHAT-FILE).

use std::collections::{BTreeMap, BTreeSet};

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{Ed25519KeyPair, KeyPair},
};
use fastrand::Rng;

use super::*;
use crate::{
    identity::{PublicKey, signed_bytes},
    server::{file_queue::FileQueue, hub::Origin},
    session::{FileIndex, FileOwner, FileTask, Hash, Written},
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
const REACHED: [(&str, usize); 14] = [
    ("registers", 100),
    ("NAME_OWNED", 100),
    ("NAME_IN_USE", 50),
    ("PROOF_WRONG", 50),
    ("takes its name back", 40),
    ("a part", 100),
    ("a whole file", 50),
    ("another file than its hash", 5),
    ("the disk fails", 20),
    ("cut in an upload", 15),
    ("names a file", 15),
    ("names half a file", 40),
    ("fetches a file", 10),
    ("fetches what is not for it", 40),
];

/// The room, as it must be.
#[derive(Default)]
struct Room {
    /// Who holds each name; `None` for a connection that is gone, which the server notices
    /// when the disk has answered.
    holders: BTreeMap<String, Option<usize>>,
    /// Whose piece of which file such a connection has sent.
    ghosts: BTreeMap<String, (String, Hash)>,
    owners: BTreeMap<String, usize>,
    seq: u64,
    parts: BTreeMap<(String, Hash), Part>,
    whole: BTreeMap<Hash, Whole>,
}

struct Part {
    size: u64,
    have: u64,
    is_writing: bool,
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
    /// Its piece of a file is on its way to the disk.
    awaits_disk: Option<Hash>,
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

    /// A client registers, perhaps with its key, and perhaps proves another one.
    async fn register(&mut self, index: usize) {
        let name = self.rng.choice(NAMES).unwrap_or("ann").to_owned();
        let key = self.clients[index].key;
        let proves = key.map(|key| match self.rng.u8(0..6) {
            0 => key + 1,
            _ => key,
        });
        let mut peer = Peer::connect(&self.hub, 1 << 20);
        let capabilities = [Capability::Receipts, Capability::Direct, Capability::Files];
        peer.send(Sent::Register(Register {
            name: name.clone(),
            capabilities: capabilities.map(i32::from).to_vec(),
            key: key.map_or(Vec::new(), |key| public_key(key).as_bytes().to_vec()),
            ..Register::default()
        }))
        .await;
        let owner = self.room.owners.get(&fold(&name)).copied();
        if owner.is_some() && owner != key {
            self.events.insert("NAME_OWNED");
            return peer.expect_error(ErrorCode::NameOwned).await; // CHAT-ID-8
        }
        if let Some(proves) = proves {
            let Some(Message::Challenge(challenge)) = peer.next().await else {
                panic!("CHAT-ID-2");
            };
            assert_eq!(challenge.nonce.len(), 32, "CHAT-ID-2");
            let signed = signed_bytes(&challenge.nonce, &challenge.epoch, &name);
            let signature = key_pair(proves).sign(&signed).as_ref().to_vec();
            peer.send(Sent::Proof(Proof { signature })).await;
            if Some(proves) != key {
                self.events.insert("PROOF_WRONG");
                return peer.expect_error(ErrorCode::ProofWrong).await; // CHAT-ID-5
            }
        }
        if let Some(&holder) = self.room.holders.get(&fold(&name)) {
            if owner.is_none() {
                self.events.insert("NAME_IN_USE");
                return peer.expect_error(ErrorCode::NameInUse).await; // CHAT-NAME-3
            }
            // CHAT-ID-9
            self.events.insert("takes its name back");
            if let Some(holder) = holder {
                self.replaced(holder).await;
            }
            self.room.ghosts.remove(&fold(&name));
        }
        let Some(Message::Registered(registered)) = peer.next().await else {
            panic!("CHAT-NAME-6");
        };
        assert_eq!(registered.seq, self.room.seq, "CHAT-ORD-6");
        self.events.insert("registers");
        self.room.holders.insert(fold(&name), Some(index));
        if let Some(key) = key {
            self.room.owners.insert(fold(&name), key); // CHAT-ID-10
        }
        let client = &mut self.clients[index];
        client.name = name;
        client.peer = Some(peer);
        client.after_seq = registered.seq;
        client.awaits_disk = None;
        client.directs = 0;
    }

    /// The owner of a name has ended the session of a client.
    async fn replaced(&mut self, index: usize) {
        match self.answer(index).await {
            Message::Error(error) => {
                let told = (error.code(), error.ends_session);
                assert_eq!(told, (ErrorCode::Replaced, true), "CHAT-ID-9");
            }
            message => panic!("CHAT-ID-9: {message:?}"),
        }
        let client = &mut self.clients[index];
        let mut peer = client.peer.take().expect("it holds a name");
        assert_eq!(peer.next().await, None, "CHAT-ERR-1");
    }

    /// A connection is cut, perhaps inside a frame.
    async fn cut(&mut self, index: usize) {
        let Some(mut peer) = self.clients[index].peer.take() else {
            return;
        };
        let chat = encoded(chat(200));
        let sent = self.rng.usize(0..chat.len());
        let _ = peer.stream.write_all(&chat[..sent]).await;
        drop(peer);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let client = &mut self.clients[index];
        let name = fold(&client.name);
        if let Some(hash) = client.awaits_disk.take() {
            self.events.insert("cut in an upload");
            self.room.holders.insert(name.clone(), None);
            let owner = self.owner(index);
            self.room.ghosts.insert(name, (owner, hash));
            return;
        }
        self.room.holders.remove(&name);
        assert!(
            !self
                .hub
                .names()
                .iter()
                .any(|name| fold(name) == fold(&self.clients[index].name)),
            "CHAT-LEAVE-5"
        );
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

    /// A client asks how far an upload has come, or begins it (CHAT-FILE-3).
    async fn put(&mut self, index: usize) {
        let (content, hash) = self.any_content();
        let wrong = u64::from(self.rng.u8(0..10) == 0);
        let size = content.len() as u64 + wrong;
        let name = self.owner(index);
        let room = &mut self.room;
        let whole = room.whole.get(&hash);
        let expected = match whole.filter(|whole| whole.uploaders.contains(&name)) {
            Some(whole) if whole.size == size => Ok(size),
            Some(_) => Err(ErrorCode::FileMismatch),
            None => {
                let key = (name, hash);
                let part = room.parts.get(&key).filter(|part| part.size == size);
                let have = part.map(|part| part.have);
                if have.is_none() {
                    let part = Part {
                        size,
                        have: 0,
                        is_writing: false,
                    };
                    room.parts.insert(key, part);
                }
                Ok(have.unwrap_or(0))
            }
        };
        let sha256 = hash.to_vec();
        self.ask(index, Sent::PutFile(PutFile { sha256, size }))
            .await;
        self.expect_state(index, hash, expected).await;
    }

    /// A client sends a piece, mostly the next one, and mostly of the right file.
    async fn upload(&mut self, index: usize) {
        let (mut content, mut hash) = self.any_content();
        let name = self.owner(index);
        let begun = self.room.parts.keys().find(|(member, _)| *member == name);
        if let Some(&(_, begun)) = begun.filter(|_| self.rng.u8(0..8) > 0) {
            let mut contents = self.contents.iter();
            let found = contents.find(|content| hash_of(content) == begun);
            content.clone_from(found.expect("it is one of them"));
            hash = begun;
        }
        let key = (name, hash);
        let part = self.room.parts.get(&key);
        let have = part.map_or(0, |part| part.have as usize);
        let offset = match self.rng.u8(0..12) {
            0 => self.rng.usize(0..content.len()),
            _ => have.min(content.len()),
        };
        let end = content.len().min(offset + self.rng.usize(1..=CHUNK_BYTES));
        let mut data = content[offset..end].to_vec();
        if self.rng.u8(0..12) == 0 {
            data.fill(0);
        }
        let bytes = data.len() as u64;
        let offset = offset as u64;
        let expected = match self.room.parts.get_mut(&key) {
            None => Err(ErrorCode::FileUnknown),
            Some(part) if part.is_writing || part.have != offset || bytes == 0 => {
                Err(ErrorCode::FileMismatch)
            }
            Some(part) if bytes > part.size - part.have => Err(ErrorCode::FileMismatch),
            Some(part) => {
                part.is_writing = true;
                Ok(())
            }
        };
        let sha256 = hash.to_vec();
        let piece = FileData {
            sha256,
            offset,
            data,
        };
        self.ask(index, Sent::FileData(piece)).await;
        match expected {
            Ok(()) => self.clients[index].awaits_disk = Some(hash),
            Err(code) => self.expect_state(index, hash, Err(code)).await,
        }
    }

    /// The disk does one thing.
    async fn write(&mut self) {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let Some(task) = self.queue.take() else {
            return;
        };
        let FileTask::Write {
            index: connection,
            serial,
            owner,
            hash,
            size,
            offset,
            data,
        } = task
        else {
            return self.read_disk(task);
        };
        let member = match &owner {
            FileOwner::Name(name) => fold(name.as_str()),
            FileOwner::Key(id) => {
                let key = (0..3).find(|&key| public_key(key).sender_id() == *id);
                format!("@{}", key.expect("a key of a client"))
            }
        };
        let key = (member.clone(), hash, size);
        let has_failed = self.rng.u8(0..16) == 0;
        let part = self.disk.parts.entry(key.clone()).or_default();
        part.truncate(offset as usize);
        part.extend_from_slice(&data);
        let is_last = part.len() as u64 == size;
        let written = match (has_failed, is_last) {
            (true, _) => Written::Failed,
            (false, false) => Written::Part,
            (false, true) if hash_of(part) == hash => Written::Whole,
            (false, true) => Written::Mismatch,
        };
        if written != Written::Part {
            let part = self.disk.parts.remove(&key).unwrap_or_default();
            if written == Written::Whole {
                self.disk.whole.insert(hash, part);
            }
        }
        let bytes = data.len() as u64;
        self.hub
            .file_written((connection, serial), (&owner, hash, size), bytes, written);
        let expected = self.written(&member, hash, size, bytes, written);
        tokio::time::sleep(Duration::from_millis(1)).await;
        let sent = (member, hash);
        let mut ghosts = self.room.ghosts.iter();
        if let Some(ghost) = ghosts.find(|ghost| *ghost.1 == sent) {
            let ghost = ghost.0.clone();
            self.room.ghosts.remove(&ghost);
            self.room.holders.remove(&ghost);
        }
        // Its session may be another by now.
        let waiting = (0..CLIENTS).find(|&it| {
            self.clients[it].peer.is_some()
                && self.clients[it].awaits_disk == Some(hash)
                && self.owner(it) == sent.0
        });
        if let Some(index) = waiting {
            self.clients[index].awaits_disk = None;
            self.expect_state(index, hash, expected).await;
        }
    }

    /// What becomes of a piece in the room.
    fn written(
        &mut self,
        member: &str,
        hash: Hash,
        size: u64,
        bytes: u64,
        written: Written,
    ) -> Result<u64, ErrorCode> {
        let key = (member.to_owned(), hash);
        let part = self.room.parts.get_mut(&key);
        let Some(part) = part.filter(|part| part.is_writing && part.size == size) else {
            return Err(ErrorCode::FileUnknown);
        };
        if written == Written::Part {
            self.events.insert("a part");
            part.is_writing = false;
            part.have += bytes;
            return Ok(part.have);
        }
        self.room.parts.remove(&key);
        match written {
            Written::Whole => {
                self.events.insert("a whole file");
                let whole = self.room.whole.entry(hash).or_default();
                whole.size = size;
                whole.uploaders.insert(member.to_owned());
                Ok(size)
            }
            Written::Mismatch => {
                self.events.insert("another file than its hash");
                Err(ErrorCode::FileMismatch)
            }
            _ => {
                self.events.insert("the disk fails");
                Err(ErrorCode::FilesFull)
            }
        }
    }

    fn read_disk(&mut self, task: FileTask) {
        let FileTask::Read {
            index,
            serial,
            hash,
            offset,
            bytes,
        } = task
        else {
            return; // A connection is gone.
        };
        let offset = offset as usize;
        let data = self.disk.whole[&hash][offset..offset + bytes].to_vec();
        let message = Some(Message::FileData(FileData {
            sha256: hash.to_vec(),
            offset: offset as u64,
            data,
        }));
        let frame = ServerEnvelope { message }.encode_length_delimited_to_vec();
        self.hub.file_read((index, serial), Some(frame));
    }

    /// Whether a member may fetch a file (CHAT-FILE-4).
    fn may_fetch(&self, index: usize, hash: &Hash) -> bool {
        let client = &self.clients[index];
        let name = self.owner(index);
        self.room.whole.get(hash).is_some_and(|whole| {
            whole.uploaders.contains(&name)
                || whole.recipients.contains(&name)
                || whole.last_seq > client.after_seq
        })
    }

    fn file(&mut self) -> (File, Hash) {
        let (content, hash) = self.any_content();
        let file = File {
            sha256: hash.to_vec(),
            size: content.len() as u64,
            name: "a file".to_owned(),
        };
        (file, hash)
    }

    /// A client says something about a file, which may not be there (CHAT-FILE-1).
    async fn name_file(&mut self, index: usize) {
        let (file, hash) = self.file();
        let id = self.id();
        let chat = Chat {
            text: "look".to_owned(),
            files: vec![file],
            id,
            ..Chat::default()
        };
        let may = self.may_fetch(index, &hash);
        self.ask(index, Sent::Chat(chat)).await;
        if !may {
            self.events.insert("names half a file");
            return self.expect_refusal(index, ErrorCode::FileUnknown, id).await;
        }
        self.events.insert("names a file");
        self.room.seq += 1;
        let whole = self.room.whole.get_mut(&hash).expect("it is whole");
        whole.last_seq = self.room.seq;
        match self.answer(index).await {
            Message::Receipt(receipt) => {
                assert_eq!(
                    (receipt.id, receipt.seq),
                    (id, self.room.seq),
                    "CHAT-RCPT-1"
                );
            }
            message => panic!("CHAT-FILE-1: {message:?}"),
        }
    }

    /// A client gives somebody a file.
    async fn give_file(&mut self, index: usize) {
        let (file, hash) = self.file();
        let peer = self.rng.choice(NAMES).unwrap_or("ann").to_owned();
        let id = self.id();
        let direct = Direct {
            peer: peer.clone(),
            text: "for you".to_owned(),
            id,
            files: vec![file],
            ..Direct::default()
        };
        let may = self.may_fetch(index, &hash);
        self.ask(index, Sent::Direct(direct)).await;
        let holder = self.room.holders.get(&fold(&peer)).copied();
        match (may, holder) {
            (false, _) => self.expect_refusal(index, ErrorCode::FileUnknown, id).await,
            (true, None) => {
                self.expect_refusal(index, ErrorCode::NotReachable, id)
                    .await
            }
            (true, Some(holder)) => {
                // A connection that is gone may have been any of them.
                let owner = holder.map(|holder| self.owner(holder));
                let ghost = self
                    .room
                    .ghosts
                    .get(&fold(&peer))
                    .map(|ghost| ghost.0.clone());
                let owner = owner.or(ghost).expect("it has a name");
                let whole = self.room.whole.get_mut(&hash).expect("it is whole");
                whole.recipients.insert(owner);
                match self.answer(index).await {
                    Message::Receipt(receipt) => {
                        assert_eq!((receipt.id, receipt.seq), (id, 0), "CHAT-DM-3, CHAT-DM-7");
                    }
                    message => panic!("CHAT-DM-7: {message:?}"),
                }
            }
        }
    }

    /// A client fetches a file from somewhere on (CHAT-FILE-4, CHAT-FILE-10).
    async fn fetch(&mut self, index: usize) {
        let (content, hash) = self.any_content();
        let offset = self.rng.usize(0..content.len());
        let may = self.may_fetch(index, &hash);
        let get = GetFile {
            sha256: hash.to_vec(),
            offset: offset as u64,
            length: 0,
        };
        self.ask(index, Sent::GetFile(get)).await;
        if !may {
            self.events.insert("fetches what is not for it");
            return self
                .expect_state(index, hash, Err(ErrorCode::FileUnknown))
                .await;
        }
        self.events.insert("fetches a file");
        let mut next = offset;
        while next < content.len() {
            // Other pieces may be before it in the queue of the disk.
            let peer = self.clients[index].peer.as_mut().expect("it is there");
            match timeout(Duration::from_millis(1), peer.next()).await {
                Err(_) => Box::pin(self.write()).await,
                Ok(Some(Message::FileData(piece))) => {
                    assert_eq!(piece.offset, next as u64, "CHAT-FILE-10");
                    let end = next + piece.data.len();
                    assert!(piece.data.len() <= CHUNK_BYTES, "CHAT-FILE-10");
                    assert!(
                        piece.data == content[next..end],
                        "CHAT-FILE-10: other bytes"
                    );
                    next = end;
                }
                Ok(Some(message)) => self.received(index, message),
                Ok(None) => panic!("CHAT-FILE-10: the connection ends"),
            }
        }
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
