//! Sequences: puts keys together that came in pieces. Pure.
//!
//! crossterm takes an Esc that comes alone for the key, at once. Over a slow link the
//! rest of a sequence may come later, and would then be typed text. So an Esc is held
//! for a moment: `[` or `O` right behind it continue it.

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// How long a piece may be late, in milliseconds: longer than between two packets,
/// shorter than between two keys that somebody presses.
const GAP_MS: u64 = 100;

/// How long a piece of a paste may be late, in milliseconds.
const PASTE_GAP_MS: u64 = 1_000;

/// The longest sequence, in characters.
const SEQUENCE_CHARS_MAX: usize = 16;

/// The longest paste that is put together, in bytes; the rest of it is dropped.
const PASTE_BYTES_MAX: usize = 1 << 20;

const PASTE_END: &str = "\x1b[201~";

/// What comes out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Whole {
    Key(KeyEvent),
    Paste(String),
    Focus(bool),
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Nothing,
    /// An Esc.
    Esc,
    /// What follows an Esc.
    Sequence(String),
    /// What follows the begin of a paste.
    Paste(String),
}

/// A sequence that may not be whole yet.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    state: State,
    last_ms: u64,
}

impl Sequences {
    /// Takes a key, and returns what is whole now. How late it is says nothing: it may have
    /// waited for this program.
    pub(super) fn take(&mut self, key: KeyEvent, now_ms: u64) -> Vec<Whole> {
        let mut wholes = Vec::new();
        self.last_ms = now_ms;
        match std::mem::take(&mut self.state) {
            State::Nothing if is_esc(key) => self.state = State::Esc,
            State::Nothing => wholes.push(Whole::Key(key)),
            State::Esc => match plain(key) {
                Some(first @ ('[' | 'O')) => self.state = State::Sequence(first.to_string()),
                _ => {
                    wholes.push(Whole::Key(KeyCode::Esc.into()));
                    wholes.extend(self.take(key, now_ms));
                }
            },
            State::Sequence(mut text) => match plain(key) {
                Some(character) if text.len() < SEQUENCE_CHARS_MAX => {
                    text.push(character);
                    if !is_complete(&text) {
                        self.state = State::Sequence(text);
                    } else if text == "[200~" {
                        self.state = State::Paste(String::new());
                    } else {
                        wholes.extend(parse(&text));
                    }
                }
                _ => {
                    wholes.extend(typed(&text));
                    wholes.extend(self.take(key, now_ms));
                }
            },
            State::Paste(mut text) => {
                if text.len() < PASTE_BYTES_MAX || text.ends_with('\x1b') {
                    text.extend(character(key));
                }
                match text.strip_suffix(PASTE_END) {
                    Some(pasted) => wholes.push(Whole::Paste(pasted.to_owned())),
                    None => self.state = State::Paste(text),
                }
            }
        }
        wholes
    }

    /// When [`expire`](Self::expire) has something to do.
    pub(super) fn expires_ms(&self) -> Option<u64> {
        match self.state {
            State::Nothing => None,
            State::Paste(_) => Some(self.last_ms + PASTE_GAP_MS),
            _ => Some(self.last_ms + GAP_MS),
        }
    }

    /// Returns what will not become whole any more, if nothing is there to be taken.
    pub(super) fn expire(&mut self, now_ms: u64) -> Vec<Whole> {
        if self.expires_ms().is_none_or(|at| now_ms < at) {
            return Vec::new();
        }
        match std::mem::take(&mut self.state) {
            State::Nothing => Vec::new(),
            State::Esc => vec![Whole::Key(KeyCode::Esc.into())],
            State::Sequence(text) => typed(&text),
            State::Paste(text) => vec![Whole::Paste(text)],
        }
    }
}

fn is_esc(key: KeyEvent) -> bool {
    key.code == KeyCode::Esc && key.modifiers.is_empty()
}

/// The character of a key without Ctrl and Alt.
fn plain(key: KeyEvent) -> Option<char> {
    match key.code {
        KeyCode::Char(character) if (key.modifiers - KeyModifiers::SHIFT).is_empty() => {
            Some(character)
        }
        _ => None,
    }
}

/// The character that a terminal sends for a key.
fn character(key: KeyEvent) -> Option<char> {
    match key.code {
        KeyCode::Char(letter @ 'a'..='z') if key.modifiers.contains(KeyModifiers::CONTROL) => {
            u8::try_from(letter)
                .ok()
                .map(|letter| char::from(letter & 0x1f))
        }
        KeyCode::Char(character) => Some(character),
        KeyCode::Enter => Some('\r'),
        KeyCode::Tab => Some('\t'),
        KeyCode::Backspace => Some('\x7f'),
        KeyCode::Esc => Some('\x1b'),
        _ => None,
    }
}

/// Esc and the text behind it as keys.
fn typed(text: &str) -> Vec<Whole> {
    let keys = text.chars().map(|it| KeyEvent::from(KeyCode::Char(it)));
    let esc = KeyEvent::from(KeyCode::Esc);
    [esc].into_iter().chain(keys).map(Whole::Key).collect()
}

fn is_complete(text: &str) -> bool {
    match text.strip_prefix('[') {
        // The function keys of the Linux console have a second bracket.
        Some("[") => false,
        Some(rest) => rest.ends_with(|last| ('@'..='~').contains(&last)),
        None => text.len() > 1,
    }
}

