//! TLS over an in-memory carrier: what a transport that buffers must not hide.

use std::io::ErrorKind;

use tokio_rustls::{TlsAcceptor, TlsConnector, client};

use super::*;
use crate::{
    server::{
        certificates::{Certificates, Protocol},
        tls::shake_hands,
    },
    tls::{Trust, server_name},
};

/// How much the carrier holds, in bytes: less than a record, so that most of a chat is
/// ciphertext that waits.
const CARRIER_BYTES: usize = 600;

type Stream = client::TlsStream<DuplexStream>;

/// A member over TLS.
async fn member(hub: &Arc<Hub>, name: &str) -> Peer<Stream> {
    let folder = tempfile::tempdir().expect("a place for files");
    let certificates = Certificates::self_signed(folder.path(), &[]).expect("made");
    let pin = certificates.pin().expect("it is self-signed");
    let acceptor = TlsAcceptor::from(certificates.config(Protocol::Chat));
    let (near, far) = tokio::io::duplex(CARRIER_BYTES);
    let connection_hub = Arc::clone(hub);
    tokio::spawn(async move {
        let member = connection_hub.connect(peer::Peer::internal());
        let stream = shake_hands(acceptor, near).await.expect("both agree");
        Connection::new(stream, connection_hub, member).await;
    });
    let config = Trust::pinned(pin).client_config().expect("a pin");
    let connector = TlsConnector::from(Arc::new(config));
    let name_of_server = server_name("localhost").expect("a name");
    let stream = connector.connect(name_of_server, far).await;
    let mut peer = Peer {
        stream: stream.expect("both agree"),
        held: Vec::new(),
    };
    peer.send(register(name)).await;
    assert!(matches!(peer.next().await, Some(Message::Registered(_))));
    peer
}

/// The ciphertext of a chat that did not fit at once goes out when the reader goes on,
/// though nobody sends anything more.
#[tokio::test(start_paused = true)]
async fn a_reader_that_stalls_and_goes_on_receives_everything_while_nobody_speaks() {
    let hub = hub(unlimited());
    let mut reader = member(&hub, "reader").await;
    let mut sender = Peer::member(&hub, "sender", &[], 8_192).await;
    sender.send(chat(4_000)).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(reader.next_seq().await, 1);
    // And the connection is as good as before.
    sender.send(chat(4_000)).await;
    assert_eq!(reader.next_seq().await, 2);
}

/// CHAT-LIM-5: what is encrypted and not taken counts as not taken.
#[tokio::test(start_paused = true)]
async fn a_reader_that_takes_nothing_is_closed_at_the_write_deadline() {
    let hub = hub(unlimited());
    let mut watcher = Peer::member(&hub, "watcher", &[Capability::Presence], 8_192).await;
    let _reader = member(&hub, "reader").await;
    assert!(matches!(watcher.next().await, Some(Message::Joined(_))));
    let start = Instant::now();
    watcher.send(chat(4_000)).await;
    match watcher.next().await {
        Some(Message::Left(left)) => assert_eq!(left.reason(), LeftReason::SlowConsumer),
        message => panic!("no Left but {message:?}"),
    }
    let after_ms = start.elapsed().as_millis();
    assert!((10_000..=20_000).contains(&after_ms), "{after_ms}");
}

/// A session ends properly, with close_notify; a member that ends its stream without is
/// lost.
#[tokio::test(start_paused = true)]
async fn an_end_is_told_by_both_sides() {
    let hub = hub(unlimited());
    let mut watcher = Peer::member(&hub, "watcher", &[Capability::Presence], 8_192).await;
    let mut proper = member(&hub, "proper").await;
    assert!(matches!(watcher.next().await, Some(Message::Joined(_))));
    proper.send(Sent::Leave(wire::Leave {})).await;
    assert_eq!(proper.next().await, None);
    let read = proper.stream.read(&mut [0]).await;
    assert_eq!(read.map_err(|error| error.kind()), Ok::<_, ErrorKind>(0));
    match watcher.next().await {
        Some(Message::Left(left)) => assert_eq!(left.reason(), LeftReason::Leave),
        message => panic!("no Left but {message:?}"),
    }
    let cut = member(&hub, "cut").await;
    assert!(matches!(watcher.next().await, Some(Message::Joined(_))));
    let (mut carrier, _) = cut.stream.into_inner();
    carrier.shutdown().await.expect("it is open");
    match watcher.next().await {
        Some(Message::Left(left)) => assert_eq!(left.reason(), LeftReason::ConnectionLost),
        message => panic!("no Left but {message:?}"),
    }
}
