//! Command line: the options of every command.

use std::{net::SocketAddr, path::PathBuf};

use chat::pin::Pin;
use chat::tls::Trust;
use clap::{
    Args, Parser, Subcommand,
    builder::{PathBufValueParser, TypedValueParser},
};

use crate::{connection_caps::ConnectionCaps, suite::Selection};

/// Says of any chat.v1 server, or any client, which numbered rules of the schema
/// it keeps and which it breaks, with the bytes.
#[derive(Parser)]
#[command(name = "chat-conformance", version, after_help = EXIT_CODES)]
pub struct Cli {
    /// Take the transcripts from this folder, not those inside the runner.
    #[arg(long, global = true, value_name = "DIR")]
    pub transcripts: Option<PathBuf>,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 conforms, 1 violates a rule, 2 wrong usage, \
    3 incomplete (something could not be judged), 4 fault of the suite itself";

const AUDIT_EXIT_CODES: &str = "Exit codes: 0 nothing is wrong, 1 something is wrong, \
    2 wrong usage, or a file that is no capture, 3 there is no session to check";

/// The commands.
#[derive(Subcommand)]
pub enum Command {
    /// Judge a server: one that runs at ADDRESS, or one that --cmd starts.
    #[command(after_help = EXIT_CODES)]
    Server(ServerArgs),
    /// Judge a client: the suite plays the server.
    #[command(after_help = EXIT_CODES)]
    Client(ClientArgs),
    /// Proxy between clients and a server, and write their session as a draft transcript.
    Record(RecordArgs),
    /// Check captures of what clients and servers sent: numbers, order, agreement, nothing
    /// twice, nothing missing between.
    #[command(after_help = AUDIT_EXIT_CODES)]
    Audit(AuditArgs),
    /// List the cases.
    List(ListArgs),
    /// Explain a rule or a case.
    Explain {
        /// A rule's id (CHAT-REG-3) or a case (registering/accepted).
        #[arg(value_name = "ID-OR-CASE")]
        what: String,
    },
    /// Show which rules have cases, which have a reason for having none, and which lack both.
    Coverage,
    /// Check the transcripts themselves.
    Lint,
    /// Write all cases as JSON lines with exact bytes, for other runners.
    Export,
}

/// Options of `server` and `client`.
#[derive(Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub selection: Selection,
    /// Cut the bytes that are sent in these ways: whole, bytes, prefix, merged.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "whole,bytes,prefix,merged"
    )]
    pub cuts: Vec<String>,
    /// How many cases at a time. Unless given: 4, and at an ADDRESS one more for each 10 ms
    /// of the round trip, up to 32; 4 again once the server says that it has no room.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: Option<u16>,
    /// Multiply every deadline of the suite with this, for slow machines.
    #[arg(long, default_value_t = 1.0, value_parser = scale)]
    pub timeout_scale: f64,
    /// Fail on a SHOULD that is not followed.
    #[arg(long)]
    pub strict: bool,
    /// Leave out the cases that wait for a deadline to pass.
    #[arg(long)]
    pub skip_slow: bool,
    /// Do not run cases that have to wait longer than this, in seconds.
    #[arg(long, default_value_t = 20, value_name = "SECONDS")]
    pub wait_max: u64,
    /// A file of failures that are known, each line `case  # reason`.
    #[arg(long, value_name = "FILE")]
    pub known_failures: Option<PathBuf>,
    /// Write a report for CI systems; `-` is the standard output, here and below.
    #[arg(long, value_name = "FILE", value_parser = output_file())]
    pub junit: Option<PathBuf>,
    /// Write a report for programs (conformance/schema/report.schema.json).
    #[arg(long, value_name = "FILE", value_parser = output_file())]
    pub json: Option<PathBuf>,
    /// Write a report in Markdown.
    #[arg(long, value_name = "FILE", value_parser = output_file())]
    pub markdown: Option<PathBuf>,
    /// Write a report as one page that needs nothing else.
    #[arg(long, value_name = "FILE", value_parser = output_file())]
    pub html: Option<PathBuf>,
    /// Show the score rung by rung, from a first answer to hostile peers, and what to do
    /// next: a screen in place of every failure in full.
    #[arg(long)]
    pub ladder: bool,
    /// With --ladder, print every case and every failure in full as well.
    #[arg(long, short, requires = "ladder")]
    pub verbose: bool,
    /// Print only violations.
    #[arg(long, short, conflicts_with = "verbose")]
    pub quiet: bool,
}

/// Which servers to trust at an encrypted address.
#[derive(Args)]
pub struct TrustArgs {
    /// Trust the one server whose certificate has this fingerprint.
    #[arg(long, value_name = "sha256=HEX", conflicts_with = "ca")]
    pub pin: Option<Pin>,
    /// Trust the servers whose certificates this one has issued, in a PEM file.
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
}

impl TrustArgs {
    /// Which servers the options trust.
    pub fn trust(&self) -> Result<Trust, String> {
        match (self.pin, &self.ca) {
            (Some(pin), _) => Ok(Trust::pinned(pin)),
            (None, Some(ca)) => Trust::ca_file(ca),
            (None, None) => Ok(Trust::system()),
        }
    }
}

