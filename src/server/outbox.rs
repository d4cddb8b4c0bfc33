//! What one connection is to be told directly: replies that have not been sent
//! yet, ready for the socket.

use crate::{frame, wire::ServerEnvelope};

/// How many bytes of replies a connection may have waiting before it is not read
/// from any more. What comes in makes replies, so this stops their growth; a
/// normal client has a few hundred bytes at the most.
pub(super) const REPLIES_PAUSE_BYTES: usize = 32 * 1024;

/// Replies, encoded, in order (CHAT-ORD-8). Takes a pointer's memory while empty,
/// as nearly all of them are nearly always.
///
/// Bounded by [`REPLIES_PAUSE_BYTES`] and what a single event adds to it, and takes
/// at most twice as much memory.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    waiting: Option<Box<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    sent: usize,
}

impl Outbox {
    /// Adds a reply behind the others.
    pub(super) fn push(&mut self, envelope: &ServerEnvelope) {
        let waiting = self.waiting.get_or_insert_default();
        // Who reads, but never all there is, must not make it grow for ever.
        if waiting.sent > waiting.bytes.len() / 2 {
            waiting.bytes.drain(..waiting.sent);
            waiting.sent = 0;
        }
        frame::encode(envelope, &mut waiting.bytes);
    }

    /// Puts the rest of a frame that was sent in part before everything else.
    pub(super) fn push_front(&mut self, rest_of_frame: &[u8]) {
        let waiting = self.waiting.get_or_insert_default();
        debug_assert_eq!(waiting.sent, 0, "no reply begins inside another frame");
        waiting.bytes.splice(..0, rest_of_frame.iter().copied());
    }

    /// What is to be sent next.
    pub(super) fn ahead(&self) -> &[u8] {
        match &self.waiting {
            Some(waiting) => waiting.bytes.get(waiting.sent..).unwrap_or_default(),
            None => &[],
        }
    }

    /// The first `bytes` of [`Outbox::ahead`] were sent.
    pub(super) fn advance(&mut self, bytes: usize) {
        if let Some(waiting) = &mut self.waiting {
            waiting.sent += bytes;
            if waiting.sent == waiting.bytes.len() {
                self.waiting = None;
            }
        }
    }

    /// The memory that what it holds takes, in bytes.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> usize {
        self.waiting
            .as_ref()
            .map_or(0, |waiting| waiting.bytes.len())
    }

    /// Whether so much waits that no more may be added by reading.
    pub(super) fn is_full(&self) -> bool {
        self.ahead().len() >= REPLIES_PAUSE_BYTES
    }
}
