//! Hub: the server's shared state behind one short lock: sessions, room, log and
//! address limiter. It is the only reader of the clock, and carries out what the
//! sessions decide. Nothing is awaited under the lock.
//!
//! Lock order: the hub's lock, then the registry's.

mod bans;
mod closing;
mod committed;
mod effects;
#[cfg(feature = "store")]
mod files;
mod guard;
mod kept;
#[cfg(any(feature = "cli", feature = "cluster"))]
pub(super) mod operator;
mod ordered;
mod outside;
#[cfg(feature = "cli")]
mod reload;
#[cfg(test)]
mod testing;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64},
    },
};

#[cfg(feature = "store")]
use tokio::sync::mpsc;
use tokio::{
    sync::{Notify, oneshot},
    time::Instant,
};

use crate::{
    limits::Limits,
    log::{Audience, Log},
    room::Room,
    session::{AccessPolicy, ConnectionId, Effect, FileTask, Offer, Sessions, Time},
    wire::{ServerEnvelope, server_envelope::Message},
};

use effects::Published;
pub(super) use effects::report_rejected;
#[cfg(feature = "store")]
pub(super) use files::{FileDone, NotRead};
pub(super) use guard::HubGuard;
#[cfg(all(feature = "store", feature = "cluster"))]
pub(super) use kept::Gap;
#[cfg(feature = "cluster")]
pub(super) use ordered::{InOrder, Outgoing};
pub(super) use outside::{Origin, Outside, unix_ms};

use super::{
    address_limiter::{AddressLimiter, Permit},
    archive::{Archive, Delivery},
    channel::Channel,
    expiry::Expiry,
    file_queue::FileQueue,
    followers::Followers,
    metrics::{self, Counts, Gauges, Metrics},
    outbound::{Due, Outbound},
    peer::Peer,
    read_budget::ReadBudget,
    registry::{ConnectionHandle, Registry},
};

/// When clients are to come back after the server has closed, in milliseconds, unless the
/// operator says when: a restart takes less.
const BACK_IN_MS: u32 = 1_000;

/// What every connection of a server shares.
pub(super) struct Hub {
    limits: Limits,
    start: Instant,
    /// The clock on the wall, in milliseconds since 1970.
    unix_ms: fn() -> i64,
    state: Mutex<State>,
    pub(super) channel: Channel,
    pub(super) registry: Registry,
    /// Where the past is kept, if it is kept on disk.
    archive: Option<Arc<Archive>>,
    /// Where files are kept, if they are.
    files: Option<Arc<FileQueue>>,
    /// Who fetches files that other nodes of a cluster have, if this is one.
    #[cfg(feature = "store")]
    file_fetcher: OnceLock<mpsc::Sender<crate::session::FileRead>>,
    /// Connections must end at once.
    is_aborted: AtomicBool,
    /// Why the server cannot go on, and who waits to know it.
    failure: OnceLock<String>,
    failed: Notify,
    pub(super) metrics: Metrics,
    start_unix_ms: i64,
    /// Sessions have made commands for the order of a cluster.
    commands_made: Notify,
    /// This node takes part in the order of a cluster.
    reachable: Notify,
    /// The order of a cluster has changed the bans and mutes, and how many changes of them
    /// are known.
    bans_changed: Notify,
    ban_changes: AtomicU64,
    /// Commands go through the order of a cluster, and what is due to a connection waits
    /// for it in `State::mail`.
    is_clustered: AtomicBool,
    /// Who waits for the operator to close the server, and when clients are to come back
    /// then, in milliseconds.
    close_requested: Notify,
    back_in_ms: AtomicU32,
}

