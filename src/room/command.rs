//! Commands: the requests of sessions to the room, checked already. Everything that is
//! random or depends on a clock is in the command, so that applying it has the same
//! result everywhere.

use super::{Claim, Token};
use crate::{
    identity::PublicKey,
    name::Name,
    text::Text,
    wire::{File, LeftReason},
};

/// Identifies one member, from its Join to its Leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberId(pub(crate) u32);

impl MemberId {
    /// Set in the id of a member of another node. The others are indices of connections,
    /// of which there are fewer.
    pub(crate) const ELSEWHERE: u32 = 1 << 31;

    /// The index among the members of other nodes; `None` for a member of this one.
    pub(crate) fn elsewhere(self) -> Option<u32> {
        (self.0 & Self::ELSEWHERE != 0).then_some(self.0 & !Self::ELSEWHERE)
    }
}

/// A change of the room. All rooms apply the same commands in one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Takes a name, unless a member holds it.
    Join {
        /// The new member.
        member: MemberId,
        /// The requested name.
        name: Name,
        /// When it was received, in milliseconds since 1970-01-01T00:00:00Z.
        time_unix_ms: i64,
        /// The session can be resumed, or resumes one (CHAT-RES).
        resume: Option<Box<JoinLine>>,
        /// The key that it has proved (CHAT-ID).
        key: Option<Box<JoinKey>>,
    },
    /// Sends a text to all other members.
    Chat {
        /// The sender.
        member: MemberId,
        /// The text.
        text: Text,
        /// What it is about; empty without a topic.
        topic: String,
        /// The names of members that it is meant for.
        mentions: Vec<String>,
        /// The files that it names.
        files: Vec<File>,
        /// The id that the sender gave it; 0 if it gave none.
        id: u64,
        /// When it was received, in milliseconds since 1970-01-01T00:00:00Z.
        time_unix_ms: i64,
    },
    /// The server says a text to all members (CHAT-MOD-7).
    Say {
        /// The text.
        text: Text,
        /// When it was said, in milliseconds since 1970-01-01T00:00:00Z.
        time_unix_ms: i64,
    },
    /// Sends a text to one other member, which the room has no part in: it remembers the id
    /// (CHAT-DM-11).
    Direct {
        /// The sender.
        member: MemberId,
        /// The id that the sender gave it; 0 if it gave none.
        id: u64,
        /// When it was received, in milliseconds since 1970-01-01T00:00:00Z.
        time_unix_ms: i64,
    },
    /// Frees the name.
    Leave {
        /// The member that leaves.
        member: MemberId,
        /// The reason in Left (CHAT-PRES-5).
        reason: LeftReason,
        /// When it left, in milliseconds since 1970-01-01T00:00:00Z.
        time_unix_ms: i64,
    },
    /// The text of a chat is removed (CHAT-MOD-8). The room has none; a store does.
    Remove {
        /// Its number.
        seq: u64,
    },
    /// Chats below a number are not kept any more.
    Prune {
        /// The number of the oldest chat that is kept.
        oldest_seq: u64,
    },
}

/// The key of a new member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinKey {
    /// The key.
    pub key: PublicKey,
    /// Whether it owns the name.
    pub ownership: Ownership,
}

/// Whether the key of a new member owns its name, apart from what the room knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ownership {
    /// Only if it owned the name before.
    Known,
    /// Also if no key owned the name before (CHAT-ID-10).
    FirstProof,
    /// The operator says so, whatever the room knows.
    Operator,
}

/// The line of a new member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinLine {
    /// The token of the new session.
    pub token: Token,
    /// The line that it continues; a new one if it is `None`, or cannot be resumed.
    pub claim: Option<Claim>,
}
