//! Room: the pure, replicable state that all members agree on. It applies commands in one
//! order and returns events; it knows neither connections nor the origin of a command.
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
    /// All applied commands, for the tests that apply them to a second room.
    #[cfg(test)]
    journal: Vec<Command>,
}

impl Room {
    /// An empty room. `epoch` identifies this run of its numbers: 1 to 64 printable ASCII
    /// characters that no earlier run had (CHAT-ORD-7).
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

    /// The epoch, which identifies this run of its numbers (CHAT-ORD-7).
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

    /// The member that holds a name.
    pub fn holder(&self, name: &Name) -> Option<MemberId> {
        self.names.holder(&self.members, name)
    }

    /// The name of a member.
    pub fn name(&self, member: MemberId) -> Option<&Name> {
        self.members.get(member).map(|member| &member.name)
    }

    /// The names behind `name`, in order; all of them if it is `None`.
    pub fn names_after(&self, name: Option<&Name>) -> impl Iterator<Item = &Name> {
        self.names.names_after(&self.members, name)
    }

    /// Applies the next command in the order.
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

    /// CHAT-NAME-3: the first Join in the order takes the name.
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
        // To every other member (CHAT-CHAT-1). The server sets every field but the text
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
        // Before the member is removed, since the index looks up its name.
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

    /// All commands that were applied so far, in order.
    #[cfg(test)]
    pub(crate) fn journal(&self) -> &[Command] {
        &self.journal
    }
}

#[cfg(test)]
mod tests;
