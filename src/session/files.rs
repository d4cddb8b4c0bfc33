//! Files: uploads, and the files that a Chat or a Direct names (CHAT-FILE).

use crate::{
    limits::PIECES_AHEAD_MAX,
    room,
    text::is_forbidden,
    wire::{
        self, ClientEnvelope, ErrorCode, FileState, ServerEnvelope,
        client_envelope::Message as Sent, server_envelope::Message,
    },
};

use super::{
    ConnectionId, Context, Effect, Event, FileOwner, Hash, Removal, Sessions, State, WrittenPiece,
    envelope,
    rejection::{self, Rejection},
};

/// How many pieces of an upload are on their way to the disk at a time: enough to keep the
/// disk and the network busy at once, few enough that a message behind them waits for a
/// moment only.
const PIECES_AWAITED_MAX: u8 = 8;

/// The longest name of a file, in bytes (CHAT-FILE-8).
const FILE_NAME_BYTES_MAX: usize = 128;

/// What the disk has to do for a session.
#[derive(Debug, PartialEq, Eq)]
pub enum FileTask {
    /// Write a piece of an upload.
    Write {
        /// The index of the connection.
        index: usize,
        /// Its session.
        serial: u64,
        /// Whose it is.
        owner: FileOwner,
        /// The file.
        hash: Hash,
        /// The size of the whole file.
        size: u64,
        /// Where the piece begins.
        offset: u64,
        /// The piece.
        data: Vec<u8>,
    },
    /// Read a piece of a whole file.
    Read(FileRead),
    /// A connection is gone.
    Forget {
        /// Its index.
        index: usize,
    },
    /// Remove files.
    Remove(Removal),
}

/// A piece of a whole file that a session is to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRead {
    /// The index of the connection.
    pub index: usize,
    /// Its session.
    pub serial: u64,
    /// The file.
    pub hash: Hash,
    /// Where the piece begins.
    pub offset: u64,
    /// How many bytes it has.
    pub bytes: usize,
    /// How many bytes behind it may be read along, in pieces of the same length
    /// ([`Sessions::pieces_ahead`]).
    pub ahead_bytes: usize,
}

/// Pieces of an upload that are on their way to the disk.
#[derive(Debug)]
pub(super) struct Pieces {
    owner: FileOwner,
    hash: Hash,
    count: u8,
}

impl Sessions {
    /// CHAT-FILE-3
    pub(super) fn handle_put_file(&mut self, context: &mut Context<'_>, put: &wire::PutFile) {
        let Some(hash) = hash_of(&put.sha256).filter(|_| put.size > 0) else {
            return self.reject_file(context, rejection::file_request(), &put.sha256);
        };
        let Some(owner) = FileOwner::of(&context.room, context.id.member()) else {
            return;
        };
        let mut removed = Vec::new();
        let now = context.now.unix_ms;
        let have = self
            .files
            .put(&owner, hash, put.size, &self.limits, now, &mut removed);
        for removal in removed {
            context
                .effects
                .push(Effect::File(FileTask::Remove(removal)));
        }
        match have {
            Ok(have) => context.reply(state(hash, have)),
            Err(code) => {
                let answer = rejection::file(code, &self.limits);
                self.reject_file(context, answer, &put.sha256);
            }
        }
    }

    /// CHAT-FILE-5
    pub(super) fn handle_file_data(&mut self, context: &mut Context<'_>, data: wire::FileData) {
        let Some(owner) = FileOwner::of(&context.room, context.id.member()) else {
            return;
        };
        let due_ms = i64::from(self.limits.file_orphan_ms);
        let due = context.now.unix_ms.saturating_add(due_ms);
        let bytes = data.data.len();
        let taken = match hash_of(&data.sha256) {
            None => Err(ErrorCode::FileUnknown),
            Some(_) if bytes > self.limits.file_chunk_bytes_max as usize => {
                Err(ErrorCode::FileMismatch)
            }
            Some(hash) => self
                .files
                .data(&owner, hash, data.offset, bytes as u64, due)
                .map(|size| (hash, size)),
        };
        match taken {
            Ok((hash, size)) => {
                self.pieces += 1;
                let session = self.session(context.id);
                let serial = session.serial;
                let pieces = session.pieces.get_or_insert_with(|| {
                    let owner = owner.clone();
                    let count = 0;
                    Box::new(Pieces { owner, hash, count })
                });
                pieces.count += 1;
                context.effects.push(Effect::File(FileTask::Write {
                    index: context.id.index(),
                    serial,
                    owner,
                    hash,
                    size,
                    offset: data.offset,
                    data: data.data,
                }));
            }
            Err(code) => {
                let answer = rejection::file(code, &self.limits);
                self.reject_file(context, answer, &data.sha256);
            }
        }
    }

