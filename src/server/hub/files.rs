//! What the thread of the files tells the hub (CHAT-FILE).

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
        frame: Option<Vec<u8>>,
    },
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
        frame: Option<Vec<u8>>,
    ) {
        let State { sessions, mail, .. } = state;
        if !sessions.is_open(index, serial) {
            return;
        }
        let frame = frame.unwrap_or_else(|| {
            let mut frame = Vec::new();
            frame::encode(&sessions.file_not_read(index, hash), &mut frame);
            frame
        });
        mail.entry(index).or_default().push(Due::Piece(frame));
        self.registry.note_mail(index);
    }

    /// Whether a whole file is there, as far as members know.
    pub(in crate::server) fn has_file(&self, hash: &Hash) -> bool {
        self.lock().sessions.has_file(hash)
    }
}
