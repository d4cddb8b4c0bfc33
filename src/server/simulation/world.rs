//! The room, its connections and their peers, in a time of their own. Nothing in
//! it moves by itself: the schedule says who is next.

use std::{
    cell::{Cell, RefCell},
    net::IpAddr,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use fastrand::Rng;
use prost::Message as _;
use tokio::time::Instant;

use crate::{
    limits::Limits,
    log::Reader,
    room::Room,
    server::{
        CLOSING_GRACE_MS,
        connection::Connection,
        hub::Hub,
        reply_buffer::{REPLIES_PAUSE_BYTES, buffered_bytes_max},
        slow_consumer::TICK_MS,
    },
    session::AccessPolicy,
    wire::{ServerEnvelope, server_envelope::Message},
};

use super::{
    coverage::Coverage,
    oracle::{Look, Oracle, Rest},
    sent::Sent,
    stream::{FNV_START, ServerEnd, Wire, hash},
    trace::Trace,
};

/// How many connections may move before all must have come to rest: more than the
/// longest of the schedules needs.
const MOVES_UNTIL_REST_MAX: usize = 200_000;

/// A piece of the log in memory, in bytes (src/log/segment.rs).
const SEGMENT_BYTES: u64 = 512 * 1024;

/// What one read takes in, in bytes (src/server/connection.rs).
const READ_BYTES: usize = 64 * 1024;

thread_local! {
    /// What the clock on the wall shows.
    static WALL_MS: Cell<i64> = const { Cell::new(0) };
}

fn wall_ms() -> i64 {
    WALL_MS.get()
}

pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) trace: Trace,
    pub(super) links: Vec<Link>,
    pub(super) oracle: Oracle,
    hub: Arc<Hub>,
    limits: Limits,
    /// Reads all that is published.
    tap: Reader,
    /// A hash of what the room has published, to the byte.
    published_hash: u64,
    start: Instant,
    ticked: Instant,
    slept: Instant,
    paused: Option<Instant>,
    closing: Option<Instant>,
    is_aborted: bool,
    /// How much the log grew since each connection has had its turn, in bytes.
    grown_bytes: u64,
}

/// A connection, its stream, and the peer at the other end.
pub(super) struct Link {
    /// Until it is gone.
    connection: Option<Connection<ServerEnd>>,
    alarm: Arc<Alarm>,
    waker: Waker,
    pub(super) wire: Rc<RefCell<Wire>>,
    pub(super) manner: Manner,
    unparsed: Vec<u8>,
    is_turned_away: bool,
    /// The address it counts for.
    source: Option<u8>,
    pub(super) chats: u64,
    pub(super) has_left: bool,
}

/// What a peer is like.
#[derive(Debug, Clone)]
pub(super) struct Manner {
    /// It reads whatever comes, at once.
    pub(super) is_reading: bool,
    /// What it sends arrives at once.
    pub(super) is_prompt: bool,
    /// It answers pings.
    pub(super) answers: bool,
    /// It closes when it has reason to.
    pub(super) closes: bool,
}

/// A waker that sets a flag, for the schedule to look at.
struct Alarm(AtomicBool);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Link {
    pub(super) fn is_alive(&self) -> bool {
        self.connection.is_some()
    }

    /// Whether its peer can still do something.
    pub(super) fn is_usable(&self) -> bool {
        let wire = self.wire.borrow();
        !(wire.is_reset || wire.is_deserted || self.has_left)
    }

    fn is_woken(&self) -> bool {
        self.is_alive() && self.alarm.0.load(Ordering::Relaxed)
    }
}

impl World {
    pub(super) fn new(limits: Limits, access: AccessPolicy, rng: Rng, trace: Trace) -> Self {
        WALL_MS.set(1_700_000_000_000);
        let hub = Hub::with_wall_clock(limits.clone(), access, "epoch".to_owned(), wall_ms);
        let now = Instant::now();
        Self {
            rng,
            trace,
            links: Vec::new(),
            oracle: Oracle::new(limits.clone(), now, Coverage::default()),
            tap: hub.follow(),
            published_hash: FNV_START,
            hub: Arc::new(hub),
            limits,
            start: now,
            ticked: now,
            slept: now,
            paused: None,
            closing: None,
            is_aborted: false,
            grown_bytes: 0,
        }
    }

