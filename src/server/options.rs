//! The command line of `chat-server`.

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, Parser, ValueEnum,
    builder::ValueParser,
};

use clap::Subcommand;

#[cfg(feature = "cluster")]
use super::cluster_options::ClusterOptions;
#[cfg(feature = "store")]
use super::data_options::DataOptions;
use super::{
    Live, ban_file,
    control::ctl::CtlOptions,
    health::HealthOptions,
    names_file, owners_file,
    reach_options::{ReachOptions, parse_listen},
};
#[cfg(feature = "store")]
use crate::store::operator::HistoryOptions;
use crate::{
    input_file,
    limits::{DefaultValue, LIMITS, Limit, Limits, Unit},
    password::source,
    session::{AccessPolicy, WELCOME_BYTES_MAX, Welcome},
};

/// What is wrong with a server that nobody reaches.
pub const LISTENS_NOWHERE: &str =
    "the server listens nowhere: beside --listen none, say where, as with --tls-listen";

/// What `--listen` says to turn TCP off.
const LISTEN_NOWHERE: &str = "none";

/// A chat server: one room, for clients that speak chat.v1 (proto/chat.proto).
///
/// Prints `listening on chat://HOST:PORT` as its first line on standard output, with a
/// line like it for each further way to reach it, and logs to standard error who comes
/// and goes, never what is said. Ctrl-C or SIGTERM makes it tell everybody and end
/// within 5 seconds; a second one ends it at once. So does closing the terminal in
/// which it was started, unless told `--no-hangup`; any other SIGHUP makes it read its
/// configuration and the files that it names again. SIGUSR1 and SIGUSR2 change nothing.
#[derive(Debug, Parser)]
#[command(
    name = "chat-server",
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = true,
    after_help = "A plain SIZE is in bytes, a plain TIME in milliseconds, a plain RATE a second. With \
        a unit: B, KiB, MiB, GiB, TiB; ms, s, min, h, d; /s, /min, /h. So: 64MiB, 10s, 20/min."
)]
pub struct Options {
    /// Where to listen for TCP connections, which are not encrypted, or `none`; `:PORT` is
    /// every address of this machine, port 0 is a free one, and the port is 7227 if it is
    /// missing
    #[arg(
        long,
        env = "CHAT_LISTEN",
        value_name = "HOST[:PORT]|:PORT|none",
        default_value = "127.0.0.1:0",
        value_parser = |text: &str| match text {
            LISTEN_NOWHERE => Ok(text.to_owned()),
            _ => parse_listen(text),
        }
    )]
    listen: String,

    /// How it can be reached with encryption.
    #[command(flatten)]
    pub reach: ReachOptions,

    /// Write the port to this file, whole or not at all, for scripts to wait for;
    /// it is removed at the end, unless another server has replaced it
    #[arg(long, env = "CHAT_PORT_FILE", value_name = "PATH")]
    pub port_file: Option<PathBuf>,

    /// Serve on when the terminal is closed in which the server was started. Without a
    /// terminal it always does
    #[arg(long, env = "CHAT_NO_HANGUP", value_parser = |text: &str| Unit::Switch.parse(text).map(|value| value == 1))]
    pub no_hangup: bool,

    /// Ask everybody for the password in this file; one line break at its end is
    /// not part of it. CHAT_PASSWORD may hold the password itself instead
    #[arg(long, env = "CHAT_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// Let in only the names in this file: one a line, `#` begins a comment
    #[arg(long, env = "CHAT_ALLOW", value_name = "NAMES-FILE")]
    pub allow: Option<PathBuf>,

    /// Whose a name is: open to the next who asks for it when nobody has it, or owned by
    /// the first who came with a key, for as long as --name-expiry says
    #[arg(long, env = "CHAT_NAMES", value_name = "WHOSE", default_value = "open")]
    names: Names,

    /// Keep the names in this file for the keys beside them, whatever --names says: a
    /// name and the digits of `chat-client --show-key` a line, `#` begins a comment
    #[arg(long, env = "CHAT_OWNERS", value_name = "FILE")]
    owners: Option<PathBuf>,

    /// A file with these options, in TOML: `rate-limit = "20/min"`. The command line and
    /// the environment win over it
    #[arg(long, env = "CHAT_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Print each value and where it comes from, in the form of such a file, and end
    #[arg(long)]
    pub print_config: bool,

    /// Check the options and the files that they name, and end
    #[arg(long)]
    pub check: bool,

    /// Keep out the names and addresses in this file: one a line, like `203.0.113.0/24`;
    /// `until 2026-12-24T00:00:00Z` may follow, and `#` begins the reason. Read again on
    /// SIGHUP
    #[arg(long, env = "CHAT_DENY", value_name = "FILE")]
    pub deny: Option<PathBuf>,

    /// Greet everybody who comes with the text in this file: a few lines, at most 512 bytes.
    /// Read again on SIGHUP
    #[arg(long, env = "CHAT_WELCOME", value_name = "FILE")]
    pub welcome: Option<PathBuf>,

    /// Let the operator look at the running server and act on it through this socket, with
    /// `chat-server ctl`. Only the user of the server and root can open it
    #[arg(long, env = "CHAT_CONTROL", value_name = "PATH")]
    pub control: Option<PathBuf>,

    /// Log every connection too; twice: everything. RUST_LOG overrides it
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,

    /// Where to answer `/metrics` for Prometheus, `/healthz` and `/readyz`, over HTTP
    /// without encryption or password: best an address that only this machine reaches
    #[arg(long, env = "CHAT_METRICS", value_name = "HOST[:PORT]", value_parser = parse_listen)]
    pub metrics: Option<String>,

    /// How log lines are written: for people, or an object of JSON in each
    #[arg(
        long,
        env = "CHAT_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text"
    )]
    pub log_format: LogFormat,

    #[cfg(feature = "store")]
    #[command(flatten)]
    data: DataOptions,

    /// The cluster that the server is a node of.
    #[cfg(feature = "cluster")]
    #[command(flatten)]
    pub cluster: ClusterOptions,

    #[command(flatten)]
    limits: LimitOptions,

    /// What to do instead of serving
    #[command(subcommand)]
    pub command: Option<ServerCommand>,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object of JSON in each line.
    Json,
}

