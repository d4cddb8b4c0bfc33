//! Keys: what the keyboard, the mouse and pastes do to the [`Model`]. Pure.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers, MouseEvent, MouseEventKind};

use super::command;
use super::find::part;
use super::model::{Action, Ask, Completion, Link, Model, Search};
use super::scroll;
use super::views::Scroll;
use crate::client::Printable;
use crate::text::is_forbidden;

/// A paste of more lines asks before it is sent.
const PASTED_LINES_MAX: usize = 3;

/// How long the first Ctrl-C waits for the second, in milliseconds.
const LEAVE_MS: u64 = 2_000;

/// How many rows the mouse wheel scrolls.
const WHEEL_ROWS: usize = 3;

/// What a tab in a paste becomes.
const TAB: &str = "    ";

/// How many new candidates one TAB takes.
const CANDIDATES_MAX: usize = 1_000;

impl Model {
    /// A key was pressed.
    pub(super) fn key(&mut self, key: KeyEvent) {
        self.touched();
        if self.is_leaving {
            // What waits is being sent; only Ctrl-C gives it up.
            if is_control(key, 'c') {
                self.leave_now();
            }
            return;
        }
        if self.answers(key) {
            return;
        }
        if key.code != KeyCode::Tab {
            self.completion = None;
        }
        if key.modifiers.contains(KeyModifiers::ALT) && self.view_key(key) {
            return;
        }
        if self.search.is_some() && self.search_key(key) {
            return;
        }
        let has = |modifier| key.modifiers.contains(modifier);
        if has(KeyModifiers::ALT) && self.alt_key(key) {
            return;
        }
        if has(KeyModifiers::CONTROL) {
            return self.control_key(key);
        }
        match key.code {
            // A terminal may send Esc and the next key as Alt: the key counts.
            KeyCode::Char(character) => self.insert(character.encode_utf8(&mut [0; 4])),
            KeyCode::Enter if has(KeyModifiers::SHIFT) => self.insert("\n"),
            KeyCode::Enter => self.enter(),
            KeyCode::Backspace => self.composer.delete_back(),
            KeyCode::Delete => self.composer.delete_forward(),
            KeyCode::Left => self.composer.left(),
            KeyCode::Right => self.composer.right(),
            KeyCode::Up => self.up(),
            KeyCode::Down => self.down(),
            KeyCode::Home if self.composer.is_empty() => self.go_to_top(),
            KeyCode::End if self.composer.is_empty() => self.go_to_bottom(),
            KeyCode::Home => self.composer.line_start(),
            KeyCode::End => self.composer.line_end(),
            KeyCode::PageUp => self.scroll_up(self.page()),
            KeyCode::PageDown => self.scroll_down(self.page()),
            KeyCode::Tab => self.complete(),
            KeyCode::F(1) => self.help(),
            KeyCode::Esc => self.go_to_bottom(),
            _ => {}
        }
    }

    /// Whether the key answers a question.
    fn answers(&mut self, key: KeyEvent) -> bool {
        match self.ask {
            Some(Ask::Send(_)) => {
                self.ask = None;
                if key.code == KeyCode::Enter && key.modifiers.is_empty() {
                    self.send();
                    return true;
                }
                key.code == KeyCode::Esc
            }
            Some(Ask::Leave { until_ms }) => {
                self.ask = None;
                let is_second = is_control(key, 'c') && self.now.ms < until_ms;
                if is_second {
                    self.leave_now();
                }
                is_second
            }
            None => false,
        }
    }

