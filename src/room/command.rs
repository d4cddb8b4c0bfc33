//! Commands: what a session asks the room for, judged already. Everything that is
//! random or depends on a clock travels in the command, so that applying it is the
//! same everywhere.

use crate::{name::Name, text::Text, wire::LeftReason};

/// Stands for one member from its Join to its Leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberId(pub(crate) u32);

/// A change of the room, to be applied in one order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Takes a name, unless a member holds it.
    Join {
        /// The new member.
        member: MemberId,
        /// The name that it asks for.
        name: Name,
    },
    /// Says something to all other members.
    Chat {
        /// The sender.
        member: MemberId,
        /// What it says.
        text: Text,
        /// When it was received, in milliseconds since 1970-01-01T00:00:00Z.
        time_unix_ms: i64,
    },
    /// Frees the name.
    Leave {
        /// The member that goes.
        member: MemberId,
        /// Why, as the others are told (CHAT-PRES-5).
        reason: LeftReason,
    },
}
