//! What one connection is to be told directly: replies that have not been sent
//! yet, ready for the socket.

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
    pub(super) fn unsent(&self) -> &[u8] {
        match &self.waiting {
            Some(waiting) => waiting.bytes.get(waiting.sent..).unwrap_or_default(),
            None => &[],
        }
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
        self.unsent().len() >= REPLIES_PAUSE_BYTES
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
