//! Scrolling: which rows of the log are on the screen, in the view that is shown. Pure.

use super::log::{Entry, EntryId};
use super::model::Model;
use super::rows::{Block, block};
use super::views::Scroll;

/// More rows than any log has.
pub(super) const ROWS_MAX: usize = usize::MAX / 2;

/// A row of the log: the index of its entry, and its number within the entry.
type Place = (usize, usize);

impl Model {
    /// The blocks that are shown, with the range of their rows, from top to bottom.
    pub(super) fn visible(&self) -> Vec<(Block, std::ops::Range<usize>)> {
        let mut left = self.size.1;
        let mut shown = Vec::new();
        let Some((mut index, mut row)) = self.bottom() else {
            return shown;
        };
        while left > 0 {
            let block = self.block(index);
            let end = block.rows.len().min(row.saturating_add(1));
            let start = end.saturating_sub(left);
            left -= end - start;
            shown.push((block, start..end));
            let Some(above) = self.entry_above(index) else {
                break;
            };
            (index, row) = (above, ROWS_MAX);
        }
        shown.reverse();
        shown
    }

    /// Scrolls towards older rows.
    pub(super) fn scroll_up(&mut self, rows: usize) {
        let Some(bottom) = self.bottom() else {
            return;
        };
        let (up, _) = self.above(bottom, rows);
        // The screen stays full.
        let (_, room) = self.above(up, self.size.1.saturating_sub(1));
        let lacking = self.size.1.saturating_sub(1) - room;
        let place = match lacking {
            0 => Some(up),
            _ => self.below(up, lacking),
        };
        // A log that fits the screen has nothing above.
        if let Some(place) = place {
            self.set_scroll(place);
        }
    }

    /// Scrolls towards newer rows.
    pub(super) fn scroll_down(&mut self, rows: usize) {
        let below = match self.views.current().scroll {
            Scroll::Bottom => None,
            Scroll::At { .. } => self.bottom().and_then(|place| self.below(place, rows)),
        };
        match below {
            Some(place) if Some(place) != self.last() => self.set_scroll(place),
            _ => {
                self.views.current_mut().scroll = Scroll::Bottom;
                self.is_seen();
            }
        }
    }

    /// Shows an entry in the middle of the screen.
    pub(super) fn show(&mut self, id: EntryId) {
        let Some(index) = self.log.position(id) else {
            return;
        };
        self.views.current_mut().scroll = Scroll::At { id, row: 0 };
        match self.below((index, 0), self.size.1 / 2) {
            Some(place) => self.set_scroll(place),
            None => self.views.current_mut().scroll = Scroll::Bottom,
        }
        self.scroll_up(0);
    }

    fn set_scroll(&mut self, (index, row): Place) {
        let scroll = match self.log.get(index) {
            Some(entry) if Some((index, row)) != self.last() => Scroll::At { id: entry.id, row },
            _ => Scroll::Bottom,
        };
        self.views.current_mut().scroll = scroll;
    }

    /// The last row that is shown. An entry that was dropped shows the oldest.
    fn bottom(&self) -> Option<Place> {
        match self.views.current().scroll {
            Scroll::Bottom => self.last(),
            Scroll::At { id, row } => match self.log.position(id) {
                Some(index) => Some((index, row.min(self.rows_of(index) - 1))),
                None => {
                    let first = (self.entry_below(None)?, 0);
                    let full = self.size.1.saturating_sub(1);
                    self.below(first, full).or_else(|| self.last())
                }
            },
        }
    }

    /// The last row of the view.
    fn last(&self) -> Option<Place> {
        let index = self.entry_above(self.log.len())?;
        Some((index, self.rows_of(index) - 1))
    }

    /// The row so many above, or the first, and how many that are.
    fn above(&self, (mut index, mut row): Place, rows: usize) -> (Place, usize) {
        let mut gone = 0;
        loop {
            let step = row.min(rows - gone);
            row -= step;
            gone += step;
            let Some(above) = self.entry_above(index).filter(|_| gone < rows) else {
                return ((index, row), gone);
            };
            index = above;
            row = self.rows_of(index) - 1;
            gone += 1;
        }
    }

    /// The row so many below; `None` past the last.
    fn below(&self, (mut index, mut row): Place, mut rows: usize) -> Option<Place> {
        loop {
            let left = self.rows_of(index) - 1 - row.min(self.rows_of(index) - 1);
            if rows <= left {
                return Some((index, row + rows));
            }
            rows -= left + 1;
            index = self.entry_below(Some(index))?;
            row = 0;
        }
    }

    /// How many rows an entry has: at least one.
    fn rows_of(&self, index: usize) -> usize {
        self.block(index).rows.len().max(1)
    }

    fn block(&self, index: usize) -> Block {
        let Some(entry) = self.log.get(index) else {
            return Block::default();
        };
        let before = self.entry_above(index);
        block(self, entry, before.and_then(|index| self.log.get(index)))
    }

    /// The entries of the view that is shown, oldest first.
    pub(super) fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        let view = self.views.current();
        self.log.iter().filter(|entry| view.shows(entry))
    }

    /// The next older entry of the view.
    fn entry_above(&self, index: usize) -> Option<usize> {
        let view = self.views.current();
        let is_shown = |index: &usize| self.log.get(*index).is_some_and(|it| view.shows(it));
        (0..index).rev().find(is_shown)
    }

    /// The next newer entry of the view; the oldest for `None`.
    fn entry_below(&self, index: Option<usize>) -> Option<usize> {
        let view = self.views.current();
        let is_shown = |index: &usize| self.log.get(*index).is_some_and(|it| view.shows(it));
        (index.map_or(0, |index| index + 1)..self.log.len()).find(is_shown)
    }
}
