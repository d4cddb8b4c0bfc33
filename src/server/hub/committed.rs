//! What the store tells the hub: up to where it has committed, from where on it keeps
//! chats, and whether it has space.

use crate::{log::Audience, room::Command};

use super::Hub;

impl Hub {
    /// The store has committed what was appended below `position`.
    #[cfg_attr(not(feature = "store"), expect(dead_code, reason = "for the store"))]
    pub(in crate::server) fn commit_up_to(
        &self,
        position: u64,
        audience: Option<Audience>,
        waiting: &[usize],
    ) {
        let mut state = self.lock();
        self.metrics.deliveries.commits(position);
        self.channel
            .commit(&mut state.log, position, &self.registry);
        if let Some(archive) = &self.archive {
            archive.release_pages(position);
        }
        state.remove_texts(position);
        let was_behind = self.channel.note_store_lag(&state.log);
        drop(state);
        // Whoever was paused for the store may go on.
        match audience {
            _ if was_behind => self.registry.wake_all(),
            Some(audience) => self.registry.wake(audience),
            None => {}
        }
        self.registry.wake_these(waiting);
    }

    /// Chats below a number are not kept any more.
    #[cfg_attr(not(feature = "store"), expect(dead_code, reason = "for the store"))]
    pub(in crate::server) fn prune(&self, oldest_seq: u64) {
        self.lock().room.apply(Command::Prune { oldest_seq });
    }

    /// Whether the store has no space (CHAT-HIST-9).
    #[cfg_attr(not(feature = "store"), expect(dead_code, reason = "for the store"))]
    pub(in crate::server) fn set_store_full(&self, is_full: bool) {
        let mut state = self.lock();
        state.sessions.set_store_full(is_full);
        if let (true, Some(archive)) = (is_full, &self.archive) {
            // What is on the disk can be read all the same.
            archive.release_pages(u64::MAX);
        }
    }
}
