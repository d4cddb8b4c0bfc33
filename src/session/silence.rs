//! Silence: since when no frame has arrived from a member, and the Pings since then.

use std::num::NonZeroU32;

use crate::limits::Limits;

use super::Progress;

/// How long the server waits for the answer to a Ping before it ends the session, in
/// milliseconds, if the limits leave that much time.
const ANSWER_MS_MAX: u32 = 10_000;

/// The silence of a member: since when no frame has arrived, and the Pings since then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Silence {
    since_ms: u64,
    /// How long after that the first Ping was sent, in milliseconds; 0 before it.
    first_ping_after_ms: u32,
    /// The same for the last one.
    last_ping_after_ms: u32,
    /// How many bytes had been written when the first Ping was, in the low 32 bits, until
    /// they have arrived; `None` where the transport does not tell.
    unarrived: Option<NonZeroU32>,
}

impl Silence {
    /// A silence that begins now.
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            since_ms: now_ms,
            first_ping_after_ms: 0,
            last_ping_after_ms: 0,
            unarrived: None,
        }
    }

    /// How long it has lasted, in milliseconds.
    pub(super) fn ms(&self, now_ms: u64) -> u32 {
        // u32::MAX is longer than any deadline.
        u32::try_from(now_ms.saturating_sub(self.since_ms)).unwrap_or(u32::MAX)
    }

    /// A Ping is sent.
    pub(super) fn note_ping(&mut self, now_ms: u64, progress: Option<Progress>) {
        self.last_ping_after_ms = self.ms(now_ms);
        if self.first_ping_after_ms == 0 {
            self.first_ping_after_ms = self.last_ping_after_ms;
            let written = progress.map(|progress| progress.written_bytes as u32 | 1);
            self.unarrived = written.and_then(NonZeroU32::new);
        }
    }

    /// Lets the time to answer begin when the first Ping has arrived: behind a full queue
    /// of the network that takes a while. A peer that is gone does not acknowledge, and
    /// the transport gives up on it.
    pub(super) fn note_progress(&mut self, now_ms: u64, progress: Option<Progress>) {
        if let (Some(written), Some(progress)) = (self.unarrived, progress) {
            // Less than 2 GiB lie between the two.
            let is_behind =
                (progress.acked_bytes as u32).wrapping_sub(written.get()) > u32::MAX / 2;
            match is_behind {
                true => self.first_ping_after_ms = self.ms(now_ms),
                false => self.unarrived = None,
            }
        }
    }

    /// Whether it has lasted for the deadline, and the first Ping since then had time to
    /// be answered. So a server that was suspended pings before it ends a session.
    pub(super) fn is_over(&self, now_ms: u64, limits: &Limits) -> bool {
        let (interval_ms, deadline_ms) = (limits.keepalive_interval_ms, limits.idle_deadline_ms);
        let answer_ms = (deadline_ms.saturating_sub(interval_ms) / 2).min(ANSWER_MS_MAX);
        let (ms, first_ping_after_ms) = (self.ms(now_ms), self.first_ping_after_ms);
        ms >= deadline_ms
            && first_ping_after_ms > 0
            && ms.saturating_sub(first_ping_after_ms) >= answer_ms
    }

    /// Whether it is time for the first Ping, or for another one.
    pub(super) fn is_ping_due(&self, now_ms: u64, limits: &Limits) -> bool {
        self.ms(now_ms).saturating_sub(self.last_ping_after_ms) >= limits.keepalive_interval_ms
    }

    /// Whether it is over, a Ping is due, or the first one has perhaps arrived.
    pub(super) fn is_due(&self, now_ms: u64, limits: &Limits) -> bool {
        self.unarrived.is_some() || self.is_over(now_ms, limits) || self.is_ping_due(now_ms, limits)
    }
}
