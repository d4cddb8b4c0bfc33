//! A stream in memory that does what the schedule tells it: it splits, stalls,
//! half-closes and resets, and remembers what the oracle wants to know.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use fastrand::Rng;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::Instant,
};

use crate::server::transport::Transport;

/// What lies between a peer and the server's end.
pub(super) struct Wire {
    /// What the peer has sent and the server has not read.
    pub(super) to_server: Vec<u8>,
    /// How much of that has arrived.
    pub(super) arrived_bytes: usize,
    /// The peer sends nothing more.
    pub(super) is_half_closed: bool,
    /// The peer is gone; the system has not said so yet.
    pub(super) is_deserted: bool,
    /// Neither end can use it any more.
    pub(super) is_reset: bool,
    /// What the server has sent and the peer has not read.
    pub(super) to_peer: Vec<u8>,
    /// How much of that fits.
    pub(super) capacity_bytes: usize,
    /// Reads and writes take a part of what they could.
    pub(super) is_choppy: bool,
    pub(super) rng: Rng,

    /// How much the server has read in all.
    pub(super) read_bytes: u64,
    /// The server has read the end.
    pub(super) end_is_read: bool,
    /// The server has seen the stream break.
    pub(super) break_is_seen: bool,
    /// Since when the server has wanted to write, and nothing was taken.
    pub(super) blocked_since: Option<Instant>,
    /// The longest that this has lasted, and ended well.
    pub(super) blocked_longest: Duration,
    /// The server sends nothing more.
    pub(super) is_shut_down: bool,
    /// For how long it has waited after that until it was gone.
    pub(super) lingered: Option<Duration>,
    shut_down: Option<Instant>,
    /// The server's end is gone.
    pub(super) is_dropped: bool,
    /// What the server sent last was lost, since it closed with bytes unread.
    pub(super) is_cut_off: bool,
    /// How much the server has written in all, and a hash of it, for the trace.
    pub(super) written_bytes: u64,
    pub(super) written_hash: u64,

    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The server's end.
pub(super) struct ServerEnd(pub(super) Rc<RefCell<Wire>>);

impl Wire {
    pub(super) fn new(capacity_bytes: usize, is_choppy: bool, rng: Rng) -> Self {
        Self {
            to_server: Vec::new(),
            arrived_bytes: 0,
            is_half_closed: false,
            is_deserted: false,
            is_reset: false,
            to_peer: Vec::new(),
            capacity_bytes,
            is_choppy,
            rng,
            read_bytes: 0,
            end_is_read: false,
            break_is_seen: false,
            blocked_since: None,
            blocked_longest: Duration::ZERO,
            is_shut_down: false,
            lingered: None,
            shut_down: None,
            is_dropped: false,
            is_cut_off: false,
            written_bytes: 0,
            written_hash: FNV_START,
            reader: None,
            writer: None,
        }
    }

    /// The peer sends; the first `arrives` bytes of all that is under way arrive.
    pub(super) fn send(&mut self, bytes: &[u8]) {
        if !self.is_half_closed && !self.is_reset {
            self.to_server.extend_from_slice(bytes);
        }
    }

    /// This many more bytes of what was sent arrive.
    pub(super) fn deliver(&mut self, bytes: usize) {
        self.arrived_bytes = (self.arrived_bytes + bytes).min(self.to_server.len());
        if self.is_dropped && self.arrived_bytes > 0 {
            self.cut_off();
        }
        wake(&mut self.reader);
    }

    /// The peer reads up to `bytes_max`.
    pub(super) fn take(&mut self, bytes_max: usize) -> Vec<u8> {
        let bytes = bytes_max.min(self.to_peer.len());
        let taken = self.to_peer.drain(..bytes).collect();
        if bytes > 0 {
            wake(&mut self.writer);
        }
        taken
    }

    pub(super) fn half_close(&mut self) {
        self.is_half_closed = true;
        wake(&mut self.reader);
    }

