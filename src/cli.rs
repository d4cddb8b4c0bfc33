//! Command lines: what the programs have in common.
//!
//! An empty environment variable counts as not set, since a container's configuration
//! often leaves one empty where a value is missing. A wrong value is reported with the
//! variable that it comes from.

use std::{
    env,
    ffi::{OsStr, OsString},
    path::PathBuf,
};

use clap::{
    Arg, ArgMatches, Command, CommandFactory, Error, Parser,
    builder::{Resettable, StyledStr},
    error::{ContextKind, ContextValue, ErrorKind},
    parser::ValueSource,
};

/// The value of an environment variable; `None` where it is not set or empty.
pub fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

/// The folder of configurations of this user; `None` without a home.
pub fn config_folder() -> Option<PathBuf> {
    let folder = variable("XDG_CONFIG_HOME").map(PathBuf::from);
    folder.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".config")))
}

/// Whether output for people may have colours: not if `NO_COLOR` is set or the terminal
/// calls itself dumb.
pub fn is_colourful() -> bool {
    variable("NO_COLOR").is_none() && variable("TERM").is_none_or(|term| term != "dumb")
}

/// Parses this process's command line and the variables of its options. Help, the
/// version and mistakes are printed and end the program, mistakes with code 2.
pub fn parse<P: Parser>() -> P {
    parse_from(&env::args_os().collect::<Vec<_>>())
}

/// As [`parse()`], for this command line.
pub fn parse_from<P: Parser>(arguments: &[OsString]) -> P {
    let parsed = command::<P>()
        .try_get_matches_from(arguments)
        .and_then(|matches| P::from_arg_matches(&matches));
    match parsed {
        Ok(options) => options,
        Err(error) => with_variable(error, command::<P>(), arguments).exit(),
    }
}

/// Ends the program as for a mistake on the command line: with `sentence`, which is
/// extended by the variables in use, and code 2.
pub fn refuse<P: CommandFactory>(sentence: &str) -> ! {
    let sentence = naming_variables::<P>(sentence);
    command::<P>()
        .error(ErrorKind::ValueValidation, sentence)
        .exit()
}

/// `sentence`, extended by the variables that options take their values from: the
/// mistake may be in one of them.
pub fn naming_variables<P: CommandFactory>(sentence: &str) -> String {
    let command = command::<P>();
    let Ok(matches) = command.clone().try_get_matches_from(env::args_os()) else {
        return sentence.to_owned();
    };
    match variables_in_use(&command, &matches).join(", ") {
        names if names.is_empty() => sentence.to_owned(),
        names => format!("{sentence} (from the environment: {names})"),
    }
}

/// The names of the variables that are empty, and so count as not set.
pub fn empty_variables<P: CommandFactory>() -> Vec<String> {
    P::command()
        .get_arguments()
        .filter_map(empty_variable)
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// The command without its empty variables.
pub fn command<P: CommandFactory>() -> Command {
    P::command().mut_args(|arg| match empty_variable(&arg) {
        Some(_) => arg.env(Resettable::Reset),
        None => arg,
    })
}

fn empty_variable(arg: &Arg) -> Option<&OsStr> {
    let name = arg.get_env()?;
    env::var_os(name)
        .is_some_and(|value| value.is_empty())
        .then_some(name)
}

fn variables_in_use(command: &Command, matches: &ArgMatches) -> Vec<String> {
    command
        .get_arguments()
        .filter(|arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::EnvVariable))
        .filter_map(Arg::get_env)
        .map(|name| name.to_string_lossy().into_owned())
        .collect()
}

/// `error`, extended by the variable that the wrong value comes from, or by those that
/// may need the option that is missing, if they do not come from `arguments`.
fn with_variable(mut error: Error, mut command: Command, arguments: &[OsString]) -> Error {
    let is_missing = error.kind() == ErrorKind::MissingRequiredArgument;
    let wrong = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(wrong)) => Some(wrong.as_str()),
        _ => None,
    };
    // An argument that is not built has no name to print.
    command.build();
    let tips: Vec<_> = command
        .get_arguments()
        .filter(|arg| is_missing || Some(arg.to_string().as_str()) == wrong)
        .filter(|arg| !is_among(arg, arguments))
        .filter_map(Arg::get_env)
        .filter(|name| env::var_os(name).is_some_and(|value| !value.is_empty()))
        .map(|name| match is_missing {
            true => format!("the variable {} is set", name.display()),
            false => format!("the value is that of the variable {}", name.display()),
        })
        .map(StyledStr::from)
        .collect();
    if !tips.is_empty() {
        error.insert(ContextKind::Suggested, ContextValue::StyledStrs(tips));
    }
    error
}

fn is_among(arg: &Arg, arguments: &[OsString]) -> bool {
    arg.get_long().is_some_and(|long| {
        let option = format!("--{long}");
        arguments
            .iter()
            .any(|argument| argument.to_string_lossy().split('=').next() == Some(option.as_str()))
    })
}
