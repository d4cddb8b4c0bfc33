//! Read budget: how much a connection may read now (CHAT-LIM-6).

use super::{
    backpressure::{PAUSED_READ_BYTES, ReadBlockedSince},
    channel::Channel,
    outbound::Outbound,
    registry::ConnectionHandle,
    reply_buffer::REPLIES_PAUSE_BYTES,
};

/// What is read at once, in bytes. Large enough that a sender in full flow costs few
/// system calls, small enough that the others soon get their turn.
pub(super) const READ_BYTES: usize = 64 * 1024;

/// How much is read at once, and how many bytes of replies may wait, while the buffers of
/// all connections are crowded: enough to go on talking, too little to fill memory.
const CROWDED_BYTES: usize = 1_024;

/// How many stretches of its own chats may lie ahead of a connection in the log before
/// the server stops reading from it: it sends without reading.
const OWN_RUNS_MAX: usize = 64;

/// What decides about reading from one connection, its outbound side apart.
#[derive(Default)]
pub(super) struct ReadBudget {
    /// Its session must not be read from until it is notified.
    pub(super) is_throttled: bool,
    /// Pieces of its upload are on their way to the disk, and what it sent behind them may
    /// have to wait.
    pub(super) awaits_pieces: bool,
    /// The read buffer may hold whole frames: they come before anything is read.
    pub(super) has_backlog: bool,
    /// The peer has closed its sending side.
    pub(super) is_at_end: bool,
    /// Since when what its peer sends waits to be read.
    pub(super) blocked_since: ReadBlockedSince,
}

impl ReadBudget {
    /// How much may be read at once, in bytes; 0: nothing for now. `is_crowded`: see
    /// [`Registry::is_crowded`](super::registry::Registry::is_crowded).
    pub(super) fn bytes_max(
        &self,
        outbound: &Outbound,
        handle: Option<&ConnectionHandle>,
        channel: &Channel,
        is_crowded: bool,
    ) -> usize {
        if self.is_throttled || outbound.replies.unsent_bytes() >= replies_bytes_max(is_crowded) {
            return 0;
        }
        match (&outbound.reader, handle) {
            (Some(reader), _) if reader.skip_count() >= OWN_RUNS_MAX => 0,
            (Some(_), Some(handle)) if channel.is_paused() => {
                // A member with more in hand than was judged says much.
                match !self.has_backlog && channel.has_paused_quota(handle) {
                    true => PAUSED_READ_BYTES,
                    false => 0,
                }
            }
            // Not registered: there is nothing that it could flood.
            _ if is_crowded => CROWDED_BYTES,
            _ => READ_BYTES,
        }
    }
}

/// How many bytes of replies may wait before the server stops reading from a connection.
pub(super) fn replies_bytes_max(is_crowded: bool) -> usize {
    match is_crowded {
        true => CROWDED_BYTES,
        false => REPLIES_PAUSE_BYTES,
    }
}
