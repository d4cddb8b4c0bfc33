//! Channel: the log with its subscriptions, its committed end, its read pause and its
//! slow-consumer policy. It decides for whom senders wait, and which member has fallen
//! too far behind.
//!
//! Publishing has two steps. An append gives a frame its place in the order; a commit
//! lets readers see it and releases the receipts for it. In memory the commit follows
//! at once, when the pass that appended ends.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::{
    limits::Limits,
    log::{Log, Retained},
};

use super::{
    archive::UNCOMMITTED_BYTES_MAX,
    backpressure::ReadPause,
    eviction::{self, Usage},
    registry::{ConnectionEntry, ConnectionHandle, Registry},
    sender_window::SenderWindow,
    slow_consumer::{self, Consumer},
};

/// What can be asked of a channel without the lock that its log is behind.
pub(super) struct Channel {
    lag_bytes_max: u64,
    queue_bytes_max: u64,
    retained: Retained,
    /// The end of what readers see.
    committed_end: AtomicU64,
    read_pause: ReadPause,
    window: SenderWindow,
    /// Too much of the log waits for the disk.
    is_store_behind: AtomicBool,
    /// Too much waits for the order of a cluster.
    is_order_behind: AtomicBool,
}

impl Channel {
    /// The channel of `log`.
    pub(super) fn new(limits: &Limits, log: &Log) -> Self {
        Self {
            lag_bytes_max: limits.lag_bytes_max,
            queue_bytes_max: limits.queue_bytes_max,
            retained: log.retained().clone(),
            committed_end: AtomicU64::new(log.committed_end()),
            read_pause: ReadPause::new(limits.lag_bytes_max),
            window: SenderWindow::new(limits.lag_bytes_max),
            is_store_behind: AtomicBool::new(false),
            is_order_behind: AtomicBool::new(false),
        }
    }

    /// Commits what was appended to `log` below `position`: readers see it from now on. Pauses
    /// reading from senders if the log holds too much, or most readers are behind the
    /// sender window.
    pub(super) fn commit(&self, log: &mut Log, position: u64, registry: &Registry) {
        log.commit_up_to(position);
        let end = log.committed_end();
        self.committed_end.store(end, Ordering::Release);
        if self.read_pause.is_on() {
            return;
        }
        if self.retained.bytes() >= self.pause_above_bytes() {
            let connections = registry.read();
            let consumers = connections.iter().flatten().filter_map(|entry| {
                let position = entry.handle.position()?;
                Some((position, &entry.stall_budget))
            });
            if slow_consumer::should_pause_reads(consumers, end, self.behind_bytes()) {
                return self.read_pause.begin(end);
            }
        }
        if self.window.is_check_due(end) && self.check_window(registry, end) {
            self.read_pause.begin(end);
        }
    }

    /// Pauses reading from senders while too much of `log` waits for the disk. Returns
    /// whether they were paused for that before.
    pub(super) fn note_store_lag(&self, log: &Log) -> bool {
        let lag_bytes = log.end() - log.committed_end();
        let is_behind = lag_bytes > UNCOMMITTED_BYTES_MAX;
        self.is_store_behind.swap(is_behind, Ordering::Relaxed)
    }

    /// Pauses reading from senders while too much waits for the order of a cluster.
    /// Returns whether that is new.
    pub(super) fn set_order_behind(&self, is_behind: bool) -> bool {
        self.is_order_behind.swap(is_behind, Ordering::Relaxed) != is_behind
    }

    /// Whether senders must be paced, by where the readers that keep up are.
    fn check_window(&self, registry: &Registry, end: u64) -> bool {
        let connections = registry.read();
        let entries = connections.iter().flatten();
        let readers = entries.filter(|entry| entry.stall_budget.keeps_up());
        let mut positions: Vec<_> = readers
            .filter_map(|entry| entry.handle.position())
            .collect();
        self.window.check(&mut positions, end)
    }

    /// The end of what readers see, as a position in the log.
    pub(super) fn committed_end(&self) -> u64 {
        self.committed_end.load(Ordering::Acquire)
    }

    /// How much of the log is in memory, in bytes.
    pub(super) fn retained_bytes(&self) -> u64 {
        self.retained.bytes()
    }

    /// How many members are so far behind that they keep the log long.
    pub(super) fn slow_readers(&self, registry: &Registry) -> usize {
        let end = self.committed_end();
        let connections = registry.read();
        let positions = connections.iter().flatten();
        positions
            .filter_map(|entry| entry.handle.position())
            .filter(|&position| end.saturating_sub(position) >= self.behind_bytes())
            .count()
    }

    /// Whether a reader at `position` has fallen too far behind (CHAT-LIM-5).
    pub(super) fn is_out_of_reach(&self, position: u64) -> bool {
        let end = self.committed_end.load(Ordering::Relaxed);
        end.saturating_sub(position) > self.lag_bytes_max
    }

