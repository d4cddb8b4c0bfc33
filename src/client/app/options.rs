//! The command line.

use std::env;
use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, error::ErrorKind as Mistake};

use super::config;
use super::key_file::{self, KeyError};
use super::past;
use super::time_format::parse_time;
use super::topics::{self, Followed};
use crate::address::Address;
use crate::cli;
use crate::client::{Filter, Pin, connect::CONNECT_TIMEOUT_MS};
use crate::config_file::CONFIG_BYTES_MAX;
use crate::input_file;
use crate::password::source::{self, Found};

/// The configuration file, in the folder of configurations.
const CONFIG_FILE: &str = "chat/client.toml";

/// The longest `--connect-timeout`, in seconds.
const CONNECT_TIMEOUT_SECONDS_MAX: u64 = 3_600;

/// Joins a chat.
///
/// In a terminal: shows what others send above the line that you type; /help shows the
/// commands. Otherwise: sends each line of the input, writes the chats of others to the
/// output as `@name: text` and problems to the error output, and leaves when the input
/// ends and the server has confirmed every line.
#[derive(Debug, Clone, Parser)]
#[command(name = "chat-client", version, max_term_width = 100, after_help = help_after())]
pub struct Options {
    /// The server: chat://name@host:port, of which all but the host may be left out; an
    /// IPv6 address is in brackets, and the port is 7227 if it is missing. Encrypted:
    /// chats://host:port, with #sha256=... if the server printed that. Several servers of
    /// one room have commas between them: the client goes to the next one when one fails
    #[arg(value_parser = parse_address)]
    pub address: Address,

    /// Your name: 1 to 32 characters from A-Z, a-z, 0-9, '.', '_' and '-', beginning
    /// with a letter or a digit. Required unless the address has one
    pub name: Option<String>,

    /// The file with the server's password; one line break at its end is not part of
    /// it. CHAT_PASSWORD may hold the password itself instead. In a terminal the client
    /// asks for a missing password
    #[arg(long, env = "CHAT_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// Trust the one server whose certificate has this fingerprint, as the address may
    /// have it behind `#`
    #[arg(long, value_name = "sha256=HEX", conflicts_with = "ca")]
    pub pin: Option<Pin>,

    /// Trust the servers whose certificates this one has issued, in a PEM file, and not
    /// those that the system trusts
    #[arg(long, env = "CHAT_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// The servers whose self-signed certificates you have accepted, by default
    /// chat/known_servers in the folder of configurations
    #[arg(long, env = "CHAT_KNOWN_SERVERS", value_name = "FILE")]
    pub known_servers: Option<PathBuf>,

    /// The file of your secret key, which proves that your name is yours where the server
    /// asks for that; it is made if it is absent. By default chat-client/key in the
    /// folder of data
    #[arg(long, env = "CHAT_KEY", value_name = "FILE", conflicts_with = "no_key")]
    pub key: Option<PathBuf>,

    /// Send no key
    #[arg(long)]
    pub no_key: bool,

    /// Print your public key, for the operator of a server, and leave; no server is needed
    #[arg(long)]
    pub show_key: bool,

