//! TCP: listening, the options of a socket, and what a TCP stream can do at once.

use std::{
    future::Ready,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsFd, BorrowedFd},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::future::BoxFuture;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpSocket, TcpStream, lookup_host};
use tracing::debug;

use super::{
    proxied::{Proxies, read_header, refuse_header},
    transport::{Accepted, BACKLOG, Delivery, Kind, Listener, Transport},
};
use crate::address::Address;

/// A peer that is gone without a word is found in about a minute: after this
/// silence the system asks it for a sign of life, this often, this many times.
const KEEPALIVE_IDLE_S: u64 = 30;
const KEEPALIVE_INTERVAL_S: u64 = 10;
const KEEPALIVE_RETRIES: u32 = 3;

/// How long what was sent may go without the peer's system acknowledging it, in
/// milliseconds; and by how much that is longer than the write deadline at least, so
/// that who does not read is told so before the system gives up on it (CHAT-LIM-5).
#[cfg(target_os = "linux")]
const USER_TIMEOUT_MS_MIN: u64 = 60_000;
#[cfg(target_os = "linux")]
const USER_TIMEOUT_MARGIN_MS: u64 = 10_000;

/// How much the system keeps that it has not sent yet, in bytes. It would keep
/// megabytes for a peer that does not read, and then tell nothing until a third
/// of them is gone, so that somebody who reads slowly looks like somebody who
/// does not (CHAT-LIM-5).
#[cfg(target_os = "linux")]
const NOT_SENT_BYTES_MAX: u32 = 128 * 1024;

/// Listens for TCP connections, which need no handshake of ours.
pub(super) struct Tcp {
    listener: TcpListener,
    write_deadline_ms: u32,
    proxies: Proxies,
    /// The service manager has it too.
    is_handed: bool,
}

impl Tcp {
    /// Listens on the first address of `listen` that can be had.
    pub(super) async fn bind(
        listen: &str,
        write_deadline_ms: u32,
        proxies: Proxies,
    ) -> io::Result<Self> {
        Ok(Self {
            listener: bind(listen).await?,
            write_deadline_ms,
            proxies,
            is_handed: false,
        })
    }

    /// Takes a listener that the service manager has opened.
    #[cfg_attr(not(feature = "cli"), allow(dead_code, reason = "for handed sockets"))]
    pub(super) fn from_std(
        listener: std::net::TcpListener,
        write_deadline_ms: u32,
        proxies: Proxies,
    ) -> io::Result<Self> {
        Ok(Self {
            listener: TcpListener::from_std(listener)?,
            write_deadline_ms,
            proxies,
            is_handed: true,
        })
    }

    /// The address it listens on, with the port it has.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// The next stream, and where it comes from. `prepare` makes of it what is accepted,
    /// once it is known that the stream is the client's.
    pub(super) async fn accept_stream<S, H>(
        &self,
        prepare: impl FnOnce(TcpStream) -> Accepted<S, H> + Send + 'static,
    ) -> io::Result<(Accepted<S, H>, SocketAddr)>
    where
        S: 'static,
        H: 'static,
    {
        let (mut stream, peer) = self.listener.accept().await?;
        set_options(&stream, self.write_deadline_ms);
        let accepted = match self.proxies.contain(peer) {
            false => prepare(stream),
            true => Accepted::Proxied(Box::pin(async move {
                let source = read_header(&mut stream).await?;
                Ok((Box::new(prepare(stream)), source))
            })),
        };
        Ok((accepted, peer))
    }
}

impl Listener for Tcp {
    const KIND: Kind = Kind::Chat;
    type Stream = TcpStream;
    type Handshake = Ready<io::Result<Option<TcpStream>>>;

    async fn accept(&self) -> io::Result<(Accepted<TcpStream, Self::Handshake>, SocketAddr)> {
        self.accept_stream(Accepted::Ready).await
    }

    fn outlives_server(&self) -> bool {
        self.is_handed
    }
}

/// Listens for TCP connections that carry something else than frames at first.
pub(super) struct PlainCarrier(pub(super) Tcp);

impl Listener for PlainCarrier {
    const KIND: Kind = Kind::Chat;
    type Stream = TcpStream;
    type Handshake = BoxFuture<'static, io::Result<Option<TcpStream>>>;

    async fn accept(&self) -> io::Result<(Accepted<TcpStream, Self::Handshake>, SocketAddr)> {
        let prepare = |stream: TcpStream| -> Accepted<TcpStream, Self::Handshake> {
            Accepted::Handshake(Box::pin(async {
                refuse_header(&stream).await?;
                Ok(Some(stream))
            }))
        };
        self.0.accept_stream(prepare).await
    }

    fn outlives_server(&self) -> bool {
        self.0.outlives_server()
    }
}

