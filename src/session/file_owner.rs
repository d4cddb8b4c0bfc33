//! File owner: whom a file belongs to, or was given to. A key is somebody; a name is
//! whoever has it next, so it counts only for members without a key.

use std::fmt;

use crate::{
    identity::SenderId,
    name::Name,
    room::{MemberId, Room},
};

/// How the id of a key begins where it stands beside names, none of which does so.
const KEY_MARK: char = '@';

/// Whom a file belongs to, or was given to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum FileOwner {
    /// Who proved this key, by whatever name.
    Key(SenderId),
    /// Members of this name who proved none.
    Name(Name),
}

impl FileOwner {
    /// A member, if there is one.
    pub(super) fn of(room: &Room, member: MemberId) -> Option<Self> {
        match room.sender_id(member) {
            Some(id) => Some(Self::Key(id)),
            None => room.name(member).cloned().map(Self::Name),
        }
    }

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix(KEY_MARK) {
            Some(digits) => SenderId::parse(digits).map(Self::Key),
            None => Name::parse(text).ok().map(Self::Name),
        }
    }
}

/// As a part of the name of a file: equal owners are written alike.
impl fmt::Display for FileOwner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(id) => write!(f, "{KEY_MARK}{id}"),
            Self::Name(name) => f.write_str(&name.as_str().to_ascii_lowercase()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_read_as_it_is_written() {
        let alice = FileOwner::parse("Alice").expect("a name");
        assert_eq!(alice.to_string(), "alice");
        assert_eq!(FileOwner::parse("alice"), Some(alice));
        let digits = "00112233445566778899aabbccddeeff";
        let key = FileOwner::parse(&format!("@{digits}")).expect("an id");
        assert_eq!(key.to_string(), format!("@{digits}"));
        assert_ne!(FileOwner::parse(digits), Some(key));
        for text in ["", "@", "@alice", "a b", "../alice"] {
            assert_eq!(FileOwner::parse(text), None, "{text}");
        }
    }
}
