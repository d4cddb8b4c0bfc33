//! Archive: what the hub and the threads of the store hand to each other. The hub gives
//! it changes of the room to keep and requests for pages of the past; the threads give
//! back commits and pages.
//!
//! ```text
//!   hub ── changes, log end ──▶ ┌─────────┐ ──▶ writer ── commit ──▶ hub: readers see it
//!                               │ Archive │
//!   connection ── request ────▶ └─────────┘ ──▶ reader ── delivery ─▶ connection
//! ```
//!
//! The disk is one more reader of the log: what is appended becomes visible, and the
//! receipts for it are released, once the writer has committed it (CHAT-ORD-9).

#![cfg_attr(
    not(feature = "store"),
    expect(dead_code, reason = "the threads that use it come with the feature")
)]

#[cfg(feature = "store")]
mod past;
#[cfg(feature = "store")]
mod threads;

#[cfg(all(feature = "store", feature = "cluster"))]
pub(super) use past::{Kept, Offered};
#[cfg(feature = "store")]
pub(super) use threads::Threads;

#[cfg(feature = "store")]
use std::time::Duration;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use crate::{filter::Filter, log::Audience, room::Change, session::PageRequest};

/// How much of the log may wait for the disk before senders are paused, in bytes: a
/// burst of a few commits, and little memory.
pub(super) const UNCOMMITTED_BYTES_MAX: u64 = 4 << 20;

/// How long the writer waits for something to do, in milliseconds: this soon a room in
/// which nobody speaks forgets what is too old, and notices that its folder is gone.
const IDLE_MS_MAX: u64 = 2_000;

/// The meeting place of a hub and the threads of its store.
#[derive(Default)]
pub(super) struct Archive {
    changes: Mutex<Pending>,
    /// Rung for the writer.
    changed: Condvar,
    requests: Mutex<Requests>,
    /// Rung for the reader.
    requested: Condvar,
    /// Up to where the log was handed over, and up to where the writer has committed it.
    pushed_end: AtomicU64,
    committed_end: AtomicU64,
    /// How many deliveries wait to be taken. Most notifications find none.
    deliveries: AtomicUsize,
}

/// What the writer has not taken yet.
#[derive(Default)]
pub(super) struct Pending {
    /// The changes, in order. Bounded by [`UNCOMMITTED_BYTES_MAX`]: who makes them waits.
    pub(super) changes: Vec<Change>,
    /// The end of the log behind them.
    pub(super) log_end: u64,
    /// The largest of the audiences of what was appended.
    pub(super) audience: Option<Audience>,
    /// The connections with replies that wait for the commit.
    pub(super) waiting: Vec<usize>,
    /// Chats from another node that stand before the oldest one. One piece at a time.
    #[cfg(feature = "store")]
    past: Option<past::Offered>,
    /// No more will come.
    pub(super) is_closing: bool,
}

/// What connections ask of the past. One page and one catch-up for a connection.
#[derive(Default)]
struct Requests {
    due: VecDeque<Request>,
    /// Those that wait for the commit of the log up to a position.
    held: VecDeque<(u64, Request)>,
    pages: BTreeMap<usize, Slot>,
    catch_ups: BTreeMap<usize, CatchUp>,
    next_serial: u64,
    is_closing: bool,
}

/// A page that a connection waits for.
struct Slot {
    /// Tells the request from one of an earlier connection with the same index.
    serial: u64,
    delivery: Option<Delivery>,
}

/// The way of a resumed session to the recent past, which is in memory.
struct CatchUp {
    serial: u64,
    /// The next chat that it lacks.
    next_seq: u64,
    /// The first chat that it finds in memory.
    until_seq: u64,
    /// Which of them it wants, if not all (CHAT-FOL-9).
    filter: Option<Arc<Filter>>,
    is_requested: bool,
    /// All of it is on the disk when the log is committed up to here.
    position: u64,
    delivery: Option<Delivery>,
}

/// A request, as the reader takes it.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// The index of the connection.
    pub(super) index: usize,
    serial: u64,
    pub(super) kind: RequestKind,
}

#[derive(Debug, Clone)]
pub(super) enum RequestKind {
    /// A page that the client asked for (CHAT-HIST).
    Page(PageRequest),
    /// The chats from `from_seq` on, before `until_seq` (CHAT-RES-9), that pass a filter.
    Chats {
        from_seq: u64,
        until_seq: u64,
        filter: Option<Arc<Filter>>,
    },
}

