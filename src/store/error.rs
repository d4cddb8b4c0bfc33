//! Errors of the store: each a sentence that says what to do.

use std::{error::Error, fmt, io, path::PathBuf};

use rusqlite::{ErrorCode, ffi};

/// Why a database does not open.
#[derive(Debug)]
pub enum OpenError {
    /// Another process has the folder.
    Locked(PathBuf),
    /// A folder or a file cannot be made, read or written.
    Io(PathBuf, io::Error),
    /// There is no database in the folder.
    Missing(PathBuf),
    /// The file is another program's.
    NotOurs(PathBuf),
    /// The database was written by a later version of this program.
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        version: i64,
        /// The latest version that this program knows.
        known: i64,
    },
    /// A reader met a database of an earlier version, which only a writer changes.
    Older(PathBuf),
    /// A write-ahead log that belongs to another database lies beside this one.
    StaleLog(PathBuf),
    /// The database contradicts itself.
    Damaged(PathBuf, String),
    /// SQLite refuses.
    Database(PathBuf, rusqlite::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Locked(dir) => write!(
                f,
                "{} is in use by another chat-server: stop that one first, or name another folder",
                dir.display()
            ),
            Self::Io(path, error) => write!(
                f,
                "cannot use {}: {error}; name a folder that this user may write",
                path.display()
            ),
            Self::Missing(path) => write!(
                f,
                "there is no {}: name the folder that chat-server was given with --data",
                path.display()
            ),
            Self::NotOurs(path) => write!(
                f,
                "{} is not a database of chat-server: name another folder, or move the file away",
                path.display()
            ),
            Self::Newer {
                path,
                version,
                known,
            } => write!(
                f,
                "{} was written by a newer chat-server (version {version} of the database, and \
                 this program knows {known}): use the newer one",
                path.display()
            ),
            Self::Older(path) => write!(
                f,
                "{} was written by an older chat-server: start the server once to convert it",
                path.display()
            ),
            Self::StaleLog(path) => write!(
                f,
                "{} is left from another database: remove it, or start the server once",
                path.display()
            ),
            Self::Damaged(path, fault) => write!(
                f,
                "{} is damaged ({fault}): restore a backup, or move the file away",
                path.display()
            ),
            Self::Database(path, error) => {
                write!(f, "cannot open {}: {}", path.display(), plain(error))?;
                match error.sqlite_error_code() {
                    Some(ErrorCode::DiskFull) => write!(f, "; free some space"),
                    Some(
                        ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied,
                    ) => write!(f, "; let this user read and write the file and its folder"),
                    Some(ErrorCode::DatabaseBusy) => {
                        write!(f, "; close the other program that uses it")
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io(_, error) => Some(error),
            Self::Database(_, error) => Some(error),
            _ => None,
        }
    }
}

/// Why a commit was not made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CommitError {
    /// The disk is full. Nothing of the commit was recorded; the same or another one
    /// may be tried later.
    Full,
    /// Anything else, in a sentence. The server must end: nobody knows what is on the
    /// disk, and a sync that is tried again after a failure may succeed without having
    /// written anything. All later commits fail as well.
    Failed(String),
}

impl fmt::Display for CommitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => write!(
                f,
                "the disk of the database is full: free some space on it, or keep less"
            ),
            Self::Failed(reason) => write!(f, "the database cannot be written: {reason}"),
        }
    }
}

impl Error for CommitError {}

impl From<rusqlite::Error> for CommitError {
    fn from(error: rusqlite::Error) -> Self {
        if is_full(&error) {
            Self::Full
        } else {
            Self::Failed(plain(&error))
        }
    }
}

/// Why a page was not read, in a sentence.
#[derive(Debug)]
pub struct ReadError(String);

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the database cannot be read: {}; see `chat-server history DIR check`, and restore a backup \
             if it is damaged",
            self.0
        )
    }
}

impl Error for ReadError {}

impl From<rusqlite::Error> for ReadError {
    fn from(error: rusqlite::Error) -> Self {
        Self(plain(&error))
    }
}

/// Whether an error says that the disk is full, and nothing but that. A full disk that
/// shows only at a sync is a failed sync.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    match error.sqlite_error() {
        // The file that the connections share could not grow.
        Some(error) if error.extended_code == ffi::SQLITE_IOERR_SHMSIZE => true,
        error => error.is_some_and(|error| error.code == ErrorCode::DiskFull),
    }
}

/// Whether somebody else holds a lock of the database.
pub(super) fn is_busy(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
}

/// What SQLite says about an error, with the number under which it can be looked up.
pub(super) fn plain(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(code, Some(words)) => {
            format!("{words} (SQLite error {})", code.extended_code)
        }
        error => error.to_string(),
    }
}
