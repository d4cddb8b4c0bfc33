//! Judges all that happens. What the room says is judged by the naive room of
//! [`model`](super::model); here stands what may happen when, and for what cause:
//! what a peer has sent, what it is answered, which limits it has reached.
//!
//! The scheduler lets one connection move at a time, so all that is published
//! meanwhile is that connection's doing. What is published is judged by what its
//! peer has sent; what a peer receives, by what was published and by what it sent.
//! Nothing here knows how the server does it.

mod answers;
mod rest;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    limits::{FLOOD_WINDOW_MS, Limits},
    server::slow_consumer::TICK_MS,
    wire::{Capability, ErrorCode, LeftReason, server_envelope::Message},
};

use super::{coverage::Coverage, model::Model, sent::Sent, stream::Wire};

/// How long a closed connection is read from while its peer goes on sending.
const LINGER_MIN: Duration = Duration::from_millis(1_000);

/// In what time the arrivals from one address are counted.
const MINUTE: Duration = Duration::from_millis(60_000);

/// In how much time an error is forgotten, in milliseconds.
const ERROR_FORGOTTEN_MS: u64 = 100;

/// How long it takes until a usage is asked for a sign of life: until time is looked
/// at again, in steps that may fall between two ticks.
const ASKED_WITHIN: Duration = Duration::from_millis(2 * TICK_MS);

/// The room as everybody is to see it.
pub(super) struct Oracle {
    limits: Limits,
    start: Instant,
    model: Model,
    /// When a name that nobody has was freed.
    freed: BTreeMap<String, Instant>,
    /// When connections from an address were let in.
    arrivals: BTreeMap<u8, Vec<Instant>>,
    views: Vec<View>,
    is_at_end: bool,
    pub(super) coverage: Coverage,
}

/// One connection's part in it.
struct View {
    connected: Instant,
    is_turned_away: bool,
    /// Why, if not because the server closes.
    turned_away_for: Option<ErrorCode>,
    /// The server has ended it: what happens later is no cause.
    is_ended: bool,
    /// Since when it has not been read from for what it sent itself.
    held_up: Option<Instant>,
    /// How much of what it sent was judged then, in bytes.
    taken_bytes: u64,
    /// Since when its Register has waited for what a usage says.
    waits: Option<Instant>,
    /// When others asked for its name.
    claims: Vec<Instant>,
    /// The tokens of the pings it got, which tell when they were sent, in milliseconds.
    pings: Vec<u64>,
    /// How many errors that it survived it was told.
    errors: u64,
    /// It may be closed for the memory that it takes; at its next turn, it must.
    may_be_evicted: bool,
    must_be_evicted: bool,
    frames: Vec<Frame>,
    sent_bytes: u64,
    /// How many frames the server has read, and when the last of them.
    frames_read: usize,
    heard: Instant,
    /// The same before it moved: while what has come is read in pieces, it may be
    /// judged by that.
    heard_before: Instant,
    /// When it was not read from the last time: until then it counts as heard.
    unread: Instant,
    /// The first frame after one that ends the session: it counts for nothing.
    void_from: usize,
    /// The name was somebody else's when the server read Register.
    is_name_taken: bool,
    name: String,
    granted: BTreeSet<i32>,
    /// When it came and went, and why it went.
    joined_at: Instant,
    left_at: Instant,
    heard_before_end: Instant,
    reason: Option<LeftReason>,
    was_too_far_behind: bool,
    /// The first frame that can be the next chat in the order.
    next_chat: usize,
    /// When its chats were accepted.
    accepted: Vec<Instant>,

    /// How many of its frames need no answer any more.
    answered: usize,
    is_registered: bool,
    members_are_due: bool,
    last_word: Option<Message>,
    has_end: bool,
}

struct Frame {
    sent: Sent,
    /// The position of its last byte in all that the peer sends.
    ends_at: u64,
    read: Option<Instant>,
    /// Its place in the order, for a chat that was accepted.
    seq: Option<u64>,
    /// When it was, by the clock on the wall.
    unix_ms: i64,
}

