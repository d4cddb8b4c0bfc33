//! How fast to send: a token bucket on the client's side that stays inside the
//! one the server announced. Pure: the time is an argument.

use std::time::{Duration, Instant};

/// Spreads chats over time so that the server has no reason to refuse one.
///
/// It holds half of the announced burst (CHAT-LIM-2): chats that were sent at
/// their due times can arrive closer together than that, and the other half
/// takes this up.
#[derive(Debug)]
pub struct Pace {
    /// How long one token takes to come. Zero: no rate limit.
    interval: Duration,
    tokens_max: u32,
    tokens: u32,
    /// When the last token that was counted came.
    refilled_at: Instant,
    /// Nothing goes before this.
    paused_until: Instant,
}

impl Pace {
    /// A full bucket for the limits that the server announced: `chat_burst`
    /// chats at once, and one more every `chat_interval_ms` milliseconds; an
    /// interval of 0 is no limit.
    pub fn new(chat_burst: u32, chat_interval_ms: u32, now: Instant) -> Self {
        let tokens_max = (chat_burst / 2).max(1);
        Self {
            interval: Duration::from_millis(chat_interval_ms.into()),
            tokens_max,
            tokens: tokens_max,
            refilled_at: now,
            paused_until: now,
        }
    }

    /// Takes the right to send one chat now.
    ///
    /// # Errors
    ///
    /// The time at which to ask again.
    pub fn take(&mut self, now: Instant) -> Result<(), Instant> {
        if self.is_paused(now) {
            return Err(self.paused_until);
        }
        if self.interval.is_zero() {
            return Ok(());
        }
        self.refill(now);
        match self.tokens.checked_sub(1) {
            Some(rest) => {
                self.tokens = rest;
                Ok(())
            }
            None => Err(self.refilled_at + self.interval),
        }
    }

    /// Whether the server said to wait, rather than the limits that it announced.
    pub fn is_paused(&self, now: Instant) -> bool {
        now < self.paused_until
    }

    /// Waits `pause` from `now` before anything else is sent: the server said
    /// that its bucket is empty, whatever this one believes.
    pub fn pause(&mut self, pause: Duration, now: Instant) {
        self.paused_until = self.paused_until.max(now + pause);
        self.tokens = 0;
        // One chat may go when the pause ends; what came until then does not count.
        let from = self.paused_until.checked_sub(self.interval);
        self.refilled_at = from.unwrap_or(now);
    }

    fn refill(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.refilled_at);
        let came = elapsed.as_nanos() / self.interval.as_nanos();
        let room = self.tokens_max - self.tokens;
        match u32::try_from(came) {
            Ok(came) if came < room => {
                self.tokens += came;
                self.refilled_at += self.interval * came;
            }
            // Full: what came on top is not saved up.
            Ok(_) | Err(_) => {
                self.tokens = self.tokens_max;
                self.refilled_at = now;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// When each of `chats` sent as early as allowed leaves, in milliseconds.
    fn due_ms(mut pace: Pace, start: Instant, chats: usize) -> Vec<u128> {
        let mut now = start;
        let mut due = Vec::new();
        while due.len() < chats {
            match pace.take(now) {
                Ok(()) => due.push((now - start).as_millis()),
                Err(later) => {
                    assert!(later > now, "a wait that does not end");
                    now = later;
                }
            }
        }
        due
    }

    #[test]
    fn half_the_burst_at_once_then_one_an_interval() {
        let start = Instant::now();
        let pace = Pace::new(8, 100, start);
        assert_eq!(due_ms(pace, start, 7), [0, 0, 0, 0, 100, 200, 300]);
    }

    #[test]
    fn the_smallest_burst_still_sends() {
        let start = Instant::now();
        assert_eq!(due_ms(Pace::new(1, 50, start), start, 3), [0, 50, 100]);
        assert_eq!(due_ms(Pace::new(0, 50, start), start, 2), [0, 50]);
    }

    #[test]
    fn no_interval_is_no_limit() {
        let start = Instant::now();
        assert_eq!(due_ms(Pace::new(0, 0, start), start, 1_000), [0; 1_000]);
    }

    #[test]
    fn silence_saves_up_no_more_than_the_bucket_holds() {
        let start = Instant::now();
        let mut pace = Pace::new(4, 100, start);
        let later = start + 3_600_000 * MS;
        assert_eq!(pace.take(later), Ok(()));
        assert_eq!(pace.take(later), Ok(()));
        assert_eq!(pace.take(later), Err(later + 100 * MS));
    }

    #[test]
    fn part_of_an_interval_is_not_lost() {
        let start = Instant::now();
        let mut pace = Pace::new(2, 100, start);
        assert_eq!(pace.take(start), Ok(()));
        assert_eq!(pace.take(start + 99 * MS), Err(start + 100 * MS));
        assert_eq!(pace.take(start + 150 * MS), Ok(()));
    }

    #[test]
    fn a_pause_holds_everything_back() {
        let start = Instant::now();
        let mut pace = Pace::new(8, 100, start);
        pace.pause(250 * MS, start);
        assert_eq!(pace.take(start), Err(start + 250 * MS));
        assert_eq!(pace.take(start + 250 * MS), Ok(()));
        assert_eq!(pace.take(start + 250 * MS), Err(start + 350 * MS));
        let mut unlimited = Pace::new(0, 0, start);
        unlimited.pause(250 * MS, start);
        assert_eq!(unlimited.take(start), Err(start + 250 * MS));
        assert_eq!(unlimited.take(start + 250 * MS), Ok(()));
    }
}
