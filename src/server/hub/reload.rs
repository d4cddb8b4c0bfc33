//! Reload: the hub takes what a configuration says anew.

use crate::limits::{LIMITS, Limits};

use super::Hub;
use crate::server::reload::Live;

impl Hub {
    /// Checks that limits can be taken while the server runs, those of them that cannot
    /// change left out.
    pub(in crate::server) fn check_limits(&self, limits: &Limits) -> Result<(), String> {
        self.lock().sessions.limits().with_live(limits).check()
    }

    /// Takes what is live, and ends the sessions that no longer fit. Returns what has
    /// changed, in words.
    pub(in crate::server) fn reload(&self, live: Live) -> Vec<String> {
        let Live {
            limits,
            access,
            denied,
            welcome,
        } = live;
        let now = self.now();
        let mut changes = Vec::new();
        self.operate(|state| {
            let current = state.sessions.limits();
            let limits = current.with_live(&limits);
            for limit in LIMITS {
                let (before, after) = (limit.value(current), limit.value(&limits));
                if before != after {
                    let (option, before) = (limit.option(), limit.show(before));
                    changes.push(format!("{option} from {before} to {}", limit.show(after)));
                }
            }
            changes.extend(access.changes(state.sessions.access()));
            if denied != state.sessions.moderation().denied {
                changes.push(format!("{} names and addresses are denied", denied.len()));
            }
            state.limiter.set_limits(&limits);
            state.sessions.set_limits(limits);
            state.sessions.moderation_mut().denied = denied;
            if state.sessions.set_welcome(welcome) {
                changes.push("everybody who comes is greeted in other words".to_owned());
            }
            let (sessions, room) = (&mut state.sessions, &mut state.room);
            let unfit = sessions.set_access(room, now, access, &mut state.effects);
            match unfit + self.expel_banned(state, now) {
                0 => {}
                ended => changes.push(format!("{ended} sessions ended")),
            }
        });
        changes
    }
}
