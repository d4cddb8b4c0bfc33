//! Reload: what a server changes while it runs, and which sessions no longer fit.

use std::sync::Arc;

use crate::{limits::Limits, room::Room};

use super::{
    AccessPolicy, ConnectionId, Effect, Sessions, State, Time,
    rejection::{self, Rejection},
};

impl Sessions {
    /// Sets the limits for sessions that begin from now on. A session keeps those that it
    /// was told of (CHAT-LIM-2).
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = Arc::new(limits);
    }

    /// Who may register.
    pub fn access(&self) -> &AccessPolicy {
        &self.access
    }

    /// Sets who may register, and ends the sessions of those who no longer may
    /// (CHAT-MOD-1): of all, if there is a new password. Returns how many were ended.
    pub fn set_access(
        &mut self,
        room: &mut Room,
        now: Time,
        access: AccessPolicy,
        effects: &mut Vec<Effect>,
    ) -> usize {
        let is_password_new = access.has_new_password(&self.access);
        self.access = access;
        let unfit = |(index, state): (usize, &State)| -> Option<(usize, Rejection)> {
            let name = match state {
                State::Registered(_) => room.name(ConnectionId(index).member())?,
                State::AwaitingName(pending) => &pending.name,
                State::AwaitingProof(pending) => &pending.register.name,
                _ => return None,
            };
            if is_password_new {
                return Some((index, rejection::password_changed()));
            }
            let checked = self.access.check_name(name);
            checked
                .err()
                .map(|_| (index, rejection::name_removed(name)))
        };
        let unfit: Vec<_> = self.states.iter().filter_map(unfit).collect();
        let mut ended = 0;
        for (index, rejection) in unfit {
            ended += usize::from(self.expel(room, now, index, rejection, effects));
        }
        ended
    }
}
