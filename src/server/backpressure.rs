//! Backpressure: pauses reading from senders while the room catches up (CHAT-LIM-6),
//! except for a small quota each. [`slow_consumer`](super::slow_consumer) says when.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};

use super::slow_consumer::SLOW_ROOM_TICKS;

/// How many ticks apart a member is read from during a pause, and how much is read
/// then, in bytes: more than a person types, less than a program that has much to say.
const PAUSED_QUOTA_TICKS: u8 = 2;
pub(super) const PAUSED_READ_BYTES: usize = 512;

/// How exactly it is known since when something waits to be read, in milliseconds.
const BLOCKED_STEP_MS: u64 = 100;

/// Shared by all connections, and read without a lock.
#[derive(Debug)]
pub(super) struct ReadPause {
    lag_bytes_max: u64,
    /// The server does not read from members, except for a small quota each.
    is_on: AtomicBool,
    /// How far the log may grow from those quotas, as a position.
    quota_end: AtomicU64,
    /// How many ticks there have been. It wraps: once in a while a member waits two
    /// ticks for nothing.
    ticks: AtomicU8,
}

/// When one member was last read from during a pause, in ticks.
#[derive(Debug, Default)]
pub(super) struct PausedReadQuota(AtomicU8);

/// Since when what one member sends has waited to be read, if it does: in steps of
/// [`BLOCKED_STEP_MS`], from 1 on. These are four bytes that there is room for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ReadBlockedSince(Option<NonZeroU32>);

impl ReadPause {
    pub(super) fn new(lag_bytes_max: u64) -> Self {
        Self {
            lag_bytes_max,
            is_on: AtomicBool::new(false),
            quota_end: AtomicU64::new(0),
            ticks: AtomicU8::new(0),
        }
    }

    /// Whether the server does not read from members for now, except for what
    /// [`ReadPause::has_quota`] allows.
    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    /// Begins, when the log ends at `end`.
    pub(super) fn begin(&self, end: u64) {
        self.grant_quota(end);
        self.is_on.store(true, Ordering::Release);
    }

    /// Ends. Returns whether it was on.
    pub(super) fn end(&self) -> bool {
        self.is_on.swap(false, Ordering::AcqRel)
    }

    /// A tick has passed, and the log ends at `end`.
    pub(super) fn tick(&self, end: u64) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
        if self.is_on() {
            // What was not used is not saved; what was too much is made up for.
            self.grant_quota(self.quota_end.load(Ordering::Relaxed).min(end));
        }
    }

    /// Lets the log grow, from `position` on, by what may be read in a tick: in the
    /// longest pause, by a quarter of what it may hold. The pause begins at half, so
    /// nobody who is waited for falls out of reach meanwhile.
    fn grant_quota(&self, position: u64) {
        let more_bytes = (self.lag_bytes_max / 4 / u64::from(SLOW_ROOM_TICKS)).max(1);
        self.quota_end
            .store(position + more_bytes, Ordering::Relaxed);
    }

    /// Whether a little may be read from a member while the log ends at `end`: a member
    /// that says little is not held up by others that say more than the room can take.
    pub(super) fn has_quota(&self, quota: &PausedReadQuota, end: u64) -> bool {
        let ticks = self.ticks.load(Ordering::Relaxed);
        ticks.wrapping_sub(quota.0.load(Ordering::Relaxed)) >= PAUSED_QUOTA_TICKS
            && end < self.quota_end.load(Ordering::Relaxed)
    }

    /// A little was read from a member.
    pub(super) fn use_quota(&self, quota: &PausedReadQuota) {
        let ticks = self.ticks.load(Ordering::Relaxed);
        quota.0.store(ticks, Ordering::Relaxed);
    }
}

impl ReadBlockedSince {
    /// What is sent waits from now on, unless it did before.
    pub(super) fn begin(&mut self, now_ms: impl FnOnce() -> u64) {
        self.0.get_or_insert_with(|| {
            let steps = u32::try_from(now_ms() / BLOCKED_STEP_MS).unwrap_or(u32::MAX);
            NonZeroU32::MIN.saturating_add(steps)
        });
    }

    /// All that was sent has been read.
    pub(super) fn end(&mut self) {
        self.0 = None;
    }

    /// Since when it has waited, in milliseconds; `now_ms` if it does not.
    pub(super) fn since_ms(&self, now_ms: u64) -> u64 {
        let Some(steps) = self.0 else {
            return now_ms;
        };
        (u64::from(steps.get() - 1) * BLOCKED_STEP_MS).min(now_ms)
    }
}
