//! Kept bans: the folder in which bans and mutes outlive the server.
//!
//! A node of a cluster writes them whenever any operator has changed them. The number of
//! changes stands beside them, so that of several nodes that come back the one that knows
//! most can be told.

#![cfg_attr(
    not(feature = "store"),
    expect(dead_code, reason = "they are kept beside a room on disk")
)]

use std::path::PathBuf;

use super::{ban_file, hub::Hub};

/// The files in which they are.
const BANS_FILE: &str = "bans";
const MUTES_FILE: &str = "mutes";

/// Where they are kept.
pub(super) struct KeptBans {
    folder: PathBuf,
    /// How many changes of them what is kept has.
    changes: u64,
}

impl KeptBans {
    /// Those in a folder: where they are kept, and the bans and mutes.
    ///
    /// # Errors
    ///
    /// A sentence.
    #[cfg(feature = "store")]
    pub(super) fn open(
        folder: &std::path::Path,
    ) -> Result<(Self, crate::session::Bans, crate::session::Bans), String> {
        let path = folder.join(BANS_FILE);
        let bans = ban_file::read_if_there(&path)?;
        let mutes = ban_file::read_if_there(&folder.join(MUTES_FILE))?;
        let is_any = !bans.is_empty() || !mutes.is_empty();
        let kept = Self {
            folder: folder.to_owned(),
            // Those of a server alone are not counted.
            changes: ban_file::changes(&path).max(u64::from(is_any)),
        };
        Ok((kept, bans, mutes))
    }

    /// How many changes are known.
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Writes the bans and mutes of the hub, unless those that are kept are newer: a cluster
    /// that begins another epoch takes them over a moment later.
    ///
    /// # Errors
    ///
    /// A sentence.
    pub(super) fn keep(&mut self, hub: &Hub) -> Result<(), String> {
        let (moderation, changes) = hub.bans_to_keep();
        if changes < self.changes {
            return Ok(());
        }
        ban_file::write(&self.folder.join(MUTES_FILE), &moderation.mutes, 0)?;
        ban_file::write(&self.folder.join(BANS_FILE), &moderation.bans, changes)?;
        self.changes = changes;
        Ok(())
    }
}

/// What a node of a cluster does.
#[cfg(all(feature = "cluster", feature = "store"))]
pub(super) mod follower {
    use std::{sync::Arc, time::Duration};

    use tokio::{sync::Mutex, task, time};
    use tracing::warn;

    use super::KeptBans;
    use crate::server::hub::Hub;

    /// How long after it has written the bans it writes them again at the earliest, in
    /// milliseconds.
    const APART_MS: u64 = 200;

    /// Keeps the bans and mutes whenever an operator has changed them.
    pub(in crate::server) async fn follow(hub: Arc<Hub>, kept: Arc<Mutex<Option<KeptBans>>>) {
        loop {
            hub.bans_changed().await;
            // A node that takes no part yet has only some of them.
            if !hub.is_unreachable() {
                let (mut kept, hub) = (Arc::clone(&kept).lock_owned().await, Arc::clone(&hub));
                let keep = move || kept.as_mut().map_or(Ok(()), |kept| kept.keep(&hub));
                if let Ok(Err(sentence)) = task::spawn_blocking(keep).await {
                    warn!("the bans and mutes are not kept on this node: {sentence}");
                }
            }
            time::sleep(Duration::from_millis(APART_MS)).await;
        }
    }
}

#[cfg(all(test, feature = "store"))]
mod tests {
    use super::*;
    use crate::{
        limits::Limits,
        server::hub::Origin,
        session::{AccessPolicy, Ban, Bans, Reason, Target},
    };

    /// A cluster that begins another epoch has no bans until a node brings them.
    #[test]
    fn bans_that_are_kept_give_way_to_newer_ones_only() {
        let limits = Limits::default();
        let origin = Origin::empty(&limits, "epoch".to_owned());
        let hub = Hub::new(limits, AccessPolicy::default(), origin);
        let folder = tempfile::tempdir().expect("a place for files");
        let open = || KeptBans::open(folder.path()).expect("a folder");
        let (mut kept, none, _) = open();
        assert_eq!((kept.changes(), none), (0, Bans::default()));
        let mut bans = Bans::default();
        let ban = Ban {
            until_unix_ms: None,
            reason: Reason::default(),
        };
        let target = Target::parse("mallory").expect("a name");
        assert!(bans.insert(target, ban));
        for (now, changes, expected) in [
            (&bans, 2, (2, &bans)),
            (&Bans::default(), 1, (2, &bans)),
            (&Bans::default(), 3, (3, &Bans::default())),
        ] {
            hub.restore_bans(now.clone(), Bans::default(), changes);
            kept.keep(&hub).expect("it is written");
            let (again, found, _) = open();
            assert_eq!((again.changes(), &found), expected);
        }
    }
}
