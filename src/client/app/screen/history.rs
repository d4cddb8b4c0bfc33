//! History: the lines that were typed, as Up and Down walk them, and as a file keeps
//! them. Pure.

use std::collections::VecDeque;

/// How many lines are kept.
pub(in crate::client::app) const LINES_MAX: usize = 1_000;

/// The longest line that is kept, in bytes.
const LINE_BYTES_MAX: usize = 16_384;

/// Lines that were typed, the newest last.
#[derive(Debug, Default)]
pub(super) struct History {
    lines: VecDeque<String>,
    /// How many lines back the walk is; 0 at the draft.
    back: usize,
    /// The draft that the walk began with.
    draft: String,
}

impl History {
    /// From the content of a file.
    pub(super) fn parse(content: &str) -> Self {
        let mut history = Self::default();
        for line in content.lines() {
            history.add(&unescape(line));
        }
        history
    }

    /// Adds a line, unless it repeats the last one. Returns whether it was added.
    pub(super) fn add(&mut self, line: &str) -> bool {
        self.back = 0;
        let is_new = self.lines.back().is_none_or(|last| last != line);
        if line.trim().is_empty() || line.len() > LINE_BYTES_MAX || !is_new {
            return false;
        }
        if self.lines.len() >= LINES_MAX {
            self.lines.pop_front();
        }
        self.lines.push_back(line.to_owned());
        true
    }

    /// The line before; the first step keeps `draft`.
    pub(super) fn older(&mut self, draft: &str) -> Option<String> {
        let index = self.lines.len().checked_sub(self.back + 1)?;
        if self.back == 0 {
            draft.clone_into(&mut self.draft);
        }
        self.back += 1;
        self.lines.get(index).cloned()
    }

    /// Ends a walk. Returns the draft that it began with, if what it found is unchanged.
    pub(super) fn end_walk(&mut self, shown: &str) -> Option<String> {
        let index = self.lines.len().checked_sub(self.back)?;
        let is_unchanged = self.lines.get(index).is_some_and(|line| line == shown);
        let draft = std::mem::take(&mut self.draft);
        self.back = 0;
        is_unchanged.then_some(draft)
    }

    /// The line after; at last the draft.
    pub(super) fn newer(&mut self) -> Option<String> {
        self.back = self.back.checked_sub(1)?;
        if self.back == 0 {
            return Some(std::mem::take(&mut self.draft));
        }
        let index = self.lines.len().checked_sub(self.back)?;
        self.lines.get(index).cloned()
    }
}

/// One row of the history file: line breaks and backslashes are escaped.
pub(super) fn escape(line: &str) -> String {
    line.replace('\\', "\\\\").replace('\n', "\\n")
}

fn unescape(row: &str) -> String {
    let mut line = String::new();
    let mut characters = row.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n') => line.push('\n'),
                Some(other) => line.push(other),
                None => {}
            },
            _ => line.push(character),
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_keeps_the_draft() {
        let mut history = History::default();
        assert_eq!(history.older("dra"), None);
        for line in ["one", "two", "two", " "] {
            history.add(line);
        }
        assert_eq!(history.older("draft").as_deref(), Some("two"));
        assert_eq!(history.older("two").as_deref(), Some("one"));
        assert_eq!(history.older("one"), None);
        assert_eq!(history.newer().as_deref(), Some("two"));
        assert_eq!(history.newer().as_deref(), Some("draft"));
        assert_eq!(history.newer(), None);
    }

    #[test]
    fn a_file_keeps_lines_of_several_rows() {
        let line = "one\\n\ntwo\\";
        let history = History::parse(&format!("{}\nthree\n", escape(line)));
        assert_eq!(Vec::from(history.lines), [line, "three"]);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut history = History::default();
        for number in 0..2 * LINES_MAX {
            history.add(&number.to_string());
        }
        assert!(!history.add(&"x".repeat(LINE_BYTES_MAX + 1)));
        assert_eq!(history.lines.len(), LINES_MAX);
    }
}
