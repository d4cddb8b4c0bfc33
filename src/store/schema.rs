//! The tables, their version, and the steps from one version to the next.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior};

use super::OpenError;

/// Marks a file as a database of this program, in SQLite's header: "chat".
const APPLICATION_ID: i64 = 0x6368_6174;

/// What makes version 1 of nothing.
///
/// - `chat.start_bytes` counts the bytes of all chats before this one since the table was
///   last empty, so that a bound of bytes needs no sum.
/// - `chat.more` is an encoded `wire::Chat` of the fields that have no column; NULL if
///   there are none.
/// - `line.tokens` are 16 bytes each, one behind the other.
/// - `sent.nth` counts what its line has sent.
/// - Numbers of 64 bits without a sign are kept as those with one of the same bits.
const VERSION_1: &str = "
    CREATE TABLE room (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        epoch TEXT NOT NULL,
        oldest_seq INTEGER NOT NULL,
        is_running INTEGER NOT NULL,
        is_backup INTEGER NOT NULL,
        boot_id TEXT,
        sync TEXT NOT NULL,
        marked_unix_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE chat (
        seq INTEGER PRIMARY KEY,
        time_unix_ms INTEGER NOT NULL,
        start_bytes INTEGER NOT NULL,
        sender TEXT NOT NULL,
        text TEXT NOT NULL,
        more BLOB
    ) STRICT;
    CREATE TABLE line (
        id INTEGER PRIMARY KEY,
        name TEXT NOT NULL,
        tokens BLOB NOT NULL,
        attempt INTEGER NOT NULL,
        began_seq INTEGER NOT NULL,
        seen_unix_ms INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE sent (
        seq INTEGER PRIMARY KEY,
        line INTEGER NOT NULL,
        id INTEGER NOT NULL,
        nth INTEGER NOT NULL,
        time_unix_ms INTEGER NOT NULL
    ) STRICT;
";

/// What leads from version 0, nothing, to 1, from 1 to 2, and so on. A step that was
/// released never changes.
pub(super) const STEPS: &[&str] = &[VERSION_1];

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    /// A database without anything in it: a first start, or one that was killed.
    Empty,
    /// A database of this program, of this version.
    Version(usize),
}

/// Tells what the file at `path` is, and changes nothing in it.
pub(super) fn identify(
    connection: &Connection,
    path: &Path,
    steps: &[&str],
) -> Result<Found, OpenError> {
    let read = || -> rusqlite::Result<(i64, i64, bool)> {
        let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let table = connection
            .query_row("SELECT 1 FROM sqlite_schema LIMIT 1", [], |_| Ok(()))
            .optional()?;
        Ok((
            pragma("application_id")?,
            pragma("user_version")?,
            table.is_some(),
        ))
    };
    let (application_id, version, has_tables) =
        read().map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::NotADatabase) => OpenError::NotOurs(path.to_owned()),
            _ => OpenError::Database(path.to_owned(), error),
        })?;
    match (application_id, usize::try_from(version)) {
        (0, Ok(0)) if !has_tables => Ok(Found::Empty),
        (APPLICATION_ID, Ok(version)) if version <= steps.len() => Ok(Found::Version(version)),
        (APPLICATION_ID, _) => Err(OpenError::Newer {
            path: path.to_owned(),
            version,
            known: i64::try_from(steps.len()).unwrap_or(i64::MAX),
        }),
        _ => Err(OpenError::NotOurs(path.to_owned())),
    }
}

/// Brings a database to the latest version. Each step is one transaction with its
/// number, so a killed one has not happened.
pub(super) fn update(
    connection: &mut Connection,
    found: Found,
    steps: &[&str],
) -> rusqlite::Result<()> {
    let version = match found {
        Found::Empty => 0,
        Found::Version(version) => version,
    };
    for (index, step) in steps.iter().enumerate().skip(version) {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", i64::try_from(index + 1).unwrap_or(0))?;
        transaction.commit()?;
    }
    Ok(())
}
