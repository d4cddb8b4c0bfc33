//! The disk, as a list: what is committed, and what of that a crash of the machine takes.

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;

use crate::{
    name::Name,
    room::{Change, Line, LineId, Owner, Sent as SentChat},
    wire::Chat,
};

/// How commits reach the disk (`--sync`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    Always,
    Interval,
    Off,
}

/// What is on a disk.
#[derive(Default, Clone)]
pub(super) struct Kept {
    pub(super) chats: VecDeque<Chat>,
    /// The number of the last chat, kept or not.
    pub(super) seq: u64,
    pub(super) lines: BTreeMap<LineId, Line>,
    pub(super) sent: BTreeMap<LineId, VecDeque<SentChat>>,
    pub(super) owners: BTreeMap<Name, Owner>,
}

/// The disk of one server.
pub(super) struct Disk {
    sync: Sync,
    /// How many chats are kept.
    chats_max: usize,
    /// How often the machine has crashed and may have lost something.
    epoch: u32,
    /// What the process reads.
    pub(super) kept: Kept,
    /// What a crash of the machine leaves for certain, and the commits since.
    synced: Kept,
    unsynced: VecDeque<Vec<Change>>,
}

impl Kept {
    /// The number of the oldest chat; that of the next one if there is none.
    pub(super) fn oldest_seq(&self) -> u64 {
        self.chats.front().map_or(self.seq + 1, |chat| chat.seq)
    }

    pub(super) fn chat(&self, seq: u64) -> Option<&Chat> {
        let index = seq.checked_sub(self.oldest_seq())?;
        self.chats.get(index as usize)
    }

    fn apply(&mut self, changes: &[Change], chats_max: usize) {
        for change in changes {
            match change.clone() {
                Change::Chat { chat, sent_by } => {
                    if let Some((line, id)) = sent_by {
                        self.sent.entry(line).or_default().push_back(SentChat {
                            id,
                            seq: chat.seq,
                            time_unix_ms: chat.time_unix_ms,
                        });
                    }
                    self.seq += 1;
                    assert_eq!(chat.seq, self.seq, "CHAT-ORD-1");
                    self.chats.push_back(chat);
                }
                Change::Removed(seq) => {
                    for chat in self.chats.iter_mut().filter(|chat| chat.seq == seq) {
                        chat.text.clear();
                        chat.removed = true;
                    }
                }
                Change::Line(id, line) => {
                    self.lines.insert(id, *line);
                }
                Change::LineEnded(id) => {
                    self.lines.remove(&id);
                    self.sent.remove(&id);
                }
                Change::Owned(name, owner) => {
                    self.owners.insert(name, owner);
                }
                Change::Disowned(name) => {
                    self.owners.remove(&name);
                }
                Change::Began { .. } | Change::Placed(_) => panic!("there is no cluster"),
            }
        }
        while self.chats.len() > chats_max {
            self.chats.pop_front();
        }
    }
}

impl Disk {
    pub(super) fn new(sync: Sync, chats_max: usize) -> Self {
        Self {
            sync,
            chats_max,
            epoch: 0,
            kept: Kept::default(),
            synced: Kept::default(),
            unsynced: VecDeque::new(),
        }
    }

    pub(super) fn epoch(&self) -> String {
        format!("epoch{}", self.epoch)
    }

    pub(super) fn commit(&mut self, changes: Vec<Change>) {
        self.kept.apply(&changes, self.chats_max);
        self.unsynced.push_back(changes);
        if self.sync == Sync::Always {
            self.write(self.unsynced.len());
        }
    }

    /// About once a second, or when the system likes to.
    pub(super) fn time_passes(&mut self, rng: &mut Rng) {
        let all = self.unsynced.len();
        self.write(match self.sync {
            Sync::Off => rng.usize(0..=all),
            Sync::Always | Sync::Interval => all,
        });
    }

    /// The machine crashes: a part of what was not synced may have been written. Returns
    /// whether something is lost.
    pub(super) fn crash(&mut self, rng: &mut Rng) -> bool {
        self.write(rng.usize(0..=self.unsynced.len()));
        let has_lost = !self.unsynced.is_empty();
        self.unsynced.clear();
        if self.sync != Sync::Always {
            // Members may know numbers that will be given again (src/store/epoch.rs).
            self.epoch += 1;
            self.synced.lines.clear();
            self.synced.sent.clear();
        }
        self.kept = self.synced.clone();
        has_lost
    }

    fn write(&mut self, commits: usize) {
        for changes in self.unsynced.drain(..commits) {
            self.synced.apply(&changes, self.chats_max);
        }
    }
}
