//! WebSocket: a transport over the stream of an HTTP connection that was upgraded
//! (CHAT-WS).

use std::{
    io::{self, IoSlice},
    os::fd::BorrowedFd,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::codec::{self, CloseCode, Decoder, Opcode};
use crate::server::transport::{Delivery, Transport};

/// The longest message that is sent of a copy, in bytes. What the carrier does not take of
/// one is kept, so it is as little as makes no difference. With its head it fills two records
/// of TLS.
const COPIED_MESSAGE_BYTES_MAX: usize = 32 * 1024 - codec::SENT_HEAD_BYTES_MAX;
const _: () = assert!(COPIED_MESSAGE_BYTES_MAX <= codec::SENT_BYTES_MAX);

/// How much may wait to be sent before a Ping goes unanswered, in bytes: a client that
/// reads nothing gets no Pong.
const PONG_BEHIND_BYTES_MAX: usize = 1_024;

// The task of a connection takes a multiple of 128 bytes.
const _: () = assert!(size_of::<WebSocket<TcpStream>>() <= size_of::<TcpStream>() + 128);

/// A stream of bytes in binary messages (CHAT-WS-2).
pub(in crate::server) struct WebSocket<S> {
    carrier: S,
    decoder: Decoder,
    /// What HTTP has read beyond the request: nothing, with nearly every client.
    #[expect(clippy::box_collection, reason = "so it takes a pointer")]
    read_ahead: Option<Box<Vec<u8>>>,
    /// What was accepted to be sent and the carrier has not taken: the rest of a head, then
    /// what goes out between messages.
    unsent: Vec<u8>,
    /// How many of these bytes are the rest of the head of the message that is open.
    head_left: u8,
    /// How many bytes of the stream the message that is open still takes. Nothing else may
    /// go out before them.
    message_left: u16,
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
            read_ahead: (!read_ahead.is_empty()).then(|| Box::new(read_ahead)),
            unsent: Vec::new(),
            head_left: 0,
            message_left: 0,
            reading: Reading::Open,
            is_close_sent: false,
        }
    }

    fn carrier(&mut self) -> Pin<&mut S> {
        Pin::new(&mut self.carrier)
    }

    /// Sends what waits, as far as it may go out.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            let due = match self.message_left {
                0 => &self.unsent[..],
                _ => self.unsent.get(..self.head_left.into()).unwrap_or_default(),
            };
            if due.is_empty() {
                break;
            }
            match ready!(Pin::new(&mut self.carrier).poll_write(cx, due))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => {
                    self.unsent.drain(..sent);
                    // A head is a few bytes.
                    self.head_left = self.head_left.saturating_sub(sent.min(255) as u8);
                }
            }
        }
        if self.unsent.is_empty() {
            // A connection that is silent owns no buffer.
            self.unsent = Vec::new();
        }
        Poll::Ready(Ok(()))
    }

    /// The bytes that go into the message that is open.
    fn in_message<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        bytes.get(..self.message_left.into()).unwrap_or(bytes)
    }

    /// So many of them went out.
    fn sent_in_message(&mut self, sent: usize) {
        // No more than are left.
        self.message_left = self.message_left.saturating_sub(sent as u16);
    }

    /// Begins a message with some of `bytes`, unless one is open, and sends some of them.
    fn poll_send_part(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        file: BorrowedFd<'_>,
        offset: u32,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(cx))?;
        if self.message_left == 0 {
            let payload_bytes = bytes.len().min(codec::SENT_BYTES_MAX) as u16;
            let (head, head_bytes) = codec::head(Opcode::Binary, payload_bytes);
            let head = head.get(..head_bytes).unwrap_or_default();
            let sent = ready!(self.carrier().poll_write(cx, head))?;
            let rest = head.get(sent..).unwrap_or_default();
            self.unsent.extend_from_slice(rest);
            (self.head_left, self.message_left) = (rest.len() as u8, payload_bytes);
            ready!(self.poll_unsent(cx))?;
        }
        let bytes = self.in_message(bytes);
        let sent = ready!(self.carrier.poll_send_file(cx, bytes, file, offset))?;
        self.sent_in_message(sent);
        Poll::Ready(Ok(sent))
    }

    /// Sends message after message.
    fn poll_send_parts(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        file: BorrowedFd<'_>,
        offset: u32,
    ) -> Poll<io::Result<usize>> {
        let mut all_sent = 0;
        while let Some(rest) = bytes.get(all_sent..).filter(|rest| !rest.is_empty()) {
            // An offset in a segment, of 32 bits.
            match self.poll_send_part(cx, rest, file, offset + all_sent as u32) {
                Poll::Ready(Ok(sent)) if sent > 0 => all_sent += sent,
                // It shows again with the next call.
                _ if all_sent > 0 => break,
                nothing => return nothing,
            }
        }
        Poll::Ready(Ok(all_sent))
    }

    /// Reads what the carrier has, or has had.
    fn poll_carrier(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Some(read_ahead) = &mut self.read_ahead else {
            return self.carrier.poll_read_available(cx, buffer);
        };
        let count = read_ahead.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(read_ahead.drain(..count)) {
            *to = from;
        }
        self.read_ahead = self.read_ahead.take().filter(|rest| !rest.is_empty());
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
                // It may be all that is due. What is not taken now goes out with a flush,
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

    /// In messages as long as they get with a short head, of which nothing is kept here.
    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        file: BorrowedFd<'_>,
        offset: u32,
    ) -> Poll<io::Result<usize>> {
        if !S::SENDS_FILES {
            return Pin::new(self).poll_write(cx, bytes);
        }
        self.carrier.hold_back(true);
        let sent = self.poll_send_parts(cx, bytes, file, offset);
        self.carrier.hold_back(false);
        sent
    }

    fn announced_bytes(&self) -> u16 {
        self.message_left
    }

    fn is_readable_now(&self) -> bool {
        self.read_ahead.is_some() || self.carrier.is_readable_now()
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
    /// Fills the message that is open, or sends one. The carrier takes that whole, or the
    /// rest of it is kept and goes out with the next call.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_unsent(cx))?;
        if self.message_left > 0 {
            let bytes = self.in_message(bytes);
            let sent = ready!(self.carrier().poll_write(cx, bytes))?;
            self.sent_in_message(sent);
            return Poll::Ready(Ok(sent));
        }
        let payload = bytes.get(..COPIED_MESSAGE_BYTES_MAX).unwrap_or(bytes);
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
        // A message that is open cannot be left: then there is no Close.
        if !self.is_close_sent && self.message_left == 0 {
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

#[cfg(test)]
mod tests;
