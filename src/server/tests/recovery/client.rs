//! A client as the rules for clients ask for (CHAT-RES-14 to CHAT-RES-21), which checks
//! what it is told against what is on the disk.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    super::*,
    disk::{Disk, Kept},
};
use crate::{
    server::simulation::filter::NaiveFilter,
    wire::{Chat, Filter, Follow, Register, Registered, Resume, ResumeFailure},
};

/// Longer than anything takes that needs no commit.
pub(super) const SETTLE: Duration = Duration::from_millis(5);

/// What all clients together were told, by epoch and number.
pub(super) type Told = BTreeMap<(String, u64), String>;

/// How a client listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Presence,
    Filtered,
}

pub(super) struct Client {
    pub(super) name: String,
    kind: Kind,
    pub(super) peer: Option<Peer>,
    pub(super) is_registered: bool,
    token: Vec<u8>,
    epoch: String,
    attempt: u32,
    next_id: u64,
    /// The chats without an answer, in their first order.
    pub(super) unanswered: VecDeque<(u64, Chat)>,
    /// The chats of its epoch that it knows by number: by others, and its own by their
    /// receipts.
    pub(super) known: BTreeMap<u64, String>,
    /// The numbers of which it was told that nobody keeps them any more.
    gaps: BTreeSet<u64>,
    /// The number before the first chat that is due to it.
    pub(super) began_seq: u64,
    /// The filters, each with the number above which it is in force.
    filters: Vec<(u64, Filter)>,
    asked: Option<(u64, Filter)>,
    next_filter: Filter,
    /// The number that it was told last, with a filter.
    told_seq: u64,
    /// How many chats the session has brought.
    received: u64,
    pub(super) members: BTreeSet<String>,
    /// What has happened, for the test that everything has.
    pub(super) events: Vec<&'static str>,
}

pub(super) fn shown(chat: &Chat) -> String {
    format!("{}: {}", chat.sender, chat.text)
}

impl Client {
    pub(super) fn new(index: usize) -> Self {
        let kind = match index % 4 {
            0 => Kind::Plain,
            1 => Kind::Presence,
            _ => Kind::Filtered,
        };
        Self {
            name: format!("client{index}"),
            kind,
            peer: None,
            is_registered: false,
            token: Vec::new(),
            epoch: String::new(),
            attempt: 0,
            next_id: 1,
            unanswered: VecDeque::new(),
            known: BTreeMap::new(),
            gaps: BTreeSet::new(),
            began_seq: 0,
            filters: Vec::new(),
            asked: None,
            next_filter: Filter::default(),
            told_seq: 0,
            received: 0,
            members: BTreeSet::new(),
            events: Vec::new(),
        }
    }

    /// The number up to which it has everything (CHAT-RES-20).
    fn seq(&self) -> u64 {
        if self.has_filter() {
            return self.told_seq;
        }
        let mut seq = self.began_seq.max(self.told_seq);
        while self.known.contains_key(&(seq + 1)) || self.gaps.contains(&(seq + 1)) {
            seq += 1;
        }
        seq
    }

    fn has_filter(&self) -> bool {
        let last = self.filters.last();
        last.is_some_and(|(_, filter)| *filter != Filter::default())
    }

    fn wants(&self, chat: &Chat) -> bool {
        let mut filters = self.filters.iter().rev();
        let filter = filters.find(|(above, _)| *above < chat.seq);
        let filter = NaiveFilter::of(&self.name, filter.map(|(_, filter)| filter));
        filter.is_none_or(|filter| filter.passes(chat))
    }

