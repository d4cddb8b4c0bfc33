//! Kept: up to where the store of a node has the order of its cluster. The store is one more
//! that follows the order: it takes each chat once, in the transaction that says up to where
//! it has come. A node that begins again applies records that its store has already, and
//! hands over only what is behind them.

#![cfg_attr(
    not(any(test, feature = "cluster")),
    expect(dead_code, reason = "for a cluster")
)]

use crate::{
    log::Log,
    room::{Change, Place, Room},
    server::archive::Archive,
};

use super::{Hub, State};
#[cfg(feature = "store")]
use crate::store::Piece;

/// After how many bytes of records without a chat the place is written, so that a node of a
/// quiet room is not taken for one that has missed something.
const UNPLACED_BYTES_MAX: u64 = 1 << 20;

/// Up to where the store has the order, with what was handed over.
#[derive(Default)]
pub(super) struct Kept {
    epoch: String,
    place: Place,
    /// The number of the last chat there.
    seq: u64,
    /// The bytes of the records since the place was written.
    unplaced_bytes: u64,
    /// How often the store has begun anew.
    begun: u64,
}

/// The past that a node lacks.
#[cfg(all(feature = "store", feature = "cluster"))]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::server) struct Gap {
    pub(in crate::server) epoch: String,
    /// The oldest chat that it has.
    pub(in crate::server) before_seq: u64,
    /// Up to where it has the order.
    pub(in crate::server) position: u64,
    /// Tells it from the gap of another time.
    pub(in crate::server) begun: u64,
}

impl Kept {
    /// Has `room`, which is about to go on behind a position, kept where the store is. Returns
    /// what the store has to do for that.
    fn follow(&mut self, room: &mut Room, oldest_seq: u64, position: u64) -> Vec<Change> {
        if self.epoch == room.epoch() && self.place.position >= position {
            room.keep_changes(oldest_seq);
            return Vec::new();
        }
        let (epoch, seq) = (room.epoch().to_owned(), room.seq());
        room.keep_changes(seq + 1);
        let place = Place {
            position,
            record: String::new(),
        };
        *self = Self {
            epoch: epoch.clone(),
            place: place.clone(),
            seq,
            unplaced_bytes: 0,
            begun: self.begun + 1,
        };
        vec![Change::Began { epoch, seq }, Change::Placed(place)]
    }

    /// What the store has to keep of `changes`, which the record at `place` has made.
    fn keep(
        &mut self,
        mut changes: Vec<Change>,
        (place, bytes): (Place, u64),
        seq: u64,
    ) -> Vec<Change> {
        if place.position <= self.place.position {
            return Vec::new();
        }
        (self.place, self.seq) = (place, seq);
        self.unplaced_bytes += bytes;
        changes.retain_mut(|change| match change {
            Change::Chat { sent_by, .. } => {
                *sent_by = None;
                true
            }
            Change::Removed(_) => true,
            // Checkpoints have lines, ids and owners.
            _ => false,
        });
        if !changes.is_empty() || self.unplaced_bytes >= UNPLACED_BYTES_MAX {
            self.unplaced_bytes = 0;
            changes.push(Change::Placed(self.place.clone()));
        }
        changes
    }
}

impl State {
    /// Takes another room, which goes on behind a position of the order.
    pub(super) fn follow(&mut self, archive: &Archive, room: &mut Room, position: u64) {
        let oldest_seq = self.room.oldest_seq();
        let changes = self.kept.follow(room, oldest_seq, position);
        archive.push(changes, self.log.end(), None, None);
    }

    /// A record was applied: hands what the store lacks of it over.
    pub(super) fn keep(&mut self, archive: &Archive, applied: Option<(Place, u64)>) {
        let changes = self.room.take_changes();
        let changes = match applied {
            Some(applied) => self.kept.keep(changes, applied, self.room.seq()),
            None => Vec::new(),
        };
        archive.push(changes, self.log.end(), None, None);
    }
}

impl Hub {
    /// The room is that of a cluster up to `place`, as the store says.
    #[cfg(feature = "store")]
    pub(in crate::server) fn set_kept(&self, place: Place) {
        let mut state = self.lock();
        state.kept = Kept {
            epoch: state.room.epoch().to_owned(),
            place,
            seq: state.room.seq(),
            unplaced_bytes: 0,
            begun: 0,
        };
    }

    /// Up to where the store has the order in an epoch, and the number of the last chat
    /// there; `None` if it has nothing of it.
    pub(in crate::server) fn kept_of(&self, epoch: &str) -> Option<(Place, u64)> {
        let kept = &self.lock().kept;
        let is_of_it = self.archive.is_some() && kept.epoch == epoch;
        is_of_it.then(|| (kept.place.clone(), kept.seq))
    }

    /// The past before the oldest chat, which the store may lack; `None` if there is none.
    #[cfg(all(feature = "store", feature = "cluster"))]
    pub(in crate::server) fn gap(&self) -> Option<Gap> {
        let State { kept, room, .. } = &*self.lock();
        let is_gap = room.oldest_seq() > 1 && kept.epoch == room.epoch();
        is_gap.then(|| Gap {
            epoch: kept.epoch.clone(),
            before_seq: room.oldest_seq(),
            position: kept.place.position,
            begun: kept.begun,
        })
    }

    /// The store has taken chats of a piece, from the number `oldest_seq` on.
    #[cfg(feature = "store")]
    pub(in crate::server) fn past_taken(&self, piece: &Piece, oldest_seq: u64) {
        let State { room, sessions, .. } = &mut *self.lock();
        let last = piece.chats.last().map_or(0, |chat| chat.seq);
        // The order may have begun another epoch since, or gone on behind another gap.
        if room.epoch() != piece.epoch || !room.past_found(last + 1, oldest_seq) {
            return;
        }
        let removed = self.archive.as_ref().map(|it| it.removed_soon());
        let removed = removed.unwrap_or_default();
        let chats = piece.chats.iter();
        for chat in chats.filter(|it| it.seq >= oldest_seq && !removed.contains(&it.seq)) {
            sessions.chat_restored(chat);
        }
    }

    /// The number of the last chat.
    pub(in crate::server) fn room_seq(&self) -> u64 {
        self.lock().room.seq()
    }

    /// The epoch of the room.
    pub(in crate::server) fn epoch(&self) -> String {
        self.lock().room.epoch().to_owned()
    }

    /// Whether so much waits for the disk that the order has to wait.
    pub(in crate::server) fn is_store_behind(&self) -> bool {
        self.archive.as_ref().is_some_and(|it| it.is_behind())
    }

    /// Whether the disk has no space.
    pub(in crate::server) fn is_store_full(&self) -> bool {
        self.lock().sessions.is_store_full()
    }

    /// No record follows: has the store told up to where it has come.
    #[cfg(feature = "store")]
    pub(in crate::server) fn keep_place(&self) {
        let state = self.lock();
        if let (Some(archive), true) = (&self.archive, state.kept.place.position > 0) {
            let placed = Change::Placed(state.kept.place.clone());
            archive.push(vec![placed], state.log.end(), None, None);
        }
    }

    /// Up to where of the log the past is on the disk.
    pub(super) fn kept_end(&self, archive: &Archive, log: &Log) -> u64 {
        match self.is_clustered() {
            true => archive.committed_end(),
            false => log.committed_end(),
        }
    }
}