/// Options of `server`.
#[derive(Args)]
pub struct ServerArgs {
    /// Where the server listens: HOST, HOST:PORT, or the same behind chat://; encrypted
    /// behind chats:// (TLS) or chatq:// (QUIC), with #sha256=... where the certificate
    /// is self-signed.
    #[arg(required_unless_present = "cmd", conflicts_with = "cmd")]
    pub address: Option<String>,
    /// Start the server with this command; its first line of output must be
    /// "listening on chat://HOST:PORT", or chats:// or chatq:// as above.
    #[arg(long, value_name = "COMMAND")]
    pub cmd: Option<String>,
    #[command(flatten)]
    pub trust: TrustArgs,
    /// The suite alone uses the server at ADDRESS: judge numbers exactly, one case at a time.
    #[arg(long, conflicts_with = "cmd")]
    pub exclusive: bool,
    /// Where the same room is served too: everybody of a case but the first person connects
    /// to these, in turn. What a member sees must not depend on its server.
    #[arg(
        long,
        value_name = "ADDRESS,...",
        value_delimiter = ',',
        conflicts_with = "cmd"
    )]
    pub also: Vec<String>,
    /// How many connections the server takes, for the case about a full one.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub connections_max: Option<u16>,
    /// A file with the password of the server. Make one for the run: reports show the
    /// bytes of every message that was sent.
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// A file with the server's list of names: one a line, `#` begins a comment.
    #[arg(long, value_name = "NAMES-FILE")]
    pub allow: Option<PathBuf>,
    /// How the operator acts on the server, for the cases in which that happens: a command
    /// to which `kick NAME`, `ban NAME`, `unban NAME`, `mute NAME`, `unmute NAME` or
    /// `say TEXT` is appended. It ends with 0 when that is done.
    #[arg(long, value_name = "COMMAND")]
    pub control_cmd: Option<String>,
    /// How many connections the server takes from one network address, for the case
    /// about that.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub connections_per_address_max: Option<u16>,
    /// How many new connections a minute the server takes from one network address,
    /// for the case about that; few enough that none is allowed again meanwhile.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub connections_per_minute_max: Option<u16>,
    #[command(flatten)]
    pub run: RunArgs,
}

/// Which cases have a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// All.
    All,
    /// Those that violate a rule.
    Violations,
    /// None.
    Nothing,
}

impl RunArgs {
    /// Which cases have a line of their own.
    pub fn shown(&self) -> Shown {
        match (self.quiet, self.ladder && !self.verbose) {
            (_, true) => Shown::Nothing,
            (true, false) => Shown::Violations,
            (false, false) => Shown::All,
        }
    }
}

impl ServerArgs {
    /// How many connections the server takes, as far as the options say.
    pub fn connection_caps(&self) -> ConnectionCaps {
        ConnectionCaps {
            server: self.connections_max.map(usize::from),
            address: self.connections_per_address_max.map(usize::from),
            minute: self.connections_per_minute_max.map(usize::from),
        }
    }
}

/// Options of `client`.
#[derive(Args)]
pub struct ClientArgs {
    /// How to start the client; {address}, {host}, {port} and {name} are filled in.
    #[arg(long, value_name = "COMMAND")]
    pub cmd: String,
    #[command(flatten)]
    pub run: RunArgs,
}

/// Options of `record`.
#[derive(Args)]
pub struct RecordArgs {
    /// The server to pass everything on to; encrypted as for `server`.
    pub address: String,
    #[command(flatten)]
    pub trust: TrustArgs,
    /// Where clients are to connect.
    #[arg(long, default_value = "127.0.0.1:0", value_name = "HOST:PORT")]
    pub listen: SocketAddr,
    /// Write the draft here rather than to standard output.
    #[arg(long, short, value_name = "FILE", value_parser = output_file())]
    pub out: Option<PathBuf>,
    /// Append what each connection carries to this file, without passwords, for `audit`.
    #[arg(long, value_name = "FILE")]
    pub capture: Option<PathBuf>,
}

/// Options of `audit`.
#[derive(Args)]
pub struct AuditArgs {
    /// Captures, of the same room or of several.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Write a report for programs (conformance/schema/audit.schema.json); `-` is the
    /// standard output.
    #[arg(long, value_name = "FILE", value_parser = output_file())]
    pub json: Option<PathBuf>,
}

/// Options of `list`.
#[derive(Args)]
pub struct ListArgs {
    #[command(flatten)]
    pub selection: Selection,
    /// List the rules rather than the cases.
    #[arg(id = "all_rules", long = "rules")]
    pub all_rules: bool,
    /// As JSON lines.
    #[arg(long)]
    pub json: bool,
}

/// A file that is going to be written.
fn output_file() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(chat::files::writable)
}

fn scale(text: &str) -> Result<f64, String> {
    /// Beyond this a deadline is no deadline.
    const SCALE_MAX: f64 = 100.0;
    match text.parse::<f64>() {
        Ok(scale) if (0.1..=SCALE_MAX).contains(&scale) => Ok(scale),
        _ => Err(format!("expected a number from 0.1 to {SCALE_MAX}")),
    }
}
