//! Backpressure: pauses reading from senders while slow readers catch up (CHAT-LIM-6),
//! except for a small quota each. The slow-consumer policy
//! ([`slow_consumer`](super::slow_consumer)) decides when.

use std::{
    num::NonZeroU32,
    sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
};

use super::slow_consumer::SLOW_ROOM_TICKS;

/// How many ticks apart the server reads from one member during a pause.
const PAUSED_QUOTA_TICKS: u8 = 2;

/// How much the server reads then, in bytes: more than a person types, less than a
/// program that has much to say.
pub(super) const PAUSED_READ_BYTES: usize = 512;

/// The resolution of [`ReadBlockedSince`], in milliseconds.
const BLOCKED_STEP_MS: u64 = 100;

/// The read pause: shared by all connections, and read without a lock.
#[derive(Debug)]
pub(super) struct ReadPause {
    lag_bytes_max: u64,
    /// The server does not read from members, except for a small quota each.
    is_on: AtomicBool,
    /// How far the log may grow from those quotas, as a position.
    quota_end: AtomicU64,
    /// How many ticks have passed. The number wraps, so now and then a member waits for
    /// its quota two ticks longer than it must.
    ticks: AtomicU8,
}

/// When the server last read from one member during a pause, in ticks.
#[derive(Debug, Default)]
pub(super) struct PausedReadQuota(AtomicU8);

/// Since when one member's bytes have waited to be read, if they do: in steps of
/// [`BLOCKED_STEP_MS`], counted from 1, so that it fits into four bytes.
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

    /// Begins the pause while the log ends at `end`.
    pub(super) fn begin(&self, end: u64) {
        self.grant_quota(end);
        self.is_on.store(true, Ordering::Release);
    }

    /// Ends the pause. Returns whether it was on.
    pub(super) fn end(&self) -> bool {
        self.is_on.swap(false, Ordering::AcqRel)
    }

    /// Counts a tick. The log ends at `end`.
    pub(super) fn tick(&self, end: u64) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
        if self.is_on() {
            // An unused quota is lost; an overdrawn one is subtracted from the next.
            self.grant_quota(self.quota_end.load(Ordering::Relaxed).min(end));
        }
    }

    /// Lets the log grow by the quotas of one tick, from `position` on. Over the longest
    /// pause that is a quarter of what the log may hold. The pause begins at half, so no
    /// member for which the senders wait falls out of reach meanwhile.
    fn grant_quota(&self, position: u64) {
        let more_bytes = (self.lag_bytes_max / 4 / u64::from(SLOW_ROOM_TICKS)).max(1);
        self.quota_end
            .store(position + more_bytes, Ordering::Relaxed);
    }

    /// Whether the server may read a quota from a member while the log ends at `end`. So
    /// a member that says little does not wait for others that say more than the room
    /// can take.
    pub(super) fn has_quota(&self, quota: &PausedReadQuota, end: u64) -> bool {
        let ticks = self.ticks.load(Ordering::Relaxed);
        ticks.wrapping_sub(quota.0.load(Ordering::Relaxed)) >= PAUSED_QUOTA_TICKS
            && end < self.quota_end.load(Ordering::Relaxed)
    }

    /// The server has read a quota from a member.
    pub(super) fn use_quota(&self, quota: &PausedReadQuota) {
        let ticks = self.ticks.load(Ordering::Relaxed);
        quota.0.store(ticks, Ordering::Relaxed);
    }
}

impl ReadBlockedSince {
    /// The member's bytes wait from now on, unless they waited before.
    pub(super) fn begin(&mut self, now_ms: impl FnOnce() -> u64) {
        self.0.get_or_insert_with(|| {
            let steps = u32::try_from(now_ms() / BLOCKED_STEP_MS).unwrap_or(u32::MAX);
            NonZeroU32::MIN.saturating_add(steps)
        });
    }

    /// The server has read everything that has arrived.
    pub(super) fn end(&mut self) {
        self.0 = None;
    }

    /// Since when bytes have waited, in milliseconds; `now_ms` if none wait.
    pub(super) fn since_ms(&self, now_ms: u64) -> u64 {
        let Some(steps) = self.0 else {
            return now_ms;
        };
        (u64::from(steps.get() - 1) * BLOCKED_STEP_MS).min(now_ms)
    }
}
