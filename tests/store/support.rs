//! Folders, stores and chats for the tests.

use std::path::{Path, PathBuf};

use chat::{
    store::{Change, Keep, Kept, Line, Options, Owner, Page, Store, StoreReader, SyncMode},
    wire::Chat,
};
use tempfile::TempDir;

/// When the tests take place.
pub const NOW: i64 = 1_800_000_000_000;

pub const DAY_MS: i64 = 86_400_000;

pub fn folder() -> TempDir {
    tempfile::tempdir().expect("a place for files")
}

pub fn database(dir: &Path) -> PathBuf {
    dir.join("room.sqlite")
}

/// Options for a store in `dir`, on the boot "boot", whose next epoch is "next".
pub fn options(dir: &Path) -> Options {
    Options {
        dir: dir.to_owned(),
        keep: Keep::default(),
        sync: SyncMode::Always,
        sent_ids_max: 4,
        epoch_if_new: "next".to_owned(),
        boot_id: Some("boot".to_owned()),
        now_unix_ms: NOW,
        follows_cluster: false,
    }
}

#[track_caller]
pub fn open(options: &Options) -> (Store, Kept) {
    Store::open(options).expect("it opens")
}

/// The chat of a number, which follows from it.
pub fn chat(seq: u64) -> Chat {
    Chat {
        seq,
        time_unix_ms: NOW + seq.cast_signed(),
        sender: format!("sender{}", seq % 7),
        text: format!("text {seq} {}", "ä".repeat((seq % 50) as usize)),
        ..Chat::default()
    }
}

pub fn accepted(seq: u64) -> Change {
    Change::Chat {
        chat: chat(seq),
        sent_by: None,
    }
}

/// A line with one token.
pub fn line(id: u64) -> Line {
    Line {
        id,
        name: format!("line{id}"),
        tokens: vec![[id as u8; 16]],
        attempt: 3,
        began_seq: 0,
        seen_unix_ms: NOW,
        sent: Vec::new(),
    }
}

/// A name and the key that owns it.
pub fn owner(name: &str, key: u8) -> Owner {
    Owner {
        name: name.to_owned(),
        key: [key; 32],
        used_unix_ms: NOW,
    }
}

#[track_caller]
pub fn commit(store: &mut Store, changes: &[Change]) {
    store.commit(changes).expect("it commits");
}

/// Commits the chats `from` to `to`, some to a commit.
#[track_caller]
pub fn commit_chats(store: &mut Store, from: u64, to: u64) {
    let changes: Vec<_> = (from..=to).map(accepted).collect();
    for changes in changes.chunks(7) {
        commit(store, changes);
    }
}

/// All chats that are kept.
#[track_caller]
pub fn all(reader: &StoreReader) -> Page {
    reader
        .page_after(0, usize::MAX, usize::MAX)
        .expect("a page")
}
