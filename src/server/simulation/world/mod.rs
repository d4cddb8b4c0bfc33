//! World: the server's hub, its connections and their clients, on a simulated clock.
//! Nothing in it runs by itself: the schedule decides what is next.

mod clock;
mod memory;
#[cfg(feature = "cli")]
mod operator;
mod polling;

use std::{
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use fastrand::Rng;
use prost::Message as _;
use tokio::time::Instant;

use crate::{
    limits::Limits,
    log::Reader,
    server::{
        connection::Connection,
        hub::{Hub, Origin, Outside},
        peer::Peer,
        transport::Kind,
    },
    session::AccessPolicy,
    wire::{ServerEnvelope, server_envelope::Message},
};

use super::{
    coverage::Coverage,
    lines::EPOCH,
    link::{Behavior, Kept, Link, WakeFlag},
    oracle::Oracle,
    pipe::{FNV_START, Pipe, ServerEnd, hash},
    sent::Sent,
    trace::Trace,
};

/// The size of a segment of the log, in bytes (src/log/segment.rs).
const SEGMENT_BYTES: u64 = 512 * 1024;

thread_local! {
    /// What the wall clock shows.
    static WALL_MS: Cell<i64> = const { Cell::new(0) };
    /// How many tokens and nonces were given.
    static CHANCES: Cell<u64> = const { Cell::new(0) };
}

/// What takes the place of random bytes: the same in each run, and never the same twice.
fn chance<const BYTES: usize>() -> Option<[u8; BYTES]> {
    CHANCES.set(CHANCES.get() + 1);
    let mut bytes = [7; BYTES];
    for (byte, counted) in bytes.iter_mut().zip(CHANCES.get().to_be_bytes()) {
        *byte = counted;
    }
    Some(bytes)
}

fn wall_ms() -> i64 {
    WALL_MS.get()
}

/// One run: everything that the schedule acts on.
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) trace: Trace,
    pub(super) links: Vec<Link>,
    pub(super) oracle: Oracle,
    /// What clients keep to come back with.
    pub(super) kept: Vec<Kept>,
    /// How often the operator has removed a text.
    removals: u64,
    hub: Arc<Hub>,
    limits: Limits,
    /// Reads everything that is published.
    publications: Reader,
    /// A hash of every byte that the room has published.
    published_hash: u64,
    start: Instant,
    last_tick: Instant,
    last_jump: Instant,
    /// When reads were last seen paused.
    last_paused: Option<Instant>,
    /// When the server began to close.
    closing: Option<Instant>,
    is_aborted: bool,
    /// By how much the log grew since every connection was last polled, in bytes.
    log_growth_bytes: u64,
}

impl World {
    pub(super) fn new(limits: Limits, access: AccessPolicy, rng: Rng, trace: Trace) -> Self {
        WALL_MS.set(1_700_000_000_000);
        CHANCES.set(0);
        let origin = Origin::empty(&limits, EPOCH.to_owned());
        let outside = Outside {
            unix_ms: wall_ms,
            fresh_token: chance,
            fresh_nonce: chance,
        };
        let hub = Hub::within(outside, limits.clone(), access, origin);
        let now = Instant::now();
        Self {
            rng,
            trace,
            links: Vec::new(),
            kept: Vec::new(),
            removals: 0,
            oracle: Oracle::new(limits.clone(), now, Coverage::default()),
            publications: hub.follow(),
            published_hash: FNV_START,
            hub: Arc::new(hub),
            limits,
            start: now,
            last_tick: now,
            last_jump: now,
            last_paused: None,
            closing: None,
            is_aborted: false,
            log_growth_bytes: 0,
        }
    }

    /// Adds a line to the trace, with the time.
    fn note(&self, line: std::fmt::Arguments<'_>) {
        let now_ms = self.start.elapsed().as_millis();
        self.trace.line(format_args!("{now_ms:>7} {line}"));
    }

    /// How many connections the server has, rejected ones included.
    pub(super) fn alive(&self) -> usize {
        self.links.iter().filter(|link| link.is_alive()).count()
    }

    /// How many connections the server has accepted. Rejected ones do not count for the
    /// limits.
    fn accepted(&self) -> usize {
        let alive = self.links.iter().filter(|link| link.is_alive());
        alive.filter(|link| !link.is_rejected).count()
    }

    /// A client connects; returns its index.
    pub(super) fn connect(
        &mut self,
        behavior: Behavior,
        capacity_bytes: usize,
        has_short_io: bool,
        (address, address_key): (IpAddr, Option<u8>),
    ) -> usize {
        let index = self.links.len();
        let pipe = Pipe::new(capacity_bytes, has_short_io, self.rng.fork());
        let pipe = Rc::new(RefCell::new(pipe));
        let accepted = self.accepted();
        let same_address = self
            .links
            .iter()
            .filter(|link| link.is_alive() && !link.is_rejected && link.address_key == address_key);
        let same_address = address_key.map_or(0, |_| same_address.count());
        let hub = Arc::clone(&self.hub);
        let member = hub.connect(Peer::network(SocketAddr::new(address, 0), Kind::Chat));
        let connection = Connection::new(ServerEnd(Rc::clone(&pipe)), hub, member);
        let is_rejected = connection.is_rejected();
        self.note(format_args!(
            "{index} connects from {address}, {behavior:?}, takes {capacity_bytes} bytes, rejected: {is_rejected}"
        ));
        self.oracle
            .connected(accepted, address_key, same_address, is_rejected);
        let wake_flag = Arc::new(WakeFlag(AtomicBool::new(true)));
        self.links.push(Link {
            connection: Some(connection),
            waker: Waker::from(Arc::clone(&wake_flag)),
            wake_flag,
            pipe,
            behavior,
            unparsed: Vec::new(),
            is_rejected,
            address_key,
            chats: 0,
            kept: None,
            has_closed: false,
        });
        index
    }

