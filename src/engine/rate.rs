//! How fast a member may chat: a token bucket (CHAT-LIM-2, CHAT-LIM-3). It serves
//! other rates as well.

use crate::limits::Rate;

/// A token bucket kept as one number: the time at which it would be full again.
/// A token is an interval's worth of time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bucket {
    full_at_ms: u64,
}

impl Bucket {
    /// Takes a token, or says after how many milliseconds there will be one.
    pub(crate) fn take(&mut self, now_ms: u64, rate: Rate) -> Result<(), u32> {
        self.take_late(now_ms, now_ms, rate)
    }

    /// Takes a token for what may have come at `since_ms` or later, and had to wait:
    /// the tokens of that time are there in any case, though the bucket had no room
    /// for them.
    pub(crate) fn take_late(&mut self, now_ms: u64, since_ms: u64, rate: Rate) -> Result<(), u32> {
        let interval_ms = u64::from(rate.interval_ms);
        let capacity_ms = interval_ms * u64::from(rate.burst);
        let full_at_ms = self.full_at_ms.max(since_ms.min(now_ms)) + interval_ms;
        let over_ms = full_at_ms.saturating_sub(now_ms + capacity_ms);
        if over_ms > 0 {
            // Never more than one interval, which is a u32.
            return Err(u32::try_from(over_ms).unwrap_or(u32::MAX));
        }
        self.full_at_ms = full_at_ms;
        Ok(())
    }

    /// Whether it is as if nothing had ever been taken.
    pub(crate) fn is_full(&self, now_ms: u64) -> bool {
        self.full_at_ms <= now_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        burst: 3,
        interval_ms: 100,
    };

    #[test]
    fn a_burst_then_one_an_interval() {
        let mut bucket = Bucket::default();
        for _ in 0..3 {
            assert_eq!(bucket.take(1_000, RATE), Ok(()));
        }
        assert_eq!(bucket.take(1_000, RATE), Err(100));
        assert_eq!(bucket.take(1_040, RATE), Err(60));
        assert_eq!(bucket.take(1_100, RATE), Ok(()));
        assert_eq!(bucket.take(1_100, RATE), Err(100));
    }

    #[test]
    fn silence_fills_it_up_and_no_further() {
        let mut bucket = Bucket::default();
        for _ in 0..3 {
            assert_eq!(bucket.take(0, RATE), Ok(()));
        }
        for _ in 0..3 {
            assert_eq!(bucket.take(9_000, RATE), Ok(()));
        }
        assert_eq!(bucket.take(9_000, RATE), Err(100));
    }

    #[test]
    fn it_is_full_again_an_interval_after_each_token() {
        let mut bucket = Bucket::default();
        assert!(bucket.is_full(0));
        assert_eq!(bucket.take(1_000, RATE), Ok(()));
        assert_eq!(bucket.take(1_000, RATE), Ok(()));
        assert!(!bucket.is_full(1_199));
        assert!(bucket.is_full(1_200));
        assert!(bucket.is_full(1_201));
    }

    #[test]
    fn what_had_to_wait_has_the_tokens_of_that_time() {
        let mut bucket = Bucket::default();
        for _ in 0..3 {
            assert_eq!(bucket.take(1_000, RATE), Ok(()));
        }
        // Empty at 1,000, and one more for each 100 ms until 2,000.
        for _ in 0..10 {
            assert_eq!(bucket.take_late(2_000, 1_000, RATE), Ok(()));
        }
        assert_eq!(bucket.take_late(2_000, 1_000, RATE), Err(100));
        // Not those of the time before, and none of them twice.
        for _ in 0..5 {
            assert_eq!(bucket.take_late(9_000, 8_800, RATE), Ok(()));
        }
        assert_eq!(bucket.take_late(9_000, 8_800, RATE), Err(100));
        assert_eq!(bucket.take(9_000, RATE), Err(100));
    }

    #[test]
    fn the_wait_it_names_is_enough() {
        let mut bucket = Bucket::default();
        let mut now_ms = 5;
        for _ in 0..100 {
            if let Err(wait_ms) = bucket.take(now_ms, RATE) {
                assert!((1..=100).contains(&wait_ms));
                now_ms += u64::from(wait_ms);
                assert_eq!(bucket.take(now_ms, RATE), Ok(()));
            }
            now_ms += 7;
        }
    }
}
