//! Registry: the handles by which the hub and the channel reach the tasks of
//! connections, and their wakers.

use std::ops::{Deref, DerefMut};
use std::sync::{
    Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};
use std::task::Waker;

use crate::log::{Audience, Reader};

use super::{
    address_limiter::Permit, backpressure::PausedReadQuota, peer::Peer, slow_consumer::StallBudget,
};

/// A connection as others see it. Shared by its task and the registry.
pub(super) struct ConnectionHandle {
    pub(super) peer: Peer,
    waker: OnceLock<Waker>,
    /// Where its reader is in the log, [`ConnectionHandle::NOT_SUBSCRIBED`] without one.
    position: AtomicU64,
    /// How much memory its replies and unfinished frames take, in bytes.
    buffered_bytes: AtomicU32,
    /// It has a permit from the address limiter.
    is_counted: bool,
    /// It must close, since all queues together take too much (CHAT-LIM-10).
    is_evicted: AtomicBool,
    /// Its session has something to do.
    is_notified: AtomicBool,
    /// The hub holds something that became due to it ([`Hub::enter`](super::hub::Hub)).
    has_mail: AtomicBool,
    /// Its reader belongs to [`Audience::Presence`].
    wants_presence: AtomicBool,
    /// Every chat concerns it: it follows the log without a filter.
    hears_everyone: AtomicBool,
    pub(super) paused_quota: PausedReadQuota,
}

/// What the registry keeps of one connection.
pub(super) struct ConnectionEntry {
    pub(super) handle: Arc<ConnectionHandle>,
    pub(super) stall_budget: StallBudget,
}

// Every member has both, and the table of entries is grown by doubling.
const _: () = assert!(size_of::<ConnectionHandle>() <= 64);
const _: () = assert!(size_of::<Option<ConnectionEntry>>() <= 24);

/// The buffers of all connections are crowded at this part of what all queues may take.
const CROWDED_PARTS: u64 = 2;

/// The entries of a registry, by the index of the connection.
#[derive(Default)]
pub(super) struct Connections {
    entries: Vec<Option<ConnectionEntry>>,
    /// Those that every chat concerns, a bit for each: members with a filter cost nothing
    /// where they are not due anything.
    everyone: Vec<AtomicU64>,
}

impl Connections {
    /// Whether every chat concerns the connection `index` from now on.
    fn set_hears_everyone(&self, index: usize, hears_everyone: bool) {
        let bit = 1 << (index % BITS);
        if let Some(bits) = self.everyone.get(index / BITS) {
            match hears_everyone {
                true => bits.fetch_or(bit, Ordering::Relaxed),
                false => bits.fetch_and(!bit, Ordering::Relaxed),
            };
        }
    }

    /// The connections that every chat concerns.
    fn everyone(&self) -> impl Iterator<Item = &ConnectionEntry> {
        let words = self.everyone.iter().enumerate();
        let indices = words.flat_map(|(word, bits)| {
            let mut bits = bits.load(Ordering::Relaxed);
            std::iter::from_fn(move || {
                let bit = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
                bits &= bits - 1;
                Some(word * BITS + bit)
            })
        });
        indices.filter_map(|index| self.entries.get(index)?.as_ref())
    }
}

impl Deref for Connections {
    type Target = [Option<ConnectionEntry>];

    fn deref(&self) -> &Self::Target {
        &self.entries
    }
}

impl DerefMut for Connections {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.entries
    }
}

/// How many connections a word of bits has.
const BITS: usize = u64::BITS as usize;

/// The connections of a server, by their index.
pub(super) struct Registry {
    connections: RwLock<Connections>,
    /// What the replies and unfinished frames of all take, in bytes.
    buffered_bytes: AtomicU64,
    /// From how many of them on the connections are crowded.
    crowded_from_bytes: u64,
}

impl ConnectionHandle {
    const NOT_SUBSCRIBED: u64 = u64::MAX;

    fn new(peer: Peer, permit: &Permit) -> Self {
        Self {
            peer,
            waker: OnceLock::new(),
            position: AtomicU64::new(Self::NOT_SUBSCRIBED),
            buffered_bytes: AtomicU32::new(0),
            is_counted: permit.is_counted(),
            is_evicted: AtomicBool::new(false),
            is_notified: AtomicBool::new(false),
            has_mail: AtomicBool::new(false),
            wants_presence: AtomicBool::new(false),
            hears_everyone: AtomicBool::new(false),
            paused_quota: PausedReadQuota::default(),
        }
    }

