//! Checkpoints, and the sync of `interval`, on a thread and a connection of their own.
//!
//! A checkpoint copies the write-ahead log into the database, and takes some
//! milliseconds and two syncs. SQLite would make it inside a commit once the log has
//! 1,000 pages, so one commit in a few hundred would be late. Here a thread makes it
//! beside the commits. When it ends and nothing was committed meanwhile, the next
//! commit begins the log anew. Under a load that never pauses there is always something
//! new, so the log would grow without an end: at [`WAL_PAGES_MAX`] the committing thread
//! copies the little that is left itself, and the log begins anew as well.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU32, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rusqlite::{Connection, config::DbConfig, hooks::Wal};

use super::{
    CommitError, OpenError, SyncMode,
    connection::{self, Access},
    directory::Directory,
    error,
};

/// From how many pages of 4 KiB the log is copied: 4 MB, as SQLite does by itself. Fewer
/// would copy the same page more often.
const CHECKPOINT_PAGES: u32 = 1_000;

/// How many pages of the log make the committing thread copy them itself: 64 MB. Only a
/// reader that holds on to the past for long, such as a backup, lets it grow beyond.
const WAL_PAGES_MAX: u32 = 16_000;

/// How often `interval` syncs.
const SYNC_INTERVAL_MS: u64 = 1_000;

/// How long closing waits for readers before it leaves the log as it is, which harms
/// nothing: a server has 5 seconds to exit (CHAT-CLOSE-3).
const CLOSE_WAIT_MS_MAX: u64 = 100;

/// The thread, as the store sees it.
#[derive(Debug)]
pub(super) struct Background {
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
    /// How many pages the log had when the last checkpoint was asked for.
    asked_pages: u32,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// How many pages the log has since it began anew.
    wal_pages: AtomicU32,
    /// Whether anything was committed since the last sync of the log.
    is_unsynced: AtomicBool,
    /// Why the store must not be used any more.
    failure: OnceLock<String>,
}

impl Background {
    /// Starts the thread beside `connection`, which commits.
    pub(super) fn start(
        connection: &mut Connection,
        directory: &Directory,
        sync: SyncMode,
    ) -> Result<Self, OpenError> {
        let shared = Arc::new(Shared::default());
        let database_error = |error| OpenError::Database(directory.database(), error);
        let counter = Arc::clone(&shared);
        connection
            .wal_hook(Some(move |_: &mut Wal, pages: i32| {
                let pages = u32::try_from(pages).unwrap_or(0);
                counter.wal_pages.store(pages, Ordering::Relaxed);
                counter.is_unsynced.store(true, Ordering::Release);
                Ok(())
            }))
            .map_err(database_error)?;
        let worker = Worker {
            connection: connection::connect(directory, Access::Write)?,
            directory: directory.clone(),
            shared: Arc::clone(&shared),
            syncs: sync == SyncMode::Interval,
        };
        // One waiting request is as good as many.
        let (wake, requests) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("checkpoint".to_owned())
            .spawn(move || worker.run(&requests))
            .map_err(|error| OpenError::Io(directory.path().to_owned(), error))?;
        Ok(Self {
            wake: Some(wake),
            thread: Some(thread),
            asked_pages: 0,
            shared,
        })
    }

    /// Has the log copied if it has grown enough. Called after each commit.
    pub(super) fn committed(&mut self, connection: &Connection) -> Result<(), CommitError> {
        let pages = self.shared.wal_pages.load(Ordering::Relaxed);
        if pages < self.asked_pages {
            // It began anew.
            self.asked_pages = 0;
        }
        if pages >= self.asked_pages + CHECKPOINT_PAGES
            && let Some(wake) = &self.wake
        {
            self.asked_pages = pages;
            // Full: it will run anyway. Disconnected: the failure is found before the
            // next commit.
            let _ = wake.try_send(());
        }
        if pages >= WAL_PAGES_MAX {
            checkpoint(connection).map_err(|error| CommitError::Failed(error::plain(&error)))?;
        }
        Ok(())
    }

    /// Why the thread has ended before it was told to.
    pub(super) fn failure(&self) -> Option<String> {
        self.shared.failure.get().cloned()
    }

    /// Ends the thread, after the checkpoint that it is making.
    pub(super) fn end(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has nothing left to do either.
            let _ = thread.join();
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.end();
    }
}

struct Worker {
    connection: Connection,
    directory: Directory,
    shared: Arc<Shared>,
    /// Whether the log is synced about once a second.
    syncs: bool,
}

impl Worker {
    fn run(self, requests: &Receiver<()>) {
        let interval = Duration::from_millis(SYNC_INTERVAL_MS);
        let mut next_sync = Instant::now() + interval;
        loop {
            let wait = match self.syncs {
                true => next_sync.saturating_duration_since(Instant::now()),
                false => Duration::MAX,
            };
            let worked = match requests.recv_timeout(wait) {
                Ok(()) => checkpoint(&self.connection).map_err(|error| error::plain(&error)),
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let worked = worked.and_then(|()| {
                if !self.syncs || Instant::now() < next_sync {
                    return Ok(());
                }
                next_sync = Instant::now() + interval;
                self.sync()
            });
            if let Err(reason) = worked {
                // Never again: a second sync may succeed without writing.
                self.directory.note_failure();
                let _ = self.shared.failure.set(reason);
                return;
            }
        }
    }

    fn sync(&self) -> Result<(), String> {
        if !self.shared.is_unsynced.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        self.directory.sync_wal().map_err(|error| {
            let path = self.directory.wal();
            format!("cannot sync {}: {error}", path.display())
        })
    }
}

/// Copies what it can of the log without waiting for anybody. A full disk or a
/// checkpoint under way is no failure: the next one copies more.
fn checkpoint(connection: &Connection) -> rusqlite::Result<()> {
    match connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(())) {
        Err(error) if error::is_full(&error) || error::is_busy(&error) => Ok(()),
        result => result,
    }
}

/// Copies all of the log, and has the file removed when the connection is closed, unless
/// readers hold on to it.
pub(super) fn remove_wal(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_millis(CLOSE_WAIT_MS_MAX))?;
    match connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
        Err(error) if error::is_full(&error) || error::is_busy(&error) => return Ok(()),
        result => result?,
    }
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    Ok(())
}