    /// A file with options, and with servers by short names, which then stand for
    /// ADDRESS; by default chat/client.toml in the folder of configurations
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// How long to wait for the connection, and again for the server's answer, in
    /// seconds
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = CONNECT_TIMEOUT_MS / 1_000,
        value_parser = clap::value_parser!(u64).range(1..=CONNECT_TIMEOUT_SECONDS_MAX)
    )]
    pub connect_timeout: u64,

    /// Without a terminal: keep listening after the end of the input
    #[arg(long)]
    pub listen: bool,

    /// Without a terminal: connect again when the connection is lost or the server
    /// restarts, and go on without losing or doubling a line, where the server can
    #[arg(long)]
    pub reconnect: bool,

    /// Without a full screen: begin with the last N messages of the room, where the
    /// server keeps them
    #[arg(long, value_name = "N", conflicts_with_all = ["send", "who"],
          value_parser = clap::value_parser!(u32).range(1..=i64::from(past::CHATS_MAX)))]
    pub last: Option<u32>,

    /// Without a full screen: upload FILE and send it with the first line, or alone
    #[arg(long, value_name = "FILE", conflicts_with = "who")]
    pub attach: Option<PathBuf>,

    /// With --listen: save each file that a message names in DIR, never over one that is
    /// there
    #[arg(long, value_name = "DIR", requires = "listen")]
    pub save_to: Option<PathBuf>,

    /// Write each event as a line of JSON, and take lines of JSON to send: the messages
    /// of the schema, such as {"chat":{"text":"hi"}}
    #[arg(long)]
    pub json: bool,

    /// Send this, wait until the server has confirmed it, and leave; the input is not
    /// read
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["listen", "who"])]
    pub send: Option<String>,

    /// Without a full screen: send each line with this topic, and show topics, as in
    /// `@name #topic: text`
    #[arg(long, value_name = "NAME", value_parser = topics::topic)]
    pub(super) topic: Option<String>,

    /// Without a full screen: receive chats with this #topic or by this @name only, and
    /// those that mention you; may be given again. Quote the #: a shell takes it for a
    /// comment
    #[arg(long, value_name = "#TOPIC|@NAME", value_parser = topics::followed)]
    pub(super) follow: Vec<Followed>,

    /// Print the names of the members, one a line, and leave; the input is not read
    #[arg(long, conflicts_with = "listen")]
    pub who: bool,

    /// Without a full screen: tell on the error output who joins and leaves; with
    /// --json as lines of JSON
    #[arg(long)]
    pub events: bool,

    /// Append what the connection carries to this file, without passwords, for
    /// chat-conformance audit
    #[arg(long, value_name = "FILE")]
    pub capture: Option<PathBuf>,

    /// In a terminal: no full screen; lines in, lines out, as in a pipe
    #[arg(long)]
    pub plain: bool,

    /// In a terminal: end with the session, and do not connect again
    #[arg(long)]
    pub no_reconnect: bool,

    /// In a terminal: how to show times: short, long, off or a format like %H:%M
    #[arg(long, value_name = "FORMAT", default_value = "short", value_parser = time_format)]
    pub time: String,

    /// In a terminal: whether a message with your name rings the bell
    #[arg(long, value_name = "on|off", default_value = "on", action = ArgAction::Set, value_parser = on_or_off)]
    pub bell: bool,

    /// In a terminal: whether a message with your name raises a notice of the desktop,
    /// where the terminal knows how
    #[arg(long, value_name = "on|off", default_value = "on", action = ArgAction::Set, value_parser = on_or_off)]
    pub notify: bool,

    /// In a terminal: whether to keep what you type in a file of yours
    #[arg(long, value_name = "on|off", default_value = "on", action = ArgAction::Set, value_parser = on_or_off)]
    pub history: bool,

    /// In a terminal: whether the mouse wheel scrolls. Most terminals then select text
    /// with Shift and the mouse
    #[arg(long, value_name = "on|off", default_value = "on", action = ArgAction::Set, value_parser = on_or_off)]
    pub mouse: bool,
}

impl Options {
    /// Parses the command line. Help, the version and mistakes are printed and end the
    /// program (mistakes with code 2).
    pub fn read() -> Self {
        let arguments: Vec<OsString> = env::args_os().collect();
        show_key_if_asked(&arguments);
        let options: Self = cli::parse_from(&arguments);
        let path = options.config.clone().or_else(default_config);
        let options = match path.as_deref().map(read_config) {
            None | Some(Ok(None)) if options.config.is_none() => Ok(options),
            None | Some(Ok(None)) => Err("there is no such file".to_owned()),
            Some(Err(sentence)) => Err(sentence),
            Some(Ok(Some(text))) => options.with_config(&text, &arguments),
        };
        let options = options.unwrap_or_else(|sentence| {
            let path = path.unwrap_or_default();
            cli::refuse::<Self>(&format!("{}: {sentence}", path.display()))
        });
        if options.name().is_none() {
            Self::command()
                .error(
                    Mistake::MissingRequiredArgument,
                    "there is no name to go by: write it after the address, \
                     or into it as chat://name@host:port",
                )
                .exit();
        }
        options
    }

    /// These options, with what a configuration file adds to them. `arguments` is the
    /// command line that they are from.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong in the file.
    fn with_config(self, text: &str, arguments: &[OsString]) -> Result<Self, String> {
        let command = cli::command::<Self>();
        let matches = command
            .clone()
            .try_get_matches_from(arguments)
            .map_err(|error| error.to_string())?;
        let server = matches
            .get_raw("address")
            .and_then(|mut values| values.next())
            .unwrap_or_default()
            .to_string_lossy();
        let found = config::read(text, &server, &command, &matches)?;
        let mut options = self;
        if let Some((program, rest)) = arguments.split_first() {
            let whole = [program].into_iter().chain(&found.arguments).chain(rest);
            let parsed = command.try_get_matches_from(whole);
            let parsed = parsed.and_then(|matches| Self::from_arg_matches(&matches));
            options = parsed.map_err(|error| {
                let error = error.to_string();
                let first = error.lines().next().unwrap_or_default();
                first.trim_start_matches("error: ").to_owned()
            })?;
        }
        if let Some(address) = &found.address {
            options.address =
                parse_address(address).map_err(|error| format!("{address}: {error}"))?;
        }
        if options.name().is_none() {
            options.name = found.name;
        }
        Ok(options)
    }

