//! Search: the keys while searching, and which entries have hits. Pure.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::find;
use super::log::Kind;
use super::model::Model;

impl Model {
    /// A key while searching. Returns whether it belongs to the search.
    pub(super) fn search_key(&mut self, key: KeyEvent) -> bool {
        let Some(search) = &mut self.search else {
            return false;
        };
        let is_plain = (key.modifiers - KeyModifiers::SHIFT).is_empty();
        match key.code {
            KeyCode::Char(character) if is_plain => {
                search.wanted.push(character);
                self.look();
            }
            KeyCode::Backspace if is_plain => {
                search.wanted.pop();
                self.look();
            }
            KeyCode::Enter | KeyCode::Up => self.next_hit(true),
            KeyCode::Down => self.next_hit(false),
            KeyCode::Esc => self.search = None,
            KeyCode::Char('c' | 'g') => {
                self.search = None;
                self.go_to_bottom();
            }
            KeyCode::Char('f' | 'p' | 'r') => self.next_hit(true),
            KeyCode::Char('n' | 's') => self.next_hit(false),
            KeyCode::PageUp | KeyCode::PageDown | KeyCode::Home | KeyCode::End => return false,
            _ => {}
        }
        true
    }

    /// Finds the hits anew and shows the newest.
    pub(super) fn look(&mut self) {
        let Some(search) = &self.search else {
            return;
        };
        let has_hit = |text: &str| !find::hits(text, &search.wanted).is_empty();
        let found: Vec<_> = self
            .entries()
            .filter(|entry| match &entry.kind {
                Kind::Message { sender, text, .. } | Kind::Direct { sender, text } => {
                    has_hit(text) || has_hit(sender)
                }
                Kind::Own { text, .. } => has_hit(text),
                _ => false,
            })
            .map(|entry| entry.id)
            .collect();
        if let Some(search) = &mut self.search {
            search.at = found.len().saturating_sub(1);
            search.found = found;
        }
        self.show_hit();
    }

    fn next_hit(&mut self, is_older: bool) {
        let Some(search) = &mut self.search else {
            return;
        };
        let last = search.found.len().saturating_sub(1);
        search.at = match is_older {
            true => search.at.checked_sub(1).unwrap_or(last),
            false if search.at < last => search.at + 1,
            false => 0,
        };
        self.show_hit();
    }

    fn show_hit(&mut self) {
        let hit = self.search.as_ref();
        if let Some(&id) = hit.and_then(|search| search.found.get(search.at)) {
            self.show(id);
        }
    }
}
