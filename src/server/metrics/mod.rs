//! Metrics: what a server counts about itself, for Prometheus. Nothing that it counts has a
//! name, a text or an address.
//!
//! What happens under the hub's lock is counted there. What connections do without it goes
//! to counters that few threads share, so that counting costs next to nothing.

mod cluster;
mod endpoint;
mod histogram;
mod page;
mod probe;
mod process;

use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use cluster::ClusterMetrics;
pub(super) use endpoint::Endpoint;
pub(super) use histogram::Histogram;
pub(super) use page::{Gauges, page};
pub(super) use probe::DeliveryProbe;

use crate::wire::ErrorCode;

/// Over how many counters threads are spread: more than most servers have processors.
const SHARDS: usize = 16;

/// What is counted without a lock.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    shards: [Shard; SHARDS],
    /// From the commit of a chat until a member's transport has taken it.
    pub(super) deliveries: DeliveryProbe,
    /// How long the store takes for a commit.
    pub(super) commits: Histogram,
    /// What a node of a cluster counts.
    pub(super) cluster: ClusterMetrics,
}

/// Counters of some threads, alone in their cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Shard {
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

/// What is counted under the hub's lock.
#[derive(Debug, Default, Clone)]
pub(super) struct Counts {
    /// Connections that were accepted, by transport.
    pub(super) connections: BTreeMap<&'static str, u64>,
    /// Chats that were accepted.
    pub(super) messages: u64,
    /// Members that they were for.
    pub(super) deliveries: u64,
    /// Errors that were sent, by code.
    pub(super) refusals: BTreeMap<ErrorCode, u64>,
}

thread_local! {
    static SHARD: Cell<usize> = Cell::new(next_shard());
}

fn next_shard() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed) % SHARDS
}

impl Metrics {
    /// A transport gave so much.
    pub(super) fn received(&self, bytes: usize) {
        add(&self.shard().received_bytes, bytes);
    }

    /// A transport took so much.
    pub(super) fn sent(&self, bytes: usize) {
        add(&self.shard().sent_bytes, bytes);
    }

    fn received_bytes(&self) -> u64 {
        sum(self.shards.iter().map(|shard| &shard.received_bytes))
    }

    fn sent_bytes(&self) -> u64 {
        sum(self.shards.iter().map(|shard| &shard.sent_bytes))
    }

    fn shard(&self) -> &Shard {
        let [first, ..] = &self.shards;
        self.shards.get(SHARD.get()).unwrap_or(first)
    }
}

fn add(counter: &AtomicU64, bytes: usize) {
    counter.fetch_add(bytes as u64, Ordering::Relaxed);
}

fn sum<'a>(counters: impl Iterator<Item = &'a AtomicU64>) -> u64 {
    counters
        .map(|counter| counter.load(Ordering::Relaxed))
        .sum()
}

impl Counts {
    /// An error is sent.
    pub(super) fn refused(&mut self, code: ErrorCode) {
        *self.refusals.entry(code).or_default() += 1;
    }
}

/// A code as it stands in the log and in metrics.
pub(super) fn short_name(code: ErrorCode) -> &'static str {
    code.as_str_name().trim_start_matches("ERROR_CODE_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_all_threads_are_summed() {
        let metrics = Metrics::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * SHARDS {
                scope.spawn(|| {
                    metrics.received(3);
                    metrics.sent(5);
                });
            }
        });
        assert_eq!(metrics.received_bytes(), 6 * SHARDS as u64);
        assert_eq!(metrics.sent_bytes(), 10 * SHARDS as u64);
    }
}
