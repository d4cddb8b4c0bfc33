//! Eviction: which connections the server closes when all queues together take more
//! memory than they may (CHAT-LIM-10), the largest first. Pure: figures go in, a
//! decision comes out, the same for the same figures.

/// The memory that one connection takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// The connection's index.
    pub(super) index: usize,
    /// The position in the log that is sent to it next. The log stays in memory from
    /// there on.
    pub(super) position: Option<u64>,
    /// Its unsent replies and unfinished frames.
    pub(super) buffered_bytes: u64,
    /// It was selected before, and has not run since to release its memory.
    pub(super) is_evicted: bool,
}

impl Usage {
    fn cost_bytes(&self, end: u64) -> u64 {
        let behind = self
            .position
            .map_or(0, |position| end.saturating_sub(position));
        behind + self.buffered_bytes
    }
}

/// Selects the connections to close, so that the log and all buffers fit into
/// `bytes_max` again. `end` and `retained_bytes`: of the log.
pub(super) fn select_victims(
    mut usages: Vec<Usage>,
    end: u64,
    retained_bytes: u64,
    bytes_max: u64,
) -> Vec<usize> {
    let mut buffered_bytes: u64 = usages.iter().map(|usage| usage.buffered_bytes).sum();
    let mut log_bytes = retained_bytes;
    if log_bytes + buffered_bytes <= bytes_max {
        return Vec::new();
    }
    usages.retain(|usage| usage.cost_bytes(end) > 0);
    // Popped from the end: first the connections that leave already, then the largest;
    // of equals, the one with the highest index.
    usages.sort_by_key(|usage| (usage.is_evicted, usage.cost_bytes(end), usage.index));
    let mut victims = Vec::new();
    while log_bytes + buffered_bytes > bytes_max
        && let Some(usage) = usages.pop()
    {
        if !usage.is_evicted {
            victims.push(usage.index);
        }
        buffered_bytes -= usage.buffered_bytes;
        let oldest = usages.iter().filter_map(|usage| usage.position).min();
        log_bytes = log_bytes.min(end.saturating_sub(oldest.unwrap_or(end)));
    }
    victims
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(index: usize, position: Option<u64>, buffered_bytes: u64) -> Usage {
        Usage {
            index,
            position,
            buffered_bytes,
            is_evicted: false,
        }
    }

    #[test]
    fn eviction_selects_no_connection_while_all_fits() {
        let usages = vec![usage(0, Some(0), 500), usage(1, None, 100)];
        assert_eq!(select_victims(usages, 400, 400, 1_000), [0usize; 0]);
    }

    #[test]
    fn eviction_selects_the_largest_first_and_no_more_than_needed() {
        let usages = vec![
            usage(0, Some(1_000), 10),
            usage(1, None, 300),
            usage(2, Some(200), 0),
            usage(3, Some(900), 250),
        ];
        // Connection 2 alone keeps the log from 200 to 900 in memory.
        assert_eq!(select_victims(usages.clone(), 1_000, 800, 1_000), [2]);
        assert_eq!(select_victims(usages.clone(), 1_000, 800, 500), [2, 3]);
        assert_eq!(select_victims(usages, 1_000, 800, 0), [2, 3, 1, 0]);
    }

    #[test]
    fn eviction_breaks_ties_by_connection_index() {
        let mut usages: Vec<_> = (0..5).map(|index| usage(index, None, 100)).collect();
        assert_eq!(select_victims(usages.clone(), 0, 0, 300), [4, 3]);
        usages.reverse();
        assert_eq!(select_victims(usages, 0, 0, 300), [4, 3]);
    }

    #[test]
    fn eviction_counts_a_member_that_leaves_already_first() {
        let mut usages = vec![
            usage(0, None, 200),
            usage(1, Some(100), 900),
            usage(2, Some(900), 300),
        ];
        usages[1].is_evicted = true;
        assert_eq!(select_victims(usages.clone(), 1_000, 900, 600), [0usize; 0]);
        assert_eq!(select_victims(usages.clone(), 1_000, 900, 599), [2]);
        // A small one counts as well.
        usages[1] = Usage {
            is_evicted: true,
            ..usage(1, None, 100)
        };
        assert_eq!(select_victims(usages, 1_000, 100, 600), [0usize; 0]);
    }

    #[test]
    fn eviction_spares_a_connection_that_takes_no_memory() {
        let usages = vec![usage(0, Some(100), 0), usage(1, None, 0)];
        assert_eq!(select_victims(usages, 100, 5_000, 1_000), [0usize; 0]);
    }
}
