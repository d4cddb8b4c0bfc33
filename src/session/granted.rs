//! Granted: the capabilities of a session.

use crate::wire::Capability;

use super::Offer;

/// The capabilities granted to a session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) presence: bool,
    pub(super) receipts: bool,
    pub(super) keepalive: bool,
    pub(super) resume: bool,
    pub(super) history: bool,
    pub(super) direct: bool,
    pub(super) follow: bool,
    pub(super) files: bool,
}

impl Granted {
    /// Grants the requested capabilities that the server knows, and ignores the others
    /// (CHAT-REG-7, CHAT-GROW-4).
    pub(super) fn from_asked(asked: &[i32], offer: Offer) -> Self {
        let has = |capability: Capability| asked.contains(&i32::from(capability));
        Self {
            presence: has(Capability::Presence),
            receipts: has(Capability::Receipts),
            keepalive: has(Capability::Keepalive),
            // CHAT-RES-1
            resume: has(Capability::Resume) && has(Capability::Receipts),
            history: has(Capability::History) && offer.grants(Capability::History),
            // CHAT-DM-1
            direct: has(Capability::Direct) && has(Capability::Receipts),
            follow: has(Capability::Follow),
            files: has(Capability::Files) && offer.grants(Capability::Files),
        }
    }

    /// The list in Registered.
    pub(super) fn to_wire(self) -> Vec<i32> {
        // Each by its name, so that none is forgotten.
        let Self {
            presence,
            receipts,
            keepalive,
            resume,
            history,
            direct,
            follow,
            files,
        } = self;
        [
            (presence, Capability::Presence),
            (receipts, Capability::Receipts),
            (keepalive, Capability::Keepalive),
            (resume, Capability::Resume),
            (history, Capability::History),
            (direct, Capability::Direct),
            (follow, Capability::Follow),
            (files, Capability::Files),
        ]
        .into_iter()
        .filter_map(|(granted, capability)| granted.then_some(capability.into()))
        .collect()
    }
}
