//! What the simulation and the tests do and look at.

use crate::{limits::Limits, log::Reader, room::Command, session::AccessPolicy};

use super::{Hub, Origin};

impl Hub {
    /// The hub of an empty room.
    pub(in crate::server) fn in_memory(limits: Limits, access: AccessPolicy) -> Self {
        let origin = Origin::empty(&limits, "test".to_owned());
        Self::new(limits, access, origin)
    }

    /// Commits later, with [`Hub::commit`], instead of at the end of a pass.
    pub(in crate::server) fn defer_commits(&self) {
        self.lock().commits_at_once = false;
    }

    /// Commits what was appended so far.
    pub(in crate::server) fn commit(&self) {
        let mut state = self.lock();
        let end = state.log.end();
        self.channel.commit(&mut state.log, end, &self.registry);
        drop(state);
        self.registry.wake_all();
    }

    /// A reader of all that is published from now on.
    pub(in crate::server) fn follow(&self) -> Reader {
        self.lock().log.reader(true)
    }

    /// The names that have an owner, in order.
    pub(in crate::server) fn names(&self) -> Vec<String> {
        let state = self.lock();
        let names = state.room.names_after(None);
        names.map(|name| name.as_str().to_owned()).collect()
    }

    /// All commands that the room has applied, in order.
    pub(in crate::server) fn journal(&self) -> Vec<Command> {
        self.lock().room.journal().to_vec()
    }
}