    /// Whether Alt and this key have a meaning together.
    fn alt_key(&mut self, key: KeyEvent) -> bool {
        let is_control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Enter => self.insert("\n"),
            KeyCode::Backspace => self.composer.kill_word_back(),
            KeyCode::Char('h') if is_control => self.composer.kill_word_back(),
            KeyCode::Char('b') => self.composer.word_left(),
            KeyCode::Char('f') => self.composer.word_right(),
            KeyCode::Char('d') | KeyCode::Delete => self.composer.kill_word_forward(),
            KeyCode::Char('y') => self.composer.yank_older(),
            KeyCode::Char('<') => self.go_to_top(),
            KeyCode::Char('>') => self.go_to_bottom(),
            KeyCode::Char('v') => self.scroll_up(self.page()),
            _ => return false,
        }
        true
    }

    fn control_key(&mut self, key: KeyEvent) {
        match key.code {
            KeyCode::Char('a') => self.composer.line_start(),
            KeyCode::Char('b') => self.composer.left(),
            KeyCode::Char('c') => self.interrupt(),
            KeyCode::Char('d') if self.composer.is_empty() => self.leave(),
            KeyCode::Char('d') => self.composer.delete_forward(),
            KeyCode::Char('e') => self.composer.line_end(),
            KeyCode::Char('f') => self.search = Some(Search::default()),
            KeyCode::Char('g') => self.go_to_bottom(),
            KeyCode::Char('h') => self.composer.delete_back(),
            KeyCode::Char('j') => self.insert("\n"),
            KeyCode::Char('k') => self.composer.kill_to_line_end(),
            KeyCode::Char('l') => self.actions.push(Action::Redraw),
            KeyCode::Char('m') => self.enter(),
            KeyCode::Char('n') => self.down(),
            KeyCode::Char('p') => self.up(),
            KeyCode::Char('t') => self.composer.transpose(),
            KeyCode::Char('u') => self.composer.kill_to_line_start(),
            KeyCode::Char('v') => self.scroll_down(self.page()),
            KeyCode::Char('w') => self.composer.kill_back_to_blank(),
            KeyCode::Char('y') => self.composer.yank(),
            KeyCode::Char('z') => self.actions.push(Action::Suspend),
            // Ctrl-_ and Ctrl-/ are one byte, which crossterm calls Ctrl-7.
            KeyCode::Char('_' | '/' | '7') => self.composer.undo(),
            KeyCode::Left => self.composer.word_left(),
            KeyCode::Right => self.composer.word_right(),
            KeyCode::Home => self.go_to_top(),
            KeyCode::End => self.go_to_bottom(),
            _ => {}
        }
    }

    /// Ctrl-C: empties the draft; on an empty line, says how to leave.
    fn interrupt(&mut self) {
        if self.composer.is_empty() {
            let until_ms = self.now.ms + LEAVE_MS;
            self.ask = Some(Ask::Leave { until_ms });
        } else {
            // Undo brings it back.
            self.composer.set(String::new());
            self.pasted_lines = 0;
        }
    }

    /// Leaves when everything is sent.
    pub(super) fn leave(&mut self) {
        self.is_leaving = true;
        self.actions.push(match self.link {
            Link::Up => Action::Leave,
            _ => Action::LeaveNow,
        });
    }

    /// Leaves without sending what waits.
    pub(super) fn leave_now(&mut self) {
        self.is_leaving = true;
        self.give_up();
        self.actions.push(Action::LeaveNow);
    }

    /// Text was pasted. Line breaks are part of it; what cannot be sent is shown as it
    /// will be sent.
    pub(super) fn paste(&mut self, text: &str) {
        self.touched();
        if self.is_leaving {
            return;
        }
        self.ask = None;
        self.completion = None;
        let mut shown = String::new();
        for character in text.replace("\r\n", "\n").chars() {
            match character {
                '\r' | '\n' => shown.push('\n'),
                '\t' => shown.push_str(TAB),
                _ if is_forbidden(character) => shown.extend(character.escape_unicode()),
                _ => shown.push(character),
            }
        }
        if let Some(search) = &mut self.search {
            search
                .wanted
                .push_str(shown.lines().next().unwrap_or_default());
            return self.look();
        }
        self.pasted_lines += shown.trim_end_matches('\n').matches('\n').count();
        self.insert(&shown);
    }

    fn insert(&mut self, text: &str) {
        if !self.composer.insert(text) {
            self.notice(Printable::new().trusted("the draft is full, the rest is dropped"));
        }
    }

    fn enter(&mut self) {
        let lines = self.composer.text().trim_end_matches('\n').lines().count();
        if self.pasted_lines >= PASTED_LINES_MAX && lines > PASTED_LINES_MAX {
            self.ask = Some(Ask::Send(lines));
        } else {
            self.send();
        }
    }

    /// Sends the draft, or does what it says.
    fn send(&mut self) {
        let has_lines = self.composer.has_lines();
        let draft = self.composer.take();
        self.pasted_lines = 0;
        let draft = draft.trim_end_matches('\n');
        if self.history.add(draft) && self.settings.keeps_history {
            self.actions.push(Action::Remember(draft.to_owned()));
        }
        if has_lines {
            // Lines of a longer text are text and never commands.
            for line in draft.lines() {
                self.queue(line);
            }
            return;
        }
        match draft.strip_prefix('/') {
            // A second slash makes the first one part of the text.
            Some(text) if text.starts_with('/') => self.queue(text),
            Some(_) => match command::parse(draft) {
                Ok(command) => self.run(command),
                Err(sentence) => self.notice(Printable::new().untrusted(&sentence)),
            },
            None => self.queue(draft),
        }
    }

    /// TAB: the first candidate, or the next one.
    fn complete(&mut self) {
        if self.completion.is_none() {
            let before = part(self.composer.text(), ..self.composer.cursor());
            let own = self.name.as_str();
            let topics: Vec<_> = self.views.topics().collect();
            let names = self.members.names().filter(|name| *name != own);
            let words = topics.iter().map(String::as_str).chain(names);
            let (start, candidates) = command::candidates(before, words.take(CANDIDATES_MAX));
            self.completion = Some(Completion {
                start,
                candidates,
                next: 0,
            });
        }
        let Some(completion) = &mut self.completion else {
            return;
        };
        let count = completion.candidates.len();
        if let Some(candidate) = completion.candidates.get(completion.next) {
            self.composer.complete(completion.start, candidate);
            completion.next = (completion.next + 1) % count;
        }
    }

    fn up(&mut self) {
        if !self.composer.up()
            && let Some(line) = self.history.older(self.composer.text())
        {
            self.composer.set(line);
        }
    }

    fn down(&mut self) {
        if !self.composer.down()
            && let Some(line) = self.history.newer()
        {
            self.composer.set(line);
        }
    }

    /// The mouse wheel was turned.
    pub(super) fn mouse(&mut self, event: MouseEvent) {
        match event.kind {
            MouseEventKind::ScrollUp => self.scroll_up(WHEEL_ROWS),
            MouseEventKind::ScrollDown => self.scroll_down(WHEEL_ROWS),
            _ => {}
        }
    }

    fn page(&self) -> usize {
        self.size.1.saturating_sub(1).max(1)
    }

    fn go_to_top(&mut self) {
        self.scroll_up(scroll::ROWS_MAX);
    }

    pub(super) fn go_to_bottom(&mut self) {
        self.views.current_mut().scroll = Scroll::Bottom;
        self.is_seen();
    }
}

fn is_control(key: KeyEvent, character: char) -> bool {
    key.code == KeyCode::Char(character) && key.modifiers.contains(KeyModifiers::CONTROL)
}
