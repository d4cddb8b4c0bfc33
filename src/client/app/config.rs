//! Configuration file: the options of the command line, for all servers and for each by
//! a short name. Pure: text in, arguments out.

use std::ffi::OsString;

use clap::{ArgMatches, Command};
use toml::Value;

use crate::config_file::{arguments, check_key, is_given, parse};

/// The table with a table for each server.
const SERVERS: &str = "servers";

/// Keys of a server beside the options: they are arguments of the command line.
const ADDRESS: &str = "address";
const NAME: &str = "name";

/// Options that have no place in the file.
const NOT_KEYS: [&str; 3] = ["config", "help", "version"];

/// What the file says about this command line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// The address of the server that the command line names.
    pub(super) address: Option<String>,
    /// The name to go by there.
    pub(super) name: Option<String>,
    /// Options that neither the command line nor the environment has.
    pub(super) arguments: Vec<OsString>,
}

/// Reads `text` for a command line whose address is `server`.
///
/// # Errors
///
/// A sentence that says what is wrong.
pub(super) fn read(
    text: &str,
    server: &str,
    command: &Command,
    matches: &ArgMatches,
) -> Result<Found, String> {
    let table = parse(text)?;
    let mut found = Found::default();
    let mut options: Vec<(&str, &Value)> = Vec::new();
    for (key, value) in &table {
        match (key.as_str(), value) {
            (SERVERS, Value::Table(servers)) => {
                for (short, of_server) in servers {
                    let Value::Table(of_server) = of_server else {
                        return Err(format!("{SERVERS}.{short} is a table: [{SERVERS}.{short}]"));
                    };
                    let is_meant = short == server;
                    for (key, value) in of_server {
                        let at = |what| format!("{SERVERS}.{short}: {what}");
                        match (key.as_str(), value.as_str()) {
                            (ADDRESS | NAME, None) => {
                                return Err(at(format!("{key} is a text in quotes")));
                            }
                            (ADDRESS, Some(text)) if is_meant => {
                                found.address = Some(text.to_owned());
                            }
                            (NAME, Some(text)) if is_meant => {
                                found.name = Some(text.to_owned());
                            }
                            (ADDRESS | NAME, _) => {}
                            _ => {
                                check_key(key, command, &NOT_KEYS, &[ADDRESS, NAME]).map_err(at)?;
                                if is_meant {
                                    options.retain(|(other, _)| other != key);
                                    options.push((key, value));
                                }
                            }
                        }
                    }
                    if !of_server.contains_key(ADDRESS) {
                        return Err(format!("{SERVERS}.{short} has no {ADDRESS}"));
                    }
                }
            }
            (SERVERS, _) => return Err(format!("{SERVERS} is a table: [{SERVERS}.NAME]")),
            (NAME, Value::String(name)) => {
                found.name.get_or_insert_with(|| name.clone());
            }
            (key, value) => {
                check_key(key, command, &NOT_KEYS, &[NAME, SERVERS])?;
                if !options.iter().any(|(other, _)| *other == key) {
                    options.push((key, value));
                }
            }
        }
    }
    for (key, value) in options {
        if !is_given(key, command, matches) {
            found.arguments.extend(arguments(key, value, command)?);
        }
    }
    Ok(found)
}
