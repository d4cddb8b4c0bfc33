//! Tests of connections over in-memory transports, on a paused clock that advances only
//! when every task waits.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

use prost::Message as _;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream},
    time::{Instant, timeout},
};

use super::{connection::Connection, hub::Hub, peer, tick};
use crate::{
    frame::{self, Split},
    limits::{LAG_BYTES_FLOOR, Limits},
    session::{AccessPolicy, Closing},
    wire::{
        self, Capability, ClientEnvelope, ErrorCode, LeftReason, ServerEnvelope,
        client_envelope::Message as Sent, server_envelope::Message,
    },
};

/// Longer than any deadline of these tests. Passes at once when every task waits.
const LONG: Duration = Duration::from_secs(3_600);

fn hub(limits: Limits) -> Arc<Hub> {
    let hub = Arc::new(Hub::in_memory(limits, AccessPolicy::default()));
    tokio::spawn(tick(Arc::clone(&hub)));
    hub
}

fn unlimited() -> Limits {
    Limits {
        chat_interval_ms: None,
        frames_per_second_max: None,
        bytes_per_second_max: None,
        errors_max: None,
        ..Limits::default()
    }
}

/// The client's end of a connection.
struct Peer<S = DuplexStream> {
    stream: S,
    held: Vec<u8>,
}

impl Peer {
    /// Connects over a transport that holds `buffer_bytes` each way.
    fn connect(hub: &Arc<Hub>, buffer_bytes: usize) -> Self {
        let (near, far) = tokio::io::duplex(buffer_bytes);
        let member = hub.connect(peer::Peer::internal());
        tokio::spawn(Connection::new(near, Arc::clone(hub), member));
        Self {
            stream: far,
            held: Vec::new(),
        }
    }

    async fn member(
        hub: &Arc<Hub>,
        name: &str,
        capabilities: &[Capability],
        buffer_bytes: usize,
    ) -> Self {
        let mut peer = Self::connect(hub, buffer_bytes);
        peer.send(register_with(name, capabilities)).await;
        assert!(matches!(peer.next().await, Some(Message::Registered(_))));
        if capabilities.contains(&Capability::Presence) {
            assert!(matches!(peer.next().await, Some(Message::Members(_))));
        }
        peer
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Peer<S> {
    async fn send(&mut self, message: Sent) {
        self.stream
            .write_all(&encoded(message))
            .await
            .expect("it is open");
    }

    /// The next message, `None` at the end of the stream.
    async fn next(&mut self) -> Option<Message> {
        timeout(LONG, async {
            loop {
                if let Split::Frame { body, rest } =
                    frame::split(&self.held, u32::MAX).expect("frames")
                {
                    let envelope = ServerEnvelope::decode(body).expect("an envelope");
                    self.held = rest.to_vec();
                    return Some(envelope.message.expect("a message"));
                }
                if self.stream.read_buf(&mut self.held).await.unwrap_or(0) == 0 {
                    assert!(self.held.is_empty(), "the stream ends between frames");
                    return None;
                }
            }
        })
        .await
        .expect("a message or the end")
    }

    async fn next_seq(&mut self) -> u64 {
        match self.next().await {
            Some(Message::Chat(chat)) => chat.seq,
            message => panic!("no chat but {message:?}"),
        }
    }

    async fn expect_error(&mut self, code: ErrorCode) {
        match self.next().await {
            Some(Message::Error(error)) => assert_eq!(error.code(), code),
            message => panic!("no error but {message:?}"),
        }
    }
}

async fn three_readers(hub: &Arc<Hub>) -> Vec<Peer> {
    let mut readers = Vec::new();
    for index in 0..3 {
        readers.push(Peer::member(hub, &format!("reader{index}"), &[], 8_192).await);
    }
    readers
}

fn encoded(message: Sent) -> Vec<u8> {
    ClientEnvelope {
        message: Some(message),
    }
    .encode_length_delimited_to_vec()
}

fn chat(text_bytes: usize) -> Sent {
    Sent::Chat(wire::Chat {
        text: "x".repeat(text_bytes),
        ..Default::default()
    })
}

fn register(name: &str) -> Sent {
    register_with(name, &[Capability::Receipts, Capability::Keepalive])
}

fn register_with(name: &str, capabilities: &[Capability]) -> Sent {
    Sent::Register(wire::Register {
        name: name.to_owned(),
        capabilities: capabilities.iter().map(|&c| c.into()).collect(),
        ..Default::default()
    })
}

/// Polls a connection without a task once. Returns whether it is gone.
fn poll_once(connection: &mut Connection<DuplexStream>) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    Pin::new(connection).poll(&mut context).is_ready()
}

#[cfg(feature = "cluster")]
mod cluster;
mod commit;
mod flood;
mod follow;
mod handed;
mod handshake;
mod ordered;
mod recovery;
mod registering;
mod replies;
mod resume;
#[cfg(feature = "store")]
mod sharing;
mod slow;
mod tls;

/// What the hub says when it closes.
fn closing() -> Closing {
    Closing {
        detail: "test".to_owned(),
        retry_after_ms: 0,
    }
}
