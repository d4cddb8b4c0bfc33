//! Texts: what a chat may say (CHAT-CHAT-6, CHAT-CHAT-7).

/// A text that the rules allow: one line, not empty, within the limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text(String);

/// Why a text is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TextError {
    /// Nothing in it (CHAT-CHAT-6).
    Empty,
    /// A line break or control character in it (CHAT-CHAT-6).
    Control(char),
    /// Longer than the limit (CHAT-CHAT-7).
    TooLong,
}

impl Text {
    /// Takes `text` if the rules allow it and it has at most `bytes_max` bytes; there
    /// is no other reason to refuse one (CHAT-CHAT-10).
    ///
    /// # Errors
    ///
    /// [`TextError`] with the rule it breaks.
    pub fn parse(text: String, bytes_max: u32) -> Result<Self, TextError> {
        if text.is_empty() {
            return Err(TextError::Empty);
        }
        // Length before content: what is too long is not read through.
        if text.len() > bytes_max as usize {
            return Err(TextError::TooLong);
        }
        // Most texts are plain ASCII. Looking at every byte of one in any case lets many
        // be looked at together, which tells that soonest.
        let is_plain = text
            .bytes()
            .fold(true, |all, byte| all & matches!(byte, b' '..=b'~'));
        if is_plain {
            return Ok(Self(text));
        }
        match text.chars().find(|&c| is_forbidden(c)) {
            Some(c) => Err(TextError::Control(c)),
            None => Ok(Self(text)),
        }
    }

    /// The text, unchanged (CHAT-CHAT-3).
    pub fn into_string(self) -> String {
        self.0
    }
}

/// Whether CHAT-CHAT-6 keeps `c` out of texts: U+0000 to U+001F and U+007F to
/// U+009F, which are Unicode's control characters, and its two line breaks that
/// are none.
pub(crate) fn is_forbidden(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<(), TextError>) {
        let parsed = Text::parse(text.to_owned(), 8);
        assert_eq!(parsed.clone().map(|_| ()), expected, "{text:?}");
        if let Ok(parsed) = parsed {
            assert_eq!(parsed.into_string(), text);
        }
    }

    #[test]
    fn length_in_bytes() {
        check("", Err(TextError::Empty));
        check("x", Ok(()));
        check("12345678", Ok(()));
        check("123456789", Err(TextError::TooLong));
        check("éééé", Ok(()));
        check("éééé!", Err(TextError::TooLong));
    }

    #[test]
    fn no_line_break_and_no_control_character() {
        for code in (0..=0x1f).chain(0x7f..=0x9f).chain([0x2028, 0x2029]) {
            let c = char::from_u32(code).unwrap();
            check(&format!("a{c}b"), Err(TextError::Control(c)));
        }
        for c in [
            ' ', '~', '\u{a0}', '\u{2027}', '\u{202a}', '\u{202e}', '\u{feff}', '😀',
        ] {
            check(&format!("a{c}b"), Ok(()));
        }
    }
}
