//! The command line of `chat-bench`.

use std::{net::SocketAddr, path::PathBuf};

use chat::{files, limits::Limits, pin::Pin, tls::Trust};
use clap::{
    Args, Parser, Subcommand,
    builder::{PathBufValueParser, TypedValueParser},
};

use crate::{
    bound::Writes,
    dialect::Protocol,
    failure::Failure,
    follow::{FOLLOWS_MAX, TOPICS_MAX},
    link::{Link, Place},
    process::PROCESSES_MAX,
    text::TEXT_BYTES_MIN,
};

/// The most members, huge lengths, senders and message bytes that can be asked for.
const MEMBERS_MAX: i64 = 100_000;
const LENGTHS_MAX: i64 = 10_000_000;
const SENDERS_MAX: i64 = 64;
const TEXT_BYTES_MAX: i64 = 4_096;

/// The longest file, in bytes: a TiB.
const FILE_BYTES_MAX: u64 = 1 << 40;

/// The most messages that a member misses.
const MISSED_MAX: u64 = 10_000_000;

/// The longest run, in seconds.
const SECONDS_MAX: i64 = 3_600;

/// Measures how fast a chat server is, and checks that it loses nothing.
///
/// Every workload joins the given number of members, over one connection each, from one
/// thread. Every delivery is checked: none missing, none twice, none to its sender, one
/// order for all. A run that loses anything fails.
///
/// Start the server with `--rate-limit off` where members send fast. For figures
/// that mean something, give the server a core of its own: `taskset -c 0
/// chat-server ...`, `taskset -c 1 chat-bench ...`.
///
/// Exit codes: 0 measured, 1 something was lost, repeated or changed, 2 wrong usage, 3
/// nothing can be measured there (no server, another protocol, a limit), or the figures
/// cannot be written.
#[derive(Debug, Parser)]
#[command(name = "chat-bench", version, max_term_width = 100)]
pub struct Options {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Subcommand)]
pub enum Command {
    /// Senders that send as fast as the server takes it
    Burst {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        talk: Talk,
        #[command(flatten)]
        flow: Flow,
    },
    /// One sender at a steady rate: measures latency
    Paced {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        talk: Talk,
        /// Messages a second
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        rate: u32,
    },
    /// Members that follow a few topics each, and a sender that sends about all of them,
    /// some far more often than others (Zipf): measures what a delivery costs beside one
    /// to members that hear everything, and a message that no member follows
    Follow {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        talk: Talk,
        #[command(flatten)]
        flow: Flow,
        /// Topics
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u16).range(1..=i64::from(TOPICS_MAX)))]
        topics: u16,
        /// How many of them each member follows
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=i64::from(FOLLOWS_MAX)))]
        follows: u16,
    },
    /// Members that do nothing: measures the memory of each, on a server just started
    Idle {
        #[command(flatten)]
        target: Target,
        /// Members
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=MEMBERS_MAX))]
        members: u32,
    },
    /// Members that register, 64 at a time: measures registrations a second
    Join {
        #[command(flatten)]
        target: Target,
        /// Members
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=MEMBERS_MAX))]
        members: u32,
    },
    /// A paced sender, while other members come and go
    Churn {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        talk: Talk,
        /// Messages a second
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
        rate: u32,
        /// How many members come and go, beyond the others
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        visitors: u32,
    },
    /// Bursts without and with members that never read, in turn, three of each
    Slow {
        #[command(flatten)]
        target: Target,
        #[command(flatten)]
        talk: Talk,
        #[command(flatten)]
        flow: Flow,
        /// The share of members that never read, in percent
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=90))]
        stalled_percent: u32,
    },
    /// Two users who chat, first undisturbed and then under attack, on a server with
    /// default options: checks that they lose nothing and measures how much longer it
    /// takes
    Hostile {
        #[command(flatten)]
        target: Target,
        /// Messages a second of each of the two users
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rate: u32,
        /// The length of each of the two runs, in seconds
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=SECONDS_MAX))]
        seconds: u32,
        #[command(flatten)]
        attackers: Attackers,
        /// The bound to show beside the server's memory, in bytes [default: what the
        /// options of a default server add up to]
        #[arg(long, value_name = "BYTES", default_value_t = Limits::default().memory_bytes_max(), hide_default_value = true)]
        memory_bytes_max: u64,
    },
    /// A file of a member that goes up and down, while two users chat: measures how fast
    /// it goes, checks that they lose nothing and measures how much longer it takes
    Files {
        #[command(flatten)]
        target: Target,
        /// The size of the file, in bytes
        #[arg(long, default_value_t = 1_000_000_000, value_parser = clap::value_parser!(u64).range(1..=FILE_BYTES_MAX))]
        bytes: u64,
        /// Messages a second of each of the two users
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rate: u32,
        /// How long the two users are undisturbed first, in seconds
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=SECONDS_MAX))]
        seconds: u32,
    },
    /// Members that lose their connections and come back at once, while two users chat:
    /// measures how fast they have what they missed, checks that they have each message
    /// once, and how much longer a message of the users takes
    Resume {
        #[command(flatten)]
        target: Target,
        /// Members
        #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=MEMBERS_MAX))]
        members: u32,
        /// How many messages each has missed
        #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=MISSED_MAX))]
        missed: u64,
        /// Messages a second of each of the two users
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rate: u32,
        /// How long the two users are undisturbed first, in seconds
        #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=SECONDS_MAX))]
        seconds: u32,
    },
    /// Serves as a bound to compare a server with: writes the same frames to the same
    /// sockets, and does nothing else
    Bound {
        /// How to write
        writes: Writes,
        /// Where to listen; port 0 is a free one
        #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
}

