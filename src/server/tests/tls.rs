//! TLS over an in-memory carrier: what a transport that buffers must not hide.

use std::{
    io::{self, ErrorKind, IoSlice},
    task::Poll,
};

use tokio_rustls::{TlsConnector, client};

use super::*;
use crate::{
    server::{
        certificates::{Certificates, Protocol},
        tls::{PLAINTEXT_BYTES_MAX, TlsStream, shake_hands},
        transport::{Delivery, Transport},
    },
    session::Progress,
    tls::{Trust, server_name},
};

/// How much the carrier holds, in bytes: less than a record, so that most of a chat is
/// ciphertext that waits.
const CARRIER_BYTES: usize = 600;

type Stream = client::TlsStream<DuplexStream>;

/// Both ends of a stream over TLS, with a `carrier` around the server's end.
async fn pair<S: Transport + Send + 'static>(
    carrier: impl FnOnce(DuplexStream) -> S,
) -> (TlsStream<S>, Stream) {
    let folder = tempfile::tempdir().expect("a place for files");
    let certificates = Certificates::self_signed(folder.path(), &[]).expect("made");
    let pin = certificates.pin().expect("it is self-signed");
    let (near, far) = tokio::io::duplex(CARRIER_BYTES);
    let config = certificates.config(Protocol::Chat);
    let server = tokio::spawn(shake_hands(config, carrier(near)));
    let config = Trust::pinned(pin).client_config().expect("a pin");
    let connector = TlsConnector::from(Arc::new(config));
    let name_of_server = server_name("localhost").expect("a name");
    let stream = connector.connect(name_of_server, far).await;
    let server = server.await.expect("no panic").expect("both agree");
    (server, stream.expect("both agree"))
}

/// A member over TLS.
async fn member(hub: &Arc<Hub>, name: &str) -> Peer<Stream> {
    member_over(hub, name, |near| near).await
}

async fn member_over<S: Transport + Send + 'static>(
    hub: &Arc<Hub>,
    name: &str,
    carrier: impl FnOnce(DuplexStream) -> S,
) -> Peer<Stream> {
    let (near, far) = pair(carrier).await;
    let member = hub.connect(peer::Peer::internal());
    tokio::spawn(Connection::new(near, Arc::clone(hub), member));
    let mut peer = Peer {
        stream: far,
        held: Vec::new(),
    };
    peer.send(register(name)).await;
    assert!(matches!(peer.next().await, Some(Message::Registered(_))));
    peer
}

/// A carrier over a network that has stopped to deliver.
struct Undelivering(DuplexStream);

impl AsyncRead for Undelivering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Undelivering {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl Transport for Undelivering {
    fn delivery(&self) -> Option<Delivery> {
        Some(Delivery {
            progress: Progress {
                written_bytes: 2,
                acked_bytes: 1,
            },
            is_retransmitting: true,
        })
    }
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

/// CHAT-LIM-5: what the system knows of the carrier counts for the stream over it: while the
/// network does not deliver, nobody is a slow consumer.
#[tokio::test(start_paused = true)]
async fn a_reader_whose_network_does_not_deliver_is_not_closed_for_it() {
    let hub = hub(unlimited());
    let mut watcher = Peer::member(&hub, "watcher", &[Capability::Presence], 8_192).await;
    let mut reader = member_over(&hub, "reader", Undelivering).await;
    assert!(matches!(watcher.next().await, Some(Message::Joined(_))));
    watcher.send(chat(4_000)).await;
    // Three write deadlines.
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert_eq!(reader.next_seq().await, 1);
}

/// What comes is read whatever room the reader has, and what is written arrives whole:
/// records of every length, and more than fits into two.
#[tokio::test(start_paused = true)]
async fn bytes_arrive_whole_however_they_are_read_and_written() {
    let (mut near, mut far) = pair(|near| near).await;
    let sent: Vec<u8> = (0..3 * PLAINTEXT_BYTES_MAX)
        .map(|it| (it % 251) as u8)
        .collect();
    let expected = sent.clone();
    let client = tokio::spawn(async move {
        far.write_all(&expected).await.expect("it is open");
        far.flush().await.expect("it is open");
        let mut read = vec![0; expected.len()];
        far.read_exact(&mut read).await.expect("they come");
        assert!(read == expected);
        far
    });
    let (mut read, mut room) = (Vec::new(), 1);
    while read.len() < sent.len() {
        let mut part = vec![0; room];
        let bytes = near.read(&mut part).await.expect("they come");
        read.extend_from_slice(&part[..bytes]);
        room = (room * 3) % 5_000 + 1;
    }
    assert!(read == sent);
    // As a WebSocket does it: a head and a payload at once.
    let mut written = 0;
    while written < sent.len() {
        let (head, payload) = sent[written..].split_at(4.min(sent.len() - written));
        let parts = [IoSlice::new(head), IoSlice::new(payload)];
        written += near.write_vectored(&parts).await.expect("it is open");
    }
    near.flush().await.expect("it is open");
    let mut far = client.await.expect("no panic");
    far.shutdown().await.expect("it is open");
    assert_eq!(near.read(&mut [0]).await.expect("close_notify"), 0);
    // The other direction is still open, and ends with a word too.
    near.write_all(b"last words").await.expect("it is open");
    near.shutdown().await.expect("it is open");
    let mut last = Vec::new();
    far.read_to_end(&mut last).await.expect("close_notify");
    assert_eq!(last, b"last words");
}
