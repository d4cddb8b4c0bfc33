//! Crashes: seeded schedules of chats, cuts, commits and crashes against a hub whose disk
//! is a list. After any of them, clients that resume agree on one sequence: nothing that
//! anybody was told is lost, no number means two chats, and no chat is there twice
//! (CHAT-ORD-9, CHAT-RES, CHAT-HIST-10).

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;

use super::*;
use crate::{
    log::{Audience, Log},
    name::Name,
    room::{Change, Line, LineId, Owner, Room, Sent as SentChat},
    server::{
        archive::{Archive, Pending},
        hub::Origin,
    },
    wire::{Chat, Register, Registered, Resume},
};

/// How many schedules run.
const SEEDS: u64 = 150;

/// How many steps each has.
const STEPS: usize = 120;

const CLIENTS: usize = 4;

/// Longer than anything takes that needs no commit.
const SETTLE: Duration = Duration::from_millis(5);

/// What is on the disk.
#[derive(Default)]
struct Disk {
    chats: Vec<Chat>,
    lines: BTreeMap<LineId, Line>,
    sent: BTreeMap<LineId, VecDeque<SentChat>>,
    owners: BTreeMap<Name, Owner>,
}

impl Disk {
    fn commit(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Chat { chat, sent_by } => {
                    if let Some((line, id)) = sent_by {
                        self.sent.entry(line).or_default().push_back(SentChat {
                            id,
                            seq: chat.seq,
                            time_unix_ms: chat.time_unix_ms,
                        });
                    }
                    assert_eq!(chat.seq, self.chats.len() as u64 + 1, "CHAT-ORD-1");
                    self.chats.push(chat);
                }
                Change::Removed(seq) => {
                    for chat in self.chats.iter_mut().filter(|chat| chat.seq == seq) {
                        chat.text.clear();
                        chat.removed = true;
                    }
                }
                Change::Line(id, line) => {
                    self.lines.insert(id, *line);
                }
                Change::LineEnded(id) => {
                    self.lines.remove(&id);
                    self.sent.remove(&id);
                }
                Change::Owned(name, owner) => {
                    self.owners.insert(name, owner);
                }
                Change::Disowned(name) => {
                    self.owners.remove(&name);
                }
            }
        }
    }

    /// A server that starts with what is on the disk.
    fn restart(&self, limits: &Limits) -> (Arc<Hub>, Arc<Archive>) {
        let lines = self.lines.iter().map(|(&id, line)| {
            let mut line = line.clone();
            line.sent = self.sent.get(&id).cloned().unwrap_or_default();
            (id, line)
        });
        let bounds = (1, self.chats.len() as u64);
        let owners = self.owners.clone();
        let room = Room::restored("epoch".to_owned(), limits, bounds, lines, owners);
        let mut log = Log::new(1, limits.history_memory_bytes);
        for chat in &self.chats {
            let message = Some(Message::Chat(chat.clone()));
            log.append(Audience::Everyone, &ServerEnvelope { message });
        }
        log.commit();
        let archive = Arc::new(Archive::default());
        let origin = Origin {
            room,
            log,
            archive: Some(Arc::clone(&archive)),
            files: None,
            offers_history: false,
        };
        let hub = Arc::new(Hub::new(limits.clone(), AccessPolicy::default(), origin));
        tokio::spawn(tick(Arc::clone(&hub)));
        (hub, archive)
    }
}

/// A client as the rules for clients ask for (CHAT-RES-14 to CHAT-RES-21).
struct Client {
    name: String,
    peer: Option<Peer>,
    is_registered: bool,
    token: Vec<u8>,
    attempt: u32,
    next_id: u64,
    /// The chats without an answer, in their first order.
    unanswered: VecDeque<(u64, String)>,
    /// The chats that it knows by number: by others, and its own by their receipts.
    known: BTreeMap<u64, String>,
    /// The number before the first chat that is due to it.
    began_seq: Option<u64>,
}

impl Client {
    fn new(index: usize) -> Self {
        Self {
            name: format!("client{index}"),
            peer: None,
            is_registered: false,
            token: Vec::new(),
            attempt: 0,
            next_id: 1,
            unanswered: VecDeque::new(),
            known: BTreeMap::new(),
            began_seq: None,
        }
    }

    /// The number up to which it has everything (CHAT-RES-20).
    fn seq(&self) -> u64 {
        let mut seq = self.began_seq.unwrap_or(0);
        while self.known.contains_key(&(seq + 1)) {
            seq += 1;
        }
        seq
    }

    async fn connect(&mut self, hub: &Arc<Hub>) {
        let mut peer = Peer::connect(hub, 1 << 16);
        self.attempt += 1;
        let resume = (!self.token.is_empty()).then(|| Resume {
            token: self.token.clone(),
            epoch: "epoch".to_owned(),
            seq: self.seq(),
            attempt: self.attempt,
        });
        peer.send(Sent::Register(Register {
            name: self.name.clone(),
            capabilities: vec![Capability::Receipts.into(), Capability::Resume.into()],
            resume,
            ..Default::default()
        }))
        .await;
        self.peer = Some(peer);
        self.is_registered = false;
    }

    fn cut(&mut self) {
        self.peer = None;
        self.is_registered = false;
    }

    async fn say(&mut self, text: String) {
        let id = self.next_id;
        self.next_id += 1;
        self.unanswered.push_back((id, text));
        if self.is_registered {
            self.send_from(self.unanswered.len() - 1).await;
        }
    }

