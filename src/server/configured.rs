//! Configured options: the command line, the environment and a configuration file
//! together, and which of them each value comes from.

use std::{
    collections::BTreeSet,
    env,
    ffi::OsString,
    fmt::{self, Write},
    path::{Path, PathBuf},
};

use clap::{
    Arg, ArgAction, ArgMatches, Command, FromArgMatches, builder::Resettable, parser::ValueSource,
};

use super::options::Options;
use crate::{
    cli,
    config_file::{CONFIG_BYTES_MAX, arguments, check_key, is_given, parse},
    input_file,
    limits::LIMITS,
    password::source::PASSWORD_VARIABLE,
};

/// Options that have no place in the file.
const NOT_KEYS: [&str; 5] = ["config", "print-config", "check", "help", "version"];

/// Options beside limits that a server takes while it runs, by their fields.
const LIVE: [&str; 7] = [
    "allow",
    "deny",
    "names",
    "owners",
    "password_file",
    "verbose",
    "welcome",
];

/// In which column a printed configuration says where a value comes from.
const SOURCE_COLUMN: usize = 44;

/// The options of a server, and where they come from.
pub struct Configured {
    /// The options.
    pub options: Options,
    command: Command,
    /// The command line and the environment.
    given: ArgMatches,
    /// These and the file.
    matches: ArgMatches,
    file: Option<PathBuf>,
    /// The options that the file has.
    keys: BTreeSet<String>,
}

/// Where the value of an option comes from.
enum Source<'a> {
    Default,
    File(&'a Path),
    Variable(String),
    Option,
}

impl Configured {
    /// Reads the command line of this process, its environment and the file that they
    /// name. Help, the version and mistakes are printed and end the program (mistakes
    /// with code 2).
    pub fn read() -> Self {
        let arguments: Vec<OsString> = env::args_os().collect();
        if let Ok(given) = given(&arguments)
            && config_path(&given).is_some()
        {
            return Self::read_again().unwrap_or_else(|it| cli::refuse::<Options>(&it));
        }
        let options = cli::parse_from(&arguments);
        let matches = cli::command::<Options>()
            .try_get_matches_from(&arguments)
            .unwrap_or_default();
        Self::without_file(options, matches)
    }

    /// As [`Configured::read`], while the server runs: the file may have changed since.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong.
    pub fn read_again() -> Result<Self, String> {
        Self::read_from(&env::args_os().collect::<Vec<_>>())
    }

    fn read_from(arguments: &[OsString]) -> Result<Self, String> {
        let given = given(arguments).map_err(|error| sentence(&error))?;
        let Some(path) = config_path(&given).map(Path::to_owned) else {
            let matches = cli::command::<Options>().try_get_matches_from(arguments);
            let matches = matches.map_err(|error| sentence(&error))?;
            let options = Options::from_arg_matches(&matches).map_err(|it| sentence(&it))?;
            return Ok(Self::without_file(options, matches));
        };
        let text = input_file::read_text(&path, CONFIG_BYTES_MAX)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        Self::with_file(arguments, given, &path, &text)
            .map_err(|it| format!("{}: {it}", path.display()))
    }

    /// The same, for the file at `path` that holds `text`.
    fn with_file(
        arguments: &[OsString],
        given: ArgMatches,
        path: &Path,
        text: &str,
    ) -> Result<Self, String> {
        let command = cli::command::<Options>();
        let mut keys = BTreeSet::new();
        let mut from_file = Vec::new();
        for (key, value) in &parse(text)? {
            check_key(key, &command, &NOT_KEYS, &[])?;
            let values = self::arguments(key, value, &command)?;
            if !is_given(key, &command, &given) {
                from_file.extend(values);
                keys.insert(key.clone());
            }
        }
        let (program, rest) = arguments.split_at(arguments.len().min(1));
        let whole = program.iter().chain(&from_file).chain(rest);
        let matches = command.clone().try_get_matches_from(whole);
        let matches = matches.map_err(|error| sentence(&error))?;
        Ok(Self {
            options: Options::from_arg_matches(&matches).map_err(|it| sentence(&it))?,
            command,
            given,
            matches,
            file: Some(path.to_owned()),
            keys,
        })
    }

    fn without_file(options: Options, matches: ArgMatches) -> Self {
        Self {
            options,
            command: cli::command::<Options>(),
            given: matches.clone(),
            matches,
            file: None,
            keys: BTreeSet::new(),
        }
    }

