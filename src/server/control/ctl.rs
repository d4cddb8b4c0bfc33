//! `chat-server ctl`: the operator's side of the control socket.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use clap::{Args, Subcommand};

use super::{
    DEFAULT_PATH,
    protocol::{Answer, LINE_BYTES_MAX, ListedBan, Member, Request, Stats},
};
use crate::{limits::Unit, server::ban_file::utc};

/// How long the server may take to answer, in milliseconds.
const ANSWER_MS_MAX: u64 = 10_000;

/// The most answers that one command reads: as many members as a server can have.
const PAGES_MAX: usize = 10_000;

/// The server has refused the command.
const EXIT_REFUSED: u8 = 1;

/// No server can be reached.
const EXIT_UNREACHABLE: u8 = 3;

/// The arguments of `chat-server ctl`.
#[derive(Debug, Args)]
pub struct CtlOptions {
    /// The control socket of the server
    #[arg(long, env = "CHAT_CONTROL", value_name = "PATH", default_value = DEFAULT_PATH)]
    control: PathBuf,

    /// Print the answers of the server as they are, one JSON object a line
    #[arg(long, global = true)]
    json: bool,

    #[command(subcommand)]
    command: CtlCommand,
}

#[derive(Debug, Subcommand)]
enum CtlCommand {
    /// List the members: name, address, since when, how long silent, what waits to be
    /// sent, and how many messages they have sent
    List,

    /// Throw a member out. It may come back; `ban` keeps it out
    Kick {
        #[arg(value_name = "NAME")]
        name: String,

        /// Why, for the member to read
        #[arg(value_name = "REASON")]
        reason: Vec<String>,
    },

    /// Keep a name, an address or a range of addresses out: 203.0.113.7, 203.0.113.0/24,
    /// 2001:db8::7 with its /64. Ends their sessions
    Ban {
        #[arg(value_name = "NAME|ADDRESS[/BITS]")]
        target: String,

        /// For how long: 10min, 2h, 7d; for ever if it is missing
        #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
        time_ms: Option<u64>,

        /// Ban the address of the member with this name as well
        #[arg(long)]
        address: bool,

        /// Why, for the banned to read
        #[arg(value_name = "REASON")]
        reason: Vec<String>,
    },

    /// Lift a ban
    Unban {
        #[arg(value_name = "NAME|ADDRESS[/BITS]")]
        target: String,
    },

    /// Refuse what somebody of this name says; it may stay and read
    Mute {
        #[arg(value_name = "NAME")]
        name: String,

        /// For how long: 10min, 2h, 7d; for ever if it is missing
        #[arg(long = "for", value_name = "TIME", value_parser = parse_time)]
        time_ms: Option<u64>,

        /// Why, for the member to read
        #[arg(value_name = "REASON")]
        reason: Vec<String>,
    },

    /// Lift a mute
    Unmute {
        #[arg(value_name = "NAME")]
        name: String,
    },

    /// List the bans and mutes that last
    Bans,

    /// Remove the text of a message for ever, from memory, from disk and from what members
    /// read later. Its number, sender and time stay
    Remove {
        /// The number of the message
        #[arg(value_name = "SEQ")]
        seq: u64,
    },

    /// Say something to all members, as `server`
    Say {
        #[arg(value_name = "TEXT", required = true)]
        text: Vec<String>,
    },

    /// Read again what SIGHUP makes the server read again
    Reload,

    /// Tell all members that the server closes, and end it, as SIGTERM does
    Drain {
        /// When clients are to come back, such as `2min`; they come one after the other
        #[arg(long, value_name = "TIME", value_parser = parse_back_in)]
        back_in: Option<u32>,
    },

    /// Show how the server is
    Stats,
}

