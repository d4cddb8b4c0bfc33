//! Composer: the text that is being written, with the keys of emacs: movement by
//! character, word and line, kill and yank, undo. Pure.

use std::collections::VecDeque;
use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

use super::find::part;

/// The longest draft, in bytes; the rest of a longer paste is dropped, which is told.
pub(super) const DRAFT_BYTES_MAX: usize = 256 << 10;

/// How many killed texts are kept.
const KILLED_MAX: usize = 16;

/// How many steps can be undone, and how many bytes they may take.
const UNDO_STEPS_MAX: usize = 200;
const UNDO_BYTES_MAX: usize = 4 << 20;

/// The last edit: similar edits are undone together, and kills in a row are one text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Last {
    #[default]
    Other,
    Insert,
    Delete,
    Kill,
    /// A yank, which put its text at this place.
    Yank(usize),
}

/// A draft of one or more lines and the cursor in it.
#[derive(Debug, Default)]
pub(super) struct Composer {
    text: String,
    /// A byte offset between two grapheme clusters.
    cursor: usize,
    killed: VecDeque<String>,
    undo: VecDeque<(String, usize)>,
    last: Last,
}

/// A draft that is put aside.
#[derive(Debug, Default)]
pub(super) struct Draft {
    text: String,
    cursor: usize,
    /// How many lines it got by pastes.
    pub(super) pasted_lines: usize,
}

impl Draft {
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn into_text(self) -> String {
        self.text
    }
}

