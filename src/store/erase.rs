//! Erasing: a removed text leaves the files as well. SQLite overwrites what it frees in the
//! database, and the write-ahead log, which holds the page with the text, is emptied.

use std::{
    fs,
    io::{self, ErrorKind},
    time::Duration,
};

use super::{CommitError, Store, connection::BUSY_MS_MAX};

/// How long emptying the log waits for readers; the next commit tries again.
const EMPTY_WAIT_MS_MAX: u64 = 1_000;

impl Store {
    /// Before texts are removed: has what they took in the database overwritten.
    pub(super) fn begin_erasing(&self) -> Result<(), CommitError> {
        Ok(self.set_secure_delete("ON")?)
    }

    /// Empties the write-ahead log if a text was removed since that was last done. A
    /// reader that holds on to the log, such as a backup, puts it off.
    pub(super) fn erase(&mut self, has_removed: bool) -> Result<(), CommitError> {
        if has_removed {
            self.set_secure_delete("OFF")?;
            self.is_unerased = true;
            // It has words of the text. A search makes it anew.
            let _ = self.remove_index();
        }
        if self.is_unerased {
            self.is_unerased = !self.empty_wal()?;
        }
        Ok(())
    }

    fn set_secure_delete(&self, is: &str) -> rusqlite::Result<()> {
        let connection = &self.connection;
        connection.pragma_update_and_check(None, "secure_delete", is, |_| Ok(()))
    }

    /// Returns whether it is empty.
    fn empty_wal(&self) -> rusqlite::Result<bool> {
        let connection = &self.connection;
        connection.busy_timeout(Duration::from_millis(EMPTY_WAIT_MS_MAX))?;
        let emptied = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
            row.get::<_, i64>(0)
        });
        connection.busy_timeout(Duration::from_millis(BUSY_MS_MAX))?;
        match emptied {
            Ok(is_busy) => Ok(is_busy == 0),
            Err(error) if super::error::is_full(&error) || super::error::is_busy(&error) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn remove_index(&self) -> io::Result<()> {
        for name in ["search.sqlite", "search.sqlite-journal"] {
            match fs::remove_file(self.directory.path().join(name)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}
