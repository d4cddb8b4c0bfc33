//! Uploads: files that are not whole yet (CHAT-FILE-3, CHAT-FILE-5 to CHAT-FILE-7).

use std::collections::BTreeSet;

use super::{FileIndex, FileOwner, Hash, NamedBy, Removal, charged};
use crate::{
    limits::{FILE_BYTES_MIN, Limits},
    wire::ErrorCode,
};

/// An upload that is not complete.
#[derive(Debug)]
pub(super) struct Partial {
    size: u64,
    have: u64,
    due_unix_ms: i64,
    /// How many bytes behind those are on their way to the disk.
    pub(super) writing: u64,
    /// The disk has something of it, or will.
    is_on_disk: bool,
}

impl Partial {
    /// Whether a piece follows those that it has and those on their way (CHAT-FILE-5).
    fn is_next(&self, offset: u64, bytes: u64) -> bool {
        let end = self.have + self.writing;
        offset == end && bytes > 0 && bytes <= self.size - end
    }
}

/// A piece of an upload that the disk has dealt with.
#[derive(Debug)]
pub struct WrittenPiece {
    /// The index of the connection that sent it.
    pub index: usize,
    /// Its session.
    pub serial: u64,
    /// Whose upload it is.
    pub owner: FileOwner,
    /// The file.
    pub hash: Hash,
    /// The size of the whole file.
    pub size: u64,
    /// Where the piece begins.
    pub offset: u64,
    /// How many bytes it has.
    pub bytes: u64,
    /// What became of it.
    pub written: Written,
}

/// What became of a piece that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is on the disk.
    Part,
    /// It was the last one, and the file is what its hash says.
    Whole,
    /// It was the last one, and the file is another: it is gone.
    Mismatch,
    /// The disk has no space or no part of the file any more; the upload is gone.
    Failed,
}

impl FileIndex {
    /// Adds an upload that was found on the disk.
    pub fn restore_partial(
        &mut self,
        owner: FileOwner,
        hash: Hash,
        size: u64,
        have: u64,
        due: i64,
    ) {
        self.begin((owner, hash), (size, have), due, true);
    }

    fn begin(
        &mut self,
        (owner, hash): (FileOwner, Hash),
        (size, have): (u64, u64),
        due: i64,
        is_on_disk: bool,
    ) {
        self.used_bytes += charged(size);
        self.charge(&owner, size);
        self.due.insert((due, hash, Some(owner.clone())));
        let partial = Partial {
            size,
            have,
            due_unix_ms: due,
            writing: 0,
            is_on_disk,
        };
        self.partial.insert((owner, hash), partial);
    }

    /// A member begins an upload, or continues it: how much of it the server has
    /// (CHAT-FILE-3). An upload of another size is in `removed`.
    ///
    /// # Errors
    ///
    /// Why it cannot.
    pub fn put(
        &mut self,
        owner: &FileOwner,
        hash: Hash,
        size: u64,
        limits: &Limits,
        now_unix_ms: i64,
        removed: &mut Vec<Removal>,
    ) -> Result<u64, ErrorCode> {
        if size > limits.file_bytes_max {
            return Err(ErrorCode::FileTooLong);
        }
        if let Some(whole) = self.whole.get(&hash)
            && whole.owners.contains(owner)
        {
            return match whole.size == size {
                true => Ok(size),
                false => Err(ErrorCode::FileMismatch),
            };
        }
        let key = (owner.clone(), hash);
        if let Some(partial) = self.partial.get(&key) {
            if partial.size == size {
                return Ok(partial.have);
            }
            removed.extend(self.remove_partial(&key));
        }
        let used_by = self.used_by.get(owner).copied().unwrap_or(0);
        let bytes = charged(size);
        if self.used_bytes.saturating_add(bytes) > limits.files_bytes_max
            || used_by.saturating_add(bytes) > limits.member_files_bytes_max
        {
            return Err(ErrorCode::FilesFull);
        }
        let due = now_unix_ms.saturating_add(limits.file_orphan_ms.into());
        self.begin(key, (size, 0), due, false);
        Ok(0)
    }

