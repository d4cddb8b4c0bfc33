//! Known names: which key each name of a server had, as ssh knows the keys of hosts
//! (CHAT-ID-17). Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::client::{Printable, SenderId};
use crate::name::Name;

/// How many names of one server are known. Those that are known are not forgotten for
/// others.
const NAMES_MAX: usize = 2_000;

/// How many changes are remembered, so that each is told once.
const TOLD_MAX: usize = 1_000;

/// What is to be done about the sender of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Nothing,
    /// To remember that the name has this key.
    Remember(SenderId),
    /// To tell that the name had this key before.
    Tell(SenderId),
}

/// What stands beside a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum KeyMark {
    /// Its sender has proved no key, and never has.
    #[default]
    None,
    /// Its key, which is the one that is known, or the first.
    Known(SenderId),
    /// Another key than the known one.
    Changed(SenderId),
    /// The name had a key, and the message came without.
    Missing,
}

impl KeyMark {
    /// How it is shown: what no name can hold.
    pub(super) fn show(self) -> Option<Printable> {
        let digits = |id: SenderId| Printable::new().trusted("·").untrusted(&id.short());
        match self {
            Self::None => None,
            Self::Known(id) => Some(digits(id)),
            Self::Changed(id) => Some(digits(id).trusted("(!)")),
            Self::Missing => Some(Printable::new().trusted("(!)")),
        }
    }
}

/// The names of one server.
#[derive(Debug, Default)]
pub(super) struct KnownNames {
    keys: BTreeMap<String, SenderId>,
    told: BTreeSet<(String, Option<SenderId>)>,
}

impl KnownNames {
    /// Notes that a name has this key.
    pub(super) fn add(&mut self, name: &str, id: SenderId) {
        let name = name.to_ascii_lowercase();
        if self.keys.len() < NAMES_MAX || self.keys.contains_key(&name) {
            self.keys.insert(name, id);
        }
    }

    /// What stands beside the name of a message's sender.
    pub(super) fn mark(&self, name: &str, id: Option<SenderId>) -> KeyMark {
        match (self.keys.get(&name.to_ascii_lowercase()), id) {
            (None, None) => KeyMark::None,
            (Some(_), None) => KeyMark::Missing,
            (Some(&known), Some(id)) if known != id => KeyMark::Changed(id),
            (_, Some(id)) => KeyMark::Known(id),
        }
    }

    /// A message has come.
    pub(super) fn judge(&mut self, name: &str, id: Option<SenderId>) -> Verdict {
        // A server may send what is no name.
        if Name::parse(name).is_err() {
            return Verdict::Nothing;
        }
        let folded = name.to_ascii_lowercase();
        match (self.keys.get(&folded).copied(), id) {
            (None, None) => Verdict::Nothing,
            (None, Some(_)) if self.keys.len() >= NAMES_MAX => Verdict::Nothing,
            (None, Some(id)) => {
                self.keys.insert(folded, id);
                Verdict::Remember(id)
            }
            (Some(known), id) if id == Some(known) => Verdict::Nothing,
            (Some(known), id) => {
                let is_new = self.told.len() < TOLD_MAX && self.told.insert((folded, id));
                match is_new {
                    true => Verdict::Tell(known),
                    false => Verdict::Nothing,
                }
            }
        }
    }
}

/// The sentence for a name whose key has changed. `how`: what to do if that is right.
pub(super) fn changed(
    name: &str,
    known: SenderId,
    id: Option<SenderId>,
    how: &Printable,
) -> Printable {
    let line = Printable::new();
    let line = match id {
        Some(id) => line
            .trusted("THE KEY OF ")
            .name(name)
            .trusted(" HAS CHANGED from ")
            .untrusted(&known.to_string())
            .trusted(" to ")
            .untrusted(&id.to_string()),
        None => line
            .name(name)
            .trusted(" HAS NO KEY and had ")
            .untrusted(&known.to_string())
            .trusted(" before"),
    };
    line.trusted(": somebody else may use the name; if it is right, ")
        .append(how)
}

/// The sentence for a name that cannot be kept, for this reason.
pub(super) fn not_kept(error: &impl ToString) -> Printable {
    Printable::new()
        .trusted("the keys of names are not kept, their file cannot be used: ")
        .untrusted(&error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(byte: u8) -> SenderId {
        SenderId::from_bytes(&[byte; 16]).expect("16 bytes")
    }

    #[test]
    fn the_first_key_is_remembered_and_each_other_one_told_once() {
        let mut known = KnownNames::default();
        assert_eq!(known.judge("Bob", None), Verdict::Nothing);
        assert_eq!(known.mark("Bob", None), KeyMark::None);
        assert_eq!(known.judge("Bob", Some(id(1))), Verdict::Remember(id(1)));
        assert_eq!(known.judge("bOB", Some(id(1))), Verdict::Nothing);
        assert_eq!(known.mark("bob", Some(id(1))), KeyMark::Known(id(1)));
        for _ in 0..2 {
            let is_first = known.told.is_empty();
            let verdict = match is_first {
                true => Verdict::Tell(id(1)),
                false => Verdict::Nothing,
            };
            assert_eq!(known.judge("BOB", Some(id(2))), verdict);
        }
        assert_eq!(known.mark("bob", Some(id(2))), KeyMark::Changed(id(2)));
        assert_eq!(known.judge("Bob", None), Verdict::Tell(id(1)));
        assert_eq!(known.mark("bob", None), KeyMark::Missing);
        // The user says that it is right.
        known.add("BOB", id(2));
        assert_eq!(known.judge("bob", Some(id(2))), Verdict::Nothing);
        assert_eq!(known.judge("bob", Some(id(1))), Verdict::Tell(id(2)));
    }

    #[test]
    fn a_flood_of_names_takes_no_memory_and_forgets_nobody() {
        let mut known = KnownNames::default();
        known.judge("Bob", Some(id(1)));
        for number in 0..2 * NAMES_MAX {
            known.judge(&format!("n{number}"), Some(id(2)));
            known.judge(&format!("n{number}"), Some(id(3)));
        }
        assert_eq!(known.keys.len(), NAMES_MAX);
        assert_eq!(known.told.len(), TOLD_MAX);
        assert_eq!(known.mark("Bob", Some(id(4))), KeyMark::Changed(id(4)));
    }

    #[test]
    fn a_mark_is_no_part_of_any_name() {
        let show = |mark: KeyMark| mark.show().map(|it| it.to_string());
        assert_eq!(show(KeyMark::None), None);
        assert_eq!(show(KeyMark::Known(id(0x3f))).as_deref(), Some("·3f3f3f"));
        assert_eq!(show(KeyMark::Changed(id(1))).as_deref(), Some("·010101(!)"));
        assert_eq!(show(KeyMark::Missing).as_deref(), Some("(!)"));
        let how = Printable::new().trusted("/trust Bob");
        assert_eq!(
            changed("Bob", id(1), None, &how).as_str(),
            "Bob HAS NO KEY and had 01010101010101010101010101010101 before: somebody else may \
             use the name; if it is right, /trust Bob"
        );
    }
}
