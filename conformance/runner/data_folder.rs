//! Data folder: the folder in which a server under test keeps its room. It goes with the
//! server, and with the run when a signal ends that.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tempfile::TempDir;

/// The folders that are in use.
struct Folders {
    in_use: BTreeSet<PathBuf>,
    /// Whether the run has ended: no more are made.
    is_closed: bool,
}

static FOLDERS: Mutex<Folders> = Mutex::new(Folders {
    in_use: BTreeSet::new(),
    is_closed: false,
});

fn folders() -> MutexGuard<'static, Folders> {
    // A set of paths is whole after a panic too.
    FOLDERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A new folder, removed when it is dropped.
pub struct DataFolder(TempDir);

impl DataFolder {
    /// Makes one.
    pub fn new() -> Result<Self, String> {
        // Locked until it is one of those that a signal removes.
        let mut folders = folders();
        if folders.is_closed {
            return Err("the run has ended".to_owned());
        }
        let folder = tempfile::Builder::new()
            .prefix("chat-conformance-")
            .tempdir()
            .map_err(|e| format!("the suite cannot make a folder for the server: {e}"))?;
        folders.in_use.insert(folder.path().to_owned());
        Ok(Self(folder))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for DataFolder {
    fn drop(&mut self) {
        folders().in_use.remove(self.0.path());
    }
}

/// Removes every folder that is in use, when nothing is dropped any more.
pub fn remove_all() {
    let mut folders = folders();
    folders.is_closed = true;
    for folder in &folders.in_use {
        let _ = fs::remove_dir_all(folder);
    }
}
