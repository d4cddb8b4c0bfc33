//! Pacing: spreads chats over time, so that they stay within the rate that the server
//! announced. Pure: the time is an argument.

use std::time::{Duration, Instant};

use crate::token_bucket::TokenBucket;

/// The largest time in a bucket, in microseconds: sums of a few do not overflow.
const TIME_US_MAX: u64 = u64::MAX / 4;

/// Sends no faster than the server allows.
///
/// A token bucket of half the announced burst (CHAT-LIM-2): chats may arrive closer
/// together than they were sent, and the other half of the burst absorbs that.
#[derive(Debug)]
pub struct Pacer {
    bucket: TokenBucket,
    /// The bucket's time zero; its unit is the microsecond.
    started_at: Instant,
    /// The cost of one chat; 0 without a rate limit.
    interval_us: u64,
    capacity_us: u64,
    /// No chat may be sent before this time.
    paused_until: Instant,
}

impl Pacer {
    /// A full bucket for the announced limits: `chat_burst` chats at once, and one more
    /// every `chat_interval_ms` milliseconds; an interval of 0 is no limit.
    pub fn new(chat_burst: u32, chat_interval_ms: u32, now: Instant) -> Self {
        let tokens_max = u64::from(chat_burst / 2).max(1);
        let interval_us = u64::from(chat_interval_ms) * 1_000;
        Self {
            bucket: TokenBucket::default(),
            started_at: now,
            interval_us,
            capacity_us: interval_us.saturating_mul(tokens_max).min(TIME_US_MAX),
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
        let now_us = self.since_start_us(now);
        self.bucket
            .take(now_us, self.interval_us, self.capacity_us)
            .map_err(|wait_us| now + Duration::from_micros(wait_us))
    }

    /// Whether the server told the client to wait, beyond the announced limits.
    pub fn is_paused(&self, now: Instant) -> bool {
        now < self.paused_until
    }

    /// Sends nothing for `pause`: the server's bucket is empty, whatever this one
    /// holds. One chat may be sent when the pause ends.
    pub fn pause(&mut self, pause: Duration, now: Instant) {
        self.paused_until = self.paused_until.max(now + pause);
        self.bucket = TokenBucket::default();
        let end_us = self.since_start_us(self.paused_until);
        self.bucket
            .charge(end_us, self.capacity_us - self.interval_us);
    }

    fn since_start_us(&self, time: Instant) -> u64 {
        let elapsed = time.saturating_duration_since(self.started_at);
        u64::try_from(elapsed.as_micros()).unwrap_or(TIME_US_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// When each of `chats`, sent as early as allowed, leaves, in milliseconds.
    fn due_ms(mut pacer: Pacer, start: Instant, chats: usize) -> Vec<u128> {
        let mut now = start;
        let mut due = Vec::new();
        while due.len() < chats {
            match pacer.take(now) {
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
        let pacer = Pacer::new(8, 100, start);
        assert_eq!(due_ms(pacer, start, 7), [0, 0, 0, 0, 100, 200, 300]);
    }

    #[test]
    fn the_smallest_burst_still_sends() {
        let start = Instant::now();
        assert_eq!(due_ms(Pacer::new(1, 50, start), start, 3), [0, 50, 100]);
        assert_eq!(due_ms(Pacer::new(0, 50, start), start, 2), [0, 50]);
    }

    #[test]
    fn no_interval_is_no_limit() {
        let start = Instant::now();
        assert_eq!(due_ms(Pacer::new(0, 0, start), start, 1_000), [0; 1_000]);
    }

    #[test]
    fn silence_saves_up_no_more_than_the_bucket_holds() {
        let start = Instant::now();
        let mut pacer = Pacer::new(4, 100, start);
        let later = start + 3_600_000 * MS;
        assert_eq!(pacer.take(later), Ok(()));
        assert_eq!(pacer.take(later), Ok(()));
        assert_eq!(pacer.take(later), Err(later + 100 * MS));
    }

    #[test]
    fn part_of_an_interval_is_not_lost() {
        let start = Instant::now();
        let mut pacer = Pacer::new(2, 100, start);
        assert_eq!(pacer.take(start), Ok(()));
        assert_eq!(pacer.take(start + 99 * MS), Err(start + 100 * MS));
        assert_eq!(pacer.take(start + 150 * MS), Ok(()));
    }

    #[test]
    fn no_announced_limit_overflows() {
        let start = Instant::now();
        let mut pacer = Pacer::new(u32::MAX, u32::MAX, start);
        for _ in 0..1_000 {
            assert_eq!(pacer.take(start), Ok(()));
        }
        pacer.pause(1_000 * MS, start);
        assert_eq!(pacer.take(start), Err(start + 1_000 * MS));
        assert_eq!(pacer.take(start + 1_000 * MS), Ok(()));
        assert!(pacer.take(start + 1_000 * MS).is_err());
    }

    #[test]
    fn a_pause_holds_everything_back() {
        let start = Instant::now();
        let mut pacer = Pacer::new(8, 100, start);
        pacer.pause(250 * MS, start);
        assert_eq!(pacer.take(start), Err(start + 250 * MS));
        assert_eq!(pacer.take(start + 250 * MS), Ok(()));
        assert_eq!(pacer.take(start + 250 * MS), Err(start + 350 * MS));
        let mut unlimited = Pacer::new(0, 0, start);
        unlimited.pause(250 * MS, start);
        assert_eq!(unlimited.take(start), Err(start + 250 * MS));
        assert_eq!(unlimited.take(start + 250 * MS), Ok(()));
    }
}
