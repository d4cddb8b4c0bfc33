//! The folder of the database: its files, its permissions and its lock.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, Metadata, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use nix::libc::O_NOFOLLOW;

use super::OpenError;

/// Only the server's user reads what was said.
const DIR_MODE: u32 = 0o700;
pub(super) const FILE_MODE: u32 = 0o600;

/// Where the header of a database says which journal it is written with, and the value
/// for a database without a write-ahead log.
const JOURNAL_OFFSET: usize = 18;
const JOURNAL_ROLLBACK: u8 = 1;

/// A file, whatever its name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    fn of(found: &Metadata) -> Self {
        Self {
            device: found.dev(),
            inode: found.ino(),
        }
    }
}

/// The folder of a database.
#[derive(Debug, Clone)]
pub(super) struct Directory(PathBuf);

/// The right to write in a folder, held by one process. The system takes it back when
/// the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing would leave it with a process that is being started at this moment,
        // and has all files of this one until it runs its program.
        let _ = self.0.unlock();
    }
}

impl Directory {
    pub(super) fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The database.
    pub(super) fn database(&self) -> PathBuf {
        self.0.join("room.sqlite")
    }

    fn beside_database(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(self.database());
        name.push(suffix);
        name.into()
    }

    /// Its write-ahead log, which SQLite names.
    pub(super) fn wal(&self) -> PathBuf {
        self.beside_database("-wal")
    }

    /// Makes the folder if it is absent; not those above it, of which a mistyped path
    /// would leave some.
    pub(super) fn make(&self) -> Result<(), OpenError> {
        match DirBuilder::new().mode(DIR_MODE).create(&self.0) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(OpenError::Io(self.0.clone(), error))
            }
            _ => Ok(()),
        }
    }

    /// Takes the lock. It is on a file of its own: SQLite loses its locks on a file
    /// that the same process opens and closes beside it.
    pub(super) fn lock(&self) -> Result<Lock, OpenError> {
        let path = self.0.join("room.lock");
        let failed = |error| OpenError::Io(path.clone(), error);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .custom_flags(O_NOFOLLOW)
            .open(&path)
            .map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked(self.0.clone())),
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// Makes the database's file, empty, if it is absent, before SQLite would with the
    /// mode of the process. The files beside it get its mode.
    pub(super) fn make_database(&self) -> Result<(), OpenError> {
        let path = self.database();
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&path)
            // The names of the files must survive a power cut as well.
            .and_then(|_| File::open(&self.0)?.sync_all());
        match made {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => {
                Err(OpenError::Io(path, error))
            }
            _ => Ok(()),
        }
    }

    /// The write-ahead log beside the database, if it cannot belong to it: a backup that
    /// was copied over a database whose server was killed has no log of its own, and
    /// SQLite would add the old one to it. To be asked before a connection is open.
    pub(super) fn stale_wal(&self) -> Result<Option<PathBuf>, OpenError> {
        let wal = self.wal();
        if !fs::metadata(&wal).is_ok_and(|found| found.len() > 0) {
            return Ok(None);
        }
        let path = self.database();
        let mut header = [0; JOURNAL_OFFSET + 1];
        let read = File::open(&path).and_then(|mut file| file.read_exact(&mut header));
        match read {
            Ok(()) => Ok((header.get(JOURNAL_OFFSET) == Some(&JOURNAL_ROLLBACK)).then_some(wal)),
            // Empty, as a start that was killed leaves it: then there was no log yet.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(Some(wal)),
            Err(error) => Err(OpenError::Io(path, error)),
        }
    }

    /// Removes a log that belongs to no database here.
    pub(super) fn remove_stale_wal(&self) -> Result<(), OpenError> {
        let Some(wal) = self.stale_wal()? else {
            return Ok(());
        };
        for path in [wal, self.beside_database("-shm")] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(OpenError::Io(path, error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Which file the database is.
    pub(super) fn database_id(&self) -> Result<FileId, OpenError> {
        let path = self.database();
        let found = fs::symlink_metadata(&path);
        found
            .map(|found| FileId::of(&found))
            .map_err(|error| OpenError::Io(path, error))
    }

    /// Why the database that is open is not the one in this folder, if it is not: what
    /// is committed to a file without a name is lost when the server ends.
    pub(super) fn missing(&self, database: FileId) -> Option<String> {
        let path = self.database();
        let what = match fs::symlink_metadata(&path) {
            Ok(found) if FileId::of(&found) == database => return None,
            Ok(_) => "was replaced by another file".to_owned(),
            Err(error) if error.kind() == ErrorKind::NotFound => "was removed".to_owned(),
            Err(error) => format!("cannot be found ({error})"),
        };
        Some(format!("{} {what} while the server ran", path.display()))
    }

    fn failure(&self) -> PathBuf {
        self.0.join("room.failed")
    }

    /// Leaves a note for the next start that a write or sync has failed: what commits
    /// wrote before may be lost though the machine runs on. As well as the disk can.
    pub(super) fn note_failure(&self) {
        let _ = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(FILE_MODE)
            .custom_flags(O_NOFOLLOW)
            .open(self.failure());
    }

    /// Whether an earlier run has left such a note.
    pub(super) fn has_failed(&self) -> bool {
        fs::symlink_metadata(self.failure()).is_ok()
    }

    /// Removes the note, once its consequence is recorded.
    pub(super) fn forget_failure(&self) {
        let _ = fs::remove_file(self.failure());
    }

    /// Makes the write-ahead log's content durable. SQLite takes no locks on this file,
    /// so it may be opened beside it.
    pub(super) fn sync_wal(&self) -> io::Result<()> {
        File::open(self.wal())?.sync_data()
    }
}
