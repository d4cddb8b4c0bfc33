//! Downloads: the files that members are sent, piece by piece (CHAT-FILE-10).

use std::collections::VecDeque;

use crate::{
    limits::{DOWNLOADS_AHEAD_MAX, DOWNLOADS_MAX, PIECES_READ_AHEAD_MAX},
    wire::{self, ErrorCode, ServerEnvelope},
};

use super::{
    ConnectionId, Context, Effect, FileRead, Hash, Sessions, State, files::hash_of, rejection,
};

/// A download that is under way.
#[derive(Debug)]
pub(super) struct Download {
    hash: Hash,
    next: u64,
    end: u64,
    /// The next pieces, as frames, that were read ahead.
    ahead: VecDeque<Vec<u8>>,
    /// Such pieces were asked for.
    awaits_ahead: bool,
}

/// The next piece of a download.
#[derive(Debug, PartialEq, Eq)]
pub enum NextPiece {
    /// It was read ahead, as a frame.
    Frame(Vec<u8>),
    /// The disk has to read it.
    Read(FileRead),
}

impl Sessions {
    /// CHAT-FILE-4, CHAT-FILE-10
    pub(super) fn handle_get_file(&mut self, context: &mut Context<'_>, get: &wire::GetFile) {
        let Some(hash) = hash_of(&get.sha256) else {
            return self.reject_file(context, rejection::file_request(), &get.sha256);
        };
        let Some(size) = self.size_for(context, &hash) else {
            let answer = rejection::file(ErrorCode::FileUnknown, &self.limits);
            return self.reject_file(context, answer, &get.sha256);
        };
        if get.offset >= size {
            return self.reject_file(context, rejection::file_request(), &get.sha256);
        }
        let length = match get.length {
            0 => size,
            length => length,
        };
        let download = Download {
            hash,
            next: get.offset,
            end: get.offset.saturating_add(length).min(size),
            ahead: VecDeque::new(),
            awaits_ahead: false,
        };
        let is_first = self.session(context.id).download.is_none();
        if is_first && self.downloads >= DOWNLOADS_MAX {
            let answer = rejection::downloads();
            return self.reject_file(context, answer, &get.sha256);
        }
        self.downloads += usize::from(is_first);
        self.session(context.id).download = Some(Box::new(download));
        context.effects.push(Effect::Download);
    }

    /// The next piece of the download of a session, which has sent everything else.
    pub fn next_piece(&mut self, id: &ConnectionId) -> Option<NextPiece> {
        let chunk = u64::from(self.limits.file_chunk_bytes_max);
        let Some(State::Registered(session)) = self.states.get_mut(id.0) else {
            return None;
        };
        let serial = session.serial;
        let download = session.download.as_mut()?;
        let offset = download.next;
        let bytes = chunk.min(download.end - offset);
        download.next += bytes;
        let next = match download.ahead.pop_front() {
            Some(frame) => NextPiece::Frame(frame),
            None => {
                let ahead_bytes = match self.downloads <= DOWNLOADS_AHEAD_MAX {
                    true => (chunk * PIECES_READ_AHEAD_MAX).min(download.end - download.next),
                    false => 0,
                };
                download.awaits_ahead = true;
                NextPiece::Read(FileRead {
                    index: id.0,
                    serial,
                    hash: download.hash,
                    offset,
                    // A chunk is a u32.
                    bytes: bytes as usize,
                    ahead_bytes: ahead_bytes as usize,
                })
            }
        };
        if download.next >= download.end {
            session.download = None;
            self.downloads -= 1;
        }
        Some(next)
    }

    /// The pieces behind that of `read` were read along, as frames. Another GetFile may have
    /// taken its place meanwhile.
    pub fn pieces_ahead(&mut self, read: &FileRead, frames: Vec<Vec<u8>>) {
        if let Some(State::Registered(session)) = self.states.get_mut(read.index)
            && session.serial == read.serial
            && let Some(download) = &mut session.download
            && std::mem::take(&mut download.awaits_ahead)
            && download.hash == read.hash
            && download.next == read.offset + read.bytes as u64
        {
            download.ahead = frames.into();
        }
    }

    /// A piece of a download could not be read: it ends, unless another has taken its place.
    /// `is_elsewhere`: other nodes of a cluster have the file.
    pub fn file_not_read(&mut self, read: &FileRead, is_elsewhere: bool) -> ServerEnvelope {
        if let Some(State::Registered(session)) = self.states.get_mut(read.index)
            && session
                .download
                .take_if(|it| it.hash == read.hash)
                .is_some()
        {
            self.downloads -= 1;
        }
        let rejection = match is_elsewhere {
            true => rejection::file_elsewhere(),
            false => rejection::file(ErrorCode::FileUnknown, &self.limits),
        };
        rejection.about_file(read.hash.to_vec())
    }
}
