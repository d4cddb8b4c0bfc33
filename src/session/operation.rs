//! Operations: what the operator does to a room (CHAT-MOD). On one node an operation is
//! carried out at once; on a node of a cluster it takes its place in the order of all
//! nodes, each of which carries it out.

use crate::{name::Name, text::Text};

use super::{Ban, Reason, Target};

/// Something for the operator to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Throws a member out (CHAT-MOD-1).
    Kick {
        /// Its name.
        name: Name,
        /// Why.
        reason: Reason,
    },
    /// Keeps names and addresses out, and ends their sessions (CHAT-MOD-2).
    Ban {
        /// Whom.
        targets: Vec<Target>,
        /// Also the household from which this member comes.
        with_address_of: Option<Name>,
        /// For how long, and why.
        ban: Ban,
    },
    /// Lifts a ban.
    Unban {
        /// Whose.
        target: Target,
    },
    /// Mutes a name (CHAT-MOD-4).
    Mute {
        /// The name.
        name: Name,
        /// For how long, and why.
        mute: Ban,
    },
    /// Lifts a mute.
    Unmute {
        /// Whose.
        name: Name,
    },
    /// Says a text to all members (CHAT-MOD-7).
    Say {
        /// The text.
        text: Text,
    },
    /// Removes the text of a chat for ever (CHAT-MOD-8).
    Remove {
        /// Its number.
        seq: u64,
    },
}

impl Operation {
    /// Whether it may change the bans and mutes.
    #[cfg(any(test, feature = "cluster"))]
    pub(crate) fn changes_bans(&self) -> bool {
        matches!(
            self,
            Self::Ban { .. } | Self::Unban { .. } | Self::Mute { .. } | Self::Unmute { .. }
        )
    }

    /// The names whose holders it throws out.
    #[cfg(any(test, feature = "cluster"))]
    pub(crate) fn expelled_names(&self) -> Vec<Name> {
        match self {
            Self::Kick { name, .. } => vec![name.clone()],
            Self::Ban { targets, .. } => {
                let names = targets.iter().filter_map(|target| match target {
                    Target::Name(name) => Some(name.clone()),
                    Target::Network(_) => None,
                });
                names.collect()
            }
            _ => Vec::new(),
        }
    }
}

/// What has become of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operated {
    /// Whether there was something to do.
    Done(bool),
    /// How many sessions it has ended.
    Ended(usize),
    /// There are too many bans or mutes.
    TooMany,
    /// The number of what was said.
    Said(u64),
}