/// What the driver knows of one connection besides its stream.
pub(super) struct Look {
    /// Its future has not ended.
    pub(super) is_alive: bool,
    /// It was read from all the time.
    pub(super) is_read_from: bool,
    /// It is not read from, for what it sent itself.
    pub(super) is_throttled: bool,
    /// What came and has not been judged, in bytes.
    pub(super) read_buffer_bytes: usize,
    /// What is due is sent, then it is closed.
    pub(super) is_ended: bool,
    /// How far behind the log, as it is now, it was before it moved, in bytes.
    pub(super) behind_bytes: u64,
    /// How far behind it is now, in bytes.
    pub(super) behind_bytes_after: u64,
    /// How much it has just added to the log, in bytes.
    pub(super) grown_bytes: u64,
}

/// What the driver knows of the room at rest.
pub(super) struct Rest {
    pub(super) is_paused: bool,
    /// When members were not read from the last time.
    pub(super) paused: Option<Instant>,
    /// When deadlines were looked at the last time.
    pub(super) ticked: Instant,
    /// When the machine slept the last time: a deadline counts from then.
    pub(super) slept: Instant,
}

impl View {
    fn grants(&self, capability: Capability) -> bool {
        self.granted.contains(&capability.into())
    }

    /// The frames that the server has read and that count.
    fn frames_that_count(&self) -> usize {
        self.frames_read.min(self.void_from)
    }

    /// The frame that ends the session, if the server has read it.
    fn ending_frame(&self) -> Option<&Sent> {
        let last = self.frames_that_count().checked_sub(1)?;
        let sent = &self.frames[last].sent;
        sent.ends_session(last == 0).then_some(sent)
    }

    /// Whether the server has read a Register that nothing but its name can bar.
    fn asks_to_join(&self) -> bool {
        let first = self.frames.first().filter(|_| self.frames_read > 0);
        first.is_some_and(|frame| matches!(frame.sent, Sent::Register { refusal: None, .. }))
    }

    /// How many of its frames may have been answered with an error that it survived.
    fn refusable(&self) -> usize {
        let frames = self.frames[..self.frames_that_count()].iter().skip(1);
        frames
            .filter(|frame| match frame.sent {
                Sent::Chat { .. } => frame.seq.is_none(),
                Sent::Ping(_) | Sent::Pong(_) => !self.grants(Capability::Keepalive),
                Sent::Register { .. } | Sent::Unknown(_) => true,
                _ => false,
            })
            .count()
    }

    /// All that it has sent and the server has read, as the time in which it would be
    /// forgotten (CHAT-LIM-9).
    fn flood(&self, wire: &Wire, limits: &Limits) -> Duration {
        let worth = |count: u64, per_second: Option<u32>| {
            per_second.map_or(Duration::ZERO, |most| {
                Duration::from_nanos(count * 1_000_000_000 / u64::from(most))
            })
        };
        worth(self.frames_read as u64, limits.frames_per_second_max)
            + worth(wire.read_bytes, limits.bytes_per_second_max)
    }

    /// When the last frame was read that may have been noticed before its end.
    fn heard_before_it_ended(&self, wire: &Wire) -> Instant {
        match wire.is_choppy {
            true => self.heard_before,
            false => self.heard,
        }
    }

    /// Whether the server has read a part of a frame.
    fn is_inside_frame(&self, wire: &Wire) -> bool {
        let whole = self.frames_read.checked_sub(1);
        wire.read_bytes > whole.map_or(0, |last| self.frames[last].ends_at)
    }
}

impl Oracle {
    pub(super) fn new(limits: Limits, start: Instant, coverage: Coverage) -> Self {
        Self {
            limits,
            start,
            freed: BTreeMap::new(),
            arrivals: BTreeMap::new(),
            model: Model::default(),
            views: Vec::new(),
            is_at_end: false,
            coverage,
        }
    }

