//! TLS: the handshake, and an encrypted stream over TCP.

use std::{
    io::{self, IoSlice},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures_util::future::BoxFuture;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::{TlsAcceptor, server};

use super::{
    certificates::{Certificates, Protocol},
    proxied::refuse_header,
    tcp::Tcp,
    transport::{Accepted, Delivery, Kind, Listener, Transport},
};

/// How much ciphertext waits for a peer that does not read, in bytes: two records. What
/// is due beyond that waits in the log, which is shared.
const CIPHERTEXT_BYTES_MAX: usize = 32 * 1024;

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
            let acceptor = TlsAcceptor::from(certificates.config(carries));
            Accepted::Handshake(Box::pin(async {
                refuse_header(&stream).await?;
                shake_hands(acceptor, stream).await.map(Some)
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
    acceptor: TlsAcceptor,
    stream: S,
) -> io::Result<TlsStream<S>> {
    let mut stream = acceptor.accept(stream).await?;
    let (_, connection) = stream.get_mut();
    connection.set_buffer_limit(Some(CIPHERTEXT_BYTES_MAX));
    Ok(TlsStream(Box::new(stream)))
}

/// An encrypted stream. The peer has closed it only if it said so (close_notify): an end
/// without that is an error, since anybody on the way could have cut it.
pub(super) struct TlsStream<S>(Box<server::TlsStream<S>>);

impl<S: Transport> TlsStream<S> {
    /// The stream that carries the ciphertext.
    fn carrier(&self) -> &S {
        self.0.get_ref().0
    }

    fn inner(&mut self) -> Pin<&mut server::TlsStream<S>> {
        Pin::new(&mut *self.0)
    }
}

impl<S: Transport> Transport for TlsStream<S> {
    /// Record by record until nothing is left. One read gives one record.
    fn poll_read_available(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        while buffer.remaining() > 0 {
            let before = buffer.filled().len();
            match self.inner().poll_read(cx, &mut buffer) {
                Poll::Pending if before == 0 => return Poll::Pending,
                Poll::Ready(Err(error)) if before == 0 => return Poll::Ready(Err(error)),
                // An error shows again with the next read.
                Poll::Pending | Poll::Ready(Err(_)) => break,
                Poll::Ready(Ok(())) if buffer.filled().len() == before => break,
                Poll::Ready(Ok(())) => {}
            }
        }
        Poll::Ready(Ok(buffer.filled().len()))
    }

    fn is_readable_now(&self) -> bool {
        self.carrier().is_readable_now()
    }

    fn is_writable_now(&self) -> bool {
        self.carrier().is_writable_now()
    }

    /// What the carrier delivered, which is ciphertext: it shows whether the peer takes
    /// any.
    fn delivery(&self) -> Option<Delivery> {
        self.carrier().delivery()
    }
}

impl<S: Transport> AsyncRead for TlsStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.inner().poll_read(cx, buffer)
    }
}

impl<S: Transport> AsyncWrite for TlsStream<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.inner().poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.inner().poll_shutdown(cx)
    }
}
