//! What the thread of the files tells the hub (CHAT-FILE).

#[cfg(feature = "cluster")]
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use crate::{
    frame,
    session::{Hash, WrittenPiece},
};

use super::{Due, Hub, State};

/// What became of a task of the thread of the files.
pub(in crate::server) enum FileDone {
    /// A piece of an upload was written, or not.
    Written(WrittenPiece),
    /// A piece of a download was read, as a frame, or could not be.
    Read {
        index: usize,
        serial: u64,
        hash: Hash,
        frame: Result<Vec<u8>, NotRead>,
    },
}

/// Why a piece of a file cannot be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum NotRead {
    /// It is not on the disk, or the disk fails.
    Here,
    /// It is not on this node of a cluster, and no other one gives it.
    Elsewhere,
}

/// A piece of a file that is not on the disk of this node of a cluster, for a session.
#[derive(Debug, Clone)]
pub(in crate::server) struct Wanted {
    /// The index of the connection.
    pub(in crate::server) index: usize,
    /// Its session.
    pub(in crate::server) serial: u64,
    /// The file.
    pub(in crate::server) hash: Hash,
    /// Where the piece begins.
    pub(in crate::server) offset: u64,
    /// How many bytes it has.
    pub(in crate::server) bytes: usize,
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
                FileDone::Read {
                    index,
                    serial,
                    hash,
                    frame,
                } => self.file_read(&mut state, (index, serial), &hash, frame),
            }
        }
        self.apply(&mut state, None);
    }

    fn file_read(
        &self,
        state: &mut State,
        (index, serial): (usize, u64),
        hash: &Hash,
        frame: Result<Vec<u8>, NotRead>,
    ) {
        let State { sessions, mail, .. } = state;
        if !sessions.is_open(index, serial) {
            return;
        }
        let frame = frame.unwrap_or_else(|not_read| {
            let is_elsewhere = not_read == NotRead::Elsewhere;
            let mut frame = Vec::new();
            let answer = sessions.file_not_read(index, hash, is_elsewhere);
            frame::encode(&answer, &mut frame);
            frame
        });
        mail.entry(index).or_default().push(Due::Piece(frame));
        self.registry.note_mail(index);
    }

    /// Pieces of files that are not here come from `fetcher`.
    #[cfg(feature = "cluster")]
    pub(in crate::server) fn fetch_files(&self, fetcher: mpsc::Sender<Wanted>) {
        let _ = self.file_fetcher.set(fetcher);
    }

    /// Has a piece fetched from another node. Returns it if there is none to ask.
    pub(in crate::server) fn fetch_piece(&self, wanted: Wanted) -> Result<(), Wanted> {
        match self.file_fetcher.get() {
            Some(fetcher) => fetcher.try_send(wanted).map_err(TrySendError::into_inner),
            None => Err(wanted),
        }
    }

    /// Whether a whole file is on the disk, as far as members know.
    pub(in crate::server) fn has_file(&self, hash: &Hash) -> bool {
        self.lock().sessions.has_file(hash)
    }
}
