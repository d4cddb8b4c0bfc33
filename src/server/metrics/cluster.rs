//! Cluster metrics: how far this node is with the order of all nodes.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Histogram;

/// What a node of a cluster counts. Its task alone writes.
#[derive(Debug, Default)]
pub(in crate::server) struct ClusterMetrics {
    applied: AtomicU64,
    behind: AtomicU64,
    checkpoint: AtomicU64,
    nodes: AtomicU64,
    cuts: AtomicU64,
    node_downs: AtomicU64,
    past_messages: AtomicU64,
    /// From the first publication of a batch until this node has applied it.
    pub(in crate::server) batches: Histogram,
}

/// The same, at one moment.
#[derive(Debug)]
pub(super) struct ClusterGauges {
    pub(super) applied: u64,
    pub(super) behind: u64,
    pub(super) checkpoint: u64,
    pub(super) nodes: u64,
    pub(super) cuts: u64,
    pub(super) node_downs: u64,
    pub(super) past_messages: u64,
}

#[cfg_attr(
    not(any(test, feature = "cluster")),
    expect(dead_code, reason = "for a cluster")
)]
impl ClusterMetrics {
    /// The record at this position was applied; so many are behind it.
    pub(in crate::server) fn applied(&self, position: u64, behind: u64) {
        self.applied.store(position, Ordering::Relaxed);
        self.behind.store(behind, Ordering::Relaxed);
    }

    /// The last checkpoint is of this position.
    pub(in crate::server) fn checkpoint(&self, position: u64) {
        self.checkpoint.store(position, Ordering::Relaxed);
    }

    /// So many nodes take part, as far as this one knows.
    pub(in crate::server) fn nodes(&self, count: usize) {
        self.nodes.store(count as u64, Ordering::Relaxed);
    }

    /// This node was cut off.
    pub(in crate::server) fn cut(&self) {
        self.cuts.fetch_add(1, Ordering::Relaxed);
    }

    /// So many messages that this node had missed came from another one. The task of the past
    /// writes that.
    #[cfg(all(feature = "cluster", feature = "store"))]
    pub(in crate::server) fn past(&self, messages: u64) {
        self.past_messages.fetch_add(messages, Ordering::Relaxed);
    }

    /// Another node was declared gone.
    pub(in crate::server) fn node_down(&self) {
        self.node_downs.fetch_add(1, Ordering::Relaxed);
    }
}

impl ClusterMetrics {
    pub(super) fn gauges(&self) -> ClusterGauges {
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        ClusterGauges {
            applied: load(&self.applied),
            behind: load(&self.behind),
            checkpoint: load(&self.checkpoint),
            nodes: load(&self.nodes),
            cuts: load(&self.cuts),
            node_downs: load(&self.node_downs),
            past_messages: load(&self.past_messages),
        }
    }
}
