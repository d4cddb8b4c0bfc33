//! Transport: what a connection needs of its stream, and a server of its listeners.
//! Every transport carries the same byte stream into the same connection.

use std::{
    future::Future,
    io,
    net::SocketAddr,
    os::fd::BorrowedFd,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::session::Progress;

/// What a listener is for. In lower case it is the name of a socket from systemd.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub(super) enum Kind {
    /// Plain TCP.
    Chat,
    /// TLS.
    Tls,
    /// Browsers.
    Web,
    /// QUIC.
    #[cfg_attr(
        not(any(feature = "cli", feature = "quic")),
        expect(dead_code, reason = "for handed sockets")
    )]
    Quic,
}

impl Kind {
    /// What the log calls its transport.
    pub(super) fn transport(self) -> &'static str {
        match self {
            Self::Chat => "tcp",
            Self::Tls => "tls",
            Self::Web => "web",
            Self::Quic => "quic",
        }
    }
}

/// How many connections may wait to be accepted, on each listener.
pub(super) const BACKLOG: u32 = 1_024;

/// A stream. A transport implements the optional methods where it can do better than
/// their defaults.
///
/// All bytes that `poll_write` has taken must go out without another call when
/// `poll_flush` is ready, and have gone out when `poll_shutdown` is: a transport that buffers goes on with it in both,
/// and the connection counts as blocked until then (CHAT-LIM-5).
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// Whether `poll_send_file` copies nothing.
    const SENDS_FILES: bool = false;

    /// Reads what has arrived, as far as `buffer` takes it; 0 bytes are the end.
    fn poll_read_available(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(self).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Sends some of `bytes`, which also stand in `file` from `offset` on and do not
    /// change any more.
    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        file: BorrowedFd<'_>,
        offset: u32,
    ) -> Poll<io::Result<usize>> {
        let _ = (file, offset);
        Pin::new(self).poll_write(cx, bytes)
    }

    /// Holds back what does not fill a packet until this is over, so that what several calls
    /// send goes out in as few packets as from one.
    fn hold_back(&self, holds_back: bool) {
        let _ = holds_back;
    }

    /// How many more bytes of the stream it must be given, because the peer was told that so
    /// many come; no more than it was given last and has not sent. Any bytes of the stream
    /// will do.
    fn announced_bytes(&self) -> u16 {
        0
    }

    /// Whether something has arrived that the runtime does not know of yet. After this
    /// machine has slept its timers come first.
    fn is_readable_now(&self) -> bool {
        false
    }

    /// Whether it takes more, which the runtime does not know of yet.
    fn is_writable_now(&self) -> bool {
        false
    }

    /// What became of the bytes that were written; `None` where nobody knows.
    fn delivery(&self) -> Option<Delivery> {
        None
    }

    /// Sends what it takes at once of `last_words`, and closes.
    fn close_with(self, last_words: &[u8])
    where
        Self: Sized,
    {
        let _ = last_words;
    }
}

/// A stream that was accepted.
pub(super) enum Accepted<S, H> {
    /// It can carry frames.
    Ready(S),
    /// It can once this is done.
    Handshake(H),
    /// It comes from a proxy, which says first for whom: then it is one of the others, and
    /// comes from there. `None` if the proxy speaks for itself.
    Proxied(BoxFuture<'static, io::Result<FromProxy<S, H>>>),
}

/// What became of the bytes that were written to a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Delivery {
    pub(super) progress: Progress,
    /// The network does not deliver: bytes were sent again, and not acknowledged yet.
    pub(super) is_retransmitting: bool,
}

/// What a proxy has passed on, and where that comes from.
pub(super) type FromProxy<S, H> = (Box<Accepted<S, H>>, Option<SocketAddr>);

/// Accepts streams of one transport.
pub(super) trait Listener: Send + Sync + 'static {
    /// What it is for.
    const KIND: Kind;
    /// A stream that carries frames.
    type Stream: Transport + Send + 'static;
    /// Makes one of what was accepted, unless the peer wants something else, and got it.
    /// The server ends it after the register deadline.
    type Handshake: Future<Output = io::Result<Option<Self::Stream>>> + Send + 'static;

    /// The next stream, and where it comes from. It must not wait for the peer: what it
    /// has to agree on with it is the handshake.
    #[expect(clippy::type_complexity, reason = "it is used once")]
    fn accept(
        &self,
    ) -> impl Future<Output = io::Result<(Accepted<Self::Stream, Self::Handshake>, SocketAddr)>> + Send;

    /// Whether it listens on after the server's end: peers that wait are for the next one.
    fn outlives_server(&self) -> bool {
        false
    }
}

#[cfg(test)]
impl Transport for tokio::io::DuplexStream {}
