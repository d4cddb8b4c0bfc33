//! What the stream says, for a reader of all of it.

use std::collections::BTreeMap;

use super::*;
use crate::{
    cluster::replica::{Outcome, Rooms},
    name::Name,
    room::{Command, Event, MemberId, Room},
    session::{DirectKey, DirectPlace, Operation},
};

/// The room that the stream makes, for whoever reads it whole.
pub(super) struct Truth {
    pub(super) room: Room,
    pub(super) chats: BTreeMap<u64, (String, String)>,
}

impl Truth {
    pub(super) fn new(epoch: String) -> Self {
        Self {
            room: Room::new(epoch, &unlimited()),
            chats: BTreeMap::new(),
        }
    }
}

impl Rooms for Truth {
    fn apply(&mut self, command: Command, _: Option<usize>) -> Outcome {
        let event = self.room.apply(command);
        for published in event.publications() {
            if let Some(Message::Chat(chat)) = &published.envelope.message {
                let said = (chat.sender.clone(), chat.text.clone());
                let before = self.chats.insert(chat.seq, said);
                assert_eq!(before, None, "a number is given once");
            }
        }
        match event {
            Event::Joined { replaced, .. } => Outcome::Joined {
                replaced: replaced.map(|replaced| replaced.member),
            },
            Event::Left { .. } => Outcome::Left,
            _ => Outcome::Other,
        }
    }

    fn operate(
        &mut self,
        operation: Operation,
        time_unix_ms: i64,
        _: Option<u64>,
    ) -> Vec<MemberId> {
        let reason = match operation {
            Operation::Kick { .. } => LeftReason::Kicked,
            _ => LeftReason::Banned,
        };
        let names = operation.expelled_names().into_iter();
        let members = names.filter_map(|name| self.room.holder(&name));
        let members: Vec<_> = members.collect();
        for &member in &members {
            self.room.apply(Command::Leave {
                member,
                reason,
                time_unix_ms,
            });
        }
        members
    }

    fn name_asked(&mut self, _: Name, _: bool) {}

    fn bans_changed(&mut self, _: u64) {}

    fn name_answered(&mut self, _: &Name) {}

    fn direct_asked(&mut self, _: u64) {}

    fn direct_placed(&mut self, place: DirectPlace) {
        if let Some(member) = place.sender
            && place.is_accepted
            && self.room.sent(member, place.id).is_none()
        {
            self.room.apply(Command::Direct {
                member,
                id: place.id,
                time_unix_ms: place.time_unix_ms,
            });
        }
    }

    fn direct_given_up(&mut self, _: DirectKey, _: bool) {}

    fn direct_settled(&mut self, _: u64, _: bool) {}

    fn node_ended(&mut self, _: &str, _: bool) {}
}
