//! Whom to close when what waits in all queues together takes more memory than it
//! may (CHAT-LIM-10): the largest first. Pure: figures go in, a judgement comes out,
//! the same for the same figures.

/// A connection as the judgement sees it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    /// Which one it is.
    pub(super) index: usize,
    /// The position in the log of what is sent to it next; it keeps the log in memory
    /// from there on.
    pub(super) position: Option<u64>,
    /// Its replies that are not sent and its frames that are not whole.
    pub(super) buffered_bytes: u64,
    /// It was victims before and has not had its turn yet, in which it lets go.
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

/// Who is to be closed for the log and all that is held to fit into `bytes_max`
/// again. `end` and `retained_bytes`: of the log.
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
    // Last those who are going anyway, before them the largest; of equals, the one who
    // came to its seat last.
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
    fn nobody_while_it_fits() {
        let usages = vec![usage(0, Some(0), 500), usage(1, None, 100)];
        assert_eq!(select_victims(usages, 400, 400, 1_000), [0usize; 0]);
    }

    #[test]
    fn the_largest_first_and_no_more_than_it_takes() {
        let usages = vec![
            usage(0, Some(1_000), 10),
            usage(1, None, 300),
            usage(2, Some(200), 0),
            usage(3, Some(900), 250),
        ];
        // The log from 200 on is 2's doing.
        assert_eq!(select_victims(usages.clone(), 1_000, 800, 1_000), [2]);
        assert_eq!(select_victims(usages.clone(), 1_000, 800, 500), [2, 3]);
        assert_eq!(select_victims(usages, 1_000, 800, 0), [2, 3, 1, 0]);
    }

    #[test]
    fn of_equals_always_the_same() {
        let mut usages: Vec<_> = (0..5).map(|index| usage(index, None, 100)).collect();
        assert_eq!(select_victims(usages.clone(), 0, 0, 300), [4, 3]);
        usages.reverse();
        assert_eq!(select_victims(usages, 0, 0, 300), [4, 3]);
    }

    #[test]
    fn nobody_goes_in_place_of_who_goes_anyway() {
        let mut usages = vec![
            usage(0, None, 200),
            usage(1, Some(100), 900),
            usage(2, Some(900), 300),
        ];
        usages[1].is_evicted = true;
        assert_eq!(select_victims(usages.clone(), 1_000, 900, 600), [0usize; 0]);
        assert_eq!(select_victims(usages.clone(), 1_000, 900, 599), [2]);
        // Small as it is, it goes.
        usages[1] = Usage {
            is_evicted: true,
            ..usage(1, None, 100)
        };
        assert_eq!(select_victims(usages, 1_000, 100, 600), [0usize; 0]);
    }

    #[test]
    fn who_holds_nothing_is_left_alone() {
        let usages = vec![usage(0, Some(100), 0), usage(1, None, 0)];
        assert_eq!(select_victims(usages, 100, 5_000, 1_000), [0usize; 0]);
    }
}
