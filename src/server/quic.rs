//! The QUIC transport: accepts connections whose peers have shown that they are where
//! they say, and takes the one stream of each.

use std::{
    hash::{BuildHasher, RandomState},
    io,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::BoxFuture;
use quinn::{
    ConnectionId, ConnectionIdGenerator, Endpoint, EndpointConfig, Incoming, ServerConfig,
    TokioRuntime, crypto::rustls::QuicServerConfig,
};
use tracing::debug;

use super::{
    certificates::{Certificates, Protocol},
    tcp::listen_addresses,
    transport::{Accepted, BACKLOG, Kind, Listener, Transport},
};
use crate::quic::{QuicStream, transport_config};

/// How much of connections that wait to be accepted is kept, in bytes.
const INCOMING_BYTES_MAX: u64 = 1 << 20;

/// Listens for QUIC connections.
pub(super) struct Quic {
    endpoint: Endpoint,
    certificates: Arc<Certificates>,
    /// Shared by all connections since the certificate was read last.
    config: Mutex<Config>,
    connections_max: u32,
}

/// A configuration, and the one of TLS that it was made of.
struct Config {
    tls: Arc<rustls::ServerConfig>,
    quic: Arc<ServerConfig>,
}

impl Quic {
    /// Listens on the socket that was handed to the server, or on the first address of
    /// `listen` that can be had.
    pub(super) async fn bind(
        handed: Option<UdpSocket>,
        listen: &str,
        certificates: Arc<Certificates>,
        connections_max: u32,
    ) -> io::Result<Self> {
        let config = Config::of(certificates.config(Protocol::Chat))?;
        let socket = match handed {
            Some(socket) => socket,
            None => bind(listen).await?,
        };
        let endpoint = Endpoint::new(
            endpoint_config(),
            Some((*config.quic).clone()),
            socket,
            Arc::new(TokioRuntime),
        )?;
        Ok(Self {
            endpoint,
            certificates,
            config: Mutex::new(config),
            connections_max,
        })
    }

    /// The configuration with the certificate that was read last.
    fn config(&self) -> io::Result<Arc<ServerConfig>> {
        let tls = self.certificates.config(Protocol::Chat);
        let mut config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&config.tls, &tls) {
            *config = Config::of(tls)?;
        }
        Ok(Arc::clone(&config.quic))
    }

    /// The address it listens on, with the port it has.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }
}

async fn bind(listen: &str) -> io::Result<UdpSocket> {
    let mut refused = io::Error::new(io::ErrorKind::NotFound, "it has no address");
    for address in listen_addresses(listen).await? {
        match UdpSocket::bind(address) {
            Ok(socket) => return Ok(socket),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn endpoint_config() -> EndpointConfig {
    let mut config = EndpointConfig::default();
    config.cid_generator(|| Box::new(ConnectionIds::default()));
    config
}

/// Gives connections their ids, which differ in all their bytes. Those that quinn gives by
/// default differ in three: among a thousand connections, a newcomer in some thousands is
/// told to use an id under which another connection's packets come, and waits in vain.
#[derive(Default)]
struct ConnectionIds {
    /// Nobody can tell from an id which one came before.
    keys: RandomState,
    given: u64,
}

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        self.given += 1;
        ConnectionId::new(&self.keys.hash_one(self.given).to_be_bytes())
    }

    fn cid_len(&self) -> usize {
        size_of::<u64>()
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

impl Config {
    fn of(tls: Arc<rustls::ServerConfig>) -> io::Result<Self> {
        let crypto = QuicServerConfig::try_from(Arc::clone(&tls)).map_err(io::Error::other)?;
        let mut config = ServerConfig::with_crypto(Arc::new(crypto));
        config
            .transport_config(Arc::new(transport_config()))
            .max_incoming(BACKLOG as usize)
            .incoming_buffer_size_total(INCOMING_BYTES_MAX);
        Ok(Self {
            tls,
            quic: Arc::new(config),
        })
    }
}

impl Listener for Quic {
    const KIND: Kind = Kind::Quic;
    type Stream = QuicStream;
    type Handshake = BoxFuture<'static, io::Result<Option<QuicStream>>>;

    async fn accept(&self) -> io::Result<(Accepted<QuicStream, Self::Handshake>, SocketAddr)> {
        loop {
            let incoming = self.endpoint.accept().await;
            let incoming = incoming.ok_or(io::ErrorKind::BrokenPipe)?;
            // A packet may name any sender: until it has answered one, nothing is kept
            // of it, and nothing counts for its address.
            if !incoming.remote_address_validated() {
                let _ = incoming.retry();
            } else if self.endpoint.open_connections() >= self.connections_max as usize {
                debug!(peer = %incoming.remote_address(), "refused: too many over QUIC");
                incoming.refuse();
            } else {
                let peer = incoming.remote_address();
                let config = self.config()?;
                let handshake = Box::pin(shake_hands(incoming, config));
                return Ok((Accepted::Handshake(handshake), peer));
            }
        }
    }
}

async fn shake_hands(
    incoming: Incoming,
    config: Arc<ServerConfig>,
) -> io::Result<Option<QuicStream>> {
    let connection = incoming.accept_with(config)?.await?;
    // It exists when its first bytes have come.
    let (send, receive) = connection.accept_bi().await?;
    Ok(Some(QuicStream::new(connection, send, receive)))
}

impl Transport for QuicStream {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use quinn::ConnectionIdGenerator;

    use super::ConnectionIds;

    /// As many as 20,000 connections use at a time; ids that differ in three bytes have met
    /// by then.
    const IDS: usize = 100_000;

    #[test]
    fn no_two_connections_are_given_one_id() {
        let mut ids = ConnectionIds::default();
        let given: HashSet<_> = (0..IDS).map(|_| ids.generate_cid()).collect();
        assert_eq!(given.len(), IDS);
        assert!(given.iter().all(|id| id.len() == ids.cid_len()));
    }
}
