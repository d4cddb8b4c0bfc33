//! The room: the pure state that all agree on. It applies commands in one order and
//! says what happened; it knows neither connections nor where its commands come from.
//! Two rooms that apply the same commands publish the same frames, byte for byte.
//!
//! ```text
//!   session ── Command ──▶ Room ── Event ──▶ the session's answer
//!                            │
//!                            └─ Publication ──▶ the channel's log
//! ```

mod command;
mod event;
mod members;
mod name_index;

pub use command::{Command, MemberId};
pub use event::{Event, Publication};

use members::Members;
use name_index::NameIndex;

use crate::{
    log::Audience,
    name::Name,
    wire::{self, server_envelope::Message},
};

/// The members of a room, and the numbers of its chats.
#[derive(Debug)]
pub struct Room {
    epoch: String,
    /// The number of the last accepted chat (CHAT-ORD-1).
    seq: u64,
    members: Members,
    names: NameIndex,
    /// All that was applied, for the tests that apply it to another room.
    #[cfg(test)]
    journal: Vec<Command>,
}

impl Room {
    /// An empty room. `epoch` names this life of its numbers: 1 to 64 printable ASCII
    /// characters that no earlier life had (CHAT-ORD-7).
    pub fn new(epoch: String) -> Self {
        Self {
            epoch,
            seq: 0,
            members: Members::default(),
            names: NameIndex::default(),
            #[cfg(test)]
            journal: Vec::new(),
        }
    }

    /// The name of this life of its numbers (CHAT-ORD-7).
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The number of the last accepted chat; 0 before the first (CHAT-ORD-6).
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// How many members there are.
    pub fn member_count(&self) -> usize {
        self.names.len()
    }

    /// Which member holds a name.
    pub fn holder(&self, name: &Name) -> Option<MemberId> {
        self.names.holder(&self.members, name)
    }

    /// The name of a member.
    pub fn name(&self, member: MemberId) -> Option<&Name> {
        self.members.get(member).map(|member| &member.name)
    }

    /// The names behind `name`, in order; all of them where it is `None`.
    pub fn names_after(&self, name: Option<&Name>) -> impl Iterator<Item = &Name> {
        self.names.names_after(&self.members, name)
    }

    /// Applies the next command in the order, and says what happened.
    pub fn apply(&mut self, command: Command) -> Event {
        #[cfg(test)]
        self.journal.push(command.clone());
        match command {
            Command::Join { member, name } => self.join(member, name),
            Command::Chat {
                member,
                text,
                time_unix_ms,
            } => self.chat(member, text.into_string(), time_unix_ms),
            Command::Leave { member, reason } => self.leave(member, reason),
        }
    }

    /// CHAT-NAME-3: the first Join in the order has the name.
    fn join(&mut self, member: MemberId, name: Name) -> Event {
        if self.holder(&name).is_some() || self.members.get(member).is_some() {
            return Event::NameTaken;
        }
        let joined = wire::Joined {
            name: name.as_str().to_owned(),
        };
        self.members.insert(member, name);
        self.names.insert(&self.members, member);
        // CHAT-PRES-2
        Event::Joined(Publication::new(
            Audience::Presence,
            Message::Joined(joined),
        ))
    }

    fn chat(&mut self, member: MemberId, text: String, time_unix_ms: i64) -> Event {
        let Some(sender) = self.members.get_mut(member) else {
            return Event::Ignored;
        };
        sender.chats += 1;
        self.seq += 1; // CHAT-ORD-1
        // To every other member (CHAT-CHAT-1); all but the text is the server's
        // (CHAT-CHAT-4, CHAT-CHAT-5, CHAT-CHAT-9).
        let chat = wire::Chat {
            text,
            sender: sender.name.as_str().to_owned(),
            seq: self.seq,
            time_unix_ms,
            id: 0,
        };
        Event::Accepted {
            seq: self.seq,
            time_unix_ms,
            published: Publication::new(Audience::Everyone, Message::Chat(chat)),
        }
    }

    /// Frees the name (CHAT-NAME-5) and tells the members with presence (CHAT-PRES-3).
    fn leave(&mut self, member: MemberId, reason: wire::LeftReason) -> Event {
        // While its name can still be looked up.
        self.names.remove(&self.members, member);
        let Some(gone) = self.members.remove(member) else {
            return Event::Ignored;
        };
        let left = wire::Left {
            name: gone.name.as_str().to_owned(),
            reason: reason.into(),
        };
        Event::Left {
            name: gone.name,
            chats: gone.chats,
            published: Publication::new(Audience::Presence, Message::Left(left)),
        }
    }

    /// All commands that were applied so far, in their order.
    #[cfg(test)]
    pub(crate) fn journal(&self) -> &[Command] {
        &self.journal
    }
}

#[cfg(test)]
mod tests;