/// The key of a sequence, given without its Esc; `None` for one without a meaning here.
fn parse(text: &str) -> Option<Whole> {
    let last = text.chars().next_back()?;
    let inner = text.get(1..text.len() - 1)?;
    let mut numbers = inner.split(';');
    let number = numbers.next()?;
    let modifiers = match numbers.next() {
        // From 1 on, a bit each.
        Some(digits) => digits.parse::<u8>().ok()?.checked_sub(1)?,
        None => 0,
    };
    let modifiers = [
        (1, KeyModifiers::SHIFT),
        (2, KeyModifiers::ALT),
        (4, KeyModifiers::CONTROL),
    ]
    .into_iter()
    .filter(|(bit, _)| modifiers & bit != 0)
    .fold(KeyModifiers::empty(), |all, (_, one)| all | one);
    let code = match (last, number) {
        ('I', "") if text.starts_with('[') => return Some(Whole::Focus(true)),
        ('O', "") if text.starts_with('[') => return Some(Whole::Focus(false)),
        ('A', "" | "1") => KeyCode::Up,
        ('B', "" | "1") => KeyCode::Down,
        ('C', "" | "1") => KeyCode::Right,
        ('D', "" | "1") => KeyCode::Left,
        ('H', "" | "1") | ('~', "1" | "7") => KeyCode::Home,
        ('F', "" | "1") | ('~', "4" | "8") => KeyCode::End,
        ('P', "" | "1") | ('~', "11") => KeyCode::F(1),
        ('M', "") if text.starts_with('O') => KeyCode::Enter,
        ('~', "3") => KeyCode::Delete,
        ('~', "5") => KeyCode::PageUp,
        ('~', "6") => KeyCode::PageDown,
        _ => return None,
    };
    Some(Whole::Key(KeyEvent::new(code, modifiers)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out of text that comes character by character, so far apart.
    fn out(text: &str, gap_ms: u64) -> Vec<Whole> {
        taken(text, gap_ms, true)
    }

    /// The same; `is_prompt`: it is asked at each character's time what is whole.
    fn taken(text: &str, gap_ms: u64, is_prompt: bool) -> Vec<Whole> {
        let mut sequences = Sequences::default();
        let mut wholes = Vec::new();
        let mut now_ms = 0;
        for character in text.chars() {
            now_ms += gap_ms;
            let code = match character {
                '\x1b' => KeyCode::Esc,
                '\r' => KeyCode::Enter,
                other => KeyCode::Char(other),
            };
            if is_prompt {
                wholes.extend(sequences.expire(now_ms));
            }
            wholes.extend(sequences.take(code.into(), now_ms));
        }
        wholes.extend(sequences.expire(u64::MAX));
        wholes
    }

    fn key(code: KeyCode) -> Whole {
        Whole::Key(code.into())
    }

    #[test]
    fn sequences_in_pieces_are_keys() {
        for (text, code) in [
            ("\x1b[A", KeyCode::Up),
            ("\x1bOD", KeyCode::Left),
            ("\x1b[1~", KeyCode::Home),
            ("\x1b[3~", KeyCode::Delete),
            ("\x1b[6~", KeyCode::PageDown),
            ("\x1bOP", KeyCode::F(1)),
        ] {
            assert_eq!(out(text, GAP_MS - 1), [key(code)], "{text:?}");
        }
        let control_left = KeyEvent::new(KeyCode::Left, KeyModifiers::CONTROL);
        assert_eq!(out("\x1b[1;5D", 1), [Whole::Key(control_left)]);
        assert_eq!(
            out("\x1b[I\x1b[O", 1),
            [Whole::Focus(true), Whole::Focus(false)]
        );
        // Without a meaning, and no text either.
        assert_eq!(out("\x1b[24~\x1b[[A\x1b[<64;1;1M", 1), []);
    }

    #[test]
    fn pieces_that_waited_for_the_program_are_a_sequence() {
        for text in ["\x1b[A", "\x1bOA", "\x1b[1A"] {
            assert_eq!(taken(text, 10 * GAP_MS, false), [key(KeyCode::Up)]);
        }
    }

    #[test]
    fn late_pieces_are_keys_of_their_own() {
        let keys = |text: &str| {
            let code = |character| match character {
                '\x1b' => KeyCode::Esc,
                other => KeyCode::Char(other),
            };
            text.chars().map(|it| key(code(it))).collect::<Vec<_>>()
        };
        for text in ["\x1b[A", "\x1bO", "\x1b", "\x1b\x1bx", "a\x1bb"] {
            assert_eq!(out(text, GAP_MS), keys(text), "{text:?}");
        }
        // At once: what is no sequence is lost nowhere.
        for text in ["\x1ba", "\x1b\x1b", "\x1b[12345678901234567890", "\x1b[é"] {
            assert_eq!(out(text, 1), keys(text), "{text:?}");
        }
    }

    #[test]
    fn pastes_in_pieces_are_pastes() {
        let paste = |text: &str| Whole::Paste(text.to_owned());
        assert_eq!(
            out("\x1b[200~a\x1b[A\rb\x1b\x1b[201~c", 50),
            [paste("a\x1b[A\rb\x1b"), key(KeyCode::Char('c'))]
        );
        // Without an end, it ends with its last piece.
        assert_eq!(out("\x1b[200~a", 50), [paste("a")]);
    }
}
