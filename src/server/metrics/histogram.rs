//! Histogram: how often something took how long.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The upper bounds of the buckets, in microseconds: from a delivery on the same machine to
/// one that a person waits for.
pub(super) const BOUNDS_US: [u64; 16] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000,
];

/// A histogram that many threads write.
#[derive(Debug, Default)]
pub(in crate::server) struct Histogram {
    /// For each bound, what is within it and above the one before.
    buckets: [AtomicU64; BOUNDS_US.len()],
    /// What is above all of them.
    above: AtomicU64,
    sum_us: AtomicU64,
}

impl Histogram {
    /// It took so long.
    pub(in crate::server) fn observe(&self, duration: Duration) {
        let us = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let bucket = BOUNDS_US.iter().position(|&bound_us| us <= bound_us);
        let bucket = bucket.and_then(|index| self.buckets.get(index));
        bucket
            .unwrap_or(&self.above)
            .fetch_add(1, Ordering::Relaxed);
        self.sum_us.fetch_add(us, Ordering::Relaxed);
    }

    /// For each bound, in microseconds, how often it took at most so long.
    pub(super) fn cumulative(&self) -> Vec<(u64, u64)> {
        let mut count = 0;
        let buckets = BOUNDS_US.iter().zip(&self.buckets);
        buckets
            .map(|(&bound_us, bucket)| {
                count += bucket.load(Ordering::Relaxed);
                (bound_us, count)
            })
            .collect()
    }

    /// How often it took longer than all bounds.
    pub(super) fn above(&self) -> u64 {
        self.above.load(Ordering::Relaxed)
    }

    /// The sum, in microseconds.
    pub(super) fn sum_us(&self) -> u64 {
        self.sum_us.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let histogram = Histogram::default();
        for us in [0, 100, 101, 10_000_000, 10_000_001] {
            histogram.observe(Duration::from_micros(us));
        }
        let cumulative = histogram.cumulative();
        assert_eq!(cumulative[..2], [(100, 2), (250, 3)]);
        assert_eq!(cumulative.last(), Some(&(10_000_000, 4)));
        assert_eq!(histogram.above(), 1);
        assert_eq!(histogram.sum_us(), 20_000_202);
    }
}
