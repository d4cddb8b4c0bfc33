//! Reply buffer: the replies to one connection that were not sent yet, encoded.
//!
//! A reply that tells the number of a chat waits until that chat is committed, and the
//! replies behind it wait too, so that they keep their order.

use std::collections::VecDeque;

use crate::{
    frame::{self, Split},
    wire::ServerEnvelope,
};

#[cfg(test)]
use crate::limits::{FRAME_OVERHEAD_BYTES_MAX, UNREGISTERED_FRAME_BYTES_MAX};

/// How many bytes of replies a connection may have waiting before it is not read
/// from any more. What comes in makes replies, so this stops their growth; a
/// normal client has a few hundred bytes at the most.
pub(super) const REPLIES_PAUSE_BYTES: usize = 32 * 1024;

/// What the replies to a single event take at the most, in bytes: an error and the
/// one that ends the session over it, each in the smallest frame that can be
/// configured. Whoever is told of the members has taken all replies before that.
#[cfg(test)]
const EVENT_BYTES_MAX: usize = 2 * (FRAME_OVERHEAD_BYTES_MAX as usize + 4);

/// How much memory an replies takes at the most, in bytes, when the longest envelope
/// takes `frame_bytes_max`: less than [`REPLIES_PAUSE_BYTES`] that are not sent, one
/// frame of which a part was sent (its whole is kept until it is sent) or which goes
/// before the others, and what one event adds; and all that twice, since a `Vec`
/// that is full doubles.
#[cfg(test)]
pub(super) fn buffered_bytes_max(frame_bytes_max: u32) -> usize {
    let frame_bytes_max = frame_bytes_max.max(UNREGISTERED_FRAME_BYTES_MAX) as usize;
    2 * (REPLIES_PAUSE_BYTES + frame_bytes_max + EVENT_BYTES_MAX)
}

/// Replies, encoded, in order (CHAT-ORD-8). Takes a pointer's memory while empty,
/// as nearly all of them are nearly always.
///
/// Takes at most `buffered_bytes_max` of memory, which is derived above.
#[derive(Debug, Default)]
pub(super) struct ReplyBuffer {
    waiting: Option<Box<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    sent: usize,
    /// What waits for a commit, in order. One for each pass that nobody has committed
    /// yet.
    holds: VecDeque<Hold>,
}

/// The bytes from `offset` on wait until the log is committed up to `position`.
#[derive(Debug)]
struct Hold {
    offset: usize,
    position: u64,
}

impl Waiting {
    /// Where the frame begins and ends of which a part was sent; both where the next
    /// begins, if there is none.
    fn frame_under_way(&self) -> (usize, usize) {
        let (mut start, mut end) = (0, 0);
        while end < self.sent
            && let Some(ahead) = self.bytes.get(end..)
            && let Ok(Split::Frame { rest, .. }) = frame::split(ahead, u32::MAX)
        {
            start = end;
            end = self.bytes.len() - rest.len();
        }
        if end == self.sent {
            start = end;
        }
        (start, end)
    }
}

impl ReplyBuffer {
    /// Adds a reply behind the others.
    pub(super) fn push(&mut self, envelope: &ServerEnvelope) {
        let waiting = self.waiting.get_or_insert_default();
        // Who reads, but never all there is, must not make it grow: what was sent
        // goes first. Nothing is sent between the replies of one turn, so this moves
        // bytes once a turn at the most.
        let free_bytes = waiting.bytes.capacity() - waiting.bytes.len();
        if waiting.sent > 0 && free_bytes < frame::encoded_len(envelope) {
            let (begun, _) = waiting.frame_under_way();
            waiting.bytes.drain(..begun);
            waiting.sent -= begun;
            for hold in &mut waiting.holds {
                hold.offset -= begun;
            }
        }
        frame::encode(envelope, &mut waiting.bytes);
    }

    /// Puts the rest of a frame that was sent in part before everything else.
    pub(super) fn push_front(&mut self, rest_of_frame: &[u8]) {
        let waiting = self.waiting.get_or_insert_default();
        debug_assert_eq!(waiting.sent, 0, "no reply begins inside another frame");
        waiting.bytes.splice(..0, rest_of_frame.iter().copied());
        for hold in &mut waiting.holds {
            hold.offset += rest_of_frame.len();
        }
    }

    /// How many bytes it holds, sent ones included: where the next reply begins.
    pub(super) fn end(&self) -> usize {
        let waiting = self.waiting.as_ref();
        waiting.map_or(0, |waiting| waiting.bytes.len())
    }

    /// Holds everything from `offset` on until the log is committed up to `position`.
    pub(super) fn hold(&mut self, offset: usize, position: u64) {
        if let Some(waiting) = &mut self.waiting {
            waiting.holds.push_back(Hold { offset, position });
        }
    }

    /// The log is committed up to `position`.
    pub(super) fn release(&mut self, position: u64) {
        let Some(waiting) = &mut self.waiting else {
            return;
        };
        while let Some(hold) = waiting.holds.front()
            && hold.position <= position
        {
            waiting.holds.pop_front();
        }
    }

    /// What may be sent next.
    pub(super) fn unsent(&self) -> &[u8] {
        let Some(waiting) = &self.waiting else {
            return &[];
        };
        let hold = waiting.holds.front();
        let end = hold.map_or(waiting.bytes.len(), |hold| hold.offset);
        waiting.bytes.get(waiting.sent..end).unwrap_or_default()
    }

