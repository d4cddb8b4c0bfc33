//! Model: the room in its simplest form, as a list of everything that was published, the
//! holder of each name, and for each connection when it joined and left, what it wants and
//! how far it has received. It knows no limit and no byte.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    limits::Limits,
    wire::{Chat, Covered, Following, ResumeFailure, server_envelope::Message},
};

use super::{
    filter::NaiveFilter,
    lines::{Claim, Judged, Lines},
};

/// Who publishes what the operator says.
pub(super) const OPERATOR: usize = usize::MAX;

/// The room, as all members must see it.
#[derive(Default)]
pub(super) struct Model {
    /// Everything that was published, in order, with the connection that caused it.
    publications: Vec<(usize, Message)>,
    /// The place of each accepted chat, by its number less 1.
    chats: Vec<usize>,
    /// The numbers of the chats whose texts the operator has removed, and the place from
    /// which on nobody who comes back sees them.
    removed: BTreeMap<u64, usize>,
    /// The holder of each name. The names are in lower case.
    holders: BTreeMap<String, usize>,
    participants: Vec<Participant>,
    pub(super) lines: Lines,
    is_closing: bool,
}

/// One connection. Places are indices of publications.
#[derive(Default)]
struct Participant {
    name: String,
    wants_presence: bool,
    /// The place of its Joined.
    joined: Option<usize>,
    /// The place of its Left, or the end of the publications when the server closed.
    left: Option<usize>,
    /// The number of the last chat before it joined.
    seq_at_join: u64,
    /// The first number that it was sent of the past, or why it was sent none.
    resumed: Option<Result<u64, ResumeFailure>>,
    /// What it wants above a number. The last of those below a chat's counts.
    filters: Vec<(u64, Option<NaiveFilter>)>,
    /// It has received everything that is due to it before this place.
    received_until: usize,
    /// How many chats it has received.
    received_chats: u64,
    /// The highest number that it was told by Registered, a Chat, a Covered or a Following.
    told_seq: u64,
    /// The members of which it has received the names.
    known_members: BTreeSet<String>,
}

impl Participant {
    fn wants(&self, chat: &Chat) -> bool {
        let mut filters = self.filters.iter().rev();
        let filter = filters.find(|(above, _)| *above < chat.seq);
        let filter = filter.and_then(|(_, filter)| filter.as_ref());
        filter.is_none_or(|filter| filter.passes(chat))
    }

    fn has_filter(&self) -> bool {
        matches!(self.filters.last(), Some((_, Some(_))))
    }
}

