//! Reply buffer: the encoded replies to one connection that are not sent yet.
//!
//! A reply with the number of a chat is held until that chat is committed, and so are
//! the replies behind it, which keeps their order.

use std::collections::VecDeque;

use crate::{
    frame::{self, Split},
    wire::ServerEnvelope,
};

#[cfg(test)]
use crate::limits::{FRAME_OVERHEAD_BYTES_MAX, UNREGISTERED_FRAME_BYTES_MAX};

/// How many bytes of replies may wait before the server stops reading from a connection.
/// Frames provoke replies, so this bounds the replies. An ordinary client has a few
/// hundred bytes of them.
pub(super) const REPLIES_PAUSE_BYTES: usize = 32 * 1024;

/// How much the replies to a single event take at most, in bytes: an error and the one
/// that ends the session, each in the smallest frame that can be configured. A page of
/// members goes only to a connection that has taken all replies before it.
#[cfg(test)]
const EVENT_BYTES_MAX: usize = 2 * (FRAME_OVERHEAD_BYTES_MAX as usize + 4);

/// How much memory a reply buffer takes at most, in bytes, if the longest envelope takes
/// `frame_bytes_max`: up to [`REPLIES_PAUSE_BYTES`] of unsent replies, one frame that is
/// sent in part (it is kept whole until it is sent) or that goes first, with what the
/// transport has announced of the log, and the replies to one event. All of that twice,
/// since a full `Vec` doubles.
#[cfg(test)]
pub(super) fn buffered_bytes_max(frame_bytes_max: u32, announced_bytes_max: usize) -> usize {
    let frame_bytes_max = frame_bytes_max.max(UNREGISTERED_FRAME_BYTES_MAX) as usize;
    2 * (REPLIES_PAUSE_BYTES + frame_bytes_max + announced_bytes_max + EVENT_BYTES_MAX)
}

/// Encoded replies, in order (CHAT-ORD-8). Takes the memory of a pointer while empty,
/// which nearly all of them nearly always are, and `buffered_bytes_max` at most.
#[derive(Debug, Default)]
pub(super) struct ReplyBuffer {
    waiting: Option<Box<Waiting>>,
}

#[derive(Debug, Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// How many of the bytes were sent.
    sent: usize,
    /// The replies that wait for a commit, in order: one hold for each pass that is not
    /// committed yet.
    holds: VecDeque<Hold>,
    /// Where the hold of the present pass begins, once there is one.
    hold_from: Option<usize>,
}

/// The bytes from `offset` on wait until the log is committed up to `position`.
#[derive(Debug)]
struct Hold {
    offset: usize,
    position: u64,
}

impl Waiting {
    /// The start and the end of the frame that was sent in part. If there is none, both
    /// are the start of the next frame.
    fn frame_under_way(&self) -> (usize, usize) {
        let (mut start, mut end) = (0, 0);
        while end < self.sent
            && let Some(frames) = self.bytes.get(end..)
            && let Ok(Split::Frame { rest, .. }) = frame::split(frames, u32::MAX)
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
        let waiting = self.make_room(frame::encoded_len(envelope));
        frame::encode(envelope, &mut waiting.bytes);
    }

    /// Adds whole frames behind the others.
    pub(super) fn push_frames(&mut self, frames: &[u8]) {
        if !frames.is_empty() {
            self.make_room(frames.len()).bytes.extend_from_slice(frames);
        }
    }

    /// The buffer, where `bytes` more will be added.
    fn make_room(&mut self, bytes: usize) -> &mut Waiting {
        let waiting = self.waiting.get_or_insert_default();
        // A peer that reads, but never everything, must not make the buffer grow: sent
        // bytes are dropped before it does. Nothing is sent between the replies of one
        // pass, so this moves bytes at most once a pass.
        let free_bytes = waiting.bytes.capacity() - waiting.bytes.len();
        if waiting.sent > 0 && free_bytes < bytes {
            let (begun, _) = waiting.frame_under_way();
            waiting.bytes.drain(..begun);
            waiting.sent -= begun;
            waiting.holds.iter_mut().for_each(|it| it.offset -= begun);
            // The present pass may have begun its hold already.
            waiting.hold_from = waiting.hold_from.map(|offset| offset - begun);
        }
        waiting
    }

    /// Puts the rest of a frame that was sent in part before everything else.
    pub(super) fn push_front(&mut self, rest_of_frame: &[u8]) {
        let waiting = self.waiting.get_or_insert_default();
        debug_assert_eq!(waiting.sent, 0, "no reply begins inside another frame");
        waiting.bytes.splice(..0, rest_of_frame.iter().copied());
        let length = rest_of_frame.len();
        waiting.holds.iter_mut().for_each(|it| it.offset += length);
        waiting.hold_from = waiting.hold_from.map(|offset| offset + length);
    }

    /// Puts a reply before those that wait for a commit. Nothing else may be unsent.
    pub(super) fn push_next(&mut self, envelope: &ServerEnvelope) {
        debug_assert!(self.unsent().is_empty(), "no reply is overtaken");
        let mut bytes = Vec::new();
        frame::encode(envelope, &mut bytes);
        let waiting = self.waiting.get_or_insert_default();
        let (sent, length) = (waiting.sent, bytes.len());
        waiting.bytes.splice(sent..sent, bytes);
        waiting.holds.iter_mut().for_each(|it| it.offset += length);
        waiting.hold_from = waiting.hold_from.map(|offset| offset + length);
    }