impl CtlCommand {
    fn request(&self) -> Request {
        match self {
            Self::List => Request::List { after: None },
            Self::Kick { name, reason } => Request::Kick {
                name: name.clone(),
                reason: reason.join(" "),
            },
            Self::Ban {
                target,
                time_ms,
                address,
                reason,
            } => Request::Ban {
                target: target.clone(),
                time_ms: *time_ms,
                address: *address,
                reason: reason.join(" "),
            },
            Self::Unban { target } => Request::Unban {
                target: target.clone(),
            },
            Self::Mute {
                name,
                time_ms,
                reason,
            } => Request::Mute {
                name: name.clone(),
                time_ms: *time_ms,
                reason: reason.join(" "),
            },
            Self::Unmute { name } => Request::Unmute { name: name.clone() },
            Self::Bans => Request::Bans,
            Self::Remove { seq } => Request::Remove { seq: *seq },
            Self::Say { text } => Request::Say {
                text: text.join(" "),
            },
            Self::Reload => Request::Reload,
            Self::Drain { back_in } => Request::Drain {
                back_in_ms: *back_in,
            },
            Self::Stats => Request::Stats,
        }
    }
}

/// Why a command was not carried out, and the exit code that says so.
struct Failure {
    code: u8,
    sentence: String,
}

impl CtlOptions {
    /// Asks the server, prints its answer and returns the exit code: 0 if it has done what
    /// it was asked for, 1 if it refused, 3 if there is none.
    pub fn run(&self) -> ExitCode {
        match self.ask() {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => {
                let _ = writeln!(io::stderr(), "chat-server ctl: {}", failure.sentence);
                ExitCode::from(failure.code)
            }
        }
    }

    fn ask(&self) -> Result<(), Failure> {
        let mut connection = self.connect()?;
        let mut request = self.command.request();
        let mut is_first = true;
        for _ in 0..PAGES_MAX {
            let (line, answer) = exchange(&mut connection, &request)?;
            if self.json {
                print(&line);
            }
            if let Answer::Refused(refused) = answer {
                return Err(Failure {
                    code: EXIT_REFUSED,
                    sentence: refused.error,
                });
            }
            if !self.json {
                print(&text(&answer, is_first));
            }
            is_first = false;
            let Answer::Members {
                members,
                more: true,
                ..
            } = answer
            else {
                break;
            };
            request = Request::List {
                after: members.last().map(|member| member.name.clone()),
            };
        }
        Ok(())
    }

    fn connect(&self) -> Result<BufReader<UnixStream>, Failure> {
        let path = self.control.display();
        let unreachable = |error: io::Error| {
            let what = match error.kind() {
                io::ErrorKind::NotFound => {
                    "there is no control socket; is the server running, with --control?".to_owned()
                }
                io::ErrorKind::ConnectionRefused => "the server is not running".to_owned(),
                io::ErrorKind::PermissionDenied => {
                    "only the user of the server and root may open it".to_owned()
                }
                _ => error.to_string(),
            };
            Failure {
                code: EXIT_UNREACHABLE,
                sentence: format!("cannot reach the server at {path}: {what}"),
            }
        };
        let stream = UnixStream::connect(&self.control).map_err(unreachable)?;
        let answer_time = Some(Duration::from_millis(ANSWER_MS_MAX));
        stream.set_read_timeout(answer_time).map_err(unreachable)?;
        stream.set_write_timeout(answer_time).map_err(unreachable)?;
        Ok(BufReader::new(stream))
    }
}

/// Sends a request and reads its answer.
fn exchange(
    connection: &mut BufReader<UnixStream>,
    request: &Request,
) -> Result<(String, Answer), Failure> {
    let lost = |error: io::Error| {
        let what = match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "it does not answer".to_owned(),
            _ => error.to_string(),
        };
        Failure {
            code: EXIT_UNREACHABLE,
            sentence: format!("the server cannot be asked: {what}"),
        }
    };
    let mut line = serde_json::to_string(request).map_err(|error| lost(error.into()))?;
    line.push('\n');
    connection
        .get_mut()
        .write_all(line.as_bytes())
        .map_err(lost)?;
    line.clear();
    let mut bounded = connection.take(LINE_BYTES_MAX as u64);
    bounded.read_line(&mut line).map_err(lost)?;
    if !line.ends_with('\n') {
        return Err(lost(io::ErrorKind::UnexpectedEof.into()));
    }
    let answer = serde_json::from_str(&line).map_err(|error| lost(error.into()))?;
    Ok((line, answer))
}

