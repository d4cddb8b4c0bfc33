//! Pacing: the suite keeps to the rate that the server announced, so that no case about
//! another rule is refused with RATE_LIMITED.

use std::time::{Duration, Instant};

use crate::{timing::announced, transcript::expr::Limits};

/// How much slower than allowed the suite sends after a burst, in percent: chats that
/// were sent evenly may arrive bunched.
const SLACK_PERCENT: u32 = 25;

/// The chats that one connection may still send.
pub struct Pace {
    tokens: u64,
    last: Instant,
}

impl Pace {
    /// Of a member that has been silent for long enough.
    pub fn new(limits: &Limits) -> Self {
        Self {
            tokens: limits.get("chat_burst"),
            last: Instant::now(),
        }
    }

    /// Counts one chat, and says how long to wait before it; [`Pace::sent`] is told
    /// when it is out.
    pub fn pause(&mut self, limits: &Limits) -> Duration {
        let interval = announced(limits.get("chat_interval_ms"));
        if interval.is_zero() {
            return Duration::ZERO;
        }
        if self.tokens > 0 {
            self.tokens -= 1;
            self.last = Instant::now();
            return Duration::ZERO;
        }
        let due = self.last + interval * (100 + SLACK_PERCENT) / 100;
        let pause = due.saturating_duration_since(Instant::now());
        self.last = Instant::now() + pause;
        pause
    }

    /// The last byte of a chat went out: a frame that is written byte by byte takes a
    /// while, and a server counts it when it is whole.
    pub fn sent(&mut self) {
        self.last = Instant::now();
    }
}