    /// A piece has arrived, which is to be written. Returns the size of the file.
    ///
    /// # Errors
    ///
    /// It is not the next piece of an upload of this member (CHAT-FILE-5).
    pub fn data(
        &mut self,
        owner: &FileOwner,
        hash: Hash,
        offset: u64,
        bytes: u64,
        due_unix_ms: i64,
    ) -> Result<u64, ErrorCode> {
        let key = (owner.clone(), hash);
        let Some(partial) = self.partial.get_mut(&key) else {
            return Err(ErrorCode::FileUnknown);
        };
        if !partial.is_next(offset, bytes) {
            return Err(ErrorCode::FileMismatch);
        }
        partial.writing += bytes;
        partial.is_on_disk = true;
        let size = partial.size;
        self.keep_partial(&key, due_unix_ms);
        Ok(size)
    }

    /// Whether [`FileIndex::data`] would take a piece.
    pub fn is_next(&self, owner: &FileOwner, hash: Hash, offset: u64, bytes: u64) -> bool {
        let partial = self.partial.get(&(owner.clone(), hash));
        partial.is_some_and(|partial| partial.is_next(offset, bytes))
    }

    /// A piece was written, or not. Returns how much there is now.
    ///
    /// # Errors
    ///
    /// What its sender is told instead.
    pub fn written(
        &mut self,
        piece: &WrittenPiece,
        limits: &Limits,
        now_unix_ms: i64,
    ) -> Result<u64, ErrorCode> {
        let &WrittenPiece {
            ref owner,
            hash,
            size,
            offset,
            bytes,
            written,
            ..
        } = piece;
        let key = (owner.clone(), hash);
        // Another upload may have taken its place.
        let partial = self.partial.get_mut(&key).filter(|partial| {
            partial.size == size && partial.have == offset && partial.writing >= bytes
        });
        let Some(partial) = partial else {
            return Err(ErrorCode::FileUnknown);
        };
        match written {
            Written::Part => {
                partial.writing -= bytes;
                partial.have += bytes;
                Ok(partial.have)
            }
            Written::Mismatch | Written::Failed => {
                self.remove_partial(&key);
                Err(match written {
                    Written::Mismatch => ErrorCode::FileMismatch,
                    _ => ErrorCode::FilesFull,
                })
            }
            Written::Whole => {
                self.remove_partial(&key);
                let due = now_unix_ms.saturating_add(limits.file_orphan_ms.into());
                match self.whole.get_mut(&hash) {
                    Some(whole) => {
                        whole.keep_unix_ms = whole.keep_unix_ms.max(due);
                        // It counts once for the server, and for each owner; what is known
                        // of another owner counts too.
                        if whole.owners.insert(owner.clone()) {
                            self.used_bytes += FILE_BYTES_MIN;
                            self.charge(owner, size);
                        }
                    }
                    None => {
                        let owners = BTreeSet::from([owner.clone()]);
                        self.restore_whole(hash, size, owners, NamedBy::default(), due);
                        self.came_here(&hash);
                    }
                }
                Ok(size)
            }
        }
    }

    /// Keeps an upload until this time.
    pub(super) fn keep_partial(&mut self, key: &(FileOwner, Hash), due_unix_ms: i64) {
        if let Some(partial) = self.partial.get_mut(key) {
            let (owner, hash) = key;
            let due = |at: i64| (at, *hash, Some(owner.clone()));
            self.due.remove(&due(partial.due_unix_ms));
            self.due.insert(due(due_unix_ms));
            partial.due_unix_ms = due_unix_ms;
        }
    }

    /// Ends an upload. Returns what the disk has to remove: nothing, if it never had a piece,
    /// so that a client cannot give the disk more to do than it has sent.
    pub(super) fn remove_partial(&mut self, key: &(FileOwner, Hash)) -> Option<Removal> {
        let partial = self.partial.remove(key)?;
        let (owner, hash) = key;
        self.due
            .remove(&(partial.due_unix_ms, *hash, Some(owner.clone())));
        self.used_bytes = self.used_bytes.saturating_sub(charged(partial.size));
        self.release(owner, partial.size);
        partial.is_on_disk.then(|| Removal::Partial {
            owner: owner.clone(),
            hash: *hash,
            size: partial.size,
        })
    }
}
