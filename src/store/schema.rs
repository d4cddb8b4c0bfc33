//! The tables, their version, and the steps from one version to the next.

use std::path::Path;

use rusqlite::{Connection, ErrorCode, OptionalExtension, TransactionBehavior};

use super::OpenError;

/// Marks a file as a database of this program, in SQLite's header: "chat".
const APPLICATION_ID: i64 = 0x6368_6174;

/// What makes version 1 of nothing.
///
/// - `chat.start_bytes` counts the bytes of all chats before this one since the table was
///   last empty, so that a bound of bytes needs no sum. Below 0 where they came later, from
///   another node.
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

/// What makes version 2 of version 1: the names that keys own.
///
/// - `owner.name` is equal regardless of the case of A-Z, as names are.
/// - `owner.key` is a public key of 32 bytes.
const OWNERS: &str = "
    CREATE TABLE owner (
        name TEXT PRIMARY KEY COLLATE NOCASE,
        key BLOB NOT NULL CHECK (length(key) = 32),
        used_unix_ms INTEGER NOT NULL
    ) STRICT;
";

/// What makes version 3 of version 2: the order of a cluster.
///
/// - `room.stream_position` and `room.stream_record` say up to where the chats are those of
///   the order: 0 in a room of one server.
/// - `earlier` names tables of chats that were set aside: `chat_1` for `nth` 1.
const CLUSTER: &str = "
    ALTER TABLE room ADD COLUMN stream_position INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE room ADD COLUMN stream_record TEXT NOT NULL DEFAULT '';
    CREATE TABLE earlier (
        nth INTEGER PRIMARY KEY,
        epoch TEXT NOT NULL,
        oldest_seq INTEGER NOT NULL,
        last_seq INTEGER NOT NULL,
        newest_unix_ms INTEGER NOT NULL,
        bytes INTEGER NOT NULL
    ) STRICT;
";

/// What leads from version 0, nothing, to 1, from 1 to 2, and so on. A step that was
/// released never changes.
pub(super) const STEPS: &[&str] = &[VERSION_1, OWNERS, CLUSTER];

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

#[cfg(test)]
mod tests {
    use super::*;

    /// A database in memory of the version that `steps` leads to.
    fn database(steps: &[&str]) -> Connection {
        let mut connection = Connection::open_in_memory().expect("memory");
        update(&mut connection, Found::Empty, steps).expect("SQL");
        connection
    }

    fn found(connection: &Connection, steps: &[&str]) -> Result<Found, String> {
        identify(connection, Path::new("file"), steps).map_err(|error| error.to_string())
    }

    const CHAT: &str = "INSERT INTO chat VALUES (7, 1, 0, 'Alice', 'hello', NULL)";
    /// What a later version might do.
    const STEP: &str = "ALTER TABLE chat ADD COLUMN topic TEXT;
        UPDATE chat SET topic = 'topic of ' || seq;";
    const BROKEN_STEP: &str = "ALTER TABLE chat ADD COLUMN mood TEXT; UPDATE nothing SET x = 1;";

    #[test]
    fn a_database_is_brought_from_any_version_to_the_latest() {
        let later = &[VERSION_1, STEP, "DROP TABLE sent;"];
        for version in 1..=later.len() {
            let mut connection = database(&later[..version]);
            let columns = if version == 1 { "" } else { ", 'topic of 7'" };
            let chat = CHAT.replace(", NULL", &format!(", NULL{columns}"));
            connection.execute_batch(&chat).expect("SQL");
            assert_eq!(found(&connection, later), Ok(Found::Version(version)));
            update(&mut connection, Found::Version(version), later).expect("SQL");
            assert_eq!(found(&connection, later), Ok(Found::Version(3)));
            let sql = "SELECT text || ', ' || topic FROM chat";
            let text: String = connection
                .query_row(sql, [], |row| row.get(0))
                .expect("SQL");
            assert_eq!(text, "hello, topic of 7");
        }
    }

    #[test]
    fn a_step_that_fails_has_not_happened() {
        let mut connection = database(STEPS);
        let known = STEPS.len();
        let later = &[STEPS, &[STEP, BROKEN_STEP]].concat();
        assert!(update(&mut connection, Found::Version(known), later).is_err());
        assert_eq!(found(&connection, later), Ok(Found::Version(known + 1)));
        assert!(connection.prepare("SELECT topic FROM chat").is_ok());
        assert!(connection.prepare("SELECT mood FROM chat").is_err());
    }

    #[test]
    fn what_is_not_of_a_known_version_is_told_apart() {
        let connection = database(&[STEPS, &[STEP]].concat());
        let refused = found(&connection, STEPS).expect_err("it is newer");
        let newer = format!("version {} of the database", STEPS.len() + 1);
        assert!(refused.contains(&newer), "{refused}");
        for sql in [
            "PRAGMA user_version = -1",
            "PRAGMA application_id = 1",
            "PRAGMA application_id = 0",
        ] {
            let connection = database(STEPS);
            connection.execute_batch(sql).expect("SQL");
            assert!(found(&connection, STEPS).is_err(), "{sql}");
        }
        let empty = Connection::open_in_memory().expect("memory");
        assert_eq!(found(&empty, STEPS), Ok(Found::Empty));
        empty.execute_batch("CREATE TABLE x (y)").expect("SQL");
        let refused = found(&empty, STEPS).expect_err("it is another's");
        assert!(
            refused.contains("not a database of chat-server"),
            "{refused}"
        );
    }
}
