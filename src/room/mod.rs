//! Room: the pure, replicable state that all members agree on. It applies commands in one
//! order and returns events; it knows neither connections nor the origin of a command.
//! Two rooms that apply the same commands publish the same frames, byte for byte.
//!
//! ```text
//!   session ── Command ──▶ Room ── Event ──▶ the session's answer
//!                            │
//!                            └─ Publication ──▶ the channel's log
//! ```

mod change;
mod command;
mod event;
mod join;
mod lines;
mod members;
mod name_index;
mod owners;
mod snapshot;

pub use change::{Change, Place};
pub use command::{Command, JoinKey, JoinLine, MemberId, Ownership};
pub use event::{Claimed, Event, Publication, Replaced};
pub use lines::{Claim, ClaimResult, Line, LineId, Sent, TOKEN_BYTES, TOKENS_MAX, Token};
pub use owners::Owner;
#[cfg(feature = "cluster")]
pub(crate) use snapshot::MemberState;
pub(crate) use snapshot::Snapshot;

use lines::Lines;
use members::Members;
use name_index::NameIndex;
use owners::Owners;

use crate::{
    identity::{PublicKey, SenderId},
    limits::Limits,
    log::Audience,
    name::Name,
    wire::{self, ResumeFailure, server_envelope::Message},
};

/// The sender of what the server itself says; no member can have it (CHAT-NAME-2).
pub(crate) const SERVER_NAME: &str = "server";

/// The members of a room, and the numbers of its chats.
#[derive(Debug)]
pub struct Room {
    epoch: String,
    /// The number of the last accepted chat (CHAT-ORD-1).
    seq: u64,
    /// The number of the oldest chat that is kept; that of the next one if none is.
    oldest_seq: u64,
    members: Members,
    names: NameIndex,
    lines: Lines,
    owners: Owners,
    /// What a store has to keep of the commands since [`Room::take_changes`]; `None` if
    /// there is no store.
    changes: Option<Vec<Change>>,
    /// All applied commands, for the tests that apply them to a second room.
    #[cfg(test)]
    journal: Vec<Command>,
}

impl Room {
    /// An empty room. `epoch` identifies this run of its numbers: 1 to 64 printable ASCII
    /// characters that no earlier run had (CHAT-ORD-7).
    pub fn new(epoch: String, limits: &Limits) -> Self {
        Self {
            epoch,
            seq: 0,
            oldest_seq: 1,
            members: Members::default(),
            names: NameIndex::default(),
            lines: Lines::new(limits),
            owners: Owners::new(limits),
            changes: None,
            #[cfg(test)]
            journal: Vec::new(),
        }
    }

    /// A room that goes on where an earlier run of the server has stopped, and whose
    /// changes go into a store.
    pub fn restored(
        epoch: String,
        limits: &Limits,
        (oldest_seq, seq): (u64, u64),
        lines: impl IntoIterator<Item = (LineId, Line)>,
        owners: impl IntoIterator<Item = (Name, Owner)>,
    ) -> Self {
        let mut room = Self {
            seq,
            oldest_seq,
            changes: Some(Vec::new()),
            ..Self::new(epoch, limits)
        };
        for (id, line) in lines {
            room.lines.restore(id, line);
        }
        for (name, owner) in owners {
            room.owners.restore(name, owner);
        }
        room
    }

    /// The epoch, which identifies this run of its numbers (CHAT-ORD-7).
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// The number of the last accepted chat; 0 before the first (CHAT-ORD-6).
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// The number of the oldest chat that is kept; that of the next one if none is.
    pub fn oldest_seq(&self) -> u64 {
        self.oldest_seq
    }

