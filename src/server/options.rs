//! The command line of `chat-server`.

use std::{ffi::OsString, fmt, path::PathBuf, str::FromStr};

use clap::Parser;

use super::names_file;
use crate::{
    engine::Admission,
    limits::{Limits, Rate},
    password::source,
};

/// A chat server: one room, for clients that speak chat.v1 (proto/chat.proto).
///
/// Prints `listening on chat://HOST:PORT` as its first line on standard output,
/// and logs to standard error who comes and goes, never what is said. Ctrl-C or
/// SIGTERM makes it tell everybody and end within 5 seconds; a second one ends it
/// at once.
#[derive(Debug, Parser)]
#[command(name = "chat-server", version, max_term_width = 100)]
pub struct Options {
    /// Where to listen; port 0 is a free one
    #[arg(
        long,
        env = "CHAT_LISTEN",
        value_name = "HOST:PORT",
        default_value = "127.0.0.1:0",
        value_parser = parse_listen
    )]
    pub listen: String,

    /// Write the port to this file, whole or not at all, for scripts to wait for;
    /// it is removed at the end, unless another server has replaced it
    #[arg(long, env = "CHAT_PORT_FILE", value_name = "PATH")]
    pub port_file: Option<PathBuf>,

    /// Ask everybody for the password in this file; one line break at its end is
    /// not part of it. CHAT_PASSWORD may hold the password itself instead
    #[arg(long, env = "CHAT_PASSWORD_FILE", value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// Let in only the names in this file: one a line, `#` begins a comment
    #[arg(long, env = "CHAT_ALLOW", value_name = "NAMES-FILE")]
    pub allow: Option<PathBuf>,

    /// Connections at a time
    #[arg(long, env = "CHAT_CONNECTIONS_MAX", value_name = "N", default_value_t = Limits::default().connections_max)]
    pub connections_max: u32,

    /// Connections at a time from one network address (IPv6: its first 64 bits), or
    /// `off` for no limit
    #[arg(long, env = "CHAT_CONNECTIONS_PER_ADDRESS_MAX", value_name = "N|off", default_value_t = Limits::default().connections_per_address_max.into())]
    pub connections_per_address_max: AtMost,

    /// New connections a minute from one network address, and so many at once, or
    /// `off` for no limit
    #[arg(long, env = "CHAT_CONNECTIONS_PER_MINUTE_MAX", value_name = "N|off", default_value_t = Limits::default().connections_per_minute_max.into())]
    pub connections_per_minute_max: AtMost,

    /// Count connections from this machine like those from any other address
    #[arg(long, env = "CHAT_LIMIT_LOOPBACK", value_parser = parse_switch)]
    pub limit_loopback: bool,

    /// The longest frame a member may send, in bytes
    #[arg(long, env = "CHAT_FRAME_BYTES_MAX", value_name = "BYTES", default_value_t = Limits::default().frame_bytes_max)]
    pub frame_bytes_max: u32,

    /// The longest text of a message, in bytes of UTF-8
    #[arg(long, env = "CHAT_TEXT_BYTES_MAX", value_name = "BYTES", default_value_t = Limits::default().text_bytes_max)]
    pub text_bytes_max: u32,

    /// Messages a second that a member may send, 1 to 1000, or `off` for no limit
    #[arg(long, env = "CHAT_RATE_LIMIT", value_name = "N|off", default_value = "10", value_parser = parse_rate)]
    pub rate_limit: RateLimit,

    /// Messages that a member may send at once before the rate limit counts
    #[arg(long, env = "CHAT_RATE_BURST", value_name = "N", default_value_t = 100)]
    pub rate_burst: u32,

    /// Frames a second that are taken from a member, whatever they hold; more than ten
    /// seconds' worth waits; or `off` for no limit [default: 20 times --rate-limit, off
    /// without one]
    #[arg(long, env = "CHAT_FRAMES_PER_SECOND_MAX", value_name = "N|off")]
    pub frames_per_second_max: Option<AtMost>,

    /// Bytes a second that are taken from a member; more than ten seconds' worth waits;
    /// or `off` for no limit [default: 4 times --rate-limit of the longest frames, off
    /// without one]
    #[arg(long, env = "CHAT_BYTES_PER_SECOND_MAX", value_name = "BYTES|off")]
    pub bytes_per_second_max: Option<AtMost>,

    /// Errors that a session survives before one ends it; ten a second are forgotten;
    /// or `off` for any number [default: 3000, or 30 times --rate-burst if that is more]
    #[arg(long, env = "CHAT_ERRORS_MAX", value_name = "N|off")]
    pub errors_max: Option<AtMost>,

    /// Time to register after connecting, in milliseconds
    #[arg(long, env = "CHAT_REGISTER_DEADLINE_MS", value_name = "MS", default_value_t = Limits::default().register_deadline_ms)]
    pub register_deadline_ms: u32,

    /// Time in which a member with keepalive must give a sign of life when somebody
    /// else asks for its name, in milliseconds [default: half the register deadline,
    /// 5000 at the most]
    #[arg(long, env = "CHAT_NAME_CHECK_DEADLINE_MS", value_name = "MS")]
    pub name_check_deadline_ms: Option<u32>,

    /// Silence after which a member with keepalive is taken for dead, in
    /// milliseconds
    #[arg(long, env = "CHAT_IDLE_DEADLINE_MS", value_name = "MS", default_value_t = Limits::default().idle_deadline_ms)]
    pub idle_deadline_ms: u32,

    /// Silence after which a member with keepalive is pinged, in milliseconds
    /// [default: a third of the idle deadline]
    #[arg(long, env = "CHAT_KEEPALIVE_INTERVAL_MS", value_name = "MS")]
    pub keepalive_interval_ms: Option<u32>,

    /// Time in which a client must take something of what is due to it, in
    /// milliseconds
    #[arg(long, env = "CHAT_WRITE_DEADLINE_MS", value_name = "MS", default_value_t = Limits::default().write_deadline_ms)]
    pub write_deadline_ms: u32,

    /// How far a member may fall behind before it is closed, in bytes; so also
    /// what the log retains in memory
    #[arg(long, env = "CHAT_LAG_BYTES_MAX", value_name = "BYTES", default_value_t = Limits::default().lag_bytes_max)]
    pub lag_bytes_max: u64,

    /// What all queues together may take, in bytes: the retained log, replies that are
    /// not sent, frames that are not whole; beyond it, whoever holds most is closed
    /// [default: 256 MiB, or twice --lag-bytes-max if that is more]
    #[arg(long, env = "CHAT_QUEUE_BYTES_MAX", value_name = "BYTES")]
    pub queue_bytes_max: Option<u64>,

    /// Log every connection too; twice: everything. RUST_LOG overrides it
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// A number, or `off` for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AtMost(Option<u32>);

