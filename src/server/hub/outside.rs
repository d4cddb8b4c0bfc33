//! Outside: what a hub has from the world around it, and the room that it begins with.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    identity::Nonce,
    limits::Limits,
    log::Log,
    room::{Room, Token},
    server::{archive::Archive, file_queue::FileQueue},
    session::FileIndex,
};

/// What a hub takes from the world around it.
#[derive(Clone, Copy)]
pub(in crate::server) struct Outside {
    /// The clock on the wall, in milliseconds since 1970. It may jump as it likes, since
    /// only the time for which a lost session can be resumed is reckoned from it.
    pub(in crate::server) unix_ms: fn() -> i64,
    /// See [`Offer::fresh_token`](crate::session::Offer).
    pub(in crate::server) fresh_token: fn() -> Option<Token>,
    /// See [`Offer::fresh_nonce`](crate::session::Offer).
    pub(in crate::server) fresh_nonce: fn() -> Option<Nonce>,
}

impl Outside {
    /// The system's chance, and a clock.
    pub(in crate::server) fn with_clock(unix_ms: fn() -> i64) -> Self {
        Self {
            unix_ms,
            fresh_token,
            fresh_nonce,
        }
    }
}

/// The room of a hub, as it is when the server starts.
pub(in crate::server) struct Origin {
    pub(in crate::server) room: Room,
    /// The log, with the recent past.
    pub(in crate::server) log: Log,
    /// Where what happens is kept, if it is kept on disk.
    pub(in crate::server) archive: Option<Arc<Archive>>,
    /// Whether members may read the past (CHAT-HIST).
    pub(in crate::server) offers_history: bool,
    /// Where files are kept, and those that are there (CHAT-FILE).
    pub(in crate::server) files: Option<(Arc<FileQueue>, FileIndex)>,
}

impl Origin {
    /// An empty room in memory. `epoch`: see [`Room::new`].
    pub(in crate::server) fn empty(limits: &Limits, epoch: String) -> Self {
        Self {
            room: Room::new(epoch, limits),
            log: Log::new(1, limits.history_memory_bytes),
            archive: None,
            offers_history: false,
            files: None,
        }
    }
}

/// A token that strangers cannot guess.
fn fresh_token() -> Option<Token> {
    let mut token = Token::default();
    getrandom::fill(&mut token).ok().map(|()| token)
}

/// Random bytes for a Challenge.
fn fresh_nonce() -> Option<Nonce> {
    let mut nonce = Nonce::default();
    getrandom::fill(&mut nonce).ok().map(|()| nonce)
}

/// What the system's clock shows.
pub(in crate::server) fn unix_ms() -> i64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock set before 1970 shows 1970.
    unix.map_or(0, |unix| unix.as_millis() as i64)
}
