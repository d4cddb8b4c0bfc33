//! Names: who may be called what (CHAT-NAME).

use std::{cmp::Ordering, fmt, sync::Arc};

use crate::limits::NAME_BYTES_MAX;

/// Names that would make a notice or a mention ambiguous (CHAT-NAME-2).
const RESERVED: [&str; 2] = ["all", "server"];

/// A name that the rules allow. Equal, and ordered, regardless of ASCII case
/// (CHAT-NAME-3); shown as it was written (CHAT-REG-4).
#[derive(Clone)]
pub struct Name(Arc<str>);

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// Not 1 to 32 of the allowed characters (CHAT-NAME-1).
    Invalid,
    /// Nobody may have it (CHAT-NAME-2).
    Reserved,
}

impl Name {
    /// Takes `name` if the rules allow it; there is no other reason to refuse one but
    /// that somebody has it (CHAT-NAME-6).
    ///
    /// # Errors
    ///
    /// [`NameError`] with the rule it breaks.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        if !is_word(name) {
            return Err(NameError::Invalid);
        }
        if RESERVED.iter().any(|word| word.eq_ignore_ascii_case(name)) {
            return Err(NameError::Reserved);
        }
        Ok(Self(name.into()))
    }

    /// The name as it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn folded(&self) -> impl Iterator<Item = u8> + '_ {
        self.0.bytes().map(|byte| byte.to_ascii_lowercase())
    }
}

/// Whether `word` is written as a name (CHAT-NAME-1): names, topics, mentions.
pub(crate) fn is_word(word: &str) -> bool {
    let starts_well = word.starts_with(|c: char| c.is_ascii_alphanumeric());
    starts_well && word.len() <= NAME_BYTES_MAX && word.chars().all(is_allowed)
}

/// Whether a name may hold `c` (CHAT-NAME-1).
pub(crate) fn is_allowed(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.folded().cmp(other.folded())
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Name {}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: Result<(), NameError>) {
        assert_eq!(Name::parse(name).map(|_| ()), expected, "{name:?}");
    }

    #[test]
    fn length() {
        check("", Err(NameError::Invalid));
        check("a", Ok(()));
        check(&"a".repeat(32), Ok(()));
        check(&"a".repeat(33), Err(NameError::Invalid));
    }

    #[test]
    fn characters() {
        for byte in 0..=127u8 {
            let c = char::from(byte);
            let first = c.is_ascii_alphanumeric();
            let later = first || ".-_".contains(c);
            let expected = |ok| if ok { Ok(()) } else { Err(NameError::Invalid) };
            check(&format!("{c}x"), expected(first));
            check(&format!("x{c}"), expected(later));
        }
        for name in ["é", "xé", "x\u{202e}", "Ａlice", "x y", " x", "x\n"] {
            check(name, Err(NameError::Invalid));
        }
    }

    #[test]
    fn reserved_in_any_case() {
        for name in ["all", "ALL", "aLl", "server", "Server", "SERVER"] {
            check(name, Err(NameError::Reserved));
        }
        for name in ["all1", "servers", "al", "server."] {
            check(name, Ok(()));
        }
    }

    #[test]
    fn equal_and_ordered_regardless_of_case() {
        let name = |text| Name::parse(text).unwrap();
        assert_eq!(name("Alice"), name("aLICE"));
        assert_eq!(name("Alice").cmp(&name("aLICE")), Ordering::Equal);
        assert_ne!(name("Alice"), name("Alice1"));
        assert!(name("a-b") < name("A.b"));
        assert_eq!(name("aLICE").as_str(), "aLICE");
    }
}
