//! Backups: a copy of the room in one file, whole or not at all.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rusqlite::Connection;

use super::sentence;
use crate::store::{
    OpenError, connection,
    directory::{Directory, FILE_MODE},
    epoch, error,
};

/// Copies the room in `dir` to `file`, which must not exist.
pub(super) fn backup(dir: &Path, file: &Path) -> Result<(), String> {
    let directory = Directory::new(dir);
    let connection = connection::connect_to_kept(&directory).map_err(sentence)?;
    let failed = |error: io::Error| match error.kind() {
        ErrorKind::AlreadyExists => {
            let path = file.display();
            format!("{path} is there already: name a new file, or move it away")
        }
        _ => format!("cannot write {}: {error}", file.display()),
    };
    if fs::symlink_metadata(file).is_ok() {
        return Err(failed(ErrorKind::AlreadyExists.into()));
    }
    let unfinished = Unfinished::make(file).map_err(failed)?;
    copy(&connection, &unfinished.0).map_err(|error| match error {
        CopyError::Database(error) if error::is_full(&error) => {
            format!("cannot write {}: the disk is full", file.display())
        }
        CopyError::Database(error) => sentence(OpenError::Database(directory.database(), error)),
        CopyError::Io(error) => failed(error),
    })?;
    unfinished.name(file).map_err(failed)
}

enum CopyError {
    Database(rusqlite::Error),
    Io(io::Error),
}

fn copy(connection: &Connection, path: &Path) -> Result<(), CopyError> {
    let copied = || {
        let name = path
            .to_str()
            .ok_or(rusqlite::Error::InvalidPath(path.to_owned()))?;
        connection.execute("VACUUM INTO ?1", [name])?;
        let copy = Connection::open(path)?;
        // Nobody resumes from a backup, and its tokens need not lie about.
        copy.pragma_update(None, "secure_delete", true)?;
        epoch::forget_lines(&copy)?;
        epoch::mark_as_backup(&copy)
    };
    copied().map_err(CopyError::Database)?;
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(CopyError::Io)
}

/// A file under a name that nobody looks for, removed unless it gets another one.
struct Unfinished(PathBuf);

impl Unfinished {
    fn make(beside: &Path) -> io::Result<Self> {
        let random = getrandom::u64().map_err(io::Error::other)?;
        let path = beside.with_file_name(format!(".chat-{random:016x}.tmp"));
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&path)?;
        Ok(Self(path))
    }

    /// Gives the file its name, which nothing else may have.
    fn name(self, name: &Path) -> io::Result<()> {
        match fs::hard_link(&self.0, name) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => return Err(error),
            // A file system without links.
            Err(_) if fs::symlink_metadata(name).is_err() => fs::rename(&self.0, name)?,
            result => result?,
        }
        match name
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            Some(parent) => File::open(parent)?.sync_all(),
            None => File::open(".")?.sync_all(),
        }
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
