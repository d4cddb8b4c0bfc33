//! Tap: a byte stream whose frames are also written into a capture.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::bytes::{Buf, BytesMut};

use super::codec::BODY_BYTES_CEILING;
use crate::capture::{Capture, CapturedConnection, End};
use crate::frame::{self, Split};

/// A stream with a tap.
pub(super) struct Tapped<S> {
    stream: S,
    connection: CapturedConnection,
    sent: Direction,
    received: Direction,
}

/// One direction: the frame that is not complete yet.
struct Direction {
    from: End,
    bytes: BytesMut,
    /// No frame can follow, since the bytes were none.
    is_lost: bool,
}

impl<S> Tapped<S> {
    /// Begins a connection in the capture. It is closed there when this is dropped.
    pub(super) fn new(stream: S, capture: &Capture) -> Self {
        let direction = |from| Direction {
            from,
            bytes: BytesMut::new(),
            is_lost: false,
        };
        Self {
            stream,
            connection: capture.connection(),
            sent: direction(End::Client),
            received: direction(End::Server),
        }
    }
}

impl Direction {
    fn take(&mut self, bytes: &[u8], connection: &CapturedConnection) {
        if self.is_lost {
            return;
        }
        self.bytes.extend_from_slice(bytes);
        loop {
            let used_bytes = match frame::split(&self.bytes, BODY_BYTES_CEILING) {
                Ok(Split::Partial) => return,
                Ok(Split::Frame { body, rest }) => {
                    connection.envelope(self.from, body);
                    self.bytes.len() - rest.len()
                }
                Err(_) => {
                    self.is_lost = true;
                    connection.no_frame(self.from, self.bytes.len());
                    return self.bytes.clear();
                }
            };
            self.bytes.advance(used_bytes);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tapped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buffer);
        let new = buffer.filled().get(before..).unwrap_or_default();
        this.received.take(new, &this.connection);
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tapped<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.stream).poll_write(cx, bytes);
        if let Poll::Ready(Ok(sent)) = polled {
            let sent = bytes.get(..sent).unwrap_or_default();
            this.sent.take(sent, &this.connection);
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
