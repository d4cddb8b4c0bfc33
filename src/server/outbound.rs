//! Outbound: everything that one connection has to send, and in which order: replies
//! before the log, but never inside a frame of the log.

use std::{ops::Range, os::fd::BorrowedFd};

use crate::{
    log::{Mark, Reader, Unsent},
    wire::{ServerEnvelope, server_envelope::Message},
};

use super::reply_buffer::ReplyBuffer;

/// What is due to one connection.
#[derive(Default)]
pub(super) struct Outbound {
    pub(super) replies: ReplyBuffer,
    /// Where it is in the log, once registered.
    pub(super) reader: Option<Reader>,
    /// More of the members are due to it once it has nothing else to send.
    pub(super) has_more_members: bool,
    /// Its reader begins in the past, and must wait for Registered (CHAT-REG-3) and for what
    /// came from the disk (CHAT-RES-9).
    pub(super) is_opening: bool,
    /// A part of what it missed comes from the disk, before its reader goes on.
    pub(super) is_catching_up: bool,
    pub(super) files: Files,
    /// Its session is over: what is due is sent, then it is closed.
    pub(super) is_ended: bool,
    /// The server closes, and it is to be told so when nothing else is due.
    pub(super) owes_farewell: bool,
    /// The transport has taken something since this was last cleared.
    pub(super) has_moved: bool,
    /// The Following to its Follow is among the replies, or sent.
    pub(super) has_followed: bool,
}

/// What is due to one connection of files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Files {
    /// Its session has none.
    #[default]
    NotGranted,
    /// Nothing. Frames may be as long as a piece of a file needs.
    Idle,
    /// A piece, when it has nothing else to send.
    Due,
    /// A piece that is on its way from the disk.
    Awaited,
}

/// Something that became due to one connection.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all are replies, and a box would cost each an allocation"
)]
pub(super) enum Due {
    /// A reply.
    Reply {
        envelope: ServerEnvelope,
        /// It tells a number, and waits for the commit of this pass (CHAT-ORD-9).
        is_held: bool,
    },
    /// A piece of a file, as a frame.
    #[cfg_attr(
        not(feature = "store"),
        allow(dead_code, reason = "files need the store")
    )]
    Piece(Vec<u8>),
    /// It published this part of the log itself (CHAT-CHAT-2, CHAT-PRES-6).
    Skip(Range<u64>),
    /// Its session is over, which it is not told yet: nothing that was published behind this
    /// position is for it.
    Stop(u64),
    /// It follows the log from here on.
    Open {
        reader: Reader,
        /// The reader begins in the past.
        is_opening: bool,
        /// A part of what it missed comes from the disk.
        is_catching_up: bool,
        /// Its frames may be as long as a piece of a file needs.
        has_files: bool,
    },
    /// Its reader says something when it has come to a place.
    Mark(Box<Mark>),
    /// The server closes: it is told so at the very end (CHAT-CLOSE-6).
    Farewell,
    /// A file is due to it.
    Download,
    /// Its session is over: what was published before this position is due to it
    /// (CHAT-LEAVE-2, CHAT-CLOSE-6), nothing after (CHAT-CLOSE-2).
    End(u64),
}

/// What to send next.
pub(super) enum Next<'a> {
    /// Some bytes. They stand in `file` too, from its offset on, where there is one;
    /// then they do not change any more.
    Bytes {
        bytes: &'a [u8],
        file: Option<(BorrowedFd<'a>, u32)>,
        source: Source,
    },
    /// Nothing is due.
    Nothing,
    /// Nothing is found yet in what was looked through, and there is more.
    More,
    /// Replies, or the rest of the log before the end of the session, are due and wait for
    /// a commit; nothing else is.
    AwaitingCommit,
}

/// Where the bytes to send next come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    RestOfFrame,
    Replies,
    Log,
}

impl Outbound {
    /// Takes what became due.
    pub(super) fn take(&mut self, due: Due) {
        match due {
            // Nothing follows the end; it was in the mail.
            Due::Reply { .. } if self.is_ended => {}
            Due::Reply { envelope, is_held } => {
                if is_held {
                    self.replies.begin_hold();
                }
                self.reply(&envelope);
            }
            Due::Piece(frame) => {
                // Its session knows whether there is another.
                self.files = Files::Due;
                if !self.is_ended {
                    self.replies.push_frames(&frame);
                }
            }
            // Behind a piece that is awaited there is another.
            Due::Download if self.files == Files::Awaited => {}
            Due::Download => self.files = Files::Due,
            Due::Skip(range) => {
                if let Some(reader) = &mut self.reader {
                    reader.skip(range);
                }
            }
            Due::Open {
                reader,
                is_opening,
                is_catching_up,
                has_files,
            } => {
                if has_files {
                    self.files = Files::Idle;
                }
                self.reader = Some(reader);
                self.is_opening = is_opening;
                self.is_catching_up = is_catching_up;
            }
            Due::Mark(mark) => {
                if let Some(reader) = &mut self.reader {
                    reader.set_mark(*mark);
                }
            }
            Due::Stop(position) => {
                if let Some(reader) = &mut self.reader {
                    reader.stop_at(position);
                }
            }
            Due::Farewell => self.owes_farewell = true,
            Due::End(position) => {
                if let Some(reader) = &mut self.reader {
                    reader.stop_at(position);
                }
                self.has_more_members = false;
                self.is_ended = true;
            }
        }
    }

