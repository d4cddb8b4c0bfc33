//! Stream: the bytes of a connection, over TCP, TLS or QUIC.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs},
    sync::{Arc, Mutex},
    time::Duration,
};

use chat::address::{Address, Scheme};
use chat::tls::{Trust, Untrusted, server_name};
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use crate::{halves::Half, timing::Timing};

/// Where a server listens, and how it is spoken to.
#[derive(Clone, Debug)]
pub struct Place {
    /// All that its name resolves to.
    pub addresses: Vec<SocketAddr>,
    carrier: Carrier,
}

/// What carries the bytes.
#[derive(Clone, Debug)]
enum Carrier {
    Tcp,
    Tls(Tls),
    #[cfg(feature = "quic")]
    Quic {
        trust: Trust,
        host: String,
    },
}

#[derive(Clone, Debug)]
struct Tls {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Place {
    /// Parses an address and looks its host up. The pin of an encrypted address says
    /// more than `trust`.
    pub fn resolve(address: &str, trust: &Trust) -> Result<Self, String> {
        let parsed: Address = address
            .parse()
            .map_err(|e| format!("{address:?} is no address: {e}"))?;
        let found: Vec<SocketAddr> = (parsed.host(), parsed.port())
            .to_socket_addrs()
            .map_err(|e| format!("the host of {address:?} cannot be looked up: {e}"))?
            .collect();
        if found.is_empty() {
            return Err(format!("the host of {address:?} has no address"));
        }
        let trust = parsed.pin().map_or_else(|| trust.clone(), Trust::pinned);
        let tls = || -> io::Result<Tls> {
            let config = trust.client_config()?;
            Ok(Tls {
                config: Arc::new(config),
                name: server_name(parsed.host())?,
            })
        };
        let carrier = match parsed.scheme() {
            Scheme::Chat => Carrier::Tcp,
            Scheme::Chats => Carrier::Tls(tls().map_err(|e| format!("{address:?}: {e}"))?),
            #[cfg(feature = "quic")]
            Scheme::Chatq => Carrier::Quic {
                host: parsed.host().to_owned(),
                trust,
            },
            #[cfg(not(feature = "quic"))]
            Scheme::Chatq => {
                return Err(format!("{address:?}: this program was built without QUIC"));
            }
        };
        Ok(Self {
            addresses: found,
            carrier,
        })
    }

    /// Connects. A small window makes the system take few bytes that are not read.
    pub fn connect(&self, timing: Timing, small_window: bool) -> io::Result<Stream> {
        let mut last = io::Error::from(ErrorKind::AddrNotAvailable);
        for &address in &self.addresses {
            match self.connect_to(address, timing, small_window) {
                Err(error) => last = error,
                connected => return connected,
            }
        }
        Err(last)
    }

    fn connect_to(
        &self,
        address: SocketAddr,
        timing: Timing,
        small_window: bool,
    ) -> io::Result<Stream> {
        let dial = |address| dial(address, timing, small_window);
        match &self.carrier {
            Carrier::Tcp => Ok(Stream::Tcp(dial(address)?)),
            Carrier::Tls(tls) => tls.encrypted(dial(address)?, timing),
            #[cfg(feature = "quic")]
            Carrier::Quic { trust, host } => {
                let stream = crate::quic::connect(trust, host, address, timing.step(), dial)?;
                Ok(Stream::Tcp(stream))
            }
        }
    }
}

/// Connects over TCP.
fn dial(address: SocketAddr, timing: Timing, small_window: bool) -> io::Result<TcpStream> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        None,
    )?;
    if small_window {
        // The system rounds it up to the least that it allows.
        socket.set_recv_buffer_size(1)?;
    }
    socket.connect_timeout(&address.into(), timing.step())?;
    socket.set_tcp_nodelay(true)?;
    Ok(socket.into())
}

impl Tls {
    fn encrypted(&self, stream: TcpStream, timing: Timing) -> io::Result<Stream> {
        let connection = ClientConnection::new(Arc::clone(&self.config), self.name.clone());
        let connection = connection.map_err(io::Error::other)?;
        stream.set_read_timeout(Some(timing.step()))?;
        stream.set_write_timeout(Some(timing.step()))?;
        let mut stream = StreamOwned::new(connection, stream);
        while stream.conn.is_handshaking() {
            stream.conn.complete_io(&mut stream.sock).map_err(
                |error| match Untrusted::in_error(&error) {
                    Some(untrusted) => io::Error::other(untrusted.to_string()),
                    None => error,
                },
            )?;
        }
        Ok(Stream::Tls(Box::new(stream)))
    }
}

/// A connected stream.
pub enum Stream {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS over TCP, after the handshake.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    /// The TCP stream that carries everything.
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Tcp(stream) => stream,
            Self::Tls(stream) => &stream.sock,
        }
    }

    /// The receiving and the sending direction, which wait without a bound.
    pub fn split(self) -> io::Result<(Half, Half)> {
        let socket = self.tcp().try_clone()?;
        socket.set_read_timeout(None)?;
        socket.set_write_timeout(None)?;
        Ok(match self {
            Self::Tcp(stream) => (Half::Tcp(socket), Half::Tcp(stream)),
            Self::Tls(stream) => {
                let (connection, stream) = stream.into_parts();
                let connection = Arc::new(Mutex::new(connection));
                let receiving = Half::Tls(Arc::clone(&connection), socket);
                (receiving, Half::Tls(connection, stream))
            }
        })
    }

    /// Bounds how long a read waits.
    pub fn set_read_timeout(&self, timeout: Duration) {
        let _ = self.tcp().set_read_timeout(Some(timeout));
    }

    /// Bounds how long a write waits.
    pub fn set_write_timeout(&self, timeout: Duration) {
        let _ = self.tcp().set_write_timeout(Some(timeout));
    }

    /// Ends the sending side properly.
    pub fn half_close(&mut self) {
        if let Self::Tls(stream) = self {
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
        let _ = self.tcp().shutdown(Shutdown::Write);
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.write(bytes),
            Self::Tls(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(stream) => stream.flush(),
            Self::Tls(stream) => stream.flush(),
        }
    }
}