impl Composer {
    /// Goes on with another draft, and puts this one in its place. What was killed stays;
    /// undo does not reach into the other draft.
    pub(super) fn exchange(&mut self, draft: &mut Draft) {
        std::mem::swap(&mut self.text, &mut draft.text);
        std::mem::swap(&mut self.cursor, &mut draft.cursor);
        self.undo.clear();
        self.last = Last::Other;
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn cursor(&self) -> usize {
        self.cursor
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn has_lines(&self) -> bool {
        self.text.trim_end_matches('\n').contains('\n')
    }

    /// Inserts text at the cursor. Returns whether all of it fitted.
    pub(super) fn insert(&mut self, text: &str) -> bool {
        let mut room = DRAFT_BYTES_MAX.saturating_sub(self.text.len());
        room = room.min(text.len());
        while !text.is_char_boundary(room) {
            room -= 1;
        }
        let is_word = text.len() == 1 && text != " " && text != "\n";
        if self.last != Last::Insert || !is_word {
            self.remember();
        }
        self.replace(self.cursor..self.cursor, part(text, ..room));
        self.last = if is_word { Last::Insert } else { Last::Other };
        room == text.len()
    }

    /// Replaces the bytes before the cursor from `start` on.
    pub(super) fn complete(&mut self, start: usize, text: &str) {
        self.remember();
        self.last = Last::Other;
        self.replace(start.min(self.cursor)..self.cursor, text);
    }

    /// Replaces the whole draft; undo brings the old one back.
    pub(super) fn set(&mut self, text: String) {
        self.remember();
        self.last = Last::Other;
        self.cursor = text.len();
        self.text = text;
    }

    /// Takes the draft, which is being sent.
    pub(super) fn take(&mut self) -> String {
        self.undo.clear();
        self.last = Last::Other;
        self.cursor = 0;
        std::mem::take(&mut self.text)
    }

    pub(super) fn left(&mut self) {
        self.go(self.previous());
    }

    pub(super) fn right(&mut self) {
        self.go(self.next());
    }

    pub(super) fn word_left(&mut self) {
        self.go(self.word_start());
    }

    pub(super) fn word_right(&mut self) {
        self.go(self.word_end());
    }

    pub(super) fn line_start(&mut self) {
        self.go(self.start_of_line(self.cursor));
    }

    pub(super) fn line_end(&mut self) {
        self.go(self.end_of_line(self.cursor));
    }

    /// Moves to the line above. Returns whether there is one.
    pub(super) fn up(&mut self) -> bool {
        let start = self.start_of_line(self.cursor);
        let Some(end_above) = start.checked_sub(1) else {
            return false;
        };
        self.go_to_column(self.start_of_line(end_above), end_above, start);
        true
    }

    /// Moves to the line below. Returns whether there is one.
    pub(super) fn down(&mut self) -> bool {
        let end = self.end_of_line(self.cursor);
        if end == self.text.len() {
            return false;
        }
        let start = self.start_of_line(self.cursor);
        self.go_to_column(end + 1, self.end_of_line(end + 1), start);
        true
    }

    pub(super) fn delete_back(&mut self) {
        self.delete(self.previous()..self.cursor);
    }

    pub(super) fn delete_forward(&mut self) {
        self.delete(self.cursor..self.next());
    }

    pub(super) fn kill_to_line_end(&mut self) {
        let end = self.end_of_line(self.cursor);
        // At the end of a line, the line break.
        let end = if end == self.cursor { self.next() } else { end };
        self.kill(self.cursor..end);
    }

    pub(super) fn kill_to_line_start(&mut self) {
        self.kill(self.start_of_line(self.cursor)..self.cursor);
    }

    pub(super) fn kill_word_forward(&mut self) {
        self.kill(self.cursor..self.word_end());
    }

    pub(super) fn kill_word_back(&mut self) {
        self.kill(self.word_start()..self.cursor);
    }

    /// Kills back to the blank before the word, as a shell does.
    pub(super) fn kill_back_to_blank(&mut self) {
        let before = self.before();
        let word = before.trim_end();
        let start = word
            .char_indices()
            .rev()
            .find(|(_, character)| character.is_whitespace())
            .map_or(0, |(index, character)| index + character.len_utf8());
        self.kill(start..self.cursor);
    }

    /// Puts the text that was killed last at the cursor.
    pub(super) fn yank(&mut self) {
        if let Some(text) = self.killed.back().cloned() {
            let start = self.cursor;
            self.insert(&text);
            self.last = Last::Yank(start);
        }
    }

    /// Right after a yank: replaces its text by the one that was killed before.
    pub(super) fn yank_older(&mut self) {
        let Last::Yank(start) = self.last else {
            return;
        };
        self.killed.rotate_right(1);
        if let Some(text) = self.killed.back().cloned() {
            self.replace(start..self.cursor, &text);
            self.last = Last::Yank(start);
        }
    }

    /// Swaps the characters around the cursor.
    pub(super) fn transpose(&mut self) {
        let middle = match self.cursor == self.end_of_line(self.cursor) {
            true => self.previous(),
            false => self.cursor,
        };
        let start = self.before_in(middle);
        let end = middle + first_cluster(part(&self.text, middle..)).len();
        if start < middle && !part(&self.text, start..end).contains('\n') {
            self.remember();
            let swapped = format!(
                "{}{}",
                part(&self.text, middle..end),
                part(&self.text, start..middle)
            );
            self.cursor = end;
            self.replace(start..end, &swapped);
            self.last = Last::Other;
        }
    }

    pub(super) fn undo(&mut self) {
        if let Some((text, cursor)) = self.undo.pop_back() {
            self.text = text;
            self.cursor = cursor;
        }
        self.last = Last::Other;
    }

    fn before(&self) -> &str {
        part(&self.text, ..self.cursor)
    }

    fn previous(&self) -> usize {
        self.before_in(self.cursor)
    }

    /// The start of the cluster that ends at `end`.
    fn before_in(&self, end: usize) -> usize {
        let cluster = part(&self.text, ..end).graphemes(true).next_back();
        end - cluster.map_or(0, str::len)
    }

    fn next(&self) -> usize {
        self.cursor + first_cluster(part(&self.text, self.cursor..)).len()
    }

    fn word_start(&self) -> usize {
        let word = self
            .before()
            .trim_end_matches(|character: char| !character.is_alphanumeric());
        word.trim_end_matches(char::is_alphanumeric).len()
    }

    fn word_end(&self) -> usize {
        let rest = part(&self.text, self.cursor..);
        let word = rest.trim_start_matches(|character: char| !character.is_alphanumeric());
        let after = word.trim_start_matches(char::is_alphanumeric);
        self.text.len() - after.len()
    }

    fn start_of_line(&self, at: usize) -> usize {
        part(&self.text, ..at)
            .rfind('\n')
            .map_or(0, |index| index + 1)
    }

    fn end_of_line(&self, at: usize) -> usize {
        let end = part(&self.text, at..).find('\n');
        end.map_or(self.text.len(), |index| at + index)
    }

    fn go(&mut self, to: usize) {
        self.cursor = self.boundary(to);
        self.last = Last::Other;
    }

    /// Moves into the line between `start` and `end`, as many clusters from its start as
    /// the cursor is from `from`.
    fn go_to_column(&mut self, start: usize, end: usize, from: usize) {
        let column = part(&self.text, from..self.cursor).graphemes(true).count();
        let line = part(&self.text, start..end);
        let bytes: usize = line.graphemes(true).take(column).map(str::len).sum();
        self.go(start + bytes);
    }

    fn delete(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        if self.last != Last::Delete {
            self.remember();
        }
        self.replace(range, "");
        self.last = Last::Delete;
    }

    fn kill(&mut self, range: Range<usize>) {
        if range.is_empty() {
            return;
        }
        let killed = part(&self.text, range.clone()).to_owned();
        match self.killed.back_mut() {
            Some(last) if self.last == Last::Kill && range.start < self.cursor => {
                last.insert_str(0, &killed);
            }
            Some(last) if self.last == Last::Kill => last.push_str(&killed),
            _ => {
                if self.killed.len() >= KILLED_MAX {
                    self.killed.pop_front();
                }
                self.killed.push_back(killed);
            }
        }
        self.remember();
        self.replace(range, "");
        self.last = Last::Kill;
    }

    fn replace(&mut self, range: Range<usize>, text: &str) {
        self.text.replace_range(range.clone(), text);
        self.cursor = range.start + text.len();
        self.cursor = self.boundary(self.cursor);
    }

    /// The next place between two clusters: a combining mark may stand at `at`.
    fn boundary(&self, at: usize) -> usize {
        let clusters = self.text.grapheme_indices(true);
        let mut boundaries = clusters.map(|(start, _)| start);
        let next = boundaries.find(|&boundary| boundary >= at);
        next.unwrap_or(self.text.len())
    }

    fn remember(&mut self) {
        self.undo.push_back((self.text.clone(), self.cursor));
        let bytes = |undo: &VecDeque<(String, usize)>| -> usize {
            undo.iter().map(|(text, _)| text.len()).sum()
        };
        while self.undo.len() > UNDO_STEPS_MAX || bytes(&self.undo) > UNDO_BYTES_MAX {
            self.undo.pop_front();
        }
    }
}

fn first_cluster(text: &str) -> &str {
    text.graphemes(true).next().unwrap_or_default()
}

#[cfg(test)]
mod tests;