    /// A connection came, when `alive` were there, `neighbours` of them from the same
    /// address, `source`.
    pub(super) fn connected(
        &mut self,
        alive: usize,
        source: Option<u8>,
        neighbours: usize,
        is_turned_away: bool,
    ) {
        let now = Instant::now();
        let limits = &self.limits;
        let turned_away_for = if self.is_closing() {
            None
        } else if alive >= limits.connections_max as usize {
            Some(ErrorCode::ServerFull) // CHAT-REG-9
        } else if limits
            .connections_per_address_max
            .is_some_and(|most| neighbours >= most as usize)
        {
            Some(ErrorCode::TooManyConnections) // CHAT-REG-11
        } else {
            self.comes_too_fast(source, is_turned_away)
                .then_some(ErrorCode::ConnectingTooFast) // CHAT-REG-12
        };
        let is_wanted = !self.is_closing() && turned_away_for.is_none();
        assert_eq!(is_turned_away, !is_wanted, "{turned_away_for:?}");
        if let Some(source) = source.filter(|_| is_wanted) {
            self.arrivals.entry(source).or_default().push(now);
        }
        self.model.connected();
        self.views.push(View {
            connected: now,
            is_turned_away,
            turned_away_for,
            is_ended: false,
            held_up: None,
            taken_bytes: 0,
            waits: None,
            claims: Vec::new(),
            pings: Vec::new(),
            errors: 0,
            may_be_evicted: false,
            must_be_evicted: false,
            frames: Vec::new(),
            sent_bytes: 0,
            frames_read: 0,
            heard: now,
            heard_before: now,
            unread: now,
            void_from: usize::MAX,
            is_name_taken: false,
            name: String::new(),
            granted: BTreeSet::new(),
            joined_at: now,
            left_at: now,
            heard_before_end: now,
            reason: None,
            was_too_far_behind: false,
            next_chat: 0,
            accepted: Vec::new(),
            answered: 0,
            is_registered: false,
            members_are_due: false,
            last_word: None,
            has_end: false,
        });
    }

    /// Whether so many came from an address of late that the next may, and if so
    /// many more, must be turned away: as many as in a minute come at once, and as
    /// many within the minute. In between the server decides.
    fn comes_too_fast(&self, source: Option<u8>, is_turned_away: bool) -> bool {
        let (Some(most), Some(source)) = (self.limits.connections_per_minute_max, source) else {
            return false;
        };
        let within = |time: Duration| {
            let arrivals = self.arrivals.get(&source).into_iter().flatten();
            arrivals.filter(|at| at.elapsed() < time).count() as u32
        };
        // Intervals are rounded up to milliseconds.
        let rounded = MINUTE + Duration::from_millis(u64::from(most) + 2);
        let (may, must) = (within(rounded) >= most, within(MINUTE) >= 2 * most);
        must || may && is_turned_away
    }

    /// A connection takes so much memory that it may be closed, or must (CHAT-LIM-10).
    pub(super) fn overloaded(&mut self, index: usize, may: bool, must: bool) {
        let view = &mut self.views[index];
        view.may_be_evicted |= may;
        view.must_be_evicted |= must;
    }

    /// A peer puts a frame of so many bytes on its way.
    pub(super) fn sent(&mut self, by: usize, sent: &Sent, bytes: usize) {
        let view = &mut self.views[by];
        let is_first = view.frames.is_empty();
        if let (true, Sent::Register { name, asked, .. }) = (is_first, sent) {
            view.name.clone_from(name);
            let known = 1..=3;
            view.granted = asked
                .iter()
                .copied()
                .filter(|c| known.contains(c))
                .collect();
            let wants_presence = view.grants(Capability::Presence);
            self.model.registers(by, name, wants_presence);
        }
        view.sent_bytes += bytes as u64;
        view.frames.push(Frame {
            sent: sent.clone(),
            ends_at: view.sent_bytes,
            read: None,
            seq: None,
            unix_ms: 0,
        });
        if sent.ends_session(is_first) {
            view.void_from = view.void_from.min(view.frames.len());
        }
    }

