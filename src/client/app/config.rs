//! Configuration file: the options of the command line, for all servers and for each by
//! a short name. Pure: text in, arguments out.

use std::ffi::OsString;

use clap::{ArgAction, ArgMatches, Command, parser::ValueSource};
use toml::{Table, Value};

use super::nearest::nearest;

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
    let table: Table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| {
            text.get(..span.start)
                .map_or(1, |before| before.lines().count().max(1))
        });
        format!("line {line}: {}", error.message())
    })?;
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
                                check_key(key, command, &[ADDRESS, NAME]).map_err(at)?;
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
                check_key(key, command, &[NAME, SERVERS])?;
                if !options.iter().any(|(other, _)| *other == key) {
                    options.push((key, value));
                }
            }
        }
    }
    for (key, value) in options {
        if let Some(argument) = argument(key, value, command, matches)? {
            found.arguments.push(argument);
        }
    }
    Ok(found)
}

fn check_key(key: &str, command: &Command, others: &[&str]) -> Result<(), String> {
    let known: Vec<&str> = command
        .get_arguments()
        .filter_map(|arg| arg.get_long())
        .filter(|long| !NOT_KEYS.contains(long))
        .chain(others.iter().copied())
        .collect();
    if known.contains(&key) {
        return Ok(());
    }
    Err(match nearest(key, known) {
        Some(near) => format!("unknown key {key}: did you mean {near}?"),
        None => format!("unknown key {key}: the keys are the options of chat-client --help"),
    })
}

/// The option as an argument, unless it was given otherwise or is off.
fn argument(
    key: &str,
    value: &Value,
    command: &Command,
    matches: &ArgMatches,
) -> Result<Option<OsString>, String> {
    let arg = command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(key));
    let Some(arg) = arg else {
        return Ok(None);
    };
    let source = matches.value_source(arg.get_id().as_str());
    if source.is_some_and(|source| source != ValueSource::DefaultValue) {
        return Ok(None);
    }
    let is_flag = matches!(arg.get_action(), ArgAction::SetTrue);
    let text = match value {
        Value::Boolean(is_on) if is_flag => {
            return Ok(is_on.then(|| format!("--{key}").into()));
        }
        _ if is_flag => return Err(format!("{key} is true or false")),
        Value::Boolean(true) => "on".to_owned(),
        Value::Boolean(false) => "off".to_owned(),
        Value::Integer(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => {
            return Err(format!(
                "{key} is a text in quotes, a number, true or false"
            ));
        }
    };
    Ok(Some(format!("--{key}={text}").into()))
}
