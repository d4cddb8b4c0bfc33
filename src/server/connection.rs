//! One connection: a small task that reads, has the room judge, and writes what
//! is due. It waits for nobody but its own socket and its waker.
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

use std::{
    cell::RefCell,
    future::Future,
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use prost::Message as _;
use socket2::SockRef;
use tokio::{io::ReadBuf, net::TcpStream, time::Sleep};

use crate::{
    engine::{ConnectionId, Event},
    frame::{self, Split},
    limits::UNREGISTERED_FRAME_BYTES_MAX,
    log::Unsent,
    wire::ClientEnvelope,
};

use super::{
    backpressure::PAUSED_READ_BYTES,
    hub::{ConnectionHandle, Hub, HubGuard, Outbound},
    read_buffer::ReadBuffer,
    transport::Transport,
};

/// What is read at once, in bytes. Large enough that a sender in full flow costs
/// few system calls, small enough that the others soon get their turn.
const READ_BYTES: usize = 64 * 1024;

/// How many frames are judged under one lock.
const FRAMES_PER_PASS_MAX: usize = 1_024;

/// How many writes of log a connection makes before it reads: enough to send
/// what gathers during a burst, few enough to stay fair.
const WRITES_PER_PASS_MAX: usize = 4;

/// How many turns a connection takes before the others get theirs.
const PASSES_PER_POLL_MAX: usize = 8;

/// From how many bytes of log on it pays to have the system send them without
/// copying them, which costs something for each page instead.
const SEND_FILE_BYTES_MIN: usize = 16 * 1024;

/// How many stretches of its own chats may lie ahead of a connection in the log
/// before it is not read from: it sends without reading.
const OWN_RUNS_MAX: usize = 64;

/// How long a closed connection may still send, in milliseconds.
const LINGER_MS: u64 = 1_000;

/// How much a closed connection may still send, in bytes.
const LINGER_BYTES_MAX: u32 = 4 << 20;

thread_local! {
    /// What is read comes here first, so that a silent connection owns no buffer.
    static READ_BUFFER: RefCell<Box<[u8]>> =
        RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

// With what the runtime adds, a task takes a multiple of 128 bytes: 144 of ours fit
// into 256, which is what a silent member costs beyond its socket. (The runtime's
// clock for tests adds 8.)
const _: () = assert!(size_of::<Connection<TcpStream>>() <= 144 + 8);

/// A connection, as a future that ends when it is gone.
pub(super) struct Connection<S> {
    stream: S,
    hub: Arc<Hub>,
    /// `None` for a connection that was turned away.
    member: Option<(ConnectionId, Arc<ConnectionHandle>)>,
    outbound: Outbound,
    read_buffer: ReadBuffer,
    /// The read_buffer may hold whole frames: they come before anything is read.
    has_backlog: bool,
    /// The peer has closed its sending side.
    is_at_end: bool,
    phase: Phase,
    /// Set while something is due that the socket does not take, and while
    /// lingering.
    timer: Option<Pin<Box<Sleep>>>,
    /// The socket has taken something since the timer was set.
    has_moved: bool,
}

enum Phase {
    Open,
    Draining,
    Lingering { dropped_bytes: u32 },
}

/// How a flush ended.
#[derive(PartialEq)]
enum Flush {
    /// All that is due is sent.
    Done,
    /// The socket takes no more for now.
    Blocked,
    /// There is more, but it is the others' turn.
    Yield,
}

impl Connection<TcpStream> {
    /// Sends what the system takes at once, and closes.
    pub(super) fn close_at_once(self) {
        // A new socket takes a few bytes; the runtime has not looked at it yet.
        let _ = SockRef::from(&self.stream).send(self.outbound.replies.unsent());
    }
}

impl<S: Transport> Connection<S> {
    /// Takes a new connection into the room, or turns it away. `address`: where it
    /// comes from, if it comes over a network.
    pub(super) fn new(stream: S, hub: Arc<Hub>, address: Option<IpAddr>) -> Self {
        let mut outbound = Outbound::default();
        let member = match hub.connect(address) {
            Ok(member) => Some(member),
            Err(envelope) => {
                outbound.reply(&envelope);
                outbound.is_ended = true;
                None
            }
        };
        Self {
            stream,
            hub,
            member,
            outbound,
            read_buffer: ReadBuffer::default(),
            has_backlog: false,
            is_at_end: false,
            phase: Phase::Open,
            timer: None,
            has_moved: false,
        }
    }

    /// Whether the room had no place for it.
    pub(super) fn is_turned_away(&self) -> bool {
        self.member.is_none()
    }

    /// Where it is in the log, while it follows it.
    #[cfg(test)]
    pub(super) fn position(&self) -> Option<u64> {
        self.outbound
            .reader
            .as_ref()
            .map(|reader| reader.position())
    }

    /// What its read_buffer and its replies take, in bytes.
    #[cfg(test)]
    pub(super) fn memory_bytes(&self) -> (usize, usize) {
        (
            self.read_buffer.buffered_bytes(),
            self.outbound.replies.buffered_bytes(),
        )
    }

    /// Whether it is not read from until the engine calls, and whether its session
    /// is over.
    #[cfg(test)]
    pub(super) fn is_throttled_or_ended(&self) -> (bool, bool) {
        (self.outbound.is_throttled, self.outbound.is_ended)
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
                self.has_backlog = false;
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

    /// Does what the room has called it for. `reads_drained`: whether all that has come
    /// was looked at before.
    fn answer_notification(&mut self, reads_drained: bool) {
        let is_evicted = self.take_eviction();
        let replies_flushed = self.outbound.replies.unsent().is_empty();
        self.with(|guard| {
            guard.handle(Event::Tick {
                reads_drained,
                replies_flushed,
            });
            if is_evicted && !guard.outbound.is_ended {
                // Telling it must not take what is to be saved.
                guard.outbound.replies.forget();
                guard.handle(Event::Evicted);
            }
        });
    }

    /// Flushes, reads once, then does what the room has called it for. `Ready` when
    /// there may be more to do.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = match self.flush(cx) {
            Ok(flush) => flush,
            Err(error) => {
                self.take_last_words(cx);
                return Poll::Ready(Err(error));
            }
        };
        if self.is_out_of_reach() || self.poll_stalled(cx, &flush).is_ready() {
            self.with(|guard| guard.handle(Event::WriteTimedOut));
            return Poll::Ready(Ok(()));
        }
        if flush == Flush::Done && self.outbound.has_more_members {
            self.with(|guard| guard.more_members());
            return Poll::Ready(Ok(()));
        }
        if self.hub.is_paused() {
            self.hub.mark_read_blocked(&mut self.outbound);
        }
        let is_notified = self.take_notification();
        let (has_read, reads_drained) = match self.read_bytes_max() {
            0 => (false, false),
            _ if self.has_backlog => {
                self.consume(&[]);
                (true, false)
            }
            bytes_max => match self.poll_read(cx, bytes_max)? {
                Poll::Pending => (false, !(is_notified && self.stream.is_readable_now())),
                // After a full buffer there may be more.
                Poll::Ready(bytes) => (true, bytes < bytes_max && !self.has_backlog),
            },
        };
        if reads_drained {
            self.outbound.read_blocked_since.end();
        }
        if is_notified {
            // After reading: whose words have waited to be read is not silent, however
            // long this machine slept (CHAT-KEEP-4, CHAT-NAME-8).
            self.answer_notification(reads_drained);
        }
        // A flush that yields goes on at once; everything else has set a waker.
        if has_read || is_notified || flush == Flush::Yield {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    /// Sends what is still due, then closes the sending side.
    fn poll_draining(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = self.flush(cx)?;
        match flush {
            // Not told so any more: it has left already.
            _ if self.is_out_of_reach() || self.take_eviction() => {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            Flush::Yield => return Poll::Ready(Ok(())),
            Flush::Blocked => {
                ready!(self.poll_stalled(cx, &flush));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            Flush::Done => ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?,
        }
        // Nothing of the log is needed any more, however long this takes.
        self.outbound.reader = None;
        if let Some(handle) = self.handle() {
            handle.unsubscribe();
        }
        self.timer = None;
        self.phase = Phase::Lingering { dropped_bytes: 0 };
        Poll::Ready(Ok(()))
    }

    /// Reads and drops until the peer has closed too.
    fn poll_lingering(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(Duration::from_millis(LINGER_MS))));
        if self.is_at_end || timer.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let Phase::Lingering { dropped_bytes } = &mut self.phase else {
            return Poll::Ready(Ok(()));
        };
        let stream = &mut self.stream;
        READ_BUFFER.with_borrow_mut(|buffer| {
            while *dropped_bytes < LINGER_BYTES_MAX {
                let mut read = ReadBuf::new(buffer);
                ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
                if read.filled().is_empty() {
                    break;
                }
                // A read is at most READ_BYTES.
                *dropped_bytes += read.filled().len() as u32;
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Whether it has fallen too far behind the log.
    fn is_out_of_reach(&self) -> bool {
        let reader = self.outbound.reader.as_ref();
        reader.is_some_and(|reader| self.hub.is_out_of_reach(reader.position()))
    }

    /// Whether the room has called it; once.
    fn take_notification(&self) -> bool {
        self.handle()
            .is_some_and(ConnectionHandle::take_notification)
    }

    /// Whether it is to be closed for what waits for it (CHAT-LIM-10); once.
    fn take_eviction(&self) -> bool {
        self.handle().is_some_and(ConnectionHandle::take_eviction)
    }

    /// `None` for a connection that was turned away.
    fn handle(&self) -> Option<&ConnectionHandle> {
        self.member.as_ref().map(|(_, handle)| handle.as_ref())
    }

    /// Whether it is read from.
    #[cfg(test)]
    pub(super) fn may_read(&self) -> bool {
        self.read_bytes_max() > 0
    }

    /// How much may be read from it at once, in bytes; 0: nothing for now (CHAT-LIM-6).
    fn read_bytes_max(&self) -> usize {
        if self.outbound.is_throttled || self.outbound.replies.is_full() {
            return 0;
        }
        match (&self.outbound.reader, self.handle()) {
            (Some(reader), _) if reader.skip_count() >= OWN_RUNS_MAX => 0,
            (Some(_), Some(handle)) if self.hub.is_paused() => {
                // Who has more in hand than was judged says much.
                if !self.has_backlog && self.hub.has_paused_quota(handle) {
                    PAUSED_READ_BYTES
                } else {
                    0
                }
            }
            // Not registered: there is nothing that it could flood.
            _ => READ_BYTES,
        }
    }

    /// Reads what has come, `bytes_max` at the most, and has it judged. Returns how much
    /// it was, in bytes.
    fn poll_read(&mut self, cx: &mut Context<'_>, bytes_max: usize) -> Poll<io::Result<usize>> {
        READ_BUFFER.with_borrow_mut(|buffer| {
            let buffer = buffer.get_mut(..bytes_max).unwrap_or_default();
            let bytes = ready!(self.stream.poll_read_available(cx, buffer))?;
            if bytes_max == PAUSED_READ_BYTES
                && let Some(handle) = self.handle()
            {
                self.hub.use_paused_quota(handle);
            }
            let read = buffer.get(..bytes).unwrap_or_default();
            if read.is_empty() {
                self.is_at_end = true;
                let inside_frame = !self.read_buffer.is_empty();
                self.with(|guard| guard.handle(Event::EndOfStream { inside_frame }));
            } else {
                self.consume(read);
            }
            Poll::Ready(Ok(bytes))
        })
    }

    /// Nothing can be sent any more. What has come before counts all the same
    /// (CHAT-LEAVE-3), as far as one turn takes it, since nobody waits for the rest.
    fn take_last_words(&mut self, cx: &mut Context<'_>) {
        if self.has_backlog {
            self.consume(&[]);
        }
        if !(self.has_backlog || self.outbound.is_throttled || self.outbound.is_ended) {
            // That it is broken is known.
            let _ = self.poll_read(cx, READ_BYTES);
        }
    }

    /// Has the frames in what was held and `read` judged, as many as have their
    /// turn, under one lock: in the order in which they came (CHAT-ORD-3), each
    /// before the next is looked at (CHAT-LEAVE-3).
    fn consume(&mut self, read: &[u8]) {
        let frame_bytes_max = self.hub.limits().frame_bytes_max;
        let mut read_buffer = std::mem::take(&mut self.read_buffer);
        let mut has_backlog = false;
        read_buffer.feed(read, |bytes| {
            self.with(|guard| {
                let mut rest = bytes;
                let mut frames = 0;
                let mut is_partial = false;
                for _ in 0..FRAMES_PER_PASS_MAX {
                    if guard.outbound.is_ended {
                        // CHAT-LEAVE-4: the rest is of no interest.
                        return bytes.len();
                    }
                    // A Register that waits holds up what is behind it, too.
                    if guard.outbound.replies.is_full() || guard.outbound.is_throttled {
                        break;
                    }
                    // CHAT-FRAME-6
                    let body_bytes_max = match guard.outbound.reader {
                        Some(_) => frame_bytes_max,
                        None => UNREGISTERED_FRAME_BYTES_MAX,
                    };
                    match frame::split(rest, body_bytes_max) {
                        Ok(Split::Frame { body, rest: after }) => {
                            handle_body(guard, body);
                            rest = after;
                            frames += 1;
                        }
                        Ok(Split::Partial) => {
                            is_partial = true;
                            break;
                        }
                        Err(error) => guard.handle(Event::BadFrame(error)),
                    }
                }
                guard.charge_inbound(frames, read.len());
                has_backlog = !is_partial && !rest.is_empty();
                bytes.len() - rest.len()
            })
        });
        self.read_buffer = read_buffer;
        self.has_backlog = has_backlog;
    }

    /// Writes replies, then log, until nothing is due or the socket is full.
    fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<Flush> {
        for _ in 0..WRITES_PER_PASS_MAX {
            let outbound = &mut self.outbound;
            // Replies come before log, but not inside a frame of the log.
            let rest_of_frame = match &outbound.reader {
                Some(reader) if !outbound.replies.unsent().is_empty() => reader.rest_of_frame(),
                _ => &[],
            };
            let (bytes, file, source) = if !rest_of_frame.is_empty() {
                (rest_of_frame, None, Source::RestOfFrame)
            } else if !outbound.replies.unsent().is_empty() {
                (outbound.replies.unsent(), None, Source::ReplyBuffer)
            } else if let Some(reader) = &mut outbound.reader {
                let Unsent { bytes, file } = reader.unsent();
                (bytes, file, Source::Log)
            } else {
                return Ok(Flush::Done);
            };
            if bytes.is_empty() {
                self.note_position();
                return Ok(Flush::Done);
            }
            let written = match file {
                Some((file, offset)) if bytes.len() >= SEND_FILE_BYTES_MIN => {
                    self.stream.poll_send_file(cx, bytes, file, offset)
                }
                _ => Pin::new(&mut self.stream).poll_write(cx, bytes),
            };
            let sent = match written {
                Poll::Pending => return Ok(Flush::Blocked),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(sent)) => sent,
            };
            self.has_moved = true;
            match (source, &mut self.outbound.reader) {
                (Source::ReplyBuffer, _) | (_, None) => self.outbound.replies.advance(sent),
                (Source::RestOfFrame, Some(reader)) => reader.advance_in_frame(sent),
                (Source::Log, Some(reader)) => reader.advance(sent),
            }
            self.note_position();
        }
        Ok(Flush::Yield)
    }

    /// Tells the room how far the reader is.
    fn note_position(&self) {
        if let (Some(handle), Some(reader)) = (self.handle(), &self.outbound.reader) {
            handle.set_position(reader.position());
            self.hub.reader_moved();
        }
    }

    /// `Ready` when something has been due for the write deadline and the socket
    /// has taken nothing of it (CHAT-LIM-5).
    fn poll_stalled(&mut self, cx: &mut Context<'_>, flush: &Flush) -> Poll<()> {
        let deadline = Duration::from_millis(self.hub.limits().write_deadline_ms.into());
        if *flush == Flush::Blocked && self.timer.is_none() {
            self.has_moved = false;
            self.timer = Some(Box::pin(tokio::time::sleep(deadline)));
        }
        // A timer that is no longer needed is left to run out: in a stream that
        // stops and goes, setting it each time would cost more than it is worth.
        while let Some(timer) = &mut self.timer {
            ready!(timer.as_mut().poll(cx));
            if *flush != Flush::Blocked {
                self.timer = None;
            } else if !(self.has_moved || self.stream.is_writable_now()) {
                self.timer = None;
                return Poll::Ready(());
            } else {
                self.has_moved = false;
                self.timer = Some(Box::pin(tokio::time::sleep(deadline)));
            }
        }
        Poll::Pending
    }

    /// A turn with the room; nothing for a connection that was turned away.
    fn with<R: Default>(&mut self, pass: impl FnOnce(&mut HubGuard<'_>) -> R) -> R {
        let Some((id, handle)) = &self.member else {
            return R::default();
        };
        self.hub.with(id, handle, &mut self.outbound, pass)
    }
}

/// Where the bytes of a write come from.
enum Source {
    RestOfFrame,
    ReplyBuffer,
    Log,
}

/// Has one frame judged. Fields that nobody knows are dropped here (CHAT-GROW-3).
fn handle_body(guard: &mut HubGuard<'_>, body: &[u8]) {
    guard.handle(match ClientEnvelope::decode(body) {
        Ok(envelope) => Event::Message(envelope),
        Err(_) => Event::BadEnvelope, // CHAT-FRAME-8
    });
}

impl<S: Transport> Future for Connection<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let connection = self.get_mut();
        // An error of the transport is a lost connection: dropping it says so.
        let turns = connection.poll_passes(cx).map(|_| ());
        if let Some(handle) = connection.handle() {
            handle.set_buffered_bytes(
                connection.outbound.replies.buffered_bytes()
                    + connection.read_buffer.buffered_bytes(),
            );
        }
        turns
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        if let Some((id, _)) = self.member.take() {
            self.hub.disconnect(id); // CHAT-LEAVE-5
        }
    }
}
