//! Bounds to compare a server with: writes the same frames to the same sockets and does
//! nothing else. One thread, no queue: a full socket blocks everybody, which no server
//! may allow.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    os::fd::AsFd,
    time::{SystemTime, UNIX_EPOCH},
};

use chat::{
    frame::{self, Split},
    wire::{
        self, ClientEnvelope, ServerEnvelope, client_envelope::Message as Sent,
        server_envelope::Message as Received,
    },
};
use clap::ValueEnum;
use mio::{Events, Interest, Poll, Token, net::TcpListener, net::TcpStream};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use prost::Message as _;
use slab::Slab;

use crate::{failure::Failure, output};

/// How many bytes one read takes, and so how much is merged into one write.
const READ_BYTES: usize = 64 * 1024;

const EVENTS_MAX: usize = 1024;

/// The listener's token, which no member has.
const LISTENER: Token = Token(usize::MAX);

const FRAME_BYTES_MAX: u32 = 64 * 1024;

/// How frames are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Writes {
    /// A write for each message and each member
    Each,
    /// A write for each member of all messages that one read brought
    Merged,
}

struct Member {
    stream: TcpStream,
    held: Vec<u8>,
    name: Option<String>,
}

/// Serves until the process is killed.
pub fn serve(listen: SocketAddr, writes: Writes) -> Result<(), Failure> {
    let mut listener = TcpListener::bind(listen)?;
    let address = listener.local_addr()?;
    output::print(&format!("listening on chat://{address}\n"))?;
    let mut poll = Poll::new()?;
    let registry = poll.registry().try_clone()?;
    registry.register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(EVENTS_MAX);
    let mut members = Slab::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut seq = 0;
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            if event.token() == LISTENER {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let key = members.insert(Member {
                        stream,
                        held: Vec::new(),
                        name: None,
                    });
                    let stream = &mut members[key].stream;
                    registry.register(stream, Token(key), Interest::READABLE)?;
                }
                continue;
            }
            let Token(key) = event.token();
            // Until a read returns less than the buffer holds, or the end.
            while let Some(member) = members.get_mut(key) {
                match member.stream.read(&mut buffer) {
                    Ok(0) => {
                        members.remove(key);
                    }
                    Ok(bytes) => {
                        let batch = take(member, &buffer[..bytes], &mut seq);
                        publish(&mut members, key, &batch, writes);
                        if bytes < buffer.len() {
                            break;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => {
                        members.remove(key);
                    }
                }
            }
        }
    }
}

/// Turns the chats that a member sent into frames for the others.
fn take(member: &mut Member, bytes: &[u8], seq: &mut u64) -> Vec<Vec<u8>> {
    member.held.extend_from_slice(bytes);
    let held = std::mem::take(&mut member.held);
    let mut rest = &held[..];
    let mut frames = Vec::new();
    while let Ok(Split::Frame { body, rest: after }) = frame::split(rest, FRAME_BYTES_MAX) {
        rest = after;
        let sent = ClientEnvelope::decode(body).ok().and_then(|it| it.message);
        let said = match (sent, &member.name) {
            (Some(Sent::Register(register)), None) => {
                let registered = framed(Received::Registered(wire::Registered {
                    name: register.name.clone(),
                    epoch: "bound".to_owned(),
                    seq: *seq,
                    ..Default::default()
                }));
                // A new connection's buffer has room for a few bytes.
                let _ = member.stream.write(&registered);
                member.name = Some(register.name);
                continue;
            }
            (Some(Sent::Chat(chat)), Some(name)) => wire::Chat {
                sender: name.clone(),
                seq: *seq + 1,
                time_unix_ms: now_unix_ms(),
                ..chat
            },
            _ => continue,
        };
        *seq += 1;
        frames.push(framed(Received::Chat(said)));
    }
    member.held = rest.to_vec();
    frames
}

fn publish(members: &mut Slab<Member>, from: usize, frames: &[Vec<u8>], writes: Writes) {
    let others = |members: &mut Slab<Member>, bytes: &[u8]| {
        members.retain(|key, member| {
            key == from || member.name.is_none() || write_all(&mut member.stream, bytes).is_ok()
        });
    };
    match writes {
        Writes::Each => frames.iter().for_each(|frame| others(members, frame)),
        Writes::Merged if frames.is_empty() => {}
        Writes::Merged => others(members, &frames.concat()),
    }
}

/// Writes all of `bytes`, and blocks while the socket is full.
fn write_all(stream: &mut TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(sent) => bytes = &bytes[sent..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLOUT)];
                poll(&mut fds, PollTimeout::NONE)?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn framed(message: Received) -> Vec<u8> {
    ServerEnvelope {
        message: Some(message),
    }
    .encode_length_delimited_to_vec()
}

fn now_unix_ms() -> i64 {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH);
    unix.map_or(0, |unix| unix.as_millis() as i64)
}
