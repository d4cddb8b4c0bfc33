//! Transports with a handshake: the connection counts before the handshake, and the
//! register deadline includes it.

use std::{future::Future, io, net::SocketAddr};

use futures_util::future::BoxFuture;
use tokio::sync::{Mutex, mpsc};
use tokio_util::task::TaskTracker;

use super::*;
use crate::server::{
    listener,
    transport::{Accepted, Kind, Listener},
};

type Handshake = BoxFuture<'static, io::Result<Option<DuplexStream>>>;

/// A listener that accepts the handshakes of a test.
struct TestListener(Mutex<mpsc::Receiver<Handshake>>);

impl Listener for TestListener {
    const KIND: Kind = Kind::Chat;
    type Stream = DuplexStream;
    type Handshake = Handshake;

    async fn accept(&self) -> io::Result<(Accepted<DuplexStream, Handshake>, SocketAddr)> {
        let handshake = self.0.lock().await.recv().await;
        let handshake = handshake.ok_or(io::ErrorKind::BrokenPipe)?;
        let peer = SocketAddr::from(([192, 0, 2, 1], 7_000));
        Ok((Accepted::Handshake(handshake), peer))
    }
}

struct Accepting {
    hub: Arc<Hub>,
    handshakes: mpsc::Sender<Handshake>,
}

impl Accepting {
    fn new(limits: Limits) -> Self {
        let hub = hub(limits);
        let (handshakes, accepted) = mpsc::channel(8);
        let listener = Arc::new(TestListener(Mutex::new(accepted)));
        tokio::spawn(listener::accept(
            listener,
            Arc::clone(&hub),
            TaskTracker::new(),
        ));
        Self { hub, handshakes }
    }

    /// Accepts a stream with this handshake.
    async fn accept(
        &self,
        handshake: impl Future<Output = io::Result<Option<DuplexStream>>> + Send + 'static,
    ) {
        let accepted = self.handshakes.send(Box::pin(handshake)).await;
        accepted.expect("the listener accepts");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_registers_after_its_handshake() {
    let accepting = Accepting::new(Limits::default());
    let (near, far) = tokio::io::duplex(8_192);
    let handshake = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        Ok(Some(near))
    };
    accepting.accept(handshake).await;
    assert_eq!(accepting.hub.connection_count(), 1, "it counts at once");
    let mut peer = Peer {
        stream: far,
        held: Vec::new(),
    };
    peer.send(register("late")).await;
    assert!(matches!(peer.next().await, Some(Message::Registered(_))));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_ends_at_the_register_deadline() {
    let limits = Limits::default();
    let deadline = Duration::from_millis(limits.register_deadline_ms.into());
    let accepting = Accepting::new(limits);
    accepting.accept(std::future::pending()).await;
    tokio::time::sleep(deadline - Duration::from_millis(100)).await;
    assert_eq!(accepting.hub.connection_count(), 1);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(accepting.hub.connection_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_register_deadline_counts_from_before_the_handshake() {
    let accepting = Accepting::new(Limits::default());
    let (near, far) = tokio::io::duplex(8_192);
    let handshake = async {
        tokio::time::sleep(Duration::from_secs(9)).await;
        Ok(Some(near))
    };
    accepting.accept(handshake).await;
    let mut peer = Peer {
        stream: far,
        held: Vec::new(),
    };
    let start = Instant::now();
    peer.expect_error(ErrorCode::RegisterTimeout).await;
    assert!(start.elapsed() <= Duration::from_millis(10_200));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_fails_or_panics_releases_its_permit() {
    let limits = Limits {
        connections_per_address_max: Some(1),
        ..Limits::default()
    };
    let accepting = Accepting::new(limits);
    for _ in 0..3 {
        accepting
            .accept(async { Err(io::ErrorKind::InvalidData.into()) })
            .await;
        assert_eq!(accepting.hub.connection_count(), 0);
        accepting
            .accept(async { panic!("a bug of a library") })
            .await;
        assert_eq!(accepting.hub.connection_count(), 0);
    }
    accepting.accept(std::future::pending()).await;
    assert_eq!(accepting.hub.connection_count(), 1);
    // One too many: rejected, with an error after the handshake.
    let (near, far) = tokio::io::duplex(8_192);
    accepting.accept(async { Ok(Some(near)) }).await;
    let mut peer = Peer {
        stream: far,
        held: Vec::new(),
    };
    peer.expect_error(ErrorCode::TooManyConnections).await;
}

#[tokio::test(start_paused = true)]
async fn an_aborted_server_does_not_wait_for_handshakes() {
    let accepting = Accepting::new(Limits::default());
    accepting.accept(std::future::pending()).await;
    accepting.hub.abort();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(accepting.hub.connection_count(), 0);
}
