//! Oracle: checks every step of the server against the rules. [`model`](super::model)
//! is the room in its simplest form; the oracle adds time, limits and reasons: what may
//! happen when, and why.
//!
//! The world polls one connection at a time, so everything that is published during a
//! poll comes from that connection. A publication is checked against what its client has
//! sent (`published`); what a client receives, against what was published and what it has
//! sent (`received`, `answers`). Once no connection has anything to do, everything that
//! is due must have been done (`quiescent`). Nothing here knows how the server does it.

mod answers;
mod directs;
mod operator;
mod published;
mod quiescent;
mod received;
mod record;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    limits::Limits,
    server::slow_consumer::TICK_MS,
    wire::{self, Capability, ErrorCode, server_envelope::Message},
};

use super::{coverage::Coverage, filter::NaiveFilter, model::Model, sent::Sent};
use directs::Passage;
use record::{ConnectionRecord, Frame, inbound_window};

/// In how much time the connections from one address are counted.
const MINUTE: Duration = Duration::from_millis(60_000);

/// How long it takes at most until the server pings the holder of a requested name:
/// until the next tick, and steps of the clock may fall between two ticks.
const PROBED_WITHIN: Duration = Duration::from_millis(2 * TICK_MS);

/// Everything that was sent, published and received so far.
pub(super) struct Oracle {
    limits: Limits,
    start: Instant,
    model: Model,
    /// When names without a holder were freed.
    freed_at: BTreeMap<String, Instant>,
    /// When connections from each address were accepted.
    arrivals: BTreeMap<u8, Vec<Instant>>,
    /// When each chat was accepted, by its number less 1.
    accepted_at: Vec<Instant>,
    /// The names that the operator has banned, and those that it has muted, in lower case.
    banned: BTreeSet<String>,
    muted: BTreeSet<String>,
    /// How often a connection was polled.
    turn: u64,
    records: Vec<ConnectionRecord>,
    is_aborted: bool,
    pub(super) coverage: Coverage,
}

/// What the world sees of a connection that it polls, its pipe apart.
pub(super) struct Observation {
    /// The connection's future has not ended.
    pub(super) is_alive: bool,
    /// The server read from it before and after the poll.
    pub(super) is_read_from: bool,
    /// The server does not read from it for what it sent itself.
    pub(super) is_throttled: bool,
    /// How many bytes arrived that the server has not judged.
    pub(super) read_buffer_bytes: usize,
    /// The session is over: the server sends what is due, then closes.
    pub(super) is_ended: bool,
    /// How far it was behind the log's present end before the poll, in bytes.
    pub(super) behind_bytes: u64,
    /// How far it is behind now, in bytes.
    pub(super) behind_bytes_after: u64,
    /// How many bytes it appended to the log.
    pub(super) appended_bytes: u64,
}

/// What the world knows when no connection has anything to do.
pub(super) struct Quiescence {
    /// Reading from senders is paused.
    pub(super) is_paused: bool,
    /// When it was paused last.
    pub(super) last_paused: Option<Instant>,
    /// When the server last looked at its deadlines.
    pub(super) last_tick: Instant,
    /// When the clock last jumped. Deadlines of writes count from there.
    pub(super) last_jump: Instant,
}

impl Oracle {
    pub(super) fn new(limits: Limits, start: Instant, coverage: Coverage) -> Self {
        let model = Model::new(&limits);
        Self {
            limits,
            start,
            freed_at: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            accepted_at: Vec::new(),
            banned: BTreeSet::new(),
            muted: BTreeSet::new(),
            turn: 0,
            model,
            records: Vec::new(),
            is_aborted: false,
            coverage,
        }
    }

    /// A connection was accepted or rejected while the server had `accepted` others,
    /// `same_address` of them from its address.
    pub(super) fn connected(
        &mut self,
        accepted: usize,
        address_key: Option<u8>,
        same_address: usize,
        is_rejected: bool,
    ) {
        let now = Instant::now();
        let limits = &self.limits;
        let rejected_with = if self.is_closing() {
            None
        } else if accepted >= limits.connections_max as usize {
            Some(ErrorCode::ServerFull) // CHAT-REG-9
        } else if limits
            .connections_per_address_max
            .is_some_and(|most| same_address >= most as usize)
        {
            Some(ErrorCode::TooManyConnections) // CHAT-REG-11
        } else {
            self.exceeds_address_rate(address_key, is_rejected)
                .then_some(ErrorCode::ConnectingTooFast) // CHAT-REG-12
        };
        let is_accepted = !self.is_closing() && rejected_with.is_none();
        assert_eq!(is_rejected, !is_accepted, "{rejected_with:?}");
        if let Some(address_key) = address_key.filter(|_| is_accepted) {
            self.arrivals.entry(address_key).or_default().push(now);
        }
        self.model.connect();
        self.records
            .push(ConnectionRecord::new(now, is_rejected, rejected_with));
    }

