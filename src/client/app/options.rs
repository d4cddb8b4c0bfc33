//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, CommandFactory, Parser, error::ErrorKind};

use super::time_format::parse_time;
use crate::address::Address;
use crate::cli;
use crate::client::{Pin, connect::CONNECT_TIMEOUT_MS};
use crate::password::source::{self, Found};

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
    /// chats://host:port, with #sha256=... if the server printed that
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
    /// chat-client/known_servers in the folder of configurations
    #[arg(long, env = "CHAT_KNOWN_SERVERS", value_name = "FILE")]
    pub known_servers: Option<PathBuf>,

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
        let options: Self = cli::parse();
        if options.name().is_none() {
            Self::command()
                .error(
                    ErrorKind::MissingRequiredArgument,
                    "there is no name to go by: write it after the address, \
                     or into it as chat://name@host:port",
                )
                .exit();
        }
        options
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

fn parse_address(text: &str) -> Result<Address, String> {
    text.parse::<Address>().map_err(|error| error.to_string())
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
  chat-client chats://example.org Alice
  chat-client --listen chat://127.0.0.1:5000 log </dev/null >>chat.log

{}

NO_COLOR turns colours off.",
        super::exit::TABLE
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name_of(arguments: &[&str]) -> Result<Option<String>, ErrorKind> {
        let arguments = ["chat-client"].iter().chain(arguments);
        Options::try_parse_from(arguments)
            .map(|options| options.name().map(str::to_owned))
            .map_err(|error| error.kind())
    }

    #[test]
    fn the_command_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn the_argument_wins_over_the_address() {
        let name = |name: &str| Ok(Some(name.to_owned()));
        assert_eq!(name_of(&["h:1", "Alice"]), name("Alice"));
        assert_eq!(name_of(&["chat://Bob@h:1"]), name("Bob"));
        assert_eq!(name_of(&["chat://Bob@h:1", "Alice"]), name("Alice"));
        assert_eq!(name_of(&["h:1"]), Ok(None));
    }

    #[test]
    fn mistakes_are_refused() {
        assert_eq!(name_of(&["host:port"]), Err(ErrorKind::ValueValidation));
        // A port may be left out.
        assert_eq!(name_of(&["host"]), Ok(None));
        assert_eq!(
            name_of(&["h:1", "A", "--connect-timeout", "0"]),
            Err(ErrorKind::ValueValidation)
        );
        assert_eq!(name_of(&[]), Err(ErrorKind::MissingRequiredArgument));
    }
}