    fn note(&self, line: std::fmt::Arguments<'_>) {
        let now_ms = self.start.elapsed().as_millis();
        self.trace.line(format_args!("{now_ms:>7} {line}"));
    }

    pub(super) fn alive(&self) -> usize {
        self.links.iter().filter(|link| link.is_alive()).count()
    }

    /// Those that were turned away take no place, and end with the process at last.
    fn admitted(&self) -> usize {
        let alive = self.links.iter().filter(|link| link.is_alive());
        alive.filter(|link| !link.is_turned_away).count()
    }

    pub(super) fn connect(
        &mut self,
        manner: Manner,
        capacity_bytes: usize,
        is_choppy: bool,
        (address, source): (IpAddr, Option<u8>),
    ) -> usize {
        let index = self.links.len();
        let wire = Wire::new(capacity_bytes, is_choppy, self.rng.fork());
        let wire = Rc::new(RefCell::new(wire));
        let admitted = self.admitted();
        let from_there = self
            .links
            .iter()
            .filter(|link| link.is_alive() && !link.is_turned_away && link.source == source);
        let neighbours = source.map_or(0, |_| from_there.count());
        let hub = Arc::clone(&self.hub);
        let member = hub.connect(Some(address));
        let connection = Connection::new(ServerEnd(Rc::clone(&wire)), hub, member);
        let is_turned_away = connection.is_rejected();
        self.note(format_args!(
            "{index} connects from {address}, {manner:?}, takes {capacity_bytes} bytes, turned away: {is_turned_away}"
        ));
        self.oracle
            .connected(admitted, source, neighbours, is_turned_away);
        let alarm = Arc::new(Alarm(AtomicBool::new(true)));
        self.links.push(Link {
            connection: Some(connection),
            waker: Waker::from(Arc::clone(&alarm)),
            alarm,
            wire,
            manner,
            unparsed: Vec::new(),
            is_turned_away,
            source,
            chats: 0,
            has_left: false,
        });
        index
    }

    /// The peer `by` sends something.
    pub(super) fn send(&mut self, by: usize, sent: &Sent) {
        let bytes = sent.bytes(&mut self.rng);
        self.note(format_args!(
            "{by} sends {sent:.60?}, {} bytes",
            bytes.len()
        ));
        let link = &mut self.links[by];
        let mut wire = link.wire.borrow_mut();
        if wire.is_half_closed || wire.is_reset {
            return;
        }
        self.oracle.sent(by, sent, bytes.len());
        wire.send(&bytes);
        if link.manner.is_prompt {
            wire.deliver(usize::MAX / 2);
        }
    }

    /// Part of what `by` has sent arrives.
    pub(super) fn deliver(&mut self, by: usize, bytes: usize) {
        self.note(format_args!("{bytes} bytes of {by} arrive"));
        self.links[by].wire.borrow_mut().deliver(bytes);
    }

