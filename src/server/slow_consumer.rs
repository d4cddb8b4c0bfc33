//! Slow-consumer policy: for which members the server pauses reading from senders,
//! and for how long (CHAT-LIM-4, CHAT-LIM-6). Pure: positions go in, a decision comes
//! out.
//!
//! When the log holds a lot that some member has not received yet, the server pauses
//! reading from senders, so that a burst loses nothing. Each member has a stall
//! budget, which bounds how long the others wait for it:
//!
//! - If at least half of the members are behind, the whole room is slower than its
//!   senders. The senders wait for every member that makes progress, for a minute in
//!   all. That is longer than a burst takes, and it bounds the harm that many members
//!   can do by reading slowly on purpose.
//! - If fewer members are behind, each spends its stall budget, which returns slowly.
//!   Then the senders go on, and a member that falls too far behind is closed.
//! - A member that makes no progress at all spends its stall budget in either case.
//!
//! During a pause the server still reads a small quota from each sender
//! ([`backpressure`](super::backpressure)), so a member that says little does not
//! notice the pause.

/// How often the server looks at the members' positions, in milliseconds.
pub(super) const TICK_MS: u64 = 100;

/// The stall budget: for how many ticks the senders wait for one member. Three tenths
/// of a second are enough for a hiccup of a machine or a network; few people notice.
const STALL_BUDGET_TICKS: u8 = 3;

/// How many ticks it takes until one tick of the stall budget returns.
const STALL_BUDGET_RETURN_TICKS: u8 = 16;

/// After how many ticks without progress a member counts as stuck: a second, in which
/// a busy machine serves ten thousand readers once.
const STUCK_TICKS: u8 = 10;

/// After how many ticks without progress the sender window no longer counts a member.
const WINDOW_STILL_TICKS: u8 = 2;

/// For how many ticks the senders wait for one member while the whole room is slow: a
/// minute.
pub(super) const SLOW_ROOM_TICKS: u16 = 600;

/// How many of those ticks return with each tick in which the member is not behind. For
/// a member that is behind less than four fifths of the time, the senders wait without
/// end.
const SLOW_ROOM_RETURN_TICKS: u16 = 4;

/// How long the senders have waited for one member, and how long they still may.
#[derive(Debug, Clone, Default)]
pub(super) struct StallBudget {
    /// Its position at the last tick.
    position: u64,
    /// For how many ticks it has made no progress.
    still_ticks: u8,
    /// How much of [`STALL_BUDGET_TICKS`] is spent.
    used_ticks: u8,
    /// How many ticks have passed since a spent tick returned.
    return_ticks: u8,
    /// How much of [`SLOW_ROOM_TICKS`] is spent.
    slow_room_ticks: u16,
}

impl StallBudget {
    /// Whether the sender window counts it: it gets on, and has not slowed the room
    /// down for too long.
    pub(super) fn keeps_up(&self) -> bool {
        self.still_ticks < WINDOW_STILL_TICKS && self.slow_room_ticks < SLOW_ROOM_TICKS
    }

    fn is_left(&self) -> bool {
        self.used_ticks < STALL_BUDGET_TICKS && self.slow_room_ticks < SLOW_ROOM_TICKS
    }
}

/// One member that reads the log.
pub(super) struct Consumer<'a> {
    /// The position in the log that is sent to it next.
    pub(super) position: u64,
    pub(super) stall_budget: &'a mut StallBudget,
}

