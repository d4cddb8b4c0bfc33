//! What a session tells the one who holds it.

use crate::wire::{ErrorCode, LeftReason};

/// Something that happened in the room or to what was sent.
///
/// Names, texts and details are what the server sent: make them safe with
/// [`Printable`](super::Printable) before a terminal sees them.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Another member said something.
    Message {
        /// The chat's place in the one order, from 1 up.
        seq: u64,
        /// The name of the member.
        sender: String,
        /// One line of text.
        text: String,
        /// When the server accepted it, in milliseconds since
        /// 1970-01-01T00:00:00Z by the server's clock.
        time_unix_ms: i64,
    },
    /// Some or all of the members, this session included. Needs presence.
    Members {
        /// Their names, in any order.
        names: Vec<String>,
        /// Whether more names follow in another event.
        more: bool,
    },
    /// Somebody came. Needs presence.
    Joined {
        /// The name of the new member.
        name: String,
    },
    /// Somebody went. Needs presence.
    Left {
        /// The name, free from now on.
        name: String,
        /// Why; [`LeftReason::Unspecified`] for a reason that this library does
        /// not know (CHAT-GROW-8).
        reason: LeftReason,
    },
    /// A chat of this session was accepted. Needs receipts.
    Receipt {
        /// What [`Session::send`](super::Session::send) gave.
        id: u64,
        /// The chat's place in the one order.
        seq: u64,
    },
    /// Something was refused for good, and the session goes on. A chat that was
    /// refused for its rate is sent again instead, and is not told.
    Refused {
        /// What [`Session::send`](super::Session::send) gave for the chat, 0 if
        /// no chat was refused.
        id: u64,
        /// The chat's text, where it is still known.
        text: Option<String>,
        /// What was wrong; [`ErrorCode::Unspecified`] for a code that this
        /// library does not know (CHAT-GROW-5).
        code: ErrorCode,
        /// The server's sentence about it; can be empty.
        detail: String,
        /// How long the server said to wait, in milliseconds; 0: waiting does
        /// not help.
        retry_after_ms: u32,
    },
    /// The session is over: the last event.
    Ended(Ended),
}

/// How a session ended, and what became of what was sent.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// What ended it.
    pub ending: Ending,
    /// How many chats were given to the session and not sent.
    pub unsent: usize,
    /// How many chats were sent and have no receipt. Always 0 without receipts:
    /// then nobody knows.
    pub unconfirmed: usize,
}

/// What ended a session.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Ending {
    /// It left on purpose.
    Left,
    /// The server shuts down (ServerClosing).
    ServerClosed {
        /// The server's sentence about it; can be empty.
        detail: String,
    },
    /// The server ended it with an error (CHAT-ERR-7).
    Error {
        /// What was wrong; [`ErrorCode::Unspecified`] for a code that this
        /// library does not know.
        code: ErrorCode,
        /// The server's sentence about it; can be empty.
        detail: String,
    },
    /// The connection is gone, or had to be given up, and nobody said why.
    Lost {
        /// The reason, as far as it is known, in words for a person.
        reason: String,
    },
}
