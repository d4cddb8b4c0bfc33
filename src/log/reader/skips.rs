//! Skips: what lies ahead of a reader that it passes over, and where it has something to
//! say.

use std::{collections::VecDeque, ops::Range};

use super::{super::filtered::Filtered, Reader};

/// A place in the log, and what a reader says there, behind everything before it that its
/// member is due (CHAT-FOL-8, CHAT-COV-1).
pub struct Mark {
    pub(in crate::log) position: u64,
    /// The number of the last chat before it.
    pub(in crate::log) seq: u64,
    /// How many chats of the reader lie before it, those apart that a scan finds.
    pub(in crate::log) sent: u64,
    pub(in crate::log) then: Then,
}

/// What is said.
pub(in crate::log) enum Then {
    /// Covered, and the reader goes on.
    Covered,
    /// Following, and another reader goes on.
    Following { id: u64, reader: Box<Reader> },
}

/// The frames ahead of a reader that it must not send.
pub(super) struct Skips {
    /// The frames that this connection published itself, in rising order.
    pub(super) own: VecDeque<Range<u64>>,
    /// The position at which it stops for good.
    pub(super) until: u64,
    /// The position up to which it skips presence, whatever its member wants.
    pub(super) presence_until: u64,
    /// It sends only what passes a filter.
    pub(super) filtered: Option<Filtered>,
    /// Where in the segment the piece ends that it sends, if it has a filter.
    pub(super) range_end: u32,
    /// How many bytes [`Reader::unsent_gathered`] has put together last.
    pub(super) gathered_bytes: usize,
    /// What it says at a place ahead.
    pub(super) mark: Option<Mark>,
    /// How many chats the session was sent before this reader.
    pub(super) sent_before: u64,
}

impl Default for Skips {
    fn default() -> Self {
        Self {
            own: VecDeque::new(),
            until: u64::MAX,
            presence_until: 0,
            filtered: None,
            range_end: 0,
            gathered_bytes: 0,
            mark: None,
            sent_before: 0,
        }
    }
}

impl Skips {
    /// Whether a reader at `position` has passed all of them.
    pub(super) fn are_passed(&self, position: u64) -> bool {
        self.own.is_empty()
            && self.until == u64::MAX
            && self.presence_until <= position
            && self.filtered.is_none()
            && self.mark.is_none()
            && self.sent_before == 0
    }

    /// The position that it does not pass for now.
    pub(super) fn limit(&self) -> u64 {
        let mark = self.mark.as_ref().map_or(u64::MAX, |mark| mark.position);
        self.until.min(mark)
    }
}
