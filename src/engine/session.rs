//! The state of one connection, as far as the rules go.

use crate::{limits::Limits, wire::Capability};

use super::{
    flood::Flood, name::Name, name_reclaim::PendingRegister, rate::Bucket, strikes::Strikes,
};

/// Where a connection stands.
///
/// ```text
///             Register accepted               Leave, end of stream, lost,
///                (CHAT-REG-3)                 an error that ends the session,
///                                             the server closes
///  Connected ───────────────────▶ Member ───────────────────────────▶ Ended
///      │                                                                ▲
///      │   ▲                                                            │
///      ▼   │ the holder is gone (CHAT-NAME-7)                           │
///    Waiting                                                            │
///      └────────────────────────────────────────────────────────────────┘
///        any other first message (CHAT-REG-2), a name refused (CHAT-NAME),
///        the deadline (CHAT-REG-5), end of stream, lost, the server closes
/// ```
#[derive(Debug)]
pub(super) enum State {
    /// Not registered yet.
    Unregistered {
        /// When it was accepted: the register deadline counts from here.
        since_ms: u64,
    },
    /// Its Register waits for a sign of life from the holder of the name.
    AwaitingName(Box<PendingRegister>),
    /// Registered: it owns its name.
    Registered(Member),
    /// Over; its name is free. The connection may still be flushing.
    Ended,
}

/// A registered client.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: Name,
    pub(super) granted: Granted,
    pub(super) bucket: Bucket,
    pub(super) flood: Flood,
    pub(super) strikes: Strikes,
    /// It has sent more than is taken from it for now (CHAT-LIM-9).
    pub(super) is_throttled: bool,
    /// When something last came from it.
    pub(super) heard_ms: u64,
    /// When it was last pinged.
    pub(super) pinged_ms: u64,
    /// How many chats of its were accepted.
    pub(super) chats: u64,
    /// The last name of the Members sent so far, while there are more to send
    /// (CHAT-PRES-1).
    pub(super) members_after: Option<Name>,
}

impl Member {
    /// Whether it is held up and need not be any more.
    pub(super) fn may_resume(&self, now_ms: u64, limits: &Limits) -> bool {
        self.is_throttled && !self.flood.is_too_much(now_ms, limits)
    }
}

/// The capabilities granted to a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) presence: bool,
    pub(super) receipts: bool,
    pub(super) keepalive: bool,
}

impl Granted {
    /// Grants what was asked for and is known; ignores the rest (CHAT-REG-7,
    /// CHAT-GROW-4).
    pub(super) fn from_asked(asked: &[i32]) -> Self {
        let has = |capability: Capability| asked.contains(&i32::from(capability));
        Self {
            presence: has(Capability::Presence),
            receipts: has(Capability::Receipts),
            keepalive: has(Capability::Keepalive),
        }
    }

    /// As Registered lists them.
    pub(super) fn to_wire(self) -> Vec<i32> {
        [
            (self.presence, Capability::Presence),
            (self.receipts, Capability::Receipts),
            (self.keepalive, Capability::Keepalive),
        ]
        .into_iter()
        .filter_map(|(granted, capability)| granted.then_some(capability.into()))
        .collect()
    }
}