struct State {
    sessions: Sessions,
    room: Room,
    log: Log,
    limiter: AddressLimiter,
    counts: Counts,
    /// Chats whose texts are removed when what was appended below a position is kept, and
    /// who waits for it.
    removals: Vec<Removal>,
    /// The members with a filter.
    followers: Followers,
    /// Empty between calls; kept for its memory.
    effects: Vec<Effect>,
    /// What became due to connections outside their passes, by index.
    mail: BTreeMap<usize, Vec<Due>>,
    /// Whether what a pass appended is committed when the pass ends. Otherwise a later
    /// commit releases it.
    commits_at_once: bool,
    /// What the operator asks all nodes of a cluster.
    operations: ordered::Operations,
    /// Up to where the store has the order of a cluster.
    kept: kept::Kept,
}

/// A text that is going to be removed.
#[cfg_attr(
    not(any(feature = "cli", feature = "cluster")),
    expect(dead_code, reason = "for the operator")
)]
struct Removal {
    position: u64,
    seq: u64,
    /// Closed when it is done.
    #[cfg_attr(
        any(feature = "cli", feature = "cluster"),
        expect(dead_code, reason = "dropped when it is done")
    )]
    done: oneshot::Sender<()>,
}

impl State {
    fn connect(
        &mut self,
        now: Time,
        peer: &Peer,
    ) -> Result<(ConnectionId, Permit), Box<ServerEnvelope>> {
        *self.counts.connections.entry(peer.transport()).or_default() += 1;
        if let Some(address) = peer.ip() {
            self.sessions.check_address(now, address)?;
        }
        let id = self.sessions.connect(now)?;
        match peer.ip() {
            None => Ok((id, Permit::UNCOUNTED)),
            Some(address) => match self.limiter.acquire(now.elapsed_ms, address) {
                Ok(permit) => Ok((id, permit)),
                Err(limit) => Err(self.sessions.reject(id, limit)),
            },
        }
    }

    /// What was appended below `position` is kept: removes the texts that waited for that
    /// (CHAT-MOD-8).
    fn remove_texts(&mut self, position: u64) {
        let log = &mut self.log;
        self.removals.retain_mut(|removal| {
            if removal.position <= position {
                log.remove(removal.seq);
            }
            removal.position > position
        });
    }
}

impl Hub {
    /// The hub of a room, for clients that `access` lets in.
    pub(super) fn new(limits: Limits, access: AccessPolicy, origin: Origin) -> Self {
        Self::within(Outside::with_clock(unix_ms), limits, access, origin)
    }

