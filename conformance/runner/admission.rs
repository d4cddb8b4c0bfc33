//! What a server asks for before it lets anybody in (CHAT-ADM). The suite cannot
//! see it from outside, so whoever starts the suite says it.

use std::{fs, path::Path};

use crate::transcript::Case;

/// What newcomers need at the server under test.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// The password it asks for, if it asks.
    pub password: Option<String>,
    /// The only names it lets in; none: all names.
    pub names: Vec<String>,
}

impl Admission {
    /// From the files that the server has them from.
    pub fn read(password: Option<&Path>, names: Option<&Path>) -> Result<Self, String> {
        let read = |path: &Path| {
            fs::read_to_string(path).map_err(|e| format!("{} cannot be read: {e}", path.display()))
        };
        let password = match password {
            None => None,
            Some(path) => {
                let text = read(path)?;
                let text = text.strip_suffix('\n').unwrap_or(&text);
                let text = text.strip_suffix('\r').unwrap_or(text);
                if text.is_empty() || text.contains(char::is_control) {
                    return Err(format!("{} holds no password", path.display()));
                }
                Some(text.to_owned())
            }
        };
        let names = match names {
            None => Vec::new(),
            Some(path) => {
                let names: Vec<String> = read(path)?
                    .lines()
                    .filter_map(|line| line.split('#').next())
                    .map(|name| name.trim().to_owned())
                    .filter(|name| !name.is_empty())
                    .collect();
                if names.is_empty() {
                    return Err(format!("{} holds no name", path.display()));
                }
                names
            }
        };
        Ok(Self { password, names })
    }

    /// Why a case says nothing about such a server, if it does not.
    pub fn why_not(&self, case: &Case) -> Option<String> {
        match (case.asks_password, &self.password) {
            (Some(true), None) => {
                return Some(
                    "say with --password-file which password the server asks for".to_owned(),
                );
            }
            (Some(false), Some(_)) => {
                return Some("it is about a server that asks for no password".to_owned());
            }
            _ => {}
        }
        let wanted = case.listed.len();
        if wanted > self.names.len() {
            return Some(format!(
                "say with --allow which names the server lets in; it takes {wanted}"
            ));
        }
        if wanted == 0 && !self.names.is_empty() {
            return Some("the server lets in only the names of its list".to_owned());
        }
        None
    }

    /// The name by which somebody of a case is let in, if the case says that the
    /// list has them.
    pub fn listed(&self, case: &Case, person: &str) -> Option<&str> {
        let place = case.listed.iter().position(|listed| listed == person)?;
        self.names.get(place).map(String::as_str)
    }

    /// A name that is let in, for finding out what the server offers.
    pub fn any_name(&self) -> Option<&str> {
        self.names.last().map(String::as_str)
    }
}
