//! Member table: the members of a room, by id.

use super::{LineId, MemberId};
use crate::name::Name;

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: Name,
    /// How many of its chats were accepted.
    pub(super) chats: u64,
    /// Its line, if its session can be resumed.
    pub(super) line: Option<LineId>,
}

/// The table of members. Ids are small numbers that are reused, so the table is as long
/// as the highest id.
#[derive(Debug, Default)]
pub(super) struct Members {
    entries: Vec<Option<Member>>,
}

impl Members {
    pub(super) fn get(&self, member: MemberId) -> Option<&Member> {
        self.entries.get(member.0 as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, member: MemberId) -> Option<&mut Member> {
        self.entries.get_mut(member.0 as usize)?.as_mut()
    }

    /// Adds a member whose id is free.
    pub(super) fn insert(&mut self, member: MemberId, name: Name) {
        let index = member.0 as usize;
        if self.entries.len() <= index {
            self.entries.resize_with(index + 1, || None);
        }
        if let Some(entry) = self.entries.get_mut(index) {
            *entry = Some(Member {
                name,
                chats: 0,
                line: None,
            });
        }
    }

    pub(super) fn remove(&mut self, member: MemberId) -> Option<Member> {
        self.entries.get_mut(member.0 as usize)?.take()
    }
}
