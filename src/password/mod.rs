//! Passwords (CHAT-ADM): a secret that can be compared and sent, and that no output
//! shows.

#[cfg(feature = "cli")]
pub mod source;

use std::fmt;

use subtle::ConstantTimeEq;

use crate::limits::UNREGISTERED_FRAME_BYTES_MAX;

/// The longest password, in bytes of UTF-8: room for a sentence.
pub const PASSWORD_BYTES_MAX: usize = 256;

// Most of a Register is left for its other fields (CHAT-FRAME-6).
const _: () = assert!(PASSWORD_BYTES_MAX < UNREGISTERED_FRAME_BYTES_MAX as usize / 2);

/// A password that the schema allows: 1 to [`PASSWORD_BYTES_MAX`] bytes without control
/// characters. Its `Debug` shows nothing of it, not even the length.
#[derive(Clone)]
pub struct Password {
    text: String,
    padded: [u8; PASSWORD_BYTES_MAX],
}

/// Why a text is not a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordError {
    /// It is empty.
    Empty,
    /// It is longer than [`PASSWORD_BYTES_MAX`] bytes.
    TooLong,
    /// It contains a line break or another control character.
    Control,
    /// The file begins with a byte order mark.
    ByteOrderMark,
    /// It is not UTF-8.
    NotUtf8,
}

impl Password {
    /// Takes `text` if it is a valid password.
    ///
    /// # Errors
    ///
    /// [`PasswordError`] says what is wrong and shows nothing of `text`.
    pub fn parse(text: &str) -> Result<Self, PasswordError> {
        if text.is_empty() {
            return Err(PasswordError::Empty);
        }
        if text.len() > PASSWORD_BYTES_MAX {
            return Err(PasswordError::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(PasswordError::Control);
        }
        Ok(Self {
            text: text.to_owned(),
            padded: padded(text),
        })
    }

    /// Whether `offered` equals the password, byte for byte (CHAT-ADM-1), in constant
    /// time: whatever the length of the password and the position of the first
    /// difference, [`PASSWORD_BYTES_MAX`] bytes are compared. A digest would do the
    /// same with more code, without a benefit for texts this short.
    pub fn matches(&self, offered: &str) -> bool {
        let same_bytes = self.padded.ct_eq(&padded(offered));
        // Trailing zeros are padding, unless they were offered.
        let same_length = (self.text.len() as u64).ct_eq(&(offered.len() as u64));
        (same_bytes & same_length).into()
    }

    /// The password itself, to send it and for nothing else (CHAT-ADM-8).
    pub fn reveal(&self) -> &str {
        &self.text
    }
}

/// The first bytes of `text`, padded with zeros.
fn padded(text: &str) -> [u8; PASSWORD_BYTES_MAX] {
    let mut padded = [0; PASSWORD_BYTES_MAX];
    for (to, from) in padded.iter_mut().zip(text.bytes()) {
        *to = from;
    }
    padded
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(not shown)")
    }
}

impl fmt::Display for PasswordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "is empty"),
            Self::TooLong => write!(f, "is longer than {PASSWORD_BYTES_MAX} bytes"),
            Self::Control => write!(f, "holds a line break or another control character"),
            Self::ByteOrderMark => write!(
                f,
                "begins with a byte order mark (U+FEFF), which nobody types; save the file as UTF-8 without BOM"
            ),
            Self::NotUtf8 => write!(f, "is not UTF-8"),
        }
    }
}

impl std::error::Error for PasswordError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_and_invalid_passwords() {
        let check = |text: &str, expected: Result<(), PasswordError>| {
            assert_eq!(Password::parse(text).map(|_| ()), expected, "{text:?}");
        };
        check("", Err(PasswordError::Empty));
        check(" ", Ok(()));
        check("é\u{202e}#", Ok(()));
        check(&"x".repeat(256), Ok(()));
        check(&"x".repeat(257), Err(PasswordError::TooLong));
        check(&"é".repeat(129), Err(PasswordError::TooLong));
        for text in ["a\n", "\0", "a\tb", "\u{7f}", "\u{85}"] {
            check(text, Err(PasswordError::Control));
        }
    }

    #[test]
    fn only_the_same_bytes_match() {
        let longest = "x".repeat(PASSWORD_BYTES_MAX);
        for text in ["s", "open sesame", "é", &longest] {
            let password = Password::parse(text).unwrap();
            assert!(password.matches(text));
            let shorter: String = text.chars().skip(1).collect();
            for other in [
                "",
                &shorter,
                &format!("{text}x"),
                &format!("{text}\0"),
                &format!("{text} "),
                &format!("{text}{text}"),
                &format!("X{shorter}"),
                &text.to_uppercase(),
                "e\u{301}",
            ] {
                assert!(!password.matches(other), "{text:?} {other:?}");
            }
        }
    }

    #[test]
    fn debug_shows_nothing_of_it() {
        let password = Password::parse("open sesame").unwrap();
        assert_eq!(format!("{password:?}"), "Password(not shown)");
        assert_eq!(
            format!("{:#?}", Some(password)),
            "Some(\n    Password(not shown),\n)"
        );
    }
}
