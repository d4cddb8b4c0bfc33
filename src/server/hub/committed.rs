//! What the store tells the hub: up to where it has committed, from where on it keeps
//! chats, and whether it has space.
//!
//! On a node of a cluster the store is behind: the order keeps what it has, so members see
//! it and have their receipts at once, and only pages of the past wait for the disk.

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
        // Under the lock: else a page that begins to wait now would miss it.
        if let Some(archive) = &self.archive {
            archive.committed_up_to(position);
        }
        if self.is_clustered() {
            drop(state);
            return self.registry.wake_these(waiting);
        }
        self.metrics.deliveries.commits(position);
        self.channel
            .commit(&mut state.log, position, &self.registry);
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

    /// Chats of an epoch below a number are not kept any more.
    #[cfg_attr(not(feature = "store"), expect(dead_code, reason = "for the store"))]
    pub(in crate::server) fn prune(&self, epoch: &str, oldest_seq: u64) {
        let room = &mut self.lock().room;
        // The order of a cluster may have begun another one since.
        if room.epoch() == epoch {
            room.apply(Command::Prune { oldest_seq });
        }
    }

    /// Whether the store has no space (CHAT-HIST-9).
    #[cfg_attr(not(feature = "store"), expect(dead_code, reason = "for the store"))]
    pub(in crate::server) fn set_store_full(&self, is_full: bool) {
        let mut state = self.lock();
        state.sessions.set_store_full(is_full);
        if let (true, Some(archive)) = (is_full, &self.archive) {
            // What is on the disk can be read all the same.
            archive.release_all();
        }
    }
}
