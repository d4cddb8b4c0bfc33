//! Admission: the password and the list of names that the server under test has
//! (CHAT-ADM). No message announces them, so the options of the command line do.

use std::path::Path;

use crate::{text_file::read_unmarked, transcript::Case};

/// What a client needs to be admitted.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    /// The password it asks for, if it asks.
    pub password: Option<String>,
    /// The names on its list; empty: it has no list.
    pub names: Vec<String>,
}

impl Admission {
    /// From the files that the server has them from.
    pub fn read(password: Option<&Path>, names: Option<&Path>) -> Result<Self, String> {
        let password = match password {
            None => None,
            Some(path) => {
                let text = read_unmarked(path)?;
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
                let names: Vec<String> = read_unmarked(path)?
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

    /// Why the case does not apply to a server with this admission; None when it does.
    pub fn why_not(&self, case: &Case) -> Option<String> {
        match (case.asks_password, &self.password) {
            (Some(true), None) => {
                return Some("give --password-file: the password that the server has".to_owned());
            }
            (Some(false), Some(_)) => {
                return Some("it needs a server without a password".to_owned());
            }
            _ => {}
        }
        let wanted = case.listed.len();
        if wanted > self.names.len() {
            return Some(format!(
                "give --allow: the names on the list of the server, at least {wanted}"
            ));
        }
        if wanted == 0 && !self.names.is_empty() {
            return Some("it needs a server without a list of names".to_owned());
        }
        None
    }

    /// The name on the list that a person of a case takes, if the case's header puts
    /// that person on the list.
    pub fn listed(&self, case: &Case, person: &str) -> Option<&str> {
        let place = case.listed.iter().position(|listed| listed == person)?;
        self.names.get(place).map(String::as_str)
    }

    /// A name on the list, for the probe.
    pub fn any_name(&self) -> Option<&str> {
        self.names.last().map(String::as_str)
    }
}
