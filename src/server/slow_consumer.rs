//! Whom the senders wait for when the room falls behind (CHAT-LIM-4,
//! CHAT-LIM-6). Pure: positions go in, a judgement comes out.
//!
//! When the log holds a lot that some member has not taken yet, the senders are
//! not read from for a while, so that a burst loses nothing. But a member is only
//! waited for while that is fair to the others:
//!
//! - When at least half of the members are behind, the room as a whole is slower
//!   than its senders: everybody who gets on is waited for, for a minute in all.
//!   That is more than a burst takes, and an end to what many who read slowly on
//!   purpose can do to the others.
//! - When a few are behind, they are waited for within an allowance, which grows
//!   back slowly. Then the others go on, and who falls too far behind is closed.
//! - Who does not get on at all uses up the allowance in either case.
//!
//! Whoever waits, a little is read from each sender all the time: who says little is
//! not what the room is too slow for, and does not notice.

/// How often members are judged, in milliseconds.
pub(super) const TICK_MS: u64 = 100;

/// For how many ticks a member may hold up the others: three tenths of a second.
/// Enough for a hiccup of a machine or a network; few people notice it.
const STALL_BUDGET_TICKS: u8 = 3;

/// How many ticks it takes to get back one tick of the allowance.
const STALL_BUDGET_RETURN_TICKS: u8 = 16;

/// After how many ticks without getting on a member counts as stuck: a second,
/// in which a crowded machine serves ten thousand readers once.
const STUCK_TICKS: u8 = 10;

/// For how many ticks a member may hold up the others in a room that is slow as a
/// whole: a minute.
pub(super) const SLOW_ROOM_TICKS: u16 = 600;

/// How many of those ticks come back with each tick in which it is not behind: who
/// is behind for less than four fifths of the time is waited for without end.
const SLOW_ROOM_RETURN_TICKS: u16 = 4;

/// What is remembered of one member between ticks.
#[derive(Debug, Clone, Default)]
pub(super) struct StallBudget {
    position: u64,
    still_ticks: u8,
    used_ticks: u8,
    return_ticks: u8,
    slow_room_ticks: u16,
}

impl StallBudget {
    fn is_left(&self) -> bool {
        self.used_ticks < STALL_BUDGET_TICKS && self.slow_room_ticks < SLOW_ROOM_TICKS
    }
}

/// A member as the judgement sees it.
pub(super) struct Consumer<'a> {
    /// The position in the log of what is sent to it next.
    pub(super) position: u64,
    pub(super) stall_budget: &'a mut StallBudget,
}

/// Judges all members once a tick: whether anybody is behind who is still waited
/// for. A member is behind when `behind_bytes` or more of the log before `end`
/// are ahead of it. `is_paused`: whether the senders have been waiting.
pub(super) fn tick(
    consumers: &mut [Consumer<'_>],
    end: u64,
    behind_bytes: u64,
    is_paused: bool,
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
        let Consumer {
            position,
            stall_budget,
        } = consumer;
        let is_still = stall_budget.position == *position;
        stall_budget.position = *position;
        stall_budget.still_ticks = if is_still {
            stall_budget.still_ticks.saturating_add(1)
        } else {
            0
        };
        if behind {
            let is_stuck = stall_budget.still_ticks >= STUCK_TICKS;
            if is_paused && (is_stuck || !is_room_behind) {
                stall_budget.used_ticks = stall_budget
                    .used_ticks
                    .saturating_add(1)
                    .min(STALL_BUDGET_TICKS);
            }
            if is_paused {
                stall_budget.slow_room_ticks =
                    (stall_budget.slow_room_ticks + 1).min(SLOW_ROOM_TICKS);
            }
            is_waited_for |= stall_budget.is_left();
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

/// Judges between ticks whether anybody is behind who is still waited for.
/// `consumers`: position and stall_budget of each.
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

    /// Members whose positions move by `speeds` each tick, in a log that stays
    /// `BEHIND_BYTES` ahead of the fastest of those who start at 0. Returns for
    /// each tick whether the senders wait.
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
                is_paused = tick(&mut consumers, end, BEHIND_BYTES, is_paused);
                is_paused
            })
            .collect()
    }

    #[test]
    fn nobody_behind_nobody_waits() {
        assert_eq!(ticks(&[500, 0, 0], &[100, 100, 100], 50), [false; 50]);
    }

    #[test]
    fn one_of_three_is_waited_for_within_the_allowance() {
        let waits = ticks(&[2_000, 2_000, 0], &[100, 100, 50], 50);
        let count = waits.iter().filter(|&&waits| waits).count();
        assert_eq!(count, usize::from(STALL_BUDGET_TICKS));
        assert!(waits[..count].iter().all(|&waits| waits));
    }

    #[test]
    fn a_room_that_is_slow_as_a_whole_is_waited_for() {
        assert_eq!(ticks(&[2_000, 0, 0, 0], &[100; 4], 200), [true; 200]);
    }

    #[test]
    fn a_room_that_is_slow_on_purpose_is_waited_for_a_minute() {
        let waits = ticks(&[100_000, 0, 0, 0], &[100; 4], 2_000);
        let count = waits.iter().filter(|&&waits| waits).count();
        assert_eq!(count, usize::from(SLOW_ROOM_TICKS));
        assert!(waits[..count].iter().all(|&waits| waits));
    }

    #[test]
    fn who_catches_up_now_and_then_is_waited_for_without_end() {
        let mut stall_budget = StallBudget::default();
        let mut is_paused = false;
        for count in 0..10_000 {
            let position = if count % 5 == 0 { 1_000 } else { 0 };
            let mut consumers = [Consumer {
                // It moves, so that it is not stuck.
                position: position + count % 2,
                stall_budget: &mut stall_budget,
            }];
            is_paused = tick(&mut consumers, 1_010, BEHIND_BYTES, is_paused);
            assert_eq!(is_paused, position == 0, "tick {count}");
        }
    }

    #[test]
    fn who_is_stuck_is_not_waited_for_even_by_a_slow_room() {
        let waits = ticks(&[2_000, 0, 0], &[0, 0, 0], 100);
        let count = waits.iter().filter(|&&waits| waits).count();
        // The tick that makes it stuck is the first of the allowance, and the one
        // that uses it up does not wait.
        assert_eq!(count, usize::from(STUCK_TICKS + STALL_BUDGET_TICKS) - 2);
    }

    #[test]
    fn the_allowance_comes_back_slowly() {
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
            tick(&mut consumers, 0, BEHIND_BYTES, false);
        }
        assert!(stall_budget.is_left());
        let is_waited_for = |position| {
            should_pause_reads([(position, &stall_budget)].into_iter(), 1_500, BEHIND_BYTES)
        };
        assert!(is_waited_for(500));
        assert!(!is_waited_for(501));
    }
}
