//! The wait of the senders for the room to catch up (CHAT-LIM-6): whether it is on,
//! and the little that is read from each of them meanwhile. [`pressure`] says when.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use super::pressure;

/// In how much time after a pause all is read that gathered, in milliseconds: many
/// times what it takes. Pauses with less between them count as one.
const CATCH_UP_MS: u64 = 1_000;

/// Shared by all connections, and read without a lock.
#[derive(Debug)]
pub(super) struct Pause {
    lag_bytes_max: u64,
    /// Members are not to be read from, but for a little of each.
    is_on: AtomicBool,
    /// From when to when what came may have gathered unread, in milliseconds of the
    /// room's clock.
    began_ms: AtomicU64,
    caught_up_ms: AtomicU64,
    /// How far the log may grow from that little, as a position.
    trickle_end: AtomicU64,
    /// How many ticks there have been. It wraps: once in a while somebody waits two
    /// ticks for nothing.
    ticks: AtomicU8,
}

/// When one member was last read from during a pause, in ticks.
#[derive(Debug, Default)]
pub(super) struct Trickle(AtomicU8);

impl Pause {
    pub(super) fn new(lag_bytes_max: u64) -> Self {
        Self {
            lag_bytes_max,
            is_on: AtomicBool::new(false),
            began_ms: AtomicU64::new(0),
            caught_up_ms: AtomicU64::new(0),
            trickle_end: AtomicU64::new(0),
            ticks: AtomicU8::new(0),
        }
    }

    /// Whether members are not to be read from for now, but for what
    /// [`Pause::may_trickle`] allows.
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    /// Begins, when the log ends at `end`.
    pub(super) fn begin(&self, now_ms: u64, end: u64) {
        self.allow_trickle(end);
        if self.is_caught_up_with(now_ms) {
            self.began_ms.store(now_ms, Ordering::Relaxed);
        }
        self.is_on.store(true, Ordering::Release);
    }

    /// Ends. Returns whether it was on.
    pub(super) fn end(&self, now_ms: u64) -> bool {
        self.caught_up_ms
            .store(now_ms + CATCH_UP_MS, Ordering::Relaxed);
        self.is_on.swap(false, Ordering::AcqRel)
    }

    /// Since when what is read now may have waited to be read (CHAT-LIM-2).
    pub(super) fn waiting_since_ms(&self, now_ms: u64) -> u64 {
        if self.is_on() || !self.is_caught_up_with(now_ms) {
            self.began_ms.load(Ordering::Relaxed)
        } else {
            now_ms
        }
    }

    /// Whether all is read that gathered in the last pause, once that is over.
    fn is_caught_up_with(&self, now_ms: u64) -> bool {
        now_ms >= self.caught_up_ms.load(Ordering::Relaxed)
    }

    /// A tick has passed, and the log ends at `end`.
    pub(super) fn tick(&self, end: u64) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
        if self.is_on() {
            // What was not used is not saved; what was too much is made up for.
            self.allow_trickle(self.trickle_end.load(Ordering::Relaxed).min(end));
        }
    }

    /// Lets the log grow, from `position` on, by what may be read in a tick.
    fn allow_trickle(&self, position: u64) {
        let more_bytes = pressure::trickle_bytes(self.lag_bytes_max);
        self.trickle_end
            .store(position + more_bytes, Ordering::Relaxed);
    }

    /// Whether a little may be read from a member while the log ends at `end`: so who
    /// says little is not held up by those who say more than the room can take.
    pub(super) fn may_trickle(&self, trickle: &Trickle, end: u64) -> bool {
        let ticks = self.ticks.load(Ordering::Relaxed);
        ticks.wrapping_sub(trickle.0.load(Ordering::Relaxed)) >= pressure::TRICKLE_TICKS
            && end < self.trickle_end.load(Ordering::Relaxed)
    }

    /// A little was read from a member.
    pub(super) fn trickled(&self, trickle: &Trickle) {
        let ticks = self.ticks.load(Ordering::Relaxed);
        trickle.0.store(ticks, Ordering::Relaxed);
    }
}