/// What the program does instead of serving.
#[derive(Debug, Subcommand)]
pub enum ServerCommand {
    /// Look at a running server and act on it, through its control socket
    ///
    /// Exit code 0: done; 1: the server has refused; 2: a wrong command line; 3: no
    /// server can be reached.
    Ctl(CtlOptions),

    /// Ask a running server whether it works, at the address of its --metrics
    ///
    /// Exit code 0: it does; 1: it does not, or cannot be reached.
    Health(HealthOptions),

    /// Read, search and maintain a room that is kept on disk
    ///
    /// All but `prune` works while the server runs. Messages are printed as JSON, one a
    /// line: {"seq":1,"time_unix_ms":1767225600000,"sender":"Alice","text":"hello"}
    #[cfg(feature = "store")]
    History(HistoryOptions),
}

impl Options {
    /// Where to listen for TCP connections, if anywhere.
    pub fn listen(&self) -> Option<&str> {
        Some(self.listen.as_str()).filter(|&listen| listen != LISTEN_NOWHERE)
    }

    /// Whether the server listens anywhere.
    pub fn listens(&self) -> bool {
        self.listen().is_some() || self.reach.listens()
    }

    /// Checks the options together and the files that they name, without changing
    /// anything. Returns warnings for whoever runs the server.
    ///
    /// # Errors
    ///
    /// A sentence that says what keeps the server from starting.
    pub fn check(&self) -> Result<Vec<String>, String> {
        if !self.listens() {
            return Err(LISTENS_NOWHERE.to_owned());
        }
        let (_, warning) = self.live(std::env::var_os(source::PASSWORD_VARIABLE))?;
        let of_certificates = self.reach.check_certificates()?;
        self.check_places()?;
        #[cfg(feature = "cluster")]
        self.nats(&self.limits()?)?;
        Ok(warning.into_iter().chain(of_certificates).collect())
    }

    /// The cluster of the server, if it is to be in one.
    ///
    /// # Errors
    ///
    /// A sentence that says which options do not go together, or which file cannot be read.
    #[cfg(feature = "cluster")]
    pub fn nats(&self, limits: &Limits) -> Result<Option<super::Nats>, String> {
        self.cluster.nats(limits)
    }

    /// The limits that the options ask for.
    ///
    /// # Errors
    ///
    /// A sentence that says which option is wrong and what is allowed.
    pub fn limits(&self) -> Result<Limits, String> {
        self.limits.resolve()
    }

    /// Where and how the room is kept on disk; `None` if it is not.
    #[cfg(feature = "store")]
    pub fn data(&self) -> Option<super::Data> {
        let data = self.data.data();
        #[cfg(feature = "cluster")]
        let data = data.map(|data| super::Data {
            follows_cluster: self.cluster.is_node(),
            ..data
        });
        data
    }

    /// What can change while the server runs, from the options and the files that they
    /// name; and a warning. `password` is the value of
    /// [`PASSWORD_VARIABLE`](source::PASSWORD_VARIABLE).
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong.
    pub fn live(&self, password: Option<OsString>) -> Result<(Live, Option<String>), String> {
        let limits = self.limits()?;
        let (access, warning) = self.access(password)?;
        let denied = self.deny.as_deref().map(ban_file::read).transpose()?;
        let welcome = self.welcome.as_deref().map(read_welcome).transpose()?;
        let live = Live {
            limits,
            access,
            denied: denied.unwrap_or_default(),
            welcome: welcome.unwrap_or_default(),
        };
        Ok((live, warning))
    }

