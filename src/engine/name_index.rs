//! Who is here, in the order of the names.

use slab::Slab;

use super::{name::Name, session::State};

/// The indices of the members' sessions, by name. The names themselves stand in the
/// sessions alone, so this takes 4 bytes for a member where a map of names takes some
/// 40; to come and to go costs moving what lies behind, microseconds among 100,000.
#[derive(Debug, Default)]
pub(super) struct NameIndex {
    indices: Vec<u32>,
}

impl NameIndex {
    /// How many are here.
    pub(super) fn len(&self) -> usize {
        self.indices.len()
    }

    /// Whose name it is.
    pub(super) fn holder(&self, sessions: &Slab<State>, name: &Name) -> Option<usize> {
        let place = self.place(sessions, name).ok()?;
        self.indices.get(place).map(|&index| index as usize)
    }

    /// Adds the member `index`, whose name nobody has.
    pub(super) fn add(&mut self, sessions: &Slab<State>, index: usize) {
        if let Some(name) = name_of(sessions, index)
            && let Err(place) = self.place(sessions, name)
        {
            // There are fewer connections than fit (CONNECTIONS_CEILING).
            self.indices.insert(place, index as u32);
        }
    }

    /// Takes out the member `index`.
    pub(super) fn remove(&mut self, sessions: &Slab<State>, index: usize) {
        if let Some(name) = name_of(sessions, index)
            && let Ok(place) = self.place(sessions, name)
        {
            self.indices.remove(place);
        }
    }

    /// The names behind `name`, in order; all of them behind none.
    pub(super) fn names_after<'a>(
        &'a self,
        sessions: &'a Slab<State>,
        name: Option<&Name>,
    ) -> impl Iterator<Item = &'a Name> {
        let place = name.map_or(0, |name| match self.place(sessions, name) {
            Ok(place) => place + 1,
            Err(place) => place,
        });
        let behind = self.indices.get(place..).unwrap_or_default();
        behind
            .iter()
            .filter_map(|&index| name_of(sessions, index as usize))
    }

    /// Where a name is, or where it would be.
    fn place(&self, sessions: &Slab<State>, name: &Name) -> Result<usize, usize> {
        self.indices
            .binary_search_by(|&index| name_of(sessions, index as usize).cmp(&Some(name)))
    }
}

fn name_of(sessions: &Slab<State>, index: usize) -> Option<&Name> {
    match sessions.get(index)? {
        State::Registered(member) => Some(&member.name),
        _ => None,
    }
}
