//! The least and the most that can be asked for.

/// The largest value that [`Limits::frame_bytes_max`](super::Limits::frame_bytes_max) can have. A frame must fit
/// into a chunk of the log several times over.
pub const FRAME_BYTES_CEILING: u32 = 65_536;

/// The least value of [`Limits::lag_bytes_max`](super::Limits::lag_bytes_max): a few chunks of the log, the
/// steps in which it is counted.
pub const LAG_BYTES_FLOOR: u64 = 2 << 20;

/// The longest time that can be set, in milliseconds: a day.
pub(super) const DEADLINE_MS_CEILING: u64 = 86_400_000;

/// The longest time from one chat to the next that can be set, in milliseconds: an
/// hour. A burst of chats at that pace can still be told in nanoseconds.
pub(super) const CHAT_INTERVAL_MS_CEILING: u64 = 3_600_000;

/// The most connections that can be asked for: what file descriptors allow on
/// large machines.
pub(super) const CONNECTIONS_CEILING: u64 = 1_000_000;

/// The most new connections a minute from one address that can be asked for: one a
/// millisecond.
pub(super) const CONNECTIONS_PER_MINUTE_CEILING: u64 = 60_000;

/// The most chats a member may send at once that can be asked for.
pub(super) const CHAT_BURST_CEILING: u64 = 1_000_000;

/// The most frames a second, and the most errors, that can be asked for: more than a
/// machine takes.
pub(super) const COUNT_CEILING: u64 = 1_000_000_000;

/// The most bytes a second that can be asked for: more than a network brings.
pub(super) const BYTES_PER_SECOND_CEILING: u64 = 1 << 30;

/// The most memory that can be asked for: more than a machine has.
pub(super) const MEMORY_BYTES_CEILING: u64 = 1 << 40;

/// The most lines that can be asked for.
pub(super) const RESUMES_CEILING: u64 = 1_000_000;

/// The least number of ids that a line is remembered by: a client may have half as many
/// chats unanswered (CHAT-RES-15).
pub(super) const RESEND_IDS_FLOOR: u64 = 2;

/// The most ids that a line is remembered by that can be asked for: they are looked
/// through one by one.
pub(super) const RESEND_IDS_CEILING: u64 = 1_024;

/// The most chats in a page of the past that can be asked for.
pub(super) const HISTORY_PAGE_CEILING: u64 = 1_000;

/// The longest time for which an unused name can stay owned, in milliseconds: ten years.
pub(super) const NAME_EXPIRY_MS_CEILING: u64 = 3_650 * 86_400_000;

/// The least time in which a member hears what its filter has kept out, in milliseconds: a
/// few times the tick by which the server finds that out.
pub(super) const COVERED_INTERVAL_MS_FLOOR: u64 = 500;

/// The most entries of a filter that can be asked for.
pub(super) const FILTER_ENTRIES_CEILING: u64 = 1_000;

/// The most mentions of a message that can be asked for: they are looked through one by
/// one.
pub(super) const MENTIONS_CEILING: u64 = 64;

/// The longest file that can be asked for, and all files together, in bytes: more than a
/// disk has.
pub(super) const FILE_BYTES_CEILING: u64 = 1 << 50;

/// The longest piece of a file that can be asked for, in bytes: as much as may wait for a
/// client before the server stops reading from it.
pub(super) const FILE_CHUNK_BYTES_CEILING: u64 = 32 << 10;

/// The most files in a message that can be asked for.
pub(super) const FILES_PER_CHAT_CEILING: u64 = 16;
