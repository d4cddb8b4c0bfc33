//! Name index: finds the member that holds a name, and lists names in their order.

use super::{MemberId, members::Members};
use crate::name::Name;

/// The ids of the members, in the order of their names. The names themselves stand in
/// [`Members`] alone, so this takes 4 bytes for a member where a map of names takes
/// some 40; to join and to leave costs moving what lies behind, microseconds among
/// 100,000.
#[derive(Debug, Default)]
pub(super) struct NameIndex {
    members: Vec<MemberId>,
}

impl NameIndex {
    /// How many names it has.
    pub(super) fn len(&self) -> usize {
        self.members.len()
    }

    /// Which member holds a name.
    pub(super) fn holder(&self, members: &Members, name: &Name) -> Option<MemberId> {
        let place = self.place(members, name).ok()?;
        self.members.get(place).copied()
    }

    /// Adds a member whose name nobody else holds.
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

    /// The names behind `name`, in order; all of them where it is `None`.
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

    /// Where a name is, or where it would be.
    fn place(&self, members: &Members, name: &Name) -> Result<usize, usize> {
        self.members.binary_search_by(|&member| {
            let entry = members.get(member);
            entry.map(|entry| &entry.name).cmp(&Some(name))
        })
    }
}