    /// What is added from here on waits for the commit of this pass, which
    /// [`ReplyBuffer::end_hold`] names. Only the first call of a pass counts.
    pub(super) fn begin_hold(&mut self) {
        let waiting = self.waiting.get_or_insert_default();
        waiting.hold_from.get_or_insert(waiting.bytes.len());
    }

    /// Ends a pass: what was added since [`ReplyBuffer::begin_hold`] waits until the log
    /// is committed up to `position`. Returns whether anything does.
    pub(super) fn end_hold(&mut self, position: u64) -> bool {
        let waiting = self.waiting.as_mut();
        let Some((waiting, offset)) =
            waiting.and_then(|it| it.hold_from.take().map(|offset| (it, offset)))
        else {
            return false;
        };
        waiting.holds.push_back(Hold { offset, position });
        true
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

    /// The bytes to send next: the unsent ones that are not held.
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

    /// Drops the replies of which nothing was sent, and frees their memory.
    pub(super) fn forget(&mut self) {
        let Some(waiting) = &mut self.waiting else {
            return;
        };
        let (_, end) = waiting.frame_under_way();
        waiting.bytes.truncate(end);
        waiting.bytes.shrink_to_fit();
        waiting.holds.retain(|hold| hold.offset < end);
        waiting.hold_from = waiting.hold_from.filter(|&offset| offset < end);
        if waiting.sent == waiting.bytes.len() {
            self.waiting = None;
        }
    }

    /// How much memory it takes, in bytes.
    pub(super) fn buffered_bytes(&self) -> usize {
        let waiting = self.waiting.as_ref();
        waiting.map_or(0, |waiting| waiting.bytes.capacity())
    }

    /// How many bytes were not sent yet.
    pub(super) fn unsent_bytes(&self) -> usize {
        let waiting = self.waiting.as_ref();
        waiting.map_or(0, |waiting| waiting.bytes.len() - waiting.sent)
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

    /// Sends a part of three replies, then drops the rest, for each length of the part.
    #[test]
    fn forget_keeps_the_rest_of_a_frame_that_was_sent_in_part() {
        let (replies, frames): (Vec<_>, Vec<_>) = (1_000..1_003).map(reply).unzip();
        let all = frames.concat();
        for sent in 0..all.len() {
            let mut buffer = ReplyBuffer::default();
            replies.iter().for_each(|reply| buffer.push(reply));
            buffer.advance(sent);
            // Drops sent bytes first if there are many.
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
            buffer.begin_hold();
            buffer.push(&replies[index]);
            assert!(buffer.end_hold(position));
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

    /// Sent bytes in front of a held reply are dropped, and the rest of a frame of the
    /// log is put before it.
    #[test]
    fn a_held_reply_stays_held_when_it_moves() {
        let (reply, frame) = reply(1_000);
        let mut buffer = ReplyBuffer::default();
        for round in 0..100 {
            buffer.push(&reply);
            buffer.begin_hold();
            buffer.push(&reply);
            assert!(buffer.end_hold(round));
            assert_eq!(buffer.unsent(), frame, "round {round}");
            buffer.advance(frame.len());
            buffer.push(&reply);
            buffer.release(round);
            assert_eq!(buffer.unsent(), [frame.clone(), frame.clone()].concat());
            buffer.advance(frame.len());
            assert_eq!(buffer.unsent(), frame);
            buffer.advance(frame.len());
        }
        buffer.begin_hold();
        buffer.push(&reply);
        assert!(buffer.end_hold(1));
        buffer.push_front(b"rest");
        assert_eq!(buffer.unsent(), b"rest");
        buffer.forget();
        buffer.release(1);
        assert!(buffer.is_empty());
    }

    /// Sent bytes are dropped in the middle of a pass that has begun a hold.
    #[test]
    fn a_hold_moves_with_its_replies_within_a_pass() {
        let (reply, frame) = reply(1_000);
        let mut buffer = ReplyBuffer::default();
        let mut expected = 0;
        for round in 1..200_u64 {
            let count = round as usize % 7 + 1;
            buffer.begin_hold();
            (0..count).for_each(|_| buffer.push(&reply));
            assert!(buffer.end_hold(round));
            assert!(!buffer.end_hold(round), "a pass ends once");
            assert_eq!(buffer.unsent().len(), expected, "what was released, alone");
            buffer.release(round);
            expected += count * frame.len();
            assert_eq!(buffer.unsent().len(), expected);
            // All but a part of the last frame is sent.
            buffer.advance(expected - 1);
            expected = 1;
        }
    }

    #[test]
    fn sent_replies_are_dropped_before_the_buffer_grows() {
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
    fn a_peer_that_never_reads_everything_keeps_the_buffer_within_its_bound() {
        let (reply, frame) = reply(u64::MAX);
        let mut replies = ReplyBuffer::default();
        for sent in (1..40).cycle().take(20_000) {
            while replies.unsent_bytes() < REPLIES_PAUSE_BYTES {
                replies.push(&reply);
            }
            assert!(replies.buffered_bytes() <= buffered_bytes_max(frame.len() as u32, 0));
            replies.advance(sent * 37);
        }
    }
}