    async fn send_from(&mut self, from: usize) {
        let Some(peer) = &mut self.peer else { return };
        for (id, text) in self.unanswered.iter().skip(from) {
            let bytes = encoded(Sent::Chat(Chat {
                text: text.clone(),
                id: *id,
                ..Default::default()
            }));
            // A server that has crashed takes nothing.
            let _ = peer.stream.write_all(&bytes).await;
        }
    }

    /// Reads everything that has arrived.
    async fn read(&mut self) {
        while let Some(peer) = &mut self.peer {
            match timeout(SETTLE, peer.next()).await {
                Err(_) => return,
                Ok(None) => self.cut(),
                Ok(Some(message)) => self.receive(message).await,
            }
        }
    }

    async fn receive(&mut self, message: Message) {
        match message {
            Message::Registered(registered) => self.registered(registered).await,
            Message::Chat(chat) => {
                assert!(self.is_registered, "CHAT-REG-3");
                let text = format!("{}: {}", chat.sender, chat.text);
                let before = self.known.insert(chat.seq, text.clone());
                // Its own come again in a resume, nothing else does.
                let is_own = chat.sender == self.name;
                assert!(before.is_none() || is_own, "CHAT-RES-9: {} twice", chat.seq);
                assert!(before.is_none_or(|it| it == text), "CHAT-HIST-10");
            }
            Message::Receipt(receipt) => {
                let (id, text) = self.unanswered.pop_front().expect("CHAT-RCPT-2");
                assert_eq!(receipt.id, id, "CHAT-RCPT-2");
                let text = format!("{}: {text}", self.name);
                let before = self.known.insert(receipt.seq, text.clone());
                assert!(before.is_none_or(|it| it == text), "CHAT-RES-11");
            }
            Message::Error(error) => {
                let expected = [ErrorCode::NameInUse, ErrorCode::Replaced];
                assert!(expected.contains(&error.code()), "{error:?}");
                self.cut();
            }
            message => panic!("{message:?} was not asked for"),
        }
    }

    async fn registered(&mut self, registered: Registered) {
        if self.token.is_empty() {
            self.began_seq = Some(registered.seq);
            // CHAT-RES-17: nobody knows what became of them.
            assert!(self.known.is_empty());
        } else {
            // What it was given it can use, whatever has crashed since.
            assert_eq!(registered.resume_failure, 0, "CHAT-RES-3");
            assert_eq!(registered.resumed_from, self.seq() + 1, "CHAT-RES-8");
        }
        self.token = registered.resume_token;
        self.is_registered = true;
        self.send_from(0).await; // CHAT-RES-16
    }
}

async fn run(seed: u64) {
    let mut rng = Rng::with_seed(seed);
    let limits = Limits {
        resend_ids_max: 8,
        ..unlimited()
    };
    let mut disk = Disk::default();
    let (mut hub, mut archive) = disk.restart(&limits);
    let mut clients: Vec<_> = (0..CLIENTS).map(Client::new).collect();
    let commit = |hub: &Arc<Hub>, disk: &mut Disk, pending: Pending| {
        disk.commit(pending.changes);
        hub.commit_up_to(pending.log_end, pending.audience, &pending.waiting);
    };
    for step in 0..STEPS {
        let index = rng.usize(0..CLIENTS);
        let client = &mut clients[index];
        match rng.u8(0..100) {
            0..25 if client.peer.is_none() => client.connect(&hub).await,
            // CHAT-RES-15
            0..50 if client.is_registered && client.unanswered.len() < 4 => {
                client.say(format!("{step}")).await;
            }
            50..58 => client.cut(),
            58..80 => {
                if let Some(pending) = archive.take_pending() {
                    commit(&hub, &mut disk, pending);
                }
            }
            80..84 => {
                // The process dies, before or behind the commit of what was taken, and
                // with or without a part that was not taken.
                if rng.bool()
                    && let Some(pending) = archive.take_pending()
                {
                    disk.commit(pending.changes);
                }
                clients.iter_mut().for_each(Client::cut);
                hub.abort();
                tokio::time::sleep(SETTLE).await;
                (hub, archive) = disk.restart(&limits);
            }
            _ => client.read().await,
        }
    }
    // In the end everybody comes back, and all that was sent is answered.
    for _ in 0..20 {
        for client in &mut clients {
            if client.peer.is_none() {
                client.connect(&hub).await;
            }
            client.read().await;
            if let Some(pending) = archive.take_pending() {
                commit(&hub, &mut disk, pending);
            }
        }
    }
    let all: Vec<_> = disk
        .chats
        .iter()
        .map(|chat| format!("{}: {}", chat.sender, chat.text))
        .collect();
    let mut unique = all.clone();
    unique.sort();
    unique.dedup();
    assert_eq!(
        unique.len(),
        all.len(),
        "CHAT-RES-11: a chat is there twice"
    );
    for client in &clients {
        assert!(client.is_registered && client.unanswered.is_empty());
        let began = client.began_seq.expect("it is registered") as usize;
        let known: Vec<_> = client.known.values().cloned().collect();
        assert_eq!(known, all[began..], "{} knows everything", client.name);
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_that_was_told_is_lost_or_doubled_by_crashes() {
    for seed in 0..SEEDS {
        eprintln!("seed {seed}");
        run(seed).await;
    }
}