/// What arrived for a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The answer to its GetHistory, as a frame.
    Page(Vec<u8>),
    /// Chats that it missed, as frames.
    Chats {
        frames: Vec<u8>,
        /// How many they are.
        chats: u64,
        /// The rest is in memory.
        is_last: bool,
    },
    /// Chats that it missed were removed before they were read.
    Removed,
}

impl Archive {
    /// The log was appended up to `log_end`: `changes` are to be kept, and the connection
    /// `waiting` waits for that.
    pub(super) fn push(
        &self,
        changes: Vec<Change>,
        log_end: u64,
        audience: Option<Audience>,
        waiting: impl IntoIterator<Item = usize>,
    ) {
        let mut pending = self.changes();
        pending.changes.extend(changes);
        pending.log_end = log_end;
        pending.audience = pending.audience.max(audience);
        pending.waiting.extend(waiting);
        drop(pending);
        self.pushed_end.fetch_max(log_end, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Up to where the writer has committed the log.
    pub(super) fn committed_end(&self) -> u64 {
        self.committed_end.load(Ordering::Relaxed)
    }

    /// Whether so much waits for the disk that the order of a cluster has to wait too.
    pub(super) fn is_behind(&self) -> bool {
        let pushed_end = self.pushed_end.load(Ordering::Relaxed);
        pushed_end.saturating_sub(self.committed_end()) > UNCOMMITTED_BYTES_MAX
    }

    /// A client asks for a page of the past. It is read when the log is committed up to
    /// `position`, if there is one, since chats count from when they are accepted
    /// (CHAT-HIST-3).
    pub(super) fn request_page(&self, index: usize, page: PageRequest, position: Option<u64>) {
        let mut requests = self.requests();
        let serial = requests.next_serial;
        requests.next_serial += 1;
        let slot = Slot {
            serial,
            delivery: None,
        };
        requests.pages.insert(index, slot);
        let request = Request {
            index,
            serial,
            kind: RequestKind::Page(page),
        };
        match position {
            Some(position) => requests.held.push_back((position, request)),
            None => requests.due.push_back(request),
        }
        drop(requests);
        self.requested.notify_one();
    }

    /// The log is committed up to `position`: what waits for that can be read.
    pub(super) fn committed_up_to(&self, position: u64) {
        self.committed_end.fetch_max(position, Ordering::Relaxed);
        self.release(position);
    }

    /// What waits for a commit can be read, though none will come soon.
    pub(super) fn release_all(&self) {
        self.release(u64::MAX);
    }

    fn release(&self, position: u64) {
        let mut requests = self.requests();
        let held = std::mem::take(&mut requests.held);
        let (released, held): (VecDeque<_>, VecDeque<_>) =
            held.into_iter().partition(|(end, _)| *end <= position);
        requests.held = held;
        if !released.is_empty() {
            requests
                .due
                .extend(released.into_iter().map(|(_, request)| request));
            drop(requests);
            self.requested.notify_one();
        }
    }

    /// A connection lacks the chats from the first number on, before the second one, that
    /// pass `filter`. They are on the disk when the log is committed up to `position`.
    pub(super) fn begin_catch_up(
        &self,
        index: usize,
        (next_seq, until_seq): (u64, u64),
        filter: Option<Arc<Filter>>,
        position: u64,
    ) {
        let mut requests = self.requests();
        let catch_up = CatchUp {
            serial: requests.next_serial,
            next_seq,
            until_seq,
            filter,
            is_requested: false,
            position,
            delivery: None,
        };
        requests.next_serial += 1;
        requests.catch_ups.insert(index, catch_up);
    }

    /// A connection has sent what it had: requests the next chats that it lacks, unless
    /// that was done.
    pub(super) fn continue_catch_up(&self, index: usize) {
        let mut requests = self.requests();
        let Some(catch_up) = requests.catch_ups.get_mut(&index) else {
            return;
        };
        if std::mem::replace(&mut catch_up.is_requested, true) {
            return;
        }
        let request = Request {
            index,
            serial: catch_up.serial,
            kind: RequestKind::Chats {
                from_seq: catch_up.next_seq,
                until_seq: catch_up.until_seq,
                filter: catch_up.filter.clone(),
            },
        };
        let position = catch_up.position;
        match position > self.committed_end() {
            true => requests.held.push_back((position, request)),
            false => requests.due.push_back(request),
        }
        drop(requests);
        self.requested.notify_one();
    }

    /// What has arrived for a connection, if anything has.
    pub(super) fn take(&self, index: usize) -> Option<Delivery> {
        if self.deliveries.load(Ordering::Acquire) == 0 {
            return None;
        }
        let mut requests = self.requests();
        let page = requests.pages.get_mut(&index);
        if let Some(delivery) = page.and_then(|slot| slot.delivery.take()) {
            requests.pages.remove(&index);
            self.deliveries.fetch_sub(1, Ordering::Relaxed);
            return Some(delivery);
        }
        let catch_up = requests.catch_ups.get_mut(&index)?;
        let delivery = catch_up.delivery.take()?;
        self.deliveries.fetch_sub(1, Ordering::Relaxed);
        catch_up.is_requested = false;
        if !matches!(delivery, Delivery::Chats { is_last: false, .. }) {
            requests.catch_ups.remove(&index);
        }
        Some(delivery)
    }

    /// A connection is gone, or its session does not want the past any more.
    pub(super) fn forget(&self, index: usize) {
        let mut requests = self.requests();
        let page = requests.pages.remove(&index);
        let catch_up = requests.catch_ups.remove(&index);
        if page.is_some() || catch_up.is_some() {
            // Clients that come, ask and go must not fill the queue.
            requests.due.retain(|request| request.index != index);
            requests.held.retain(|(_, request)| request.index != index);
        }
        let page = page.and_then(|it| it.delivery);
        let chats = catch_up.and_then(|it| it.delivery);
        let dropped = usize::from(page.is_some()) + usize::from(chats.is_some());
        self.deliveries.fetch_sub(dropped, Ordering::Relaxed);
    }

    /// Nothing more will come: the threads end when they have done what is due.
    pub(super) fn close(&self) {
        self.changes().is_closing = true;
        self.requests().is_closing = true;
        self.changed.notify_all();
        self.requested.notify_all();
    }

    fn changes(&self) -> MutexGuard<'_, Pending> {
        self.changes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Archive {
    /// What is to be kept next, if there is something.
    pub(super) fn take_pending(&self) -> Option<Pending> {
        let mut pending = self.changes();
        (pending.log_end > 0).then(|| std::mem::take(&mut *pending))
    }

    /// The next request, if there is one.
    pub(super) fn take_request(&self) -> Option<Request> {
        self.requests().due.pop_front()
    }
}

/// The threads' side.
#[cfg(feature = "store")]
impl Archive {
    /// What is to be kept next; waits until there is something, or nothing will come.
    fn next_changes(&self) -> Pending {
        let is_idle = |it: &mut Pending| {
            it.log_end == 0 && it.changes.is_empty() && it.past.is_none() && !it.is_closing
        };
        let time = Duration::from_millis(IDLE_MS_MAX);
        let pending = self
            .changed
            .wait_timeout_while(self.changes(), time, is_idle);
        let (mut pending, _) = pending.unwrap_or_else(PoisonError::into_inner);
        let is_closing = pending.is_closing;
        let taken = std::mem::take(&mut *pending);
        pending.is_closing = is_closing;
        taken
    }

    /// Waits for a while, or until nothing more will come. Returns whether that is so.
    fn wait_for_close(&self, time: Duration) -> bool {
        let is_open = |it: &mut Pending| !it.is_closing;
        let waited = self
            .changed
            .wait_timeout_while(self.changes(), time, is_open);
        waited.unwrap_or_else(PoisonError::into_inner).0.is_closing
    }

    /// The next request; `None` when nothing will come.
    fn next_request(&self) -> Option<Request> {
        let is_idle = |it: &mut Requests| it.due.is_empty() && !it.is_closing;
        let requests = self.requested.wait_while(self.requests(), is_idle);
        let mut requests = requests.unwrap_or_else(PoisonError::into_inner);
        requests.due.pop_front()
    }
}

#[cfg(any(feature = "store", test))]
impl Archive {
    /// The answer to a request, and for chats the number behind them. Nothing if the
    /// connection has gone.
    pub(super) fn deliver(&self, request: Request, delivery: Delivery, behind_seq: u64) {
        let mut requests = self.requests();
        let Request { index, serial, .. } = request;
        let is_filled = match request.kind {
            RequestKind::Page(_) => match requests.pages.get_mut(&index) {
                Some(slot) if slot.serial == serial => slot.delivery.replace(delivery).is_none(),
                _ => false,
            },
            RequestKind::Chats { .. } => match requests.catch_ups.get_mut(&index) {
                Some(catch_up) if catch_up.serial == serial => {
                    catch_up.next_seq = behind_seq;
                    catch_up.delivery.replace(delivery).is_none()
                }
                _ => false,
            },
        };
        if is_filled {
            self.deliveries.fetch_add(1, Ordering::Release);
        }
    }
}
