//! The bounds that a server works within, with their reasons. Most of them are
//! announced to clients in `Registered.limits` (CHAT-LIM-1).

use crate::wire;

/// The longest envelope before a Register is accepted, in bytes, either way
/// (CHAT-FRAME-6, CHAT-FRAME-12). Room for a Register that grows, too little to
/// be worth sending for somebody who never registers.
pub const UNREGISTERED_FRAME_BYTES_MAX: u32 = 1_024;

/// The longest name, in bytes (CHAT-NAME-1).
pub const NAME_BYTES_MAX: usize = 32;

/// What an envelope may take beyond the text it carries, in bytes (CHAT-LIM-7):
/// a Chat's other fields with their largest values take less than 100.
pub const FRAME_OVERHEAD_BYTES_MAX: u32 = 256;

/// The largest value that [`Limits::frame_bytes_max`] can have. A frame must fit
/// into a chunk of the log several times over.
pub const FRAME_BYTES_CEILING: u32 = 65_536;

/// The least value of [`Limits::lag_bytes_max`]: a few chunks of the log, the
/// steps in which it is counted.
pub const LAG_BYTES_FLOOR: u64 = 2 << 20;

/// The longest deadline that can be set, in milliseconds: a day.
pub const DEADLINE_MS_CEILING: u32 = 86_400_000;

/// The most connections that can be asked for: what file descriptors allow on
/// large machines.
pub const CONNECTIONS_CEILING: u32 = 1_000_000;

/// The most new connections a minute from one address that can be asked for: one a
/// millisecond.
pub const CONNECTIONS_PER_MINUTE_CEILING: u32 = 60_000;

/// The most chats a member may send at once that can be asked for.
pub const CHAT_BURST_CEILING: u32 = 1_000_000;

/// How much of a flood of frames or bytes is taken at once: as much as in this time,
/// in milliseconds. The default burst of chats takes as long.
pub const FLOOD_WINDOW_MS: u64 = 10_000;

/// What a connection takes beside what waits for it, in bytes: its task, its seat, its
/// place in the tables, with room to spare.
const CONNECTION_BYTES: u64 = 2_048;

/// How many frames a member may send for each chat that it may, where nothing else
/// is asked for: pings and pongs, and what is refused for its rate and sent again.
const FRAMES_PER_CHAT: u32 = 20;

/// How many times the longest frame a member may send for each chat that it may.
const LONGEST_FRAMES_PER_CHAT: u32 = 4;

/// How many times its rate of chats a member can send in any case (CHAT-LIM-2).
const FLOOD_FACTOR_MIN: u64 = 2;

/// The least number of errors after which a session is ended, where nothing else is
/// asked for: minutes of mistakes by hand, a second of a client that went mad.
const ERRORS_MAX_MIN: u32 = 3_000;

/// How many refusals for the rate a member may provoke for each chat of its burst:
/// whoever tries the limits tries them a few times.
const ERRORS_PER_CHAT: u32 = 30;

/// How fast a member may chat: `burst` at once, then one every `interval_ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Chats at once, from 1.
    pub burst: u32,
    /// Milliseconds for one more, from 1.
    pub interval_ms: u32,
}