    /// What a store has to keep of the commands since the last call, in order.
    pub fn take_changes(&mut self) -> Vec<Change> {
        self.changes
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// Has its changes go into a store, which keeps chats from this number on.
    pub fn keep_changes(&mut self, oldest_seq: u64) {
        self.changes = Some(Vec::new());
        self.oldest_seq = oldest_seq;
    }

    /// The store has older chats again, from `oldest_seq` on, which end right before the oldest
    /// one (CHAT-HIST-8). Returns whether they do.
    #[cfg_attr(not(feature = "store"), expect(dead_code, reason = "for the store"))]
    pub(crate) fn past_found(&mut self, before_seq: u64, oldest_seq: u64) -> bool {
        let is_next = self.oldest_seq == before_seq;
        if is_next {
            self.oldest_seq = oldest_seq;
        }
        is_next
    }

    /// What would become of a claim under this name.
    pub fn judge(&self, claim: &Claim, name: &Name, now_unix_ms: i64) -> ClaimResult {
        // CHAT-RES-4: a token belongs to its epoch.
        if claim.epoch != self.epoch {
            return ClaimResult::Failed(ResumeFailure::OtherEpoch);
        }
        let Some((id, line)) = self.lines.find(claim, name, now_unix_ms) else {
            return ClaimResult::Failed(ResumeFailure::UnknownToken);
        };
        if claim.attempt <= line.attempt {
            return ClaimResult::Replaced; // CHAT-RES-6
        }
        if claim.seq > self.seq {
            return ClaimResult::Failed(ResumeFailure::FutureSeq);
        }
        ClaimResult::Valid {
            line: id,
            member: line.member,
        }
    }

    /// What was accepted from the line of a member under an id other than 0
    /// (CHAT-RES-11).
    pub fn sent(&self, member: MemberId, id: u64) -> Option<Sent> {
        let line = self.members.get(member)?.line()?;
        self.lines.sent(line, id).filter(|_| id != 0).copied()
    }

    /// How many members there are.
    pub fn member_count(&self) -> usize {
        self.names.len()
    }

    /// The member that holds a name.
    pub fn holder(&self, name: &Name) -> Option<MemberId> {
        self.names.holder(&self.members, name)
    }

    /// Whether a member of another node holds a name.
    pub fn is_elsewhere(&self, name: &Name) -> bool {
        let holder = self.holder(name);
        holder.is_some_and(|it| it.elsewhere().is_some())
    }

    /// The name of a member.
    pub fn name(&self, member: MemberId) -> Option<&Name> {
        self.members.get(member).map(|member| &member.name)
    }

    /// How many chats of a member were accepted in this session.
    pub fn chats(&self, member: MemberId) -> u64 {
        self.members.get(member).map_or(0, |member| member.chats)
    }

    /// The members behind `name`, in the order of their names; all of them if it is
    /// `None`.
    pub fn members_after(&self, name: Option<&Name>) -> impl Iterator<Item = (MemberId, &Name)> {
        let names = self.names_after(name);
        names.filter_map(|name| Some((self.holder(name)?, name)))
    }

    /// The key that owns a name, as the first that was proved for it.
    pub fn owner(&self, name: &Name, now_unix_ms: i64) -> Option<PublicKey> {
        self.owners.key(name, now_unix_ms)
    }

    /// What others see of the key that a member has proved (CHAT-ID-12).
    pub fn sender_id(&self, member: MemberId) -> Option<SenderId> {
        self.members.get(member)?.sender_id()
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
            Command::Join {
                member,
                name,
                time_unix_ms,
                resume,
                key,
            } => self.join(member, name, time_unix_ms, resume, key.as_deref()),
            Command::Chat {
                member,
                text,
                topic,
                mentions,
                files,
                id,
                time_unix_ms,
            } => {
                let chat = wire::Chat {
                    text: text.into_string(),
                    topic,
                    mentions,
                    files,
                    id,
                    time_unix_ms,
                    ..wire::Chat::default()
                };
                self.chat(member, chat)
            }
            Command::Direct {
                member,
                id,
                time_unix_ms,
            } => self.direct(member, id, time_unix_ms),
            Command::Say { text, time_unix_ms } => {
                let chat = wire::Chat {
                    text: text.into_string(),
                    time_unix_ms,
                    ..wire::Chat::default()
                };
                self.accept(chat, (SERVER_NAME.to_owned(), None), None)
            }
            Command::Leave {
                member,
                reason,
                time_unix_ms,
            } => self.leave(member, reason, time_unix_ms),
            Command::Remove { seq } => {
                if let Some(changes) = &mut self.changes {
                    changes.push(Change::Removed(seq));
                }
                Event::Ignored
            }
            Command::Prune { oldest_seq } => {
                self.oldest_seq = self.oldest_seq.max(oldest_seq); // CHAT-HIST-8
                Event::Ignored
            }
        }
    }

    /// Accepts a chat, of which the number and the sender are still missing.
    fn chat(&mut self, member: MemberId, chat: wire::Chat) -> Event {
        let id = chat.id;
        if let Some(sent) = self.sent(member, id) {
            return Event::Repeated(sent);
        }
        let Some(sender) = self.members.get_mut(member) else {
            return Event::Ignored;
        };
        sender.chats += 1;
        let by = (sender.name.as_str().to_owned(), sender.sender_id());
        let line = sender.line().filter(|_| id != 0);
        self.accept(chat, by, line.map(|line| (line, id)))
    }

    /// Gives a chat its number. `sender`: the name and what others see of the key;
    /// `sent_by`: the line that may send it again, and the id.
    fn accept(
        &mut self,
        chat: wire::Chat,
        (sender, sender_id): (String, Option<SenderId>),
        sent_by: Option<(LineId, u64)>,
    ) -> Event {
        self.seq += 1; // CHAT-ORD-1
        let time_unix_ms = chat.time_unix_ms;
        // To every other member (CHAT-CHAT-1). The server sets every field but text, topic,
        // mentions and files (CHAT-CHAT-4, CHAT-CHAT-5, CHAT-CHAT-9, CHAT-FOL-2,
        // CHAT-FILE-16).
        let chat = wire::Chat {
            sender,
            seq: self.seq,
            id: 0,
            // CHAT-ID-12, and no more of the key (CHAT-ID-16).
            sender_id: sender_id.map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
            ..chat
        };
        if let Some((line, id)) = sent_by {
            let sent = Sent {
                id,
                seq: self.seq,
                time_unix_ms,
            };
            self.lines.note_sent(line, sent);
        }
        if let Some(changes) = &mut self.changes {
            changes.push(Change::Chat {
                chat: chat.clone(),
                sent_by,
            });
        }
        Event::Accepted {
            seq: self.seq,
            time_unix_ms,
            published: Publication::new(Audience::Everyone, Message::Chat(chat)),
        }
    }

    fn direct(&mut self, member: MemberId, id: u64, time_unix_ms: i64) -> Event {
        let line = self.members.get(member).and_then(|member| member.line());
        if let Some(line) = line.filter(|_| id != 0) {
            let sent = Sent {
                id,
                seq: 0,
                time_unix_ms,
            };
            self.lines.note_sent(line, sent);
        }
        Event::Ignored
    }

    /// All commands that were applied so far, in order.
    #[cfg(test)]
    pub(crate) fn journal(&self) -> &[Command] {
        &self.journal
    }
}

#[cfg(test)]
mod tests;