    /// The configuration file, if there is one.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The options that `other` has with another value, and that change only with a
    /// restart.
    pub fn restart_needed(&self, other: &Self) -> Vec<String> {
        let limits = (self.options.limits(), other.options.limits());
        let differs = |arg: &&Arg| {
            let id = arg.get_id().as_str();
            match (LIMITS.iter().find(|limit| limit.field == id), &limits) {
                (Some(limit), (Ok(now), Ok(then))) => {
                    !limit.is_live && limit.value(now) != limit.value(then)
                }
                _ => !LIVE.contains(&id) && self.value(arg) != other.value(arg),
            }
        };
        let keys = self.command.get_arguments().filter(differs);
        let keys = keys.filter_map(|arg| arg.get_long().map(str::to_owned));
        keys.filter(|key| !NOT_KEYS.contains(&key.as_str()))
            .collect()
    }

    /// All values as a configuration file, each with where it comes from.
    ///
    /// # Errors
    ///
    /// A sentence that says which value is wrong.
    pub fn print(&self) -> Result<String, String> {
        let limits = self.options.limits()?;
        let mut page = String::new();
        for arg in self.command.get_arguments() {
            let Some(key) = arg.get_long().filter(|key| !NOT_KEYS.contains(key)) else {
                continue;
            };
            let limit = LIMITS
                .iter()
                .find(|limit| limit.field == arg.get_id().as_str());
            let value = self.value(arg).or_else(|| {
                let limit = limit?;
                Some(quoted(&limit.show(limit.value(&limits))))
            });
            let source = self.source(arg);
            let line = match (value, &source) {
                (None, _) => format!("# {key} is not set"),
                // It needs no line.
                (Some(value), Source::Default) => format!("# {key} = {value}"),
                (Some(value), _) => format!("{key} = {value}"),
            };
            let _ = writeln!(page, "{line:SOURCE_COLUMN$} # {source}");
        }
        if env::var_os(PASSWORD_VARIABLE).is_some() {
            let line = "# the password is not shown";
            let _ = writeln!(page, "{line:SOURCE_COLUMN$} # variable {PASSWORD_VARIABLE}");
        }
        Ok(page)
    }

    /// Its value as TOML; `None` where it has none.
    fn value(&self, arg: &Arg) -> Option<String> {
        let id = arg.get_id().as_str();
        match arg.get_action() {
            ArgAction::SetTrue => Some(self.matches.get_flag(id).to_string()),
            ArgAction::Count => Some(self.matches.get_count(id).to_string()),
            action => {
                let values = self.matches.get_raw(id)?;
                let mut values = values.map(|value| quoted(&value.to_string_lossy()));
                match action {
                    ArgAction::Append => {
                        Some(format!("[{}]", values.collect::<Vec<_>>().join(", ")))
                    }
                    _ => values.next(),
                }
            }
        }
    }

    fn source(&self, arg: &Arg) -> Source<'_> {
        match (self.given.value_source(arg.get_id().as_str()), &self.file) {
            (Some(ValueSource::CommandLine), _) => Source::Option,
            (Some(ValueSource::EnvVariable), _) => {
                let name = arg.get_env().unwrap_or_default();
                Source::Variable(name.to_string_lossy().into_owned())
            }
            (_, Some(file)) if arg.get_long().is_some_and(|key| self.keys.contains(key)) => {
                Source::File(file)
            }
            _ => Source::Default,
        }
    }
}

impl fmt::Display for Source<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::Option => f.write_str("option"),
        }
    }
}

/// What the command line and the environment say. An option may need another one that
/// only the file has.
fn given(arguments: &[OsString]) -> Result<ArgMatches, clap::Error> {
    cli::command::<Options>()
        .mut_args(|arg| arg.requires(Resettable::Reset))
        .try_get_matches_from(arguments)
}

/// The configuration file of a server; what is done instead of serving has none.
fn config_path(given: &ArgMatches) -> Option<&Path> {
    let path = given.get_one::<PathBuf>("config")?;
    given.subcommand_name().is_none().then_some(path.as_path())
}

/// The mistake itself, in one line.
fn sentence(error: &clap::Error) -> String {
    let error = error.to_string();
    let lines = error.lines().take_while(|line| !line.is_empty());
    let line = lines.map(str::trim).collect::<Vec<_>>().join(" ");
    line.trim_start_matches("error: ").to_owned()
}

