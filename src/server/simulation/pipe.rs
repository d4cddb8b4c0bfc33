//! Pipe: an in-memory transport. It splits, stalls, half-closes and resets as the
//! schedule says, and records what the oracle must know.

use std::{
    cell::RefCell,
    io,
    os::fd::BorrowedFd,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::{
    server::{
        slow_consumer::TICK_MS,
        transport::{Delivery, Transport},
    },
    session::Progress,
};

/// How many bytes the server's end announces at most.
pub(super) const ANNOUNCED_BYTES_MAX: usize = 2_000;

/// Everything between a client and the server's end.
pub(super) struct Pipe {
    /// Bytes that the client has sent and the server has not read.
    pub(super) to_server: Vec<u8>,
    /// How many of them have arrived.
    pub(super) arrived_bytes: usize,
    /// The client sends nothing more.
    pub(super) is_half_closed: bool,
    /// The client has closed both ways; the server's system does not know it yet.
    pub(super) is_client_closed: bool,
    /// The pipe is broken at both ends.
    pub(super) is_reset: bool,
    /// Bytes that the server has sent and the client has not read.
    pub(super) to_client: Vec<u8>,
    /// How many more bytes the server has announced, as over WebSocket.
    announced_bytes: u16,
    /// How many of them fit.
    pub(super) capacity_bytes: usize,
    /// The server's reads and writes are short: they take a part of what they could.
    pub(super) has_short_io: bool,
    pub(super) rng: Rng,

    /// How many bytes the server has read in all.
    pub(super) read_bytes: u64,
    /// The server has read the end of the stream.
    pub(super) eof_is_read: bool,
    /// The server has seen the reset.
    pub(super) reset_is_seen: bool,
    /// Since when the server's writes are blocked.
    pub(super) blocked_since: Option<Instant>,
    /// For how long they were blocked at most before one succeeded.
    pub(super) longest_blocked: Duration,
    /// Since when something waits for the client to read it.
    waiting_since: Option<Instant>,
    /// When the client had read everything that had waited for longer than a tick.
    pub(super) caught_up: Instant,
    /// The server has closed its sending side.
    pub(super) is_shut_down: bool,
    /// For how long the server lingered after that.
    pub(super) lingered_for: Option<Duration>,
    shut_down_at: Option<Instant>,
    /// The server has dropped its end.
    pub(super) is_dropped: bool,
    /// The last bytes of the server were lost, since it closed with bytes unread.
    pub(super) lost_last_bytes: bool,
    /// How many bytes the server has written in all, and their hash, for the trace.
    pub(super) written_bytes: u64,
    pub(super) written_hash: u64,

    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The server's end of a pipe.
pub(super) struct ServerEnd(pub(super) Rc<RefCell<Pipe>>);

impl Pipe {
    pub(super) fn new(capacity_bytes: usize, has_short_io: bool, rng: Rng) -> Self {
        Self {
            to_server: Vec::new(),
            arrived_bytes: 0,
            is_half_closed: false,
            is_client_closed: false,
            is_reset: false,
            to_client: Vec::new(),
            announced_bytes: 0,
            capacity_bytes,
            has_short_io,
            rng,
            read_bytes: 0,
            eof_is_read: false,
            reset_is_seen: false,
            blocked_since: None,
            longest_blocked: Duration::ZERO,
            waiting_since: None,
            caught_up: Instant::now(),
            is_shut_down: false,
            lingered_for: None,
            shut_down_at: None,
            is_dropped: false,
            lost_last_bytes: false,
            written_bytes: 0,
            written_hash: FNV_START,
            reader: None,
            writer: None,
        }
    }

    /// The client sends bytes; they arrive with [`Pipe::deliver`].
    pub(super) fn send(&mut self, bytes: &[u8]) {
        if !self.is_half_closed && !self.is_reset {
            self.to_server.extend_from_slice(bytes);
        }
    }

    /// So many more bytes arrive of those that were sent.
    pub(super) fn deliver(&mut self, bytes: usize) {
        self.arrived_bytes = (self.arrived_bytes + bytes).min(self.to_server.len());
        if self.is_dropped && self.arrived_bytes > 0 {
            self.lose_unread();
        }
        wake(&mut self.reader);
    }

    /// The client reads up to `bytes_max`.
    pub(super) fn take(&mut self, bytes_max: usize) -> Vec<u8> {
        let bytes = bytes_max.min(self.to_client.len());
        let taken = self.to_client.drain(..bytes).collect();
        if self.to_client.is_empty()
            && let Some(since) = self.waiting_since.take()
            && since.elapsed() > Duration::from_millis(TICK_MS)
        {
            self.caught_up = Instant::now();
        }
        if bytes > 0 {
            wake(&mut self.writer);
        }
        taken
    }

    /// The client closes its sending side.
    pub(super) fn half_close(&mut self) {
        self.is_half_closed = true;
        wake(&mut self.reader);
    }

    /// The client closes its sending side before it has sent everything, perhaps inside
    /// a frame.
    pub(super) fn half_close_early(&mut self) {
        let sent_bytes = self.rng.usize(self.arrived_bytes..=self.to_server.len());
        self.to_server.truncate(sent_bytes);
        self.half_close();
    }

    /// The client closes both ways, and drops what it has not read.
    pub(super) fn close(&mut self) {
        self.is_client_closed = true;
        self.to_client.clear();
        wake(&mut self.writer);
        self.half_close();
    }

    /// The pipe breaks.
    pub(super) fn reset(&mut self) {
        self.is_reset = true;
        self.to_server.clear();
        self.arrived_bytes = 0;
        self.to_client.clear();
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    /// For how long the server's writes have been blocked.
    pub(super) fn blocked(&self) -> Duration {
        self.blocked_since
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn see_reset<T>(&mut self, kind: io::ErrorKind) -> Poll<io::Result<T>> {
        self.reset_is_seen = true;
        Poll::Ready(Err(kind.into()))
    }

    /// A system resets a socket that is closed with bytes unread, or that is closed when
    /// bytes arrive. The reset can destroy bytes that the client has not read yet.
    fn lose_unread(&mut self) {
        self.lost_last_bytes = true;
        self.to_client.clear();
        self.to_server.clear();
        self.arrived_bytes = 0;
    }

    fn shorten(&mut self, bytes: usize) -> usize {
        if self.has_short_io && bytes > 1 {
            self.rng.usize(1..=bytes)
        } else {
            bytes
        }
    }
}

impl AsyncRead for ServerEnd {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut pipe = self.0.borrow_mut();
        if pipe.is_reset {
            return pipe.see_reset(io::ErrorKind::ConnectionReset);
        }
        if pipe.arrived_bytes > 0 {
            let bytes = pipe.arrived_bytes.min(buffer.remaining());
            let bytes = pipe.shorten(bytes);
            buffer.put_slice(&pipe.to_server[..bytes]);
            pipe.to_server.drain(..bytes);
            pipe.arrived_bytes -= bytes;
            pipe.read_bytes += bytes as u64;
            return Poll::Ready(Ok(()));
        }
        if pipe.is_half_closed && pipe.to_server.is_empty() {
            pipe.eof_is_read = true;
            return Poll::Ready(Ok(()));
        }
        pipe.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for ServerEnd {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut pipe = self.0.borrow_mut();
        assert!(!pipe.is_shut_down, "nothing is written behind the end");
        if pipe.is_reset {
            return pipe.see_reset(io::ErrorKind::BrokenPipe);
        }
        if pipe.is_client_closed {
            // The system takes the bytes, sends them, and is answered with a reset.
            pipe.is_reset = true;
            pipe.announced_bytes = 0;
            pipe.blocked_since = None;
            return Poll::Ready(Ok(bytes.len()));
        }
        let room = pipe.capacity_bytes.saturating_sub(pipe.to_client.len());
        if room == 0 {
            pipe.writer = Some(cx.waker().clone());
            pipe.blocked_since.get_or_insert_with(Instant::now);
            return Poll::Pending;
        }
        let sent = pipe.shorten(bytes.len().min(room));
        pipe.longest_blocked = pipe.longest_blocked.max(pipe.blocked());
        pipe.blocked_since = None;
        pipe.waiting_since.get_or_insert_with(Instant::now);
        pipe.announced_bytes = pipe.announced_bytes.saturating_sub(sent.min(0xffff) as u16);
        pipe.to_client.extend_from_slice(&bytes[..sent]);
        pipe.written_bytes += sent as u64;
        pipe.written_hash = hash(pipe.written_hash, &bytes[..sent]);
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut pipe = self.0.borrow_mut();
        assert_eq!(pipe.announced_bytes, 0, "what was announced comes");
        pipe.is_shut_down = true;
        pipe.shut_down_at.get_or_insert_with(Instant::now);
        pipe.blocked_since = None;
        Poll::Ready(Ok(()))
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        let mut pipe = self.0.borrow_mut();
        pipe.is_dropped = true;
        pipe.lingered_for = pipe.shut_down_at.map(|since| since.elapsed());
        if pipe.arrived_bytes > 0 {
            pipe.lose_unread();
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

pub(super) const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a over words: the same on every machine, and fast enough in a debug build.
pub(super) fn hash(start: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(start, |hash, segment| {
        let mut word = [0; 8];
        word[..segment.len()].copy_from_slice(segment);
        (hash ^ u64::from_le_bytes(word) ^ segment.len() as u64).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Transport for ServerEnd {
    /// Announces some of what it does not take, now and then.
    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        _: BorrowedFd<'_>,
        _: u32,
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut *self).poll_write(cx, bytes))?;
        let mut pipe = self.0.borrow_mut();
        let rest = bytes.len().saturating_sub(sent);
        if pipe.has_short_io && pipe.announced_bytes == 0 && !pipe.is_reset {
            pipe.announced_bytes = pipe.rng.usize(0..=rest.min(ANNOUNCED_BYTES_MAX)) as u16;
        }
        Poll::Ready(Ok(sent))
    }

    fn announced_bytes(&self) -> u16 {
        self.0.borrow().announced_bytes
    }

    /// What the client has read is acknowledged.
    fn delivery(&self) -> Option<Delivery> {
        let pipe = self.0.borrow();
        let acked_bytes = pipe.written_bytes - pipe.to_client.len() as u64;
        Some(Delivery {
            progress: Progress {
                written_bytes: pipe.written_bytes,
                acked_bytes,
            },
            is_retransmitting: false,
        })
    }
}
