//! Connection record: everything that the oracle knows about one connection.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    limits::{FLOOD_WINDOW_MS, Limits},
    wire::{Capability, ErrorCode, LeftReason, server_envelope::Message},
};

use super::{
    super::{
        lines::{Accepted, Claim},
        pipe::Pipe,
        sent::Sent,
    },
    directs::Passage,
};

/// One connection, as the rules see it.
pub(super) struct ConnectionRecord {
    pub(super) connected_at: Instant,
    pub(super) is_rejected: bool,
    /// The error with which the server must reject it. `None` also if the server closes.
    pub(super) rejected_with: Option<ErrorCode>,
    /// The server has ended the session: nothing later can be a reason for it.
    pub(super) is_ended: bool,

    // What the client sent.
    pub(super) frames: Vec<Frame>,
    pub(super) sent_bytes: u64,
    /// How many frames the server has read.
    pub(super) frames_read: usize,
    /// From this frame on the server ignores all, since one before ends the session.
    pub(super) ignored_from: usize,
    pub(super) name: String,
    pub(super) granted: BTreeSet<i32>,

    // Keepalive and name probes.
    /// When the server read the last frame.
    pub(super) last_activity: Instant,
    /// The same before the last poll. A server that reads in pieces may have decided
    /// when it knew no more.
    pub(super) previous_activity: Instant,
    /// When the server last did not read from it. Its silence counts from there.
    pub(super) last_not_read: Instant,
    /// Since when its Register has waited for the probe of the name's holder.
    pub(super) awaiting_name_since: Option<Instant>,
    /// When other clients asked for its name.
    pub(super) name_requests: Vec<Instant>,
    /// The tokens of the pings to it, which are the times of the pings in milliseconds.
    pub(super) ping_tokens: Vec<u64>,
    /// Another member held the name when the server read Register.
    pub(super) is_name_taken: bool,
    /// A later attempt had resumed the line that its Register continues (CHAT-RES-6).
    pub(super) is_outdated: bool,
    /// The operator had banned the name.
    pub(super) is_banned: bool,
    /// When the operator muted the name and lifted that again, counted in turns.
    pub(super) mutes: Vec<(u64, Option<u64>)>,
    /// What was accepted from its line when it joined, by id.
    pub(super) accepted_before: BTreeMap<u64, Accepted>,

    // The inbound rate and memory.
    /// Since when the server has not read from it for what it sent itself.
    pub(super) throttled_since: Option<Instant>,
    /// How many of its bytes the server had judged then.
    pub(super) judged_bytes: u64,
    /// The server may evict it for the memory that it takes.
    pub(super) may_be_evicted: bool,
    /// The server must evict it when it is polled next.
    pub(super) must_be_evicted: bool,

    // The session.
    pub(super) joined_at: Instant,
    pub(super) left_at: Instant,
    /// The reason of its Left.
    pub(super) reason: Option<LeftReason>,
    /// The last activity that counted when it left.
    pub(super) activity_before_end: Instant,
    /// The error with which another connection or the operator has ended its session.
    pub(super) ended_with: Option<ErrorCode>,
    /// It was out of reach when it left.
    pub(super) was_out_of_reach: bool,
    /// The first frame that can be its next accepted chat.
    pub(super) next_chat: usize,
    /// When its chats were accepted.
    pub(super) accepted_at: Vec<Instant>,

    // What the client received.
    /// How many of its frames need no answer any more.
    pub(super) answered_count: usize,
    /// How many Directs it received.
    pub(super) directs: u64,
    /// How many non-fatal errors it received.
    pub(super) error_count: u64,
    pub(super) is_registered: bool,
    /// A Members must come next, or another page of it.
    pub(super) members_due: bool,
    /// The message behind which nothing may come.
    pub(super) final_message: Option<Message>,
    /// It has read the end of the stream.
    pub(super) saw_end: bool,
}

/// One frame that a client sent.
pub(super) struct Frame {
    pub(super) sent: Sent,
    /// Where it ends in everything that the client sends, in bytes.
    pub(super) ends_at: u64,
    /// When the server read it.
    pub(super) read: Option<Instant>,
    /// In which turn that was, and the number of the last chat before.
    pub(super) read_in: u64,
    pub(super) seq_when_read: u64,
    /// The number of an accepted chat.
    pub(super) seq: Option<u64>,
    /// When it was accepted, by the wall clock.
    pub(super) unix_ms: i64,
    /// When it was sent.
    pub(super) sent_at: Instant,
    /// What became of a Direct.
    pub(super) passage: Passage,
    /// How many Directs its client had received before it sent this.
    pub(super) directs_before: u64,
}

