//! Past: chats that a node of a cluster has missed, on their way from another node to the
//! store. The other node may not know yet of a removal that this one has carried out, so the
//! writer keeps the newest ones in mind (CHAT-MOD-8).

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::Archive;
use crate::{
    room,
    store::{Change, Piece, Taken},
};

/// How many removals are kept in mind. A node that gives chats is behind this one by some
/// milliseconds, in which an operator removes a few.
const REMOVALS_MAX: usize = 1_024;

/// A piece that is to be kept, and where to say what has become of it.
pub(in crate::server) struct Offered {
    pub(in crate::server) piece: Piece,
    pub(in crate::server) done: oneshot::Sender<Kept>,
}

/// What has become of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum Kept {
    /// It was taken, as far as the bounds allow.
    Taken(Taken),
    /// It does not end right before the oldest chat any more.
    Unfit,
    /// It is so old that texts in it may have been removed since.
    Old,
    /// The disk has no space.
    NoSpace,
}

/// The newest removals of the order of a cluster.
pub(super) struct Removals {
    /// All are known that stand behind this position.
    since: u64,
    /// Where each stands in the order, and what it removes.
    newest: VecDeque<(u64, u64)>,
}

impl Removals {
    pub(super) fn new(since: u64) -> Self {
        Self {
            since,
            newest: VecDeque::new(),
        }
    }

    /// These changes were committed.
    pub(super) fn note(&mut self, changes: &[Change]) {
        let mut removed = Vec::new();
        let mut has_begun = false;
        for change in changes {
            match change {
                Change::Began { .. } => {
                    self.newest.clear();
                    removed.clear();
                    has_begun = true;
                }
                Change::Removed(seq) => removed.push(*seq),
                Change::Placed(place) => {
                    if std::mem::take(&mut has_begun) {
                        self.since = place.position;
                    }
                    let placed = removed.drain(..).map(|seq| (place.position, seq));
                    self.newest.extend(placed);
                }
                _ => {}
            }
        }
        while self.newest.len() > REMOVALS_MAX {
            if let Some((position, _)) = self.newest.pop_front() {
                self.since = position;
            }
        }
    }

    /// Takes those texts out of a piece that were removed since. Returns whether all of them
    /// are known.
    pub(super) fn apply_to(&self, piece: &mut Piece) -> bool {
        for (position, seq) in &self.newest {
            if *position > piece.position
                && let Ok(index) = piece.chats.binary_search_by_key(seq, |chat| chat.seq)
                && let Some(chat) = piece.chats.get_mut(index)
            {
                chat.removed = true;
                chat.text.clear();
                chat.files.clear();
            }
        }
        piece.position >= self.since
    }
}

impl Archive {
    /// Has a piece kept. One that is not taken yet is dropped.
    #[cfg(feature = "cluster")]
    pub(in crate::server) fn offer_past(&self, offered: Offered) {
        self.changes().past = Some(offered);
        self.changed.notify_one();
    }

    /// The chats of which the writer does not know yet that they are removed.
    pub(in crate::server) fn removed_soon(&self) -> Vec<u64> {
        let pending = self.changes();
        let removed = pending.changes.iter().filter_map(|change| match change {
            room::Change::Removed(seq) => Some(*seq),
            _ => None,
        });
        removed.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{store::Place, wire};

    fn piece(position: u64) -> Piece {
        let chat = |seq| wire::Chat {
            seq,
            text: "text".to_owned(),
            ..wire::Chat::default()
        };
        Piece {
            epoch: "life".to_owned(),
            position,
            chats: (1..=5).map(chat).collect(),
        }
    }

    fn removed(seq: u64, position: u64) -> [Change; 2] {
        let record = String::new();
        [
            Change::Removed(seq),
            Change::Placed(Place { position, record }),
        ]
    }

    /// The numbers of the chats that have a text; `None` if more may be removed.
    fn with_text(removals: &Removals, position: u64) -> Option<Vec<u64>> {
        let mut piece = piece(position);
        removals.apply_to(&mut piece).then(|| {
            let chats = piece.chats.iter().filter(|chat| !chat.removed);
            chats.map(|chat| chat.seq).collect()
        })
    }

    #[test]
    fn what_was_removed_behind_the_giver_is_removed() {
        let mut removals = Removals::new(10);
        removals.note(&removed(2, 20));
        removals.note(&[removed(4, 30), removed(9, 31)].concat());
        assert_eq!(with_text(&removals, 9), None);
        assert_eq!(with_text(&removals, 10), Some(vec![1, 3, 5]));
        assert_eq!(with_text(&removals, 20), Some(vec![1, 2, 3, 5]));
        assert_eq!(with_text(&removals, 31), Some(vec![1, 2, 3, 4, 5]));
    }

    #[test]
    fn removals_that_are_not_kept_in_mind_are_not_taken_for_none() {
        let mut removals = Removals::new(10);
        for position in 11..=11 + REMOVALS_MAX as u64 {
            removals.note(&removed(1_000, position));
        }
        assert_eq!(removals.newest.len(), REMOVALS_MAX);
        assert_eq!(with_text(&removals, 10), None);
        assert!(with_text(&removals, 11).is_some());
        // Behind a gap of the order nobody knows what was removed in it.
        let (epoch, seq) = ("life".to_owned(), 900);
        let place = removed(0, 5_000)[1].clone();
        removals.note(&[Change::Began { epoch, seq }, place]);
        assert_eq!(with_text(&removals, 4_999), None);
        assert!(with_text(&removals, 5_000).is_some());
    }
}