    /// The peer `by` reads up to `bytes_max` and does what it does then.
    pub(super) fn read(&mut self, by: usize, bytes_max: usize) {
        let link = &mut self.links[by];
        if link.has_left {
            return;
        }
        let bytes = link.wire.borrow_mut().take(bytes_max);
        if !bytes.is_empty() {
            self.trace.line(format_args!(
                "        {by} reads {} bytes, hash {:016x}",
                bytes.len(),
                hash(FNV_START, &bytes)
            ));
        }
        link.unparsed.extend_from_slice(&bytes);
        let mut unparsed = std::mem::take(&mut link.unparsed);
        let mut from = 0;
        while let Some((body, used)) = first_frame(&unparsed[from..]) {
            assert!(
                body.len() <= self.oracle.frame_bytes_max(by),
                "CHAT-FRAME-12"
            );
            let envelope = ServerEnvelope::decode(body).expect("CHAT-FRAME-1");
            let message = envelope.message.expect("a server has something to say");
            from += used;
            self.trace
                .line(format_args!("        {by} hears {message:.100?}"));
            let ping = match &message {
                Message::Ping(ping) => Some(ping.token),
                _ => None,
            };
            let wire = Rc::clone(&self.links[by].wire);
            self.oracle.received(by, &wire.borrow(), message);
            if let Some(token) = ping.filter(|_| self.links[by].manner.answers) {
                self.send(by, &Sent::Pong(token));
            }
        }
        unparsed.drain(..from);
        let wire = Rc::clone(&self.links[by].wire);
        let wire_is_at_end = {
            let wire = wire.borrow();
            (wire.is_shut_down || wire.is_dropped) && wire.to_peer.is_empty() && !wire.is_deserted
        };
        if wire_is_at_end && !wire.borrow().is_reset {
            let wire = wire.borrow();
            let may_be_cut = wire.is_cut_off || wire.is_dropped && !wire.is_shut_down;
            assert!(
                unparsed.is_empty() || may_be_cut,
                "the stream ends inside a frame"
            );
            self.oracle.has_end(by, &wire);
        }
        let link = &mut self.links[by];
        link.unparsed = unparsed;
        if wire_is_at_end && link.manner.closes {
            // CHAT-CLOSE-4, CHAT-ERR-7
            link.has_left = true;
            wire.borrow_mut().half_close();
            wire.borrow_mut().deliver(usize::MAX / 2);
            self.note(format_args!("{by} closes, since the server has"));
        }
    }

    /// Lets one connection move.
    pub(super) fn advance(&mut self, index: usize) {
        let link = &mut self.links[index];
        let Some(connection) = &mut link.connection else {
            return;
        };
        link.alarm.0.store(false, Ordering::Relaxed);
        let log_end_before = self.hub.channel.committed_end();
        let position = connection.position();
        let was_read_from = connection.may_read();
        let was_paused = self.hub.channel.is_paused();
        let cx = &mut Context::from_waker(&link.waker);
        let is_over = Pin::new(&mut *connection).poll(cx) == Poll::Ready(());
        let (read_buffer_bytes, reply_bytes) = connection.memory_bytes();
        let position_after = connection.position();
        let is_read_from = was_read_from && connection.may_read();
        let (is_throttled, is_ended) = connection.is_throttled_or_ended();
        let is_woken = link.is_woken();
        if is_over {
            link.connection = None;
        }
        let wire = Rc::clone(&link.wire);
        let wire = wire.borrow();
        self.trace.line(format_args!(
            "        {index} moves: has read {}, written {} ({:016x}), holds {read_buffer_bytes} and {reply_bytes}{}",
            wire.read_bytes,
            wire.written_bytes,
            wire.written_hash,
            if is_over { ", is gone" } else { "" }
        ));
        let published = self.published();
        let end = self.hub.channel.committed_end();
        let look = Look {
            is_alive: !is_over,
            is_read_from,
            is_throttled,
            read_buffer_bytes,
            is_ended,
            behind_bytes: position.map_or(0, |position| end.saturating_sub(position)),
            behind_bytes_after: position_after.map_or(0, |position| end.saturating_sub(position)),
            grown_bytes: end - log_end_before,
        };
        self.oracle.moved(index, &wire, &look, published, wall_ms());
        self.oracle.names(&self.hub.names());

        // Memory stays within what the limits add up to.
        self.grown_bytes += end - log_end_before;
        let frame_bytes_max = self.limits.frame_bytes_max as usize;
        assert!(
            read_buffer_bytes <= READ_BYTES + frame_bytes_max.max(1_024) + 10,
            "a read buffer of {read_buffer_bytes} bytes"
        );
        assert!(
            !is_ended || read_buffer_bytes == 0 || is_woken,
            "{read_buffer_bytes} bytes that nobody will judge"
        );
        assert!(
            reply_bytes <= buffered_bytes_max(self.limits.frame_bytes_max),
            "replies of {reply_bytes} bytes"
        );
        let retained = self.hub.channel.retained_bytes();
        let retained_max = self.limits.lag_bytes_max + self.grown_bytes + 3 * SEGMENT_BYTES;
        assert!(retained <= retained_max, "a log of {retained} bytes");
        if self.hub.channel.is_paused() && !was_paused {
            // As far behind as the room waits for, and no less (CHAT-LIM-6). Whoever
            // just moved may have been it, and gone since.
            let positions = self.positions().chain(position);
            let most = positions.map(|position| end - position).max();
            let paced_by_bytes = self.hub.channel.paced_by_bytes();
            let behind_bytes = paced_by_bytes.unwrap_or(self.limits.lag_bytes_max / 4);
            assert!(most >= Some(behind_bytes), "the room waits for nobody");
        }
        let coverage = &mut self.oracle.coverage;
        coverage.mark_if(reply_bytes >= REPLIES_PAUSE_BYTES, "replies full");
        coverage.mark_if(read_buffer_bytes > 2 * frame_bytes_max, "backlog");
        coverage.mark_if(
            end / SEGMENT_BYTES > log_end_before / SEGMENT_BYTES,
            "segment boundary",
        );
        if self.hub.channel.is_paused() {
            self.paused = Some(Instant::now());
            coverage.mark("room paused");
            coverage.mark_if(self.hub.channel.paced_by_bytes().is_some(), "room paced");
        }
    }