    /// The same, with another clock and other chance.
    pub(super) fn within(
        outside: Outside,
        limits: Limits,
        access: AccessPolicy,
        origin: Origin,
    ) -> Self {
        let Origin {
            room,
            log,
            archive,
            offers_history,
            files,
        } = origin;
        let (files, file_index) = files.unzip();
        let offer = Offer {
            history: offers_history,
            files: files.is_some(),
            fresh_token: outside.fresh_token,
            fresh_nonce: outside.fresh_nonce,
        };
        Self {
            start: Instant::now(),
            unix_ms: outside.unix_ms,
            channel: Channel::new(&limits, &log),
            registry: Registry::new(limits.queue_bytes_max),
            archive,
            files,
            #[cfg(feature = "store")]
            file_fetcher: OnceLock::new(),
            is_aborted: AtomicBool::new(false),
            failure: OnceLock::new(),
            failed: Notify::new(),
            metrics: Metrics::default(),
            start_unix_ms: self::unix_ms(),
            commands_made: Notify::new(),
            reachable: Notify::new(),
            bans_changed: Notify::new(),
            ban_changes: AtomicU64::new(0),
            is_clustered: AtomicBool::new(false),
            close_requested: Notify::new(),
            back_in_ms: AtomicU32::new(BACK_IN_MS),
            state: Mutex::new(State {
                sessions: {
                    let mut sessions = Sessions::new(limits.clone(), access, offer);
                    sessions.set_files(file_index.unwrap_or_default());
                    sessions
                },
                room,
                log,
                limiter: AddressLimiter::new(&limits),
                counts: Counts::default(),
                removals: Vec::new(),
                followers: Followers::default(),
                effects: Vec::new(),
                mail: BTreeMap::new(),
                commits_at_once: true,
                operations: ordered::Operations::default(),
                kept: kept::Kept::default(),
            }),
            limits,
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many connections it has, rejected ones left out.
    pub(super) fn connection_count(&self) -> usize {
        self.lock().sessions.connections()
    }

    /// A stream was accepted from `peer`. Every limit of connections is judged here,
    /// before any handshake.
    ///
    /// # Errors
    ///
    /// What to tell it before it is closed.
    pub(super) fn connect(
        &self,
        peer: Peer,
    ) -> Result<(ConnectionId, Arc<ConnectionHandle>), Box<ServerEnvelope>> {
        let now = self.now();
        let mut state = self.lock();
        let (id, permit) = match state.connect(now, &peer) {
            Ok(connected) => connected,
            Err(answer) => {
                if let Some(Message::Error(error)) = &answer.message {
                    state.counts.refused(error.code());
                }
                return Err(answer);
            }
        };
        // Still under the lock: the index is this connection's from here on.
        let handle = self.registry.insert(id.index(), peer, permit);
        Ok((id, handle))
    }

    /// A connection is gone.
    pub(super) fn disconnect(&self, id: ConnectionId) {
        let now = self.now();
        let mut state = self.lock();
        // Before the sessions give the index to another connection.
        let removed = self.registry.remove(id.index()).map(|(peer, permit)| {
            state.limiter.release(now.elapsed_ms, permit);
            peer
        });
        let State {
            sessions,
            room,
            effects,
            mail,
            ..
        } = &mut *state;
        let index = id.index();
        mail.remove(&index);
        sessions.disconnect(room, now, id, effects);
        if let Some(archive) = &self.archive {
            archive.forget(index);
        }
        if let Some(files) = &self.files {
            files.push(FileTask::Forget { index });
        }
        state.followers.remove(index);
        let (published, woken) = self.apply(&mut state, removed.as_ref());
        drop(state);
        self.wake(published.audience, &woken);
    }

    /// Takes the lock for a pass of one connection. What the pass publishes is
    /// committed, and its readers are woken, when the guard is dropped.
    pub(super) fn enter<'a>(
        &'a self,
        id: &'a ConnectionId,
        handle: &'a ConnectionHandle,
        outbound: &'a mut Outbound,
        budget: &'a mut ReadBudget,
    ) -> HubGuard<'a> {
        let mut now = self.now();
        now.earliest_arrival_ms = budget.blocked_since.since_ms(now.elapsed_ms); // CHAT-LIM-2
        let mut guard = HubGuard {
            hub: self,
            state: Some(self.lock()),
            id,
            handle,
            now,
            outbound,
            budget,
            published: Published::default(),
        };
        if handle.has_mail() {
            guard.take_mail();
        }
        guard
    }

    /// The end of what a connection may send of the log that is committed up to
    /// `committed_end`, once it has taken its mail.
    pub(super) fn visible_end(&self, committed_end: u64) -> u64 {
        match self.is_clustered() {
            // A frame of its own may have been committed since, which its reader does not
            // know to skip yet.
            true => committed_end,
            false => u64::MAX,
        }
    }

    /// A connection that lacks a part of the past has sent what it had: fetches more.
    pub(super) fn continue_catch_up(&self, id: &ConnectionId) {
        if let Some(archive) = &self.archive {
            archive.continue_catch_up(id.index());
        }
    }

    /// What has arrived of the past for a connection.
    pub(super) fn take_delivery(&self, id: &ConnectionId) -> Option<Delivery> {
        self.archive.as_ref()?.take(id.index())
    }

    /// How long the server has run, in milliseconds.
    pub(super) fn elapsed_ms(&self) -> u64 {
        self.now().elapsed_ms
    }