    /// A connection has moved and `published` this meanwhile.
    pub(super) fn moved(
        &mut self,
        by: usize,
        wire: &Wire,
        look: &Look,
        published: Vec<Message>,
        unix_ms: i64,
    ) {
        let usage = self.model.owner(&self.views[by].name);
        let usage = usage.filter(|&usage| usage != by);
        let was_unread = self.views[by].frames_read == 0;
        let view = &mut self.views[by];
        let now = Instant::now();
        view.heard_before = view.heard;
        if !look.is_read_from {
            view.unread = now;
        }
        while let Some(frame) = view.frames.get_mut(view.frames_read)
            && frame.ends_at <= wire.read_bytes
        {
            frame.read = Some(now);
            view.frames_read += 1;
            view.heard = now;
        }
        if !view.is_ended && !self.model.has_come(by) && view.frames_read > 0 {
            // Of a Register that waits, what holds when it is answered.
            view.is_name_taken = usage.is_some();
        }
        let asks_for_name =
            was_unread && view.asks_to_join() && !(view.is_turned_away || self.model.is_closing());
        if let Some(usage) = usage.filter(|_| asks_for_name) {
            self.views[by].waits = Some(now);
            self.views[usage].claims.push(now);
        }
        for message in published {
            self.published(by, wire, look, message, unix_ms);
        }
        let view = &self.views[by];
        let register_ms = self.limits.register_deadline_ms.into();
        let may_register = asks_for_name
            && usage.is_none()
            && view.connected.elapsed() < Duration::from_millis(register_ms);
        assert!(
            !may_register || self.model.has_come(by),
            "CHAT-NAME-6: {}",
            view.name
        );
        assert!(
            !(view.must_be_evicted && self.model.is_member(by)),
            "CHAT-LIM-10: {by} holds the most"
        );
        self.judge_holding_up(by, wire, look);
        let view = &mut self.views[by];
        view.is_ended = look.is_ended;
        view.must_be_evicted = false;
        let view = &self.views[by];
        if wire.is_shut_down || !look.is_alive {
            assert!(
                !self.model.is_member(by),
                "CHAT-NAME-5: {} is closed",
                view.name
            );
        }
        let lag = self.limits.lag_bytes_max;
        let behind_bytes = look.behind_bytes_after.saturating_sub(look.grown_bytes);
        assert!(
            !self.model.is_member(by) || behind_bytes <= lag,
            "CHAT-LIM-5"
        );
    }

    /// Judges whether a connection may be held up, and notes since when (CHAT-LIM-6).
    fn judge_holding_up(&mut self, by: usize, wire: &Wire, look: &Look) {
        let view = &mut self.views[by];
        if !look.is_throttled || look.is_ended {
            view.held_up = None;
            return;
        }
        // What was taken meanwhile means that it went on in between.
        let taken_bytes = wire.read_bytes - look.read_buffer_bytes as u64;
        let since = view.held_up.filter(|_| taken_bytes == view.taken_bytes);
        view.held_up = Some(since.unwrap_or_else(Instant::now));
        view.taken_bytes = taken_bytes;
        if !self.model.has_come(by) {
            assert!(view.waits.is_some(), "CHAT-LIM-6: {by} waits for nobody");
            self.coverage.mark("name check");
            return;
        }
        assert!(
            view.flood(wire, &self.limits) > flood_window(&self.limits),
            "CHAT-LIM-6: {by} does not send too much"
        );
        self.coverage.mark("held up");
    }