    /// Sets the task to wake. The task of a connection has one waker for its life.
    pub(super) fn set_waker(&self, waker: &Waker) {
        self.waker.get_or_init(|| waker.clone());
    }

    /// Sets the position of its reader. Returns where it was.
    pub(super) fn set_position(&self, position: u64) -> u64 {
        // Its own task alone writes it.
        let from = self.position.load(Ordering::Relaxed);
        if from != position {
            self.position.store(position, Ordering::Relaxed);
        }
        from
    }

    /// It no longer follows the log.
    pub(super) fn unsubscribe(&self) {
        self.set_position(Self::NOT_SUBSCRIBED);
    }

    /// Where its reader is, while it follows the log and may have something to send: a
    /// filter that leaves nothing puts nobody behind.
    pub(super) fn position(&self) -> Option<u64> {
        let position = self.position.load(Ordering::Relaxed);
        let is_nowhere = position == Self::NOT_SUBSCRIBED || position == Reader::NOTHING_DUE;
        (!is_nowhere).then_some(position)
    }

    /// Whether it follows the log with a filter that leaves nothing to send.
    pub(super) fn has_nothing_due(&self) -> bool {
        self.position.load(Ordering::Relaxed) == Reader::NOTHING_DUE
    }

    /// How much memory its replies and unfinished frames take, in bytes.
    pub(super) fn buffered_bytes(&self) -> u64 {
        self.buffered_bytes.load(Ordering::Relaxed).into()
    }

    /// Asks it to close, so that all queues fit into memory again (CHAT-LIM-10).
    pub(super) fn evict(&self) {
        self.is_evicted.store(true, Ordering::Relaxed);
        self.notify();
    }

    /// Whether it was asked to close and has not taken that up.
    pub(super) fn is_evicted(&self) -> bool {
        self.is_evicted.load(Ordering::Relaxed)
    }

    /// Whether it was asked to close; the task that calls this takes it up.
    pub(super) fn take_eviction(&self) -> bool {
        self.is_evicted() && self.is_evicted.swap(false, Ordering::Relaxed)
    }

