//! File index: which files the server holds, who may fetch them, and until when they are
//! kept (CHAT-FILE). The bytes are on disk; this decides, and the disk follows.

use std::collections::{BTreeMap, BTreeSet};

use super::{FileOwner, NamedBy};
use crate::{
    limits::{FILE_BYTES_MIN, FILE_RECIPIENTS_MAX, Limits},
    wire::ErrorCode,
};

/// The SHA-256 of a file, which is its address.
pub type Hash = [u8; 32];

/// Into how many parts the time is cut for which a file outlives what named it: it is
/// noticed at most one part later that it is not named any more.
const ORPHAN_PARTS: i64 = 8;

/// How many members a file is given to by Directs at a time; an older one is forgotten.
const RECIPIENTS_MAX: usize = 64;

/// How many files are looked at in one call of [`FileIndex::expire`].
const EXPIRED_PER_CALL_MAX: usize = 1_024;

/// What members have uploaded.
#[derive(Debug, Default)]
pub struct FileIndex {
    whole: BTreeMap<Hash, Whole>,
    partial: BTreeMap<(FileOwner, Hash), Partial>,
    /// When to look at each of them again, in milliseconds since 1970.
    due: BTreeSet<(i64, Hash, Option<FileOwner>)>,
    used_bytes: u64,
    used_by: BTreeMap<FileOwner, u64>,
    /// How many recipients all files have.
    recipients: usize,
}

/// A file whose hash was checked.
#[derive(Debug)]
struct Whole {
    size: u64,
    named_by: NamedBy,
    /// The members that have uploaded it.
    owners: BTreeSet<FileOwner>,
    /// Those that a Direct has named it to, oldest first.
    recipients: Vec<FileOwner>,
    due_unix_ms: i64,
    /// When a chat was last known to name it; 0 if none was.
    named_unix_ms: i64,
    /// It is not dropped before, since it was uploaded or given to somebody.
    keep_unix_ms: i64,
}

/// An upload that is not complete.
#[derive(Debug)]
struct Partial {
    size: u64,
    have: u64,
    due_unix_ms: i64,
    /// How many bytes behind those are on their way to the disk.
    writing: u64,
    /// The disk has something of it, or will.
    is_on_disk: bool,
}

