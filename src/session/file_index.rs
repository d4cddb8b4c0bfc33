//! File index: which files the server holds, who may fetch them, and until when they are
//! kept (CHAT-FILE). The bytes are on disk; this decides, and the disk follows.

mod access;
mod elsewhere;
mod upload;

use access::Access;
use elsewhere::{Elsewhere, FileElsewhere};
use upload::Partial;
pub use upload::{Written, WrittenPiece};

use std::collections::{BTreeMap, BTreeSet};

use super::{FileOwner, NamedBy};
use crate::limits::{FILE_BYTES_MIN, FILE_RECIPIENTS_MAX, Limits};

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
    /// What other nodes of a cluster have.
    elsewhere: Option<Elsewhere>,
}

/// A file whose hash was checked.
#[derive(Debug)]
struct Whole {
    size: u64,
    access: Access,
    /// The members that have uploaded it.
    owners: BTreeSet<FileOwner>,
    due_unix_ms: i64,
    /// When a chat was last known to name it; 0 if none was.
    named_unix_ms: i64,
    /// It is not dropped before, since it was uploaded or given to somebody.
    keep_unix_ms: i64,
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
            access: Access::of(named_by),
            owners,
            due_unix_ms,
            named_unix_ms: 0,
            keep_unix_ms,
        };
        self.whole.insert(hash, whole);
    }

    /// Whether there is a whole file here.
    pub fn has(&self, hash: &Hash) -> bool {
        self.whole.contains_key(hash)
    }

    /// The size of a file, if a member may fetch it (CHAT-FILE-4): one that has the chats
    /// behind `after_seq`.
    pub fn size_for(&self, owner: &FileOwner, hash: &Hash, after_seq: u64) -> Option<u64> {
        let (size, may_fetch) = match self.whole.get(hash) {
            Some(whole) => {
                let is_own = whole.owners.contains(owner);
                (whole.size, is_own || whole.access.allows(owner, after_seq))
            }
            None => {
                let file = self.known_elsewhere(hash)?;
                (file.size, file.access.allows(owner, after_seq))
            }
        };
        may_fetch.then_some(size)
    }

    /// A chat names a file, which is whole.
    pub fn named_by_chat(
        &mut self,
        (hash, size): (&Hash, u64),
        seq: u64,
        limits: &Limits,
        now_unix_ms: i64,
    ) {
        if let Some(whole) = self.whole.get_mut(hash) {
            whole.access.named_by.add(seq);
            whole.named_unix_ms = whole.named_unix_ms.max(now_unix_ms);
            let due = whole
                .due_unix_ms
                .min(now_unix_ms.saturating_add(part_ms(limits)));
            self.look_at(*hash, due);
        } else if let Some(file) = self.elsewhere(*hash, size) {
            file.access.named_by.add(seq);
        }
    }

    /// A chat was removed with what it named (CHAT-MOD-8). A file that no other chat names
    /// outlives it as if the chat were not kept any more (CHAT-FILE-17).
    pub fn chat_removed(&mut self, seq: u64) {
        for whole in self.whole.values_mut() {
            whole.access.named_by.remove(seq);
        }
        self.removed_elsewhere(seq);
    }

    /// A Direct names a file to a member of this server.
    pub fn named_by_direct(
        &mut self,
        (hash, size): (&Hash, u64),
        recipient: &FileOwner,
        due_unix_ms: i64,
    ) {
        let mut of_all = self.recipients;
        if let Some(whole) = self.whole.get_mut(hash) {
            whole.access.give(recipient, &mut of_all);
        } else if let Some(file) = self.elsewhere(*hash, size) {
            file.access.give(recipient, &mut of_all);
            file.keep_unix_ms = file.keep_unix_ms.max(due_unix_ms);
        }
        self.recipients = of_all;
        self.keep(hash, due_unix_ms);
    }

    /// A Direct names a file, which is not dropped before `due_unix_ms`.
    pub fn keep(&mut self, hash: &Hash, due_unix_ms: i64) {
        if let Some(whole) = self.whole.get_mut(hash) {
            whole.keep_unix_ms = whole.keep_unix_ms.max(due_unix_ms);
        }
    }

    /// What was known of a file while only other nodes had it goes on to count.
    fn came_here(&mut self, hash: &Hash) {
        if let Some(FileElsewhere {
            access,
            keep_unix_ms,
            ..
        }) = self.take_elsewhere(hash)
            && let Some(whole) = self.whole.get_mut(hash)
        {
            whole.access = access;
            whole.keep_unix_ms = whole.keep_unix_ms.max(keep_unix_ms);
        }
    }

    /// Removes what was kept for long enough: chats from `oldest_seq` on are kept.
    pub fn expire(&mut self, oldest_seq: u64, limits: &Limits, now_unix_ms: i64) -> Vec<Removal> {
        self.expire_elsewhere(oldest_seq, now_unix_ms);
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
        let last_seq = whole.access.named_by.last_seq();
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
        self.recipients -= whole.access.recipients.len();
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
