//! What happens to a connection, and what follows from it.

use crate::{
    frame::FrameError,
    name::Name,
    room::{MemberId, Publication},
    wire::{ClientEnvelope, ErrorCode, LeftReason, ServerEnvelope},
};

/// Now, as the sessions are told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Milliseconds since some fixed start, never falling.
    pub elapsed_ms: u64,
    /// Milliseconds since 1970-01-01T00:00:00Z, to show to people.
    pub unix_ms: i64,
    /// When, on the first clock, what is handled now may have arrived already: it had
    /// to wait to be read since then. [`Time::elapsed_ms`] if nothing waits.
    pub earliest_arrival_ms: u64,
}

/// Stands for one connection from [`Sessions::connect`](super::Sessions::connect) to
/// [`Sessions::disconnect`](super::Sessions::disconnect). It cannot be copied, so
/// nothing can be said about a connection that is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct ConnectionId(pub(super) usize);

impl ConnectionId {
    /// A small number that no other connection has at the same time.
    pub fn index(&self) -> usize {
        self.0
    }

    /// The member that this connection's session is, once it has joined.
    pub(super) fn member(&self) -> MemberId {
        // There are fewer connections than fit (CONNECTIONS_CEILING).
        MemberId(self.0 as u32)
    }
}

/// What happens to a connection.
#[derive(Debug)]
pub enum Event {
    /// A frame arrived and parsed.
    Message(ClientEnvelope),
    /// What arrived is no frame (CHAT-FRAME-4, CHAT-FRAME-5).
    BadFrame(FrameError),
    /// A frame arrived whose body does not parse (CHAT-FRAME-8).
    BadEnvelope,
    /// The client will send nothing more.
    EndOfStream {
        /// Whether it stopped inside a frame (CHAT-FRAME-10).
        inside_frame: bool,
    },
    /// The connection broke.
    ConnectionLost,
    /// The client does not read what is due to it (CHAT-LIM-5).
    WriteTimedOut,
    /// The queues of all clients take too much memory, and its own the most
    /// (CHAT-LIM-10).
    Evicted,
    /// The time given may be past a deadline, or the server is closing.
    Tick {
        /// Whether everything that has arrived from the connection was read. While it
        /// is not (CHAT-LIM-6), the client cannot be silent (CHAT-KEEP-4).
        reads_drained: bool,
        /// Whether all replies to it were sent, a Ping among them (CHAT-NAME-8).
        replies_flushed: bool,
        /// How far what was sent has got; `None` where the transport does not tell.
        progress: Option<Progress>,
    },
}

/// How far the bytes that were sent to a connection have got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How many were handed to the transport.
    pub written_bytes: u64,
    /// How many of them the peer's system has acknowledged.
    pub acked_bytes: u64,
}

/// What to do, in this order.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Send this to this connection.
    Reply(ServerEnvelope),
    /// Append this to the log, for the members in its audience except the one that
    /// this event is about.
    Publish(Publication),
    /// The session is open: this connection follows the log from its present end.
    Subscribe {
        /// The name it registered.
        name: Name,
        /// Whether it belongs to [`Audience::Presence`](crate::log::Audience::Presence).
        presence: bool,
    },
    /// The session is over, or there will be none. Send what is due, then close.
    Closed(Closed),
}

/// The end of a session, for the log that operators read.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed {
    /// Why.
    pub reason: CloseReason,
    /// Which name it had, where it was registered.
    pub name: Option<Name>,
    /// How many of its chats were accepted.
    pub chats: u64,
}

/// Why a session ended, or never began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The client sent Leave.
    Leave,
    /// The connection ended without a Leave.
    ConnectionLost,
    /// The same, inside a frame, which the client was told (CHAT-FRAME-10).
    CutShort,
    /// The server closes.
    ServerClosing,
    /// The client was told this error.
    Error(ErrorCode),
}

impl CloseReason {
    /// As other members are told (CHAT-PRES-5).
    pub(super) fn left_reason(self) -> LeftReason {
        match self {
            Self::Leave => LeftReason::Leave,
            Self::Error(ErrorCode::IdleTimeout | ErrorCode::NameReclaimed) => {
                LeftReason::IdleTimeout
            }
            Self::Error(ErrorCode::SlowConsumer | ErrorCode::Overloaded) => {
                LeftReason::SlowConsumer
            }
            Self::Error(_) => LeftReason::ProtocolError,
            Self::ConnectionLost | Self::CutShort | Self::ServerClosing => {
                LeftReason::ConnectionLost
            }
        }
    }
}

/// Which limit of connections from one network address is exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressLimit {
    /// Connections at the same time (CHAT-REG-11).
    Concurrent,
    /// New connections in a short while (CHAT-REG-12).
    Rate {
        /// How long to wait before the next, in milliseconds, from 1.
        retry_after_ms: u32,
    },
}
