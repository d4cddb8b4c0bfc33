//! Delivery probe: measures how long a chat takes from its commit until the transports of
//! its readers have taken it. It measures one chat in each tick, for all readers, so that
//! the others cost two loads.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::Histogram;

/// Measures one position of the log at a time.
#[derive(Debug)]
pub(in crate::server) struct DeliveryProbe {
    /// The next commit is measured.
    is_armed: AtomicBool,
    /// The end of the commit that is measured, `NOTHING` at first.
    position: AtomicU64,
    /// When it was, in nanoseconds since `start`.
    since_ns: AtomicU64,
    start: OnceLock<Instant>,
    pub(super) histogram: Histogram,
}

impl Default for DeliveryProbe {
    fn default() -> Self {
        Self {
            is_armed: AtomicBool::new(false),
            position: AtomicU64::new(Self::NOTHING),
            since_ns: AtomicU64::new(0),
            start: OnceLock::new(),
            histogram: Histogram::default(),
        }
    }
}

impl DeliveryProbe {
    const NOTHING: u64 = u64::MAX;

    /// Has the next commit measured.
    pub(in crate::server) fn arm(&self) {
        self.is_armed.store(true, Ordering::Relaxed);
    }

    /// The log is about to be committed up to `end`: only the hub calls this, under its
    /// lock.
    pub(in crate::server) fn commits(&self, end: u64) {
        if self.is_armed.load(Ordering::Relaxed) {
            self.is_armed.store(false, Ordering::Relaxed);
            // A reader that passes meanwhile is measured from either commit.
            self.since_ns.store(self.now_ns(), Ordering::Relaxed);
            self.position.store(end, Ordering::Release);
        }
    }

    /// A transport has taken the log from one position up to another.
    pub(in crate::server) fn passed(&self, from: u64, to: u64) {
        let position = self.position.load(Ordering::Acquire);
        if from < position && position <= to {
            let since_ns = self.since_ns.load(Ordering::Relaxed);
            let taken_ns = self.now_ns().saturating_sub(since_ns);
            self.histogram.observe(Duration::from_nanos(taken_ns));
        }
    }

    fn now_ns(&self) -> u64 {
        let start = self.start.get_or_init(Instant::now);
        u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reader_that_passes_the_measured_commit_is_counted_once() {
        let probe = DeliveryProbe::default();
        let count = || probe.histogram.cumulative().last().map(|&(_, count)| count);
        probe.commits(100);
        probe.passed(0, 100);
        assert_eq!(count(), Some(0), "it was not armed");
        probe.arm();
        probe.commits(200);
        probe.commits(300);
        for (from, to) in [(100, 150), (150, 199), (199, 200), (200, 300), (0, 300)] {
            probe.passed(from, to);
        }
        assert_eq!(count(), Some(2));
    }
}