    pub(super) async fn connect(&mut self, hub: &Arc<Hub>, filter: Filter) {
        let mut peer = Peer::connect(hub, 1 << 16);
        self.attempt += 1;
        let resume = (!self.token.is_empty()).then(|| Resume {
            token: self.token.clone(),
            epoch: self.epoch.clone(),
            seq: self.seq(),
            attempt: self.attempt,
        });
        let mut capabilities = vec![Capability::Receipts, Capability::Resume, Capability::Follow];
        if self.kind == Kind::Presence {
            capabilities.push(Capability::Presence);
        }
        self.next_filter = match self.kind {
            Kind::Filtered => filter,
            _ => Filter::default(),
        };
        eprintln!(
            "{} registers with {resume:?}, {:?}",
            self.name, self.next_filter
        );
        peer.send(Sent::Register(Register {
            name: self.name.clone(),
            capabilities: capabilities.into_iter().map(i32::from).collect(),
            filter: Some(self.next_filter.clone()),
            resume,
            ..Default::default()
        }))
        .await;
        self.peer = Some(peer);
        self.is_registered = false;
    }

    pub(super) fn cut(&mut self) {
        self.peer = None;
        self.is_registered = false;
        self.asked = None;
        self.members.clear();
    }

    pub(super) async fn say(&mut self, text: String, topic: &str) {
        let id = self.next_id;
        self.next_id += 1;
        let chat = Chat {
            text,
            topic: topic.to_owned(),
            id,
            ..Chat::default()
        };
        self.unanswered.push_back((id, chat));
        if self.is_registered {
            self.send_from(self.unanswered.len() - 1).await;
        }
    }

    async fn send_from(&mut self, from: usize) {
        let Some(peer) = &mut self.peer else { return };
        for (_, chat) in self.unanswered.iter().skip(from) {
            let bytes = encoded(Sent::Chat(chat.clone()));
            // A server that has crashed takes nothing.
            let _ = peer.stream.write_all(&bytes).await;
        }
    }

    pub(super) async fn follow(&mut self, filter: Filter) {
        let Some(peer) = &mut self.peer else { return };
        if self.kind != Kind::Filtered || !self.is_registered || self.asked.is_some() {
            return;
        }
        let id = self.next_id;
        self.next_id += 1;
        self.asked = Some((id, filter.clone()));
        let filter = Some(filter);
        let bytes = encoded(Sent::Follow(Follow { id, filter }));
        let _ = peer.stream.write_all(&bytes).await;
    }

    /// Reads everything that has arrived.
    pub(super) async fn read(&mut self, disk: &Disk, told: &mut Told) {
        while let Some(peer) = &mut self.peer {
            match timeout(SETTLE, peer.next()).await {
                Err(_) => return,
                Ok(None) => self.cut(),
                Ok(Some(message)) => self.receive(message, disk, told).await,
            }
        }
    }

    async fn receive(&mut self, message: Message, disk: &Disk, told: &mut Told) {
        eprintln!("{} receives {message:.200?}", self.name);
        match message {
            Message::Registered(registered) => self.registered(registered, disk).await,
            Message::Chat(chat) => {
                assert!(self.is_registered, "CHAT-REG-3");
                assert!(self.wants(&chat), "CHAT-FOL-4: {} has {chat:?}", self.name);
                // Its own come again in a resume, nothing else does.
                let is_own = chat.sender == self.name;
                let is_known = self.known.contains_key(&chat.seq);
                assert!(!is_known || is_own, "CHAT-RES-9: {} twice", chat.seq);
                self.received += 1;
                if self.has_filter() {
                    self.told_seq = self.told_seq.max(chat.seq);
                }
                self.learn(chat.seq, shown(&chat), told);
            }
            Message::Receipt(receipt) => {
                let (id, chat) = self.unanswered.pop_front().expect("CHAT-RCPT-2");
                assert_eq!(receipt.id, id, "CHAT-RCPT-2");
                let text = format!("{}: {}", self.name, chat.text);
                self.learn(receipt.seq, text, told);
            }
            Message::Covered(covered) => {
                assert!(self.has_filter(), "CHAT-COV-5");
                assert_eq!(covered.sent, self.received, "CHAT-COV-4: {covered:?}");
                self.check_has(covered.seq, &disk.kept, "CHAT-COV-1");
                self.told_seq = self.told_seq.max(covered.seq);
                self.events.push("covered");
            }
            Message::Following(following) => {
                let (id, filter) = self.asked.take().expect("CHAT-FOL-6");
                assert_eq!(following.id, id, "CHAT-FOL-6");
                assert!(self.told_seq <= following.seq, "CHAT-FOL-8");
                self.check_has(following.seq, &disk.kept, "CHAT-FOL-8");
                self.told_seq = following.seq;
                self.filters.push((following.seq, filter));
                self.events.push("following");
            }
            Message::Members(members) => self.members.extend(members.names),
            Message::Joined(joined) => {
                let name = joined.name;
                assert!(self.members.insert(name.clone()), "CHAT-PRES-2: {name}");
            }
            Message::Left(left) => {
                assert!(self.members.remove(&left.name), "CHAT-PRES-3: {left:?}");
            }
            Message::Error(error) => {
                match error.code() {
                    ErrorCode::NameInUse | ErrorCode::Replaced => {}
                    // Retention has overtaken it, and it is told so.
                    ErrorCode::SlowConsumer => self.events.push("overtaken"),
                    _ => panic!("{error:?}"),
                }
                self.cut();
            }
            message => panic!("{message:?} was not asked for"),
        }
    }