    /// All that was published since this was asked last.
    fn published(&mut self) -> Vec<Message> {
        let mut published = Vec::new();
        loop {
            let mut ahead = self.tap.unsent().bytes;
            let bytes = ahead.len();
            if bytes == 0 {
                return published;
            }
            while let Some((body, used)) = first_frame(ahead) {
                let envelope = ServerEnvelope::decode(body).expect("the log holds envelopes");
                let message = envelope.message.expect("with messages");
                self.trace
                    .line(format_args!("        published: {message:.100?}"));
                if !matches!(message, Message::ServerClosing(_)) {
                    self.published_hash = hash(self.published_hash, body);
                }
                published.push(message);
                ahead = &ahead[used..];
            }
            assert!(ahead.is_empty(), "the log holds whole frames");
            self.tap.advance(bytes);
        }
    }

    /// Lets one of those move that have something to do.
    pub(super) fn advance_one(&mut self) {
        let woken: Vec<_> = self.woken();
        if let Some(index) = self.rng.choice(woken) {
            self.advance(index);
        }
    }

    fn woken(&self) -> Vec<usize> {
        (0..self.links.len())
            .filter(|&index| self.links[index].is_woken())
            .collect()
    }

    /// Lets everybody move once that has something to do, in any order.
    pub(super) fn round(&mut self) -> usize {
        let mut woken = self.woken();
        self.rng.shuffle(&mut woken);
        for &index in &woken {
            self.advance(index);
        }
        // Whoever was behind has had its turn.
        self.grown_bytes = self.grown_bytes.min(self.limits.lag_bytes_max);
        woken.len()
    }

    /// Lets everybody move until nobody has anything to do, and checks the room.
    pub(super) fn settle(&mut self) {
        let mut moves = 0;
        loop {
            moves += self.round();
            assert!(
                moves < MOVES_UNTIL_REST_MAX,
                "the room does not come to rest"
            );
            for index in 0..self.links.len() {
                let link = &self.links[index];
                if link.manner.is_reading && !self.is_done(index) {
                    self.read(index, usize::MAX);
                }
            }
            if self.woken().is_empty() {
                break;
            }
        }
        self.grown_bytes = 0;
        self.check_memory();
        assert!(!self.is_aborted || self.admitted() == 0, "CHAT-CLOSE-3");
        let is_paused = self.hub.channel.is_paused();
        let rest = Rest {
            is_paused,
            paused: self.paused,
            ticked: self.ticked,
            slept: self.slept,
        };
        for (index, link) in self.links.iter().enumerate() {
            if link.is_alive() || !self.is_done(index) {
                let is_reading = link.manner.is_reading && link.is_usable();
                self.oracle.at_rest(
                    index,
                    &link.wire.borrow(),
                    is_reading,
                    link.is_alive(),
                    &rest,
                );
            }
        }
    }

    /// Where in the log those are to whom something may still be due.
    fn positions(&self) -> impl Iterator<Item = u64> {
        let links = self.links.iter();
        let senders = links.filter(|link| !link.wire.borrow().is_shut_down);
        senders.filter_map(|link| link.connection.as_ref()?.position())
    }