    /// Whether reading from senders is paused (CHAT-LIM-6), except for what
    /// [`Channel::has_paused_quota`] allows.
    pub(super) fn is_paused(&self) -> bool {
        self.read_pause.is_on() || self.waits_behind_append()
    }

    /// Whether too much waits for the disk or for the order of a cluster.
    fn waits_behind_append(&self) -> bool {
        self.is_store_behind.load(Ordering::Relaxed) || self.is_order_behind.load(Ordering::Relaxed)
    }

    /// How far behind the readers are for whom senders are paced, in bytes, if they are.
    #[cfg(test)]
    pub(super) fn paced_by_bytes(&self) -> Option<u64> {
        self.window.is_closed().then(|| self.window.bytes())
    }

    /// Whether the server may read a quota from this member during a pause.
    pub(super) fn has_paused_quota(&self, handle: &ConnectionHandle) -> bool {
        let end = self.committed_end.load(Ordering::Relaxed);
        !self.waits_behind_append() && self.read_pause.has_quota(&handle.paused_quota, end)
    }

    /// The server has read a quota from this member during a pause.
    pub(super) fn use_paused_quota(&self, handle: &ConnectionHandle) {
        self.read_pause.use_quota(&handle.paused_quota);
    }

    /// The reader of a connection is at `position` now: senders that wait may go on if
    /// the log has become short enough, or enough readers have caught up. Returns where it
    /// was.
    pub(super) fn reader_moved(
        &self,
        registry: &Registry,
        handle: &ConnectionHandle,
        position: u64,
    ) -> u64 {
        let from = handle.set_position(position);
        if !self.read_pause.is_on() {
            return from;
        }
        let may_resume = match self.window.is_closed() {
            true => self.window.reader_moved(from, position),
            false => self.retained.bytes() < self.resume_below_bytes(),
        };
        if may_resume && self.read_pause.end() {
            registry.wake_all();
        }
        from
    }

    /// Applies the slow-consumer policy. The hub calls it every
    /// [`slow_consumer::TICK_MS`].
    pub(super) fn tick(&self, registry: &Registry) {
        let end = self.committed_end();
        let was_paused = self.read_pause.is_on();
        let was_paced = self.window.is_closed();
        self.read_pause.tick(end);
        let should_wait = {
            let mut connections = registry.write();
            let mut consumers: Vec<_> = connections
                .iter_mut()
                .flatten()
                .filter_map(|entry| {
                    let ConnectionEntry {
                        handle,
                        stall_budget,
                        ..
                    } = entry;
                    if was_paused && handle.has_nothing_due() {
                        handle.wake();
                    }
                    let position = handle.position()?;
                    if position < end || was_paused {
                        // Also for members that presence did not wake, and for those
                        // whose quota has returned.
                        handle.wake();
                    }
                    Some(Consumer {
                        position,
                        stall_budget,
                    })
                })
                .collect();
            let window_bytes = was_paced.then_some(self.window.bytes());
            let is_too_long = was_paused && !was_paced;
            let behind_bytes = self.behind_bytes();
            slow_consumer::tick(&mut consumers, end, behind_bytes, is_too_long, window_bytes)
        };
        let is_paused = match was_paced {
            // Those that stand still are not waited for any longer.
            true => self.check_window(registry, end),
            false => should_wait && self.retained.bytes() >= self.resume_below_bytes(),
        };
        if was_paused && !is_paused {
            self.read_pause.end();
            // Also wakes a sender that missed the end of an earlier pause.
            registry.wake_all();
        }
        self.evict(registry, end);
    }

    /// Evicts members while all queues together take more than they may (CHAT-LIM-10).
    fn evict(&self, registry: &Registry, end: u64) {
        let retained_bytes = self.retained.bytes();
        let bytes_max = self.queue_bytes_max;
        if registry.buffered_bytes() + retained_bytes <= bytes_max {
            return;
        }
        let connections = registry.read();
        let usages = connections.iter().enumerate().filter_map(|(index, entry)| {
            let handle = &entry.as_ref()?.handle;
            Some(Usage {
                index,
                position: handle.position(),
                buffered_bytes: handle.buffered_bytes(),
                is_evicted: handle.is_evicted(),
            })
        });
        for index in eviction::select_victims(usages.collect(), end, retained_bytes, bytes_max) {
            if let Some(Some(entry)) = connections.get(index) {
                entry.handle.evict();
            }
        }
    }

    /// How much the log holds when reading from senders pauses: half of what it may
    /// hold, which leaves room for what the senders have sent already.
    fn pause_above_bytes(&self) -> u64 {
        self.lag_bytes_max / 2
    }

    /// How much the log holds when reading goes on: somewhat less, so that it does not
    /// pause again at once.
    fn resume_below_bytes(&self) -> u64 {
        self.pause_above_bytes() / 4 * 3
    }

    /// From how far on a member counts as behind: it is one of those that keep the log
    /// long.
    fn behind_bytes(&self) -> u64 {
        self.pause_above_bytes() / 2
    }
}