    /// The peer half-closes before all is under way that it meant to send, in the midst
    /// of a frame or not.
    pub(super) fn cut_short(&mut self) {
        let sent_bytes = self.rng.usize(self.arrived_bytes..=self.to_server.len());
        self.to_server.truncate(sent_bytes);
        self.half_close();
    }

    /// The peer closes both ways, and loses what it has not read.
    pub(super) fn close(&mut self) {
        self.is_deserted = true;
        self.to_peer.clear();
        wake(&mut self.writer);
        self.half_close();
    }

    pub(super) fn reset(&mut self) {
        self.is_reset = true;
        self.to_server.clear();
        self.arrived_bytes = 0;
        self.to_peer.clear();
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    /// For how long the server has wanted to write in vain.
    pub(super) fn blocked(&self) -> Duration {
        self.blocked_since
            .map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn broken<T>(&mut self, kind: io::ErrorKind) -> Poll<io::Result<T>> {
        self.break_is_seen = true;
        Poll::Ready(Err(kind.into()))
    }

    /// A socket that is closed with bytes unread is reset, and so is one that is gone
    /// when bytes come: that can destroy what the peer has not read yet.
    fn cut_off(&mut self) {
        self.is_cut_off = true;
        self.to_peer.clear();
        self.to_server.clear();
        self.arrived_bytes = 0;
    }

    fn chop(&mut self, bytes: usize) -> usize {
        if self.is_choppy && bytes > 1 {
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
        let mut wire = self.0.borrow_mut();
        if wire.is_reset {
            return wire.broken(io::ErrorKind::ConnectionReset);
        }
        if wire.arrived_bytes > 0 {
            let bytes = wire.arrived_bytes.min(buffer.remaining());
            let bytes = wire.chop(bytes);
            buffer.put_slice(&wire.to_server[..bytes]);
            wire.to_server.drain(..bytes);
            wire.arrived_bytes -= bytes;
            wire.read_bytes += bytes as u64;
            return Poll::Ready(Ok(()));
        }
        if wire.is_half_closed && wire.to_server.is_empty() {
            wire.end_is_read = true;
            return Poll::Ready(Ok(()));
        }
        wire.reader = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for ServerEnd {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut wire = self.0.borrow_mut();
        assert!(!wire.is_shut_down, "nothing is written behind the end");
        if wire.is_reset {
            return wire.broken(io::ErrorKind::BrokenPipe);
        }
        if wire.is_deserted {
            // The system takes it, sends it, and learns that nobody is there.
            wire.is_reset = true;
            wire.blocked_since = None;
            return Poll::Ready(Ok(bytes.len()));
        }
        let room = wire.capacity_bytes.saturating_sub(wire.to_peer.len());
        if room == 0 {
            wire.writer = Some(cx.waker().clone());
            wire.blocked_since.get_or_insert_with(Instant::now);
            return Poll::Pending;
        }
        let sent = wire.chop(bytes.len().min(room));
        wire.blocked_longest = wire.blocked_longest.max(wire.blocked());
        wire.blocked_since = None;
        wire.to_peer.extend_from_slice(&bytes[..sent]);
        wire.written_bytes += sent as u64;
        wire.written_hash = hash(wire.written_hash, &bytes[..sent]);
        Poll::Ready(Ok(sent))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = self.0.borrow_mut();
        wire.is_shut_down = true;
        wire.shut_down.get_or_insert_with(Instant::now);
        wire.blocked_since = None;
        Poll::Ready(Ok(()))
    }
}

impl Drop for ServerEnd {
    fn drop(&mut self) {
        let mut wire = self.0.borrow_mut();
        wire.is_dropped = true;
        wire.lingered = wire.shut_down.map(|since| since.elapsed());
        if wire.arrived_bytes > 0 {
            wire.cut_off();
        }
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

pub(super) const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

/// FNV-1a over words: the same on every machine, and quick enough without
/// optimization.
pub(super) fn hash(start: u64, bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(start, |hash, segment| {
        let mut word = [0; 8];
        word[..segment.len()].copy_from_slice(segment);
        (hash ^ u64::from_le_bytes(word) ^ segment.len() as u64).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Transport for ServerEnd {}
