//! Owners: the names that the first key that was proved for them owns (CHAT-ID-10), and
//! since when nobody has used them (CHAT-ID-11).

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    identity::PublicKey,
    limits::{Limits, OWNED_NAMES_MAX},
    name::Name,
};

/// What a store keeps as the end of a session that has not ended: later than any time.
const USED_NOW: i64 = i64::MAX;

/// How many names that nobody has used for too long become free with each new owner, so
/// that the table shrinks faster than it grows.
const FREED_PER_OWNER_MAX: usize = 8;

/// The owner of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The key that owns it.
    pub key: PublicKey,
    /// When the last session under the name ended, in milliseconds since
    /// 1970-01-01T00:00:00Z; later than any time while there is one.
    pub used_unix_ms: i64,
}

/// The owners of a room's names.
#[derive(Debug)]
pub(super) struct Owners {
    owners: BTreeMap<Name, Owner>,
    /// The names that no member has, by when the last one left.
    unused: BTreeSet<(i64, Name)>,
    expiry_ms: u64,
    names_max: usize,
}

impl Owners {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            owners: BTreeMap::new(),
            unused: BTreeSet::new(),
            expiry_ms: limits.name_expiry_ms,
            names_max: OWNED_NAMES_MAX,
        }
    }

    /// Adds an owner of an earlier run of the server; no member has the name.
    pub(super) fn restore(&mut self, name: Name, owner: Owner) {
        self.unused.insert((owner.used_unix_ms, name.clone()));
        self.owners.insert(name, owner);
    }

    /// All owners, by name.
    pub(super) fn all(&self) -> impl Iterator<Item = (Name, Owner)> {
        let owners = self.owners.iter();
        owners.map(|(name, owner)| (name.clone(), *owner))
    }

    /// A member has the name of an owner that was restored.
    pub(super) fn reopen(&mut self, name: &Name) {
        if let Some(owner) = self.owners.get(name) {
            self.unused.remove(&(owner.used_unix_ms, name.clone()));
        }
    }

    /// The key that owns a name.
    pub(super) fn key(&self, name: &Name, now_unix_ms: i64) -> Option<PublicKey> {
        let owner = self.owners.get(name)?;
        (!self.is_expired(owner.used_unix_ms, now_unix_ms)).then_some(owner.key)
    }

    /// The owner of a name as a store keeps it.
    pub(super) fn get(&self, name: &Name) -> Option<Owner> {
        self.owners.get(name).copied()
    }

    /// A member has joined under a name and has proved this key; the key owns the name
    /// already, or no key does. Returns whether it owns the name now, and the names that
    /// have become free.
    pub(super) fn join(
        &mut self,
        name: &Name,
        key: PublicKey,
        now_unix_ms: i64,
    ) -> (bool, Vec<Name>) {
        let mut freed = Vec::new();
        match self.owners.get(name) {
            Some(owner) => drop(self.unused.remove(&(owner.used_unix_ms, name.clone()))),
            None => freed = self.free_unused(now_unix_ms),
        }
        // A full table takes no name from its owner; the newcomer just owns none.
        if self.owners.len() >= self.names_max && !self.owners.contains_key(name) {
            return (false, freed);
        }
        let owner = Owner {
            key,
            used_unix_ms: USED_NOW,
        };
        self.owners.insert(name.clone(), owner);
        (true, freed)
    }

    /// The member that owns a name has left.
    pub(super) fn leave(&mut self, name: &Name, now_unix_ms: i64) {
        if let Some(owner) = self.owners.get_mut(name) {
            owner.used_unix_ms = now_unix_ms;
            self.unused.insert((now_unix_ms, name.clone()));
        }
    }

    /// Forgets names that nobody has used for too long, the oldest first.
    fn free_unused(&mut self, now_unix_ms: i64) -> Vec<Name> {
        let mut freed = Vec::new();
        while freed.len() < FREED_PER_OWNER_MAX
            && let Some((used_unix_ms, _)) = self.unused.first()
            && self.is_expired(*used_unix_ms, now_unix_ms)
            && let Some((_, name)) = self.unused.pop_first()
        {
            self.owners.remove(&name);
            freed.push(name);
        }
        freed
    }

    /// CHAT-ID-11
    fn is_expired(&self, used_unix_ms: i64, now_unix_ms: i64) -> bool {
        let unused_ms = now_unix_ms.saturating_sub(used_unix_ms);
        u64::try_from(unused_ms).is_ok_and(|unused_ms| unused_ms > self.expiry_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXPIRY_MS: u64 = 1_000;

    fn owners(names_max: usize) -> Owners {
        let limits = Limits {
            name_expiry_ms: EXPIRY_MS,
            ..Limits::default()
        };
        Owners {
            names_max,
            ..Owners::new(&limits)
        }
    }

    fn name(name: &str) -> Name {
        Name::parse(name).expect("a name")
    }

    fn key(byte: u8) -> PublicKey {
        PublicKey::from_bytes(&[byte; 32]).expect("32 bytes")
    }

    #[test]
    fn a_name_is_owned_while_it_is_used_and_for_its_time_after_that() {
        let mut owners = owners(10);
        let alice = name("Alice");
        assert_eq!(owners.join(&alice, key(1), 0), (true, Vec::new()));
        assert_eq!(owners.key(&name("aLICE"), i64::MAX), Some(key(1)));
        owners.leave(&alice, 5_000);
        assert_eq!(owners.key(&alice, 6_000), Some(key(1)));
        assert_eq!(owners.key(&alice, 6_001), None);
        // A clock that was set back.
        assert_eq!(owners.key(&alice, i64::MIN), Some(key(1)));
        // The next one to own a name has its time for itself.
        assert_eq!(owners.join(&alice, key(2), 6_001), (true, Vec::new()));
        owners.leave(&alice, 7_000);
        assert_eq!(owners.key(&alice, 8_000), Some(key(2)));
        assert_eq!(owners.unused.len(), 1);
    }

    #[test]
    fn a_full_table_gives_no_name_away_before_its_time() {
        let mut owners = owners(2);
        for (byte, used) in [("a", 10), ("b", 20)] {
            owners.join(&name(byte), key(1), 0);
            owners.leave(&name(byte), used);
        }
        let full = owners.join(&name("c"), key(3), 1_010);
        assert_eq!(full, (false, Vec::new()));
        assert_eq!(owners.key(&name("c"), 1_010), None);
        let freed = owners.join(&name("c"), key(3), 1_011);
        assert_eq!(freed, (true, vec![name("a")]));
        assert_eq!(owners.key(&name("a"), 0), None);
        assert_eq!(owners.key(&name("b"), 0), Some(key(1)));
    }
}