impl From<Option<u32>> for AtMost {
    fn from(most: Option<u32>) -> Self {
        Self(most)
    }
}

impl fmt::Display for AtMost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(most) => most.fmt(f),
            None => f.write_str("off"),
        }
    }
}

impl FromStr for AtMost {
    type Err = &'static str;

    fn from_str(value: &str) -> Result<Self, Self::Err> {
        if value.eq_ignore_ascii_case("off") {
            return Ok(Self(None));
        }
        let most = value.parse();
        most.map(|most| Self(Some(most)))
            .map_err(|_| "say a whole number, or off for no limit")
    }
}

/// What `--rate-limit` says: milliseconds for one more message, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit(Option<u32>);

impl Options {
    /// The limits that the options ask for.
    ///
    /// # Errors
    ///
    /// A sentence that says which option is wrong and what is allowed.
    pub fn limits(&self) -> Result<Limits, String> {
        let chat_rate = self.rate_limit.0.map(|interval_ms| Rate {
            burst: self.rate_burst,
            interval_ms,
        });
        let (frames_per_second, bytes_per_second) =
            Limits::flood_for(chat_rate, self.frame_bytes_max);
        let asked = |most: Option<AtMost>, suits| most.map_or(suits, |most| most.0);
        let limits = Limits {
            connections_max: self.connections_max,
            connections_per_address_max: self.connections_per_address_max.0,
            connections_per_minute_max: self.connections_per_minute_max.0,
            is_loopback_limited: self.limit_loopback,
            frame_bytes_max: self.frame_bytes_max,
            text_bytes_max: self.text_bytes_max,
            chat_rate,
            frames_per_second_max: asked(self.frames_per_second_max, frames_per_second),
            bytes_per_second_max: asked(self.bytes_per_second_max, bytes_per_second),
            errors_max: asked(self.errors_max, Some(Limits::errors_for(chat_rate))),
            register_deadline_ms: self.register_deadline_ms,
            name_check_deadline_ms: self.name_check_deadline_ms.unwrap_or(
                (self.register_deadline_ms / 2).clamp(1, Limits::default().name_check_deadline_ms),
            ),
            keepalive_interval_ms: self
                .keepalive_interval_ms
                .unwrap_or((self.idle_deadline_ms / 3).max(1)),
            idle_deadline_ms: self.idle_deadline_ms,
            write_deadline_ms: self.write_deadline_ms,
            lag_bytes_max: self.lag_bytes_max,
            queue_bytes_max: self.queue_bytes_max.unwrap_or(
                self.lag_bytes_max
                    .saturating_mul(2)
                    .max(Limits::default().queue_bytes_max),
            ),
        };
        limits.check()?;
        Ok(limits)
    }

