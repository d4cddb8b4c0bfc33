//! What is sent, however little of it the network takes at a time.

use std::{
    fs::File,
    io::Write as _,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
    sync::LazyLock,
    task::Waker,
};

use proptest::prelude::*;
use tungstenite::{
    Message,
    protocol::{Role, WebSocket as Client},
};

use super::*;
use crate::session::Progress;

/// A carrier that takes as many bytes as there is room for.
#[derive(Default)]
struct Narrow {
    written: Vec<u8>,
    room: usize,
    to_read: Vec<u8>,
}

impl AsyncRead for Narrow {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.to_read.is_empty() {
            return Poll::Pending;
        }
        buffer.put_slice(&std::mem::take(&mut self.to_read));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Narrow {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let taken = bytes.len().min(self.room);
        if taken == 0 {
            return Poll::Pending;
        }
        self.room -= taken;
        self.written.extend_from_slice(&bytes[..taken]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What became of the bytes of a [`Narrow`].
const DELIVERY: Delivery = Delivery {
    progress: Progress {
        written_bytes: 2,
        acked_bytes: 1,
    },
    is_retransmitting: true,
};

impl Transport for Narrow {
    const SENDS_FILES: bool = true;

    fn delivery(&self) -> Option<Delivery> {
        Some(DELIVERY)
    }

    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        file: BorrowedFd<'_>,
        offset: u32,
    ) -> Poll<io::Result<usize>> {
        let file = File::from(file.try_clone_to_owned().expect("a descriptor"));
        let mut there = vec![0; bytes.len()];
        file.read_exact_at(&mut there, offset.into()).expect("them");
        assert!(there == bytes, "the file holds other bytes");
        Pin::new(self).poll_write(cx, bytes)
    }
}

/// More than all steps send, and a file that holds it.
static STREAM: LazyLock<(Vec<u8>, OwnedFd)> = LazyLock::new(|| {
    let stream: Vec<u8> = (0..7_000_000_u32).map(|it| (it % 251) as u8).collect();
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(&stream).expect("it has room");
    (stream, file.into())
});

#[derive(Debug, Clone)]
enum Step {
    /// So many bytes may be sent from the file.
    SendFile(usize),
    Write(usize),
    Ping(u8),
    /// The network takes so many more.
    Room(usize),
    Flush,
}

fn step() -> impl Strategy<Value = Step> {
    let bytes = || prop_oneof![0_usize..20, 0_usize..200_000];
    prop_oneof![
        3 => bytes().prop_map(Step::SendFile),
        2 => bytes().prop_map(Step::Write),
        1 => any::<u8>().prop_map(Step::Ping),
        4 => bytes().prop_map(Step::Room),
        1 => Just(Step::Flush),
    ]
}

/// A client's Ping, masked with nothing.
fn ping(payload: u8) -> Vec<u8> {
    vec![0x89, 0x81, 0, 0, 0, 0, payload]
}

proptest! {
    /// However little the network takes at a time, the stream comes out of whole
    /// messages, with control frames between them.
    #[test]
    fn what_is_sent_from_a_file_is_read_by_tungstenite(
        steps in prop::collection::vec(step(), 0..30),
    ) {
        let cx = &mut Context::from_waker(Waker::noop());
        let (stream, file) = &*STREAM;
        let mut socket = WebSocket::new(Narrow::default(), Vec::new());
        let (mut sent, mut pings) = (0, Vec::new());
        let mut write = |socket: &mut WebSocket<Narrow>, bytes: usize, from_file: bool| {
            let bytes = &stream[sent..sent + bytes];
            let written = match from_file {
                true => socket.poll_send_file(cx, bytes, file.as_fd(), sent as u32),
                false => Pin::new(socket).poll_write(cx, bytes),
            };
            if let Poll::Ready(written) = written {
                sent += written.expect("it is open");
            }
            sent
        };
        for step in steps {
            let cx = &mut Context::from_waker(Waker::noop());
            // What was announced comes, with whatever else of the stream behind it.
            match step {
                Step::SendFile(bytes) => {
                    let bytes = bytes.max(socket.announced_bytes().into());
                    write(&mut socket, bytes, true);
                }
                Step::Write(bytes) => {
                    write(&mut socket, bytes, false);
                }
                Step::Ping(payload) => {
                    socket.carrier.to_read = ping(payload);
                    if socket.unsent.len() <= PONG_BEHIND_BYTES_MAX {
                        pings.push(vec![payload]);
                    }
                    let _ = socket.poll_read_available(cx, &mut [0; 100]);
                }
                Step::Room(bytes) => socket.carrier.room += bytes,
                Step::Flush => {
                    let _ = Pin::new(&mut socket).poll_flush(cx);
                }
            }
        }
        socket.carrier.room = usize::MAX;
        let left = socket.announced_bytes().into();
        let all = write(&mut socket, left, false);
        prop_assert_eq!(socket.announced_bytes(), 0);
        let cx = &mut Context::from_waker(Waker::noop());
        prop_assert!(Pin::new(&mut socket).poll_flush(cx).is_ready());
        prop_assert!(Pin::new(&mut socket).poll_shutdown(cx).is_ready());

        let read = io::Cursor::new(std::mem::take(&mut socket.carrier.written));
        let mut client = Client::from_raw_socket(Wire(read), Role::Client, None);
        let (mut received, mut pongs) = (Vec::new(), Vec::new());
        loop {
            match client.read().expect("frames") {
                Message::Binary(payload) => received.extend_from_slice(&payload),
                Message::Pong(payload) => pongs.push(payload.to_vec()),
                Message::Close(_) => break,
                message => panic!("{message:?}"),
            }
        }
        prop_assert!(received == stream[..all], "{} of {all} bytes", received.len());
        prop_assert_eq!(pongs, pings);
    }
}

/// What a client reads; what it writes is lost.
struct Wire(io::Cursor<Vec<u8>>);

impl io::Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl io::Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// CHAT-LIM-5: a client whose network does not deliver is told from one that does not read.
#[test]
fn what_the_carrier_delivered_is_passed_on() {
    let socket = WebSocket::new(Narrow::default(), Vec::new());
    assert_eq!(socket.delivery(), Some(DELIVERY));
}
