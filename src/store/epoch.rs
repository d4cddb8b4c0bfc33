//! The mark of the run, and when the numbers begin a new epoch (CHAT-ORD-7,
//! CHAT-HIST-10).
//!
//! A number of one epoch must never mean two chats. A process that is killed loses
//! nothing that it had written, because the system still has it. A machine that loses
//! power, or whose disk fails, loses what was not synced, and the members may have seen
//! it. So each start
//! marks the database as running, with the boot of the machine and the mode of sync,
//! before anything else is committed, and the next start compares.

use std::fs;

use rusqlite::{Connection, OptionalExtension, params};

use super::{Options, Place, SyncMode};

/// Why the numbers begin a new epoch. The chats that are kept keep their numbers, which
/// go on; lines and ids are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NewEpochReason {
    /// The database is new.
    New,
    /// Commits of the last run were not synced, and it was not closed, and the machine was
    /// started since or its disk had failed: the newest chats may be lost.
    MayHaveLost,
    /// The database is a backup: what came after it is lost.
    Backup,
    /// The room was that of a cluster, which may have gone on without it.
    LeftCluster,
}

/// The mark that the last run left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) epoch: String,
    pub(super) oldest_seq: u64,
    is_running: bool,
    is_backup: bool,
    boot_id: Option<String>,
    sync: String,
    /// Up to where it follows the order of a cluster.
    pub(super) place: Place,
}

/// The boot of the machine, as the system names it; `None` where it does not.
pub fn boot_id() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

impl Mark {
    pub(super) fn read(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        connection
            .query_row(
                "SELECT epoch, oldest_seq, is_running, is_backup, boot_id, sync, stream_position,
                    stream_record FROM room",
                [],
                |row| {
                    Ok(Self {
                        epoch: row.get(0)?,
                        oldest_seq: row.get::<_, i64>(1)?.cast_unsigned(),
                        is_running: row.get(2)?,
                        is_backup: row.get(3)?,
                        boot_id: row.get(4)?,
                        sync: row.get(5)?,
                        place: Place {
                            position: row.get::<_, i64>(6)?.cast_unsigned(),
                            record: row.get(7)?,
                        },
                    })
                },
            )
            .optional()
    }

    /// Whether a start on the boot `boot_id` begins a new epoch. `has_failed`: a write or
    /// sync has failed in the run.
    fn new_epoch(&self, boot_id: Option<&str>, has_failed: bool) -> Option<NewEpochReason> {
        let is_same_boot = boot_id.is_some() && self.boot_id.as_deref() == boot_id;
        // A word of a later mode is none that is known to be safe.
        let is_synced = self.sync == SyncMode::Always.as_str();
        if self.place.position > 0 {
            Some(NewEpochReason::LeftCluster)
        } else if self.is_backup {
            Some(NewEpochReason::Backup)
        } else if self.is_running && !is_synced && (has_failed || !is_same_boot) {
            Some(NewEpochReason::MayHaveLost)
        } else {
            None
        }
    }
}

/// Marks the database as running, in a new epoch if it needs one, and tells which epoch
/// is in force, and why it is a new one. One transaction; the caller has SQLite sync it.
pub(super) fn begin_run(
    connection: &mut Connection,
    options: &Options,
    has_failed: bool,
) -> rusqlite::Result<(Mark, Option<NewEpochReason>)> {
    let transaction = connection.transaction()?;
    let found = Mark::read(&transaction)?;
    let reason = match &found {
        None => Some(NewEpochReason::New),
        Some(_) if options.follows_cluster => None,
        Some(mark) => mark.new_epoch(options.boot_id.as_deref(), has_failed),
    };
    let (epoch, oldest_seq, place) = match found {
        Some(found) if reason.is_none() => (found.epoch, found.oldest_seq, found.place),
        Some(found) => (
            options.epoch_if_new.clone(),
            found.oldest_seq,
            Place::default(),
        ),
        None => (options.epoch_if_new.clone(), 1, Place::default()),
    };
    let mark = Mark {
        epoch,
        oldest_seq,
        is_running: true,
        is_backup: false,
        boot_id: options.boot_id.clone(),
        sync: options.sync.as_str().to_owned(),
        place,
    };
    transaction.execute(
        "INSERT OR REPLACE INTO room
            (only, epoch, oldest_seq, is_running, is_backup, boot_id, sync, marked_unix_ms,
             stream_position, stream_record)
            VALUES (1, ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
        params![
            mark.epoch,
            mark.oldest_seq.cast_signed(),
            mark.is_running,
            mark.is_backup,
            mark.boot_id,
            mark.sync,
            options.now_unix_ms,
            mark.place.position.cast_signed(),
            mark.place.record
        ],
    )?;
    if reason.is_some() {
        forget_lines(&transaction)?;
    }
    transaction.commit()?;
    Ok((mark, reason))
}

/// Begins an epoch behind a number, as the order of a cluster says, without lines.
pub(super) fn begin(connection: &Connection, epoch: &str, seq: u64) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE room SET epoch = ?1, oldest_seq = ?2, stream_position = 0, stream_record = ''",
        params![epoch, (seq + 1).cast_signed()],
    )?;
    forget_lines(connection)
}

