//! The room's log: one contiguous run of frames that are ready to send, and the
//! readers that follow it. Pure: no socket, no clock.
//!
//! A frame is encoded once, when it is appended. A [`Reader`] is a place in the
//! log; what it has to send next is a slice of the log's own memory, as long as
//! possible, which leaves out what its connection must not see. So delivering to
//! N connections copies nothing and makes nothing for each of them, and a reader
//! that is behind sends many frames at once.
//! Long stretches are not even copied by the system, since a segment is a file in
//! memory as well, which it can send from.
//!
//! ```text
//!            segment            segment            segment (being filled)
//!       ┌──────────────┐ ┌──────────────┐ ┌──────────────┐
//!  ···─▶│ffffffffffffff│─▶ffffffffffffff│─▶ffffff        │◀── Log::append
//!       └──────────────┘ └──────────────┘ └──────────────┘
//!               ▲                               ▲     ▲
//!         a slow Reader                         │     Readers that keep up
//!                                       a Reader under way
//! ```
//!
//! Chunks are chained forwards and counted by reference: what every reader has
//! passed is freed by itself. Readers take no lock. A reader only moves forward,
//! so each frame goes out once, in the log's order (CHAT-ORD-2).

mod memory;
mod reader;
mod segment;

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use prost::Message as _;

use crate::{frame, wire::ServerEnvelope};

pub use reader::{Reader, Unsent};
use segment::{SEGMENT_BYTES, SegmentWriter};

/// Which members receive a frame, its own author apart. The order is from few to
/// many: the largest of several audiences has all that any of them has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audience {
    /// The members with presence (CHAT-GROW-7).
    Presence,
    /// Every member.
    Everyone,
}

/// The writing end of a log. Positions in it are counted in bytes from its start.
///
/// Publishing has two steps: [`Log::append`] gives a frame its place, and
/// [`Log::commit`] lets the readers see it.
pub struct Log {
    tail: SegmentWriter,
    /// Full segments that are not committed yet, in their order.
    uncommitted: Vec<SegmentWriter>,
    committed_end: u64,
    retained: Retained,
}

/// How much of a log is in memory. Can be asked without the log at hand.
#[derive(Debug, Clone)]
pub struct Retained {
    segments: Arc<AtomicUsize>,
}

impl Retained {
    /// Bytes in memory, in whole segments.
    pub fn bytes(&self) -> u64 {
        (self.segments.load(Ordering::Relaxed) * SEGMENT_BYTES) as u64
    }
}

impl Log {
    /// An empty log.
    pub fn new() -> Self {
        let segments = Arc::new(AtomicUsize::new(0));
        Self {
            tail: SegmentWriter::new(0, &segments),
            uncommitted: Vec::new(),
            committed_end: 0,
            retained: Retained { segments },
        }
    }

    /// The position behind the last frame that was appended.
    pub fn end(&self) -> u64 {
        self.tail.segment().base() + self.tail.filled_bytes() as u64
    }

    /// The position behind the last frame that readers see.
    pub fn committed_end(&self) -> u64 {
        self.committed_end
    }

    /// How much of it is in memory.
    pub fn retained(&self) -> &Retained {
        &self.retained
    }

    /// Appends `envelope` as a frame and returns where it stands. Readers do not see
    /// it before the next [`Log::commit`].
    ///
    /// # Panics
    ///
    /// If the frame is longer than a segment: the limits see to it that none is.
    #[expect(clippy::expect_used, reason = "the room was made for this envelope")]
    pub fn append(&mut self, audience: Audience, envelope: &ServerEnvelope) -> Range<u64> {
        let length_bytes = frame::encoded_len(envelope);
        let is_presence = audience == Audience::Presence;
        if !self.tail.has_room(length_bytes, is_presence) {
            let next = SegmentWriter::new(self.end(), &self.retained.segments);
            let full = std::mem::replace(&mut self.tail, next);
            self.uncommitted.push(full);
        }
        let start = self.end();
        self.tail.fill(length_bytes, is_presence, |mut bytes| {
            envelope
                .encode_length_delimited(&mut bytes)
                .expect("the length was computed from this envelope");
        });
        start..self.end()
    }

    /// Lets the readers see everything that was appended.
    pub fn commit(&mut self) {
        let mut full = self.uncommitted.drain(..).peekable();
        while let Some(segment) = full.next() {
            segment.commit();
            segment.link(full.peek().unwrap_or(&self.tail));
        }
        drop(full);
        self.tail.commit();
        self.committed_end = self.end();
    }

    /// A reader that begins at the present end, the frames that are not committed yet
    /// left out. `wants_presence`: whether its
    /// member belongs to [`Audience::Presence`].
    pub fn reader(&self, wants_presence: bool) -> Reader {
        Reader::new(
            Arc::clone(self.tail.segment()),
            self.tail.filled_bytes(),
            wants_presence,
        )
    }
}

impl Default for Log {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
