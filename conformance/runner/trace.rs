//! Wire trace: the messages of a connection with their times, for the report of a
//! failure.

use std::{collections::VecDeque, time::Duration};

use crate::verdict::millis;

/// How many lines are kept of how it began, and how many of how it ended.
const LINES_MAX: usize = 100;

/// The lines of a trace. Equal lines in a row are one line with a count; of a long trace
/// the first and the last lines are kept.
#[derive(Default)]
pub struct Trace {
    first: Vec<Line>,
    last: VecDeque<Line>,
    left_out: usize,
}

struct Line {
    at: Duration,
    text: String,
    times: usize,
}

impl Trace {
    /// Something went over the connection, so long after the case began.
    pub fn note(&mut self, at: Duration, text: String) {
        if let Some(line) = self.last.back_mut().or(self.first.last_mut())
            && line.text == text
        {
            line.times += 1;
            return;
        }
        let line = Line { at, text, times: 1 };
        if self.first.len() < LINES_MAX {
            self.first.push(line);
            return;
        }
        if self.last.len() == LINES_MAX
            && let Some(line) = self.last.pop_front()
        {
            self.left_out += line.times;
        }
        self.last.push_back(line);
    }

    /// The lines, each beginning with `who`.
    pub fn lines(&self, who: &str) -> impl Iterator<Item = String> {
        let line = move |line: &Line| {
            let times = match line.times {
                1 => String::new(),
                times => format!("  ({times} times)"),
            };
            format!("{who} {:>5} ms {}{times}", millis(line.at), line.text)
        };
        let left_out = (self.left_out > 0).then(|| format!("{who} ({} more)", self.left_out));
        let first = self.first.iter().map(line);
        first.chain(left_out).chain(self.last.iter().map(line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(texts: impl Iterator<Item = String>) -> Vec<String> {
        let mut trace = Trace::default();
        for (at, text) in (0..).zip(texts) {
            trace.note(Duration::from_millis(at), text);
        }
        trace.lines("alice").collect()
    }

    #[test]
    fn equal_lines_in_a_row_are_one_line() {
        let texts = ["a", "b", "b", "b", "a"].map(str::to_owned);
        assert_eq!(
            told(texts.into_iter()),
            [
                "alice     0 ms a",
                "alice     1 ms b  (3 times)",
                "alice     4 ms a"
            ]
        );
    }

    #[test]
    fn a_long_trace_keeps_its_first_and_last_lines() {
        let lines = told((0..1_000).map(|n| n.to_string()));
        assert_eq!(lines.len(), 2 * LINES_MAX + 1);
        assert_eq!(lines[LINES_MAX - 1], "alice    99 ms 99");
        assert_eq!(lines[LINES_MAX], "alice (800 more)");
        assert_eq!(lines[LINES_MAX + 1], "alice   900 ms 900");
        assert_eq!(lines[2 * LINES_MAX], "alice   999 ms 999");
    }
}