    /// Whether pieces of the upload of a connection are on their way to the disk.
    pub fn awaits_pieces(&self, id: &ConnectionId) -> bool {
        matches!(self.states.get(id.0), Some(State::Registered(session)) if session.pieces.is_some())
    }

    /// Whether an event must wait for the pieces that are on their way to the disk, since
    /// each is answered in its turn (CHAT-FILE-2): all but the next piece, if that may go
    /// along. Then nothing is read from the connection until some of them are written.
    pub fn waits_for_pieces(&mut self, id: &ConnectionId, event: &Event) -> bool {
        let Some(State::Registered(session)) = self.states.get_mut(id.0) else {
            return false;
        };
        let Some(pieces) = &session.pieces else {
            return false;
        };
        let goes_along = match event {
            Event::Message(ClientEnvelope {
                message: Some(Sent::FileData(data)),
            }) => {
                pieces.count < PIECES_AWAITED_MAX
                    && self.pieces < PIECES_AHEAD_MAX
                    && hash_of(&data.sha256) == Some(pieces.hash)
                    && data.data.len() <= self.limits.file_chunk_bytes_max as usize
                    && self.files.is_next(
                        &pieces.owner,
                        pieces.hash,
                        data.offset,
                        data.data.len() as u64,
                    )
            }
            _ => false,
        };
        session.waits_for_pieces = !goes_along;
        session.waits_for_pieces
    }

    /// A piece of an upload was written, or not. Its connection may be gone.
    pub fn file_written(
        &mut self,
        piece: &WrittenPiece,
        now_unix_ms: i64,
        effects: &mut Vec<Effect>,
    ) {
        self.pieces = self.pieces.saturating_sub(1);
        let have = self.files.written(piece, &self.limits, now_unix_ms);
        let &WrittenPiece {
            index,
            serial,
            hash,
            ..
        } = piece;
        let Some(State::Registered(session)) = self.states.get_mut(index) else {
            return;
        };
        if session.serial != serial {
            return;
        }
        // CHAT-FILE-2
        if let Some(pieces) = &mut session.pieces {
            pieces.count = pieces.count.saturating_sub(1);
            session.waits_for_pieces &= pieces.count > PIECES_AWAITED_MAX / 2;
            session.pieces.take_if(|pieces| pieces.count == 0);
        }
        let envelope = match have {
            Ok(have) => state(hash, have),
            Err(code) => rejection::file(code, &self.limits).about_file(hash.to_vec()),
        };
        effects.push(Effect::Deliver { index, envelope });
    }

    /// Whether a whole file is there.
    pub fn has_file(&self, hash: &Hash) -> bool {
        self.files.has(hash)
    }

    /// Whether a session is still there.
    pub fn is_open(&self, index: usize, serial: u64) -> bool {
        matches!(self.states.get(index), Some(State::Registered(session)) if session.serial == serial)
    }

    /// Removes the files that were kept for long enough.
    pub fn expire_files(&mut self, oldest_seq: u64, now_unix_ms: i64) -> Vec<Removal> {
        self.files.expire(oldest_seq, &self.limits, now_unix_ms)
    }

    /// Judges the files that a Chat or Direct names, but for whether they are there.
    pub(super) fn check_files(
        &mut self,
        context: &Context<'_>,
        files: &[wire::File],
        id: u64,
    ) -> Result<(), Box<ServerEnvelope>> {
        if files.is_empty() {
            return Ok(());
        }
        if !self.session(context.id).granted.files {
            let answer = rejection::files_not_granted(self.offer.files);
            return Err(Box::new(answer.non_fatal())); // CHAT-GROW-6
        }
        if !files.iter().all(|file| is_file_name(&file.name)) {
            return Err(Box::new(rejection::file_name().for_request(id))); // CHAT-FILE-8
        }
        // CHAT-FILE-9
        let files_max = self.limits.files_per_chat_max;
        let are_hashes = files.iter().all(|file| hash_of(&file.sha256).is_some());
        match are_hashes && files.len() <= files_max as usize {
            true => Ok(()),
            false => Err(Box::new(
                rejection::files_per_chat(files_max).for_request(id),
            )),
        }
    }

