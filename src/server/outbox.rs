//! What one connection is to be told directly: replies that have not been sent
//! yet, ready for the socket.

use crate::{
    frame::{self, Split},
    wire::ServerEnvelope,
};

/// How many bytes of replies a connection may have waiting before it is not read
/// from any more. What comes in makes replies, so this stops their growth; a
/// normal client has a few hundred bytes at the most.
pub(super) const REPLIES_PAUSE_BYTES: usize = 32 * 1024;

/// Replies, encoded, in order (CHAT-ORD-8). Takes a pointer's memory while empty,
/// as nearly all of them are nearly always.
///
/// Bounded by [`REPLIES_PAUSE_BYTES`] and what a single event adds to it.
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
            Some(waiting) => &waiting.bytes[waiting.sent..],
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

    /// Gives up the replies of which nothing was sent, and their memory.
    pub(super) fn forget(&mut self) {
        let Some(waiting) = &mut self.waiting else {
            return;
        };
        let mut kept = 0;
        while kept < waiting.sent
            && let Ok(Split::Frame { rest, .. }) = frame::split(&waiting.bytes[kept..], u32::MAX)
        {
            kept = waiting.bytes.len() - rest.len();
        }
        waiting.bytes.truncate(kept);
        waiting.bytes.shrink_to_fit();
        if waiting.sent == waiting.bytes.len() {
            self.waiting = None;
        }
    }

    /// How much memory it takes, in bytes.
    pub(super) fn held_bytes(&self) -> usize {
        let waiting = self.waiting.as_ref();
        waiting.map_or(0, |waiting| waiting.bytes.capacity())
    }

    /// Whether so much waits that no more may be added by reading.
    pub(super) fn is_full(&self) -> bool {
        self.ahead().len() >= REPLIES_PAUSE_BYTES
    }
}
