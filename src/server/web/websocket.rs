//! WebSocket: a transport over the stream of an HTTP connection that was upgraded
//! (CHAT-WS).

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::codec::{self, CloseCode, Decoder, Opcode};
use crate::server::transport::{Delivery, Transport};

/// The longest message that is sent, in bytes. What the carrier does not take of one is
/// copied, so it is as little as makes no difference.
const SENT_MESSAGE_BYTES_MAX: usize = 32 * 1024;
const _: () = assert!(SENT_MESSAGE_BYTES_MAX <= codec::SENT_BYTES_MAX);

/// How much may wait to be sent before a Ping goes unanswered, in bytes: a client that
/// reads nothing gets no Pong.
const PONG_BEHIND_BYTES_MAX: usize = 1_024;

/// A stream of bytes in binary messages (CHAT-WS-2).
pub(in crate::server) struct WebSocket<S> {
    carrier: S,
    decoder: Decoder,
    /// What HTTP has read beyond the request.
    read_ahead: Vec<u8>,
    /// What was accepted to be sent and the carrier has not taken.
    unsent: Vec<u8>,
    reading: Reading,
    is_close_sent: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    Open,
    /// The end was told by the client, or by the decoder: what to close with.
    Over(CloseCode),
}

impl<S: Transport> WebSocket<S> {
    pub(super) fn new(carrier: S, read_ahead: Vec<u8>) -> Self {
        Self {
            carrier,
            decoder: Decoder::default(),
            read_ahead,
            unsent: Vec::new(),
            reading: Reading::Open,
            is_close_sent: false,
        }
    }

    fn carrier(&mut self) -> Pin<&mut S> {
        Pin::new(&mut self.carrier)
    }

    /// Sends what waits.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.unsent.is_empty() {
            match ready!(Pin::new(&mut self.carrier).poll_write(cx, &self.unsent))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => drop(self.unsent.drain(..sent)),
            }
        }
        // A connection that is silent owns no buffer.
        self.unsent = Vec::new();
        Poll::Ready(Ok(()))
    }

    /// Reads what the carrier has, or has had.
    fn poll_carrier(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if self.read_ahead.is_empty() {
            return self.carrier.poll_read_available(cx, buffer);
        }
        let count = self.read_ahead.len().min(buffer.len());
        let read = self.read_ahead.drain(..count);
        for (to, from) in buffer.iter_mut().zip(read) {
            *to = from;
        }
        Poll::Ready(Ok(count))
    }
}

impl<S: Transport> Transport for WebSocket<S> {
    /// Until nothing is left, as far as `buffer` takes it.
    fn poll_read_available(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut filled = 0;
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            if let Reading::Over(_) = self.reading {
                break;
            }
            let read = match self.poll_carrier(cx, rest) {
                Poll::Pending if filled == 0 => return Poll::Pending,
                Poll::Pending => break,
                // CHAT-WS-7: an end without a Close is a lost connection.
                Poll::Ready(Ok(0)) => Err(io::ErrorKind::UnexpectedEof.into()),
                Poll::Ready(read) => read,
            };
            let bytes = match read {
                Ok(bytes) => bytes,
                // It shows again with the next read, or as an end.
                Err(_) if filled > 0 => break,
                Err(error) => return Poll::Ready(Err(error)),
            };
            let mut ping = None;
            let read = rest.get_mut(..bytes).unwrap_or_default();
            let decoded = self.decoder.decode(read, &mut ping);
            filled += decoded.stream_bytes;
            if let Some(payload) = ping
                && self.unsent.len() <= PONG_BEHIND_BYTES_MAX
            {
                self.unsent.extend(codec::control(Opcode::Pong, &payload));
                // Nothing else may be due. What is not taken now goes out with a flush,
                // which tells an error too.
                let _ = Pin::new(&mut *self).poll_flush(cx);
            }
            if let Some(code) = decoded.close {
                self.reading = Reading::Over(code);
            }
        }
        // Nothing is the end.
        Poll::Ready(Ok(filled))
    }

    fn is_readable_now(&self) -> bool {
        !self.read_ahead.is_empty() || self.carrier.is_readable_now()
    }

    fn is_writable_now(&self) -> bool {
        self.carrier.is_writable_now()
    }

    fn delivery(&self) -> Option<Delivery> {
        self.carrier.delivery()
    }
}

/// For a connection that only waits for the end: what comes after a Close is dropped, and
/// is no end yet.
impl<S: Transport> AsyncRead for WebSocket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let unfilled = buffer.initialize_unfilled();
        let bytes = match self.reading {
            Reading::Open => ready!(self.poll_read_available(cx, unfilled))?,
            Reading::Over(_) => ready!(self.poll_carrier(cx, unfilled))?,
        };
        buffer.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl<S: Transport> AsyncWrite for WebSocket<S> {
    /// Sends a message. The carrier takes it whole, or the rest of it is kept and goes out
    /// with the next call.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(cx))?;
        let payload = bytes.get(..SENT_MESSAGE_BYTES_MAX).unwrap_or(bytes);
        let (head, head_bytes) = codec::head(Opcode::Binary, payload.len() as u16);
        let head = head.get(..head_bytes).unwrap_or_default();
        let parts = [IoSlice::new(head), IoSlice::new(payload)];
        let sent = ready!(self.carrier().poll_write_vectored(cx, &parts))?;
        self.unsent
            .extend_from_slice(head.get(sent..).unwrap_or_default());
        let sent = sent.saturating_sub(head_bytes);
        self.unsent
            .extend_from_slice(payload.get(sent..).unwrap_or_default());
        Poll::Ready(Ok(payload.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_unsent(cx))?;
        self.carrier().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_close_sent {
            self.is_close_sent = true;
            let code = match self.reading {
                Reading::Open => CloseCode::Normal,
                Reading::Over(code) => code,
            };
            self.unsent.extend(codec::close(code)); // CHAT-WS-6
        }
        ready!(self.poll_unsent(cx))?;
        self.carrier().poll_shutdown(cx)
    }
}
