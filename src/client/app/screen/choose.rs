//! Choosing views: by keys, by number and by name, and what lines typed in them are for.
//! Pure.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::log::ViewId;
use super::model::Model;
use super::views::{ROOM, Subject, VIEWS_MAX, View};
use crate::client::Printable;
use crate::client::app::topics::{self, Followed};

impl Model {
    /// Whether Alt and this key choose a view.
    pub(super) fn view_key(&mut self, key: KeyEvent) -> bool {
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return false;
        }
        let count = self.views.len();
        let index = self.views.current_index();
        let chosen = match key.code {
            KeyCode::Char('a') => self.views.next_active(),
            // As on the keyboard: 0 stands behind 9.
            KeyCode::Char('0') => self.views.at(9),
            KeyCode::Char(digit) => match digit.to_digit(10) {
                Some(number) => self.views.at(number as usize - 1),
                None => return false,
            },
            KeyCode::Left => self.views.at((index + count - 1) % count),
            KeyCode::Right => self.views.at((index + 1) % count),
            _ => return false,
        };
        if let Some(chosen) = chosen {
            self.show_view(chosen);
        }
        true
    }

    /// The view of a subject, or the room if there are too many views.
    pub(super) fn view_of(&mut self, subject: Subject) -> ViewId {
        self.views.open(subject).unwrap_or(ROOM)
    }

    /// What lines typed now are for.
    pub(super) fn target(&self) -> Subject {
        match &self.views.current().subject {
            Subject::Room => Subject::of_topic(&self.topic),
            subject => subject.clone(),
        }
    }

    /// Shows a view. The draft stays with the view in which it was typed, so that it goes to
    /// nobody else.
    pub(super) fn show_view(&mut self, id: ViewId) {
        if id == self.views.current().id {
            return;
        }
        self.put_draft_aside();
        self.views.show(id);
        self.take_draft();
    }

    /// Shows the view of a subject, a new one if need be.
    pub(super) fn go_to(&mut self, subject: Subject) {
        match self.views.open(subject) {
            Some(view) => self.show_view(view),
            None => {
                let line = Printable::new()
                    .trusted("there are ")
                    .number(VIEWS_MAX as u64);
                self.notice(line.trusted(" views already: read some of them, or /close one"));
            }
        }
    }

    /// Shows the view with a number or a name.
    pub(super) fn choose_view(&mut self, which: &str) {
        let view = match which.parse::<usize>() {
            Ok(number) => number.checked_sub(1).and_then(|at| self.views.at(at)),
            Err(_) => match topics::followed(which) {
                Ok(Followed::Topic(topic)) => return self.go_to(Subject::Topic(topic)),
                Ok(Followed::Sender(name)) => return self.go_to(Subject::Direct(name)),
                Err(_) => {
                    let mut views = self.views.iter();
                    let is_named = |view: &&View| is_called(view, which);
                    views.find(is_named).map(|view| view.id)
                }
            },
        };
        match view {
            Some(view) => self.show_view(view),
            None => {
                let line = Printable::new()
                    .trusted("there is no view ")
                    .untrusted(which);
                self.notice(line.trusted(
                    ": /view shows which there are, /view #TOPIC and /view @NAME open one",
                ));
            }
        }
    }

    /// Says which views there are.
    pub(super) fn list_views(&mut self) {
        let current = self.views.current().id;
        let lines: Vec<_> = (1_u64..)
            .zip(self.views.iter())
            .map(|(number, view)| {
                let line = Printable::new().number(number).trusted(" ");
                let line = line.untrusted(&view.subject.label());
                let line = match view.unread {
                    0 => line,
                    unread => line.trusted(", ").number(unread).trusted(" unread"),
                };
                let line = match view.mentions {
                    0 => line,
                    mentions => line.trusted(", ").number(mentions).trusted(" for you"),
                };
                match view.id == current {
                    true => line.trusted(", shown now"),
                    false => line,
                }
            })
            .collect();
        for line in lines {
            self.notice(line);
        }
    }

    /// Closes the view that is shown.
    pub(super) fn close_view(&mut self) {
        if self.views.current().is_room() {
            return self.notice(Printable::new().trusted("the room stays; /quit leaves"));
        }
        self.put_draft_aside();
        let draft = std::mem::take(&mut self.views.current_mut().draft);
        self.history.add(&draft.into_text());
        self.views.close();
        self.take_draft();
    }

    /// The views belong to a server that is not there any more: what was typed in them is
    /// kept among the typed lines.
    pub(super) fn leave_views(&mut self) {
        self.show_view(ROOM);
        for draft in self.views.clear() {
            self.history.add(&draft.into_text());
        }
    }

    fn put_draft_aside(&mut self) {
        if let Some(draft) = self.history.end_walk(self.composer.text()) {
            self.composer.set(draft);
        }
        self.ask = None;
        self.search = None;
        self.completion = None;
        let pasted_lines = std::mem::take(&mut self.pasted_lines);
        let draft = &mut self.views.current_mut().draft;
        self.composer.exchange(draft);
        draft.pasted_lines = pasted_lines;
    }

    fn take_draft(&mut self) {
        let draft = &mut self.views.current_mut().draft;
        self.composer.exchange(draft);
        self.pasted_lines = std::mem::take(&mut draft.pasted_lines);
        self.is_seen();
    }
}

/// "build", "#build" and "bob" call a view.
fn is_called(view: &View, word: &str) -> bool {
    let label = view.subject.label();
    let name = label.trim_start_matches(['#', '@']);
    label.eq_ignore_ascii_case(word) || name.eq_ignore_ascii_case(word)
}