    /// Whether the full screen is not wanted, even in a terminal.
    pub(super) fn is_for_scripts(&self) -> bool {
        self.plain
            || self.last.is_some()
            || self.attach.is_some()
            || self.json
            || self.send.is_some()
            || self.who
            || self.events
            || self.has_topics()
    }

    /// Whether topics are asked for.
    pub(super) fn has_topics(&self) -> bool {
        self.topic.is_some() || !self.follow.is_empty()
    }

    /// What is followed.
    pub(super) fn filter(&self) -> Filter {
        let mut filter = Filter::default();
        for followed in &self.follow {
            topics::add(&mut filter, followed.clone());
        }
        filter
    }

    /// The name: the argument, or the one in the address.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref().or(self.address.name())
    }

    /// The password from the file or from the environment
    /// ([`PASSWORD_VARIABLE`](source::PASSWORD_VARIABLE)); an empty one is none.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong.
    pub fn password(&self) -> Result<Option<Found>, String> {
        let variable = cli::variable(source::PASSWORD_VARIABLE);
        source::find(self.password_file.as_deref(), variable)
            .map_err(|sentence| cli::naming_variables::<Self>(&sentence))
    }

    /// How long to wait for the connection, and again for the answer.
    pub fn timeout(&self) -> Duration {
        Duration::from_secs(self.connect_timeout)
    }
}

/// Prints the public key and ends the program, if that is what the command line asks for.
fn show_key_if_asked(arguments: &[OsString]) {
    let command = cli::command::<Options>();
    let command = command.mut_arg("address", |address| address.required(false));
    let Ok(matches) = command.try_get_matches_from(arguments) else {
        return;
    };
    if !matches.get_flag("show_key") {
        return;
    }
    let path = matches.get_one::<PathBuf>("key").map(PathBuf::as_path);
    match key_file::load(path) {
        Ok(Some(key)) => {
            // A closed output has no reader to tell.
            let _ = writeln!(io::stdout(), "{}", key.public());
            std::process::exit(0);
        }
        Ok(None) => cli::refuse::<Options>("there is no home for a key: say --key FILE"),
        Err(KeyError::NotMade(sentence) | KeyError::Unusable(sentence)) => {
            cli::refuse::<Options>(&sentence)
        }
    }
}

/// The configuration file that is used where no option names one.
fn default_config() -> Option<PathBuf> {
    Some(cli::config_folder()?.join(CONFIG_FILE))
}

/// The text of a configuration file; `None` if there is none.
fn read_config(path: &Path) -> Result<Option<String>, String> {
    match input_file::read_text(path, CONFIG_BYTES_MAX) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

fn parse_address(text: &str) -> Result<Address, String> {
    Address::parse_list(text).map_err(|error| error.to_string())
}

fn on_or_off(text: &str) -> Result<bool, &'static str> {
    match text {
        "on" => Ok(true),
        "off" => Ok(false),
        _ => Err("it is on or off"),
    }
}

fn time_format(text: &str) -> Result<String, String> {
    parse_time(text).map(|_| text.to_owned())
}

fn help_after() -> String {
    format!(
        "\
Lines:
  A line is one chat. Empty lines are skipped, a carriage return at the end is
  dropped, a tab becomes four spaces. Other control characters, U+2028 and U+2029
  become visible, like \\u{{1b}}; bytes that are not UTF-8 become U+FFFD. A line
  longer than the server takes becomes several chats. Lines are sent as fast as
  the server takes them, none is lost, the order is kept.

  Whatever others send is made safe before it is printed: what a terminal would
  act on, and what cannot be seen, becomes visible, like \\u{{1b}}.

Examples:
  chat-client chat://127.0.0.1:5000 Alice
  echo build done | chat-client chat://127.0.0.1:5000 ci
  chat-client --send 'build done' chat://127.0.0.1:5000 ci
  chat-client chats://example.org Alice
  chat-client --listen --follow '#build' --follow @bob chat://127.0.0.1:5000 log </dev/null
  chat-client --listen --reconnect chat://127.0.0.1:5000 log </dev/null >>chat.log

{}

NO_COLOR turns colours off.",
        super::exit::TABLE
    )
}

#[cfg(test)]
mod tests;