    /// Whether every reply was sent.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_none()
    }

    /// The first `bytes` of [`ReplyBuffer::unsent`] were sent.
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
        let (_, end) = waiting.frame_under_way();
        waiting.bytes.truncate(end);
        waiting.bytes.shrink_to_fit();
        waiting.holds.retain(|hold| hold.offset < end);
        if waiting.sent == waiting.bytes.len() {
            self.waiting = None;
        }
    }

    /// How much memory it takes, in bytes.
    pub(super) fn buffered_bytes(&self) -> usize {
        let waiting = self.waiting.as_ref();
        waiting.map_or(0, |waiting| waiting.bytes.capacity())
    }

    /// Whether so much waits that no more may be added by reading.
    pub(super) fn is_full(&self) -> bool {
        let waiting = self.waiting.as_ref();
        waiting.is_some_and(|waiting| waiting.bytes.len() - waiting.sent >= REPLIES_PAUSE_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Pong, server_envelope::Message};

    fn reply(token: u64) -> (ServerEnvelope, Vec<u8>) {
        let envelope = ServerEnvelope {
            message: Some(Message::Pong(Pong { token })),
        };
        let mut bytes = Vec::new();
        frame::encode(&envelope, &mut bytes);
        (envelope, bytes)
    }

    /// Sends three replies in pieces that are no frames, and forgets at each place.
    #[test]
    fn what_was_begun_is_sent_to_its_end() {
        let (replies, frames): (Vec<_>, Vec<_>) = (1_000..1_003).map(reply).unzip();
        let all = frames.concat();
        for sent in 0..all.len() {
            let mut buffer = ReplyBuffer::default();
            replies.iter().for_each(|reply| buffer.push(reply));
            buffer.advance(sent);
            // Makes room first where much was sent.
            buffer.push(&replies[0]);
            buffer.forget();
            let ends = [0, 1, 2, 3].map(|count| frames[..count].concat().len());
            let end = ends.into_iter().find(|&end| end >= sent);
            assert_eq!(buffer.unsent(), &all[sent..end.unwrap()], "after {sent}");
        }
    }

    #[test]
    fn replies_wait_for_the_commit_and_keep_their_order() {
        let (replies, frames): (Vec<_>, Vec<_>) = (0..4).map(reply).unzip();
        let mut buffer = ReplyBuffer::default();
        let push_held = |buffer: &mut ReplyBuffer, index: usize, position| {
            let offset = buffer.end();
            buffer.push(&replies[index]);
            buffer.hold(offset, position);
        };
        buffer.push(&replies[0]);
        push_held(&mut buffer, 1, 100);
        push_held(&mut buffer, 2, 200);
        buffer.push(&replies[3]);
        assert_eq!(buffer.unsent(), frames[0]);
        buffer.advance(1);
        buffer.release(99);
        assert_eq!(buffer.unsent(), &frames[0][1..]);
        buffer.advance(frames[0].len() - 1);
        assert_eq!(buffer.unsent(), &[] as &[u8]);
        assert!(!buffer.is_empty());
        buffer.release(100);
        assert_eq!(buffer.unsent(), frames[1]);
        buffer.release(200);
        assert_eq!(buffer.unsent(), frames[1..].concat());
        buffer.advance(frames[1..].concat().len());
        assert!(buffer.is_empty());
    }

    /// Room is made in front of what waits, and a rest of a frame goes before it.
    #[test]
    fn what_waits_for_a_commit_may_move() {
        let (reply, frame) = reply(1_000);
        let mut buffer = ReplyBuffer::default();
        for round in 0..100 {
            buffer.push(&reply);
            let offset = buffer.end();
            buffer.push(&reply);
            buffer.hold(offset, round);
            assert_eq!(buffer.unsent(), frame, "round {round}");
            buffer.advance(frame.len());
            buffer.push(&reply);
            buffer.release(round);
            assert_eq!(buffer.unsent(), [frame.clone(), frame.clone()].concat());
            buffer.advance(frame.len());
            assert_eq!(buffer.unsent(), frame);
            buffer.advance(frame.len());
        }
        buffer.push(&reply);
        buffer.hold(0, 1);
        buffer.push_front(b"rest");
        assert_eq!(buffer.unsent(), b"rest");
        buffer.forget();
        buffer.release(1);
        assert!(buffer.is_empty());
    }

    #[test]
    fn what_was_sent_takes_no_memory_for_ever() {
        let (reply, frame) = reply(7);
        let mut replies = ReplyBuffer::default();
        replies.push(&reply);
        for _ in 0..1_000 {
            replies.push(&reply);
            replies.advance(frame.len());
        }
        assert!(replies.buffered_bytes() < 10 * frame.len());
        assert_eq!(replies.unsent(), frame);
    }

    #[test]
    fn who_reads_but_never_all_makes_it_take_no_more_than_its_bound() {
        let (reply, frame) = reply(u64::MAX);
        let mut replies = ReplyBuffer::default();
        for sent in (1..40).cycle().take(20_000) {
            while !replies.is_full() {
                replies.push(&reply);
            }
            assert!(replies.buffered_bytes() <= buffered_bytes_max(frame.len() as u32));
            replies.advance(sent * 37);
        }
    }
}
