//! Bound of the log: an attack cannot fill a disk. Lines that repeat are counted, and so
//! are those beyond a rate; both sums are logged. Pure: lines and the time go in.

use std::collections::BTreeMap;

use chat::token_bucket::TokenBucket;

use super::line::Line;

/// How many lines a second of one class are written in the long run: 250 MB a day.
pub const LINES_PER_SECOND_MAX: u64 = 20;

/// How many lines of one class are written at once: half of a full room that comes back
/// after a restart.
pub const LINES_BURST: u64 = 5_000;

/// How many equal lines are written in [`REPEATS_MS`] before they are only counted:
/// more than programs need that ban an address by its lines.
pub const REPEATS_SHOWN: u64 = 10;

/// For how long equal lines are counted together, in milliseconds.
pub const REPEATS_MS: u64 = 10_000;

/// How many lines are remembered to be compared. Others are only counted by the rate.
const REMEMBERED_MAX: usize = 1_024;

/// How many messages the lines that were left out are summed under.
const LEFT_OUT_MESSAGES_MAX: usize = 16;

const SECOND_MS: u64 = 1_000;

/// Lines that do not take the room of others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Warnings and errors.
    Warning,
    /// Connections that were refused: the cheapest for an attacker.
    Refused,
    /// Everything else.
    Other,
}

/// What has been written and what was only counted.
#[derive(Debug, Default)]
pub struct Bound {
    buckets: [TokenBucket; 3],
    /// By what two equal lines have in common.
    remembered: BTreeMap<String, Repeats>,
    left_out: BTreeMap<String, u64>,
    /// When the sum of those that were left out is due.
    left_out_due_ms: u64,
}

#[derive(Debug)]
struct Repeats {
    since_ms: u64,
    count: u64,
    /// The first that was not written.
    line: Option<Line>,
}

/// Sums that are due.
#[derive(Debug, Default)]
pub struct Sums {
    /// Equal lines, and how many of them were not written.
    pub repeated: Vec<(Line, u64)>,
    /// The messages of lines beyond the rate, and how many there were.
    pub left_out: Vec<(String, u64)>,
}

impl Bound {
    /// Whether to write a line.
    pub fn admits(&mut self, now_ms: u64, class: Class, line: &Line) -> bool {
        let key = line.key();
        if let Some(repeats) = self.remembered.get_mut(&key)
            && repeats.count >= REPEATS_SHOWN
        {
            repeats.count += 1;
            repeats.line.get_or_insert_with(|| line.without_volatile());
            return false;
        }
        let cost_ms = SECOND_MS / LINES_PER_SECOND_MAX;
        let [warning, refused, other] = &mut self.buckets;
        let bucket = match class {
            Class::Warning => warning,
            Class::Refused => refused,
            Class::Other => other,
        };
        if bucket.take(now_ms, cost_ms, LINES_BURST * cost_ms).is_ok() {
            let has_room = self.remembered.len() < REMEMBERED_MAX;
            if let Some(repeats) = self.remembered.get_mut(&key) {
                repeats.count += 1;
            } else if has_room {
                let repeats = Repeats {
                    since_ms: now_ms,
                    count: 1,
                    line: None,
                };
                self.remembered.insert(key, repeats);
            }
            return true;
        }
        if self.left_out.is_empty() {
            self.left_out_due_ms = now_ms + REPEATS_MS;
        }
        let message = &line.message;
        if self.left_out.len() < LEFT_OUT_MESSAGES_MAX || self.left_out.contains_key(message) {
            *self.left_out.entry(message.clone()).or_default() += 1;
        }
        false
    }

    /// The sums that are due now; with `all`, those that are not due yet too.
    pub fn sums(&mut self, now_ms: u64, all: bool) -> Sums {
        let mut sums = Sums::default();
        self.remembered.retain(|_, repeats| {
            let is_due = all || now_ms.saturating_sub(repeats.since_ms) >= REPEATS_MS;
            if is_due && let Some(line) = repeats.line.take() {
                sums.repeated.push((line, repeats.count - REPEATS_SHOWN));
            }
            !is_due
        });
        if all || now_ms >= self.left_out_due_ms {
            sums.left_out = std::mem::take(&mut self.left_out).into_iter().collect();
        }
        sums
    }
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    fn refused(number: u64) -> Line {
        Line::of(Level::INFO, "refused").with("number", number)
    }

    fn written(bound: &mut Bound, now_ms: u64, lines: impl Iterator<Item = Line>) -> u64 {
        let written = lines.filter(|line| bound.admits(now_ms, Class::Refused, line));
        written.count() as u64
    }

    type Counts = Vec<(String, u64)>;

    fn sums(bound: &mut Bound, now_ms: u64) -> (Counts, Counts) {
        let Sums { repeated, left_out } = bound.sums(now_ms, false);
        let repeated = repeated
            .into_iter()
            .map(|(line, count)| (line.key(), count));
        (repeated.collect(), left_out)
    }

    #[test]
    fn equal_lines_are_counted_and_summed() {
        let mut bound = Bound::default();
        let same = |count| (0..count).map(|port| refused(1).with("port", port));
        assert_eq!(written(&mut bound, 0, same(57)), REPEATS_SHOWN);
        assert_eq!(sums(&mut bound, REPEATS_MS - 1), (Vec::new(), Vec::new()));
        let expected = vec![("refused number=1".to_owned(), 57 - REPEATS_SHOWN)];
        assert_eq!(sums(&mut bound, REPEATS_MS), (expected, Vec::new()));
        // Then they are lines as any other.
        assert_eq!(written(&mut bound, REPEATS_MS, same(1)), 1);
        assert_eq!(sums(&mut bound, 9 * REPEATS_MS), (Vec::new(), Vec::new()));
    }

    #[test]
    fn a_day_of_an_attack_has_a_bound() {
        const SECONDS: u64 = 300;
        let mut bound = Bound::default();
        let (mut lines, mut summed) = (0, 0);
        // A thousand lines a second, no two of them equal.
        for second in 0..SECONDS {
            let now_ms = second * SECOND_MS;
            let different = (0..1_000).map(|number| refused(second * 1_000 + number));
            lines += written(&mut bound, now_ms, different);
            let (repeated, left_out) = sums(&mut bound, now_ms);
            assert_eq!(repeated, Vec::new());
            lines += left_out.len() as u64;
            summed += left_out.iter().map(|(_, count)| count).sum::<u64>();
            assert!(bound.remembered.len() <= REMEMBERED_MAX);
        }
        let left = bound.sums(0, true).left_out;
        summed += left.iter().map(|(_, count)| count).sum::<u64>();
        assert!(
            lines <= LINES_BURST + SECONDS * (LINES_PER_SECOND_MAX + 1),
            "{lines}"
        );
        assert!(lines >= SECONDS * LINES_PER_SECOND_MAX, "{lines}");
        assert!(lines + summed >= SECONDS * 1_000, "{lines} and {summed}");
    }

    #[test]
    fn warnings_are_written_while_others_are_left_out() {
        let mut bound = Bound::default();
        let different = (0..2 * LINES_BURST).map(refused);
        assert_eq!(written(&mut bound, 0, different), LINES_BURST);
        let other = Line::of(Level::WARN, "disk");
        assert!(bound.admits(0, Class::Warning, &other));
        assert!(bound.admits(0, Class::Other, &other));
        let left_out = vec![("refused".to_owned(), LINES_BURST)];
        assert_eq!(bound.sums(0, true).left_out, left_out);
    }
}