impl Model {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            lines: Lines::new(limits),
            ..Self::default()
        }
    }

    /// Adds a connection.
    pub(super) fn connect(&mut self) {
        self.participants.push(Participant::default());
    }

    /// A connection sends Register as its first message. It has not joined yet.
    pub(super) fn register(
        &mut self,
        by: usize,
        name: &str,
        wants_presence: bool,
        filter: Option<NaiveFilter>,
    ) {
        let participant = &mut self.participants[by];
        participant.name = name.to_owned();
        participant.wants_presence = wants_presence;
        participant.filters = vec![(0, filter)];
    }

    /// The number of the last accepted chat.
    pub(super) fn seq(&self) -> u64 {
        self.chats.len() as u64
    }

    /// Something was published because of a connection, or of [`OPERATOR`].
    pub(super) fn publish(&mut self, by: usize, message: Message) {
        assert!(!self.is_closing, "CHAT-CLOSE-5: {message:?}");
        let place = self.publications.len();
        let seq = self.seq();
        if let Message::Chat(chat) = &message {
            assert_eq!(chat.seq, seq + 1, "CHAT-ORD-1");
            self.chats.push(place);
        }
        if by == OPERATOR {
            return self.publications.push((by, message));
        }
        let participant = &mut self.participants[by];
        let is_member = participant.joined.is_some() && participant.left.is_none();
        let name = participant.name.to_ascii_lowercase();
        match &message {
            Message::Joined(joined) => {
                assert_eq!(participant.joined, None, "{by} joins twice");
                assert_eq!(joined.name, participant.name, "CHAT-PRES-2");
                let holder = self.holders.insert(name, by);
                assert_eq!(holder, None, "CHAT-NAME-3: {} has two holders", joined.name);
                participant.joined = Some(place);
                participant.seq_at_join = seq;
                participant.told_seq = seq;
                participant.received_until = place + 1;
            }
            Message::Left(left) => {
                assert_eq!(left.name, participant.name, "CHAT-PRES-3");
                assert_eq!(self.holders.remove(&name), Some(by), "{by} leaves twice");
                participant.left = Some(place);
            }
            Message::Chat(chat) => {
                assert!(is_member, "{by} is no member and sends {chat:?}");
                assert_eq!(chat.sender, participant.name, "CHAT-CHAT-4");
            }
            message => panic!("no member can publish {message:?}"),
        }
        self.publications.push((by, message));
    }

    /// A connection that has joined can be resumed, or resumes a line (CHAT-RES).
    pub(super) fn join_line(&mut self, by: usize, claim: Option<&Claim>, unix_ms: i64) {
        let (name, seq) = (self.participants[by].name.clone(), self.seq());
        let resumed = claim.map(|claim| match self.lines.judge(claim, &name, seq, unix_ms) {
            Judged::Valid { line, .. } => Ok(self.lines.resume(line, by, claim)),
            Judged::Replaced => panic!("CHAT-RES-6: {by} joins with an attempt of long ago"),
            Judged::Failed(failure) => Err(failure),
        });
        let Some(Ok(from)) = resumed else {
            self.lines.begin(by, &name, seq);
            self.participants[by].resumed = resumed;
            return;
        };
        let place = self.chats.get(from as usize - 1).copied();
        let participant = &mut self.participants[by];
        participant.resumed = resumed;
        if let Some(place) = place {
            participant.received_until = place;
        }
        participant.told_seq = from - 1;
    }

    /// What a resumed connection must be told: the first number that it is sent, or why it
    /// is sent nothing of the past.
    pub(super) fn resumed(&self, of: usize) -> Option<Result<u64, ResumeFailure>> {
        self.participants[of].resumed
    }

    /// The server begins to close: `closing` is the last message to all members.
    pub(super) fn close(&mut self, closing: Message) {
        self.is_closing = true;
        self.publications.push((usize::MAX, closing));
        let end = self.publications.len();
        for participant in &mut self.participants {
            if participant.joined.is_some() && participant.left.is_none() {
                participant.left = Some(end);
            }
        }
    }

    /// The operator removes the text of a chat (CHAT-MOD-8).
    pub(super) fn remove_text(&mut self, seq: u64) {
        let place = self.publications.len();
        self.removed.entry(seq).or_insert(place);
    }

    /// The next message that is due to a connection: what others published between its
    /// Joined and its Left that it wants, and before that the chats that it resumes.
    pub(super) fn next_for(&self, to: usize) -> Option<&Message> {
        self.next_place_for(to)
            .map(|place| &self.publications[place].1)
    }

    fn next_place_for(&self, to: usize) -> Option<usize> {
        let participant = &self.participants[to];
        let joined = participant.joined?;
        let end = participant.left.unwrap_or(self.publications.len());
        (participant.received_until..end).find(|&place| {
            let (by, message) = &self.publications[place];
            let is_past = place < joined;
            match message {
                // CHAT-RES-9: its own of earlier sessions too.
                Message::Chat(chat) => (is_past || *by != to) && participant.wants(chat),
                Message::Joined(_) | Message::Left(_) => {
                    !is_past && *by != to && participant.wants_presence
                }
                _ => true,
            }
        })
    }

    /// A connection has received a publication.
    pub(super) fn receive(&mut self, to: usize, message: &Message) {
        let Some(place) = self.next_place_for(to) else {
            panic!("CHAT-ORD-4, CHAT-FOL-4: nothing is due to {to}, and it receives {message:?}");
        };
        let due = &self.publications[place].1;
        assert!(
            self.is_as_due(to, place, message),
            "CHAT-ORD-2, CHAT-FOL-4, CHAT-MOD-8: {due:?} is due to {to}, and it receives {message:?}"
        );
        let participant = &mut self.participants[to];
        participant.received_until = place + 1;
        match message {
            Message::Chat(chat) => {
                participant.received_chats += 1;
                participant.told_seq = chat.seq;
            }
            Message::Joined(joined) => {
                participant.known_members.insert(joined.name.clone());
            }
            Message::Left(left) => {
                participant.known_members.remove(&left.name);
            }
            _ => {}
        }
    }

    /// Whether a connection may receive the publication at `place` in this form.
    fn is_as_due(&self, to: usize, place: usize, message: &Message) -> bool {
        let due = &self.publications[place].1;
        let Message::Chat(chat) = due else {
            return message == due;
        };
        let Some(&removed) = self.removed.get(&chat.seq) else {
            return message == due;
        };
        let without_text = Message::Chat(Chat {
            text: String::new(),
            removed: true,
            files: Vec::new(),
            ..chat.clone()
        });
        // Who was there before may have it on its way.
        let is_there = self.participants[to].joined.is_some_and(|it| it < removed);
        *message == without_text || (is_there && message == due)
    }

    /// Checks that a connection has received every chat up to a number that it is due.
    fn check_has_all(&self, to: usize, seq: u64, rule: &str) {
        let participant = &self.participants[to];
        let joined = participant.joined.expect("it has joined");
        let end = self.chats.get(seq as usize).copied();
        let end = end.unwrap_or(self.publications.len());
        for place in participant.received_until..end {
            if let (by, Message::Chat(chat)) = &self.publications[place]
                && (place < joined || *by != to)
            {
                assert!(
                    !participant.wants(chat),
                    "{rule}: {to} is told {seq} and has not received {chat:?}"
                );
            }
        }
    }

    /// A connection has received a Covered.
    pub(super) fn receive_covered(&mut self, to: usize, covered: &Covered) {
        let participant = &self.participants[to];
        assert!(participant.has_filter(), "CHAT-COV-5: to {to}");
        let received = participant.received_chats;
        assert_eq!(covered.sent, received, "CHAT-COV-4: {covered:?} to {to}");
        assert!(covered.seq <= self.seq(), "CHAT-COV-1: {covered:?} to {to}");
        self.check_has_all(to, covered.seq, "CHAT-COV-1");
        let told_seq = &mut self.participants[to].told_seq;
        *told_seq = (*told_seq).max(covered.seq);
    }

    /// A connection has received a Following, which puts a filter in force.
    pub(super) fn receive_following(
        &mut self,
        to: usize,
        following: &Following,
        filter: Option<NaiveFilter>,
    ) {
        let seq = following.seq;
        assert!(seq <= self.seq(), "CHAT-FOL-7: {following:?} to {to}");
        self.check_has_all(to, seq, "CHAT-FOL-8");
        let participant = &mut self.participants[to];
        assert!(
            participant.told_seq <= seq,
            "CHAT-FOL-8: {to} has received {} before {following:?}",
            participant.told_seq
        );
        participant.told_seq = seq;
        participant.filters.push((seq, filter));
    }

    /// A connection has received a page of Members.
    pub(super) fn receive_members(&mut self, to: usize, names: &[String]) {
        let known_members = &mut self.participants[to].known_members;
        known_members.extend(names.iter().cloned());
    }

    /// Whether a connection has received no names of members yet.
    pub(super) fn knows_no_member(&self, of: usize) -> bool {
        self.participants[of].known_members.is_empty()
    }

    /// Checks that a member with presence that has received everything knows all members.
    pub(super) fn check_known_members(&self, of: usize) {
        let holders = self.holders.values();
        let names = holders.map(|&holder| &self.participants[holder].name);
        let participant = &self.participants[of];
        assert_eq!(
            participant.known_members.iter().collect::<BTreeSet<_>>(),
            names.collect(),
            "CHAT-PRES: the members that {of} knows"
        );
    }

    /// Checks the names that the server holds.
    pub(super) fn check_names(&self, names: &[String]) {
        let held: BTreeSet<_> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        // A closing server frees them one by one and publishes nothing.
        assert!(
            self.is_closing || names.len() == held.len() && held.iter().eq(self.holders.keys()),
            "the server holds {names:?}, not {:?}",
            self.holders.keys()
        );
    }

    /// The connection that holds a name.
    pub(super) fn holder(&self, name: &str) -> Option<usize> {
        self.holders.get(&name.to_ascii_lowercase()).copied()
    }

    pub(super) fn has_joined(&self, who: usize) -> bool {
        self.participants[who].joined.is_some()
    }

    pub(super) fn has_left(&self, who: usize) -> bool {
        self.participants[who].left.is_some()
    }

    pub(super) fn is_member(&self, who: usize) -> bool {
        self.has_joined(who) && !self.has_left(who)
    }

    /// The number of the last chat before it joined.
    pub(super) fn seq_at_join(&self, of: usize) -> u64 {
        self.participants[of].seq_at_join
    }

    /// The first chat by another above what a member with a filter was told, if it has a
    /// filter (CHAT-COV-2).
    pub(super) fn first_uncovered(&self, of: usize) -> Option<u64> {
        let participant = &self.participants[of];
        let told_seq = participant.told_seq as usize;
        let mut untold = self.chats.iter().skip(told_seq).filter_map(|&place| {
            let (by, message) = &self.publications[place];
            match message {
                Message::Chat(chat) if *by != of => Some(chat.seq),
                _ => None,
            }
        });
        untold.next().filter(|_| participant.has_filter())
    }

    /// Whether a filter keeps some chat by another from a member.
    pub(super) fn is_kept_out(&self, of: usize, chat: &Chat) -> bool {
        self.is_member(of) && !self.participants[of].wants(chat)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing
    }
}
