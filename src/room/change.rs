//! Changes: what a store must keep of the room so that it can be restored.

use super::{Line, LineId, Owner};
use crate::{name::Name, wire};

/// One change. A store keeps those of one pass together or not at all.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A chat was accepted.
    Chat {
        /// The chat as the others receive it.
        chat: wire::Chat,
        /// The line of its sender and the id that it gave the chat, if it can come again
        /// (CHAT-RES-11).
        sent_by: Option<(LineId, u64)>,
    },
    /// The chat with this number has lost its text (CHAT-MOD-8).
    Removed(u64),
    /// A line began, was resumed or lost its session. Without the chats that were sent.
    Line(LineId, Box<Line>),
    /// A line has ended.
    LineEnded(LineId),
    /// A key has come to own a name, or its member has joined or left.
    Owned(Name, Owner),
    /// No key owns a name any more.
    Disowned(Name),
    /// The order of a cluster goes on in this epoch behind this number, without what was
    /// kept so far.
    Began {
        /// The epoch.
        epoch: String,
        /// The number of the chat before the next one.
        seq: u64,
    },
    /// All that this order has up to this place was made of it.
    Placed(Place),
}

/// A place in the order of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The position of a record; 0 before the first.
    pub position: u64,
    /// Which record stands there. Empty if that is not known.
    pub record: String,
}
