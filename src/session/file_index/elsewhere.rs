//! Files of other nodes of a cluster: those that a message names and that are not on the
//! disk of this server. They count against no bound here but that of their number.

use std::{collections::BTreeMap, ops::Bound};

use super::{Access, EXPIRED_PER_CALL_MAX, FileIndex, Hash, NamedBy};
use crate::limits::{FILE_BYTES_MIN, Limits};

/// The files that other nodes have.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    files: BTreeMap<Hash, FileElsewhere>,
    /// How many there may be: as many as one node can have. One more is not known here.
    files_max: usize,
    /// The last one that was looked at; `None` to begin with the first.
    looked_at: Option<Hash>,
}

#[derive(Debug)]
pub(super) struct FileElsewhere {
    pub(super) size: u64,
    pub(super) access: Access,
    /// It is known for as long as that, since a Direct has named it.
    pub(super) keep_unix_ms: i64,
}

impl FileIndex {
    /// The index of a node of a cluster.
    pub fn of_node(limits: &Limits) -> Self {
        let files_max = limits.files_bytes_max / FILE_BYTES_MIN;
        Self {
            elsewhere: Some(Elsewhere {
                files_max: usize::try_from(files_max).unwrap_or(usize::MAX),
                ..Elsewhere::default()
            }),
            ..Self::default()
        }
    }

    /// Adds what chats name, as far as it is not here.
    pub fn restore_elsewhere(&mut self, hash: Hash, size: u64, named_by: NamedBy) {
        if let Some(file) = self.elsewhere(hash, size) {
            file.access.named_by = named_by;
        }
    }

    /// The room goes on with another epoch: no chat that named a file is in it.
    pub fn begin_epoch(&mut self) {
        for whole in self.whole.values_mut() {
            whole.access.named_by = NamedBy::default();
        }
        let files = self
            .elsewhere
            .iter_mut()
            .flat_map(|it| it.files.values_mut());
        for file in files {
            file.access.named_by = NamedBy::default();
        }
    }

    /// A file that is not here. `None` on a server alone, or if there are too many.
    pub(super) fn elsewhere(&mut self, hash: Hash, size: u64) -> Option<&mut FileElsewhere> {
        let Elsewhere {
            files, files_max, ..
        } = self.elsewhere.as_mut()?;
        if files.len() >= *files_max && !files.contains_key(&hash) {
            return None;
        }
        Some(files.entry(hash).or_insert_with(|| FileElsewhere {
            size,
            access: Access::default(),
            keep_unix_ms: 0,
        }))
    }

    pub(super) fn known_elsewhere(&self, hash: &Hash) -> Option<&FileElsewhere> {
        self.elsewhere.as_ref()?.files.get(hash)
    }

    /// A file is here from now on.
    pub(super) fn take_elsewhere(&mut self, hash: &Hash) -> Option<FileElsewhere> {
        self.elsewhere.as_mut()?.files.remove(hash)
    }

    /// A chat was removed with what it named.
    pub(super) fn removed_elsewhere(&mut self, seq: u64) {
        for file in self
            .elsewhere
            .iter_mut()
            .flat_map(|it| it.files.values_mut())
        {
            file.access.named_by.remove(seq);
        }
    }

    /// Forgets what no kept chat names any more, of the next ones that are looked at.
    pub(super) fn expire_elsewhere(&mut self, oldest_seq: u64, now_unix_ms: i64) {
        let Some(elsewhere) = &mut self.elsewhere else {
            return;
        };
        let from = elsewhere
            .looked_at
            .map_or(Bound::Unbounded, Bound::Excluded);
        let next = elsewhere.files.range((from, Bound::Unbounded));
        let next = next.take(EXPIRED_PER_CALL_MAX);
        let next: Vec<_> = next.map(|(hash, _)| *hash).collect();
        elsewhere.looked_at = match next.len() {
            EXPIRED_PER_CALL_MAX => next.last().copied(),
            _ => None,
        };
        for hash in next {
            let is_over = |file: &FileElsewhere| {
                let last_seq = file.access.named_by.last_seq();
                last_seq < oldest_seq.max(1) && file.keep_unix_ms <= now_unix_ms
            };
            if elsewhere.files.get(&hash).is_some_and(is_over)
                && let Some(file) = elsewhere.files.remove(&hash)
            {
                self.recipients -= file.access.recipients.len();
            }
        }
    }
}
