//! `chat-server history`: what an operator does with a room on disk. Everything but
//! pruning works while a server runs.

mod backup;
mod check;
mod print;
mod search;

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Args, Subcommand};

use super::{
    Keep, OpenError, StoreReader, background,
    connection::{self, Access},
    directory::Directory,
    epoch::Mark,
    error, open, prune, schema,
};
use crate::limits::Unit;

/// How much of the past is read at a time.
const PAGE_CHATS_MAX: usize = 10_000;
const PAGE_BYTES_MAX: usize = 4 << 20;

/// The arguments of `chat-server history`.
#[derive(Debug, Args)]
pub struct HistoryOptions {
    /// The folder of the room, as the server was given it with --data
    #[arg(value_name = "DIR")]
    dir: PathBuf,

    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the messages that are kept, in order
    Export {
        /// From this number on
        #[arg(long, value_name = "N", default_value_t = 1)]
        from: u64,

        /// Up to this number
        #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
        to: u64,
    },

    /// Print the newest messages that hold all of these words, in order
    ///
    /// Upper and lower case and accents do not matter. An argument of several words is
    /// a phrase; one that ends in `*` also finds longer words. The first search of a
    /// large room takes a while: it makes an index, DIR/search.sqlite, which later ones
    /// bring up to date.
    Search {
        /// What to find, in texts and names of senders
        #[arg(value_name = "WORD", required = true)]
        words: Vec<String>,

        /// How many messages at most
        #[arg(long, value_name = "N", default_value_t = 100)]
        limit: u32,

        /// Take the words for an expression as SQLite's FTS5 has it: `hello NOT sender:bob`
        #[arg(long)]
        expression: bool,
    },

    /// Remove the oldest messages beyond the bounds for ever, and give the space back.
    /// The server must be stopped
    #[command(group(clap::ArgGroup::new("bounds").required(true).multiple(true)))]
    Prune {
        /// Keep so many messages at most
        #[arg(long, value_name = "N", group = "bounds")]
        keep_messages: Option<u64>,

        /// Keep messages for so many days
        #[arg(long, value_name = "N", group = "bounds")]
        keep_days: Option<u32>,

        /// Keep so much at most: texts, senders and 32 bytes for each message
        #[arg(long, value_name = "SIZE", group = "bounds", value_parser = |text: &str| Unit::Bytes.parse(text))]
        keep_bytes: Option<u64>,
    },

    /// Check that the database is whole and no message is missing; exit code 1 if not
    Check,

    /// Copy the room to a new file. A server that starts from it begins a new epoch
    Backup {
        /// The new file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

impl HistoryOptions {
    /// Does what the command line asks for.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong and what to do.
    pub fn run(&self, now_unix_ms: i64) -> Result<ExitCode, String> {
        let done = match &self.action {
            Action::Export { from, to } => export(&self.dir, *from, *to),
            Action::Search {
                words,
                limit,
                expression,
            } => search::search(&self.dir, words, *limit, *expression),
            Action::Prune {
                keep_messages,
                keep_days,
                keep_bytes,
            } => {
                let keep = Keep {
                    messages: *keep_messages,
                    days: *keep_days,
                    bytes: *keep_bytes,
                };
                prune_all(&self.dir, keep, now_unix_ms)
            }
            Action::Check => return check::check(&self.dir),
            Action::Backup { file } => backup::backup(&self.dir, file),
        };
        done.map(|()| ExitCode::SUCCESS)
    }
}

/// Pages through the room, so that no look at it lasts: one that lasted would keep the
/// write-ahead log of a running server from beginning anew.
fn export(dir: &Path, from: u64, to: u64) -> Result<(), String> {
    let reader = StoreReader::open(dir).map_err(sentence)?;
    let mut printer = print::Printer::new();
    let mut after = from.saturating_sub(1);
    while after < to && !printer.is_closed() {
        let page = reader
            .page_after(after, PAGE_CHATS_MAX, PAGE_BYTES_MAX)
            .map_err(sentence)?;
        if page.chats.is_empty() {
            break;
        }
        after = page.to;
        let wanted = page.chats.iter().take_while(|chat| chat.seq <= to);
        wanted
            .into_iter()
            .try_for_each(|chat| printer.print(chat))?;
    }
    printer.end()
}

fn prune_all(dir: &Path, keep: Keep, now_unix_ms: i64) -> Result<(), String> {
    let directory = Directory::new(dir);
    let path = directory.database();
    if let Err(error) = fs::metadata(&path) {
        return Err(sentence(match error.kind() {
            ErrorKind::NotFound => OpenError::Missing(path),
            _ => OpenError::Io(path, error),
        }));
    }
    let _lock = directory.lock().map_err(sentence)?;
    directory.remove_stale_wal().map_err(sentence)?;
    let mut connection = connection::connect(&directory, Access::Write).map_err(sentence)?;
    let found = schema::identify(&connection, &path, schema::STEPS).map_err(sentence)?;
    let failed = |error| sentence(OpenError::Database(path.clone(), error));
    connection::begin_wal(&connection, "FULL").map_err(failed)?;
    schema::update(&mut connection, found, schema::STEPS).map_err(failed)?;
    let mark = Mark::read(&connection).map_err(failed)?;
    let marked = mark.map_or(1, |mark| mark.oldest_seq);
    let mut position = open::find_position(&connection, marked).map_err(failed)?;
    let first_seq = position.oldest_seq;
    loop {
        let oldest_seq =
            prune::prune(&mut connection, keep, position, now_unix_ms).map_err(failed)?;
        if oldest_seq == position.oldest_seq {
            break;
        }
        position.oldest_seq = oldest_seq;
    }
    let left = position.last_seq + 1 - position.oldest_seq;
    println_quietly(&format!(
        "removed {} messages; {left} are left",
        position.oldest_seq - first_seq
    ));
    connection.execute_batch("VACUUM").map_err(|error| {
        let error = error::plain(&error);
        format!("the messages are removed, but their space is not given back: {error}")
    })?;
    background::remove_wal(&connection).map_err(failed)
}

/// Prints a line for people, to whom a closed pipe is no news.
fn println_quietly(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn sentence(error: impl std::error::Error) -> String {
    error.to_string()
}
