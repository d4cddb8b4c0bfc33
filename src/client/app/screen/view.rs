//! View: which rows of the log are on the screen, and scrolling through them. Pure.

use super::log::EntryId;
use super::model::{Model, View};
use super::rows::{Block, block};

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
            let Some(above) = index.checked_sub(1) else {
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
            self.set_view(place);
        }
    }

    /// Scrolls towards newer rows.
    pub(super) fn scroll_down(&mut self, rows: usize) {
        let below = match self.view {
            View::Bottom => None,
            View::At { .. } => self.bottom().and_then(|place| self.below(place, rows)),
        };
        match below {
            Some(place) if Some(place) != self.last() => self.set_view(place),
            _ => {
                self.view = View::Bottom;
                self.is_seen();
            }
        }
    }

    /// Shows an entry in the middle of the screen.
    pub(super) fn show(&mut self, id: EntryId) {
        let Some(index) = self.log.position(id) else {
            return;
        };
        self.view = View::At { id, row: 0 };
        match self.below((index, 0), self.size.1 / 2) {
            Some(place) => self.set_view(place),
            None => self.view = View::Bottom,
        }
        self.scroll_up(0);
    }

    fn set_view(&mut self, (index, row): Place) {
        if Some((index, row)) == self.last() {
            self.view = View::Bottom;
        } else if let Some(entry) = self.log.get(index) {
            self.view = View::At { id: entry.id, row };
        }
    }

    /// The last row that is shown. An entry that was dropped shows the oldest.
    fn bottom(&self) -> Option<Place> {
        match self.view {
            View::Bottom => self.last(),
            View::At { id, row } => match self.log.position(id) {
                Some(index) => Some((index, row.min(self.rows_of(index) - 1))),
                None => {
                    let first = (self.log.len() > 0).then_some((0, 0))?;
                    let full = self.size.1.saturating_sub(1);
                    self.below(first, full).or_else(|| self.last())
                }
            },
        }
    }

    /// The last row of the log.
    fn last(&self) -> Option<Place> {
        let index = self.log.len().checked_sub(1)?;
        Some((index, self.rows_of(index) - 1))
    }

    /// The row so many above, or the first, and how many that are.
    fn above(&self, (mut index, mut row): Place, rows: usize) -> (Place, usize) {
        let mut gone = 0;
        loop {
            let step = row.min(rows - gone);
            row -= step;
            gone += step;
            let Some(above) = index.checked_sub(1).filter(|_| gone < rows) else {
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
            index += 1;
            row = 0;
            self.log.get(index)?;
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
        let before = index.checked_sub(1).and_then(|index| self.log.get(index));
        block(self, entry, before)
    }
}
