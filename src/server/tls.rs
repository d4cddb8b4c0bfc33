//! TLS: the handshake, and an encrypted stream over TCP.
//!
//! rustls works on buffers of the thread here (its interface without buffers): those that
//! it would own stay with each connection, 4 KiB of them for good.

use std::{
    cell::RefCell,
    future::poll_fn,
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use futures_util::future::BoxFuture;
use rustls::{
    ServerConfig,
    server::{ServerConnectionData, UnbufferedServerConnection},
    unbuffered::{ConnectionState, EncodeError, EncodeTlsData, UnbufferedStatus, WriteTraffic},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{
    certificates::{Certificates, Protocol},
    proxied::refuse_header,
    tcp::Tcp,
    transport::{Accepted, Delivery, Kind, Listener, Transport},
};

/// How much is encrypted at once, in bytes: two records. As much waits for a peer that does
/// not read. What is due beyond that waits in the log, which is shared.
pub(super) const PLAINTEXT_BYTES_MAX: usize = 32 * 1024;

/// How long two records are with what encryption adds to them, in bytes, and to spare: what
/// answers a new key of the peer goes out before them.
const CIPHERTEXT_BYTES_MAX: usize = PLAINTEXT_BYTES_MAX + 1_024;

/// How much is read at once, in bytes. A record is shorter, and so must be a message of the
/// handshake, of which all records are kept until the last one has come.
const RECORDS_BYTES_MAX: usize = 32 * 1024;

/// How long the record is that says that no more come, in bytes, with room to spare.
const CLOSE_NOTIFY_BYTES_MAX: usize = 256;

thread_local! {
    // What is read and written goes through these, so that a silent connection owns no
    // buffer.
    static RECORDS: RefCell<Box<[u8]>> =
        RefCell::new(vec![0; RECORDS_BYTES_MAX].into_boxed_slice());
    static CIPHERTEXT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static GATHERED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Listens for TLS connections over TCP.
pub(super) struct Tls {
    tcp: Tcp,
    certificates: Arc<Certificates>,
    carries: Protocol,
}

impl Tls {
    pub(super) fn new(tcp: Tcp, certificates: Arc<Certificates>, carries: Protocol) -> Self {
        Self {
            tcp,
            certificates,
            carries,
        }
    }
}

impl Listener for Tls {
    const KIND: Kind = Kind::Tls;
    type Stream = TlsStream<TcpStream>;
    type Handshake = BoxFuture<'static, io::Result<Option<Self::Stream>>>;

    async fn accept(&self) -> io::Result<(Accepted<Self::Stream, Self::Handshake>, SocketAddr)> {
        let (certificates, carries) = (Arc::clone(&self.certificates), self.carries);
        let prepare = move |stream: TcpStream| -> Accepted<Self::Stream, Self::Handshake> {
            let config = certificates.config(carries);
            Accepted::Handshake(Box::pin(async {
                refuse_header(&stream).await?;
                shake_hands(config, stream).await.map(Some)
            }))
        };
        self.tcp.accept_stream(prepare).await
    }

    fn outlives_server(&self) -> bool {
        self.tcp.outlives_server()
    }
}

/// Encrypts a stream, with the client's consent.
pub(super) async fn shake_hands<S: Transport>(
    config: Arc<ServerConfig>,
    carrier: S,
) -> io::Result<TlsStream<S>> {
    let session = UnbufferedServerConnection::new(config).map_err(io::Error::other)?;
    let mut stream = TlsStream(Box::new(Inner {
        carrier,
        session,
        records: Vec::new(),
        plaintext: Vec::new(),
        unsent: Vec::new(),
        sent: 0,
        reading: Reading::Open,
        is_close_sent: false,
    }));
    poll_fn(|cx| stream.0.poll_handshake(cx)).await?;
    Ok(stream)
}

/// An encrypted stream. The peer has closed it only if it said so (close_notify): an end
/// without that is an error, since anybody on the way could have cut it.
pub(super) struct TlsStream<S>(Box<Inner<S>>);

struct Inner<S> {
    /// The stream that carries the ciphertext.
    carrier: S,
    session: UnbufferedServerConnection,
    /// A record that has not come whole, or a message of the handshake.
    records: Vec<u8>,
    /// What was decrypted beyond what the reader had room for: less than was read at once.
    plaintext: Vec<u8>,
    /// Ciphertext, of which the carrier has taken the first `sent` bytes.
    unsent: Vec<u8>,
    sent: usize,
    reading: Reading,
    is_close_sent: bool,
}

enum Reading {
    Open,
    /// The peer said that no more comes.
    Closed,
    Broken(rustls::Error),
}

/// What the session wants.
enum Step<'a> {
    /// Go on: it may want more.
    Again,
    /// The records that come next.
    Records,
    /// The same, or something to encrypt.
    RecordsOrPlaintext(WriteTraffic<'a, ServerConnectionData>),
    /// Nothing: the peer has closed.
    Closed,
}

/// Shows `records` to the session. Returns how many bytes of them it is done with. What it
/// decrypts goes to `read`, what it has to say itself to `unsent`.
fn step<'a>(
    session: &'a mut UnbufferedServerConnection,
    records: &'a mut [u8],
    mut read: impl FnMut(&[u8]),
    unsent: &mut Vec<u8>,
) -> (usize, Result<Step<'a>, rustls::Error>) {
    let UnbufferedStatus { mut discard, state } = session.process_tls_records(records);
    let state = match state {
        Ok(state) => state,
        Err(error) => return (discard, Err(error)),
    };
    let step = match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        discard += record.discard;
                        read(record.payload);
                    }
                    Err(error) => return (discard, Err(error)),
                }
            }
            Step::Again
        }
        ConnectionState::EncodeTlsData(data) => match encode(data, unsent) {
            Ok(()) => Step::Again,
            Err(error) => return (discard, Err(error)),
        },
        // It goes out from where it is kept.
        ConnectionState::TransmitTlsData(kept) => {
            kept.done();
            Step::Again
        }
        ConnectionState::WriteTraffic(traffic) => Step::RecordsOrPlaintext(traffic),
        ConnectionState::BlockedHandshake => Step::Records,
        ConnectionState::PeerClosed | ConnectionState::Closed => Step::Closed,
        // Early data is not offered.
        _ => {
            return (
                discard,
                Err(rustls::Error::General("unexpected".to_owned())),
            );
        }
    };
    (discard, Ok(step))
}

