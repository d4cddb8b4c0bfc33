//! Access policy: which clients may register (CHAT-ADM).

use std::collections::{BTreeMap, BTreeSet};

use crate::{identity::PublicKey, name::Name, password::Password};

use super::rejection::{self, Rejection};

/// What a client needs in order to register; by default nothing.
#[derive(Debug, Clone, Default)]
pub struct AccessPolicy {
    /// The password, if there is one (CHAT-ADM-1).
    pub password: Option<Password>,
    /// The only names that may register, if not all may (CHAT-ADM-4). Case does not
    /// matter, as for all names.
    pub names: Option<BTreeSet<Name>>,
    /// The names that the operator has given to keys (CHAT-ID-10).
    pub owners: BTreeMap<Name, PublicKey>,
    /// Whether the first key that is proved for a name owns it from then on (CHAT-ID-10).
    pub first_proof_owns: bool,
}

impl AccessPolicy {
    /// Checks the password of a Register. A client without a password sends an empty one,
    /// which matches no password.
    pub(super) fn check_password(&self, offered: &str) -> Result<(), Rejection> {
        match &self.password {
            None => Ok(()), // CHAT-ADM-3
            Some(password) if password.matches(offered) => Ok(()),
            Some(_) => Err(rejection::password_wrong(offered.is_empty())),
        }
    }

    /// Whether it has a password that those who registered under `before` need not know.
    pub(super) fn has_new_password(&self, before: &Self) -> bool {
        match (&self.password, &before.password) {
            (None, _) => false,
            (Some(_), None) => true,
            (Some(now), Some(before)) => !before.matches(now.reveal()),
        }
    }

    /// How it differs from the one `before`, in words.
    pub fn changes(&self, before: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        if self.has_new_password(before) {
            changes.push("another password".to_owned());
        } else if self.password.is_none() && before.password.is_some() {
            changes.push("no password any more".to_owned());
        }
        match (&self.names, &before.names) {
            (None, Some(_)) => changes.push("all names are allowed".to_owned()),
            (Some(names), before) if before.as_ref() != Some(names) => {
                changes.push(format!("{} names are allowed", names.len()));
            }
            _ => {}
        }
        if self.owners != before.owners {
            changes.push(format!(
                "{} names have an owner by --owners",
                self.owners.len()
            ));
        }
        match (self.first_proof_owns, before.first_proof_owns) {
            (true, false) => changes.push("names are owned by the first key".to_owned()),
            (false, true) => changes.push("names are open".to_owned()),
            _ => {}
        }
        changes
    }

    /// Checks a valid name.
    pub(super) fn check_name(&self, name: &Name) -> Result<(), Rejection> {
        match &self.names {
            Some(names) if !names.contains(name) => Err(rejection::name_not_allowed(name)),
            _ => Ok(()),
        }
    }
}
