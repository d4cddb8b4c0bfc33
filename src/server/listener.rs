//! Listeners: accept the streams of any transport, and make connections of them.

use std::{
    future::{Future, poll_fn},
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    task::{coop::unconstrained, yield_now},
    time,
};
use tokio_util::task::TaskTracker;
use tracing::{debug, info, warn};

use crate::{frame, wire::ServerEnvelope};

use super::{
    connection::{Connection, Member},
    hub::{Hub, report_rejected},
    peer::Peer,
    proxy_header::BadHeader,
    transport::{Accepted, BACKLOG, FromProxy, Listener, Transport},
};

/// How many connections are accepted before those that are there get their turn: a
/// crowd that arrives does not hold them up for long.
const ACCEPTED_PER_PASS_MAX: u64 = 8;

/// How many rejected connections may take their time to read the answer; more are told
/// why (CHAT-REG-9, CHAT-REG-11) and closed in the same breath.
const REJECTED_MAX: usize = 64;

/// How many connections of proxies may wait for the header that says for whom they are.
const PROXY_HEADERS_MAX: usize = 1_024;

/// How long to wait after the system refused to accept, in milliseconds: at first
/// and at the most.
const BACK_OFF_MS_FIRST: u64 = 10;
const BACK_OFF_MS_MAX: u64 = 1_000;

/// A listener of any transport, as the server keeps them.
pub(super) trait AnyListener: Send + Sync {
    /// Accepts connections for ever ([`accept`]).
    fn accept_always(
        self: Arc<Self>,
        hub: Arc<Hub>,
        connections: TaskTracker,
    ) -> BoxFuture<'static, ()>;

    /// Accepts those that wait ([`accept_waiting`]).
    fn accept_waiting(&self, hub: &Arc<Hub>, connections: &TaskTracker);
}

impl<L: Listener> AnyListener for L {
    fn accept_always(
        self: Arc<Self>,
        hub: Arc<Hub>,
        connections: TaskTracker,
    ) -> BoxFuture<'static, ()> {
        Box::pin(accept(self, hub, connections))
    }

    fn accept_waiting(&self, hub: &Arc<Hub>, connections: &TaskTracker) {
        if !self.outlives_server() {
            accept_waiting(self, hub, connections);
        }
    }
}

/// Accepts connections for ever. When the system has no more to give (file
/// descriptors, memory), waits and tries again: established connections notice
/// nothing.
pub(super) async fn accept<L: Listener>(listener: Arc<L>, hub: Arc<Hub>, connections: TaskTracker) {
    let mut back_off_ms = 0;
    for count in 1_u64.. {
        if count % ACCEPTED_PER_PASS_MAX == 0 {
            yield_now().await;
        }
        match listener.accept().await {
            Ok((accepted, address)) => {
                let peer = Peer::network(address, L::KIND);
                if back_off_ms > 0 {
                    info!("accepting again");
                    back_off_ms = 0;
                }
                debug!(
                    peer = peer.log_address(),
                    port = peer.log_port(),
                    transport = L::KIND.transport(),
                    "connected"
                );
                serve(accepted, peer, &hub, &connections);
            }
            Err(error) if is_about_one_connection(&error) => debug!(%error, "not accepted"),
            Err(error) => {
                if back_off_ms == 0 {
                    warn!(%error, transport = L::KIND.transport(), "cannot accept connections for now");
                }
                back_off_ms = (back_off_ms * 2).clamp(BACK_OFF_MS_FIRST, BACK_OFF_MS_MAX);
                time::sleep(Duration::from_millis(back_off_ms)).await;
            }
        }
    }
}

/// Accepts the streams that wait already, without waiting for others.
fn accept_waiting<L: Listener>(listener: &L, hub: &Arc<Hub>, connections: &TaskTracker) {
    for _ in 0..BACKLOG {
        match unconstrained(listener.accept()).now_or_never() {
            Some(Ok((accepted, address))) => {
                let peer = Peer::network(address, L::KIND);
                serve(accepted, peer, hub, connections);
            }
            Some(Err(error)) if is_about_one_connection(&error) => {}
            Some(Err(_)) | None => return,
        }
    }
}

