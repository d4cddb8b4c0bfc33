//! Token bucket: bounds how often something happens, and lets a burst pass. Chats,
//! inbound frames and bytes, errors and new connections are all limited by it.

/// A token bucket, kept as one number: the time at which it is full again. A token
/// is the time that it takes to come back, so costs and capacity are times too. All
/// times of one bucket are in one unit, which its owner chooses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenBucket {
    full_at: u64,
}

impl TokenBucket {
    /// Takes `cost`, where a bucket of `capacity` holds that much at `now`.
    ///
    /// # Errors
    ///
    /// How long until it does; nothing was taken.
    pub fn take(&mut self, now: u64, cost: u64, capacity: u64) -> Result<(), u64> {
        self.take_delayed(now, now, cost, capacity)
    }

    /// Takes `cost` for something that may have arrived at `earliest_arrival` already
    /// and had to wait: the tokens of that time count, though a full bucket had no room
    /// for them.
    ///
    /// # Errors
    ///
    /// As [`TokenBucket::take`].
    pub fn take_delayed(
        &mut self,
        now: u64,
        earliest_arrival: u64,
        cost: u64,
        capacity: u64,
    ) -> Result<(), u64> {
        let full_at = self.full_at.max(earliest_arrival.min(now)) + cost;
        match full_at.saturating_sub(now + capacity) {
            0 => {
                self.full_at = full_at;
                Ok(())
            }
            wait => Err(wait),
        }
    }

    /// Takes `cost`, into debt where need be: for what has happened already.
    pub fn charge(&mut self, now: u64, cost: u64) {
        self.full_at = self.full_at.max(now).saturating_add(cost);
    }

    /// Whether a bucket of `capacity` is in debt.
    pub fn is_overdrawn(&self, now: u64, capacity: u64) -> bool {
        self.full_at > now.saturating_add(capacity)
    }

    /// Whether it is full, as if nothing had ever been taken.
    pub fn is_full(&self, now: u64) -> bool {
        self.full_at <= now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: u64 = 100;
    const CAPACITY: u64 = 3 * COST;

    fn emptied(now: u64) -> TokenBucket {
        let mut bucket = TokenBucket::default();
        for _ in 0..3 {
            assert_eq!(bucket.take(now, COST, CAPACITY), Ok(()));
        }
        bucket
    }

    #[test]
    fn a_burst_passes_and_then_one_per_interval() {
        let mut bucket = emptied(1_000);
        assert_eq!(bucket.take(1_000, COST, CAPACITY), Err(100));
        assert_eq!(bucket.take(1_040, COST, CAPACITY), Err(60));
        assert_eq!(bucket.take(1_100, COST, CAPACITY), Ok(()));
        assert_eq!(bucket.take(1_100, COST, CAPACITY), Err(100));
    }

    #[test]
    fn it_fills_up_to_its_capacity_and_no_further() {
        let mut bucket = emptied(0);
        for _ in 0..3 {
            assert_eq!(bucket.take(9_000, COST, CAPACITY), Ok(()));
        }
        assert_eq!(bucket.take(9_000, COST, CAPACITY), Err(100));
    }

    #[test]
    fn it_is_full_once_all_costs_have_come_back() {
        let mut bucket = TokenBucket::default();
        assert!(bucket.is_full(0));
        assert_eq!(bucket.take(1_000, COST, CAPACITY), Ok(()));
        assert_eq!(bucket.take(1_000, COST, CAPACITY), Ok(()));
        assert!(!bucket.is_full(1_199));
        assert!(bucket.is_full(1_200));
        assert!(bucket.is_full(1_201));
    }

    #[test]
    fn the_tokens_of_a_delay_count_once() {
        let mut bucket = emptied(1_000);
        let mut delayed = |now, since| bucket.take_delayed(now, since, COST, CAPACITY);
        // Empty at 1,000, and one more for each 100 until 2,000.
        for _ in 0..10 {
            assert_eq!(delayed(2_000, 1_000), Ok(()));
        }
        assert_eq!(delayed(2_000, 1_000), Err(100));
        // Not those of the time before, and none of them twice.
        for _ in 0..5 {
            assert_eq!(delayed(9_000, 8_800), Ok(()));
        }
        assert_eq!(delayed(9_000, 8_800), Err(100));
        assert_eq!(bucket.take(9_000, COST, CAPACITY), Err(100));
    }

    #[test]
    fn the_wait_that_it_names_is_enough() {
        let mut bucket = TokenBucket::default();
        let mut now = 5;
        for _ in 0..100 {
            if let Err(wait) = bucket.take(now, COST, CAPACITY) {
                assert!((1..=COST).contains(&wait));
                now += wait;
                assert_eq!(bucket.take(now, COST, CAPACITY), Ok(()));
            }
            now += 7;
        }
    }

    #[test]
    fn a_charge_goes_into_debt_that_time_pays_off() {
        let mut bucket = TokenBucket::default();
        bucket.charge(1_000, CAPACITY);
        assert!(!bucket.is_overdrawn(1_000, CAPACITY));
        bucket.charge(1_000, 1);
        assert!(bucket.is_overdrawn(1_000, CAPACITY));
        assert!(!bucket.is_overdrawn(1_001, CAPACITY));
        bucket.charge(2_000, u64::MAX);
        assert!(bucket.is_overdrawn(u64::MAX - CAPACITY - 1, CAPACITY));
    }
}