/// What is to be removed from the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Removal {
    /// A whole file and the notes of who has uploaded it.
    Whole {
        /// The file.
        hash: Hash,
        /// Its owners.
        owners: Vec<FileOwner>,
    },
    /// An upload.
    Partial {
        /// Whose it is.
        owner: FileOwner,
        /// The file.
        hash: Hash,
        /// The size that was announced.
        size: u64,
    },
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
    /// Adds a file that was found on the disk. It is not dropped before `keep_unix_ms`.
    pub fn restore_whole(
        &mut self,
        hash: Hash,
        size: u64,
        owners: BTreeSet<FileOwner>,
        named_by: NamedBy,
        keep_unix_ms: i64,
    ) {
        self.used_bytes += charged_whole(size, &owners);
        for owner in &owners {
            self.charge(owner, size);
        }
        // If a chat names it, that is to be known soon.
        let due_unix_ms = match named_by.last_seq() {
            0 => keep_unix_ms,
            _ => 0,
        };
        self.due.insert((due_unix_ms, hash, None));
        let whole = Whole {
            size,
            named_by,
            owners,
            recipients: Vec::new(),
            due_unix_ms,
            named_unix_ms: 0,
            keep_unix_ms,
        };
        self.whole.insert(hash, whole);
    }

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
                    }
                }
                Ok(size)
            }
        }
    }

    /// Whether there is a whole file.
    pub fn has(&self, hash: &Hash) -> bool {
        self.whole.contains_key(hash)
    }

    /// The size of a file, if a member may fetch it (CHAT-FILE-4): one that has the chats
    /// behind `after_seq`.
    pub fn size_for(&self, owner: &FileOwner, hash: &Hash, after_seq: u64) -> Option<u64> {
        let whole = self.whole.get(hash)?;
        let may_fetch = whole.owners.contains(owner)
            || whole.recipients.contains(owner)
            || whole.named_by.last_seq() > after_seq;
        may_fetch.then_some(whole.size)
    }

    /// A chat names a file, which is whole.
    pub fn named_by_chat(&mut self, hash: &Hash, seq: u64, limits: &Limits, now_unix_ms: i64) {
        if let Some(whole) = self.whole.get_mut(hash) {
            whole.named_by.add(seq);
            whole.named_unix_ms = now_unix_ms;
            let due = whole
                .due_unix_ms
                .min(now_unix_ms.saturating_add(part_ms(limits)));
            self.look_at(*hash, due);
        }
    }

    /// A chat was removed with what it named (CHAT-MOD-8). A file that no other chat names
    /// outlives it as if the chat were not kept any more (CHAT-FILE-17).
    pub fn chat_removed(&mut self, seq: u64) {
        for whole in self.whole.values_mut() {
            whole.named_by.remove(seq);
        }
    }

    /// A Direct names a file to a member.
    pub fn named_by_direct(&mut self, hash: &Hash, recipient: &FileOwner, due_unix_ms: i64) {
        let Some(whole) = self.whole.get_mut(hash) else {
            return;
        };
        if !whole.recipients.contains(recipient) {
            let is_full = self.recipients >= FILE_RECIPIENTS_MAX && !whole.recipients.is_empty();
            if is_full || whole.recipients.len() >= RECIPIENTS_MAX {
                whole.recipients.remove(0);
                self.recipients -= 1;
            }
            whole.recipients.push(recipient.clone());
            self.recipients += 1;
        }
        whole.keep_unix_ms = whole.keep_unix_ms.max(due_unix_ms);
    }

    /// Removes what was kept for long enough: chats from `oldest_seq` on are kept.
    pub fn expire(&mut self, oldest_seq: u64, limits: &Limits, now_unix_ms: i64) -> Vec<Removal> {
        let mut removed = Vec::new();
        for _ in 0..EXPIRED_PER_CALL_MAX {
            let Some((due, hash, owner)) = self.due.first().cloned() else {
                break;
            };
            if due > now_unix_ms {
                break;
            }
            match owner {
                Some(owner) => {
                    let key = (owner, hash);
                    // The disk is about to have more of it.
                    if self.partial.get(&key).is_some_and(|it| it.writing > 0) {
                        let later = now_unix_ms.saturating_add(limits.file_orphan_ms.into());
                        self.keep_partial(&key, later);
                    } else {
                        self.due.pop_first();
                        removed.extend(self.remove_partial(&key));
                    }
                }
                None => removed.extend(self.look_again(hash, oldest_seq, limits, now_unix_ms)),
            }
        }
        removed
    }

    /// Looks at a whole file that is due.
    fn look_again(
        &mut self,
        hash: Hash,
        oldest_seq: u64,
        limits: &Limits,
        now_unix_ms: i64,
    ) -> Option<Removal> {
        let Some(whole) = self.whole.get_mut(&hash) else {
            self.due.pop_first();
            return None;
        };
        let last_seq = whole.named_by.last_seq();
        if last_seq > 0 && last_seq >= oldest_seq {
            whole.named_unix_ms = now_unix_ms;
            self.look_at(hash, now_unix_ms.saturating_add(part_ms(limits)));
            return None;
        }
        // CHAT-FILE-17
        let orphaned_unix_ms = whole
            .named_unix_ms
            .saturating_add(limits.file_orphan_ms.into());
        let keep_unix_ms = orphaned_unix_ms.max(whole.keep_unix_ms);
        if now_unix_ms < keep_unix_ms {
            self.look_at(hash, keep_unix_ms);
            return None;
        }
        self.due.pop_first();
        let whole = self.whole.remove(&hash)?;
        self.recipients -= whole.recipients.len();
        let bytes = charged_whole(whole.size, &whole.owners);
        self.used_bytes = self.used_bytes.saturating_sub(bytes);
        for owner in &whole.owners {
            self.release(owner, whole.size);
        }
        Some(Removal::Whole {
            hash,
            owners: whole.owners.into_iter().collect(),
        })
    }

    /// Looks at a whole file at this time next.
    fn look_at(&mut self, hash: Hash, due_unix_ms: i64) {
        if let Some(whole) = self.whole.get_mut(&hash) {
            self.due.remove(&(whole.due_unix_ms, hash, None));
            whole.due_unix_ms = due_unix_ms;
            self.due.insert((due_unix_ms, hash, None));
        }
    }

    /// Keeps an upload until this time.
    fn keep_partial(&mut self, key: &(FileOwner, Hash), due_unix_ms: i64) {
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
    fn remove_partial(&mut self, key: &(FileOwner, Hash)) -> Option<Removal> {
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

    /// Counts a file for its owner.
    fn charge(&mut self, owner: &FileOwner, size: u64) {
        *self.used_by.entry(owner.clone()).or_default() += charged(size);
    }

    /// Counts a file for its owner no more.
    fn release(&mut self, owner: &FileOwner, size: u64) {
        if let Some(used) = self.used_by.get_mut(owner) {
            *used = used.saturating_sub(charged(size));
            if *used == 0 {
                self.used_by.remove(owner);
            }
        }
    }
}

/// How often a file is looked at that a chat names, in milliseconds.
fn part_ms(limits: &Limits) -> i64 {
    (i64::from(limits.file_orphan_ms) / ORPHAN_PARTS).max(1)
}

/// What a file counts against the bounds.
fn charged(size: u64) -> u64 {
    size.max(1).next_multiple_of(FILE_BYTES_MIN)
}

/// What a whole file counts for the server: its bytes once, and each owner beyond the first.
fn charged_whole(size: u64, owners: &BTreeSet<FileOwner>) -> u64 {
    let others = owners.len().saturating_sub(1) as u64;
    charged(size) + others * FILE_BYTES_MIN
}

#[cfg(test)]
mod tests;