/// Makes a connection of a stream that was accepted. The hub judges it first, whatever
/// the transport has to agree on.
fn serve<S, H>(accepted: Accepted<S, H>, peer: Peer, hub: &Arc<Hub>, connections: &TaskTracker)
where
    S: Transport + Send + 'static,
    H: Future<Output = io::Result<Option<S>>> + Send + 'static,
{
    let accepted = match accepted {
        Accepted::Proxied(reading) => {
            let crowd = hub.connection_count() + REJECTED_MAX + PROXY_HEADERS_MAX;
            if connections.len() < crowd {
                let reading = read_proxied(reading, peer, Arc::clone(hub), connections.clone());
                connections.spawn(reading);
            }
            return;
        }
        accepted => accepted,
    };
    let member = hub.connect(peer);
    if let Err(answer) = &member {
        report_rejected(answer, &peer);
    }
    let is_crowded = connections.len() >= hub.connection_count() + REJECTED_MAX;
    let hub = Arc::clone(hub);
    match (accepted, member) {
        (Accepted::Ready(stream), Err(answer)) if is_crowded => {
            let mut bytes = Vec::new();
            frame::encode(&answer, &mut bytes);
            stream.close_with(&bytes);
        }
        (Accepted::Handshake(_), Err(_)) if is_crowded => {}
        (Accepted::Ready(stream), member) => {
            connections.spawn(Connection::new(stream, hub, member));
        }
        // It was dealt with above.
        (Accepted::Proxied(_), _) => {}
        (Accepted::Handshake(handshake), member) => {
            let handshaking = Handshaking {
                hub,
                peer,
                member: Some(member),
            };
            let handshake = Box::pin(shake_hands(handshake, handshaking));
            connections.spawn(Serving::Handshake(handshake));
        }
    }
}

/// Serves a connection of a proxy once it is known for whom. Only then the limits of
/// addresses count it.
async fn read_proxied<S, H>(
    reading: BoxFuture<'static, io::Result<FromProxy<S, H>>>,
    proxy: Peer,
    hub: Arc<Hub>,
    connections: TaskTracker,
) where
    S: Transport + Send + 'static,
    H: Future<Output = io::Result<Option<S>>> + Send + 'static,
{
    let deadline = Duration::from_millis(hub.limits().register_deadline_ms.into());
    match time::timeout(deadline, reading).await {
        Ok(Ok((accepted, source))) => {
            let peer = source.map_or(proxy, |source| Peer::network(source, proxy.kind()));
            serve(*accepted, peer, &hub, &connections);
        }
        Ok(Err(error)) => {
            // Without one, it was a check of the server's health.
            if !report_header(&proxy, &error) {
                debug!("a proxy closed before its PROXY header");
            }
        }
        Err(_) => debug!("a PROXY header took too long"),
    }
}

/// Tells the operators of a PROXY header that is wrong or unexpected, if `error` is about
/// one.
fn report_header(peer: &Peer, error: &io::Error) -> bool {
    let inner = error
        .get_ref()
        .and_then(|error| error.downcast_ref::<BadHeader>());
    if let Some(BadHeader(why)) = inner {
        peer.report_refused(why);
    }
    inner.is_some()
}

/// A connection whose transport is not ready yet.
struct Handshaking {
    hub: Arc<Hub>,
    peer: Peer,
    member: Option<Result<Member, Box<ServerEnvelope>>>,
}

impl Drop for Handshaking {
    fn drop(&mut self) {
        if let Some(Ok((id, _))) = self.member.take() {
            self.hub.disconnect(id);
        }
    }
}

/// A connection from its handshake on, which takes more memory than the connection, but not
/// for longer.
enum Serving<S> {
    Handshake(BoxFuture<'static, Option<Connection<S>>>),
    Open(Connection<S>),
}

impl<S: Transport> Future for Serving<S> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let serving = self.get_mut();
        loop {
            match serving {
                Self::Handshake(handshake) => match ready!(handshake.as_mut().poll(cx)) {
                    Some(connection) => *serving = Self::Open(connection),
                    None => return Poll::Ready(()),
                },
                Self::Open(connection) => return Pin::new(connection).poll(cx),
            }
        }
    }
}

/// The connection once its transport is ready, within the register deadline (CHAT-REG-5).
async fn shake_hands<S: Transport>(
    handshake: impl Future<Output = io::Result<Option<S>>>,
    mut connection: Handshaking,
) -> Option<Connection<S>> {
    let deadline_ms = connection.hub.limits().register_deadline_ms;
    let deadline = Duration::from_millis(deadline_ms.into());
    // Dropped with all its buffers before the connection begins.
    let stream = {
        let mut handshake = pin!(time::timeout(deadline, handshake));
        poll_fn(|cx| {
            if let Some(Ok((_, handle))) = &connection.member {
                handle.set_waker(cx.waker());
            }
            if connection.hub.is_aborted() {
                return Poll::Ready(None);
            }
            handshake.as_mut().poll(cx).map(Result::ok)
        })
        .await
    };
    match stream {
        Some(Ok(Some(stream))) => {
            let member = connection.member.take()?;
            let hub = Arc::clone(&connection.hub);
            return Some(Connection::new(stream, hub, member));
        }
        Some(Ok(None)) => {}
        Some(Err(error)) if report_header(&connection.peer, &error) => {}
        // It may quote the peer.
        Some(Err(error)) => debug!(error = ?error.to_string(), "the handshake failed"),
        None => debug!("the handshake took too long"),
    }
    None
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
