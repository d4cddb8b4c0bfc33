//! What one connection is to be told directly: replies that have not been sent
//! yet, ready for the socket.

use crate::{frame, wire::ServerEnvelope};

/// How many bytes of replies a connection may have waiting before it is not read
/// from any more. What comes in makes replies, so this stops their growth; a
/// normal client has a few hundred bytes at the most.
pub(super) const REPLIES_PAUSE_BYTES: usize = 32 * 1024;

/// Replies, encoded, in order (CHAT-ORD-8). Takes no memory while empty.
///
/// Bounded by [`REPLIES_PAUSE_BYTES`] and what a single event adds to it.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// Adds a reply behind the others.
    pub(super) fn push(&mut self, envelope: &ServerEnvelope) {
        frame::encode(envelope, &mut self.bytes);
    }

    /// Puts the rest of a frame that was sent in part before everything else.
    pub(super) fn push_front(&mut self, rest_of_frame: &[u8]) {
        debug_assert_eq!(self.sent, 0, "no reply begins inside another frame");
        self.bytes.splice(..0, rest_of_frame.iter().copied());
    }

    /// What is to be sent next.
    pub(super) fn ahead(&self) -> &[u8] {
        &self.bytes[self.sent..]
    }

    /// The first `bytes` of [`Outbox::ahead`] were sent.
    pub(super) fn advance(&mut self, bytes: usize) {
        self.sent += bytes;
        if self.sent == self.bytes.len() {
            *self = Self::default();
        }
    }

    /// Whether so much waits that no more may be added by reading.
    pub(super) fn is_full(&self) -> bool {
        self.ahead().len() >= REPLIES_PAUSE_BYTES
    }
}