/// Appends what the session has to say itself.
fn encode(
    mut data: EncodeTlsData<'_, ServerConnectionData>,
    unsent: &mut Vec<u8>,
) -> Result<(), rustls::Error> {
    let failed = |error: EncodeError| rustls::Error::General(error.to_string());
    // It says how long it is if there is no room.
    let bytes = match data.encode(&mut []) {
        Err(EncodeError::InsufficientSize(size)) => size.required_size,
        encoded => return encoded.map(|_| ()).map_err(failed),
    };
    let start = unsent.len();
    unsent.resize(start + bytes, 0);
    let encoded = data.encode(unsent.get_mut(start..).unwrap_or_default());
    encoded.map(|_| ()).map_err(failed)
}

fn broken(error: &rustls::Error) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error.clone())
}

impl<S: Transport> Inner<S> {
    fn poll_handshake(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.session.is_handshaking() {
            ready!(self.poll_unsent(cx))?;
            match &self.reading {
                Reading::Open => {}
                Reading::Closed => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                Reading::Broken(error) => return Poll::Ready(Err(broken(error))),
            }
            ready!(self.poll_records(cx, &mut []))?;
        }
        self.poll_unsent(cx)
    }

    /// Sends what waits.
    fn poll_unsent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(due) = self.unsent.get(self.sent..).filter(|due| !due.is_empty()) {
            match ready!(Pin::new(&mut self.carrier).poll_write(cx, due))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => self.sent += sent,
            }
        }
        // A connection that is silent owns no buffer.
        (self.unsent, self.sent) = (Vec::new(), 0);
        Poll::Ready(Ok(()))
    }

    /// Reads once, and decrypts all that came. Returns how much of it is in `buffer`; what
    /// has no room there is in `plaintext`.
    fn poll_records(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let filled = RECORDS.with_borrow_mut(|records| {
            let (held, room) = records.split_at_mut(self.records.len().min(RECORDS_BYTES_MAX));
            if room.is_empty() {
                let error = "a message of the handshake is too long";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
            let end = match ready!(self.carrier.poll_read_available(cx, room))? {
                // Nobody said so.
                0 => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                read => held.len() + read,
            };
            for (to, from) in held.iter_mut().zip(&self.records) {
                *to = *from;
            }
            let (mut start, mut filled) = (0, 0);
            let plaintext = &mut self.plaintext;
            let mut read = |payload: &[u8]| {
                let room = buffer.get_mut(filled..).unwrap_or_default();
                let (fits, rest) = payload.split_at(payload.len().min(room.len()));
                room.get_mut(..fits.len())
                    .unwrap_or_default()
                    .copy_from_slice(fits);
                filled += fits.len();
                plaintext.extend_from_slice(rest);
            };
            loop {
                let left = records.get_mut(start..end).unwrap_or_default();
                let (discard, step) = step(&mut self.session, left, &mut read, &mut self.unsent);
                start += discard;
                match step {
                    Ok(Step::Again) => {}
                    Ok(Step::Records | Step::RecordsOrPlaintext(_)) => break,
                    Ok(Step::Closed) => {
                        self.reading = Reading::Closed;
                        break;
                    }
                    Err(error) => {
                        self.reading = Reading::Broken(error);
                        break;
                    }
                }
            }
            let left = records.get_mut(start..end).unwrap_or_default();
            // The peer is told what was wrong.
            while matches!(self.reading, Reading::Broken(_)) && self.session.wants_write() {
                let _ = step(&mut self.session, left, |_| {}, &mut self.unsent);
            }
            self.records = left.to_vec();
            Poll::Ready(Ok(filled))
        });
        // What the session has to say itself goes out now, or with a flush, which tells an
        // error too.
        let _ = self.poll_unsent(cx);
        filled
    }

    /// Takes what was decrypted before. Returns how much it was.
    fn take_plaintext(&mut self, buffer: &mut [u8]) -> usize {
        let count = self.plaintext.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(self.plaintext.drain(..count)) {
            *to = from;
        }
        if self.plaintext.is_empty() {
            self.plaintext = Vec::new();
        }
        count
    }

    /// Encrypts `plaintext`, once nothing else is left to send. Returns how much of
    /// `ciphertext` it is.
    fn poll_encrypt(
        &mut self,
        cx: &mut Context<'_>,
        plaintext: &[u8],
        ciphertext: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_unsent(cx))?;
            if let Reading::Broken(error) = &self.reading {
                return Poll::Ready(Err(broken(error)));
            }
            // They are not whole: nothing comes of them.
            let (_, step) = step(
                &mut self.session,
                &mut self.records,
                |_| {},
                &mut self.unsent,
            );
            match step.map_err(io::Error::other)? {
                Step::Again => {}
                Step::RecordsOrPlaintext(mut traffic) => {
                    let encrypted = match plaintext {
                        [] => traffic.queue_close_notify(ciphertext),
                        _ => traffic.encrypt(plaintext, ciphertext),
                    };
                    return Poll::Ready(encrypted.map_err(io::Error::other));
                }
                Step::Records | Step::Closed => {
                    return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
                }
            }
        }
    }
}

