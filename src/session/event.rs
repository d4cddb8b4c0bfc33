//! Events and effects: something happens to a connection, and the caller must act on it.

use std::sync::Arc;

use super::FileTask;
use crate::{
    filter::Filter,
    frame::FrameError,
    identity::SenderId,
    name::Name,
    room::{Command, MemberId, Publication},
    wire::{ClientEnvelope, ErrorCode, LeftReason, ServerEnvelope},
};

use super::moderation;

/// The present time, an argument of every call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Milliseconds on a monotonic clock.
    pub elapsed_ms: u64,
    /// Milliseconds since 1970-01-01T00:00:00Z, to show to people.
    pub unix_ms: i64,
    /// The earliest time, on the monotonic clock, at which the bytes that are handled now
    /// may have arrived: since then the server has paused reading them.
    /// [`Time::elapsed_ms`] without a pause.
    pub earliest_arrival_ms: u64,
}

/// Identifies one connection, from [`Sessions::connect`](super::Sessions::connect) to
/// [`Sessions::disconnect`](super::Sessions::disconnect). It cannot be copied, so no call
/// can name a connection that is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct ConnectionId(pub(super) usize);

impl ConnectionId {
    /// A small number, unique among the connections of the same time.
    pub fn index(&self) -> usize {
        self.0
    }

    /// The member of this connection's session, once it has joined.
    pub(super) fn member(&self) -> MemberId {
        // There are fewer connections than fit (CONNECTIONS_CEILING).
        MemberId(self.0 as u32)
    }
}

/// Something that happens to a connection.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "an event lives for one call, and most are messages"
)]
pub enum Event {
    /// A frame arrived and parsed.
    Message(ClientEnvelope),
    /// Bytes arrived that are no frame (CHAT-FRAME-4, CHAT-FRAME-5).
    BadFrame(FrameError),
    /// A frame arrived whose body does not parse (CHAT-FRAME-8).
    BadEnvelope,
    /// The client will send nothing more.
    EndOfStream {
        /// Whether the stream ended inside a frame (CHAT-FRAME-10).
        inside_frame: bool,
    },
    /// The connection broke.
    ConnectionLost,
    /// The client does not read (CHAT-LIM-5).
    WriteTimedOut,
    /// All queues together take too much memory, and this client's the most
    /// (CHAT-LIM-10).
    Evicted,
    /// Chats that it missed were removed before they were sent to it (CHAT-RES-9).
    PastRemoved,
    /// Time has passed: a deadline may be over, or the server closes.
    Tick {
        /// Whether the server has read everything that has arrived from the client. If
        /// it has not (CHAT-LIM-6), the client is not silent (CHAT-KEEP-4).
        reads_drained: bool,
        /// Whether the server has sent all replies to the client, among them a Ping
        /// (CHAT-NAME-8).
        replies_flushed: bool,
        /// How many bytes the client's system has acknowledged; `None` if the transport
        /// does not know.
        progress: Option<Progress>,
    },
}

/// How many bytes of a connection were written and acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// How many were handed to the transport.
    pub written_bytes: u64,
    /// How many of them the client's system has acknowledged.
    pub acked_bytes: u64,
}

