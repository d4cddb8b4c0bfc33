//! Access: who may fetch a file beside those that have uploaded it (CHAT-FILE-4).

use super::{FILE_RECIPIENTS_MAX, FileOwner, NamedBy, RECIPIENTS_MAX};

/// The chats that name a file, and the members that a Direct has named it to.
#[derive(Debug, Default)]
pub(super) struct Access {
    pub(super) named_by: NamedBy,
    /// Oldest first.
    pub(super) recipients: Vec<FileOwner>,
}

impl Access {
    pub(super) fn of(named_by: NamedBy) -> Self {
        let recipients = Vec::new();
        Self {
            named_by,
            recipients,
        }
    }

    /// Whether a member may fetch it that has the chats behind `after_seq`.
    pub(super) fn allows(&self, member: &FileOwner, after_seq: u64) -> bool {
        self.recipients.contains(member) || self.named_by.last_seq() > after_seq
    }

    /// A Direct names it to a member. `of_all`: how many recipients all files have.
    pub(super) fn give(&mut self, recipient: &FileOwner, of_all: &mut usize) {
        if self.recipients.contains(recipient) {
            return;
        }
        let is_full = *of_all >= FILE_RECIPIENTS_MAX && !self.recipients.is_empty();
        if is_full || self.recipients.len() >= RECIPIENTS_MAX {
            self.recipients.remove(0);
            *of_all -= 1;
        }
        self.recipients.push(recipient.clone());
        *of_all += 1;
    }
}