impl ConnectionRecord {
    /// The record of a new connection.
    pub(super) fn new(now: Instant, is_rejected: bool, rejected_with: Option<ErrorCode>) -> Self {
        Self {
            connected_at: now,
            is_rejected,
            rejected_with,
            is_ended: false,
            throttled_since: None,
            judged_bytes: 0,
            awaiting_name_since: None,
            name_requests: Vec::new(),
            ping_tokens: Vec::new(),
            error_count: 0,
            may_be_evicted: false,
            must_be_evicted: false,
            frames: Vec::new(),
            sent_bytes: 0,
            frames_read: 0,
            last_activity: now,
            previous_activity: now,
            last_not_read: now,
            ignored_from: usize::MAX,
            is_name_taken: false,
            is_outdated: false,
            is_banned: false,
            mutes: Vec::new(),
            accepted_before: BTreeMap::new(),
            ended_with: None,
            name: String::new(),
            granted: BTreeSet::new(),
            joined_at: now,
            left_at: now,
            activity_before_end: now,
            reason: None,
            was_out_of_reach: false,
            next_chat: 0,
            accepted_at: Vec::new(),
            answered_count: 0,
            directs: 0,
            is_registered: false,
            members_due: false,
            final_message: None,
            saw_end: false,
        }
    }

    /// Whether the server must grant `capability`.
    pub(super) fn grants(&self, capability: Capability) -> bool {
        self.granted.contains(&capability.into())
    }

    /// The line that its Register continues.
    pub(super) fn claim(&self) -> Option<&Claim> {
        match &self.frames.first()?.sent {
            Sent::Register { resume, .. } => resume
                .as_ref()
                .filter(|_| self.grants(Capability::Resume) && self.has_valid_register()),
            _ => None,
        }
    }

    /// How many frames the server has read and must not ignore.
    pub(super) fn counted_frames(&self) -> usize {
        self.frames_read.min(self.ignored_from)
    }

    /// The frame that ends the session, once the server has read it.
    pub(super) fn ending_frame(&self) -> Option<&Sent> {
        let last = self.counted_frames().checked_sub(1)?;
        let sent = &self.frames[last].sent;
        sent.ends_session(last == 0).then_some(sent)
    }

    /// Whether the server has read a Register that it can reject only for a name in use.
    pub(super) fn has_valid_register(&self) -> bool {
        let first = self.frames.first().filter(|_| self.frames_read > 0);
        first.is_some_and(|frame| {
            matches!(
                frame.sent,
                Sent::Register {
                    rejection: None,
                    ..
                }
            )
        })
    }

    /// How many of its frames the server may have answered with a non-fatal error.
    pub(super) fn rejectable_count(&self) -> usize {
        let frames = self.frames[..self.counted_frames()].iter().skip(1);
        frames
            .filter(|frame| match frame.sent {
                Sent::Chat { .. } => frame.seq.is_none(),
                Sent::Ping(_) | Sent::Pong(_) => !self.grants(Capability::Keepalive),
                Sent::DirectAck(_) => !self.grants(Capability::Direct),
                Sent::Direct { .. } => !frame.passage.is_accepted(),
                Sent::Follow { ref rejection, .. } => {
                    rejection.is_some() || !self.grants(Capability::Follow)
                }
                Sent::Register { .. } | Sent::Unknown(_) => true,
                _ => false,
            })
            .count()
    }

    /// Everything that the server has read from it, as the time that the inbound rate
    /// allows for it (CHAT-LIM-9).
    pub(super) fn inbound_cost(&self, pipe: &Pipe, limits: &Limits) -> Duration {
        let cost = |count: u64, per_second: Option<u32>| {
            per_second.map_or(Duration::ZERO, |most| {
                Duration::from_nanos(count * 1_000_000_000 / u64::from(most))
            })
        };
        cost(self.frames_read as u64, limits.frames_per_second_max)
            + cost(pipe.read_bytes, limits.bytes_per_second_max)
    }

    /// Whether it may wait for the answer to its Follow: the server reads nothing behind it.
    pub(super) fn may_await_following(&self) -> bool {
        let frames = self.frames[..self.counted_frames()].iter();
        let mut frames = frames.skip(self.answered_count);
        self.grants(Capability::Follow)
            && frames.any(|frame| matches!(frame.sent, Sent::Follow { .. }))
    }

    /// Whether the operator had muted it at some time since the server read frame `index`.
    pub(super) fn was_muted(&self, index: usize) -> bool {
        let read_in = self.frames[index].read_in;
        let mut mutes = self.mutes.iter();
        mutes.any(|(_, until)| until.is_none_or(|until| until >= read_in))
    }

    /// When the server read the last frame that it surely knew of when the session ended.
    pub(super) fn last_activity_before_end(&self, pipe: &Pipe) -> Instant {
        match pipe.has_short_io {
            true => self.previous_activity,
            false => self.last_activity,
        }
    }

    /// Whether the server has read a frame in part.
    pub(super) fn is_inside_frame(&self, pipe: &Pipe) -> bool {
        let whole = self.frames_read.checked_sub(1);
        pipe.read_bytes > whole.map_or(0, |last| self.frames[last].ends_at)
    }
}

/// How much may arrive at once, as the time that the inbound rate allows for it.
pub(super) fn inbound_window(limits: &Limits) -> Duration {
    let burst_ms = limits.chat_rate().map_or(0, |rate| {
        u64::from(rate.burst) * u64::from(rate.interval_ms)
    });
    Duration::from_millis(burst_ms.max(FLOOD_WINDOW_MS))
}
