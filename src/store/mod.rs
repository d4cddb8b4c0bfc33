//! Durable history: the room on disk, in one SQLite database with a write-ahead log
//! (WAL).
//!
//! One thread owns the [`Store`]. It commits what the room accepted in batches, each
//! batch one transaction, so that what was told to anybody is there after a crash, as
//! the [`SyncMode`] promises. A [`StoreReader`] reads pages of the past on a
//! connection of its own, beside the commits. Nothing here is asynchronous and nothing
//! reads a clock: the times come from the caller.
//!
//! | module | what it is |
//! |---|---|
//! | `change` | what a commit records: chats, the lines of clients that resume, owners |
//! | `commit` | one batch, one transaction |
//! | `open` | from a folder to an open store and what it had kept |
//! | `connection` | how the database is reached |
//! | `directory` | the folder, its lock and its files |
//! | `schema` | tables, their version, and steps from one version to the next |
//! | `lines`, `sent` | clients that may resume, and the ids that they sent |
//! | `owners` | the names that keys own |
//! | `earlier` | chats that another order of a cluster has set aside |
//! | `epoch` | the mark of the run, and when numbers begin a new epoch |
//! | `background` | checkpoints and the sync of `interval`, outside the commits |
//! | `erase` | removed texts leave the files as well |
//! | `past` | chats before the oldest one, from another node of a cluster |
//! | `prune` | removes the oldest chats beyond the bounds |
//! | `reader` | pages of the past |
//! | `row` | a chat as a row, and back |
//! | `error` | why a store does not open or commit |
//! | [`operator`] | the command `chat-server history` (with the feature `cli`) |

mod background;
mod change;
mod commit;
mod connection;
mod directory;
mod earlier;
mod epoch;
mod erase;
mod error;
mod lines;
mod open;
#[cfg(feature = "cli")]
pub mod operator;
mod owners;
mod past;
mod prune;
mod reader;
mod row;
mod schema;
mod sent;

use std::{path::PathBuf, str::FromStr};

use rusqlite::Connection;

pub use change::{Change, KEY_BYTES, Line, Owner, Place, Sent, TOKEN_BYTES, TOKENS_MAX};
pub use epoch::{NewEpochReason, boot_id};
pub use error::{CommitError, OpenError, ReadError};
pub use past::{Piece, Taken};
pub use reader::{Page, StoreReader};

use background::Background;
use directory::{Directory, FileId, Lock};
use sent::SentIds;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder of the database, made with mode 0700 if it is absent.
    pub dir: PathBuf,
    /// What [`Store::prune`] leaves.
    pub keep: Keep,
    /// When commits are on the disk.
    pub sync: SyncMode,
    /// How many ids of its newest chats each line keeps, whatever is pruned; at least 1.
    pub sent_ids_max: u32,
    /// A fresh random epoch, used if the numbers begin a new one.
    pub epoch_if_new: String,
    /// The boot of the machine, from [`boot_id()`]. `None` where the system does not
    /// tell it: then each unclean start counts as one on another boot.
    pub boot_id: Option<String>,
    /// The time now.
    pub now_unix_ms: i64,
    /// The room follows the order of a cluster, which has what was not synced and says when
    /// an epoch begins ([`Change::Began`]): the numbers begin no new one here.
    pub follows_cluster: bool,
}

/// How long a day is, in milliseconds.
const DAY_MS: i64 = 86_400_000;

/// The bounds of what is kept. A chat beyond any of them may be pruned.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keep {
    /// How many chats.
    pub messages: Option<u64>,
    /// For how many days.
    pub days: Option<u32>,
    /// How many bytes of chats: text, sender and 32 bytes each.
    pub bytes: Option<u64>,
}

/// When commits are on the disk. A process that is killed loses no commit in any mode;
/// a machine that loses power does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SyncMode {
    /// Before [`Store::commit`] returns: a power cut takes nothing.
    #[default]
    Always,
    /// About a second later: a power cut takes about the last second.
    Interval,
    /// When the write-ahead log is copied into the database, every few megabytes: a
    /// power cut takes what came since. The database stays whole in this mode too.
    Off,
}

impl SyncMode {
    /// The word for the mode, on the command line and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Interval => "interval",
            Self::Off => "off",
        }
    }
}

impl FromStr for SyncMode {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Always, Self::Interval, Self::Off]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or("write always, interval or off")
    }
}

/// What a store had kept when it was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The epoch of the numbers from now on.
    pub epoch: String,
    /// Why the epoch is a new one; `None` if it goes on.
    pub new_epoch: Option<NewEpochReason>,
    /// The number of the oldest chat that is kept; `last_seq + 1` if none is.
    pub oldest_seq: u64,
    /// The number of the last chat that was committed, kept or not; 0 if none was.
    pub last_seq: u64,
    /// The lines that have not ended, by rising id; none in a new epoch.
    pub lines: Vec<Line>,
    /// The names that keys own, in their order.
    pub owners: Vec<Owner>,
    /// Up to where the chats are those of the order of a cluster.
    pub place: Place,
}

/// The room on disk, open for writing.
///
/// A store that is dropped without [`Store::close`] leaves the database as a killed
/// process does.
#[derive(Debug)]
pub struct Store {
    // In the order in which they end: the lock is the last to go.
    connection: Connection,
    background: Background,
    directory: Directory,
    /// The file that the connections have open.
    database: FileId,
    keep: Keep,
    sent_ids_max: u32,
    epoch: String,
    position: Position,
    sent: SentIds,
    /// A removed text may still be in the write-ahead log.
    is_unerased: bool,
    /// Why no commit may follow: after a failed write or sync nobody knows what is on
    /// the disk.
    failed: Option<String>,
    _lock: Lock,
}

/// Where the chats begin and end.
#[derive(Debug, Clone, Copy)]
struct Position {
    oldest_seq: u64,
    last_seq: u64,
    /// The bytes of all chats up to the last one, without those that came later from other
    /// nodes.
    end_bytes: i64,
}

impl Store {
    /// A reader with a connection of its own, for another thread. It sees what was
    /// committed, also while this store commits.
    ///
    /// # Errors
    ///
    /// The system or the database refuses, in a sentence.
    pub fn reader(&self) -> Result<StoreReader, OpenError> {
        StoreReader::open_in(&self.directory)
    }

    /// The epoch of the numbers.
    pub fn epoch(&self) -> &str {
        &self.epoch
    }

    /// Ends the store: marks the database as cleanly closed and empties its write-ahead
    /// log, with sync in all modes.
    ///
    /// # Errors
    ///
    /// The mark could not be written: the next start treats this one as killed.
    pub fn close(mut self, now_unix_ms: i64) -> Result<(), CommitError> {
        self.background.end();
        self.check_usable()?;
        let marked = self.mark_as_closed(now_unix_ms);
        marked.map_err(CommitError::from)
    }

    /// Whether commits may go on.
    fn check_usable(&mut self) -> Result<(), CommitError> {
        if self.failed.is_none() {
            self.failed = self.background.failure();
        }
        if self.failed.is_none() {
            self.failed = self.directory.missing(self.database);
        }
        match &self.failed {
            None => Ok(()),
            Some(reason) => Err(CommitError::Failed(reason.clone())),
        }
    }

    fn mark_as_closed(&self, now_unix_ms: i64) -> rusqlite::Result<()> {
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        epoch::mark_as_closed(&self.connection, now_unix_ms)?;
        background::remove_wal(&self.connection)
    }
}