/// Prints for a reader that may have gone.
fn print(text: &str) {
    let mut output = io::stdout().lock();
    let _ = output
        .write_all(text.as_bytes())
        .and_then(|()| output.flush());
}

/// The answer for a person.
fn text(answer: &Answer, is_first: bool) -> String {
    match answer {
        Answer::Members { members, .. } => table(members, is_first),
        Answer::Banned { ended, kept, .. } => {
            let kept = if *kept { "" } else { ", until the server ends" };
            format!("banned{kept}; sessions ended: {ended}\n")
        }
        Answer::Bans { bans, .. } => bans.iter().map(ban).collect(),
        Answer::Said { seq, .. } => format!("said, as message {seq}\n"),
        Answer::Reloaded { reloaded, .. } => format!("{reloaded}\n"),
        Answer::Stats { stats, .. } => lines(stats),
        Answer::Done { .. } | Answer::Refused(_) => String::new(),
    }
}

fn table(members: &[Member], has_head: bool) -> String {
    let row = |cells: [&str; 6]| {
        let [name, address, since, idle, queue, messages] = cells;
        format!("{name:<32} {address:<28} {since:<20} {idle:>8} {queue:>8} {messages:>8}\n")
    };
    let head = ["NAME", "ADDRESS", "SINCE", "IDLE", "QUEUE", "MESSAGES"];
    let head = has_head.then(|| row(head)).into_iter();
    let rows = members.iter().map(|member| {
        if member.elsewhere {
            let messages = member.messages.to_string();
            return row([&member.name, "another server", "-", "-", "-", &messages]);
        }
        row([
            &member.name,
            member.address.as_deref().unwrap_or("-"),
            &utc(member.since_unix_ms),
            &seconds(member.idle_ms.into()),
            &bytes(member.queue_bytes),
            &member.messages.to_string(),
        ])
    });
    head.chain(rows).collect()
}

/// `ban  mallory  until 2026-12-24T00:00:00Z  # spam`
fn ban(ban: &ListedBan) -> String {
    let until = match ban.until_unix_ms {
        Some(until) => format!("until {}", utc(until)),
        None => "for ever".to_owned(),
    };
    let reason = match ban.reason.as_str() {
        "" => String::new(),
        reason => format!("  # {reason}"),
    };
    let (kind, target) = (ban.kind.as_str(), ban.target.as_str());
    let line = format!("{kind:<5} {target:<32} {until:<27}{reason}");
    format!("{}\n", line.trim_end())
}

fn parse_back_in(text: &str) -> Result<u32, String> {
    let time_ms = Unit::Milliseconds.parse(text)?;
    u32::try_from(time_ms).map_err(|_| "clients do not wait that long".to_owned())
}

fn parse_time(text: &str) -> Result<u64, String> {
    match Unit::Milliseconds.parse(text) {
        Ok(0) => Err("a time of nothing bans nobody".to_owned()),
        Ok(time_ms) => Ok(time_ms),
        Err(sentence) => Err(sentence.to_owned()),
    }
}

/// A time without its milliseconds.
fn seconds(ms: u64) -> String {
    match ms / 1_000 {
        0 => "0s".to_owned(),
        s => Unit::Milliseconds.show(s * 1_000),
    }
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0 => "0B".to_owned(),
        _ => Unit::Bytes.show(bytes),
    }
}

fn lines(stats: &Stats) -> String {
    let yes = |is: bool| if is { "yes" } else { "no" };
    let kept = (stats.last_seq + 1).saturating_sub(stats.oldest_seq);
    format!(
        "version        {}\n\
         running for    {}\n\
         connections    {}\n\
         members        {}\n\
         last message   {}\n\
         messages kept  {kept}\n\
         buffered       {}\n\
         senders paused {}\n\
         disk full      {}\n",
        stats.version,
        seconds(stats.uptime_ms),
        stats.connections,
        stats.members,
        stats.last_seq,
        bytes(stats.buffered_bytes),
        yes(stats.senders_paused),
        yes(stats.disk_full),
    )
}
