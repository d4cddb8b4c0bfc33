//! Attention: what nobody has read, whether somebody reads, bells and desktop notices.
//! Pure.

use super::log::{EntryId, ViewId};
use super::model::{Action, Model};
use super::views::Scroll;
use crate::client::Printable;

/// After so long without a key, in milliseconds, nobody is reading.
const IDLE_MS: u64 = 60_000;

/// The shortest time between two bells, in milliseconds.
const BELL_INTERVAL_MS: u64 = 1_000;

/// The longest text of a desktop notice, in characters.
const NOTIFY_CHARS_MAX: usize = 200;

impl Model {
    /// Counts a new entry as unread, in the view of its topic or its direct.
    pub(super) fn count_unread(&mut self, view: ViewId, id: EntryId, is_mention: bool) {
        let is_seen = self.views.is_shown(view)
            && self.views.current().scroll == Scroll::Bottom
            && !self.is_away();
        if !is_seen {
            self.views.count(view, id, is_mention);
        }
    }

    /// Bell and desktop notice for a mention.
    pub(super) fn alert(&mut self, sender: &str, text: &str) {
        let since = self
            .last_bell_ms
            .map(|last| self.now.ms.saturating_sub(last));
        if since.is_some_and(|since| since < BELL_INTERVAL_MS) {
            return;
        }
        self.last_bell_ms = Some(self.now.ms);
        if self.settings.has_bell {
            self.actions.push(Action::Bell);
        }
        if self.settings.notifies && (self.has_focus != Some(true) || self.is_idle()) {
            let text: String = text.chars().take(NOTIFY_CHARS_MAX).collect();
            self.actions
                .push(Action::Notify(Printable::message(sender, &text)));
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.now.ms.saturating_sub(self.last_key_ms) >= IDLE_MS
    }

    pub(super) fn is_away(&self) -> bool {
        self.has_focus == Some(false) || self.is_idle()
    }

    /// The terminal got or lost the focus.
    pub(super) fn focus(&mut self, has_focus: bool) {
        self.has_focus = Some(has_focus);
        if has_focus {
            self.last_key_ms = self.now.ms;
            self.is_seen();
        }
    }

    /// A key was pressed: somebody reads.
    pub(super) fn touched(&mut self) {
        self.last_key_ms = self.now.ms;
        if self.has_focus == Some(false) {
            self.has_focus = None;
        }
        self.is_seen();
    }

    /// What is below has been read, if it is shown.
    pub(super) fn is_seen(&mut self) {
        if self.views.current().scroll == Scroll::Bottom && !self.is_away() {
            self.views.were_read();
        }
    }
}
