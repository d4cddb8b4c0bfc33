//! A bad disk: no space, and errors of writes and syncs, by a library that is preloaded
//! into the process that commits (`faults.c`).

use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use chat::store::{NewEpochReason, SyncMode};
use nix::errno::Errno;
use tempfile::TempDir;

use crate::{
    child::{Child, Start, TOLD_MAX, options_of},
    killed::examine_after,
    support::*,
};

/// A folder for the database, and beside it what the library of faults uses.
struct Disk {
    folder: TempDir,
    library: PathBuf,
}

impl Disk {
    fn new() -> Self {
        let folder = folder();
        let library = folder.path().join("faults.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/store/faults.c");
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .status()
            .expect("there is a C compiler");
        assert!(compiled.success());
        fs::create_dir(folder.path().join("data")).expect("ours");
        Self { folder, library }
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// From now on the calls fail.
    fn arm(&self) {
        fs::write(self.folder.path().join("armed"), "").expect("ours");
    }

    fn disarm(&self) {
        let _ = fs::remove_file(self.folder.path().join("armed"));
    }

    /// How long the write-ahead log has become, in pages.
    fn wal_pages(&self) -> u64 {
        let wal = fs::metadata(self.data().join("room.sqlite-wal"));
        wal.expect("a log").len() / 4_120
    }

    /// How many calls have failed.
    fn failures(&self) -> u64 {
        let count = fs::metadata(self.folder.path().join("count"));
        count.map_or(0, |count| count.len())
    }

    /// A child for which `call` on `file` fails with `error` while the disk is armed.
    fn start(&self, sync: SyncMode, call: &str, file: &str, error: Errno) -> Child {
        self.start_slow(sync, call, file, error, 0)
    }

    fn start_slow(
        &self,
        sync: SyncMode,
        call: &str,
        file: &str,
        error: Errno,
        pause_ms: u64,
    ) -> Child {
        let path = |name| self.folder.path().join(name).display().to_string();
        let number = (error as i32).to_string();
        Child::start(&Start {
            dir: &self.data(),
            sync,
            batch: 5,
            pause_ms,
            variables: &[
                ("LD_PRELOAD", &self.library.display().to_string()),
                ("FAULT_CALL", call),
                ("FAULT_FILE", file),
                ("FAULT_ERRNO", &number),
                ("FAULT_ARMED", &path("armed")),
                ("FAULT_COUNT", &path("count")),
            ],
            user: None,
        })
    }
}

/// What a failure may have taken, though the machine runs on.
fn lost(sync: SyncMode) -> Option<NewEpochReason> {
    (sync != SyncMode::Always).then_some(NewEpochReason::MayHaveLost)
}

#[test]
fn a_full_disk_refuses_and_forgets_nothing() {
    let disk = Disk::new();
    let mut child = disk.start(SyncMode::Always, "write", "room.sqlite-wal", Errno::ENOSPC);
    for _ in 0..5 {
        child.wait_for("committed");
        disk.arm();
        let last = child.wait_for("full");
        // The child has made space, and goes on with the very next number.
        assert_eq!(child.wait_for("committed"), last + 5);
    }
    disk.arm();
    let last = child.wait_for("full");
    let told = child.kill().unwrap_or(last);
    disk.disarm();
    assert!(disk.failures() >= 6);
    examine_after(&disk.data(), told, None);
}

#[test]
fn a_disk_too_full_for_a_checkpoint_refuses_nothing() {
    let disk = Disk::new();
    let mut child = disk.start(SyncMode::Always, "write", "room.sqlite", Errno::ENOSPC);
    child.wait_for("opened");
    disk.arm();
    for _ in 0..TOLD_MAX {
        child.wait_for("committed");
        if disk.failures() >= 2 {
            break;
        }
    }
    assert!(disk.failures() >= 2, "there was no checkpoint");
    // The committing thread makes one itself from 16,000 pages on.
    assert!(disk.wal_pages() < 12_000, "it was made late");
    let last = child.wait_for("committed");
    let told = child.kill().unwrap_or(last);
    disk.disarm();
    examine_after(&disk.data(), told, None);
}

#[test]
fn a_failed_write_ends_the_store() {
    for sync in [SyncMode::Always, SyncMode::Off] {
        let disk = Disk::new();
        let mut child = disk.start(sync, "write", "room.sqlite-wal", Errno::EIO);
        child.wait_for("committed");
        disk.arm();
        let last = child.wait_for("failed");
        assert_eq!(child.wait_for("ended"), last);
        child.end();
        disk.disarm();
        examine_after(&disk.data(), last, lost(sync));
        let (_store, kept) = open(&options_of(&disk.data()));
        assert_eq!(kept.new_epoch, None, "a failure counts once");
    }
}

/// Whichever sync fails, that of a commit, of a checkpoint or of `interval`: the store
/// ends, and nothing is synced again.
#[test]
fn a_failed_sync_ends_the_store_and_is_not_tried_again() {
    for (sync, file) in [
        (SyncMode::Always, "room.sqlite-wal"),
        (SyncMode::Always, "room.sqlite"),
        (SyncMode::Interval, "room.sqlite-wal"),
        (SyncMode::Off, "room.sqlite"),
    ] {
        let disk = Disk::new();
        let mut child = disk.start(sync, "sync", file, Errno::EIO);
        child.wait_for("committed");
        disk.arm();
        let last = child.wait_for("failed");
        assert_eq!(child.wait_for("ended"), last, "{sync:?} {file}");
        child.end();
        assert_eq!(disk.failures(), 1, "{sync:?} {file}");
        disk.disarm();
        examine_after(&disk.data(), last, lost(sync));
        let (_store, kept) = open(&options_of(&disk.data()));
        assert_eq!(kept.new_epoch, None, "a failure counts once");
    }
}

#[test]
fn interval_syncs_without_waiting_for_a_checkpoint() {
    let disk = Disk::new();
    let (sync, file) = (SyncMode::Interval, "room.sqlite-wal");
    let mut child = disk.start_slow(sync, "sync", file, Errno::EIO, 20);
    child.wait_for("committed");
    disk.arm();
    child.wait_for("failed");
    // A checkpoint is made from 1,000 pages on.
    assert!(
        disk.wal_pages() < 1_000,
        "it was a checkpoint's sync that failed"
    );
}

#[test]
fn a_folder_that_may_not_be_written_is_refused() {
    let root = folder();
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).expect("ours");
    let dir = root.path().join("data");
    fs::create_dir(&dir).expect("ours");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o555)).expect("ours");
    // Permissions do not bind root.
    let is_root = fs::metadata(&dir).expect("ours").uid() == 0;
    let user = is_root.then_some(65_534);
    let mut child = Child::start(&Start {
        dir: &dir,
        sync: SyncMode::Always,
        batch: 1,
        pause_ms: 0,
        variables: &[],
        user,
    });
    let told = child.told().expect("a sentence");
    assert!(told.contains("Permission denied"), "{told}");
    assert!(
        told.contains("name a folder that this user may write"),
        "{told}"
    );
    assert_eq!(fs::read_dir(&dir).expect("ours").count(), 0);
}