impl<S: Transport> Transport for TlsStream<S> {
    /// Record by record until nothing is left.
    fn poll_read_available(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let stream = &mut *self.0;
        let mut filled = stream.take_plaintext(buffer);
        while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let read = match &stream.reading {
                Reading::Open => stream.poll_records(cx, rest),
                Reading::Closed => break,
                Reading::Broken(error) => Poll::Ready(Err(broken(error))),
            };
            match read {
                Poll::Ready(Ok(bytes)) => filled += bytes,
                // An error shows again with the next read.
                _ if filled > 0 => break,
                nothing => return nothing,
            }
        }
        // Nothing is the end.
        Poll::Ready(Ok(filled))
    }

    fn is_readable_now(&self) -> bool {
        !self.0.plaintext.is_empty() || self.0.carrier.is_readable_now()
    }

    fn is_writable_now(&self) -> bool {
        self.0.carrier.is_writable_now()
    }

    /// What the carrier delivered, which is ciphertext: it shows whether the peer takes
    /// any.
    fn delivery(&self) -> Option<Delivery> {
        self.0.carrier.delivery()
    }
}

impl<S: Transport> AsyncRead for TlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let bytes = ready!(self.poll_read_available(cx, buffer.initialize_unfilled()))?;
        buffer.advance(bytes);
        Poll::Ready(Ok(()))
    }
}

impl<S: Transport> AsyncWrite for TlsStream<S> {
    /// What the carrier does not take of the records is kept, and goes out with the next
    /// call.
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let bytes = bytes.get(..PLAINTEXT_BYTES_MAX).unwrap_or(bytes);
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let stream = &mut *self.0;
        CIPHERTEXT.with_borrow_mut(|ciphertext| {
            ciphertext.resize(CIPHERTEXT_BYTES_MAX, 0);
            let due = ready!(stream.poll_encrypt(cx, bytes, ciphertext))?;
            let records = ciphertext.get(..due).unwrap_or_default();
            let sent = match Pin::new(&mut stream.carrier).poll_write(cx, records) {
                Poll::Ready(sent) => sent?,
                Poll::Pending => 0,
            };
            let rest = records.get(sent..).unwrap_or_default();
            if rest.len() > PLAINTEXT_BYTES_MAX / 2 {
                // To copy so much would cost more than a new buffer.
                ciphertext.truncate(due);
                (stream.unsent, stream.sent) = (std::mem::take(ciphertext), sent);
            } else {
                stream.unsent.extend_from_slice(rest);
            }
            Poll::Ready(Ok(bytes.len()))
        })
    }

    /// In the same records.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.0.poll_unsent(cx))?;
        GATHERED.with_borrow_mut(|gathered| {
            gathered.clear();
            for part in parts {
                let room = PLAINTEXT_BYTES_MAX - gathered.len();
                gathered.extend_from_slice(part.get(..room).unwrap_or(part));
            }
            self.poll_write(cx, gathered)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.0.poll_unsent(cx))?;
        Pin::new(&mut self.0.carrier).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &mut *self.0;
        if !stream.is_close_sent {
            let mut record = [0; CLOSE_NOTIFY_BYTES_MAX];
            let due = ready!(stream.poll_encrypt(cx, &[], &mut record))?;
            let record = record.get(..due).unwrap_or_default();
            stream.unsent.extend_from_slice(record);
            stream.is_close_sent = true;
        }
        ready!(stream.poll_unsent(cx))?;
        Pin::new(&mut stream.carrier).poll_shutdown(cx)
    }
}