    /// Who may come in, from the files that the options name and from `password`,
    /// the value of [`PASSWORD_VARIABLE`](source::PASSWORD_VARIABLE); and a warning
    /// for whoever runs the server, if there is one.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong: a server that was meant to be closed
    /// does not start open.
    pub fn admission(
        &self,
        password: Option<OsString>,
    ) -> Result<(Admission, Option<String>), String> {
        let found = source::find(self.password_file.as_deref(), password)?;
        let (password, warning) = match found {
            Some(found) => (Some(found.password), found.warning),
            None => (None, None),
        };
        let names = self.allow.as_deref().map(names_file::read).transpose()?;
        Ok((Admission { password, names }, warning))
    }
}

fn parse_listen(value: &str) -> Result<String, String> {
    match value.rsplit_once(':') {
        Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
            Ok(value.to_owned())
        }
        _ => {
            Err("say HOST:PORT with a port from 0 to 65535, like 127.0.0.1:0 or [::1]:4000".into())
        }
    }
}

/// What a variable says for an option without a value: the usual words, and off
/// where it is empty.
fn parse_switch(value: &str) -> Result<bool, &'static str> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("say yes or no"),
    }
}

/// The most messages a second that can be asked for: one a millisecond, the unit
/// in which the interval is announced.
const RATE_PER_SECOND_MAX: u32 = 1_000;

fn parse_rate(value: &str) -> Result<RateLimit, String> {
    if value.eq_ignore_ascii_case("off") {
        return Ok(RateLimit(None));
    }
    match value.parse() {
        // Rounded up, so that the rate is at most the one that was asked for.
        Ok(per_second @ 1..=RATE_PER_SECOND_MAX) => {
            Ok(RateLimit(Some(1_000u32.div_ceil(per_second))))
        }
        _ => Err(format!(
            "say a whole number of messages a second from 1 to {RATE_PER_SECOND_MAX}, or off for no limit"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_option_is_the_default() {
        let options = Options::parse_from(["chat-server"]);
        assert_eq!(options.limits(), Ok(Limits::default()));
    }

    #[test]
    fn rates() {
        let interval = |value| parse_rate(value).map(|rate| rate.0);
        assert_eq!(interval("off"), Ok(None));
        assert_eq!(interval("1"), Ok(Some(1_000)));
        assert_eq!(interval("3"), Ok(Some(334)));
        assert_eq!(interval("1000"), Ok(Some(1)));
        for value in ["0", "1001", "-1", "1.5", "", "none"] {
            assert!(interval(value).is_err(), "{value}");
        }
    }

    #[test]
    fn a_number_or_none() {
        assert_eq!("12".parse(), Ok(AtMost(Some(12))));
        assert_eq!("Off".parse(), Ok(AtMost(None)));
        for value in ["", "-1", "1.5", "none", "4294967296"] {
            assert!(value.parse::<AtMost>().is_err(), "{value}");
        }
        assert_eq!(AtMost(None).to_string(), "off");
    }

    #[test]
    fn floods_are_limited_with_the_rate_or_when_asked_for() {
        let flood = |arguments: &[&str]| {
            let arguments = [&["chat-server"], arguments].concat();
            let limits = Options::parse_from(arguments).limits().unwrap();
            (limits.frames_per_second_max, limits.bytes_per_second_max)
        };
        assert_eq!(flood(&[]), (Some(200), Some(327_680)));
        let fast = flood(&["--rate-limit", "1000"]);
        assert_eq!(fast, (Some(20_000), Some(32_768_000)));
        assert_eq!(flood(&["--rate-limit", "off"]), (None, None));
        let asked = ["--rate-limit", "off", "--frames-per-second-max", "7"];
        assert_eq!(flood(&asked), (Some(7), None));
        let not_wanted = ["--bytes-per-second-max", "off"];
        assert_eq!(flood(&not_wanted), (Some(200), None));
    }

    #[test]
    fn a_short_idle_deadline_brings_the_pings_forward() {
        let options = Options::parse_from(["chat-server", "--idle-deadline-ms", "900"]);
        assert_eq!(options.limits().unwrap().keepalive_interval_ms, 300);
    }
}
