//! The log: all published frames in order, encoded and ready to send, and the readers
//! that follow it. Pure: no socket, no clock.
//!
//! A frame is encoded once, when it is appended. A [`Reader`] is a position in the log.
//! What it sends next is a slice of the log's own memory, as long as possible, without
//! the frames that its connection must not receive. So fan-out to N connections copies
//! nothing and allocates nothing for each of them, and a reader that is behind sends
//! many frames at once. The system need not copy long slices either, since a segment is
//! a file in memory from which it can send.
//!
//! ```text
//!            segment            segment            segment (being filled)
//!       ┌──────────────┐ ┌──────────────┐ ┌──────────────┐
//!  ···─▶│ffffffffffffff│─▶ffffffffffffff│─▶ffffff        │◀── Log::append
//!       └──────────────┘ └──────────────┘ └──────────────┘
//!               ▲                               ▲     ▲
//!         a slow Reader                         │     Readers that keep up
//!                                          a Reader inside the segment
//! ```
//!
//! Each segment holds a counted reference to the next one, so a segment is freed once
//! every reader has passed it. Readers take no lock. A reader only moves forward, so it
//! sends each frame once, in the log's order (CHAT-ORD-2).

mod due;
mod filtered;
mod memory;
mod past;
mod reader;
mod removal;
mod segment;

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use prost::Message as _;

use crate::{
    filter::Filter,
    frame,
    wire::{ServerEnvelope, server_envelope::Message},
};

use due::Place;
pub use due::{Appended, DueFrames, DueQueue};
use past::Past;
use reader::Then;
pub use reader::{Mark, Reader, Unsent};
use segment::{SEGMENT_BYTES, SegmentWriter, in_32_bits};

/// Audience: which members receive a frame, its sender apart. Ordered from few members
/// to many, so that the largest of several audiences includes the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audience {
    /// The members with presence (CHAT-GROW-7).
    Presence,
    /// Every member.
    Everyone,
}

/// The writer's end of a log. Positions are counted in bytes from the log's start.
///
/// Publishing has two steps: [`Log::append`] gives a frame its place, and
/// [`Log::commit`] lets the readers see it.
pub struct Log {
    tail: SegmentWriter,
    /// Full segments that are not committed yet, in order.
    uncommitted: Vec<SegmentWriter>,
    committed_end: u64,
    past: Past,
    /// How much of the past is kept.
    past_bytes: u64,
    retained: Retained,
}

/// How much of a log is in memory. Can be read without the log and its lock.
#[derive(Debug, Clone)]
pub struct Retained {
    segments: Arc<AtomicUsize>,
}

impl Retained {
    /// Bytes in memory, in whole segments: for readers that are behind, and the recent
    /// past.
    pub fn bytes(&self) -> u64 {
        (self.segments.load(Ordering::Relaxed) * SEGMENT_BYTES) as u64
    }
}

impl Log {
    /// An empty log, whose first chat will be `first_seq`. It keeps `past_bytes` of what
    /// every reader has passed, for sessions that resume.
    pub fn new(first_seq: u64, past_bytes: u64) -> Self {
        let segments = Arc::new(AtomicUsize::new(0));
        let tail = SegmentWriter::new(0, &segments);
        Self {
            past: Past::new(past_bytes, tail.segment(), first_seq),
            tail,
            uncommitted: Vec::new(),
            committed_end: 0,
            past_bytes,
            retained: Retained { segments },
        }
    }

    /// The position behind the last frame that was appended.
    pub fn end(&self) -> u64 {
        self.tail.end()
    }

    /// The position behind the last committed frame.
    pub fn committed_end(&self) -> u64 {
        self.committed_end
    }

    /// How much of it is in memory.
    pub fn retained(&self) -> &Retained {
        &self.retained
    }

    /// Appends `envelope` as a frame and returns its range. Readers do not see it before
    /// the next [`Log::commit`].
    ///
    /// # Panics
    ///
    /// If the frame is longer than a segment. The limits do not allow such frames.
    #[expect(clippy::expect_used, reason = "the room was made for this envelope")]
    pub fn append(&mut self, audience: Audience, envelope: &ServerEnvelope) -> Range<u64> {
        let length_bytes = frame::encoded_len(envelope);
        let is_presence = audience == Audience::Presence;
        if !self.tail.has_room(length_bytes, is_presence) {
            self.begin_segment();
        }
        if let Some(Message::Chat(_)) = envelope.message {
            self.past.note_chat(self.tail.filled_bytes());
        }
        let start = self.end();
        self.tail.fill(length_bytes, is_presence, |mut bytes| {
            envelope
                .encode_length_delimited(&mut bytes)
                .expect("the length was computed from this envelope");
        });
        start..self.end()
    }

