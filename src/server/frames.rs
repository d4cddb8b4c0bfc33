//! Frames: cuts what was read into frames, as far as the session takes them.

use prost::Message as _;

use crate::{
    frame::{self, Split},
    limits::{Limits, UNREGISTERED_FRAME_BYTES_MAX},
    session::Event,
    wire::{ClientEnvelope, client_envelope::Message},
};

use super::{hub::HubGuard, outbound::Files};

/// How many frames are judged under one lock.
const FRAMES_PER_PASS_MAX: usize = 1_024;

/// The frames of one pass over what was read.
pub(super) struct Frames<'a> {
    unread: &'a [u8],
    count: usize,
    /// How many of them were pieces of files, and the bytes of those.
    pieces: usize,
    piece_bytes: usize,
    /// What is unread is the beginning of a frame.
    is_partial: bool,
    replies_bytes_max: usize,
}

impl<'a> Frames<'a> {
    /// The frames in `bytes`, until `replies_bytes_max` of replies wait.
    pub(super) fn new(bytes: &'a [u8], replies_bytes_max: usize) -> Self {
        Self {
            unread: bytes,
            count: 0,
            pieces: 0,
            piece_bytes: 0,
            is_partial: false,
            replies_bytes_max,
        }
    }

    /// How many frames there were, pieces of files apart.
    pub(super) fn count(&self) -> usize {
        self.count - self.pieces
    }

    /// How many bytes the pieces of files had (CHAT-FILE-15).
    pub(super) fn piece_bytes(&self) -> usize {
        self.piece_bytes
    }

    /// What no frame was made of yet.
    pub(super) fn unread(&self) -> &'a [u8] {
        self.unread
    }

    /// Whether that may hold whole frames.
    pub(super) fn has_more(&self) -> bool {
        !self.is_partial && !self.unread.is_empty()
    }

    /// What the next frame is to the session; `None` when the pass is over.
    pub(super) fn next(&mut self, guard: &mut HubGuard<'_>, limits: &Limits) -> Option<Event> {
        if guard.outbound.is_ended {
            self.unread = &[]; // CHAT-LEAVE-4, CHAT-ERR-10: the rest is of no interest.
        }
        // A Register that waits holds up what is behind it, too.
        if self.count == FRAMES_PER_PASS_MAX
            || guard.budget.is_throttled
            || guard.outbound.replies.unsent_bytes() >= self.replies_bytes_max
        {
            return None;
        }
        // CHAT-FRAME-6
        let body_bytes_max = match guard.outbound.reader {
            Some(_) if guard.outbound.files != Files::NotGranted => limits.file_frame_bytes_max(),
            Some(_) => limits.frame_bytes_max,
            None => UNREGISTERED_FRAME_BYTES_MAX,
        };
        let (event, rest) = match frame::split(self.unread, body_bytes_max) {
            Ok(Split::Frame { body, rest }) => match ClientEnvelope::decode(body) {
                // Fields that nobody knows are dropped here (CHAT-GROW-3).
                Ok(envelope) => (Event::Message(envelope), rest),
                Err(_) => (Event::BadEnvelope, rest), // CHAT-FRAME-8
            },
            Ok(Split::Partial) => {
                self.is_partial = true;
                return None;
            }
            Err(error) => (Event::BadFrame(error), self.unread),
        };
        if guard.waits_for_pieces(&event) {
            return None;
        }
        if let Event::Message(ClientEnvelope {
            message: Some(Message::FileData(_)),
        }) = event
        {
            self.pieces += 1;
            self.piece_bytes += self.unread.len() - rest.len();
        }
        self.count += usize::from(!matches!(event, Event::BadFrame(_)));
        self.unread = rest;
        Some(event)
    }
}