/// An action of the caller. Effects are carried out in their order.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Send this to this connection.
    Reply(ServerEnvelope),
    /// Send this to another connection, the one with this index
    /// ([`ConnectionId::index`]), which has a session.
    Deliver {
        /// Its index.
        index: usize,
        /// What it is sent.
        envelope: ServerEnvelope,
    },
    /// Append this to the log, for all members in its audience except this one.
    Publish(Publication),
    /// The session is open: let this connection follow the log from its present end.
    Subscribe {
        /// The name it registered.
        name: Name,
        /// Whether it belongs to [`Audience::Presence`](crate::log::Audience::Presence).
        presence: bool,
        /// Whether its frames may be as long as a piece of a file needs (CHAT-FRAME-6).
        files: bool,
        /// The first chat that it lacks, if it resumes a line (CHAT-RES-9).
        from_seq: Option<u64>,
        /// What others see of the key that it has proved (CHAT-ID-12).
        sender_id: Option<SenderId>,
        /// Which chats it wants, if not all (CHAT-FOL-9).
        filter: Option<Arc<Filter>>,
    },
    /// Change the filter of this connection, from the present end of the log on.
    Follow(Box<FilterChange>),
    /// Send this connection, which has a filter, a Covered for everything so far.
    Cover {
        /// The number of the last chat.
        seq: u64,
    },
    /// Send it [`Sessions::farewell`](super::Sessions::farewell) when all is sent that is
    /// due to it.
    Farewell,
    /// Fetch a page of the past for this connection, and hand it to
    /// [`Sessions::page_arrived`](super::Sessions::page_arrived).
    FetchPage(PageRequest),
    /// Have the disk do something for a file.
    File(FileTask),
    /// A download has begun: ask [`Sessions::next_piece`](super::Sessions::next_piece) when
    /// everything else was sent.
    Download,
    /// The session of another connection, the one with this index
    /// ([`ConnectionId::index`]), was ended: nothing that this call publishes is for it, and
    /// an [`Event::Tick`] soon tells it why.
    Notify(usize),
    /// The session is over, or there will be none: send what is due, then close.
    Closed(Closed),
}

/// A Follow that was checked.
#[derive(Debug, PartialEq, Eq)]
pub struct FilterChange {
    /// The id that the Following carries back.
    pub id: u64,
    /// The number of the last chat.
    pub seq: u64,
    /// Whether it belongs to [`Audience::Presence`](crate::log::Audience::Presence).
    pub presence: bool,
    /// Which chats the member wants from here on, if not all.
    pub filter: Option<Arc<Filter>>,
    /// How many chats it was due since it last had a filter, if it has none now.
    pub sent_unfiltered: u64,
}

/// A GetHistory that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// The id that the page carries back.
    pub id: u64,
    /// On which side of which number it lies.
    pub edge: Edge,
    /// The most chats that it may have, from 1.
    pub chats_max: u32,
    /// Which chats it may have, if not all (CHAT-FOL-10).
    pub filter: Option<Arc<Filter>>,
}

/// On which side of which number a page of the past lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Edge {
    /// It ends right before this number (CHAT-HIST-3).
    Before(u64),
    /// It begins right behind this number (CHAT-HIST-4).
    After(u64),
}

/// The end of a session, for the log that operators read.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed {
    /// The reason.
    pub reason: CloseReason,
    /// The name, if the client was registered.
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
    /// The stream ended inside a frame, and the client was sent an error for that
    /// (CHAT-FRAME-10).
    CutShort,
    /// The server closes.
    ServerClosing,
    /// The client was sent this error.
    Error(ErrorCode),
}

impl CloseReason {
    /// The Leave of a member whose session ends for this.
    pub(super) fn leave(self, member: MemberId, now: Time) -> Command {
        Command::Leave {
            member,
            reason: self.left_reason(),
            time_unix_ms: now.unix_ms,
        }
    }

    /// The reason in Left (CHAT-PRES-5).
    pub(super) fn left_reason(self) -> LeftReason {
        match self {
            Self::Leave => LeftReason::Leave,
            Self::Error(ErrorCode::IdleTimeout | ErrorCode::NameReclaimed) => {
                LeftReason::IdleTimeout
            }
            Self::Error(ErrorCode::SlowConsumer | ErrorCode::Overloaded) => {
                LeftReason::SlowConsumer
            }
            // CHAT-RES-5
            Self::Error(ErrorCode::Replaced) => LeftReason::ConnectionLost,
            Self::Error(code) => moderation::left_reason(code).unwrap_or(LeftReason::ProtocolError),
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
    /// New connections in a minute (CHAT-REG-12).
    Rate {
        /// How long to wait before the next, in milliseconds, from 1.
        retry_after_ms: u32,
    },
}