    /// Tells its task that the session has something to do.
    pub(super) fn notify(&self) {
        self.is_notified.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether it was notified since this was last asked.
    pub(super) fn take_notification(&self) -> bool {
        // Most passes find none: a load is cheaper than a swap.
        self.is_notified.load(Ordering::Relaxed) && self.is_notified.swap(false, Ordering::Acquire)
    }

    /// Whether the hub holds something that became due to it.
    pub(super) fn has_mail(&self) -> bool {
        self.has_mail.load(Ordering::Acquire)
    }

    /// Sets whether the hub holds something that became due to it.
    pub(super) fn set_mail(&self, has_mail: bool) {
        self.has_mail.store(has_mail, Ordering::Release);
    }

    /// Runs its task.
    pub(super) fn wake(&self) {
        // A task without a waker has not run yet, so it is about to.
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    /// Whether presence concerns it now. A member without presence moves past presence
    /// frames at the next chat or tick, so that a Join does not wake it.
    fn hears_presence(&self) -> bool {
        self.position().is_some() && self.wants_presence.load(Ordering::Relaxed)
    }
}

impl Registry {
    /// No connections yet. `queue_bytes_max`: what all queues together may take.
    pub(super) fn new(queue_bytes_max: u64) -> Self {
        Self {
            connections: RwLock::default(),
            buffered_bytes: AtomicU64::new(0),
            crowded_from_bytes: queue_bytes_max / CROWDED_PARTS,
        }
    }

    /// Whether the buffers of all connections are crowded. They are counted where bytes
    /// are added, so a crowd cannot fill memory between two looks at the queues
    /// (CHAT-LIM-10).
    pub(super) fn is_crowded(&self) -> bool {
        self.buffered_bytes() >= self.crowded_from_bytes
    }

    /// Adds the connection `index`.
    pub(super) fn insert(&self, index: usize, peer: Peer, permit: Permit) -> Arc<ConnectionHandle> {
        let handle = Arc::new(ConnectionHandle::new(peer, &permit));
        let mut connections = self.write();
        if connections.len() <= index {
            connections.entries.resize_with(index + 1, || None);
            let words = index / BITS + 1;
            connections.everyone.resize_with(words, AtomicU64::default);
        }
        if let Some(free) = connections.get_mut(index) {
            *free = Some(ConnectionEntry {
                handle: Arc::clone(&handle),
                stall_budget: StallBudget::default(),
            });
        }
        handle
    }

    /// The reader of the connection `index` follows the log from `position` on.
    /// `hears_everyone`: without a filter.
    pub(super) fn subscribe(
        &self,
        (index, handle): (usize, &ConnectionHandle),
        position: u64,
        wants_presence: bool,
        hears_everyone: bool,
    ) {
        handle.set_position(position);
        handle
            .wants_presence
            .store(wants_presence, Ordering::Relaxed);
        if handle.hears_everyone.load(Ordering::Relaxed) != hears_everyone {
            handle
                .hears_everyone
                .store(hears_everyone, Ordering::Relaxed);
            self.read().set_hears_everyone(index, hears_everyone);
        }
    }

    /// Removes the connection `index`, and gives back its peer and its permit.
    pub(super) fn remove(&self, index: usize) -> Option<(Peer, Permit)> {
        let mut connections = self.write();
        connections.set_hears_everyone(index, false);
        let entry = connections.get_mut(index)?.take()?;
        drop(connections);
        self.buffered_bytes
            .fetch_sub(entry.handle.buffered_bytes(), Ordering::Relaxed);
        let peer = entry.handle.peer;
        let address = peer.ip().filter(|_| entry.handle.is_counted);
        Some((peer, address.map_or(Permit::UNCOUNTED, Permit::counted)))
    }

    /// Notifies the connections with these indices; some may have gone since.
    pub(super) fn notify(&self, indices: &[usize]) {
        let connections = self.read();
        for &index in indices {
            if let Some(Some(entry)) = connections.get(index) {
                entry.handle.notify();
            }
        }
    }

    /// The hub holds something for the connection with this index.
    pub(super) fn note_mail(&self, index: usize) {
        if let Some(Some(entry)) = self.read().get(index) {
            entry.handle.set_mail(true);
            entry.handle.wake();
        }
    }

    /// Notifies all connections.
    pub(super) fn notify_all(&self) {
        for entry in self.read().iter().flatten() {
            entry.handle.notify();
        }
    }

    /// Wakes the connections with these indices; some may have gone since.
    pub(super) fn wake_these(&self, indices: &[usize]) {
        if indices.is_empty() {
            return;
        }
        let connections = self.read();
        for &index in indices {
            if let Some(Some(entry)) = connections.get(index) {
                entry.handle.wake();
            }
        }
    }

    /// Wakes all connections.
    pub(super) fn wake_all(&self) {
        for entry in self.read().iter().flatten() {
            entry.handle.wake();
        }
    }

    /// Wakes the members that frames for `audience` concern.
    pub(super) fn wake(&self, audience: Audience) {
        let connections = self.read();
        match audience {
            Audience::Everyone => connections
                .everyone()
                .filter(|entry| entry.handle.position().is_some())
                .for_each(|entry| entry.handle.wake()),
            Audience::Presence => connections
                .iter()
                .flatten()
                .filter(|entry| entry.handle.hears_presence())
                .for_each(|entry| entry.handle.wake()),
        }
    }

    /// How much memory the replies and unfinished frames of all connections take, in
    /// bytes.
    pub(super) fn buffered_bytes(&self) -> u64 {
        self.buffered_bytes.load(Ordering::Relaxed)
    }

    /// Sets how much memory the replies and unfinished frames of one connection take, in
    /// bytes. Only its own task calls this.
    pub(super) fn set_buffered_bytes(&self, handle: &ConnectionHandle, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        // Nearly always unchanged: a load is cheaper than a store.
        let before = handle.buffered_bytes.load(Ordering::Relaxed);
        if before == bytes {
            return;
        }
        handle.buffered_bytes.store(bytes, Ordering::Relaxed);
        // The sum wraps, and so does its difference.
        let change = u64::from(bytes).wrapping_sub(before.into());
        self.buffered_bytes.fetch_add(change, Ordering::Relaxed);
    }

    /// The entries, by index, to look at. Lock order: behind the hub's.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Connections> {
        self.connections
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The entries, by index, to change. Lock order: behind the hub's.
    pub(super) fn write(&self) -> RwLockWriteGuard<'_, Connections> {
        self.connections
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