/// Listens on the first address of `listen` that can be had.
pub(super) async fn bind(listen: &str) -> io::Result<TcpListener> {
    let mut refused = None;
    for address in listen_addresses(listen).await? {
        match bind_address(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it has no address")))
}

/// The addresses of `listen`, of which the first that can be had is meant.
pub(super) async fn listen_addresses(listen: &str) -> io::Result<Vec<SocketAddr>> {
    let listen = Address::parse_listen(listen)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
    Ok(match listen.host() {
        // Every address: those of IPv4 too, where the system has IPv6 at all.
        "" => [
            IpAddr::from(Ipv6Addr::UNSPECIFIED),
            Ipv4Addr::UNSPECIFIED.into(),
        ]
        .map(|address| (address, listen.port()).into())
        .into(),
        host => lookup_host((host, listen.port())).await?.collect(),
    })
}

fn bind_address(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    // A server that is started again gets its port at once.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

impl Transport for TcpStream {
    const SENDS_FILES: bool = cfg!(target_os = "linux");

    #[cfg(target_os = "linux")]
    fn delivery(&self) -> Option<Delivery> {
        super::tcp_info::delivery(self)
    }

    fn close_with(self, last_words: &[u8]) {
        // A new socket takes a few bytes; the runtime has not looked at it yet.
        let _ = SockRef::from(&self).send(last_words);
    }

    fn is_readable_now(&self) -> bool {
        is_ready(self, PollFlags::POLLIN)
    }

    fn is_writable_now(&self) -> bool {
        is_ready(self, PollFlags::POLLOUT)
    }

    /// Until nothing is left: a first read acknowledges, whereupon the peer's
    /// system sends what it had held back. Who takes that in too has larger batches
    /// to deliver.
    #[cfg(target_os = "linux")]
    fn poll_read_available(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        use std::io::Read;

        loop {
            ready!(self.poll_read_ready(cx))?;
            let mut filled = 0;
            let read = self.try_io(tokio::io::Interest::READABLE, || {
                while let Some(rest) = buffer.get_mut(filled..) {
                    // That nothing is left is for the runtime to know, too.
                    match (&*socket2::SockRef::from(&*self)).read(rest)? {
                        // The end, or the buffer is full.
                        0 => break,
                        bytes => filled += bytes,
                    }
                }
                Ok(())
            });
            match read {
                Err(_) if filled > 0 => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                result => result?,
            }
            return Poll::Ready(Ok(filled));
        }
    }

    #[cfg(target_os = "linux")]
    fn hold_back(&self, holds_back: bool) {
        // It costs packets if it is refused.
        let _ = SockRef::from(self).set_tcp_cork(holds_back);
    }

    /// From the file, which copies nothing.
    #[cfg(target_os = "linux")]
    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        file: BorrowedFd<'_>,
        offset: u32,
    ) -> Poll<io::Result<usize>> {
        use nix::sys::sendfile::sendfile64;

        loop {
            ready!(self.poll_write_ready(cx))?;
            let mut offset = i64::from(offset);
            let sent = self.try_io(tokio::io::Interest::WRITABLE, || {
                Ok(sendfile64(&*self, file, Some(&mut offset), bytes.len())?)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

/// What the system says at this moment.
fn is_ready(stream: &TcpStream, flags: PollFlags) -> bool {
    let mut polled = [PollFd::new(stream.as_fd(), flags)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Asks the system to send at once, to keep little and to find peers that are
/// gone. A connection works without, so a refusal is only noted.
fn set_options(stream: &TcpStream, write_deadline_ms: u32) {
    #[cfg(target_os = "linux")]
    let user_timeout_ms =
        USER_TIMEOUT_MS_MIN.max(u64::from(write_deadline_ms) + USER_TIMEOUT_MARGIN_MS);
    #[cfg(not(target_os = "linux"))]
    let _ = write_deadline_ms;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(KEEPALIVE_IDLE_S))
        .with_interval(Duration::from_secs(KEEPALIVE_INTERVAL_S))
        .with_retries(KEEPALIVE_RETRIES);
    let results = [
        stream.set_nodelay(true),
        socket.set_tcp_keepalive(&keepalive),
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(Duration::from_millis(user_timeout_ms))),
        #[cfg(target_os = "linux")]
        socket.set_tcp_notsent_lowat(NOT_SENT_BYTES_MAX),
    ];
    for error in results.into_iter().filter_map(Result::err) {
        debug!(%error, "a socket option was refused");
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    /// CHAT-LIM-5: the deadline comes first, so that its error does.
    #[tokio::test]
    async fn the_system_is_more_patient_than_the_write_deadline() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for (write_deadline_ms, user_timeout_ms) in [(10_000, 60_000), (3_600_000, 3_610_000)] {
            let stream = TcpStream::connect(address).await.unwrap();
            set_options(&stream, write_deadline_ms);
            let timeout = SockRef::from(&stream).tcp_user_timeout().unwrap();
            assert_eq!(timeout, Some(Duration::from_millis(user_timeout_ms)));
        }
    }
}
