//! Name index: finds the member that holds a name, and lists names in order.

use super::{MemberId, members::Members};
use crate::name::Name;

/// The ids of the members, sorted by their names. Only [`Members`] holds the names, so
/// the index takes 4 bytes a member, where a map of names takes about 40. To join and to
/// leave moves the ids behind, which takes microseconds among 100,000 members.
#[derive(Debug, Default)]
pub(super) struct NameIndex {
    members: Vec<MemberId>,
}

impl NameIndex {
    /// How many names it has.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// The member that holds a name.
    pub(super) fn holder(&self, members: &Members, name: &Name) -> Option<MemberId> {
        let place = self.place(members, name).ok()?;
        self.members.get(place).copied()
    }

    /// Adds a member whose name is free.
    pub(super) fn insert(&mut self, members: &Members, member: MemberId) {
        if let Some(entry) = members.get(member)
            && let Err(place) = self.place(members, &entry.name)
        {
            self.members.insert(place, member);
        }
    }

    /// Removes a member.
    pub(super) fn remove(&mut self, members: &Members, member: MemberId) {
        if let Some(entry) = members.get(member)
            && let Ok(place) = self.place(members, &entry.name)
        {
            self.members.remove(place);
        }
    }

    /// The names behind `name`, in order; all of them if it is `None`.
    pub(super) fn names_after<'a>(
        &'a self,
        members: &'a Members,
        name: Option<&Name>,
    ) -> impl Iterator<Item = &'a Name> {
        let place = name.map_or(0, |name| match self.place(members, name) {
            Ok(place) => place + 1,
            Err(place) => place,
        });
        let behind = self.members.get(place..).unwrap_or_default();
        behind
            .iter()
            .filter_map(|&member| members.get(member).map(|entry| &entry.name))
    }

    /// The place of a name, or the place at which it would be inserted.
    fn place(&self, members: &Members, name: &Name) -> Result<usize, usize> {
        self.members.binary_search_by(|&member| {
            let entry = members.get(member);
            entry.map(|entry| &entry.name).cmp(&Some(name))
        })
    }
}
