//! Model: the room in its simplest form, as a list of everything that was published, the
//! holder of each name, and for each connection when it joined and left and how far it
//! has received. It knows no time, no limit and no byte.

use std::collections::{BTreeMap, BTreeSet};

use crate::wire::server_envelope::Message;

/// The room, as all members must see it.
#[derive(Default)]
pub(super) struct Model {
    /// Everything that was published, in order, with the connection that caused it.
    publications: Vec<(usize, Message)>,
    /// How many chats were accepted.
    chats: u64,
    /// The holder of each name. The names are in lower case.
    holders: BTreeMap<String, usize>,
    participants: Vec<Participant>,
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
    /// It has received everything that is due to it before this place.
    received_until: usize,
    /// The members of which it has received the names.
    known_members: BTreeSet<String>,
}

impl Model {
    /// Adds a connection.
    pub(super) fn connect(&mut self) {
        self.participants.push(Participant::default());
    }

    /// A connection sends Register as its first message. It has not joined yet.
    pub(super) fn register(&mut self, by: usize, name: &str, wants_presence: bool) {
        let participant = &mut self.participants[by];
        participant.name = name.to_owned();
        participant.wants_presence = wants_presence;
    }

    /// Something was published because of a connection.
    pub(super) fn publish(&mut self, by: usize, message: Message) {
        assert!(!self.is_closing, "CHAT-CLOSE-5: {message:?}");
        let place = self.publications.len();
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
                participant.seq_at_join = self.chats;
                participant.received_until = place + 1;
            }
            Message::Left(left) => {
                assert_eq!(left.name, participant.name, "CHAT-PRES-3");
                assert_eq!(self.holders.remove(&name), Some(by), "{by} leaves twice");
                participant.left = Some(place);
            }
            Message::Chat(chat) => {
                assert!(is_member, "{by} is no member and sends {chat:?}");
                self.chats += 1;
                assert_eq!(chat.seq, self.chats, "CHAT-ORD-1");
                assert_eq!(chat.sender, participant.name, "CHAT-CHAT-4");
            }
            message => panic!("no member can publish {message:?}"),
        }
        self.publications.push((by, message));
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

    /// The next message that is due to a connection: what others published between its
    /// Joined and its Left, presence only if it wants it.
    pub(super) fn next_for(&self, to: usize) -> Option<&Message> {
        self.next_place_for(to)
            .map(|place| &self.publications[place].1)
    }

    fn next_place_for(&self, to: usize) -> Option<usize> {
        let participant = &self.participants[to];
        let end = match (participant.joined, participant.left) {
            (None, _) => 0,
            (_, Some(left)) => left,
            (_, None) => self.publications.len(),
        };
        (participant.received_until..end).find(|&place| {
            let (by, message) = &self.publications[place];
            let is_presence = matches!(message, Message::Joined(_) | Message::Left(_));
            *by != to && (!is_presence || participant.wants_presence)
        })
    }

    /// A connection has received a publication.
    pub(super) fn receive(&mut self, to: usize, message: &Message) {
        let Some(place) = self.next_place_for(to) else {
            panic!("CHAT-ORD-4: nothing is due to {to}, and it receives {message:?}");
        };
        assert_eq!(
            *message, self.publications[place].1,
            "CHAT-ORD-2: something else is due to {to}"
        );
        let participant = &mut self.participants[to];
        participant.received_until = place + 1;
        match message {
            Message::Joined(joined) => {
                participant.known_members.insert(joined.name.clone());
            }
            Message::Left(left) => {
                participant.known_members.remove(&left.name);
            }
            _ => {}
        }
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

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing
    }
}
