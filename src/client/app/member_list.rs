//! Member list: the names of the members, kept current by presence. Pure.

use std::collections::BTreeMap;

use crate::client::Printable;

/// How many names are kept. A server that names more is not believed.
const NAMES_MAX: usize = 100_000;

/// The longest name that is kept, in bytes: longer than any valid name.
const NAME_BYTES_MAX: usize = 64;

/// How many names are listed; the rest is counted.
const NAMES_LISTED_MAX: usize = 50;

/// The names, kept current by Members, Joined and Left (CHAT-PRES-1 to CHAT-PRES-4).
#[derive(Debug, Default)]
pub(super) struct MemberList {
    /// By the name in lower case, so that the list ignores case.
    names: BTreeMap<String, String>,
}

impl MemberList {
    pub(super) fn add(&mut self, name: String) {
        if self.names.len() < NAMES_MAX && name.len() <= NAME_BYTES_MAX {
            self.names.insert(name.to_ascii_lowercase(), name);
        }
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.names.remove(&name.to_ascii_lowercase());
    }

    /// Forgets everybody: another session begins.
    pub(super) fn clear(&mut self) {
        self.names.clear();
    }

    /// The names, in order, own name included.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.values().map(String::as_str)
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    /// "here with you: Bob, Carol", without `own`.
    pub(super) fn here(&self, own: &str) -> Printable {
        let others = || self.names.values().filter(|name| *name != own);
        let count = others().count();
        if count == 0 {
            return Printable::new().trusted("nobody else is here");
        }
        let mut line = Printable::new().trusted("here with you: ");
        for (index, name) in others().take(NAMES_LISTED_MAX).enumerate() {
            if index > 0 {
                line = line.trusted(", ");
            }
            line = line.name(name);
        }
        if count > NAMES_LISTED_MAX {
            line = line
                .trusted(" and ")
                .number((count - NAMES_LISTED_MAX) as u64)
                .trusted(" more");
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(names: impl IntoIterator<Item = String>) -> MemberList {
        let mut members = MemberList::default();
        for name in names {
            members.add(name);
        }
        members
    }

    #[test]
    fn lists_the_others_in_order() {
        let mut members = members(["bob", "Alice", "Carol", "Me"].map(str::to_owned));
        assert_eq!(
            members.here("Me").as_str(),
            "here with you: Alice, bob, Carol"
        );
        members.remove("BOB");
        members.remove("Carol");
        members.remove("Alice");
        assert_eq!(members.here("Me").as_str(), "nobody else is here");
    }

    #[test]
    fn a_crowd_is_counted() {
        let members = members((0..60).map(|number| format!("n{number:02}")));
        assert!(members.here("x").as_str().ends_with(", n49 and 10 more"));
    }

    #[test]
    fn the_memory_is_bounded() {
        let members = members((0..=NAMES_MAX).map(|number| format!("n{number}")));
        assert_eq!(members.names.len(), NAMES_MAX);
        let mut members = MemberList::default();
        members.add("x".repeat(NAME_BYTES_MAX + 1));
        assert_eq!(members.names.len(), 0);
    }
}