    /// A chat was accepted: the files that it names are kept as long as it (CHAT-FILE-12).
    pub(super) fn note_named(&mut self, event: &room::Event) {
        if let room::Event::Accepted { published, .. } = event
            && let Some(Message::Chat(chat)) = &published.envelope.message
        {
            self.chat_restored(chat);
        }
    }

    /// A chat is kept, with the files that it names.
    pub fn chat_restored(&mut self, chat: &wire::Chat) {
        for (hash, size) in chat.files.iter().filter_map(hash_and_size) {
            let named = (&hash, size);
            self.files
                .named_by_chat(named, chat.seq, &self.limits, chat.time_unix_ms);
        }
    }

    /// The text and the files of a chat were removed.
    pub fn chat_removed(&mut self, seq: u64) {
        self.files.chat_removed(seq);
    }

    /// A Direct names files to its recipient, which may fetch them (CHAT-FILE-4).
    pub(super) fn note_given(
        &mut self,
        files: &[wire::File],
        recipient: Option<FileOwner>,
        now_unix_ms: i64,
    ) {
        let Some(recipient) = recipient else {
            return; // A registered session is a member, so this cannot be.
        };
        let due = now_unix_ms.saturating_add(self.limits.file_orphan_ms.into());
        for (hash, size) in files.iter().filter_map(hash_and_size) {
            self.files.named_by_direct((&hash, size), &recipient, due);
        }
    }

    /// A Direct names files to a member of another node, which fetches them from here.
    pub(super) fn note_given_elsewhere(&mut self, files: &[wire::File], now_unix_ms: i64) {
        let due = now_unix_ms.saturating_add(self.limits.file_orphan_ms.into());
        for (hash, _) in files.iter().filter_map(hash_and_size) {
            self.files.keep(&hash, due);
        }
    }

    /// The room goes on with another epoch: no chat that named a file is in it.
    pub fn begin_files_epoch(&mut self) {
        self.files.begin_epoch();
    }

    /// Whether the sender may fetch each of the files that it names (CHAT-FILE-1).
    pub(super) fn has_files(&self, context: &Context<'_>, files: &[wire::File]) -> bool {
        files.iter().all(|file| {
            let hash = hash_of(&file.sha256);
            let size = hash.and_then(|hash| self.size_for(context, &hash));
            size == Some(file.size)
        })
    }

    pub(super) fn size_for(&self, context: &Context<'_>, hash: &Hash) -> Option<u64> {
        let owner = FileOwner::of(&context.room, context.id.member())?;
        let Some(State::Registered(session)) = self.states.get(context.id.0) else {
            return None;
        };
        // The chats that it has received, and those that it may read.
        let after_seq = match self.offer.history {
            true => context.room.oldest_seq().saturating_sub(1),
            false => session.after_seq,
        };
        self.files.size_for(&owner, hash, after_seq)
    }

    pub(super) fn reject_file(
        &mut self,
        context: &mut Context<'_>,
        answer: Rejection,
        sha256: &[u8],
    ) {
        // No longer than it can be: it comes from a client.
        let sha256 = sha256.get(..32).unwrap_or(sha256).to_vec();
        self.reject_message(context, answer.about_file(sha256));
    }
}

fn state(hash: Hash, have: u64) -> ServerEnvelope {
    envelope(Message::FileState(FileState {
        sha256: hash.to_vec(),
        have,
    }))
}

/// The hash, if it has the length of one.
pub(super) fn hash_of(sha256: &[u8]) -> Option<Hash> {
    Hash::try_from(sha256).ok()
}

fn hash_and_size(file: &wire::File) -> Option<(Hash, u64)> {
    hash_of(&file.sha256).map(|hash| (hash, file.size))
}

/// CHAT-FILE-8
fn is_file_name(name: &str) -> bool {
    (1..=FILE_NAME_BYTES_MAX).contains(&name.len())
        && !name.starts_with('.')
        && !name
            .chars()
            .any(|it| is_forbidden(it) || matches!(it, '/' | '\\' | ':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_files_are_names_and_no_paths() {
        for name in [
            "a",
            "report.pdf",
            "日記 (2).txt",
            &"x".repeat(128),
            "a.",
            "-",
        ] {
            assert!(is_file_name(name), "{name:?}");
        }
        for name in [
            "",
            ".",
            "..",
            ".bashrc",
            "a/b",
            "/",
            "a\\b",
            "C:",
            "a:b",
            "a\nb",
            "a\0",
            "\u{85}",
            &"x".repeat(129),
        ] {
            assert!(!is_file_name(name), "{name:?}");
        }
    }
}
