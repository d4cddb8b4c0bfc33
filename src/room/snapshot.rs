//! Snapshot: the whole state of a room at one place in the order, from which another room
//! goes on with the commands behind it.

use super::{Line, LineId, MemberId, Owner, Room, members::Granted};
use crate::{identity::SenderId, limits::Limits, name::Name};

/// The state of a room, but for the chats themselves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Snapshot {
    pub(crate) epoch: String,
    /// The number of the last chat.
    pub(crate) seq: u64,
    /// In the order of their names.
    pub(crate) members: Vec<MemberState>,
    pub(crate) lines: Vec<(LineId, Line)>,
    /// The id of the next line that begins.
    pub(crate) next_line: u64,
    pub(crate) owners: Vec<(Name, Owner)>,
}

/// A member in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemberState {
    pub(crate) id: MemberId,
    pub(crate) name: Name,
    pub(crate) chats: u64,
    pub(crate) line: Option<LineId>,
    pub(crate) sender_id: Option<SenderId>,
    pub(crate) is_owner: bool,
}

impl Room {
    /// The state of the room.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let members = self.members_after(None).filter_map(|(id, name)| {
            let member = self.members.get(id)?;
            Some(MemberState {
                id,
                name: name.clone(),
                chats: member.chats,
                line: member.line(),
                sender_id: member.sender_id(),
                is_owner: member.is_owner(),
            })
        });
        let (lines, next_line) = self.lines.all();
        Snapshot {
            epoch: self.epoch.clone(),
            seq: self.seq,
            members: members.collect(),
            lines: lines.map(|(id, line)| (id, line.clone())).collect(),
            next_line,
            owners: self.owners.all().collect(),
        }
    }

    /// A room that goes on from a snapshot. It keeps no chat of those before.
    pub(crate) fn of_snapshot(snapshot: Snapshot, limits: &Limits) -> Self {
        let mut room = Self {
            seq: snapshot.seq,
            oldest_seq: snapshot.seq.saturating_add(1),
            ..Self::new(snapshot.epoch, limits)
        };
        for (id, line) in snapshot.lines {
            room.lines.restore(id, line);
        }
        room.lines.set_next(snapshot.next_line);
        for (name, owner) in snapshot.owners {
            room.owners.restore(name, owner);
        }
        for state in snapshot.members {
            let MemberState { id, name, .. } = state;
            if let Some(line) = state.line {
                room.lines.reopen(line, id);
            }
            if state.is_owner {
                room.owners.reopen(&name);
            }
            room.members.insert(id, name);
            if let Some(member) = room.members.get_mut(id) {
                member.chats = state.chats;
                if state.line.is_some() || state.sender_id.is_some() || state.is_owner {
                    *member.granted() = Granted {
                        line: state.line,
                        sender_id: state.sender_id,
                        is_owner: state.is_owner,
                    };
                }
            }
            room.names.insert(&room.members, id);
        }
        room
    }
}
