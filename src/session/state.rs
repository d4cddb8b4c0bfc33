//! Session state: the state machine of one connection, and the session of a member.

use std::sync::Arc;

use crate::{filter::Filter, limits::Limits, name::Name, token_bucket::TokenBucket};

use super::{
    Closed, Time,
    directs::Directs,
    downloads::Download,
    error_budget::ErrorBudget,
    files::Pieces,
    granted::Granted,
    inbound_rate::InboundRate,
    pending::{Joining, PendingProof, PendingRegister},
    rejection::Rejection,
    silence::Silence,
};

/// The state of one connection.
///
/// ```text
///               Register accepted               Leave, end of stream, lost,
///                  (CHAT-REG-3)                 a fatal error, the server closes
///
///  Unregistered ───────────────▶ Registered ──────────────────────────▶ Ended
///      │                                                                 ▲
///      │   ▲                                                             │
///      ▼   │ the holder is gone (CHAT-NAME-7)                            │
///  AwaitingName                                                          │
///      └─────────────────────────────────────────────────────────────────┘
///        any other first message (CHAT-REG-2), a name rejected (CHAT-NAME),
///        the deadline (CHAT-REG-5), end of stream, lost, the server closes
/// ```
///
/// A client that registers with a key is `AwaitingProof` between its Register and its
/// Proof (CHAT-ID-2), before anything else becomes of it.
///
/// A session that another one continues (CHAT-RES-5), or that the operator ends
/// (CHAT-MOD), is `Revoked` until its connection is told so. On a node of a cluster, a
/// connection is `Joining` before it is `Registered`, and `Leaving` after it.
#[derive(Debug)]
pub(super) enum State {
    /// Not registered yet.
    Unregistered {
        /// When the connection was accepted; the register deadline counts from there.
        since_ms: u64,
    },
    /// Its Register waits for the proof of its key.
    AwaitingProof(Box<PendingProof>),
    /// Its Register waits for the probe of the name's holder.
    AwaitingName(Box<PendingRegister>),
    /// Its Join is on its way through the order of a cluster.
    Joining(Box<Joining>),
    /// Registered: a member of the room.
    Registered(Box<Session>),
    /// Its Leave is on its way through the order of a cluster.
    Leaving(Box<Closed>),
    /// Its session was ended from elsewhere: another one continues its line (CHAT-RES-5),
    /// the operator has ended it (CHAT-MOD), or this node is cut off its cluster. Its
    /// client was not told yet.
    Revoked(Box<Revoked>),
    /// The session is over and its name free. The connection may still send.
    Ended,
}

/// The end of a session that its client does not know yet.
#[derive(Debug)]
pub(super) struct Revoked {
    pub(super) closed: Closed,
    /// What to tell the client, unless it was told.
    pub(super) rejection: Option<Rejection>,
}

// Every member has both: a field that few of them need is boxed. The table of states is
// grown by doubling, so what is in it counts twice.
const _: () = assert!(size_of::<State>() <= 16 && size_of::<Session>() <= 168);

/// The session of a member. The room has its name.
#[derive(Debug)]
pub(super) struct Session {
    /// What it was told of: the server may have others by now.
    pub(super) limits: Arc<Limits>,
    pub(super) granted: Granted,
    /// Which of all sessions it is, from 1.
    pub(super) serial: u64,
    /// When it began, in milliseconds since 1970-01-01T00:00:00Z.
    pub(super) since_unix_ms: i64,
    pub(super) chat_rate: TokenBucket,
    pub(super) inbound_rate: InboundRate,
    pub(super) error_budget: ErrorBudget,
    /// The server does not read from it, since it is above its inbound rate (CHAT-LIM-9).
    pub(super) is_throttled: bool,
    pub(super) silence: Silence,
    /// The last name of the last page of members, while further pages are due
    /// (CHAT-PRES-1).
    pub(super) members_after: Option<Box<Name>>,
    /// A page of the past is on its way to it; what it sent behind the GetHistory waits
    /// (CHAT-ORD-8).
    pub(super) awaits_page: bool,
    /// The pieces of its upload that are on their way to the disk.
    pub(super) pieces: Option<Box<Pieces>>,
    /// What it sent behind them waits: something else, or more of them than go at a time.
    pub(super) waits_for_pieces: bool,
    /// The file that it is being sent.
    pub(super) download: Option<Box<Download>>,
    /// It has the chats behind this number.
    pub(super) after_seq: u64,
    /// What it has uploaded lately (CHAT-FILE-15).
    pub(super) file_rate: InboundRate,
    /// The Directs to it and from it, once there was one (CHAT-DM).
    pub(super) directs: Option<Box<Directs>>,
    /// Its Following is on its way to it; what it sent behind the Follow waits (CHAT-ORD-8).
    pub(super) awaits_following: bool,
    /// Its Direct is on its way to another node; what it sent behind it waits.
    pub(super) awaits_direct: bool,
    pub(super) coverage: Coverage,
    /// Its filter, as far as Directs are concerned; chats are a matter of its reader.
    pub(super) filter: Option<Arc<Filter>>,
}

/// What a session was sent, as far as its filter is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coverage {
    /// It has no filter since the chat `since_seq`, when `own` of its own were accepted:
    /// it is due every chat but its own.
    Everything { since_seq: u64, own: u64 },
    /// It has a filter, and was told that it has everything up to `seq` that passes.
    Filtered { seq: u64 },
}

impl Session {
    /// A session that begins now.
    pub(super) fn new(
        limits: Arc<Limits>,
        granted: Granted,
        (after_seq, coverage): (u64, Coverage),
        serial: u64,
        now: Time,
    ) -> Self {
        Self {
            limits,
            granted,
            serial,
            since_unix_ms: now.unix_ms,
            chat_rate: TokenBucket::default(),
            inbound_rate: InboundRate::default(),
            error_budget: ErrorBudget::default(),
            is_throttled: false,
            silence: Silence::new(now.elapsed_ms),
            members_after: None,
            awaits_page: false,
            pieces: None,
            waits_for_pieces: false,
            download: None,
            after_seq,
            file_rate: InboundRate::default(),
            directs: None,
            awaits_following: false,
            awaits_direct: false,
            coverage,
            filter: None,
        }
    }

    /// Whether it wants to hear nothing of this member.
    pub(super) fn ignores(&self, name: &str) -> bool {
        let filter = self.filter.as_deref();
        filter.is_some_and(|filter| filter.ignores(&name.to_ascii_lowercase()))
    }

    /// Charges what has arrived from it (CHAT-LIM-9, CHAT-FILE-15).
    pub(super) fn charge(&mut self, now_ms: u64, frames: u64, bytes: u64, file_bytes: u64) {
        let limits = &self.limits;
        self.inbound_rate.charge(now_ms, frames, bytes, limits);
        self.file_rate.charge_files(now_ms, file_bytes, limits);
        self.is_throttled = self.exceeds_a_rate(now_ms);
    }

    /// Whether what it sends is left unread for now (CHAT-LIM-6).
    pub(super) fn is_held(&self) -> bool {
        self.is_throttled
            || self.awaits_page
            || self.awaits_following
            || self.waits_for_pieces
            || self.awaits_direct
    }

    /// Whether it is throttled and back within its inbound rate.
    pub(super) fn may_resume(&self, now_ms: u64) -> bool {
        self.is_throttled && !self.exceeds_a_rate(now_ms)
    }

    fn exceeds_a_rate(&self, now_ms: u64) -> bool {
        let limits = &self.limits;
        self.inbound_rate.is_exceeded(now_ms, limits) || self.file_rate.is_exceeded(now_ms, limits)
    }
}