    /// What the clock on the wall shows, in milliseconds since 1970.
    #[cfg_attr(
        not(feature = "cluster"),
        expect(dead_code, reason = "for the cluster")
    )]
    pub(super) fn wall_unix_ms(&self) -> i64 {
        (self.unix_ms)()
    }

    /// Does what is due: to be called every
    /// [`TICK_MS`](super::slow_consumer::TICK_MS).
    pub(super) fn tick(&self) {
        let now = self.now();
        let mut due = Vec::new();
        {
            let mut state = self.lock();
            let State { sessions, room, .. } = &mut *state;
            sessions.due(room, now, &mut due);
            if let Some(files) = &self.files {
                for removal in sessions.expire_files(room.oldest_seq(), now.unix_ms) {
                    files.push(FileTask::Remove(removal));
                }
            }
        }
        self.registry.notify(&due);
        self.metrics.deliveries.arm();
        self.channel.tick(&self.registry);
    }

    /// Carries out the effects for a pass that is over with them. What is due to a connection
    /// is due to nobody: `peer` is gone, if there was one.
    fn apply(&self, state: &mut State, peer: Option<&Peer>) -> (Published, Vec<usize>) {
        let published = self.carry_out(state, |_| (), None, peer, Published::default());
        let woken = self.publish(state, &published, None);
        (published, woken)
    }

    /// Makes what a pass appended visible: at once, or when the store has it. `waiting`:
    /// the connection has replies that wait for that. Returns the members with a filter to
    /// wake now.
    fn publish(
        &self,
        state: &mut State,
        published: &Published,
        waiting: Option<usize>,
    ) -> Vec<usize> {
        let mut woken = state.followers.end_pass();
        if let (Some(archive), true) = (&self.archive, self.waits_for_store()) {
            let changes = state.room.take_changes();
            if published.audience.is_some() || waiting.is_some() || !changes.is_empty() {
                let waiting = std::mem::take(&mut woken).into_iter().chain(waiting);
                archive.push(changes, state.log.end(), published.audience, waiting);
                self.channel.note_store_lag(&state.log);
            }
        } else if state.commits_at_once && published.audience.is_some() {
            let end = state.log.end();
            self.metrics.deliveries.commits(end);
            self.channel.commit(&mut state.log, end, &self.registry);
            if let Some(archive) = &self.archive {
                // Pages wait until the disk has come so far.
                archive.push(Vec::new(), end, None, None);
            }
        }
        woken
    }

    /// Whether readers see what is appended when the store has committed it. The order of a
    /// cluster keeps it before that.
    fn waits_for_store(&self) -> bool {
        self.archive.is_some() && !self.is_clustered()
    }

    /// Whether it takes clients and messages.
    pub(super) fn is_ready(&self) -> bool {
        let state = self.lock();
        let is_open = !state.sessions.is_closing() && !state.sessions.is_store_full();
        let is_open = is_open && !state.sessions.is_unreachable();
        is_open && self.failure().is_none()
    }

    /// What it counts, for Prometheus.
    pub(super) fn metrics_page(&self, expiry: Option<Expiry>) -> String {
        let mut gauges = Gauges {
            expiry,
            slow_readers: self.channel.slow_readers(&self.registry),
            log_bytes: self.channel.retained_bytes(),
            buffered_bytes: self.registry.buffered_bytes(),
            is_paused: self.channel.is_paused(),
            has_store: self.archive.is_some(),
            start_unix_s: self.start_unix_ms as f64 / 1_000.0,
            ..Gauges::default()
        };
        let state = self.lock();
        gauges.connections = state.sessions.connections();
        gauges.members = state.room.member_count();
        gauges.is_store_full = state.sessions.is_store_full();
        let is_unreachable = state.sessions.is_unreachable();
        gauges.is_in_cluster = self.is_clustered().then_some(!is_unreachable);
        let counts = state.counts.clone();
        drop(state);
        metrics::page(&self.metrics, &counts, &gauges)
    }

    fn wake(&self, audience: Option<Audience>, woken: &[usize]) {
        if let Some(audience) = audience
            && !self.waits_for_store()
        {
            self.registry.wake(audience);
            self.registry.wake_these(woken);
        }
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
        // A task that panicked under the lock has lost its connection; the rules are
        // still the best judge for the others, who must not get its effects.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.effects.clear();
        state
    }
}