    /// Memory is kept for those alone to whom something is due.
    fn check_memory(&self) {
        let end = self.hub.channel.committed_end();
        let due_bytes = end - self.positions().min().unwrap_or(end);
        let retained = self.hub.channel.retained_bytes();
        // In whole segments, each filled until a frame did not fit, and those at both ends
        // of what is due only in part.
        let filled_bytes_min = SEGMENT_BYTES - u64::from(self.limits.frame_bytes_max) - 10;
        let segments_max = due_bytes / filled_bytes_min + 2;
        assert!(
            retained <= segments_max * SEGMENT_BYTES,
            "a log of {retained} bytes for {due_bytes}"
        );
        let admitted = self.links.iter().filter(|link| !link.is_turned_away);
        let buffered_bytes: usize = admitted
            .filter_map(|link| link.connection.as_ref())
            .map(|connection| connection.memory_bytes())
            .map(|(read_buffer_bytes, reply_bytes)| read_buffer_bytes + reply_bytes)
            .sum();
        assert_eq!(
            self.hub.registry.buffered_bytes(),
            buffered_bytes as u64,
            "what is counted"
        );
    }

    /// Nothing more can come to its peer.
    fn is_done(&self, index: usize) -> bool {
        let link = &self.links[index];
        let wire = link.wire.borrow();
        wire.to_peer.is_empty() && !link.is_alive() && self.oracle.has_last_word(index)
            || link.has_left
    }

    /// Time passes as it does for a server that runs.
    pub(super) async fn pass(&mut self, ms: u64) {
        self.note(format_args!("{ms} ms pass"));
        let mut left_ms = ms;
        while left_ms > 0 {
            let step_ms = left_ms.min(TICK_MS);
            left_ms -= step_ms;
            self.jump(step_ms).await;
            self.settle();
        }
    }

    /// Time passes and nobody can do anything meanwhile, as when the machine sleeps.
    pub(super) async fn jump(&mut self, ms: u64) {
        tokio::time::advance(Duration::from_millis(ms)).await;
        WALL_MS.set(WALL_MS.get() + ms as i64);
        if ms > TICK_MS {
            self.note(format_args!("{ms} ms are gone at once"));
            self.slept = Instant::now();
        }
        if self.ticked.elapsed() >= Duration::from_millis(TICK_MS) {
            self.judge_memory();
            self.hub.tick();
            self.ticked = Instant::now();
            let resume_below_bytes = self.limits.lag_bytes_max / 2 / 4 * 3;
            let is_long = self.hub.channel.retained_bytes() >= resume_below_bytes;
            let is_paced = self.hub.channel.paced_by_bytes().is_some();
            assert!(
                is_long || is_paced || !self.hub.channel.is_paused(),
                "paused for nothing"
            );
            assert!(self.published().is_empty(), "time alone publishes nothing");
            self.oracle.names(&self.hub.names());
        }
        // As the server does.
        let grace = Duration::from_millis(CLOSING_GRACE_MS);
        let is_over = self
            .closing
            .is_some_and(|closing| closing.elapsed() >= grace);
        if is_over && !self.is_aborted {
            self.note(format_args!("{} are ended at once", self.alive()));
            let is_waited_for = self.alive() > 0;
            self.oracle.coverage.mark_if(is_waited_for, "ended at once");
            self.hub.abort();
            self.oracle.ends_at_once();
            self.is_aborted = true;
        }
    }

