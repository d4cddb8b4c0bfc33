//! Events of a session.

use std::time::Duration;

use crate::identity::SenderId;
use crate::wire::{ErrorCode, File, LeftReason, Registered, ResumeFailure};

/// An event in the room or about a sent chat.
///
/// Names, texts and details are the server's bytes: pass them through
/// [`Printable`](super::Printable) before a terminal shows them.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Another member sent a chat.
    Message {
        /// The chat's number, from 1.
        seq: u64,
        /// The sender's name.
        sender: String,
        /// One line of text.
        text: String,
        /// When the server accepted it, in milliseconds since 1970-01-01T00:00:00Z on
        /// the server's clock.
        time_unix_ms: i64,
        /// What it is about; empty without a topic.
        topic: String,
        /// The names of the members that it is meant for.
        mentions: Vec<String>,
        /// The sender's key, as the server tells it (CHAT-ID-12): the same for the same
        /// key. `None` if the sender has proved none.
        sender_id: Option<SenderId>,
        /// The files that it names: [`Session::fetch`](super::Session::fetch) gets one.
        files: Vec<File>,
    },
    /// Another member sent a chat whose text the server's operator has removed since
    /// (CHAT-MOD-8). It comes only in a session that was resumed.
    Removed {
        /// The chat's number, from 1.
        seq: u64,
        /// The sender's name.
        sender: String,
        /// When the server accepted it, as in [`Event::Message`].
        time_unix_ms: i64,
    },
    /// Another member sent a line to this client alone. Needs direct.
    Direct {
        /// Counts the directs of the session, from 1.
        seq: u64,
        /// The sender's name.
        sender: String,
        /// One line of text.
        text: String,
        /// When the server accepted it, in milliseconds since 1970-01-01T00:00:00Z on
        /// the server's clock.
        time_unix_ms: i64,
        /// The files that it names: [`Session::fetch`](super::Session::fetch) gets one.
        files: Vec<File>,
    },
    /// What became of a direct that the server had accepted. It comes behind its receipt,
    /// unless the session was lost in between.
    DirectState {
        /// The id that [`Session::direct`](super::Session::direct) returned.
        id: u64,
        /// Whether the recipient's client has it. Otherwise its session has ended before
        /// it said so.
        is_delivered: bool,
    },
    /// Some or all of the members, this session included. Needs presence.
    Members {
        /// Their names, in any order.
        names: Vec<String>,
        /// Whether more names follow in another event.
        more: bool,
    },
    /// A member joined. Needs presence.
    Joined {
        /// The name of the new member.
        name: String,
    },
    /// A member left. Needs presence.
    Left {
        /// The name of the member, free from now on.
        name: String,
        /// The reason; [`LeftReason::Unspecified`] for one that this library does not
        /// know (CHAT-GROW-8).
        reason: LeftReason,
    },
    /// A chat or a direct of this session was accepted. Needs receipts.
    Receipt {
        /// The id that [`Session::send`](super::Session::send) or
        /// [`Session::direct`](super::Session::direct) returned.
        id: u64,
        /// The chat's number; 0 for a direct, which has none.
        seq: u64,
    },
    /// The filter that [`Session::follow`](super::Session::follow) asked for counts from here
    /// on: what came before went by the one before.
    Following {
        /// The id that [`Session::follow`](super::Session::follow) returned.
        id: u64,
        /// The number of the last chat that the filter before let pass or kept out.
        seq: u64,
    },
    /// Everything up to a number has arrived that passes the filter.
    Covered {
        /// The number.
        seq: u64,
        /// How many chats the server has sent on this connection.
        sent: u64,
    },
    /// The server refused something for good, and the session goes on. A chat that was
    /// refused for its rate is sent again instead, without an event.
    Refused {
        /// The id that [`Session::send`](super::Session::send) returned for the chat, or
        /// [`Session::follow`](super::Session::follow) for the filter; 0 if something else
        /// was refused.
        id: u64,
        /// The chat's text, if it is still known.
        text: Option<String>,
        /// The error code; [`ErrorCode::Unspecified`] for one that this library does
        /// not know (CHAT-GROW-5).
        code: ErrorCode,
        /// The server's sentence about it; can be empty.
        detail: String,
        /// How long to wait before retrying, in milliseconds; 0 if waiting does not
        /// help.
        retry_after_ms: u32,
    },
    /// The session was lost, and the client connects again after a wait
    /// ([`Connector::reconnecting`](super::Connector::reconnecting)).
    Reconnecting {
        /// The wait before the next try.
        after: Duration,
        /// What ended the session, or the last try.
        reason: Ending,
    },
    /// The client is back, and the room continues without a gap, except for what
    /// [`Event::Gap`] told before. The members, where presence is granted, are told
    /// again.
    Resumed {
        /// How many chats the server no longer had.
        missed: u64,
        /// A filter was set, so that at most so many were meant for this client.
        is_filtered: bool,
        /// The answer to the new Register.
        registered: Box<Registered>,
    },
    /// The client is back in a new session, as a newcomer. What was said meanwhile is not
    /// sent. Chats that were not sent yet still will be.
    NotResumed {
        /// Why; [`ResumeFailure::Unspecified`] if the server does not resume at all.
        reason: ResumeFailure,
        /// The answer to the new Register.
        registered: Box<Registered>,
    },
    /// Chats with these numbers were missed and will not be sent.
    Gap {
        /// The first number.
        from: u64,
        /// The last number.
        to: u64,
        /// A filter was set, so that perhaps none of them was meant for this client.
        is_filtered: bool,
    },
    /// The fate of a sent chat is unknown, since the session was not resumed: the server
    /// may have accepted it or not. It is not sent again (CHAT-RES-17).
    Unknown {
        /// The id that [`Session::send`](super::Session::send) returned.
        id: u64,
        /// The chat's text.
        text: String,
    },
    /// The session is over: the last event.
    Ended(Ended),
}

/// How a session ended, and how many chats it did not deliver for certain.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// What ended it.
    pub ending: Ending,
    /// How many chats were not sent.
    pub unsent: usize,
    /// How many chats were sent and have no receipt. Always 0 without receipts.
    pub unconfirmed: usize,
}

/// What ended a session.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Ending {
    /// The client left.
    Left,
    /// The server is shutting down (ServerClosing).
    ServerClosed {
        /// The server's sentence about it; can be empty.
        detail: String,
        /// When it asks its clients to come back, in milliseconds; 0: it does not say
        /// (CHAT-CLOSE-8).
        retry_after_ms: u32,
    },
    /// The server ended it with an error (CHAT-ERR-7).
    Error {
        /// The error code; [`ErrorCode::Unspecified`] for one that this library does
        /// not know.
        code: ErrorCode,
        /// The server's sentence about it; can be empty.
        detail: String,
    },
    /// The connection failed, or was given up, and the server gave no reason.
    Lost {
        /// The reason as far as it is known, in words for a person.
        reason: String,
    },
}
