//! The options of `chat-server` about what it keeps on disk.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Data;
use crate::{
    limits::Unit,
    store::{Keep, SyncMode},
};

/// For how many days a room is kept that members may not read: longer than a session can
/// be resumed.
const KEEP_DAYS_FOR_RESUMES: u32 = 1;

/// The least that can be kept, in bytes: two hundred of the longest messages with default
/// limits, so that a member who comes back after a moment finds what it missed.
const KEEP_BYTES_MIN: u64 = 1 << 20;

/// Reads what `--keep-bytes` says.
fn kept_bytes(text: &str) -> Result<u64, String> {
    match Unit::Bytes.parse(text)? {
        bytes if bytes >= KEEP_BYTES_MIN => Ok(bytes),
        _ => {
            Err("it is 1MiB or more; to keep the past from members, say --history none".to_owned())
        }
    }
}

/// What is kept, and for whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "What is kept")]
pub(super) struct DataOptions {
    /// Keep the room in this folder, so that it survives a restart. Without it the room
    /// is forgotten when the server ends
    #[arg(long, env = "CHAT_DATA", value_name = "DIR")]
    data: Option<PathBuf>,

    /// Who may read the past: all members, or none; then it is kept only for those who
    /// lost their connection
    #[arg(
        long,
        env = "CHAT_HISTORY",
        value_name = "WHO",
        default_value = "all",
        requires = "data"
    )]
    history: Readers,

    /// Keep so many messages at most
    #[arg(
        long,
        env = "CHAT_KEEP_MESSAGES",
        value_name = "COUNT",
        requires = "data",
        value_parser = clap::value_parser!(u64).range(1..)
    )]
    keep_messages: Option<u64>,

    /// Keep messages for so many days at most
    #[arg(
        long,
        env = "CHAT_KEEP_DAYS",
        value_name = "COUNT",
        requires = "data",
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    keep_days: Option<u32>,

    /// Keep so much at most, 1 MiB or more; the oldest messages go first
    #[arg(
        long,
        env = "CHAT_KEEP_BYTES",
        value_name = "SIZE",
        default_value = "1GiB",
        requires = "data",
        value_parser = kept_bytes
    )]
    keep_bytes: u64,

    /// When a message is on the disk: before anybody sees it, within a second, or when
    /// the system likes. A server that is killed loses nothing either way, a machine
    /// without power does
    #[arg(
        long,
        env = "CHAT_SYNC",
        value_name = "WHEN",
        default_value = "always",
        requires = "data"
    )]
    sync: Sync,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Readers {
    All,
    None,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Sync {
    Always,
    Interval,
    Off,
}

impl DataOptions {
    /// Where and how the room is kept; `None` if it is not.
    pub(super) fn data(&self) -> Option<Data> {
        let is_open_to_members = self.history == Readers::All;
        let days_max = (!is_open_to_members).then_some(KEEP_DAYS_FOR_RESUMES);
        Some(Data {
            dir: self.data.clone()?,
            keep: Keep {
                messages: self.keep_messages,
                days: [self.keep_days, days_max].into_iter().flatten().min(),
                bytes: Some(self.keep_bytes),
            },
            sync: match self.sync {
                Sync::Always => SyncMode::Always,
                Sync::Interval => SyncMode::Interval,
                Sync::Off => SyncMode::Off,
            },
            is_open_to_members,
            follows_cluster: false,
        })
    }
}
