//! The room, as naively as it can be told: a list of all that was published, who owns
//! which name, and for each connection when it came and went and how far it has heard.
//! It knows no time, no limit and no byte.

use std::collections::{BTreeMap, BTreeSet};

use crate::wire::server_envelope::Message;

#[derive(Default)]
pub(super) struct Model {
    /// All that was published, in order, with the connection that caused it.
    said: Vec<(usize, Message)>,
    chats: u64,
    /// Who owns which name, in small letters.
    owners: BTreeMap<String, usize>,
    parts: Vec<Part>,
    is_closing: bool,
}

/// One connection's part in it. Places are indices in what was said.
#[derive(Default)]
struct Part {
    name: String,
    wants_presence: bool,
    came: Option<usize>,
    went: Option<usize>,
    seq_at_coming: u64,
    heard_until: usize,
    /// Whom it has been told of.
    knows: BTreeSet<String>,
}

impl Model {
    pub(super) fn connected(&mut self) {
        self.parts.push(Part::default());
    }

    /// What a connection asks for in its first message, before anything comes of it.
    pub(super) fn registers(&mut self, by: usize, name: &str, wants_presence: bool) {
        let part = &mut self.parts[by];
        part.name = name.to_owned();
        part.wants_presence = wants_presence;
    }

    /// Something was published because of a connection.
    pub(super) fn published(&mut self, by: usize, message: Message) {
        assert!(!self.is_closing, "CHAT-CLOSE-5: {message:?}");
        let place = self.said.len();
        let part = &mut self.parts[by];
        let is_member = part.came.is_some() && part.went.is_none();
        let name = part.name.to_ascii_lowercase();
        match &message {
            Message::Joined(joined) => {
                assert_eq!((&joined.name, part.came), (&part.name, None), "who joins");
                let owner = self.owners.insert(name, by);
                assert_eq!(owner, None, "CHAT-NAME-3: {} has two owners", joined.name);
                part.came = Some(place);
                part.seq_at_coming = self.chats;
                part.heard_until = place + 1;
            }
            Message::Left(left) => {
                assert_eq!(left.name, part.name, "who left");
                assert_eq!(self.owners.remove(&name), Some(by), "a name is freed once");
                part.went = Some(place);
            }
            Message::Chat(chat) => {
                assert!(is_member, "no chat of who is not there: {chat:?}");
                self.chats += 1;
                assert_eq!(chat.seq, self.chats, "CHAT-ORD-1");
                assert_eq!(chat.sender, part.name, "CHAT-CHAT-4");
            }
            message => panic!("nobody can publish {message:?}"),
        }
        self.said.push((by, message));
    }

    /// The server begins to close: this is the last that all hear who are there.
    pub(super) fn closes(&mut self, closing: Message) {
        self.is_closing = true;
        self.said.push((usize::MAX, closing));
        let end = self.said.len();
        for part in &mut self.parts {
            if part.came.is_some() && part.went.is_none() {
                part.went = Some(end);
            }
        }
    }

    /// The next that a connection is to hear, if there is any yet: what others said
    /// between its coming and its going, notices only if it wants them.
    pub(super) fn next_for(&self, to: usize) -> Option<&Message> {
        self.next_place_for(to).map(|place| &self.said[place].1)
    }

    fn next_place_for(&self, to: usize) -> Option<usize> {
        let part = &self.parts[to];
        let end = match (part.came, part.went) {
            (None, _) => 0,
            (_, Some(went)) => went,
            (_, None) => self.said.len(),
        };
        (part.heard_until..end).find(|&place| {
            let (by, message) = &self.said[place];
            let is_presence = matches!(message, Message::Joined(_) | Message::Left(_));
            *by != to && (!is_presence || part.wants_presence)
        })
    }

    /// A connection has heard this.
    pub(super) fn hears(&mut self, to: usize, message: &Message) {
        let Some(place) = self.next_place_for(to) else {
            panic!("CHAT-ORD-4: nothing is due to {to}, but {message:?} comes");
        };
        assert_eq!(
            *message, self.said[place].1,
            "CHAT-ORD-2: not what {to} is to hear next"
        );
        let part = &mut self.parts[to];
        part.heard_until = place + 1;
        match message {
            Message::Joined(joined) => {
                part.knows.insert(joined.name.clone());
            }
            Message::Left(left) => {
                part.knows.remove(&left.name);
            }
            _ => {}
        }
    }

    /// A connection was told that these are members.
    pub(super) fn is_told_of(&mut self, to: usize, names: &[String]) {
        self.parts[to].knows.extend(names.iter().cloned());
    }

    pub(super) fn knows_nobody(&self, of: usize) -> bool {
        self.parts[of].knows.is_empty()
    }

    /// Who has been told of everybody knows who is there.
    pub(super) fn check_knowledge(&self, of: usize) {
        let names = self.owners.values().map(|&owner| &self.parts[owner].name);
        let part = &self.parts[of];
        assert_eq!(
            part.knows.iter().collect::<BTreeSet<_>>(),
            names.collect(),
            "CHAT-PRES: what {of} knows"
        );
    }

    /// Checks names against what the server holds.
    pub(super) fn check_names(&self, names: &[String]) {
        let held: BTreeSet<_> = names.iter().map(|name| name.to_ascii_lowercase()).collect();
        // Closing frees them one by one, without a word.
        assert!(
            self.is_closing || names.len() == held.len() && held.iter().eq(self.owners.keys()),
            "{names:?} are not {:?}",
            self.owners.keys()
        );
    }

    /// Who owns a name.
    pub(super) fn owner(&self, name: &str) -> Option<usize> {
        self.owners.get(&name.to_ascii_lowercase()).copied()
    }

    pub(super) fn has_come(&self, who: usize) -> bool {
        self.parts[who].came.is_some()
    }

    pub(super) fn has_gone(&self, who: usize) -> bool {
        self.parts[who].went.is_some()
    }

    pub(super) fn is_member(&self, who: usize) -> bool {
        self.has_come(who) && !self.has_gone(who)
    }

    /// The number of the last chat before it came.
    pub(super) fn seq_at_coming(&self, of: usize) -> u64 {
        self.parts[of].seq_at_coming
    }

    pub(super) fn is_closing(&self) -> bool {
        self.is_closing
    }
}