    /// Who may come in, from the files that the options name and from `password`,
    /// the value of [`PASSWORD_VARIABLE`](source::PASSWORD_VARIABLE); and a warning
    /// for whoever runs the server, if there is one.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong: a server that was meant to be closed
    /// does not start open.
    fn access(&self, password: Option<OsString>) -> Result<(AccessPolicy, Option<String>), String> {
        let found = source::find(self.password_file.as_deref(), password)?;
        let (password, warning) = match found {
            Some(found) => (Some(found.password), found.warning),
            None => (None, None),
        };
        let names = self.allow.as_deref().map(names_file::read).transpose()?;
        let owners = self.owners.as_deref().map(owners_file::read).transpose()?;
        let access = AccessPolicy {
            password,
            names,
            owners: owners.unwrap_or_default(),
            first_proof_owns: self.names == Names::Owned,
        };
        Ok((access, warning))
    }
}

/// Whose a name is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Names {
    Open,
    Owned,
}

/// Reads the file of `--welcome`.
fn read_welcome(path: &Path) -> Result<Welcome, String> {
    // A longer one is refused in any case.
    let text = input_file::read_text(path, 2 * WELCOME_BYTES_MAX as u64)
        .map_err(|error| format!("cannot read the welcome in {}: {error}", path.display()))?;
    Welcome::parse(&text).map_err(|sentence| format!("{}: {sentence}", path.display()))
}

/// The options that declare a limit, and what was given for each.
#[derive(Debug)]
struct LimitOptions {
    given: Vec<(&'static str, Option<u64>)>,
}

impl LimitOptions {
    fn resolve(&self) -> Result<Limits, String> {
        Limits::resolve(|limit| {
            let mut given = self.given.iter();
            given
                .find(|(field, _)| *field == limit.field)
                .map(|&(_, value)| value)
        })
    }

    fn argument(limit: &'static Limit) -> Arg {
        let argument = Arg::new(limit.field)
            .long(limit.option())
            .env(limit.variable());
        if limit.unit == Unit::Switch {
            return argument
                .action(ArgAction::SetTrue)
                .value_parser(|text: &str| Unit::Switch.parse(text).map(|value| value == 1))
                .help(limit.help());
        }
        let off = if limit.can_be_off { "|off" } else { "" };
        let argument = argument
            .value_name(format!("{}{off}", limit.unit.placeholder()))
            .value_parser(ValueParser::from(|text: &str| limit.parse(text)));
        match limit.default {
            DefaultValue::Fixed(value) => {
                argument.help(limit.help()).default_value(limit.show(value))
            }
            DefaultValue::Derived(words, _) => {
                argument.help(format!("{} [default: {words}]", limit.help()))
            }
        }
    }
}

impl Args for LimitOptions {
    fn augment_args(command: Command) -> Command {
        command
            .next_help_heading("Limits")
            .args(LIMITS.iter().map(Self::argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for LimitOptions {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let value = |limit: &Limit| match limit.unit {
            Unit::Switch => Some(Some(matches.get_flag(limit.field).into())),
            _ => matches.get_one::<Option<u64>>(limit.field).copied(),
        };
        let given = LIMITS
            .iter()
            .filter_map(|limit| Some((limit.field, value(limit)?)));
        Ok(Self {
            given: given.collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(arguments: &[&str]) -> Result<Limits, String> {
        Options::parse_from([&["chat-server"], arguments].concat()).limits()
    }

    #[test]
    fn no_option_is_the_default() {
        assert_eq!(limits(&[]), Ok(Limits::default()));
    }

    /// Every limit as an option, with another value than its default.
    #[test]
    fn every_limit_has_its_option() {
        for limit in LIMITS {
            let value = match limit.unit {
                Unit::Switch => Some(1),
                _ => limit.value(&Limits::default()).map(|value| value + 1),
            };
            // Ranges that begin at another limit leave room for one more.
            let option = format!("--{}", limit.option());
            let shown = limit.show(value);
            let arguments = match limit.unit {
                Unit::Switch => vec![option.as_str()],
                _ => vec![option.as_str(), shown.as_str()],
            };
            let limits = limits(&arguments).expect("in range");
            assert_eq!(limit.value(&limits), value, "{arguments:?}");
        }
    }

    #[test]
    fn values_have_units_or_the_one_of_the_name() {
        let limits = limits(&[
            "--register-deadline-ms",
            "2min",
            "--frame-bytes-max",
            "16KiB",
        ]);
        let plain = [
            "--register-deadline-ms",
            "120000",
            "--frame-bytes-max",
            "16384",
        ];
        assert_eq!(limits, self::limits(&plain));
        assert_eq!(limits.unwrap().register_deadline_ms, 120_000);
    }

    #[test]
    fn what_is_no_limit_is_off() {
        let limits = limits(&["--rate-limit", "off", "--errors-max", "OFF"]).unwrap();
        assert_eq!((limits.chat_rate(), limits.errors_max), (None, None));
        let refused = Options::try_parse_from(["chat-server", "--lag-bytes-max", "off"]);
        assert!(refused.is_err());
    }
}
