//! What the thread of the files tells the hub (CHAT-FILE).

use crate::{
    frame,
    session::{FileOwner, Hash, Written},
};

use super::{Due, Hub, State};

impl Hub {
    /// A piece of an upload was written, or not.
    pub(in crate::server) fn file_written(
        &self,
        to: (usize, u64),
        (owner, hash, size): (&FileOwner, Hash, u64),
        bytes: u64,
        written: Written,
    ) {
        let now_unix_ms = self.now().unix_ms;
        let mut state = self.lock();
        let State {
            sessions, effects, ..
        } = &mut *state;
        let file = (owner, hash, size);
        sessions.file_written(to, file, bytes, written, now_unix_ms, effects);
        self.apply(&mut state, None);
    }

    /// A piece of a download was read, as a frame, or could not be.
    pub(in crate::server) fn file_read(
        &self,
        (index, serial): (usize, u64),
        frame: Option<Vec<u8>>,
    ) {
        let mut state = self.lock();
        let State { sessions, mail, .. } = &mut *state;
        if !sessions.is_open(index, serial) {
            return;
        }
        let frame = frame.unwrap_or_else(|| {
            let mut frame = Vec::new();
            frame::encode(&sessions.file_not_read(index), &mut frame);
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
