//! Link: where the server is, and which transport carries its protocol.

use std::{
    fmt,
    net::{SocketAddr, TcpStream, ToSocketAddrs},
    sync::Arc,
    time::Duration,
};

use chat::{
    address::{Address, AddressError, Scheme},
    pin::Pin,
    tls::{Trust, server_name},
};
use rustls::{ClientConfig, pki_types::ServerName};

use crate::{dialect::Protocol, failure::Failure};

/// How long one of several addresses of a host may take to answer, in milliseconds.
const CONNECT_TIMEOUT_MS: u64 = 3_000;

/// The protocol under a WebSocket, as the handshake of TLS names it.
const HTTP: &[u8] = b"http/1.1";

/// What carries the bytes of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Carrier {
    pub is_encrypted: bool,
    pub is_websocket: bool,
    pub is_quic: bool,
}

/// The server, as the command line names it.
#[derive(Debug, Clone)]
pub struct Place {
    pub address: SocketAddr,
    pub carrier: Carrier,
    host: String,
    pin: Option<Pin>,
}

impl Place {
    /// Whether it is spoken to over TCP and nothing else.
    pub fn is_plain(&self) -> bool {
        let Carrier {
            is_encrypted,
            is_websocket,
            is_quic,
        } = self.carrier;
        !is_encrypted && !is_websocket && !is_quic
    }

    /// Reads an address: that of a chat server, or one that begins with ws:// or wss://.
    pub fn parse(value: &str) -> Result<Self, String> {
        let (value, is_websocket) =
            match (value.strip_prefix("ws://"), value.strip_prefix("wss://")) {
                (Some(rest), _) => (format!("chat://{rest}"), true),
                (_, Some(rest)) => (format!("chats://{rest}"), true),
                _ => (value.to_owned(), false),
            };
        let address: Address = value
            .parse()
            .map_err(|error: AddressError| error.to_string())?;
        if address.name().is_some() {
            return Err("members have generated names: leave out the name before the @".to_owned());
        }
        let carrier = Carrier {
            is_encrypted: address.scheme() == Scheme::Chats,
            is_websocket,
            is_quic: address.scheme() == Scheme::Chatq,
        };
        let addresses = (address.host(), address.port())
            .to_socket_addrs()
            .map_err(|error| format!("cannot look up the host: {error}"))?
            .collect::<Vec<_>>();
        let found = match carrier.is_quic {
            true => addresses.first().copied(),
            false => reachable(&addresses),
        };
        Ok(Self {
            address: found.ok_or("the host has no address")?,
            carrier,
            host: address.host().to_owned(),
            pin: address.pin(),
        })
    }

    /// How to connect to it. The pin of the address says more than `trust`.
    pub fn link(&self, trust: Trust, protocol: Protocol) -> Result<Link, Failure> {
        let trust = self.pin.map_or(trust, Trust::pinned);
        let address = match self.carrier.is_quic {
            false => self.address,
            true => bridge(trust.clone(), &self.host, self.address)?,
        };
        let tls = match self.carrier.is_encrypted {
            false => None,
            true => {
                let mut config = trust.client_config()?;
                if self.carrier.is_websocket {
                    config.alpn_protocols = vec![HTTP.to_vec()];
                }
                Some((Arc::new(config), server_name(&self.host)?))
            }
        };
        Ok(Link {
            address,
            also: Vec::new(),
            shown: self.to_string(),
            tls,
            websocket_host: self.carrier.is_websocket.then(|| self.address.to_string()),
            // Its server says something before the handshake.
            has_greeting: matches!(protocol, Protocol::Nats | Protocol::JetStream)
                && !self.carrier.is_websocket,
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Carrier {
            is_encrypted,
            is_websocket,
            is_quic,
        } = self.carrier;
        f.write_str(match (is_websocket, is_encrypted) {
            (true, true) => "wss://",
            (true, false) => "ws://",
            (false, true) => "chats://",
            (false, false) if is_quic => "chatq://",
            (false, false) => "",
        })?;
        write!(f, "{}", self.address)
    }
}

impl Link {
    /// Where the connection with this index goes.
    pub fn address_of(&self, index: usize) -> SocketAddr {
        let turn = index % (self.also.len() + 1);
        let also = turn.checked_sub(1).and_then(|turn| self.also.get(turn));
        also.copied().unwrap_or(self.address)
    }
}

/// How to connect to the server.
#[derive(Debug, Clone)]
pub struct Link {
    /// Where TCP connections go.
    pub address: SocketAddr,
    /// Where others of them go, in turn.
    pub also: Vec<SocketAddr>,
    /// The server as people write it.
    pub shown: String,
    pub tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
    /// The host in the request for a WebSocket.
    pub websocket_host: Option<String>,
    /// Whether the server sends a line before the handshake of TLS.
    pub has_greeting: bool,
}

#[cfg(feature = "quic")]
fn bridge(trust: Trust, host: &str, address: SocketAddr) -> Result<SocketAddr, Failure> {
    crate::quic::bridge(trust, host, address)
}

#[cfg(not(feature = "quic"))]
fn bridge(_: Trust, _: &str, _: SocketAddr) -> Result<SocketAddr, Failure> {
    Err(Failure::unusable("this program was built without QUIC"))
}

/// The first of a host's addresses at which a server listens, or else the first. A
/// single address is not tried: that would be one more connection to the server.
fn reachable(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    let first = addresses.first().copied();
    if addresses.len() < 2 {
        return first;
    }
    let timeout = Duration::from_millis(CONNECT_TIMEOUT_MS);
    addresses
        .iter()
        .copied()
        .find(|address| TcpStream::connect_timeout(address, timeout).is_ok())
        .or(first)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn the_first_address_with_a_server_is_measured() {
        let bind = || TcpListener::bind("127.0.0.1:0").expect("a port is free");
        let address = |listener: &TcpListener| listener.local_addr().expect("it is bound");
        let (closed, open) = (bind(), bind());
        let [refused, open_address] = [&closed, &open].map(address);
        drop(closed);
        assert_eq!(reachable(&[refused, open_address]), Some(open_address));
        assert_eq!(reachable(&[open_address, refused]), Some(open_address));
        assert_eq!(reachable(&[refused, refused]), Some(refused));
        assert_eq!(reachable(&[refused]), Some(refused));
        assert_eq!(reachable(&[]), None);
    }

    #[test]
    fn connections_go_to_several_servers_in_turn() {
        let [first, second, third] = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut link = Place::parse("127.0.0.1:1")
            .and_then(|place| {
                let link = place.link(Trust::system(), Protocol::Chat);
                link.map_err(|failure| failure.to_string())
            })
            .expect("an address");
        assert_eq!(link.address_of(7), first);
        link.also = vec![second, third];
        let turns = [0, 1, 2, 3].map(|index| link.address_of(index));
        assert_eq!(turns, [first, second, third, first]);
    }

    #[test]
    fn an_address_says_what_carries_the_bytes() {
        for (text, shown) in [
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("chat://127.0.0.1:1", "127.0.0.1:1"),
            ("chats://127.0.0.1:1", "chats://127.0.0.1:1"),
            ("chatq://127.0.0.1:1", "chatq://127.0.0.1:1"),
            ("ws://127.0.0.1:1", "ws://127.0.0.1:1"),
            ("wss://127.0.0.1:1", "wss://127.0.0.1:1"),
        ] {
            let place = Place::parse(text).expect("an address");
            assert_eq!(place.to_string(), shown);
            assert_eq!(place.is_plain(), !shown.contains("//"));
        }
        assert!(Place::parse("ws://me@127.0.0.1:1").is_err());
    }
}
