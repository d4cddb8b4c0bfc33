//! Bans: what of the bans and mutes outlives this server, or the epoch of its cluster.

#![cfg_attr(
    not(all(feature = "cli", feature = "store", feature = "cluster")),
    expect(dead_code, reason = "for the operator, a store and a cluster")
)]

use std::sync::atomic::Ordering;

use crate::session::{Bans, Moderation, Operation, Target};

use super::Hub;
#[cfg(any(test, feature = "cluster"))]
use super::ordered::InOrder;

impl Hub {
    /// Looks at the bans and mutes.
    pub(in crate::server) fn moderation<T>(&self, look: impl FnOnce(&Moderation) -> T) -> T {
        look(self.lock().sessions.moderation())
    }

    /// The bans and mutes, and how many changes of them are known.
    pub(in crate::server) fn bans_to_keep(&self) -> (Moderation, u64) {
        let state = self.lock();
        (state.sessions.moderation().clone(), self.ban_changes())
    }

    /// Sets the bans and mutes of an earlier run, of which so many changes are known.
    pub(in crate::server) fn restore_bans(&self, bans: Bans, mutes: Bans, changes: u64) {
        let mut state = self.lock();
        let moderation = state.sessions.moderation_mut();
        moderation.bans = bans;
        moderation.mutes = mutes;
        self.ban_changes.store(changes, Ordering::Relaxed);
    }

    /// The bans and mutes, as operations that set them.
    pub(in crate::server) fn bans(&self) -> Vec<Operation> {
        let state = self.lock();
        let Moderation { bans, mutes, .. } = state.sessions.moderation();
        let bans = bans.iter().map(|(target, ban)| Operation::Ban {
            targets: vec![target],
            with_address_of: None,
            ban: ban.clone(),
        });
        let mutes = mutes.iter().filter_map(|(target, mute)| match target {
            Target::Name(name) => Some(Operation::Mute {
                name,
                mute: mute.clone(),
            }),
            Target::Network(_) => None,
        });
        bans.chain(mutes).collect()
    }

    /// How many changes of bans and mutes are known in a cluster, those of earlier epochs
    /// included.
    pub(in crate::server) fn ban_changes(&self) -> u64 {
        self.ban_changes.load(Ordering::Relaxed)
    }

    /// A room has begun of which so many are known.
    pub(in crate::server) fn set_ban_changes(&self, changes: u64) {
        self.ban_changes.store(changes, Ordering::Relaxed);
    }

    /// Waits until the order of a cluster has changed the bans and mutes.
    pub(in crate::server) async fn bans_changed(&self) {
        self.bans_changed.notified().await;
    }
}

#[cfg(any(test, feature = "cluster"))]
impl InOrder<'_> {
    /// The bans and mutes may be others: so many changes of them are known.
    pub(in crate::server) fn bans_changed(&mut self, changes: u64) {
        self.hub.set_ban_changes(changes);
        self.hub.bans_changed.notify_one();
    }
}
