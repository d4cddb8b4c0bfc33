//! The chats that name a file: it is kept as long as one of them is (CHAT-FILE-12).

/// How many of the chats that name a file are remembered, so that their removal counts:
/// more than people post one file. Older ones count as kept until they are pruned.
const CHATS_MAX: usize = 16;

/// The chats that name a file.
#[derive(Debug, Default)]
pub struct NamedBy {
    /// The newest, by their numbers, oldest first.
    newest: Vec<u64>,
    /// The newest of those before them; 0 if there are none.
    older_seq: u64,
}

impl NamedBy {
    /// A chat names it.
    pub fn add(&mut self, seq: u64) {
        if let Err(index) = self.newest.binary_search(&seq) {
            self.newest.insert(index, seq);
        }
        if self.newest.len() > CHATS_MAX {
            self.older_seq = self.older_seq.max(self.newest.remove(0));
        }
    }

    pub(super) fn remove(&mut self, seq: u64) {
        self.newest.retain(|it| *it != seq);
    }

    /// The newest; 0 if there is none.
    pub(super) fn last_seq(&self) -> u64 {
        self.newest.last().copied().unwrap_or(self.older_seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of many chats that name a file, the oldest count until they are pruned.
    #[test]
    fn the_chats_that_name_a_file_have_a_bound() {
        let mut named_by = NamedBy::default();
        let last = 2 * CHATS_MAX as u64;
        for seq in (1..=last).chain([last]) {
            named_by.add(seq);
            assert_eq!(named_by.last_seq(), seq);
        }
        assert_eq!(named_by.newest.len(), CHATS_MAX);
        for seq in 1..=last {
            named_by.remove(seq);
        }
        assert_eq!(named_by.last_seq(), CHATS_MAX as u64);
    }
}