    fn published(&mut self, by: usize, wire: &Wire, look: &Look, message: Message, unix_ms: i64) {
        let causes = self.causes(by, wire, look);
        let view = &mut self.views[by];
        match &message {
            Message::Joined(joined) => {
                let is_register = view.asks_to_join();
                assert!(is_register, "{} joins without a Register", joined.name);
                view.joined_at = Instant::now();
                self.coverage
                    .mark_if(view.waits.is_some(), "name had after a wait");
            }
            Message::Left(left) => {
                assert!(
                    causes.contains(&left.reason()),
                    "{left:?}, but it was {causes:?}"
                );
                self.coverage.mark(left.reason().as_str_name());
                let is_behind = look.behind_bytes > self.limits.lag_bytes_max;
                self.coverage.mark_if(is_behind, "lag");
                view.was_too_far_behind = is_behind;
                view.left_at = Instant::now();
                view.heard_before_end = view.heard_before_it_ended(wire);
                view.reason = Some(left.reason());
                let name = view.name.to_ascii_lowercase();
                self.freed.insert(name, Instant::now());
            }
            Message::Chat(chat) => {
                assert_eq!(chat.time_unix_ms, unix_ms, "CHAT-CHAT-5");
                assert_eq!(chat.id, 0, "CHAT-CHAT-9");
                // A receipt or refusal given for a later one would bar this.
                let mut later = view.next_chat.max(view.answered)..view.frames_that_count();
                let found = later.find(|&index| {
                    let sent = &view.frames[index].sent;
                    matches!(sent, Sent::Chat { text, refusal: None, .. } if *text == chat.text)
                });
                let Some(index) = found else {
                    panic!("CHAT-ORD-3: not what {} says next: {chat:?}", view.name);
                };
                view.frames[index].seq = Some(chat.seq);
                view.frames[index].unix_ms = unix_ms;
                view.next_chat = index + 1;
                view.accepted.push(Instant::now());
            }
            _ => {}
        }
        self.model.published(by, message);
    }

    /// What may have ended a session just now.
    fn causes(&self, of: usize, wire: &Wire, look: &Look) -> Vec<LeftReason> {
        let view = &self.views[of];
        let limits = &self.limits;
        let mut causes = Vec::new();
        match view.ending_frame() {
            Some(Sent::Leave) => causes.push(LeftReason::Leave),
            Some(_) => causes.push(LeftReason::ProtocolError),
            None => {}
        }
        if wire.end_is_read || wire.break_is_seen {
            causes.push(LeftReason::ConnectionLost);
        }
        if wire.blocked() >= Duration::from_millis(limits.write_deadline_ms.into())
            || look.behind_bytes > limits.lag_bytes_max
            || view.may_be_evicted
        {
            causes.push(LeftReason::SlowConsumer);
        }
        if limits
            .errors_max
            .is_some_and(|most| view.refusable() > most as usize)
        {
            causes.push(LeftReason::ProtocolError);
        }
        let heard = view.heard_before_it_ended(wire);
        let idle = Duration::from_millis(limits.idle_deadline_ms.into());
        // CHAT-NAME-8: somebody asked, and was not answered.
        let check = Duration::from_millis(limits.name_check_deadline_ms.into());
        let is_claimed = view.claims.iter().any(|&claim| {
            heard <= claim + ASKED_WITHIN && claim.elapsed() >= check && heard.elapsed() >= check
        });
        if view.grants(Capability::Keepalive) && (heard.elapsed() >= idle || is_claimed) {
            causes.push(LeftReason::IdleTimeout);
        }
        causes
    }

    /// The server begins to close.
    pub(super) fn closes(&mut self, closing: Message) {
        assert!(matches!(closing, Message::ServerClosing(_)), "CHAT-CLOSE-1");
        self.model.closes(closing);
    }

    /// The grace of the closing server is over: nobody is told anything more.
    pub(super) fn ends_at_once(&mut self) {
        self.is_at_end = true;
    }