/// The server to measure, and the form of the report.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// The server: HOST, HOST:PORT, or the same behind chat://; over other transports
    /// behind chats:// (TLS), chatq:// (QUIC), ws:// or wss:// (WebSocket at /chat), with
    /// #sha256=... where the certificate is self-signed
    #[arg(value_parser = Place::parse)]
    pub address: Place,
    /// Trust the one server whose certificate has this fingerprint
    #[arg(long, value_name = "sha256=HEX", conflicts_with = "ca")]
    pub pin: Option<Pin>,
    /// Trust the servers whose certificates this one has issued, in a PEM file
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Its protocol
    #[arg(long, value_enum, default_value = "chat")]
    pub dialect: Protocol,
    /// Other servers of the same room, over TCP alone: members are spread over all, in turn
    #[arg(long, value_name = "ADDRESS,...", value_delimiter = ',')]
    pub also: Vec<SocketAddr>,
    /// The server's process id, to read its CPU time and memory; of several the sum
    /// [default: the process that listens there, if it runs on this machine]
    #[arg(long, value_name = "PID,...", value_delimiter = ',')]
    pub server_pid: Vec<u32>,
    /// Print one line of JSON rather than a table
    #[arg(long)]
    pub json: bool,
    /// Write a plot to this file, `-` for the standard output
    #[arg(long, value_name = "FILE", value_parser = PathBufValueParser::new().try_map(files::writable))]
    pub svg: Option<PathBuf>,
}

impl Target {
    /// How to connect to the server.
    pub fn link(&self) -> Result<Link, Failure> {
        let trust = match (self.pin, &self.ca) {
            (Some(pin), _) => Trust::pinned(pin),
            (None, Some(ca)) => Trust::ca_file(ca).map_err(Failure::unusable)?,
            (None, None) => Trust::system(),
        };
        if !self.also.is_empty() && !self.address.is_plain() {
            let sentence = "--also is for servers that are spoken to over TCP alone";
            return Err(Failure::unusable(sentence));
        }
        if self.server_pid.len() > PROCESSES_MAX {
            let sentence = format!("--server-pid takes {PROCESSES_MAX} processes at most");
            return Err(Failure::unusable(sentence));
        }
        let mut link = self.address.link(trust, self.dialect)?;
        link.also.clone_from(&self.also);
        Ok(link)
    }
}

/// Senders and messages.
#[derive(Debug, Clone, Args)]
pub struct Talk {
    /// Members, senders included
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=MEMBERS_MAX))]
    pub members: u32,
    /// How many of them send
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=SENDERS_MAX))]
    pub senders: u32,
    /// The length of each text, in bytes
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(TEXT_BYTES_MIN as i64..=TEXT_BYTES_MAX))]
    pub text_bytes: u32,
    /// How long to send, in seconds
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=SECONDS_MAX))]
    pub seconds: u32,
    /// How many messages to send at the most, all senders together
    #[arg(long, default_value_t = u32::MAX, value_parser = clap::value_parser!(u32).range(1..))]
    pub messages: u32,
}

/// The attackers.
#[derive(Debug, Clone, Copy, Args)]
pub struct Attackers {
    /// How many times a member's rate the flooding member sends; 0 for no flood
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    pub flood_times: u32,
    /// Connections that never register, and reconnect when they are closed
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(0..=MEMBERS_MAX))]
    pub silent: u32,
    /// Members that never read
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=MEMBERS_MAX))]
    pub deaf: u32,
    /// Connections that send a length of 2^63, spread over the run
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(0..=LENGTHS_MAX))]
    pub lengths: u32,
}

/// Flow control of a burst.
#[derive(Debug, Clone, Args)]
pub struct Flow {
    /// How many messages may be sent and not yet delivered, on average over the members
    #[arg(long, default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(1..))]
    pub in_flight: u32,
}