/// The bounds of one server. [`Limits::default`] suits a room of people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at a time, registered or not (CHAT-REG-9).
    pub connections_max: u32,
    /// Connections at a time from one network address, or `None` for as many as it
    /// likes (CHAT-REG-11).
    pub connections_per_address_max: Option<u32>,
    /// New connections a minute from one network address, and so many at once; or
    /// `None` for as many as it likes (CHAT-REG-12).
    pub connections_per_minute_max: Option<u32>,
    /// Whether connections from the machine itself count as those of any other
    /// address.
    pub is_loopback_limited: bool,
    /// The longest envelope of a member, in bytes (CHAT-FRAME-6).
    pub frame_bytes_max: u32,
    /// The longest text, in bytes of UTF-8 (CHAT-CHAT-7).
    pub text_bytes_max: u32,
    /// How fast a member may chat, or `None` for as fast as it likes
    /// (CHAT-LIM-2).
    pub chat_rate: Option<Rate>,
    /// Frames a second that are taken from a member, whatever they hold, or `None`
    /// for all that come (CHAT-LIM-9). [`Limits::flood_for`] suits a rate.
    pub frames_per_second_max: Option<u32>,
    /// Bytes a second that are taken from a member, or `None` for all that come
    /// (CHAT-LIM-9).
    pub bytes_per_second_max: Option<u32>,
    /// Errors that a session survives, at once, before one ends it; ten a second are
    /// forgotten. Or `None` for any number (CHAT-ERR-8). [`Limits::errors_for`] suits
    /// a rate.
    pub errors_max: Option<u32>,
    /// Time to register, in milliseconds (CHAT-REG-5).
    pub register_deadline_ms: u32,
    /// Time in which the holder of a name must give a sign of life when somebody else
    /// asks for the name, in milliseconds (CHAT-NAME-7).
    pub name_check_deadline_ms: u32,
    /// Silence before a ping, in milliseconds (CHAT-KEEP-3).
    pub keepalive_interval_ms: u32,
    /// Silence that ends a session with keepalive, in milliseconds (CHAT-KEEP-4).
    pub idle_deadline_ms: u32,
    /// Time in which a client must take something of what is due to it, in
    /// milliseconds (CHAT-LIM-5).
    pub write_deadline_ms: u32,
    /// How far a member may fall behind the log, in bytes; so also what the log
    /// retains (CHAT-LIM-5).
    pub lag_bytes_max: u64,
    /// What waits in all queues together may take, in bytes: the log that is retained,
    /// replies that are not sent and frames that are not whole (CHAT-LIM-10). At least
    /// `lag_bytes_max`.
    pub queue_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        // A person who pastes a hundred lines is not refused, and ten lines
        // a second is more than people read.
        let chat_rate = Some(Rate {
            burst: 100,
            interval_ms: 100,
        });
        let frame_bytes_max = 8_192;
        let (frames_per_second_max, bytes_per_second_max) =
            Self::flood_for(chat_rate, frame_bytes_max);
        Self {
            connections_max: 10_000,
            // A class or an office behind one address, twice over; and not enough
            // of one address to fill the server.
            connections_per_address_max: Some(64),
            // All of them again at once when their network comes back, with one
            // failure each; after that two a second.
            connections_per_minute_max: Some(120),
            is_loopback_limited: false,
            frame_bytes_max,
            text_bytes_max: 4_096,
            chat_rate,
            frames_per_second_max,
            bytes_per_second_max,
            errors_max: Some(Self::errors_for(chat_rate)),
            register_deadline_ms: 10_000,
            // Longer than a phone takes to wake up its network; the newcomer and
            // its register deadline have to bear it.
            name_check_deadline_ms: 5_000,
            // Less than the minute or two after which routers forget a silent
            // connection; three pings before a session is given up.
            keepalive_interval_ms: 30_000,
            idle_deadline_ms: 90_000,
            write_deadline_ms: 10_000,
            lag_bytes_max: 64 << 20,
            // The log, and three thousand others who hold all that they can.
            queue_bytes_max: 256 << 20,
        }
    }
}

impl Limits {
    /// The frames and bytes a second that suit a rate of chats: none without one,
    /// and otherwise far more than a client needs that keeps to it.
    pub fn flood_for(rate: Option<Rate>, frame_bytes_max: u32) -> (Option<u32>, Option<u32>) {
        let per_second = |count: u32| {
            rate.map(|rate| {
                let per_second = u64::from(count) * 1_000 / u64::from(rate.interval_ms.max(1));
                u32::try_from(per_second).unwrap_or(u32::MAX).max(1)
            })
        };
        (
            per_second(FRAMES_PER_CHAT),
            per_second(LONGEST_FRAMES_PER_CHAT.saturating_mul(frame_bytes_max)),
        )
    }

    /// The number of errors that suits a rate of chats.
    pub fn errors_for(rate: Option<Rate>) -> u32 {
        let burst = rate.map_or(0, |rate| rate.burst);
        burst.saturating_mul(ERRORS_PER_CHAT).max(ERRORS_MAX_MIN)
    }

