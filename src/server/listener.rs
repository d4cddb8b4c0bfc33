//! Listening and accepting.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::FutureExt;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream, lookup_host},
    task::{coop::unconstrained, yield_now},
    time,
};
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use super::{connection::Connection, hub::Hub};

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1_024;

/// How many connections are accepted before those who are there get their turn: a
/// crowd that comes does not hold them up for long.
const ACCEPTED_PER_PASS_MAX: u64 = 8;

/// How many connections beyond a limit are seen off with patience at a time;
/// more are told why (CHAT-REG-9, CHAT-REG-11) and closed in the same breath.
const TURNED_AWAY_MAX: usize = 64;

/// How long to wait after the system refused to accept, in milliseconds: at first
/// and at the most.
const BACK_OFF_MS_FIRST: u64 = 10;
const BACK_OFF_MS_MAX: u64 = 1_000;

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

/// Listens on the first address of `listen` that can be had.
pub(super) async fn bind(listen: &str) -> io::Result<TcpListener> {
    let mut refused = None;
    for address in lookup_host(listen).await? {
        match bind_address(address) {
            Ok(listener) => return Ok(listener),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it has no address")))
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

/// Accepts connections for ever. When the system has no more to give (file
/// descriptors, memory), waits and tries again: those who are connected notice
/// nothing.
pub(super) async fn accept(listener: Arc<TcpListener>, hub: Arc<Hub>, connections: TaskTracker) {
    let mut back_off_ms = 0;
    for count in 1_u64.. {
        if count % ACCEPTED_PER_PASS_MAX == 0 {
            yield_now().await;
        }
        match listener.accept().await {
            Ok((stream, peer)) => {
                if back_off_ms > 0 {
                    info!("accepting again");
                    back_off_ms = 0;
                }
                serve(stream, peer, &hub, &connections);
            }
            Err(error) if is_about_one_connection(&error) => debug!(%error, "not accepted"),
            Err(error) => {
                if back_off_ms == 0 {
                    warn!(%error, "cannot accept connections for now");
                }
                back_off_ms = (back_off_ms * 2).clamp(BACK_OFF_MS_FIRST, BACK_OFF_MS_MAX);
                time::sleep(Duration::from_millis(back_off_ms)).await;
            }
        }
    }
}

/// Accepts those who wait already, without waiting for others.
pub(super) fn accept_waiting(listener: &TcpListener, hub: &Arc<Hub>, connections: &TaskTracker) {
    for _ in 0..BACKLOG {
        match unconstrained(listener.accept()).now_or_never() {
            Some(Ok((stream, peer))) => serve(stream, peer, hub, connections),
            Some(Err(error)) if is_about_one_connection(&error) => {}
            Some(Err(_)) | None => return,
        }
    }
}

fn serve(stream: TcpStream, peer: SocketAddr, hub: &Arc<Hub>, connections: &TaskTracker) {
    debug!(%peer, "connected");
    set_options(&stream, hub.limits().write_deadline_ms);
    let connection = Connection::new(stream, Arc::clone(hub), Some(peer.ip()));
    if connection.is_turned_away() && connections.len() >= hub.connection_count() + TURNED_AWAY_MAX
    {
        connection.close_at_once();
    } else {
        connections.spawn(connection);
    }
}

/// Whether the next connection may well be accepted at once.
fn is_about_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
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