    /// Whether the server must reject another connection from an address, or may and
    /// does. It may once a minute's worth has come in a minute. It must once twice as many
    /// have: a minute's worth at once, and another in the course of the minute.
    fn exceeds_address_rate(&self, address_key: Option<u8>, is_rejected: bool) -> bool {
        let (Some(most), Some(address_key)) = (self.limits.connections_per_minute_max, address_key)
        else {
            return false;
        };
        let within = |time: Duration| {
            let arrivals = self.arrivals.get(&address_key).into_iter().flatten();
            arrivals.filter(|at| at.elapsed() < time).count() as u32
        };
        // The server rounds its intervals up to milliseconds.
        let rounded = MINUTE + Duration::from_millis(u64::from(most) + 2);
        let (may, must) = (within(rounded) >= most, within(MINUTE) >= 2 * most);
        must || may && is_rejected
    }

    /// A connection takes so much memory that the server may evict it, or must
    /// (CHAT-LIM-10).
    pub(super) fn expect_eviction(&mut self, index: usize, may: bool, must: bool) {
        let record = &mut self.records[index];
        record.may_be_evicted |= may;
        record.must_be_evicted |= must;
    }

    /// A client sends a frame of so many bytes.
    pub(super) fn sent(&mut self, by: usize, sent: &Sent, bytes: usize) {
        let record = &mut self.records[by];
        let is_first = record.frames.is_empty();
        if is_first
            && let Sent::Register {
                name,
                capabilities,
                filter,
                ..
            } = sent
        {
            record.name.clone_from(name);
            let asked = capabilities.iter().copied();
            record.granted = asked.filter(|asked| (1..=3).contains(asked)).collect();
            let has_receipts = record.grants(Capability::Receipts);
            for (capability, is_granted) in [
                (Capability::Direct, has_receipts), // CHAT-DM-1
                (Capability::Resume, has_receipts), // CHAT-RES-1
                (Capability::Follow, true),
            ] {
                let capability = i32::from(capability);
                if is_granted && capabilities.contains(&capability) {
                    record.granted.insert(capability);
                }
            }
            let wants_presence = record.grants(Capability::Presence);
            let is_filtered = record.grants(Capability::Follow); // CHAT-FOL-11
            let filter = filter.as_ref().filter(|_| is_filtered);
            let filter = NaiveFilter::of(name, filter);
            self.model.register(by, name, wants_presence, filter);
            record.mutes = match self.muted.contains(&name.to_ascii_lowercase()) {
                true => vec![(0, None)],
                false => Vec::new(),
            };
        }
        record.sent_bytes += bytes as u64;
        record.frames.push(Frame {
            sent: sent.clone(),
            ends_at: record.sent_bytes,
            sent_at: Instant::now(),
            read: None,
            read_in: 0,
            seq_when_read: 0,
            seq: None,
            unix_ms: 0,
            passage: Passage::default(),
            directs_before: record.directs,
        });
        if sent.ends_session(is_first) {
            record.ignored_from = record.ignored_from.min(record.frames.len());
        }
    }

    /// The server begins to close, and says this to all but for when to come back.
    pub(super) fn begin_closing(&mut self, closing: Message) {
        self.model.close(closing);
    }

    /// The grace period of the closing server is over: it drops all connections.
    pub(super) fn abort(&mut self) {
        self.is_aborted = true;
    }

    /// Checks the names that the server holds.
    pub(super) fn check_names(&self, names: &[String]) {
        self.model.check_names(names);
    }

    /// Whether the server closes.
    pub(super) fn is_closing(&self) -> bool {
        self.model.is_closing()
    }

    /// The names that clients have asked for.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.records.iter().map(|record| record.name.clone());
        names.collect()
    }

    /// Whether a client has registered with a capability.
    pub(super) fn grants(&self, of: usize, capability: Capability) -> bool {
        self.records[of].grants(capability)
    }

    /// The chats of a client that were not answered, with an id.
    pub(super) fn unanswered(&self, of: usize) -> Vec<Sent> {
        let record = &self.records[of];
        let frames = record.frames.iter().skip(record.answered_count);
        let chats = frames.filter(|frame| matches!(frame.sent, Sent::Chat { .. }));
        chats.map(|frame| frame.sent.clone()).collect()
    }

    /// The number of the last accepted chat.
    pub(super) fn seq(&self) -> u64 {
        self.model.seq()
    }

    /// Whether the client has sent no frame yet.
    pub(super) fn has_sent_nothing(&self, by: usize) -> bool {
        self.records[by].frames.is_empty()
    }

    /// The bound on frames to a client (CHAT-FRAME-12).
    pub(super) fn frame_bytes_max(&self, to: usize) -> usize {
        match self.records[to].is_registered {
            true => self.limits.frame_bytes_max as usize,
            false => 1_024,
        }
    }

    /// Whether the client can receive nothing more.
    pub(super) fn has_final_message(&self, of: usize) -> bool {
        self.records[of].final_message.is_some() || self.records[of].saw_end
    }
}

/// What a closing server says to all, but for when to come back.
pub(super) fn closing(detail: &str) -> Message {
    Message::ServerClosing(wire::ServerClosing {
        detail: detail.to_owned(),
        retry_after_ms: 0,
    })
}