/// Charges the stall budgets once a tick. Returns whether some member is behind for
/// which the senders still wait. A member is behind if it has yet to receive
/// `behind_bytes` or more of the log before `end`. `is_paused`: whether reading from
/// senders was paused for a long log during the tick. `window_bytes`: the size of the
/// sender window, if senders were paced by it.
pub(super) fn tick(
    consumers: &mut [Consumer<'_>],
    end: u64,
    behind_bytes: u64,
    is_paused: bool,
    window_bytes: Option<u64>,
) -> bool {
    let is_behind = |consumer: &Consumer<'_>| end.saturating_sub(consumer.position) >= behind_bytes;
    let behind = consumers
        .iter()
        .filter(|consumer| is_behind(consumer))
        .count();
    let is_room_behind = behind * 2 >= consumers.len();

    let mut is_waited_for = false;
    for consumer in consumers {
        let behind = is_behind(consumer);
        let behind_window =
            window_bytes.is_some_and(|bytes| end.saturating_sub(consumer.position) >= bytes);
        let Consumer {
            position,
            stall_budget,
        } = consumer;
        let is_still = stall_budget.position == *position && *position < end;
        stall_budget.position = *position;
        stall_budget.still_ticks = if is_still {
            stall_budget.still_ticks.saturating_add(1)
        } else {
            0
        };
        if behind || behind_window {
            let is_stuck = stall_budget.still_ticks >= STUCK_TICKS;
            if behind && is_paused && (is_stuck || !is_room_behind) {
                stall_budget.used_ticks = stall_budget
                    .used_ticks
                    .saturating_add(1)
                    .min(STALL_BUDGET_TICKS);
            }
            if behind && is_paused || behind_window {
                stall_budget.slow_room_ticks =
                    (stall_budget.slow_room_ticks + 1).min(SLOW_ROOM_TICKS);
            }
            is_waited_for |= behind && stall_budget.is_left();
            continue;
        }
        let slow_room_ticks = stall_budget.slow_room_ticks;
        stall_budget.slow_room_ticks = slow_room_ticks.saturating_sub(SLOW_ROOM_RETURN_TICKS);
        if stall_budget.used_ticks > 0 {
            stall_budget.return_ticks += 1;
            if stall_budget.return_ticks == STALL_BUDGET_RETURN_TICKS {
                stall_budget.return_ticks = 0;
                stall_budget.used_ticks -= 1;
            }
        }
    }
    is_waited_for
}

/// Whether reading from senders should pause, asked between ticks: whether some member
/// is behind and has stall budget left. `consumers`: position and stall budget of each.
pub(super) fn should_pause_reads<'a>(
    mut consumers: impl Iterator<Item = (u64, &'a StallBudget)>,
    end: u64,
    behind_bytes: u64,
) -> bool {
    consumers.any(|(position, stall_budget)| {
        end.saturating_sub(position) >= behind_bytes && stall_budget.is_left()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEHIND_BYTES: u64 = 1_000;

    /// Members that start at `starts` and move by `speeds` each tick, in a log that ends
    /// just ahead of the first of them. Returns for each tick whether reading pauses.
    fn ticks(starts: &[u64], speeds: &[u64], count: usize) -> Vec<bool> {
        let mut stall_budget = vec![StallBudget::default(); starts.len()];
        let mut positions = starts.to_vec();
        let mut is_paused = false;
        (0..count)
            .map(|_| {
                for (position, speed) in positions.iter_mut().zip(speeds) {
                    *position += speed;
                }
                let end = positions.iter().max().unwrap() + 10;
                let mut consumers: Vec<_> = positions
                    .iter()
                    .zip(&mut stall_budget)
                    .map(|(&position, stall_budget)| Consumer {
                        position,
                        stall_budget,
                    })
                    .collect();
                is_paused = tick(&mut consumers, end, BEHIND_BYTES, is_paused, None);
                is_paused
            })
            .collect()
    }

    #[test]
    fn reads_go_on_while_no_member_is_behind() {
        assert_eq!(ticks(&[500, 0, 0], &[100, 100, 100], 50), [false; 50]);
    }

    #[test]
    fn one_slow_member_of_three_pauses_reads_for_its_stall_budget() {
        let waits = ticks(&[2_000, 2_000, 0], &[100, 100, 50], 50);
        let count = waits.iter().filter(|&&waits| waits).count();
        assert_eq!(count, usize::from(STALL_BUDGET_TICKS));
        assert!(waits[..count].iter().all(|&waits| waits));
    }

    #[test]
    fn a_slow_room_pauses_reads_beyond_the_stall_budget() {
        assert_eq!(ticks(&[2_000, 0, 0, 0], &[100; 4], 200), [true; 200]);
    }

    #[test]
    fn a_slow_room_pauses_reads_for_a_minute_at_most() {
        let waits = ticks(&[100_000, 0, 0, 0], &[100; 4], 2_000);
        let count = waits.iter().filter(|&&waits| waits).count();
        assert_eq!(count, usize::from(SLOW_ROOM_TICKS));
        assert!(waits[..count].iter().all(|&waits| waits));
    }

    #[test]
    fn a_member_that_catches_up_now_and_then_pauses_reads_without_end() {
        let mut stall_budget = StallBudget::default();
        let mut is_paused = false;
        for count in 0..10_000 {
            let position = if count % 5 == 0 { 1_000 } else { 0 };
            let mut consumers = [Consumer {
                // It moves, so that it is not stuck.
                position: position + count % 2,
                stall_budget: &mut stall_budget,
            }];
            is_paused = tick(&mut consumers, 1_010, BEHIND_BYTES, is_paused, None);
            assert_eq!(is_paused, position == 0, "tick {count}");
        }
    }

    #[test]
    fn a_stuck_member_spends_its_stall_budget_even_in_a_slow_room() {
        let waits = ticks(&[2_000, 0, 0], &[0, 0, 0], 100);
        let count = waits.iter().filter(|&&waits| waits).count();
        // The tick that makes it stuck is the first that it spends, and reading goes on
        // with the tick that spends the last.
        assert_eq!(count, usize::from(STUCK_TICKS + STALL_BUDGET_TICKS) - 2);
    }

    #[test]
    fn the_stall_budget_returns_slowly() {
        let mut stall_budget = StallBudget {
            used_ticks: STALL_BUDGET_TICKS,
            ..Default::default()
        };
        for tick_count in 0..STALL_BUDGET_RETURN_TICKS {
            assert!(!stall_budget.is_left(), "after {tick_count} ticks");
            let mut consumers = [Consumer {
                position: 0,
                stall_budget: &mut stall_budget,
            }];
            tick(&mut consumers, 0, BEHIND_BYTES, false, None);
        }
        assert!(stall_budget.is_left());
        let should_pause = |position| {
            should_pause_reads([(position, &stall_budget)].into_iter(), 1_500, BEHIND_BYTES)
        };
        assert!(should_pause(500));
        assert!(!should_pause(501));
    }

    #[test]
    fn a_paced_room_uses_the_minute_of_those_behind_the_window_and_nothing_else() {
        const WINDOW_BYTES: u64 = 100;
        let mut budgets = [StallBudget::default(), StallBudget::default()];
        for count in 1..=u64::from(SLOW_ROOM_TICKS) {
            assert!(budgets[0].keeps_up(), "after {count} ticks");
            let [slow, fast] = &mut budgets;
            let mut consumers =
                [(1_000 + count, slow), (1_200 + count, fast)].map(|(position, stall_budget)| {
                    Consumer {
                        position,
                        stall_budget,
                    }
                });
            let end = 1_200 + count;
            let waits = tick(&mut consumers, end, BEHIND_BYTES, false, Some(WINDOW_BYTES));
            assert!(!waits, "the log is not long");
        }
        assert!(!budgets[0].keeps_up());
        assert!(budgets[1].keeps_up());
        assert_eq!(budgets[0].used_ticks, 0);
    }

    #[test]
    fn the_window_counts_no_member_that_stands_still() {
        let mut stall_budget = StallBudget::default();
        let mut pass = |position, end| {
            let mut consumers = [Consumer {
                position,
                stall_budget: &mut stall_budget,
            }];
            tick(&mut consumers, end, BEHIND_BYTES, false, None);
            stall_budget.keeps_up()
        };
        // At the end of the log there is nothing to get on with.
        assert!((0..20).all(|_| pass(100, 100)));
        assert!(pass(100, 200));
        assert!(!pass(100, 300));
        assert!(pass(101, 300));
    }
}
