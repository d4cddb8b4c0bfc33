//! Dial: from an address to what carries the bytes.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

use super::codec::ByteStream;
use super::connect::{ADDRESSES_MAX, Connector};
use super::connect_error::ConnectError;
use super::eyeballs;
use crate::address::{Address, Scheme};
#[cfg(feature = "quic")]
use crate::quic::{self, QuicError, QuicStream};
#[cfg(feature = "quic")]
use crate::tls::Trust;

impl Connector {
    /// Opens what carries the bytes: the connection, with its encryption.
    pub(super) async fn dial(&self, address: &Address) -> Result<ByteStream, ConnectError> {
        match address.scheme() {
            Scheme::Chat => Ok(Box::new(self.dial_tcp(address).await?)),
            #[cfg(feature = "tls")]
            Scheme::Chats => {
                let stream = self.dial_tcp(address).await?;
                let shaken = super::tls::shake_hands(&self.trust, address, stream);
                let stream = timeout(self.timeout, shaken).await;
                Ok(Box::new(stream.map_err(|_| ConnectError::Silent)??))
            }
            #[cfg(feature = "quic")]
            Scheme::Chatq => Ok(Box::new(self.dial_quic(address).await?)),
            #[cfg(not(feature = "quic"))]
            scheme => Err(ConnectError::SchemeMissing(scheme)),
        }
    }

    /// The addresses of the host, as many as are tried.
    async fn look_up(
        &self,
        address: &Address,
    ) -> Result<impl Iterator<Item = SocketAddr> + use<>, ConnectError> {
        let host = (address.host(), address.port());
        let found = timeout(self.timeout, lookup_host(host))
            .await
            .map_err(|_| ConnectError::Lookup(io::ErrorKind::TimedOut.into()))?
            .map_err(ConnectError::Lookup)?;
        let found: Vec<SocketAddr> = found.take(ADDRESSES_MAX).collect();
        Ok(found.into_iter())
    }

    /// Opens a TCP connection to the first address of the host that accepts one.
    async fn dial_tcp(&self, address: &Address) -> Result<TcpStream, ConnectError> {
        let limit = self.timeout;
        let connected = eyeballs::first(self.look_up(address).await?, |address| async move {
            match timeout(limit, TcpStream::connect(address)).await {
                Ok(connected) => connected,
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        });
        let stream = connected.await.map_err(ConnectError::Connect)?;
        // A chat is one small frame, which should not wait for another.
        stream.set_nodelay(true).map_err(ConnectError::Connect)?;
        Ok(stream)
    }

    /// Opens a QUIC connection to the first address of the host that accepts one. The pin
    /// of the address says more than the caller's trust.
    #[cfg(feature = "quic")]
    async fn dial_quic(&self, address: &Address) -> Result<QuicStream, ConnectError> {
        let pinned = address.pin().map(Trust::pinned);
        let trust = pinned.as_ref().unwrap_or(&self.trust);
        let mut failure = io::ErrorKind::NotFound.into();
        for socket_address in self.look_up(address).await? {
            let connecting = quic::connect(trust, address.host(), socket_address);
            match timeout(self.timeout, connecting).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(QuicError::Untrusted(untrusted))) => {
                    return Err(ConnectError::Untrusted(untrusted));
                }
                Ok(Err(QuicError::Failed(error))) => failure = error,
                Err(_) => failure = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(ConnectError::Connect(failure))
    }
}
