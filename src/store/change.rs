//! Changes: what a commit records.

use crate::wire;

/// The bytes of a resume token.
pub const TOKEN_BYTES: usize = 16;

/// The bytes of a public key.
pub const KEY_BYTES: usize = 32;

/// How many tokens a line keeps.
pub const TOKENS_MAX: usize = 4;

/// One thing that a commit records.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A chat was accepted under the next number.
    Chat {
        /// The chat as it is relayed; its id is not kept.
        chat: wire::Chat,
        /// The line that sent it and the id that it gave, if the line resumes. An id of
        /// a line that the store does not know is not kept.
        sent_by: Option<(u64, u64)>,
    },
    /// The chat with this number loses its text, for ever. Nothing if it is not kept.
    Removed(u64),
    /// A line began, or what is known about it changed. `Line::sent` is ignored: ids
    /// come with their chats.
    Line(Line),
    /// A line ended: it is forgotten with its ids.
    LineEnded(u64),
    /// A key has come to own a name, or what is known about that changed.
    Owned(Owner),
    /// No key owns a name any more.
    Disowned(String),
    /// The numbers go on behind this one, in this epoch, as the order of a cluster says.
    /// The chats so far are set aside, and lines are forgotten.
    Began {
        /// The epoch.
        epoch: String,
        /// The number of the chat before the next one.
        seq: u64,
    },
    /// All that the order of a cluster has up to this place is recorded.
    Placed(Place),
}

/// A place in the order of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Place {
    /// The position of a record in the stream; 0 for none.
    pub position: u64,
    /// Which record stands there. Empty if that is not known.
    pub record: String,
}

/// The key that owns a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The name. Another one differs in more than the case of A-Z.
    pub name: String,
    /// The key.
    pub key: [u8; KEY_BYTES],
    /// When a session under the name was last there.
    pub used_unix_ms: i64,
}

/// A resume line: what continues over the connections of one client.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line {
    /// The caller's number for the line, of which another line has another one.
    pub id: u64,
    /// The name of the member.
    pub name: String,
    /// The tokens that resume it, at most [`TOKENS_MAX`], the one that was used last
    /// first, then those given since in order.
    pub tokens: Vec<[u8; TOKEN_BYTES]>,
    /// The highest attempt that was taken.
    pub attempt: u32,
    /// The number of the last chat that was accepted before the line began, which never
    /// changes.
    pub began_seq: u64,
    /// When a session of the line was last there.
    pub seen_unix_ms: i64,
    /// The ids of its newest chats, at most `Options::sent_ids_max`, the oldest first.
    pub sent: Vec<Sent>,
}

/// The answer to a chat that a line sent: what its receipt said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The id that the sender gave it.
    pub id: u64,
    /// Its number.
    pub seq: u64,
    /// When it was accepted.
    pub time_unix_ms: i64,
}