    /// Adds a reply.
    pub(super) fn reply(&mut self, envelope: &ServerEnvelope) {
        if let Some(Message::ServerClosing(_)) = envelope.message {
            // It comes out of order only if what is before it cannot be sent any more.
            self.replies.forget();
            self.drop_log();
        }
        self.replies.push(envelope);
        match &envelope.message {
            Some(Message::Members(members)) => self.has_more_members = members.more,
            // CHAT-ERR-1: nothing goes out behind it.
            Some(Message::Error(error)) if error.ends_session => self.drop_log(),
            _ => {}
        }
    }

    /// Gives up what the log still holds for this connection, but for the rest of a
    /// frame of which a part was sent.
    pub(super) fn drop_log(&mut self) {
        self.is_catching_up = false;
        if let Some(reader) = self.reader.take() {
            let rest = reader.rest_of_frame();
            if !rest.is_empty() {
                self.replies.push_front(rest);
            }
        }
    }

    /// What to send next, now that the log is committed up to `committed_end`. Nothing of
    /// the log behind `visible_end` is sent. Short pieces are put together in `gathered`.
    pub(super) fn next<'a>(
        &'a mut self,
        committed_end: u64,
        visible_end: u64,
        gathered: &'a mut Vec<u8>,
    ) -> Next<'a> {
        self.replies.release(committed_end);
        let awaits_log = self.is_ended && self.is_due_behind(committed_end);
        let mut has_replies = !self.replies.unsent().is_empty();
        if !has_replies && self.reach_mark(committed_end.min(visible_end)) {
            has_replies = true;
        }
        let mut has_more = false;
        let source = match &self.reader {
            Some(reader) if has_replies && reader.is_inside_frame() => Source::RestOfFrame,
            Some(_) if !(has_replies || self.is_opening || self.is_catching_up) => Source::Log,
            _ => Source::Replies,
        };
        let (bytes, file) = match (source, &mut self.reader) {
            (Source::RestOfFrame, Some(reader)) => (reader.rest_of_frame(), None),
            (Source::Log, Some(reader)) => {
                let unsent = reader.unsent_gathered(visible_end, gathered);
                has_more = unsent.has_more;
                let Unsent { bytes, file, .. } = unsent;
                (bytes, file)
            }
            _ => (self.replies.unsent(), None),
        };
        match bytes {
            [] if has_more => Next::More,
            [] if self.replies.is_empty() && !awaits_log => Next::Nothing,
            [] => Next::AwaitingCommit,
            bytes => Next::Bytes {
                bytes,
                file,
                source,
            },
        }
    }

    /// Says what its reader says at the place that it has come to. Returns whether it has
    /// come to one.
    fn reach_mark(&mut self, end: u64) -> bool {
        let Some(reader) = self.reader.as_mut().filter(|reader| reader.has_mark()) else {
            return false;
        };
        if self.is_opening || self.is_catching_up {
            return false;
        }
        let unsent = reader.unsent_before(end);
        if unsent.has_more || !unsent.bytes.is_empty() {
            return false;
        }
        let Some(message) = reader.take_mark(end) else {
            return false;
        };
        self.has_followed |= matches!(message, Message::Following(_));
        self.replies.push_next(&ServerEnvelope {
            message: Some(message),
        });
        true
    }

    /// Whether what is due to it goes on behind `position`, and waits for a commit: the end
    /// of the log, once its session is over (CHAT-CLOSE-6, CHAT-LEAVE-2), or what its reader
    /// says at a place.
    pub(super) fn is_due_behind(&self, position: u64) -> bool {
        self.reader.as_ref().is_some_and(|reader| {
            reader.has_mark_behind(position) || (self.is_ended && reader.stops_behind(position))
        })
    }

    /// The first `sent` of the bytes to send next went out.
    pub(super) fn advance(&mut self, source: Source, sent: usize) {
        self.has_moved = true;
        match (source, &mut self.reader) {
            (Source::Replies, _) | (_, None) => {
                self.replies.advance(sent);
                self.is_opening &= !self.replies.is_empty();
            }
            (Source::RestOfFrame, Some(reader)) => reader.advance_in_frame(sent),
            (Source::Log, Some(reader)) => reader.advance(sent),
        }
    }

    /// The client was told that at least so many more bytes of the log come.
    pub(super) fn announce(&mut self, bytes: u16) {
        if let Some(reader) = &mut self.reader {
            reader.announce(bytes);
        }
    }

    /// Its place in the log, while it follows it.
    pub(super) fn position(&self) -> Option<u64> {
        self.reader.as_ref().map(Reader::position)
    }
}
