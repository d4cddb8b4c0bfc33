//! QUIC: UDP with a reliability layer that others keep (quinn). A connection has one
//! stream, which the client opens and which carries the same frames as TCP. It goes on
//! when the client's address changes.

use std::{
    future::Future,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use quinn::{
    ClientConfig, Connection, Endpoint, IdleTimeout, RecvStream, SendStream, StoppedError,
    TransportConfig, VarInt, crypto::rustls::QuicClientConfig,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tls::{Trust, Untrusted};

/// How much one side may send that the other has not read, in bytes.
const RECEIVE_WINDOW_BYTES: u32 = 64 * 1024;

/// How much is kept to be sent again, in bytes.
const SEND_WINDOW_BYTES: u64 = 256 * 1024;

/// A peer that is gone without a word is found after this silence; a packet this often
/// keeps it from falling silent, and routers on the way from forgetting it.
const IDLE_MS_MAX: u32 = 90_000;
const KEEPALIVE_MS: u64 = 30_000;

/// The limits of a connection, on both sides.
pub fn transport_config() -> TransportConfig {
    let mut config = TransportConfig::default();
    config
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .datagram_send_buffer_size(0)
        .stream_receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .send_window(SEND_WINDOW_BYTES)
        .keep_alive_interval(Some(Duration::from_millis(KEEPALIVE_MS)))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS_MAX))));
    config
}

/// Why there is no connection.
#[derive(Debug)]
pub enum QuicError {
    /// The server is not trusted.
    Untrusted(Untrusted),
    /// The server refuses, speaks another protocol, or does not answer.
    Failed(io::Error),
}

impl From<io::Error> for QuicError {
    fn from(error: io::Error) -> Self {
        Self::Failed(error)
    }
}

/// Connects to the server at `address`, which calls itself `host`.
///
/// # Errors
///
/// [`QuicError`] says which step failed.
pub async fn connect(
    trust: &Trust,
    host: &str,
    address: SocketAddr,
) -> Result<QuicStream, QuicError> {
    let (config, verdict) = trust.noting_client_config()?;
    let crypto = QuicClientConfig::try_from(config).map_err(io::Error::other)?;
    let mut config = ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport_config()));
    // Any address of this machine, so that it may change.
    let any = match address {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = Endpoint::client(any)?;
    let host = host.split('%').next().unwrap_or_default();
    let connecting = endpoint
        .connect_with(config, address, host)
        .map_err(io::Error::other)?;
    let connection = connecting.await.map_err(|error| match verdict.get() {
        Some(untrusted) => QuicError::Untrusted(untrusted.clone()),
        None => QuicError::Failed(error.into()),
    })?;
    let (send, receive) = connection.open_bi().await.map_err(io::Error::from)?;
    Ok(QuicStream {
        _endpoint: Some(endpoint),
        ..QuicStream::new(connection, send, receive)
    })
}

type Stopped = dyn Future<Output = Result<Option<VarInt>, StoppedError>> + Send + Sync;

/// The one stream of a connection, which is closed when this is dropped.
pub struct QuicStream {
    send: SendStream,
    receive: RecvStream,
    /// Set once this side has finished: done when the peer has everything.
    stopped: Option<Pin<Box<Stopped>>>,
    _connection: Connection,
    _endpoint: Option<Endpoint>,
}

impl QuicStream {
    /// The stream with these two directions.
    pub fn new(connection: Connection, send: SendStream, receive: RecvStream) -> Self {
        Self {
            send,
            receive,
            stopped: None,
            _connection: connection,
            _endpoint: None,
        }
    }
}

impl AsyncRead for QuicStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.receive), cx, buffer)
    }
}

impl AsyncWrite for QuicStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, bytes)
    }

    /// A task of the endpoint sends what was written.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Done when the peer has everything: a connection that is closed sends nothing
    /// again.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let stream = &mut *self;
        let stopped = stream.stopped.get_or_insert_with(|| {
            // It was finished, or reset, before: either way nothing is left to do.
            let _ = stream.send.finish();
            Box::pin(stream.send.stopped())
        });
        stopped
            .as_mut()
            .poll(cx)
            .map(|stopped| stopped.map(|_| ()).map_err(io::Error::other))
    }
}
