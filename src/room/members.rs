//! Member table: the members of a room, by id.

use super::{LineId, MemberId};
use crate::{identity::SenderId, name::Name};

/// One member.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: Name,
    /// How many of its chats were accepted.
    pub(super) chats: u64,
    granted: Option<Box<Granted>>,
}

/// What a member has that asked for it.
#[derive(Debug, Default)]
pub(super) struct Granted {
    /// Its line, if its session can be resumed.
    pub(super) line: Option<LineId>,
    /// What others see of the key that it has proved (CHAT-ID-12).
    pub(super) sender_id: Option<SenderId>,
    /// Its key owns its name, and the room keeps that.
    pub(super) is_owner: bool,
}

// The table is grown by doubling.
const _: () = assert!(size_of::<Option<Member>>() <= 32);

impl Member {
    /// Its line, if its session can be resumed.
    pub(super) fn line(&self) -> Option<LineId> {
        self.granted.as_ref()?.line
    }

    /// What others see of the key that it has proved (CHAT-ID-12).
    pub(super) fn sender_id(&self) -> Option<SenderId> {
        self.granted.as_ref()?.sender_id
    }

    /// Whether its key owns its name, and the room keeps that.
    pub(super) fn is_owner(&self) -> bool {
        self.granted.as_ref().is_some_and(|it| it.is_owner)
    }

    /// All of that, to change it.
    pub(super) fn granted(&mut self) -> &mut Granted {
        self.granted.get_or_insert_default()
    }
}

/// The table of members. Ids are small numbers that are reused, so each part of the table
/// is as long as its highest id.
#[derive(Debug, Default)]
pub(super) struct Members {
    /// Those of this node.
    here: Vec<Option<Member>>,
    /// Those of other nodes, if there are any ([`MemberId::ELSEWHERE`]).
    elsewhere: Vec<Option<Member>>,
}

impl Members {
    pub(super) fn get(&self, member: MemberId) -> Option<&Member> {
        let (entries, index) = match member.elsewhere() {
            None => (&self.here, member.0),
            Some(index) => (&self.elsewhere, index),
        };
        entries.get(index as usize)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, member: MemberId) -> Option<&mut Member> {
        let (entries, index) = self.part(member);
        entries.get_mut(index)?.as_mut()
    }

    /// Adds a member whose id is free.
    pub(super) fn insert(&mut self, member: MemberId, name: Name) {
        let (entries, index) = self.part(member);
        if entries.len() <= index {
            entries.resize_with(index + 1, || None);
        }
        if let Some(entry) = entries.get_mut(index) {
            *entry = Some(Member {
                name,
                chats: 0,
                granted: None,
            });
        }
    }

    pub(super) fn remove(&mut self, member: MemberId) -> Option<Member> {
        let (entries, index) = self.part(member);
        entries.get_mut(index)?.take()
    }

    /// The part of the table that has a member, and its index there.
    fn part(&mut self, member: MemberId) -> (&mut Vec<Option<Member>>, usize) {
        match member.elsewhere() {
            None => (&mut self.here, member.0 as usize),
            Some(index) => (&mut self.elsewhere, index as usize),
        }
    }
}