    /// What a server holds for its clients at the most, in bytes: all queues and all
    /// connections. The queues are looked at every tenth of a second and may be larger
    /// in between, by what comes in that time; the program itself and what the system
    /// keeps for its sockets come on top.
    pub fn memory_bytes_max(&self) -> u64 {
        let connections_bytes = u64::from(self.connections_max) * CONNECTION_BYTES;
        self.queue_bytes_max.saturating_add(connections_bytes)
    }

    /// Checks that the bounds fit together.
    ///
    /// # Errors
    ///
    /// A sentence that says which bound is wrong and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        in_range(
            "the number of connections",
            self.connections_max,
            1,
            CONNECTIONS_CEILING,
        )?;
        if let Some(connections_max) = self.connections_per_address_max {
            in_range(
                "the number of connections from one address",
                connections_max,
                1,
                CONNECTIONS_CEILING,
            )?;
        }
        if let Some(connections_max) = self.connections_per_minute_max {
            in_range(
                "the number of new connections a minute from one address",
                connections_max,
                1,
                CONNECTIONS_PER_MINUTE_CEILING,
            )?;
        }
        in_range(
            "the longest frame",
            self.frame_bytes_max,
            1 + FRAME_OVERHEAD_BYTES_MAX,
            FRAME_BYTES_CEILING,
        )?;
        in_range(
            "the longest text",
            self.text_bytes_max,
            1,
            // CHAT-LIM-7
            self.frame_bytes_max - FRAME_OVERHEAD_BYTES_MAX,
        )
        .map_err(|sentence| {
            format!(
                "{sentence}: a frame is at least {FRAME_OVERHEAD_BYTES_MAX} longer than its text"
            )
        })?;
        if let Some(rate) = self.chat_rate {
            in_range("the burst of chats", rate.burst, 1, CHAT_BURST_CEILING)?;
            in_range(
                "the interval of chats",
                rate.interval_ms,
                1,
                DEADLINE_MS_CEILING,
            )?;
        }
        self.check_flood()?;
        if self.errors_max == Some(0) {
            return Err("the number of errors must be at least 1, not 0".to_owned());
        }
        for (what, deadline_ms) in [
            ("the register deadline", self.register_deadline_ms),
            ("the name check deadline", self.name_check_deadline_ms),
            ("the idle deadline", self.idle_deadline_ms),
            ("the write deadline", self.write_deadline_ms),
        ] {
            in_range(what, deadline_ms, 1, DEADLINE_MS_CEILING)?;
        }
        if !(1..self.idle_deadline_ms).contains(&self.keepalive_interval_ms) {
            return Err(format!(
                "the keepalive interval must be at least 1 ms and less than the idle deadline of {} ms, not {} ms",
                self.idle_deadline_ms, self.keepalive_interval_ms
            ));
        }
        if self.lag_bytes_max < LAG_BYTES_FLOOR {
            return Err(format!(
                "the retained log must be at least {LAG_BYTES_FLOOR} bytes, not {}",
                self.lag_bytes_max
            ));
        }
        if self.queue_bytes_max < self.lag_bytes_max {
            return Err(format!(
                "the memory of all queues must be at least that of the retained log, {} bytes, not {}",
                self.lag_bytes_max, self.queue_bytes_max
            ));
        }
        Ok(())
    }

    /// Whoever keeps to the rate of chats must not be held up.
    fn check_flood(&self) -> Result<(), String> {
        let interval_ms = self.chat_rate.map(|rate| u64::from(rate.interval_ms));
        for (what, per_second, per_chat) in [
            ("frames", self.frames_per_second_max, 1),
            ("bytes", self.bytes_per_second_max, self.frame_bytes_max),
        ] {
            let least = interval_ms.map_or(1, |interval_ms| {
                (FLOOD_FACTOR_MIN * u64::from(per_chat) * 1_000).div_ceil(interval_ms)
            });
            if let Some(per_second) = per_second
                && u64::from(per_second) < least
            {
                return Err(format!(
                    "the {what} a second must be at least {least}, twice what the rate of messages allows, not {per_second}"
                ));
            }
        }
        Ok(())
    }

    /// The bounds as they are announced (CHAT-LIM-1).
    pub fn announced(&self) -> wire::Limits {
        wire::Limits {
            frame_bytes_max: self.frame_bytes_max,
            text_bytes_max: self.text_bytes_max,
            name_bytes_max: NAME_BYTES_MAX as u32,
            chat_burst: self.chat_rate.map_or(0, |rate| rate.burst),
            chat_interval_ms: self.chat_rate.map_or(0, |rate| rate.interval_ms),
            register_deadline_ms: self.register_deadline_ms,
            keepalive_interval_ms: self.keepalive_interval_ms,
            idle_deadline_ms: self.idle_deadline_ms,
            write_deadline_ms: self.write_deadline_ms,
            lag_bytes_max: self.lag_bytes_max,
            frames_per_second_max: self.frames_per_second_max.unwrap_or(0),
            bytes_per_second_max: self.bytes_per_second_max.unwrap_or(0),
            name_check_deadline_ms: self.name_check_deadline_ms,
            errors_max: self.errors_max.unwrap_or(0),
        }
    }
}