/// A text in TOML.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            control if control.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(control));
            }
            other => quoted.push(other),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configured(text: &str, options: &[&str]) -> Result<Configured, String> {
        let arguments: Vec<OsString> = ["chat-server"]
            .iter()
            .chain(options)
            .map(Into::into)
            .collect();
        let given = given(&arguments).expect("a command line");
        Configured::with_file(&arguments, given, Path::new("FILE"), text)
    }

    const CONFIG: &str = r#"
        listen = "127.0.0.1:7000"
        rate-limit = "20/min"
        connections-per-address-max = "off"
        connections-max = 5
        limit-loopback = true
        no-hangup = false
        web-origin = ["https://a.example", "https://b.example"]
        verbose = 1
    "#;

    #[test]
    fn a_file_has_the_options_and_the_command_line_wins() {
        let it = configured(CONFIG, &["--connections-max", "6"]).expect("options");
        let limits = it.options.limits().expect("in range");
        assert_eq!(it.options.listen(), Some("127.0.0.1:7000"));
        assert_eq!(limits.connections_max, 6);
        assert_eq!(limits.connections_per_address_max, None);
        assert_eq!(limits.chat_interval_ms, Some(3_000));
        assert!(limits.is_loopback_limited && !it.options.no_hangup);
        assert_eq!(it.options.verbose, 1);
        assert_eq!(it.options.reach.web_origin.len(), 2);
    }

    #[test]
    fn each_value_is_printed_with_its_source_and_can_be_read_again() {
        let it = configured(CONFIG, &["--connections-max", "6"]).expect("options");
        let page = it.print().expect("in range");
        let line = |key: &str| -> Vec<&str> {
            let mut lines = page.lines();
            let line = lines.find(|line| line.starts_with(&format!("{key} ")));
            line.unwrap_or_default().split_whitespace().collect()
        };
        assert_eq!(
            line("rate-limit"),
            ["rate-limit", "=", "\"20/min\"", "#", "file", "FILE"]
        );
        assert_eq!(line("connections-max")[2..], ["\"6\"", "#", "option"]);
        let burst = "# rate-burst = \"100\" ";
        assert!(
            page.lines()
                .any(|line| line.starts_with(burst) && line.ends_with("# default"))
        );
        assert_eq!(line("limit-loopback")[2..], ["true", "#", "file", "FILE"]);
        assert!(page.contains("# port-file is not set"), "{page}");
        // Every value, derived ones too.
        let again = configured(&page, &[]).expect("it is a configuration");
        let values =
            |it: &Configured| (it.options.limits(), it.options.listen().map(str::to_owned));
        assert_eq!(values(&again), values(&it));
        assert_eq!(again.options.reach.web_origin, it.options.reach.web_origin);
    }

    #[test]
    fn a_wrong_file_is_refused() {
        for (text, sentence) in [
            (
                "rate-limt = 1",
                "unknown key rate-limt: did you mean rate-limit?",
            ),
            (
                "CHAT_RATE_LIMIT = 1",
                "unknown key CHAT_RATE_LIMIT: did you mean rate-limit?",
            ),
            (
                "password = \"secret\"",
                "unknown key password: did you mean password-file?",
            ),
            (
                "check = true",
                "unknown key check: the keys are the options of chat-server --help",
            ),
            ("no-hangup = 1", "no-hangup is true or false"),
            ("verbose = 9", "verbose is a number from 0 to 8"),
            (
                "listen = [1]",
                "listen is a text in quotes, a number, true or false",
            ),
        ] {
            let refused = configured(text, &[]).err();
            assert_eq!(refused.as_deref(), Some(sentence), "{text}");
        }
        let refused = configured("rate-limit = \"fast\"", &[])
            .err()
            .unwrap_or_default();
        assert!(
            refused.starts_with("invalid value 'fast' for '--rate-limit"),
            "{refused}"
        );
        let refused = configured("a = 1\nb =", &[]).err().unwrap_or_default();
        assert!(refused.starts_with("line 2: "), "{refused}");
    }

    /// The option is on the command line, what it needs is in the file.
    #[cfg(feature = "store")]
    #[test]
    fn options_need_each_other_over_both() {
        assert!(configured("data = \"/room\"", &["--history", "none"]).is_ok());
        assert!(configured("", &["--history", "none"]).is_err());
    }

    #[test]
    fn texts_are_quoted_as_toml_reads_them() {
        for text in ["", "plain", "a \"b\" \\ c", "tab\tand\u{1b}[0m", "é"] {
            let table = parse(&format!("key = {}", quoted(text))).expect("TOML");
            assert_eq!(table["key"].as_str(), Some(text));
        }
    }
}
