//! Limits: the bounds that a server works within. Each is declared once, below; its
//! option, variable, check, help text, announcement to clients (CHAT-LIM-1) and row
//! of `docs/limits.md` are derived from that.

mod ceiling;
mod declare;
mod frame;
mod memory;
mod unit;
mod values;

use crate::wire::Capability;

use ceiling::{
    BYTES_PER_SECOND_CEILING, CHAT_BURST_CEILING, CHAT_INTERVAL_MS_CEILING, CONNECTIONS_CEILING,
    CONNECTIONS_PER_MINUTE_CEILING, COUNT_CEILING, COVERED_INTERVAL_MS_FLOOR, DEADLINE_MS_CEILING,
    FILE_BYTES_CEILING, FILE_CHUNK_BYTES_CEILING, FILES_PER_CHAT_CEILING, FILTER_ENTRIES_CEILING,
    HISTORY_PAGE_CEILING, MEMORY_BYTES_CEILING, MENTIONS_CEILING, NAME_EXPIRY_MS_CEILING,
    RESEND_IDS_CEILING, RESEND_IDS_FLOOR, RESUMES_CEILING,
};
pub use ceiling::{FRAME_BYTES_CEILING, LAG_BYTES_FLOOR};
use declare::{BYTES, COUNT, Default::Derived, Default::Fixed, Field, TIME, limits};
pub use declare::{Default as DefaultValue, Limit};
#[cfg(feature = "server")]
pub(crate) use memory::DIRECTS_BYTES;
pub use unit::Unit;

/// The longest envelope before a Register is accepted, in bytes, either way
/// (CHAT-FRAME-6, CHAT-FRAME-12). Room for a Register that grows, too little to
/// be worth sending for somebody who never registers.
pub const UNREGISTERED_FRAME_BYTES_MAX: u32 = 1_024;

/// The longest name, in bytes (CHAT-NAME-1).
pub const NAME_BYTES_MAX: usize = 32;

/// What an envelope may take beyond the text it carries, in bytes (CHAT-LIM-7):
/// a Chat's other fields with their largest values take less than 100.
pub const FRAME_OVERHEAD_BYTES_MAX: u32 = 256;

/// How much of a flood of frames or bytes is taken at once: as much as in this time,
/// in milliseconds. The default burst of chats takes as long.
pub const FLOOD_WINDOW_MS: u64 = 10_000;

/// The longest that a name's holder is waited for, in milliseconds, where nothing else
/// is asked for: longer than a phone takes to wake up its network; the newcomer and
/// its register deadline have to bear it.
const NAME_CHECK_DEADLINE_MS: u64 = 5_000;

/// The memory of all queues, in bytes, where nothing else is asked for: the log, and
/// three thousand others who hold all that they can.
const QUEUE_BYTES: u64 = 256 << 20;

/// How much of the recent past is kept in memory where nothing else is asked for, in
/// bytes: some ten thousand chats, and what a lost connection misses in a busy minute.
const HISTORY_MEMORY_BYTES: u64 = 4 << 20;

/// How many times the recent past a member may fall behind: a session that resumes is
/// behind by the recent past, and the log without it must not seem too long.
const LAG_PER_HISTORY_MIN: u64 = 8;

/// How many names keys can own by their first proof: of a new one beyond that, nobody
/// becomes the owner.
pub const OWNED_NAMES_MAX: usize = 50_000;

/// What a file counts at least against the bounds of all files, in bytes, and each member
/// beyond the first that has uploaded it: it bounds how many there are.
pub(crate) const FILE_BYTES_MIN: u64 = 16 << 10;

/// How many members files are given to by Directs: of one more, a file forgets another.
pub(crate) const FILE_RECIPIENTS_MAX: usize = 65_536;

/// How many downloads there may be at a time: each has a piece in memory.
pub(crate) const DOWNLOADS_MAX: usize = 512;

/// Up to how many downloads at a time have pieces read ahead, and how many each: so many
/// that waking the thread that reads costs little beside the bytes.
pub(crate) const DOWNLOADS_AHEAD_MAX: usize = 8;
pub(crate) const PIECES_READ_AHEAD_MAX: u64 = 7;

/// How many pieces of uploads are on their way to the disk before each connection has one of
/// them at the most.
pub(crate) const PIECES_AHEAD_MAX: usize = 64;

/// All files together where nothing else is asked for, in bytes.
const FILES_BYTES: u64 = 1 << 30;

/// How many frames a member may send for each chat that it may, where nothing else
/// is asked for: pings and pongs, and what is refused for its rate and sent again.
const FRAMES_PER_CHAT: u64 = 20;

