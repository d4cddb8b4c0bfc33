//! Connections to the database: how long they wait, what they are for.

use std::{fs, io::ErrorKind, time::Duration};

use rusqlite::{Connection, OpenFlags, config::DbConfig};

use super::{
    OpenError,
    directory::Directory,
    schema::{self, Found},
};

/// How long a connection waits for another program that writes, such as an operator's
/// `sqlite3`. Longer is a failure.
pub(super) const BUSY_MS_MAX: u64 = 5_000;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    Read,
    Write,
}

/// Opens a connection to the database, which must be there.
pub(super) fn connect(directory: &Directory, access: Access) -> Result<Connection, OpenError> {
    let path = directory.database();
    let mode = match access {
        Access::Read => OpenFlags::SQLITE_OPEN_READ_ONLY,
        Access::Write => OpenFlags::SQLITE_OPEN_READ_WRITE,
    };
    // Each connection is used by one thread at a time.
    let flags = mode | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connect = || {
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(Duration::from_millis(BUSY_MS_MAX))?;
        // Checkpoints are made by `background` and by closing, and none after a failure.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        Ok(connection)
    };
    connect().map_err(|error| OpenError::Database(path.clone(), error))
}

/// Opens a connection for reading to a database that a server made, which may run.
pub(super) fn connect_to_kept(directory: &Directory) -> Result<Connection, OpenError> {
    let path = directory.database();
    if let Err(error) = fs::metadata(&path) {
        return Err(match error.kind() {
            ErrorKind::NotFound => OpenError::Missing(path),
            _ => OpenError::Io(path, error),
        });
    }
    if let Some(wal) = directory.stale_wal()? {
        return Err(OpenError::StaleLog(wal));
    }
    let connection = connect(directory, Access::Read)?;
    match schema::identify(&connection, &path, schema::STEPS)? {
        Found::Empty => Err(OpenError::Missing(path)),
        Found::Version(version) if version < schema::STEPS.len() => Err(OpenError::Older(path)),
        Found::Version(_) => Ok(connection),
    }
}

/// Has the database written through a write-ahead log.
pub(super) fn begin_wal(connection: &Connection, synchronous: &str) -> rusqlite::Result<()> {
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| {
        let mode: String = row.get(0)?;
        match mode.as_str() {
            "wal" => Ok(()),
            // The file system lacks the shared memory that it needs.
            _ => Err(rusqlite::Error::InvalidParameterName(format!(
                "this file system has no write-ahead log, only {mode}"
            ))),
        }
    })
}
