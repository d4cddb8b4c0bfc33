//! Configuration files of both programs: the options of the command line as TOML. Pure:
//! text in, arguments out.
//!
//! The command line wins over the environment, and both win over the file.

use std::ffi::OsString;

use clap::{Arg, ArgAction, ArgMatches, Command, parser::ValueSource};
use toml::{Table, Value};

use crate::nearest::nearest;

/// The most bytes that are read of a configuration file.
pub(crate) const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// The most times that an option is counted, such as `verbose`.
const COUNT_MAX: i64 = 8;

/// How the variables of options begin.
const VARIABLE_PREFIX: &str = "chat-";

/// Parses the text of a file.
///
/// # Errors
///
/// A sentence with the line.
pub(crate) fn parse(text: &str) -> Result<Table, String> {
    text.parse().map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let before = text.get(..start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        format!("line {line}: {}", error.message())
    })
}

/// Checks that `key` is an option of `command` and none of `not_keys`, or one of `others`.
///
/// # Errors
///
/// A sentence with the nearest key that there is.
pub(crate) fn check_key(
    key: &str,
    command: &Command,
    not_keys: &[&str],
    others: &[&str],
) -> Result<(), String> {
    let known: Vec<&str> = command
        .get_arguments()
        .filter_map(Arg::get_long)
        .filter(|long| !not_keys.contains(long))
        .chain(others.iter().copied())
        .collect();
    if known.contains(&key) {
        return Ok(());
    }
    // The name of a variable is that of its option, in other letters.
    let option = key.to_lowercase().replace('_', "-");
    let option = option.strip_prefix(VARIABLE_PREFIX).unwrap_or(&option);
    Err(match nearest(option, known) {
        Some(near) => format!("unknown key {key}: did you mean {near}?"),
        None => format!(
            "unknown key {key}: the keys are the options of {} --help",
            command.get_name()
        ),
    })
}

/// Whether the command line or the environment has the option `key`.
pub(crate) fn is_given(key: &str, command: &Command, matches: &ArgMatches) -> bool {
    let source = find(key, command).and_then(|arg| matches.value_source(arg.get_id().as_str()));
    source.is_some_and(|source| source != ValueSource::DefaultValue)
}

/// The value of `key` as arguments of the command line; none for a switch that is off.
///
/// # Errors
///
/// A sentence that says which values there are.
pub(crate) fn arguments(
    key: &str,
    value: &Value,
    command: &Command,
) -> Result<Vec<OsString>, String> {
    let Some(arg) = find(key, command) else {
        return Ok(Vec::new());
    };
    match (arg.get_action(), value) {
        (ArgAction::SetTrue, Value::Boolean(is_on)) => {
            Ok(vec![format!("--{key}").into(); usize::from(*is_on)])
        }
        (ArgAction::SetTrue, _) => Err(format!("{key} is true or false")),
        (ArgAction::Count, Value::Integer(count @ 0..=COUNT_MAX)) => {
            Ok(vec![format!("--{key}").into(); *count as usize])
        }
        (ArgAction::Count, _) => Err(format!("{key} is a number from 0 to {COUNT_MAX}")),
        (ArgAction::Append, Value::Array(values)) => {
            values.iter().map(|value| argument(key, value)).collect()
        }
        (_, value) => Ok(vec![argument(key, value)?]),
    }
}

fn argument(key: &str, value: &Value) -> Result<OsString, String> {
    let text = match value {
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
    Ok(format!("--{key}={text}").into())
}

fn find<'a>(key: &str, command: &'a Command) -> Option<&'a Arg> {
    command
        .get_arguments()
        .find(|arg| arg.get_long() == Some(key))
}
