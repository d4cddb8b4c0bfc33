//! One connection: a small task that reads, has its session judge what arrived, and
//! writes what is due. It waits for its own transport and its waker alone.
//!
//! ```text
//!             the session ends           all that is due is sent
//!   Open ───────────────────▶ Draining ───────────────────────▶ Lingering ──▶ gone
//!    │                           │ nothing is taken for              the peer closes,
//!    │ the stream breaks         │ the write deadline                or time is up
//!    └───────────────────────────┴─────────────────────────────────▶ gone
//! ```
//!
//! Lingering: a socket closed while bytes from the peer are unread is reset, and
//! the reset can destroy the last words that the peer has not read yet. So the
//! sending side is closed first, and what still comes is read and dropped.

mod closing;
mod writing;

use std::{
    cell::RefCell,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use tokio::net::TcpStream;
use tracing::info;

use crate::{
    session::{ConnectionId, Event},
    wire::ServerEnvelope,
};

use super::{
    backpressure::PAUSED_READ_BYTES,
    deadline::Deadline,
    frames::Frames,
    hub::{Hub, HubGuard},
    outbound::{Files, Next, Outbound, Source},
    proxied::{UNEXPECTED, begins_with_header},
    read_budget::{READ_BYTES, ReadBudget, replies_bytes_max},
    read_buffer::ReadBuffer,
    registry::ConnectionHandle,
    transport::Transport,
};
use writing::Flush;

/// How many passes a connection makes before the others get their turn.
const PASSES_PER_POLL_MAX: usize = 8;

thread_local! {
    /// What is read comes here first, so that a silent connection owns no buffer.
    static READ_BUFFER: RefCell<Box<[u8]>> =
        RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

// With what the runtime adds, a task takes a multiple of 128 bytes: 144 of ours fit
// into 256, which is what a silent member costs beyond its socket. (The runtime's
// clock for tests adds 8.)
const _: () = assert!(size_of::<Connection<TcpStream>>() <= 144 + 8);

/// A connection that the hub has taken in.
pub(super) type Member = (ConnectionId, Arc<ConnectionHandle>);

/// A connection, as a future that ends when it is gone.
pub(super) struct Connection<T> {
    transport: T,
    hub: Arc<Hub>,
    /// `None` for a connection that was rejected.
    member: Option<Member>,
    outbound: Outbound,
    budget: ReadBudget,
    read_buffer: ReadBuffer,
    phase: Phase,
    /// Set while something is due that the transport does not take, and while
    /// lingering.
    deadline: Option<Box<Deadline>>,
}

enum Phase {
    Open,
    Draining,
    Lingering { dropped_bytes: u32 },
}

impl<T: Transport> Connection<T> {
    /// The connection of a stream that the hub has taken in, or rejected with an
    /// answer.
    pub(super) fn new(
        transport: T,
        hub: Arc<Hub>,
        member: Result<Member, Box<ServerEnvelope>>,
    ) -> Self {
        let mut outbound = Outbound::default();
        if let Err(answer) = &member {
            outbound.reply(answer);
            outbound.is_ended = true;
        }
        Self {
            transport,
            hub,
            member: member.ok(),
            outbound,
            budget: ReadBudget::default(),
            read_buffer: ReadBuffer::default(),
            phase: Phase::Open,
            deadline: None,
        }
    }

    /// Whether the hub rejected it.
    #[cfg(test)]
    pub(super) fn is_rejected(&self) -> bool {
        self.member.is_none()
    }

    /// Where it is in the log, while it follows it.
    #[cfg(test)]
    pub(super) fn position(&self) -> Option<u64> {
        self.outbound.position()
    }

    /// What its read buffer and its replies take, in bytes.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> (usize, usize) {
        (
            self.read_buffer.buffered_bytes(),
            self.outbound.replies.buffered_bytes(),
        )
    }

    /// Whether it is not read from until it is notified, and whether its session is
    /// over.
    #[cfg(test)]
    pub(super) fn is_throttled_or_ended(&self) -> (bool, bool) {
        (self.budget.is_throttled, self.outbound.is_ended)
    }

    /// Whether it is read from.
    #[cfg(test)]
    pub(super) fn may_read(&self) -> bool {
        self.read_bytes_max() > 0
    }

    /// Does what can be done now. `Ready` when the connection is gone; an error
    /// when it broke.
    fn poll_passes(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(handle) = self.handle() {
            handle.set_waker(cx.waker());
        }
        for _ in 0..PASSES_PER_POLL_MAX {
            if self.hub.is_aborted() {
                return Poll::Ready(Ok(()));
            }
            if matches!(self.phase, Phase::Open) && self.outbound.is_ended {
                self.phase = Phase::Draining;
                // Nothing of it is looked at any more.
                self.read_buffer = ReadBuffer::default();
                self.budget.has_backlog = false;
            }
            match self.phase {
                Phase::Open => ready!(self.poll_open(cx))?,
                Phase::Draining => ready!(self.poll_draining(cx))?,
                Phase::Lingering { .. } => return self.poll_lingering(cx),
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Flushes, reads once, then does what it was notified for. `Ready` when there may
    /// be more to do.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = match self.flush(cx) {
            Ok(flush) => flush,
            Err(error) => {
                self.take_last_words(cx);
                return Poll::Ready(Err(error));
            }
        };
        if self.outbound.is_ended {
            return Poll::Ready(Ok(())); // It was in the mail.
        }
        if self.is_out_of_reach() || self.poll_write_deadline(cx, &flush).is_ready() {
            self.handle_event(Event::WriteTimedOut);
            return Poll::Ready(Ok(()));
        }
        if self.outbound.has_followed {
            if let Some(mut guard) = self.enter() {
                guard.followed();
            }
            return Poll::Ready(Ok(()));
        }
        if flush == Flush::Done && self.outbound.is_catching_up {
            self.continue_catch_up();
        } else if flush == Flush::Done && self.outbound.has_more_members {
            if let Some(mut guard) = self.enter() {
                guard.more_members();
            }
            return Poll::Ready(Ok(()));
        }
        let mut has_piece = false;
        if flush == Flush::Done && self.outbound.files == Files::Due {
            // CHAT-FILE-11: everything else was sent.
            if let Some(mut guard) = self.enter() {
                has_piece = guard.next_piece();
            }
        }
        if self.hub.channel.is_paused() {
            let hub = &self.hub;
            self.budget.blocked_since.begin(|| hub.elapsed_ms());
        }
        let is_notified = self
            .handle()
            .is_some_and(ConnectionHandle::take_notification);
        let (has_read, reads_drained) = match self.read_bytes_max() {
            0 => (false, false),
            _ if self.budget.has_backlog => {
                self.consume(&[]);
                (true, false)
            }
            bytes_max => match self.poll_read(cx, bytes_max)? {
                Poll::Pending => (false, !(is_notified && self.transport.is_readable_now())),
                // After a full buffer there may be more.
                Poll::Ready(bytes) => (true, bytes < bytes_max && !self.budget.has_backlog),
            },
        };
        if reads_drained {
            self.budget.blocked_since.end();
        }
        if is_notified {
            // After reading: a peer whose words have waited to be read is not silent,
            // however long this machine slept (CHAT-KEEP-4, CHAT-NAME-8).
            self.handle_notification(reads_drained);
        }
        // A flush that yields goes on at once, as does one with another piece; everything else
        // has set a waker.
        match has_read || is_notified || has_piece || flush == Flush::Yield {
            true => Poll::Ready(Ok(())),
            false => Poll::Pending,
        }
    }

    /// Reads what has arrived, at most `bytes_max`, and has it judged. Returns how much
    /// it was, in bytes.
    fn poll_read(&mut self, cx: &mut Context<'_>, bytes_max: usize) -> Poll<io::Result<usize>> {
        READ_BUFFER.with_borrow_mut(|buffer| {
            let buffer = buffer.get_mut(..bytes_max).unwrap_or_default();
            let bytes = ready!(self.transport.poll_read_available(cx, buffer))?;
            self.hub.metrics.received(bytes);
            if bytes_max == PAUSED_READ_BYTES
                && let Some(handle) = self.handle()
            {
                self.hub.channel.use_paused_quota(handle);
            }
            let read = buffer.get(..bytes).unwrap_or_default();
            if read.is_empty() {
                self.budget.is_at_end = true;
                let inside_frame = !self.read_buffer.is_empty();
                let event = Event::EndOfStream { inside_frame };
                if let Some(mut guard) = self.enter()
                    && !guard.waits_for_pieces(&event)
                {
                    guard.handle(event);
                }
            } else {
                self.note_start(read);
                self.consume(read);
            }
            Poll::Ready(Ok(bytes))
        })
    }

    /// Tells a misconfigured proxy from other mistakes, in the log.
    fn note_start(&self, read: &[u8]) {
        let is_new = self.outbound.reader.is_none() && self.read_buffer.is_empty();
        if let Some(handle) = self.handle().filter(|_| is_new && begins_with_header(read)) {
            info!(
                peer = handle.peer.log_address(),
                port = handle.peer.log_port(),
                transport = handle.peer.transport(),
                "{UNEXPECTED}"
            );
        }
    }

    /// Nothing can be sent any more. What has arrived before counts all the same
    /// (CHAT-LEAVE-3), as far as one pass takes it, since nobody waits for the rest.
    fn take_last_words(&mut self, cx: &mut Context<'_>) {
        if self.budget.has_backlog {
            self.consume(&[]);
        }
        if !(self.budget.has_backlog || self.budget.is_throttled || self.outbound.is_ended) {
            // That it is broken is known.
            let _ = self.poll_read(cx, READ_BYTES);
        }
    }

    /// Has the frames in what was buffered and `read` judged, as many as one pass takes,
    /// under one lock: in the order in which they arrived (CHAT-ORD-3), each before the
    /// next is looked at (CHAT-LEAVE-3, CHAT-ERR-11).
    fn consume(&mut self, read: &[u8]) {
        let Some((id, handle)) = &self.member else {
            return;
        };
        let taken = self.read_buffer.take(read);
        let replies_bytes_max = replies_bytes_max(self.hub.registry.is_crowded());
        let mut frames = Frames::new(&taken, replies_bytes_max);
        let outbound = &mut self.outbound;
        let mut guard = self.hub.enter(id, handle, outbound, &mut self.budget);
        while let Some(event) = frames.next(&mut guard, self.hub.limits()) {
            guard.handle(event);
        }
        let used = taken.len() - frames.unread().len();
        let file_bytes = frames.piece_bytes();
        let bytes = match guard.outbound.files {
            Files::NotGranted => read.len(),
            // What is left of a piece of a file is counted when it is whole. Anything is a
            // sign of life.
            _ => (used - file_bytes).max(usize::from(!read.is_empty())),
        };
        guard.charge_inbound(frames.count(), (bytes, file_bytes));
        drop(guard);
        self.budget.has_backlog = frames.has_more();
        self.read_buffer.restore(taken, used);
    }

    /// Does what it was notified for. `reads_drained`: whether everything that has
    /// arrived was judged before.
    fn handle_notification(&mut self, reads_drained: bool) {
        self.take_delivery();
        let is_evicted = self.take_eviction();
        let replies_flushed = self.outbound.replies.is_empty();
        let delivery = self.transport.delivery();
        let Some(mut guard) = self.enter() else {
            return;
        };
        guard.handle(Event::Tick {
            reads_drained,
            replies_flushed,
            progress: delivery.map(|delivery| delivery.progress),
        });
        if is_evicted && !guard.outbound.is_ended {
            // Telling it must not take the memory that is to be saved.
            guard.outbound.replies.forget();
            guard.handle(Event::Evicted);
        }
    }

    /// Fetches the next part of what it missed.
    fn continue_catch_up(&self) {
        if let Some((id, _)) = &self.member {
            self.hub.continue_catch_up(id);
        }
    }

    /// Takes what has arrived of the past; returns whether anything has.
    fn take_delivery(&mut self) -> bool {
        let member = self.member.as_ref();
        let Some(delivery) = member.and_then(|(id, _)| self.hub.take_delivery(id)) else {
            return false;
        };
        if let Some(mut guard) = self.enter() {
            guard.deliver(delivery);
        }
        true
    }

    fn handle_event(&mut self, event: Event) {
        if let Some(mut guard) = self.enter() {
            guard.handle(event);
        }
    }

    /// Takes the hub's lock for a pass; `None` for a connection that was rejected.
    fn enter(&mut self) -> Option<HubGuard<'_>> {
        let (id, handle) = self.member.as_ref()?;
        let (outbound, budget) = (&mut self.outbound, &mut self.budget);
        Some(self.hub.enter(id, handle, outbound, budget))
    }

    /// What may wait for the disk of an upload: one piece. Those that go along with it are
    /// few for all connections together.
    fn piece_bytes(&self) -> usize {
        let may_wait = (self.budget.is_throttled && self.outbound.files != Files::NotGranted)
            || self.budget.awaits_pieces;
        match may_wait {
            true => self.hub.limits().file_chunk_bytes_max as usize,
            false => 0,
        }
    }

    fn read_bytes_max(&self) -> usize {
        let Hub {
            channel, registry, ..
        } = &*self.hub;
        let is_crowded = registry.is_crowded();
        self.budget
            .bytes_max(&self.outbound, self.handle(), channel, is_crowded)
    }

    /// Whether it has fallen too far behind the log.
    fn is_out_of_reach(&self) -> bool {
        let position = self.outbound.position();
        position.is_some_and(|position| self.hub.channel.is_out_of_reach(position))
    }

    /// Whether it must close for what waits for it (CHAT-LIM-10); once.
    fn take_eviction(&self) -> bool {
        self.handle().is_some_and(ConnectionHandle::take_eviction)
    }

    /// `None` for a connection that was rejected.
    fn handle(&self) -> Option<&ConnectionHandle> {
        self.member.as_ref().map(|(_, handle)| handle.as_ref())
    }
}

impl<T: Transport> Future for Connection<T> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let connection = self.get_mut();
        // An error of the transport is a lost connection: dropping it says so.
        let passes = connection.poll_passes(cx).map(|_| ());
        if let Some(handle) = connection.handle() {
            let replies_bytes = connection.outbound.replies.buffered_bytes();
            let piece_bytes = connection.piece_bytes();
            let bytes = replies_bytes + connection.read_buffer.buffered_bytes() + piece_bytes;
            connection.hub.registry.set_buffered_bytes(handle, bytes);
        }
        passes
    }
}

impl<T> Drop for Connection<T> {
    fn drop(&mut self) {
        if let Some((id, _)) = self.member.take() {
            self.hub.disconnect(id); // CHAT-LEAVE-5
        }
    }
}