    /// Whom the room may close at this tick for the memory that all queues take
    /// (CHAT-LIM-10), and whom it must: by trying who is left when all are gone that
    /// take more.
    fn judge_memory(&mut self) {
        let end = self.hub.channel.committed_end();
        let retained_bytes = self.hub.channel.retained_bytes();
        let bytes_max = self.limits.queue_bytes_max;
        let usages: Vec<(usize, Option<u64>, u64, u64)> = (0..self.links.len())
            .filter_map(|index| {
                let connection = self.links[index].connection.as_ref()?;
                let (read_buffer_bytes, reply_bytes) = connection.memory_bytes();
                let buffered_bytes = (read_buffer_bytes + reply_bytes) as u64;
                let position = connection.position();
                let behind = position.map_or(0, |position| end - position);
                let is_counted = !self.links[index].is_turned_away;
                is_counted.then_some((index, position, buffered_bytes, behind + buffered_bytes))
            })
            .collect();
        let all_bytes = usages.iter().map(|usage| usage.2).sum::<u64>() + retained_bytes;
        if all_bytes <= bytes_max {
            return;
        }
        self.oracle.coverage.mark("memory full");
        self.note(format_args!("{all_bytes} bytes wait, {retained_bytes} of log to {end}, (who, where, holds, costs): {usages:?}"));
        let is_too_much_without = |gone: &dyn Fn(u64, usize) -> bool| {
            let left = || usages.iter().filter(|usage| !gone(usage.3, usage.0));
            let buffered_bytes: u64 = left().map(|usage| usage.2).sum();
            let is_anybody_gone = left().count() < usages.len();
            let oldest = left().filter_map(|usage| usage.1).min();
            let log_bytes = match is_anybody_gone {
                true => retained_bytes.min(end - oldest.unwrap_or(end)),
                false => retained_bytes,
            };
            buffered_bytes + log_bytes > bytes_max
        };
        for &(index, _, _, cost) in usages.iter().filter(|usage| usage.3 > 0) {
            let may = is_too_much_without(&|other, _| other > cost);
            let must =
                is_too_much_without(&|other, other_index| other >= cost && other_index != index);
            self.oracle.overloaded(index, may, must);
        }
    }

    /// Somebody sets the clock on the wall.
    pub(super) fn set_wall_clock(&mut self, unix_ms: i64) {
        self.note(format_args!("the clock shows {unix_ms}"));
        WALL_MS.set(unix_ms);
    }

    /// The server begins to close.
    pub(super) fn close(&mut self) {
        if self.closing.is_some() {
            return;
        }
        self.note(format_args!("the server closes"));
        self.check_replay();
        self.hub.begin_closing("the end".to_owned());
        let mut published = self.published();
        assert_eq!(published.len(), 1, "CHAT-CLOSE-2");
        self.oracle.closes(published.remove(0));
        self.closing = Some(Instant::now());
    }

    /// The same commands, applied to another room, publish the same bytes.
    fn check_replay(&mut self) {
        assert!(self.published().is_empty(), "it was looked at before");
        let mut room = Room::new("epoch".to_owned());
        let mut replayed_hash = FNV_START;
        for command in self.hub.journal() {
            if let Some(published) = room.apply(command).publication() {
                replayed_hash = hash(replayed_hash, &published.envelope.encode_to_vec());
            }
        }
        assert_eq!(
            replayed_hash, self.published_hash,
            "the room is deterministic"
        );
    }

    pub(super) fn wake(&mut self, index: usize) {
        self.note(format_args!("{index} is woken for nothing"));
        self.links[index].alarm.0.store(true, Ordering::Relaxed);
    }

    /// When all is over, nothing is left.
    pub(super) fn check_end(mut self) -> Coverage {
        assert_eq!(self.admitted(), 0, "CHAT-CLOSE-3");
        self.links.clear();
        assert_eq!(self.hub.names(), Vec::<String>::new(), "CHAT-NAME-5");
        assert!(self.published().is_empty(), "CHAT-CLOSE-2");
        assert_eq!(
            self.hub.channel.retained_bytes(),
            SEGMENT_BYTES,
            "all that was read is freed"
        );
        assert_eq!(Arc::strong_count(&self.hub), 1, "nobody holds the hub");
        self.oracle.coverage
    }
}

/// The body of the first frame of `bytes`, and how many bytes it takes with its
/// length; `None` while it is not whole.
fn first_frame(bytes: &[u8]) -> Option<(&[u8], usize)> {
    let mut length = 0;
    for (index, &byte) in bytes.iter().enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            assert!(byte > 0 || index == 0, "CHAT-FRAME-2");
            let from = index + 1;
            let body = bytes.get(from..from + length)?;
            return Some((body, from + length));
        }
        assert!(index < 3, "no frame is that long");
    }
    None
}
