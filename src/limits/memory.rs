//! What a server holds for its clients at the most.

use super::{
    DOWNLOADS_AHEAD_MAX, DOWNLOADS_MAX, FILE_BYTES_MIN, FILE_RECIPIENTS_MAX, Limits,
    OWNED_NAMES_MAX, PIECES_AHEAD_MAX, PIECES_READ_AHEAD_MAX,
};

/// What a connection takes beside what waits for it, in bytes: its task and its place
/// in the tables, with room to spare.
const CONNECTION_BYTES: u64 = 2_048;

/// What the direct messages of a connection take beside its queue, in bytes: the senders of
/// those that its client has not acknowledged.
pub(crate) const DIRECTS_BYTES: u64 = 2_304;

/// What an owned name takes, in bytes, with room to spare.
const OWNED_NAME_BYTES: u64 = 256;

/// What an entry of a filter takes at most, in bytes: in the filter, and in the index of
/// those who follow it, with room to spare.
const FILTER_ENTRY_BYTES: u64 = 160;

/// What waits for a member with a filter takes at most, in bytes: 1,024 pieces of the log,
/// in buffers that are half empty at the worst.
const DUE_BYTES_MAX: u64 = 16_384;

/// What a line takes without its ids, in bytes, with room to spare, and what an id takes.
const LINE_BYTES: u64 = 512;
const RESEND_ID_BYTES: u64 = 24;

/// What the index of files takes for each that there may be, in bytes, with room to spare;
/// and for each member that one is given to.
const FILE_ENTRY_BYTES: u64 = 1_280;
const FILE_RECIPIENT_BYTES: u64 = 128;

/// What the state of an upload takes for each connection, in bytes, the piece apart that is
/// written: that is in the queues.
const UPLOAD_BYTES: u64 = 512;

impl Limits {
    /// What a server holds for its clients at the most, in bytes: all queues, all
    /// connections, what can be resumed, the names that keys own, and what it knows of
    /// files. The queues are looked
    /// at every tenth of a second and may be larger in between, by what comes in that
    /// time; the program itself and what the system
    /// keeps for its sockets come on top.
    pub fn memory_bytes_max(&self) -> u64 {
        let connection_bytes = CONNECTION_BYTES + DIRECTS_BYTES;
        let connections_bytes = u64::from(self.connections_max) * connection_bytes;
        let line_bytes = LINE_BYTES + u64::from(self.resend_ids_max) * RESEND_ID_BYTES;
        let lines = u64::from(self.connections_max) + u64::from(self.resumes_max);
        let filter_bytes = u64::from(self.filter_entries_max) * FILTER_ENTRY_BYTES;
        let filters_bytes = u64::from(self.connections_max) * (filter_bytes + DUE_BYTES_MAX);
        self.queue_bytes_max
            .saturating_add(connections_bytes)
            .saturating_add(lines * line_bytes)
            .saturating_add(OWNED_NAMES_MAX as u64 * OWNED_NAME_BYTES)
            .saturating_add(filters_bytes)
            .saturating_add(self.files_memory_bytes_max())
    }

    /// The part of files in that: the index of all files, and what is on its way. One piece
    /// of an upload is in the queues of its connection.
    fn files_memory_bytes_max(&self) -> u64 {
        let entries = self.files_bytes_max / FILE_BYTES_MIN;
        // Those of the downloads that have some, and those that the disk is reading.
        let read_ahead = (DOWNLOADS_AHEAD_MAX as u64 + 1) * PIECES_READ_AHEAD_MAX;
        let pieces = DOWNLOADS_MAX as u64 + PIECES_AHEAD_MAX as u64 + read_ahead;
        let pieces_bytes = pieces * u64::from(self.file_frame_bytes_max());
        let recipients = entries.saturating_add(FILE_RECIPIENTS_MAX as u64);
        (entries.saturating_mul(FILE_ENTRY_BYTES))
            .saturating_add(recipients.saturating_mul(FILE_RECIPIENT_BYTES))
            .saturating_add(pieces_bytes)
            .saturating_add(u64::from(self.connections_max) * UPLOAD_BYTES)
    }
}
