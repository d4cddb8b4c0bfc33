//! The room: the engine and its log behind one short lock, the only reader of
//! the clock, and the wakers that tell connections that there is something to do.
//! Nothing is awaited under the lock.

use std::{
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    task::Waker,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::time::Instant;
use tracing::info;

use crate::{
    engine::{AccessPolicy, CloseReason, Closed, ConnectionId, Effect, Engine, Event, Time},
    limits::Limits,
    log::{Audience, Log, Reader, Retained},
    wire::{ServerEnvelope, server_envelope::Message},
};

use super::{
    address_limiter::AddressLimiter,
    backpressure::{PausedReadQuota, ReadBlockedSince, ReadPause},
    eviction::{self, Usage},
    reply_buffer::ReplyBuffer,
    slow_consumer::{self, Consumer, StallBudget},
};

/// What every connection of a server shares.
pub(super) struct Hub {
    limits: Limits,
    start: Instant,
    /// The clock on the wall, in milliseconds since 1970.
    unix_ms: fn() -> i64,
    state: Mutex<State>,
    connections: RwLock<Vec<Option<ConnectionEntry>>>,
    retained: Retained,
    /// The end of the log, to be read without the lock.
    log_end: AtomicU64,
    read_pause: ReadPause,
    /// Connections are to end at once.
    is_aborted: AtomicBool,
}

struct State {
    engine: Engine,
    log: Log,
    limiter: AddressLimiter,
    /// Empty between calls; kept for its memory.
    effects: Vec<Effect>,
}

/// A connection as the room sees it. Shared by the two.
pub(super) struct ConnectionHandle {
    waker: OnceLock<Waker>,
    /// Where its reader is in the log, [`ConnectionHandle::NOT_SUBSCRIBED`] before it has one.
    position: AtomicU64,
    /// What its replies and unfinished frames take, in bytes.
    buffered_bytes: AtomicU32,
    /// The queues of all take too much, and its own the most.
    is_evicted: AtomicBool,
    /// The engine wants to say something to it.
    is_notified: AtomicBool,
    /// Its reader is given notices.
    wants_presence: AtomicBool,
    paused_quota: PausedReadQuota,
}

struct ConnectionEntry {
    handle: Arc<ConnectionHandle>,
    stall_budget: StallBudget,
}

/// The sending side of a connection, as far as the room fills it.
#[derive(Default)]
pub(super) struct Outbound {
    pub(super) replies: ReplyBuffer,
    /// Where it is in the log, once registered.
    pub(super) reader: Option<Reader>,
    /// More of the members are due to it once it has nothing else to send.
    pub(super) has_more_members: bool,
    /// It is not to be read from until the engine calls (CHAT-LIM-6).
    pub(super) is_throttled: bool,
    /// Its session is over: what is due is sent, then it is closed.
    pub(super) is_ended: bool,
    /// The wait of what its peer sends for the room.
    pub(super) read_blocked_since: ReadBlockedSince,
}

impl ConnectionHandle {
    const NOT_SUBSCRIBED: u64 = u64::MAX;

    fn new() -> Self {
        Self {
            waker: OnceLock::new(),
            position: AtomicU64::new(Self::NOT_SUBSCRIBED),
            buffered_bytes: AtomicU32::new(0),
            is_evicted: AtomicBool::new(false),
            is_notified: AtomicBool::new(false),
            wants_presence: AtomicBool::new(false),
            paused_quota: PausedReadQuota::default(),
        }
    }

    /// Says whom to wake. The task of a connection has one waker for its life.
    pub(super) fn set_waker(&self, waker: &Waker) {
        self.waker.get_or_init(|| waker.clone());
    }

    /// Says how far its reader is.
    pub(super) fn set_position(&self, position: u64) {
        self.position.store(position, Ordering::Relaxed);
    }

    /// Says what its replies and unfinished frames take.
    pub(super) fn set_buffered_bytes(&self, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        // It is the same nearly always: look before writing.
        if self.buffered_bytes.load(Ordering::Relaxed) != bytes {
            self.buffered_bytes.store(bytes, Ordering::Relaxed);
        }
    }

    fn buffered_bytes(&self) -> u64 {
        self.buffered_bytes.load(Ordering::Relaxed).into()
    }

    /// Whether it is to be closed for the sake of the others.
    fn is_evicted(&self) -> bool {
        self.is_evicted.load(Ordering::Relaxed)
    }

    /// The same, once: it sees to it.
    pub(super) fn take_eviction(&self) -> bool {
        self.is_evicted() && self.is_evicted.swap(false, Ordering::Relaxed)
    }

    /// Says that it follows the log no longer.
    pub(super) fn unsubscribe(&self) {
        self.position.store(Self::NOT_SUBSCRIBED, Ordering::Relaxed);
    }

    /// Whether the engine has called it since the last time this was asked.
    pub(super) fn take_notification(&self) -> bool {
        // Most turns have none: look before writing.
        self.is_notified.load(Ordering::Relaxed) && self.is_notified.swap(false, Ordering::Acquire)
    }

    fn notify(&self) {
        self.is_notified.store(true, Ordering::Release);
        self.wake();
    }

    fn wake(&self) {
        // A handle without a waker has not had its first turn, which is under way.
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Whether this reached of the log is news to it now. Who is not given notices
    /// passes them at the next message or tick: a newcomer wakes nobody who does
    /// not want to know.
    fn is_interested(&self, reached: Option<Audience>) -> bool {
        self.position().is_some()
            && (reached == Some(Audience::Everyone) || self.wants_presence.load(Ordering::Relaxed))
    }

    fn position(&self) -> Option<u64> {
        let position = self.position.load(Ordering::Relaxed);
        (position != Self::NOT_SUBSCRIBED).then_some(position)
    }
}

impl Hub {
    /// An empty room for those whom `access` lets in. `epoch`: see
    /// [`Engine::new`].
    pub(super) fn new(limits: Limits, access: AccessPolicy, epoch: String) -> Self {
        Self::with_wall_clock(limits, access, epoch, unix_ms)
    }

    /// The same, with another clock on the wall: it may jump as it likes, since
    /// nothing is reckoned from it.
    pub(super) fn with_wall_clock(
        limits: Limits,
        access: AccessPolicy,
        epoch: String,
        unix_ms: fn() -> i64,
    ) -> Self {
        let log = Log::new();
        Self {
            start: Instant::now(),
            unix_ms,
            connections: RwLock::default(),
            retained: log.retained().clone(),
            log_end: AtomicU64::new(log.end()),
            read_pause: ReadPause::new(limits.lag_bytes_max),
            is_aborted: AtomicBool::new(false),
            state: Mutex::new(State {
                engine: Engine::new(limits.clone(), epoch).with_access(access),
                log,
                limiter: AddressLimiter::new(&limits),
                effects: Vec::new(),
            }),
            limits,
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many connections it has, those that were turned away left out.
    pub(super) fn connection_count(&self) -> usize {
        self.lock().engine.connections()
    }

    /// A connection was accepted, from `address` where it comes over a network.
    ///
    /// # Errors
    ///
    /// What to tell it before it is closed.
    pub(super) fn connect(
        &self,
        address: Option<IpAddr>,
    ) -> Result<(ConnectionId, Arc<ConnectionHandle>), Box<ServerEnvelope>> {
        let now = self.now();
        let mut state = self.lock();
        let id = state.engine.connect(now)?;
        if let Some(address) = address
            && let Err(cause) = state.limiter.acquire(now.elapsed_ms, id.index(), address)
        {
            return Err(state.engine.reject(id, cause));
        }
        let handle = Arc::new(ConnectionHandle::new());
        // Still under the lock: the index is this connection's from here on.
        let mut connections = write(&self.connections);
        if connections.len() <= id.index() {
            connections.resize_with(id.index() + 1, || None);
        }
        if let Some(free) = connections.get_mut(id.index()) {
            *free = Some(ConnectionEntry {
                handle: Arc::clone(&handle),
                stall_budget: StallBudget::default(),
            });
        }
        Ok((id, handle))
    }

    /// A connection is gone.
    pub(super) fn disconnect(&self, id: ConnectionId) {
        let now = self.now();
        let mut state = self.lock();
        // Before the engine gives the index to another connection.
        if let Some(handle) = write(&self.connections).get_mut(id.index()) {
            *handle = None;
        }
        state.limiter.release(now.elapsed_ms, id.index());
        let State {
            engine,
            log,
            effects,
            ..
        } = &mut *state;
        engine.disconnect(now, id, effects);
        let reached = apply(log, effects, &mut Outbound::default());
        self.publish_end(log, reached);
        drop(state);
        self.wake_subscribers(reached);
    }

    /// Carries out what `turn` does for one connection, under one lock.
    pub(super) fn with<R>(
        &self,
        id: &ConnectionId,
        handle: &ConnectionHandle,
        outbound: &mut Outbound,
        pass: impl FnOnce(&mut HubGuard<'_>) -> R,
    ) -> R {
        let mut now = self.now();
        now.earliest_arrival_ms = outbound.read_blocked_since.since_ms(now.elapsed_ms); // CHAT-LIM-2
        let mut state = self.lock();
        let mut one = HubGuard {
            state: &mut state,
            id,
            now,
            outbound: &mut *outbound,
            reached: None,
        };
        let result = pass(&mut one);
        let reached = one.reached;
        // Under the lock: whoever appends after this turn finds a reader that this
        // turn opened, and wakes it.
        match &outbound.reader {
            Some(reader) => {
                handle.set_position(reader.position());
                let wants_presence = reader.wants_presence();
                handle
                    .wants_presence
                    .store(wants_presence, Ordering::Relaxed);
            }
            // Nobody waits for who is only being closed, nor wakes it for news.
            None => handle.unsubscribe(),
        }
        self.publish_end(&state.log, reached);
        drop(state);
        self.wake_subscribers(reached);
        result
    }

    /// Whether a reader at `position` has fallen too far behind (CHAT-LIM-5).
    pub(super) fn is_out_of_reach(&self, position: u64) -> bool {
        let end = self.log_end.load(Ordering::Relaxed);
        end.saturating_sub(position) > self.limits.lag_bytes_max
    }

    /// Whether members are not to be read from for now (CHAT-LIM-6), but for what
    /// [`Hub::has_paused_quota`] allows.
    pub(super) fn is_paused(&self) -> bool {
        self.read_pause.is_on()
    }

    /// Whether a little may be read from a member during a pause.
    pub(super) fn has_paused_quota(&self, handle: &ConnectionHandle) -> bool {
        let end = self.log_end.load(Ordering::Relaxed);
        self.read_pause.has_paused_quota(&handle.paused_quota, end)
    }

    /// A member is not read from as it sends: from now on, unless it was before, what
    /// it sends waits.
    pub(super) fn mark_read_blocked(&self, outbound: &mut Outbound) {
        outbound.read_blocked_since.begin(|| self.now().elapsed_ms);
    }

    /// A little was read from a member during a pause.
    pub(super) fn use_paused_quota(&self, handle: &ConnectionHandle) {
        self.read_pause.use_paused_quota(&handle.paused_quota);
    }

    /// A reader got on: whoever waits for the room may go on if it has caught up.
    pub(super) fn reader_moved(&self) {
        if self.is_paused()
            && self.retained.bytes() < self.resume_below_bytes()
            && self.read_pause.end()
        {
            self.wake_subscribers(Some(Audience::Everyone));
        }
    }

    /// Whether connections are to end at once.
    pub(super) fn is_aborted(&self) -> bool {
        self.is_aborted.load(Ordering::Acquire)
    }

    /// Does what is due: to be called every [`slow_consumer::TICK_MS`].
    pub(super) fn tick(&self) {
        let now = self.now();
        let mut due = Vec::new();
        self.lock().engine.due(now, &mut due);
        self.notify_all(&due);

        let end = self.log_end.load(Ordering::Relaxed);
        let was_paused = self.is_paused();
        self.read_pause.tick(end);
        let is_waited_for = {
            let mut connections = write(&self.connections);
            let mut consumers: Vec<_> = connections
                .iter_mut()
                .flatten()
                .filter_map(
                    |ConnectionEntry {
                         handle,
                         stall_budget,
                     }| {
                        let position = handle.position()?;
                        if position < end || was_paused {
                            // Also for those whom notices did not wake, or who may say a
                            // little again.
                            handle.wake();
                        }
                        Some(Consumer {
                            position,
                            stall_budget,
                        })
                    },
                )
                .collect();
            slow_consumer::tick(&mut consumers, end, self.behind_bytes(), was_paused)
        };
        let is_paused = is_waited_for && self.retained.bytes() >= self.resume_below_bytes();
        if was_paused && !is_paused {
            self.read_pause.end();
            // Also repairs a resumption that was missed.
            self.wake_subscribers(Some(Audience::Everyone));
        }
        self.evict(end);
    }

    /// Closes those who make the queues of all take more than they may
    /// (CHAT-LIM-10).
    fn evict(&self, end: u64) {
        let connections = read(&self.connections);
        let retained_bytes = self.retained.bytes();
        let bytes_max = self.limits.queue_bytes_max;
        if buffered_bytes(&connections) + retained_bytes <= bytes_max {
            return;
        }
        let usages = connections.iter().enumerate().filter_map(|(index, entry)| {
            let handle = &entry.as_ref()?.handle;
            Some(Usage {
                index,
                position: handle.position(),
                buffered_bytes: handle.buffered_bytes(),
                is_evicted: handle.is_evicted(),
            })
        });
        for index in eviction::select_victims(usages.collect(), end, retained_bytes, bytes_max) {
            if let Some(Some(ConnectionEntry { handle, .. })) = connections.get(index) {
                handle.is_evicted.store(true, Ordering::Relaxed);
                handle.notify();
            }
        }
    }

    /// Tells everybody that the server closes (CHAT-CLOSE-1). Connections that
    /// come later are told so too.
    pub(super) fn begin_closing(&self, detail: String) {
        let mut state = self.lock();
        let State {
            engine,
            log,
            effects,
            ..
        } = &mut *state;
        engine.begin_closing(detail, effects);
        let reached = apply(log, effects, &mut Outbound::default());
        self.publish_end(log, reached);
        info!(
            members = engine.members(),
            messages = engine.chats(),
            "closing"
        );
        drop(state);
        let connections = read(&self.connections);
        for ConnectionEntry { handle, .. } in connections.iter().flatten() {
            handle.notify();
        }
    }

    /// Ends all connections at once, whatever they still have to send.
    pub(super) fn abort(&self) {
        self.is_aborted.store(true, Ordering::Release);
        for ConnectionEntry { handle, .. } in read(&self.connections).iter().flatten() {
            handle.wake();
        }
    }

    fn notify_all(&self, indices: &[usize]) {
        let connections = read(&self.connections);
        for &index in indices {
            // It may have gone since.
            if let Some(Some(ConnectionEntry { handle, .. })) = connections.get(index) {
                handle.notify();
            }
        }
    }

    fn wake_subscribers(&self, reached: Option<Audience>) {
        if reached == None {
            return;
        }
        for ConnectionEntry { handle, .. } in read(&self.connections).iter().flatten() {
            if handle.is_interested(reached) {
                handle.wake();
            }
        }
    }

    /// Lets the readers know how long the log is, if it has grown, and pauses the
    /// senders if it holds too much.
    fn publish_end(&self, log: &Log, reached: Option<Audience>) {
        if reached == None {
            return;
        }
        let end = log.end();
        self.log_end.store(end, Ordering::Relaxed);
        if !self.is_paused() && self.retained.bytes() >= self.pause_above_bytes() {
            let connections = read(&self.connections);
            let consumers = connections.iter().flatten().filter_map(|entry| {
                let position = entry.handle.position()?;
                Some((position, &entry.stall_budget))
            });
            if slow_consumer::should_pause_reads(consumers, end, self.behind_bytes()) {
                self.read_pause.begin(end);
            }
        }
    }

    /// How much the log holds when the senders are paused: half of what it may
    /// hold, so that there is room for what they have sent already.
    fn pause_above_bytes(&self) -> u64 {
        self.limits.lag_bytes_max / 2
    }

    /// How much the log holds when they go on: somewhat less, so that they do not
    /// stop again at once.
    fn resume_below_bytes(&self) -> u64 {
        self.pause_above_bytes() / 4 * 3
    }

    /// How far a member is behind when it is one of those that make the log long.
    fn behind_bytes(&self) -> u64 {
        self.pause_above_bytes() / 2
    }

    fn now(&self) -> Time {
        let elapsed_ms = self.start.elapsed().as_millis() as u64;
        Time {
            elapsed_ms,
            unix_ms: (self.unix_ms)(),
            earliest_arrival_ms: elapsed_ms,
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked under the lock has lost its connection; the rules are
        // still the best judge for the others, who must not get its effects.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.effects.clear();
        state
    }
}

/// What the simulation and the tests look at.
#[cfg(test)]
impl Hub {
    /// A reader of all that is published from now on.
    pub(super) fn follow(&self) -> Reader {
        self.lock().log.reader(true)
    }

    /// The names that have an owner, in order.
    pub(super) fn names(&self) -> Vec<String> {
        let state = self.lock();
        let names = state.engine.names();
        names.map(|name| name.as_str().to_owned()).collect()
    }

    /// The end of the log, as a position.
    pub(super) fn log_end(&self) -> u64 {
        self.log_end.load(Ordering::Relaxed)
    }

    /// What the replies and unfinished frames of all take, in bytes.
    pub(super) fn buffered_bytes(&self) -> u64 {
        buffered_bytes(&read(&self.connections))
    }

    /// How much of the log is in memory, in bytes.
    pub(super) fn retained_bytes(&self) -> u64 {
        self.retained.bytes()
    }
}

/// One connection's turn with the room: the lock is held.
pub(super) struct HubGuard<'a> {
    state: &'a mut State,
    id: &'a ConnectionId,
    now: Time,
    reached: Option<Audience>,
    /// The connection's sending side.
    pub(super) outbound: &'a mut Outbound,
}

impl HubGuard<'_> {
    /// Something happened to the connection.
    pub(super) fn handle(&mut self, event: Event) {
        let State {
            engine,
            log,
            effects,
            ..
        } = &mut *self.state;
        engine.handle(self.now, self.id, event, effects);
        let reached = apply(log, effects, self.outbound);
        self.reached = self.reached.max(reached);
        self.outbound.is_throttled = engine.is_throttled(self.id);
    }

    /// So many frames and bytes came, whatever they held.
    pub(super) fn charge_inbound(&mut self, frames: usize, bytes: usize) {
        self.outbound.is_throttled = self
            .state
            .engine
            .charge_inbound(self.now, self.id, frames, bytes);
    }

    /// It has sent all it had: the next of the members that are due to it.
    pub(super) fn more_members(&mut self) {
        let envelope = self.state.engine.more_members(self.id);
        self.outbound.has_more_members = false;
        if let Some(envelope) = envelope {
            self.outbound.reply(&envelope);
        }
    }
}

impl Outbound {
    /// Adds a reply.
    pub(super) fn reply(&mut self, envelope: &ServerEnvelope) {
        self.replies.push(envelope);
        match &envelope.message {
            Some(Message::Members(members)) => self.has_more_members = members.more,
            // CHAT-ERR-1: nothing goes out behind it.
            Some(Message::Error(error)) if error.ends_session => self.forget_log(),
            _ => {}
        }
    }

    /// Gives up what the log still holds for this connection, but for the rest of
    /// a frame of which a part was sent.
    fn forget_log(&mut self) {
        if let Some(reader) = self.reader.take() {
            let rest = reader.rest_of_frame();
            if !rest.is_empty() {
                self.replies.push_front(rest);
            }
        }
    }
}

/// Carries out effects, in order; returns how the log has grown.
fn apply(log: &mut Log, effects: &mut Vec<Effect>, outbound: &mut Outbound) -> Option<Audience> {
    let mut reached = None;
    for effect in effects.drain(..) {
        match effect {
            Effect::Reply(envelope) => outbound.reply(&envelope),
            Effect::Publish { audience, envelope } => {
                reached = reached.max(Some(audience));
                let range = log.append(audience, &envelope);
                if let Some(reader) = &mut outbound.reader {
                    reader.skip(range); // CHAT-CHAT-2, CHAT-PRES-6
                }
            }
            Effect::Subscribe { name, presence } => {
                info!(%name, "registered");
                outbound.reader = Some(log.reader(presence));
            }
            Effect::Closed(end) => {
                report(&end);
                if let Some(reader) = &mut outbound.reader {
                    // What came before its end is due to it (CHAT-LEAVE-2,
                    // CHAT-CLOSE-6), nothing after (CHAT-CLOSE-2).
                    reader.stop_at(log.end());
                }
                outbound.has_more_members = false;
                outbound.is_ended = true;
            }
        }
    }
    reached
}

/// Tells the people who run the server that a session ended.
fn report(end: &Closed) {
    let why = match end.reason {
        CloseReason::Leave => "left",
        CloseReason::ConnectionLost => "connection lost",
        CloseReason::CutShort => "connection lost inside a frame",
        CloseReason::ServerClosing => "server closing",
        CloseReason::Error(code) => code.as_str_name().trim_start_matches("ERROR_CODE_"),
    };
    match &end.name {
        Some(name) => info!(%name, why, messages = end.chats, "left"),
        None => info!(why, "turned away"),
    }
}

/// What the system's clock shows.
fn unix_ms() -> i64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock set before 1970 shows 1970.
    unix.map_or(0, |unix| unix.as_millis() as i64)
}

/// What the replies and unfinished frames of all take, in bytes.
fn buffered_bytes(connections: &[Option<ConnectionEntry>]) -> u64 {
    let entries = connections.iter().flatten();
    entries.map(|entry| entry.handle.buffered_bytes()).sum()
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
