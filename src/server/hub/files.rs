//! What the thread of the files tells the hub (CHAT-FILE).

#[cfg(feature = "cluster")]
use tokio::sync::mpsc;

use crate::{
    frame,
    session::{FileRead, Hash, WrittenPiece},
};

use super::{Due, Hub, State};

/// What became of a task of the thread of the files.
pub(in crate::server) enum FileDone {
    /// A piece of an upload was written, or not.
    Written(WrittenPiece),
    /// A piece of a download was read, as a frame, or could not be.
    Read(FileRead, Result<Vec<u8>, NotRead>),
    /// Pieces behind that one were read along, as frames.
    Ahead(FileRead, Vec<Vec<u8>>),
}

/// Why a piece of a file cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum NotRead {
    /// It is not on the disk, or the disk fails.
    Here,
    /// It is not on this node of a cluster, and no other one gives it.
    Elsewhere,
}

impl Hub {
    /// The thread of the files has done something, in this order.
    pub(in crate::server) fn files_done(&self, done: &mut Vec<FileDone>) {
        if done.is_empty() {
            return;
        }
        let now_unix_ms = self.now().unix_ms;
        let mut state = self.lock();
        for done in done.drain(..) {
            match done {
                FileDone::Written(piece) => {
                    let State {
                        sessions, effects, ..
                    } = &mut *state;
                    sessions.file_written(&piece, now_unix_ms, effects);
                }
                FileDone::Read(read, frame) => self.file_read(&mut state, &read, frame),
                FileDone::Ahead(read, frames) => state.sessions.pieces_ahead(&read, frames),
            }
        }
        self.apply(&mut state, None);
    }

    fn file_read(&self, state: &mut State, read: &FileRead, frame: Result<Vec<u8>, NotRead>) {
        let State { sessions, mail, .. } = state;
        let index = read.index;
        if !sessions.is_open(index, read.serial) {
            return;
        }
        let frame = frame.unwrap_or_else(|not_read| {
            let is_elsewhere = not_read == NotRead::Elsewhere;
            let mut frame = Vec::new();
            frame::encode(&sessions.file_not_read(read, is_elsewhere), &mut frame);
            frame
        });
        mail.entry(index).or_default().push(Due::Piece(frame));
        self.registry.note_mail(index);
    }

    /// Pieces of files that are not here come from `fetcher`.
    #[cfg(feature = "cluster")]
    pub(in crate::server) fn fetch_files(&self, fetcher: mpsc::Sender<FileRead>) {
        let _ = self.file_fetcher.set(fetcher);
    }

    /// Has a piece fetched from another node. Returns it if there is none to ask, or too much
    /// to fetch already.
    pub(in crate::server) fn fetch_piece(&self, read: FileRead) -> Result<(), (FileRead, NotRead)> {
        match self.file_fetcher.get() {
            Some(fetcher) => fetcher
                .try_send(read)
                .map_err(|error| (error.into_inner(), NotRead::Elsewhere)),
            None => Err((read, NotRead::Here)),
        }
    }

    /// Whether a whole file is on the disk, as far as members know.
    pub(in crate::server) fn has_file(&self, hash: &Hash) -> bool {
        self.lock().sessions.has_file(hash)
    }
}