/// How many times the longest frame a member may send for each chat that it may.
const LONGEST_FRAMES_PER_CHAT: u64 = 4;

/// How many times its rate of chats a member can send in any case (CHAT-LIM-2).
const FLOOD_FACTOR_MIN: u64 = 2;

/// The least number of errors after which a session is ended, where nothing else is
/// asked for: minutes of mistakes by hand, a second of a client that went mad.
const ERRORS_MAX_MIN: u64 = 3_000;

/// How many refusals for the rate a member may provoke for each chat of its burst:
/// somebody who tries the limits tries them a few times.
const ERRORS_PER_CHAT: u64 = 30;

/// How fast something may come: `burst` at once, then one every `interval_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At once, from 1.
    pub burst: u32,
    /// Milliseconds for one more, from 1.
    pub interval_ms: u32,
}

limits! {
    /// Connections at a time, registered or not
    connections_max: u32 = Limit {
        default: Fixed(Some(10_000)),
        range: |_| 1..=CONNECTIONS_CEILING,
        rule: Some("CHAT-REG-9"),
        is_live: true,
        beyond: "SERVER_FULL for new connections",
        ..COUNT
    };

    /// Connections at a time from one network address (IPv6: its first 64 bits)
    connections_per_address_max: Option<u32> = Limit {
        // A class or an office behind one address, twice over; and not enough
        // of one address to fill the server.
        default: Fixed(Some(64)),
        range: |_| 1..=CONNECTIONS_CEILING,
        rule: Some("CHAT-REG-11"),
        is_live: true,
        beyond: "TOO_MANY_CONNECTIONS",
        ..COUNT
    };

    /// New connections a minute from one network address, and so many at once
    connections_per_minute_max: Option<u32> = Limit {
        // All of them again at once when their network comes back, with one
        // failure each; after that two a second.
        default: Fixed(Some(120)),
        range: |_| 1..=CONNECTIONS_PER_MINUTE_CEILING,
        rule: Some("CHAT-REG-12"),
        is_live: true,
        beyond: "CONNECTING_TOO_FAST, with the time to wait",
        ..COUNT
    };

    /// Count connections from this machine like those from any other address
    is_loopback_limited: bool = Limit {
        option: Some("limit-loopback"),
        unit: Unit::Switch,
        default: Fixed(Some(0)),
        range: |_| 0..=1,
        is_live: true,
        beyond: "the two limits above hold for this machine too",
        ..COUNT
    };

    /// The longest frame a member may send
    frame_bytes_max: u32 = Limit {
        default: Fixed(Some(8_192)),
        range: |_| u64::from(1 + FRAME_OVERHEAD_BYTES_MAX)..=FRAME_BYTES_CEILING.into(),
        announce: Some(|limits, wire| wire.frame_bytes_max = limits.frame_bytes_max),
        rule: Some("CHAT-FRAME-6"),
        beyond: "FRAME_TOO_LONG ends the session (beyond 1KiB before registering)",
        ..BYTES
    };

    /// The longest text of a message, in UTF-8
    text_bytes_max: u32 = Limit {
        default: Fixed(Some(4_096)),
        // CHAT-LIM-7
        range: |limits| 1..=limits.frame_bytes_max.saturating_sub(FRAME_OVERHEAD_BYTES_MAX).into(),
        because: Some("a frame is at least 256B longer than its text"),
        announce: Some(|limits, wire| wire.text_bytes_max = limits.text_bytes_max),
        rule: Some("CHAT-CHAT-7"),
        beyond: "TEXT_TOO_LONG refuses the message",
        ..BYTES
    };

    /// Messages that a member may send in a second, or with a unit in another time
    /// (`20/min`)
    chat_interval_ms: Option<u32> = Limit {
        option: Some("rate-limit"),
        unit: Unit::Rate,
        // More than people read.
        default: Fixed(Some(100)),
        range: |_| 1..=CHAT_INTERVAL_MS_CEILING,
        announce: Some(|limits, wire| wire.chat_interval_ms = limits.chat_interval_ms.unwrap_or(0)),
        rule: Some("CHAT-LIM-2"),
        is_live: true,
        beyond: "RATE_LIMITED refuses the message, with the time to wait",
        ..COUNT
    };

    /// Messages that a member may send at once before the rate limit counts
    chat_burst: u32 = Limit {
        option: Some("rate-burst"),
        // A person who pastes a hundred lines is not refused.
        default: Fixed(Some(100)),
        range: |_| 1..=CHAT_BURST_CEILING,
        announce: Some(|limits, wire| {
            wire.chat_burst = limits.chat_rate().map_or(0, |rate| rate.burst);
        }),
        rule: Some("CHAT-LIM-2"),
        is_live: true,
        beyond: "the rate limit counts",
        ..COUNT
    };

    /// Frames a second that the server takes from a member, empty and refused ones
    /// included
    frames_per_second_max: Option<u32> = Limit {
        default: Derived("20 times --rate-limit, off without one", |limits| {
            limits.per_second(FRAMES_PER_CHAT)
        }),
        range: |limits| limits.per_second(FLOOD_FACTOR_MIN).unwrap_or(1)..=COUNT_CEILING,
        because: Some("at least twice what --rate-limit allows"),
        announce: Some(|limits, wire| {
            wire.frames_per_second_max = limits.frames_per_second_max.unwrap_or(0);
        }),
        rule: Some("CHAT-LIM-9"),
        is_live: true,
        beyond: "more than ten seconds' worth waits",
        ..COUNT
    };

    /// Bytes a second that the server takes from a member
    bytes_per_second_max: Option<u32> = Limit {
        default: Derived("4 times --rate-limit of the longest frames, off without one", |limits| {
            limits.per_second(LONGEST_FRAMES_PER_CHAT * u64::from(limits.frame_bytes_max))
        }),
        range: |limits| {
            let least = limits.per_second(FLOOD_FACTOR_MIN * u64::from(limits.frame_bytes_max));
            least.unwrap_or(1)..=BYTES_PER_SECOND_CEILING
        },
        because: Some("at least twice what --rate-limit allows of the longest frames"),
        announce: Some(|limits, wire| {
            wire.bytes_per_second_max = limits.bytes_per_second_max.unwrap_or(0);
        }),
        rule: Some("CHAT-LIM-9"),
        is_live: true,
        beyond: "more than ten seconds' worth waits",
        ..BYTES
    };

    /// Errors that a session survives; ten a second are forgotten
    errors_max: Option<u32> = Limit {
        default: Derived("3000, or 30 times --rate-burst if that is more", |limits| {
            let burst = limits.chat_rate().map_or(0, |rate| u64::from(rate.burst));
            Some(ERRORS_MAX_MIN.max(ERRORS_PER_CHAT * burst))
        }),
        range: |_| 1..=COUNT_CEILING,
        announce: Some(|limits, wire| wire.errors_max = limits.errors_max.unwrap_or(0)),
        rule: Some("CHAT-ERR-8"),
        is_live: true,
        beyond: "TOO_MANY_ERRORS ends the session",
        ..COUNT
    };

    /// Time to register after connecting
    register_deadline_ms: u32 = Limit {
        default: Fixed(Some(10_000)),
        announce: Some(|limits, wire| wire.register_deadline_ms = limits.register_deadline_ms),
        rule: Some("CHAT-REG-5"),
        beyond: "REGISTER_TIMEOUT",
        ..TIME
    };

    /// Time in which a member with keepalive must give a sign of life when somebody
    /// else asks for its name
    name_check_deadline_ms: u32 = Limit {
        default: Derived("half of --register-deadline-ms, 5s at the most", |limits| {
            Some((u64::from(limits.register_deadline_ms) / 2).clamp(1, NAME_CHECK_DEADLINE_MS))
        }),
        announce: Some(|limits, wire| wire.name_check_deadline_ms = limits.name_check_deadline_ms),
        rule: Some("CHAT-NAME-7"),
        beyond: "NAME_RECLAIMED ends the holder's session",
        ..TIME
    };

    /// Silence after which a member with keepalive counts as dead
    idle_deadline_ms: u32 = Limit {
        // Less than the minute or two after which routers forget a silent
        // connection; three pings before a session is given up.
        default: Fixed(Some(90_000)),
        // A ping comes before it.
        range: |_| 2..=DEADLINE_MS_CEILING,
        announce: Some(|limits, wire| wire.idle_deadline_ms = limits.idle_deadline_ms),
        rule: Some("CHAT-KEEP-4"),
        beyond: "IDLE_TIMEOUT ends the session",
        ..TIME
    };

    /// Silence after which the server pings a member with keepalive
    keepalive_interval_ms: u32 = Limit {
        default: Derived("a third of --idle-deadline-ms", |limits| {
            Some((u64::from(limits.idle_deadline_ms) / 3).max(1))
        }),
        range: |limits| 1..=u64::from(limits.idle_deadline_ms).saturating_sub(1),
        because: Some("less than --idle-deadline-ms"),
        announce: Some(|limits, wire| wire.keepalive_interval_ms = limits.keepalive_interval_ms),
        rule: Some("CHAT-KEEP-3"),
        beyond: "a ping",
        ..TIME
    };

    /// Time in which a client must take something of what the server has for it
    write_deadline_ms: u32 = Limit {
        default: Fixed(Some(10_000)),
        announce: Some(|limits, wire| wire.write_deadline_ms = limits.write_deadline_ms),
        rule: Some("CHAT-LIM-5"),
        beyond: "SLOW_CONSUMER ends the session",
        ..TIME
    };

    /// How far a member may fall behind the log; so also what the log retains in
    /// memory
    lag_bytes_max: u64 = Limit {
        default: Fixed(Some(64 << 20)),
        range: |_| LAG_BYTES_FLOOR..=MEMORY_BYTES_CEILING,
        announce: Some(|limits, wire| wire.lag_bytes_max = limits.lag_bytes_max),
        rule: Some("CHAT-LIM-5"),
        beyond: "SLOW_CONSUMER ends the session",
        ..BYTES
    };

    /// Memory of all queues together: the retained log, replies that are not sent,
    /// frames that are not whole
    queue_bytes_max: u64 = Limit {
        default: Derived("256MiB, or twice --lag-bytes-max if that is more", |limits| {
            Some(QUEUE_BYTES.max(2 * limits.lag_bytes_max).min(MEMORY_BYTES_CEILING))
        }),
        range: |limits| limits.lag_bytes_max..=MEMORY_BYTES_CEILING,
        because: Some("at least --lag-bytes-max"),
        rule: Some("CHAT-LIM-10"),
        beyond: "OVERLOADED ends the sessions that hold most",
        ..BYTES
    };

    /// Memory for the recent past, which resumed sessions read without the disk
    history_memory_bytes: u64 = Limit {
        option: Some("history-memory"),
        default: Derived("4MiB, or an eighth of --lag-bytes-max if that is less", |limits| {
            Some(HISTORY_MEMORY_BYTES.min(limits.lag_bytes_max / LAG_PER_HISTORY_MIN))
        }),
        range: |limits| 0..=limits.lag_bytes_max / LAG_PER_HISTORY_MIN,
        because: Some("an eighth of --lag-bytes-max at most, which it is a part of"),
        rule: Some("CHAT-RES-8"),
        beyond: "the oldest is dropped, from memory only where there is --data",
        ..BYTES
    };

    /// Time for which a lost connection can be resumed
    resume_ms: u32 = Limit {
        // A laptop that was carried home, a server that was moved.
        default: Fixed(Some(3_600_000)),
        announce: Some(|limits, wire| wire.resume_ms = limits.resume_ms),
        rule: Some("CHAT-RES-4"),
        beyond: "the client gets a new session and is told that it cannot resume",
        ..TIME
    };

    /// Lost connections that can be resumed, at a time
    resumes_max: u32 = Limit {
        default: Fixed(Some(10_000)),
        range: |_| 1..=RESUMES_CEILING,
        rule: Some("CHAT-RES-3"),
        beyond: "the one that was lost first cannot be resumed any more",
        ..COUNT
    };

    /// Messages of a member that are not accepted twice, the last ones
    resend_ids_max: u32 = Limit {
        default: Fixed(Some(64)),
        range: |_| RESEND_IDS_FLOOR..=RESEND_IDS_CEILING,
        announce: Some(|limits, wire| wire.resend_ids_max = limits.resend_ids_max),
        rule: Some("CHAT-RES-12"),
        beyond: "the oldest is forgotten",
        ..COUNT
    };

    /// The longest file that a member may upload, with --data
    file_bytes_max: u64 = Limit {
        // A talk that was recorded, a build.
        default: Fixed(Some(100 << 20)),
        range: |_| 1..=FILE_BYTES_CEILING,
        announce: Some(|limits, wire| wire.file_bytes_max = limits.file_bytes_max),
        capability: Some(Capability::Files),
        rule: Some("CHAT-FILE-13"),
        beyond: "FILE_TOO_LONG refuses the file",
        ..BYTES
    };

    /// Disk for the files of all members together
    files_bytes_max: u64 = Limit {
        default: Derived("1GiB, or --file-bytes-max if that is more", |limits| {
            Some(FILES_BYTES.max(limits.file_bytes_max))
        }),
        range: |limits| limits.file_bytes_max..=FILE_BYTES_CEILING,
        because: Some("at least --file-bytes-max"),
        rule: Some("CHAT-FILE-14"),
        beyond: "FILES_FULL refuses the file",
        ..BYTES
    };

    /// Disk for the files of one member
    member_files_bytes_max: u64 = Limit {
        default: Derived("a quarter of --files-bytes-max, or --file-bytes-max if that is more", |limits| {
            Some((limits.files_bytes_max / 4).max(limits.file_bytes_max))
        }),
        range: |limits| limits.file_bytes_max..=FILE_BYTES_CEILING,
        because: Some("at least --file-bytes-max"),
        rule: Some("CHAT-FILE-14"),
        beyond: "FILES_FULL refuses the file",
        ..BYTES
    };

    /// The longest piece of a file in a frame
    file_chunk_bytes_max: u32 = Limit {
        // A tenth of a second over a slow link, so that the talk does not wait; and less
        // than stops the server reading from a client that is sent one.
        default: Fixed(Some(16 << 10)),
        range: |_| 1..=FILE_CHUNK_BYTES_CEILING,
        announce: Some(|limits, wire| wire.file_chunk_bytes_max = limits.file_chunk_bytes_max),
        capability: Some(Capability::Files),
        rule: Some("CHAT-FILE-5"),
        beyond: "FILE_MISMATCH refuses the piece",
        ..BYTES
    };

    /// Bytes of files a second that the server takes from a member
    file_bytes_per_second_max: Option<u32> = Limit {
        default: Fixed(Some(32 << 20)),
        range: |_| 1..=BYTES_PER_SECOND_CEILING,
        rule: Some("CHAT-FILE-15"),
        beyond: "more than ten seconds' worth waits",
        ..BYTES
    };

    /// Time for which a file is kept that no message names, and an upload that does not
    /// go on
    file_orphan_ms: u32 = Limit {
        default: Fixed(Some(3_600_000)),
        announce: Some(|limits, wire| wire.file_orphan_ms = limits.file_orphan_ms),
        capability: Some(Capability::Files),
        rule: Some("CHAT-FILE-17"),
        beyond: "the file is removed",
        ..TIME
    };

    /// Files that one message may name
    files_per_chat_max: u32 = Limit {
        default: Fixed(Some(4)),
        range: |_| 1..=FILES_PER_CHAT_CEILING,
        announce: Some(|limits, wire| wire.files_per_chat_max = limits.files_per_chat_max),
        capability: Some(Capability::Files),
        rule: Some("CHAT-FILE-9"),
        beyond: "REQUEST_INVALID refuses the message",
        ..COUNT
    };

    /// Messages in a page of the past
    history_page_max: u32 = Limit {
        default: Fixed(Some(100)),
        range: |_| 1..=HISTORY_PAGE_CEILING,
        announce: Some(|limits, wire| wire.history_page_max = limits.history_page_max),
        capability: Some(Capability::History),
        rule: Some("CHAT-HIST-7"),
        beyond: "REQUEST_INVALID refuses the request",
        ..COUNT
    };

    /// Time within which a member hears that its filter has kept messages out
    covered_interval_ms: u32 = Limit {
        // What a lost connection makes the server look through again, in a busy room.
        default: Fixed(Some(20_000)),
        range: |_| COVERED_INTERVAL_MS_FLOOR..=DEADLINE_MS_CEILING,
        announce: Some(|limits, wire| wire.covered_interval_ms = limits.covered_interval_ms),
        rule: Some("CHAT-COV-2"),
        beyond: "the member is told up to where it has everything",
        ..TIME
    };

    /// Topics, senders and ignored ones that a member may have in its filter, in all
    filter_entries_max: u32 = Limit {
        default: Fixed(Some(64)),
        range: |_| 1..=FILTER_ENTRIES_CEILING,
        announce: Some(|limits, wire| wire.filter_entries_max = limits.filter_entries_max),
        rule: Some("CHAT-FOL-5"),
        beyond: "REQUEST_INVALID refuses the filter",
        ..COUNT
    };

    /// Mentions that a message may have
    mentions_max: u32 = Limit {
        default: Fixed(Some(8)),
        range: |_| 0..=MENTIONS_CEILING,
        because: Some("fewer where a frame has no room for them beside the longest text"),
        announce: Some(|limits, wire| wire.mentions_max = limits.mentions()),
        rule: Some("CHAT-FOL-1"),
        beyond: "TOPIC_INVALID refuses the message",
        ..COUNT
    };

    /// Time for which a name stays with the key that owns it while nobody uses it
    name_expiry_ms: u64 = Limit {
        option: Some("name-expiry"),
        // A long summer, or a year abroad less a visit.
        default: Fixed(Some(180 * 86_400_000)),
        range: |_| 1..=NAME_EXPIRY_MS_CEILING,
        rule: Some("CHAT-ID-11"),
        beyond: "the name is free (--names owned; a name in --owners never is)",
        ..TIME
    };
}

#[cfg(test)]
mod tests;
