//! Operations and bans: what operators ask, in the order; and the bans and mutes that an
//! epoch takes over from the one before.

use super::{Replica, Rooms};
use crate::{
    cluster::{operate::Operate, record::CarriedBans},
    session::Operation,
};

impl Replica {
    /// How many changes of bans and mutes are known, those of earlier epochs included.
    pub(crate) fn ban_changes(&self) -> u64 {
        self.ban_changes
    }

    /// Has an operation carried out.
    pub(super) fn operate(
        &mut self,
        operation: Operation,
        time_unix_ms: i64,
        ticket: Option<u64>,
        rooms: &mut impl Rooms,
    ) {
        let changes_bans = operation.changes_bans();
        for member in rooms.operate(operation, time_unix_ms, ticket) {
            self.forget(member);
        }
        if changes_bans {
            self.ban_changes += 1;
            rooms.bans_changed(self.ban_changes);
        }
    }

    /// A node brings the bans and mutes of an earlier epoch. They count if it knows more
    /// changes of them than those that have brought theirs before: one that was away when a
    /// ban was lifted does not bring it back.
    pub(super) fn carry_bans(
        &mut self,
        carried: CarriedBans,
        time_unix_ms: i64,
        rooms: &mut impl Rooms,
    ) {
        if carried.changes <= self.carried_ban_changes {
            return;
        }
        let operations = carried.operations.into_iter();
        for operation in operations.filter_map(Operate::operation) {
            for member in rooms.operate(operation, time_unix_ms, None) {
                self.forget(member);
            }
        }
        if carried.is_last {
            self.carried_ban_changes = carried.changes;
            self.ban_changes = self.ban_changes.max(carried.changes);
            rooms.bans_changed(self.ban_changes);
        }
    }
}