    /// It was told what has a number.
    fn learn(&mut self, seq: u64, text: String, told: &mut Told) {
        let before = self.known.insert(seq, text.clone());
        assert!(before.is_none_or(|it| it == text), "CHAT-RES-11: {seq}");
        let before = told.insert((self.epoch.clone(), seq), text.clone());
        assert!(before.is_none_or(|it| it == text), "CHAT-HIST-10: {seq}");
    }

    /// Checks that it has every chat up to a number that it is due and the disk has.
    pub(super) fn check_has(&self, seq: u64, kept: &Kept, rule: &str) {
        for chat in kept.chats.iter().take_while(|chat| chat.seq <= seq) {
            let is_due = chat.seq > self.began_seq
                && !self.gaps.contains(&chat.seq)
                && chat.sender != self.name
                && self.wants(chat);
            assert!(
                !is_due || self.known.contains_key(&chat.seq),
                "{rule}: {} is told {seq} and lacks {chat:?}",
                self.name
            );
        }
    }

    async fn registered(&mut self, registered: Registered, disk: &Disk) {
        let (from, seq) = (registered.resumed_from, self.seq());
        if self.epoch == registered.epoch {
            // What it was given it can use, whatever has crashed since.
            assert_eq!(registered.resume_failure, 0, "CHAT-RES-3");
            let oldest_seq = disk.kept.oldest_seq();
            if from > seq + 1 {
                assert!(from <= oldest_seq, "CHAT-RES-8: {from} behind {oldest_seq}");
                self.gaps.extend(seq + 1..from);
                self.events.push("gap");
            } else {
                assert_eq!(from, seq + 1, "CHAT-RES-8: {} of {}", from, self.name);
            }
            self.events.push("resumed");
            self.filters.push((from - 1, self.next_filter.clone()));
            self.told_seq = from - 1;
        } else {
            if !self.epoch.is_empty() {
                let failure = registered.resume_failure();
                assert_eq!(failure, ResumeFailure::OtherEpoch, "CHAT-RES-10");
                self.events.push("new epoch");
            }
            assert_eq!(from, 0, "CHAT-RES-10");
            // CHAT-RES-17: nobody knows what became of them.
            self.unanswered.clear();
            self.known.clear();
            self.gaps.clear();
            self.epoch.clone_from(&registered.epoch);
            self.began_seq = registered.seq;
            self.told_seq = registered.seq;
            self.filters = vec![(0, self.next_filter.clone())];
        }
        self.received = 0;
        self.token = registered.resume_token;
        self.is_registered = true;
        self.send_from(0).await; // CHAT-RES-16
    }
}