/// Drops all lines and ids.
pub(super) fn forget_lines(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch("DELETE FROM line; DELETE FROM sent;")
}

/// Marks the database as cleanly closed.
pub(super) fn mark_as_closed(connection: &Connection, now_unix_ms: i64) -> rusqlite::Result<()> {
    let mark = "UPDATE room SET is_running = 0, marked_unix_ms = ?1";
    connection.execute(mark, [now_unix_ms]).map(drop)
}

/// Marks a copy as a backup, from which a server begins a new epoch.
#[cfg(feature = "cli")]
pub(super) fn mark_as_backup(connection: &Connection) -> rusqlite::Result<()> {
    let mark = "UPDATE room SET is_backup = 1, is_running = 0";
    connection.execute(mark, []).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(sync: SyncMode, boot_id: Option<&str>) -> Mark {
        Mark {
            epoch: "epoch".to_owned(),
            oldest_seq: 1,
            is_running: true,
            is_backup: false,
            boot_id: boot_id.map(str::to_owned),
            sync: sync.as_str().to_owned(),
            place: Place::default(),
        }
    }

    #[test]
    fn only_an_unclean_end_on_another_boot_without_sync_may_have_lost_chats() {
        let lost = Some(NewEpochReason::MayHaveLost);
        for (sync, on_another_boot) in [
            (SyncMode::Always, None),
            (SyncMode::Interval, lost),
            (SyncMode::Off, lost),
        ] {
            let found = mark(sync, Some("a"));
            assert_eq!(found.new_epoch(Some("a"), false), None, "{sync:?}");
            assert_eq!(
                found.new_epoch(Some("b"), false),
                on_another_boot,
                "{sync:?}"
            );
            assert_eq!(found.new_epoch(None, false), on_another_boot, "{sync:?}");
            assert_eq!(
                found.new_epoch(Some("a"), true),
                on_another_boot,
                "{sync:?}"
            );
            let unknown = mark(sync, None);
            assert_eq!(unknown.new_epoch(None, false), on_another_boot, "{sync:?}");
            let closed = Mark {
                is_running: false,
                ..found
            };
            assert_eq!(closed.new_epoch(Some("b"), false), None, "{sync:?}");
        }
    }

    /// The cluster may have given the next numbers to other chats.
    #[test]
    fn a_room_that_has_left_its_cluster_begins_a_new_epoch() {
        let left = Mark {
            place: Place {
                position: 7,
                record: String::new(),
            },
            ..mark(SyncMode::Always, Some("a"))
        };
        let reason = left.new_epoch(Some("a"), false);
        assert_eq!(reason, Some(NewEpochReason::LeftCluster));
    }

    #[test]
    fn a_backup_begins_a_new_epoch_however_it_was_made() {
        for is_running in [true, false] {
            let backup = Mark {
                is_backup: true,
                is_running,
                ..mark(SyncMode::Always, Some("a"))
            };
            let reason = backup.new_epoch(Some("a"), false);
            assert_eq!(reason, Some(NewEpochReason::Backup));
        }
    }
}
