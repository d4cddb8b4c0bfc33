//! Memory: bounds on the log and the buffers, and the evictions to expect (CHAT-LIM-10).

use super::{SEGMENT_BYTES, World};

/// The memory that one connection takes.
#[derive(Debug)]
struct Usage {
    index: usize,
    position: Option<u64>,
    buffered_bytes: u64,
    /// Its buffers, and the log from its position on.
    cost_bytes: u64,
}

impl World {
    /// The positions of the readers that may still have something to send.
    pub(super) fn positions(&self) -> impl Iterator<Item = u64> {
        let links = self.links.iter();
        let sending = links.filter(|link| !link.pipe.borrow().is_shut_down);
        // A filter may leave nothing to send.
        let end = self.hub.channel.committed_end();
        sending.filter_map(move |link| Some(link.connection.as_ref()?.position()?.min(end)))
    }

    /// Checks that the log keeps no more than its readers have yet to send, and that the
    /// buffers add up.
    pub(super) fn check_memory(&self) {
        let end = self.hub.channel.committed_end();
        let unsent_bytes = end - self.positions().min().unwrap_or(end);
        let retained = self.hub.channel.retained_bytes();
        // The log keeps whole segments. Each was filled until a frame did not fit; of the
        // first and the last, perhaps only a part is unsent.
        let filled_bytes_min = SEGMENT_BYTES - u64::from(self.limits.frame_bytes_max) - 10;
        // A text is removed from a copy, and the segment that is being filled ends there.
        let segments_max = unsent_bytes / filled_bytes_min + 2 + 2 * self.removals;
        assert!(
            retained <= segments_max * SEGMENT_BYTES,
            "a log of {retained} bytes for {unsent_bytes}"
        );
        let accepted = self.links.iter().filter(|link| !link.is_rejected);
        let buffered_bytes: usize = accepted
            .filter_map(|link| link.connection.as_ref())
            .map(|connection| connection.memory_bytes())
            .map(|(read_buffer_bytes, reply_bytes)| read_buffer_bytes + reply_bytes)
            .sum();
        assert_eq!(
            self.hub.registry.buffered_bytes(),
            buffered_bytes as u64,
            "the registry knows what the buffers take"
        );
    }

    /// Tells the oracle which connections the server may evict at this tick, and which
    /// it must: tries whether the rest fits without all connections that take more.
    pub(super) fn expect_evictions(&mut self) {
        let end = self.hub.channel.committed_end();
        let retained_bytes = self.hub.channel.retained_bytes();
        let bytes_max = self.limits.queue_bytes_max;
        let usages = self.usages(end);
        let buffered_bytes = usages.iter().map(|usage| usage.buffered_bytes);
        let all_bytes = buffered_bytes.sum::<u64>() + retained_bytes;
        if all_bytes <= bytes_max {
            return;
        }
        self.oracle.coverage.mark("memory full");
        self.note(format_args!(
            "all queues take {all_bytes} bytes, {retained_bytes} of them the log up to {end}: {usages:?}"
        ));
        let exceeds_without = |is_gone: &dyn Fn(&Usage) -> bool| {
            let rest = || usages.iter().filter(|usage| !is_gone(usage));
            let buffered_bytes: u64 = rest().map(|usage| usage.buffered_bytes).sum();
            let oldest = rest().filter_map(|usage| usage.position).min();
            let log_bytes = match rest().count() < usages.len() {
                true => retained_bytes.min(end - oldest.unwrap_or(end)),
                false => retained_bytes,
            };
            buffered_bytes + log_bytes > bytes_max
        };
        for usage in usages.iter().filter(|usage| usage.cost_bytes > 0) {
            let may = exceeds_without(&|other| other.cost_bytes > usage.cost_bytes);
            let must = exceeds_without(&|other| {
                other.cost_bytes >= usage.cost_bytes && other.index != usage.index
            });
            self.oracle.expect_eviction(usage.index, may, must);
        }
    }

    fn usages(&self, end: u64) -> Vec<Usage> {
        let links = self.links.iter().enumerate();
        let accepted = links.filter(|(_, link)| !link.is_rejected);
        accepted
            .filter_map(|(index, link)| {
                let connection = link.connection.as_ref()?;
                let (read_buffer_bytes, reply_bytes) = connection.memory_bytes();
                let buffered_bytes = (read_buffer_bytes + reply_bytes) as u64;
                let position = connection.position().map(|position| position.min(end));
                let behind_bytes = position.map_or(0, |position| end - position);
                Some(Usage {
                    index,
                    position,
                    buffered_bytes,
                    cost_bytes: behind_bytes + buffered_bytes,
                })
            })
            .collect()
    }
}