fn in_range(what: &str, value: u32, least: u32, most: u32) -> Result<(), String> {
    if (least..=most).contains(&value) {
        Ok(())
    } else {
        Err(format!(
            "{what} must be between {least} and {most}, not {value}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_fit_together() {
        assert_eq!(Limits::default().check(), Ok(()));
    }

    #[test]
    fn the_sum_of_the_bounds() {
        let limits = Limits::default();
        assert_eq!(limits.memory_bytes_max(), (256 << 20) + 10_000 * 2_048);
    }

    #[test]
    fn what_does_not_fit_is_refused_with_what_would() {
        let refused = |change: fn(&mut Limits)| {
            let mut limits = Limits::default();
            change(&mut limits);
            limits.check().expect_err("should be refused")
        };
        insta::assert_snapshot!(
            [
                refused(|l| l.connections_max = 0),
                refused(|l| l.connections_per_address_max = Some(0)),
                refused(|l| l.connections_per_minute_max = Some(60_001)),
                refused(|l| l.frame_bytes_max = 256),
                refused(|l| l.frame_bytes_max = 65_537),
                refused(|l| l.text_bytes_max = 0),
                refused(|l| l.text_bytes_max = 7_937),
                refused(|l| l.chat_rate = Some(Rate { burst: 0, interval_ms: 1 })),
                refused(|l| l.chat_rate = Some(Rate { burst: 1, interval_ms: 0 })),
                refused(|l| l.frames_per_second_max = Some(19)),
                refused(|l| l.bytes_per_second_max = Some(163_839)),
                refused(|l| l.errors_max = Some(0)),
                refused(|l| l.register_deadline_ms = 0),
                refused(|l| l.name_check_deadline_ms = 0),
                refused(|l| l.idle_deadline_ms = 86_400_001),
                refused(|l| l.keepalive_interval_ms = 90_000),
                refused(|l| l.write_deadline_ms = 0),
                refused(|l| l.lag_bytes_max = 1_000),
                refused(|l| l.queue_bytes_max = 67_108_863),
            ]
            .join("\n"),
            @r"
        the number of connections must be between 1 and 1000000, not 0
        the number of connections from one address must be between 1 and 1000000, not 0
        the number of new connections a minute from one address must be between 1 and 60000, not 60001
        the longest frame must be between 257 and 65536, not 256
        the longest frame must be between 257 and 65536, not 65537
        the longest text must be between 1 and 7936, not 0: a frame is at least 256 longer than its text
        the longest text must be between 1 and 7936, not 7937: a frame is at least 256 longer than its text
        the burst of chats must be between 1 and 1000000, not 0
        the interval of chats must be between 1 and 86400000, not 0
        the frames a second must be at least 20, twice what the rate of messages allows, not 19
        the bytes a second must be at least 163840, twice what the rate of messages allows, not 163839
        the number of errors must be at least 1, not 0
        the register deadline must be between 1 and 86400000, not 0
        the name check deadline must be between 1 and 86400000, not 0
        the idle deadline must be between 1 and 86400000, not 86400001
        the keepalive interval must be at least 1 ms and less than the idle deadline of 90000 ms, not 90000 ms
        the write deadline must be between 1 and 86400000, not 0
        the retained log must be at least 2097152 bytes, not 1000
        the memory of all queues must be at least that of the retained log, 67108864 bytes, not 67108863
        "
        );
    }
}