    /// The client `by` sends a frame.
    pub(super) fn send(&mut self, by: usize, sent: &Sent) {
        let bytes = sent.bytes(&mut self.rng);
        self.note(format_args!(
            "{by} sends {sent:.60?}, {} bytes",
            bytes.len()
        ));
        let link = &mut self.links[by];
        let mut pipe = link.pipe.borrow_mut();
        if pipe.is_half_closed || pipe.is_reset {
            return;
        }
        self.oracle.sent(by, sent, bytes.len());
        pipe.send(&bytes);
        if link.behavior.delivers_at_once {
            pipe.deliver(usize::MAX / 2);
        }
    }

    /// So many more bytes arrive of what the client `by` has sent.
    pub(super) fn deliver(&mut self, by: usize, bytes: usize) {
        self.note(format_args!("{bytes} bytes of {by} arrive"));
        self.links[by].pipe.borrow_mut().deliver(bytes);
    }

    /// The client `by` reads up to `bytes_max`, answers pings and Directs, and closes if the server
    /// has closed.
    pub(super) fn read(&mut self, by: usize, bytes_max: usize) {
        let link = &mut self.links[by];
        if link.has_closed {
            return;
        }
        let bytes = link.pipe.borrow_mut().take(bytes_max);
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
            let message = envelope.message.expect("a server sends what it knows");
            from += used;
            self.trace
                .line(format_args!("        {by} receives {message:.100?}"));
            let answer = match &message {
                Message::Ping(ping) => Some(Sent::Pong(ping.token)),
                Message::Direct(direct) => Some(Sent::DirectAck(direct.seq)),
                _ => None,
            };
            self.keep(by, &message);
            let pipe = Rc::clone(&self.links[by].pipe);
            self.oracle.received(by, &pipe.borrow(), message);
            if let Some(answer) = answer.filter(|_| self.links[by].behavior.answers_pings) {
                self.send(by, &answer);
            }
        }
        unparsed.drain(..from);
        let pipe = Rc::clone(&self.links[by].pipe);
        let is_at_end = {
            let pipe = pipe.borrow();
            (pipe.is_shut_down || pipe.is_dropped)
                && pipe.to_client.is_empty()
                && !pipe.is_client_closed
        };
        if is_at_end && !pipe.borrow().is_reset {
            let pipe = pipe.borrow();
            let may_be_partial = pipe.lost_last_bytes || pipe.is_dropped && !pipe.is_shut_down;
            assert!(
                unparsed.is_empty() || may_be_partial,
                "the stream ends inside a frame"
            );
            self.oracle.reached_end(by, &pipe);
        }
        let link = &mut self.links[by];
        link.unparsed = unparsed;
        if is_at_end && link.behavior.closes_after_server {
            // CHAT-CLOSE-4, CHAT-ERR-7
            link.has_closed = true;
            pipe.borrow_mut().half_close();
            pipe.borrow_mut().deliver(usize::MAX / 2);
            self.note(format_args!("{by} closes after the server"));
        }
    }

    /// A client keeps what it needs to come back.
    fn keep(&mut self, by: usize, message: &Message) {
        if let Message::Registered(registered) = message {
            if registered.resume_token.is_empty() {
                return;
            }
            let index = *self.links[by].kept.get_or_insert(self.kept.len());
            if index == self.kept.len() {
                self.kept.push(Kept::default());
            }
            let kept = &mut self.kept[index];
            kept.name.clone_from(&registered.name);
            kept.capabilities.clone_from(&registered.capabilities);
            kept.earlier_token = std::mem::take(&mut kept.token);
            kept.token.clone_from(&registered.resume_token);
            kept.seq = match registered.resumed_from {
                0 => registered.seq,
                from => from - 1,
            };
            kept.link = by;
        }
        let seq = match message {
            Message::Chat(chat) => chat.seq,
            Message::Covered(covered) => covered.seq,
            Message::Following(following) => following.seq,
            _ => return,
        };
        if let Some(kept) = self.links[by].kept.map(|index| &mut self.kept[index])
            && kept.link == by
        {
            kept.seq = kept.seq.max(seq);
        }
    }

    /// A connection is woken without a reason.
    pub(super) fn wake(&mut self, index: usize) {
        self.note(format_args!("{index} is woken without a reason"));
        self.links[index].wake_flag.0.store(true, Ordering::Relaxed);
    }

    /// Checks that nothing is left once the server has closed.
    pub(super) fn check_end(mut self) -> Coverage {
        assert_eq!(self.accepted(), 0, "CHAT-CLOSE-3");
        self.links.clear();
        assert_eq!(self.hub.names(), Vec::<String>::new(), "CHAT-NAME-5");
        assert!(self.published().is_empty(), "CHAT-CLOSE-2");
        assert!(
            self.hub.channel.retained_bytes() <= SEGMENT_BYTES * (1 + self.removals),
            "the log keeps no segment but its last, and the past that texts were removed from"
        );
        assert_eq!(Arc::strong_count(&self.hub), 1, "no task holds the hub");
        self.oracle.coverage
    }

    /// Whether its client can receive nothing more.
    fn is_done(&self, index: usize) -> bool {
        let link = &self.links[index];
        let pipe = link.pipe.borrow();
        pipe.to_client.is_empty() && !link.is_alive() && self.oracle.has_final_message(index)
            || link.has_closed
    }
}

/// The body of the first frame of `bytes`, and how many bytes the frame takes with its
/// length; `None` while it is incomplete.
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