    /// A peer has received this.
    pub(super) fn received(&mut self, by: usize, wire: &Wire, message: Message) {
        let view = &self.views[by];
        assert_eq!(
            view.last_word, None,
            "CHAT-ERR-1, CHAT-CLOSE-2: {message:?} comes behind it"
        );
        assert!(!view.has_end, "nothing comes behind the end");
        if let Message::Error(error) = &message {
            self.coverage.mark(error.code().as_str_name());
        }
        if !view.is_registered {
            let may_be_first = match &message {
                Message::Registered(_) => true,
                Message::Error(error) => error.ends_session,
                Message::ServerClosing(_) => self.is_closing(),
                _ => false,
            };
            assert!(may_be_first, "CHAT-REG-3: {message:?} comes first");
        }
        let is_members = matches!(message, Message::Members(_));
        let view = &mut self.views[by];
        if view.members_are_due && self.model.knows_nobody(by) {
            assert!(is_members, "CHAT-PRES-1: {message:?} comes before Members");
        }
        match message {
            Message::Chat(_) | Message::Joined(_) | Message::Left(_) => {
                self.model.hears(by, &message);
            }
            Message::ServerClosing(_) => {
                assert!(self.model.is_closing(), "nobody closes");
                if self.model.has_come(by) {
                    self.model.hears(by, &message);
                }
                view.last_word = Some(message);
            }
            Message::Members(members) => {
                assert!(
                    view.members_are_due,
                    "CHAT-PRES-1: no further Members is due"
                );
                self.model.is_told_of(by, &members.names);
                // All whom the last page would have named may have left meanwhile.
                let has_names = !members.names.is_empty();
                assert!(has_names || !members.more, "a page names somebody");
                view.members_are_due = members.more;
                self.coverage.mark_if(members.more, "members in pages");
            }
            Message::Ping(ping) => {
                assert!(view.grants(Capability::Keepalive), "CHAT-GROW-7");
                view.pings.push(ping.token);
                self.coverage.mark("ping");
            }
            message => self.answered(by, wire, message),
        }
    }

    fn answered(&mut self, by: usize, wire: &Wire, message: Message) {
        let view = &mut self.views[by];
        while view.answered < view.frames_that_count() {
            let index = view.answered;
            if view.is_answer(index, &message, &self.limits) {
                view.answered += 1;
                match message {
                    Message::Registered(registered) => {
                        assert!(self.model.has_come(by), "who has not joined");
                        let seq = self.model.seq_at_coming(by);
                        assert_eq!(registered.seq, seq, "CHAT-ORD-6");
                        view.is_registered = true;
                        view.members_are_due = view.grants(Capability::Presence);
                    }
                    Message::Error(ref error) if error.ends_session => {
                        view.last_word = Some(message);
                    }
                    Message::Error(_) => {
                        view.errors += 1;
                        let forgotten =
                            view.joined_at.elapsed().as_millis() as u64 / ERROR_FORGOTTEN_MS;
                        assert!(
                            self.limits.errors_max.is_none_or(|most| {
                                view.errors <= u64::from(most) + 2 + forgotten
                            }),
                            "{by} may make errors without end"
                        );
                    }
                    _ => {}
                }
                return;
            }
            let is_ending = matches!(&message, Message::Error(error) if error.ends_session);
            if is_ending && !view.may_be_silent(index) {
                // What came is not looked at any more.
                break;
            }
            assert!(
                view.may_be_silent(index),
                "CHAT-ORD-8: {message:?} answers {by}'s {:?}",
                view.frames[index].sent
            );
            view.answered += 1;
        }
        // No answer: the server's own decision.
        let Message::Error(error) = &message else {
            panic!("{by} asked for no {message:?}");
        };
        let view = &self.views[by];
        let elapsed_ms = view.connected.elapsed().as_millis() as u64;
        let is_right = match error.code() {
            ErrorCode::RegisterTimeout => {
                !self.model.has_come(by) && elapsed_ms >= self.limits.register_deadline_ms.into()
            }
            code @ (ErrorCode::ServerFull | ErrorCode::TooManyConnections) => {
                view.turned_away_for == Some(code)
            }
            code @ ErrorCode::ConnectingTooFast => {
                view.turned_away_for == Some(code) && error.retry_after_ms > 0
            }
            ErrorCode::NameReclaimed => self.was_asked_in_vain(view),
            // CHAT-ERR-9
            ErrorCode::TooManyErrors => self
                .limits
                .errors_max
                .is_some_and(|most| view.errors > most.into()),
            ErrorCode::Overloaded => view.may_be_evicted,
            ErrorCode::IdleTimeout => view.reason == Some(LeftReason::IdleTimeout),
            ErrorCode::SlowConsumer => {
                self.coverage
                    .mark_if(view.was_too_far_behind, "told of its lag");
                view.reason == Some(LeftReason::SlowConsumer)
            }
            // CHAT-FRAME-10
            ErrorCode::MalformedFrame => {
                self.coverage.mark("ends inside a frame");
                wire.end_is_read && view.is_inside_frame(wire)
            }
            code => panic!("no cause is known for {code:?}: {error:?}"),
        };
        assert!(is_right, "{by} gave no cause for {error:?}");
        assert!(error.ends_session && error.id == 0, "CHAT-ERR-2: {error:?}");
        self.views[by].last_word = Some(message);
    }

