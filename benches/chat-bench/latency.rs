//! Histogram of latencies, in buckets of about 3 % width, from a nanosecond to hours.

/// Buckets for each doubling of the time: 2 to the power of this.
const BUCKET_BITS: u32 = 5;

#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    count: u64,
    max_ns: u64,
}

impl Histogram {
    pub fn new() -> Self {
        Self {
            counts: vec![0; bucket(u64::MAX) + 1],
            count: 0,
            max_ns: 0,
        }
    }

    pub fn record(&mut self, ns: u64) {
        self.counts[bucket(ns)] += 1;
        self.count += 1;
        self.max_ns = self.max_ns.max(ns);
    }

    /// Adds the counts of another histogram.
    pub fn add(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.count += other.count;
        self.max_ns = self.max_ns.max(other.max_ns);
    }

    pub fn count(&self) -> u64 {
        self.count
    }

    pub fn max_ms(&self) -> f64 {
        self.max_ns as f64 / 1e6
    }

    /// The percentile `share` (0.0 to 1.0), in milliseconds.
    pub fn share_ms(&self, share: f64) -> f64 {
        let wanted = (self.count as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, &count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted && count > 0 {
                return (end_ns(bucket) as f64 / 1e6).min(self.max_ms());
            }
        }
        self.max_ms()
    }
}

/// The bucket of a time: small times have one each, the highest bits choose among the
/// others.
fn bucket(ns: u64) -> usize {
    let bits = u64::BITS - ns.leading_zeros();
    let shift = bits.saturating_sub(BUCKET_BITS + 1);
    ((shift as usize) << BUCKET_BITS) + (ns >> shift) as usize
}

/// The largest time in a bucket.
fn end_ns(index: usize) -> u64 {
    let shift = (index >> BUCKET_BITS).saturating_sub(1);
    let start = (index - (shift << BUCKET_BITS)) as u64;
    (((u128::from(start) + 1) << shift) - 1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_ends_where_the_next_begins() {
        for ns in [
            0,
            1,
            31,
            32,
            63,
            64,
            65,
            1_000,
            123_456_789,
            u64::MAX - 1,
            u64::MAX,
        ] {
            let index = bucket(ns);
            assert!(end_ns(index) >= ns);
            assert!(end_ns(index) - ns <= ns / 32, "{ns}");
            if let Some(next) = end_ns(index).checked_add(1) {
                assert_eq!(bucket(next), index + 1, "{ns}");
            }
        }
    }

    #[test]
    fn shares() {
        let mut histogram = Histogram::new();
        for ms in 1..=1_000 {
            histogram.record(ms * 1_000_000);
        }
        for (share, expected_ms) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1_000.0)] {
            let ms = histogram.share_ms(share);
            assert!((expected_ms..expected_ms * 1.04).contains(&ms), "{ms}");
        }
        assert_eq!(histogram.max_ms(), 1_000.0);
    }
}