    /// Forgets the past: the next chat will be `first_seq`, and no session resumes before
    /// it. Readers go on. Commits what was appended.
    pub fn begin_numbers(&mut self, first_seq: u64) {
        self.commit();
        let next = SegmentWriter::new(self.end(), &self.retained.segments);
        let full = std::mem::replace(&mut self.tail, next);
        full.link(&self.tail);
        self.past = Past::new(self.past_bytes, self.tail.segment(), first_seq);
    }

    /// Ends the segment that is being filled, and begins the next one.
    fn begin_segment(&mut self) {
        let next = SegmentWriter::new(self.end(), &self.retained.segments);
        let full = std::mem::replace(&mut self.tail, next);
        self.uncommitted.push(full);
        self.past.begin(self.tail.segment());
    }

    /// Commits everything that was appended: readers see it from now on.
    pub fn commit(&mut self) {
        self.commit_up_to(self.end());
    }

    /// Commits what was appended below `position`, which was [`Log::end`] at some time.
    pub fn commit_up_to(&mut self, position: u64) {
        let position = position.max(self.committed_end);
        let is_full = |segment: &&SegmentWriter| segment.end() <= position;
        let full = self.uncommitted.iter().take_while(is_full).count();
        let mut segments = self.uncommitted.iter().chain([&self.tail]).peekable();
        for _ in 0..full {
            if let (Some(segment), Some(next)) = (segments.next(), segments.peek()) {
                segment.commit_up_to(position);
                segment.link(next);
            }
        }
        if let Some(segment) = segments.next() {
            segment.commit_up_to(position);
        }
        drop(segments);
        self.uncommitted.drain(..full);
        self.committed_end = position;
    }

    /// The number of the oldest chat in memory; that of the next one if there is none.
    pub fn oldest_seq(&self) -> u64 {
        self.past.oldest_seq()
    }

    /// A reader that begins at the chat `seq`, and sends presence from the present end on
    /// only. `None` if that chat is not in memory.
    pub fn reader_from(&self, seq: u64, wants_presence: bool) -> Option<Reader> {
        let (segment, offset) = self.past.find(seq)?;
        let mut reader = Reader::new(Arc::clone(segment), offset, wants_presence);
        reader.skip_presence_until(self.end());
        Some(reader)
    }

    /// The frame that was appended last, which lies at `range`, for the queues of those
    /// whom it is due to.
    pub fn appended(&self, range: &Range<u64>) -> Appended<'_> {
        let segment = self.tail.segment();
        let offset = |position: u64| in_32_bits((position - segment.base()) as usize);
        Appended {
            segment,
            start: offset(range.start),
            end: offset(range.end),
        }
    }

    /// A reader that begins at the present end and sends only what is pushed to its queue
    /// ([`Reader::due`]).
    pub fn filtered_reader(&self, filter: Arc<Filter>, wants_presence: bool) -> Reader {
        Reader::with_filter(filter, Arc::default(), 0, wants_presence)
    }

    /// A reader that begins at the chat `seq`, finds what `filter` lets pass up to the
    /// present end, and goes on with what is pushed to its queue. `None` if that chat is not
    /// in memory.
    pub fn filtered_reader_from(
        &self,
        seq: u64,
        filter: Arc<Filter>,
        wants_presence: bool,
    ) -> Option<Reader> {
        let (segment, offset) = self.past.find(seq)?;
        let place = Place {
            segment: Arc::clone(segment),
            offset: in_32_bits(offset),
        };
        let queue = DueQueue::behind(place, self.end());
        let queue = Arc::new(queue);
        let reader = Reader::with_filter(filter, queue, self.end(), wants_presence);
        Some(reader)
    }

    /// The mark of a Covered at the present end, where the last chat has the number `seq`;
    /// `None` if that chat is due to the member, which tells it as much.
    pub fn covered(&self, due: &DueQueue, seq: u64) -> Option<Mark> {
        let (sent, newest_seq) = due.pushed();
        (newest_seq < seq).then_some(Mark {
            position: self.end(),
            seq,
            sent,
            then: Then::Covered,
        })
    }

    /// The mark of a Following at the present end, from where on `reader` goes on. `before`:
    /// what the member was due by the filter before; without one, it was `sent_unfiltered`
    /// chats.
    pub fn following(
        &self,
        before: Option<&DueQueue>,
        (id, seq): (u64, u64),
        sent_unfiltered: u64,
        reader: Reader,
    ) -> Mark {
        let pushed = before.map(|due| due.pushed().0);
        Mark {
            position: self.end(),
            seq,
            sent: pushed.unwrap_or(sent_unfiltered),
            then: Then::Following {
                id,
                reader: Box::new(reader),
            },
        }
    }

    /// A reader that begins at the present end, behind frames that are not committed
    /// yet. `wants_presence`: whether its member belongs to [`Audience::Presence`].
    pub fn reader(&self, wants_presence: bool) -> Reader {
        Reader::new(
            Arc::clone(self.tail.segment()),
            self.tail.filled_bytes(),
            wants_presence,
        )
    }
}

#[cfg(test)]
mod tests;