    /// Whether somebody asked for the name, and nothing came after a Ping for that
    /// (CHAT-NAME-8).
    fn was_asked_in_vain(&self, view: &View) -> bool {
        let check = Duration::from_millis(self.limits.name_check_deadline_ms.into());
        view.reason == Some(LeftReason::IdleTimeout)
            && view.pings.iter().any(|&token| {
                let pinged = self.start + Duration::from_millis(token);
                view.claims.iter().any(|&claim| claim <= pinged)
                    && pinged + check <= view.left_at
                    && view.heard_before_end <= pinged
            })
    }

    /// A peer has read to the end of its stream.
    pub(super) fn has_end(&mut self, of: usize, wire: &Wire) {
        let view = &mut self.views[of];
        view.has_end = true;
        if self.is_at_end {
            return;
        }
        // Its last words are not to be destroyed by what it has not read.
        let has_lingered = wire.lingered.is_none_or(|lingered| lingered >= LINGER_MIN);
        assert!(has_lingered || !wire.is_cut_off, "{of} is cut off");
        if wire.is_cut_off {
            return;
        }
        let is_explained = view.last_word.is_some()
            || wire.end_is_read
            || wire.break_is_seen
            || matches!(view.ending_frame(), Some(Sent::Leave))
            // It could not be told.
            || wire.blocked_longest.max(wire.blocked()) > Duration::ZERO;
        assert!(is_explained, "{of} is closed without a word");
    }

    /// Checks names against what the server holds.
    pub(super) fn names(&self, names: &[String]) {
        self.model.check_names(names);
    }

    /// Whether the room has come to its end and everybody knows all there is.
    pub(super) fn is_closing(&self) -> bool {
        self.model.is_closing()
    }

    pub(super) fn has_sent_nothing(&self, link: usize) -> bool {
        self.views[link].frames.is_empty()
    }

    /// The bound on frames to a peer (CHAT-FRAME-12).
    pub(super) fn frame_bytes_max(&self, to: usize) -> usize {
        match self.views[to].is_registered {
            true => self.limits.frame_bytes_max as usize,
            false => 1_024,
        }
    }

    pub(super) fn has_last_word(&self, of: usize) -> bool {
        self.views[of].last_word.is_some() || self.views[of].has_end
    }
}

/// How much may come at once, as the time in which it is forgotten.
fn flood_window(limits: &Limits) -> Duration {
    let burst_ms = limits.chat_rate().map_or(0, |rate| {
        u64::from(rate.burst) * u64::from(rate.interval_ms)
    });
    Duration::from_millis(burst_ms.max(FLOOD_WINDOW_MS))
}
