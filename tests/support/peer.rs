//! A client without any mercy: it sends what it is told to, and checks all that
//! comes back against the rules that hold for every frame.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
};

use chat::wire::{
    Capability, Chat, ClientEnvelope, Error, ErrorCode, Left, LeftReason, Registered,
    ServerEnvelope, server_envelope::Message,
};
use prost::Message as _;
use socket2::{Domain, SockRef, Socket, Type};

use super::{NOTHING, PATIENCE, TestServer, chat, frames, register};

/// What is read at once, in bytes.
const READ_BYTES: usize = 64 * 1024;

/// The bound on frames up to and including Registered (CHAT-FRAME-12).
const UNREGISTERED_FRAME_BYTES_MAX: usize = 1_024;

/// One end of a connection to the server.
pub struct Peer {
    pub stream: TcpStream,
    unread: Vec<u8>,
    unread_from: usize,
    frame_bytes_max: usize,
    granted: Vec<i32>,
}

impl Peer {
    pub fn connect(server: &TestServer) -> Self {
        Self::from_stream(TcpStream::connect(server.address).expect("the server accepts"))
    }

    /// A peer that takes few bytes while it does not read.
    pub fn connect_narrow(server: &TestServer) -> Self {
        let socket = Socket::new(Domain::for_address(server.address), Type::STREAM, None)
            .expect("sockets can be made");
        // Before connecting: the window is agreed upon then.
        socket
            .set_recv_buffer_size(4_096)
            .expect("any size is allowed");
        socket
            .connect(&server.address.into())
            .expect("the server accepts");
        Self::from_stream(socket.into())
    }

    pub fn from_stream(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        stream.set_write_timeout(Some(PATIENCE)).expect("not zero");
        stream.set_nodelay(true).expect("TCP has it");
        Self {
            stream,
            unread: Vec::new(),
            unread_from: 0,
            frame_bytes_max: UNREGISTERED_FRAME_BYTES_MAX,
            granted: Vec::new(),
        }
    }

    /// Connects and registers without capabilities.
    pub fn join(server: &TestServer, name: &str) -> Self {
        Self::join_with(server, name, NOTHING).0
    }

    /// Connects and registers.
    pub fn join_with(
        server: &TestServer,
        name: &str,
        capabilities: &[Capability],
    ) -> (Self, Registered) {
        let mut peer = Self::connect(server);
        let registered = peer.register(name, capabilities);
        (peer, registered)
    }

    /// Connects as [`Peer::connect_narrow`] and registers.
    pub fn join_narrow(server: &TestServer, name: &str, capabilities: &[Capability]) -> Self {
        let mut peer = Self::connect_narrow(server);
        peer.register(name, capabilities);
        peer
    }

    pub fn register(&mut self, name: &str, capabilities: &[Capability]) -> Registered {
        self.send(&register(name, capabilities));
        self.registered()
    }

    pub fn address(&self) -> SocketAddr {
        self.stream.local_addr().expect("it is connected")
    }

    pub fn send(&mut self, envelope: &ClientEnvelope) {
        self.send_bytes(&frames([envelope]));
    }

    pub fn say(&mut self, text: &str) {
        self.send(&chat(text));
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the server reads");
    }

    /// Sends nothing more, but still reads.
    pub fn half_close(&self) {
        self.stream
            .shutdown(Shutdown::Write)
            .expect("the connection is open");
    }

    /// Breaks the connection with a reset.
    pub fn reset(self) {
        SockRef::from(&self.stream)
            .set_linger(Some(std::time::Duration::ZERO))
            .expect("TCP has it");
    }

    /// The next message, or `None` at the end of the stream.
    ///
    /// An end may show as a reset: the system sends one when the server closes
    /// with bytes unread.
    pub fn recv_or_end(&mut self) -> Option<Message> {
        let message = self.recv_or_cut();
        if message.is_none() {
            let cut_bytes = self.unread.len() - self.unread_from;
            assert_eq!(cut_bytes, 0, "the stream ended inside a frame");
        }
        message
    }

    /// The next message, or `None` at the end of the stream, which may be inside
    /// a frame.
    pub fn recv_or_cut(&mut self) -> Option<Message> {
        loop {
            if let Some(envelope) = self.take_frame() {
                return Some(self.checked(envelope));
            }
            if !self.fill() {
                return None;
            }
        }
    }

    pub fn recv(&mut self) -> Message {
        self.recv_or_end().expect("the connection should go on")
    }

    /// All that comes until the end of the stream.
    pub fn rest(&mut self) -> Vec<Message> {
        std::iter::from_fn(|| self.recv_or_end()).collect()
    }

    pub fn registered(&mut self) -> Registered {
        match self.recv() {
            Message::Registered(registered) => registered,
            other => panic!("not Registered: {other:?}"),
        }
    }

    pub fn chat(&mut self) -> Chat {
        match self.recv() {
            Message::Chat(chat) => chat,
            other => panic!("not a Chat: {other:?}"),
        }
    }

    /// The next message is a Chat with this text. Says what else came if not, so
    /// it also proves that nothing came before it.
    #[track_caller]
    pub fn hears(&mut self, text: &str) -> Chat {
        let chat = self.chat();
        assert_eq!(chat.text, text);
        chat
    }

    /// The next message is an error that the session survives.
    #[track_caller]
    pub fn is_refused(&mut self, code: ErrorCode) -> Error {
        self.error(code, false)
    }

    /// The next message is an error that ends the session, and the last one; then
    /// the connection is closed (CHAT-ERR-1, CHAT-ERR-2).
    #[track_caller]
    pub fn is_ended(&mut self, code: ErrorCode) -> Error {
        let error = self.error(code, true);
        self.is_closed();
        error
    }

    /// Nothing more comes, and the connection is closed.
    #[track_caller]
    pub fn is_closed(&mut self) {
        if let Some(message) = self.recv_or_end() {
            panic!("should be closed: {message:?}");
        }
    }

    #[track_caller]
    pub fn sees_closing(&mut self) {
        let message = self.recv();
        assert!(matches!(message, Message::ServerClosing(_)), "{message:?}");
        self.is_closed(); // CHAT-CLOSE-2
    }

    #[track_caller]
    pub fn sees_joined(&mut self, name: &str) {
        match self.recv() {
            Message::Joined(joined) => assert_eq!(joined.name, name),
            other => panic!("not a Joined: {other:?}"),
        }
    }

    #[track_caller]
    pub fn sees_left(&mut self, name: &str, reason: LeftReason) {
        match self.recv() {
            Message::Left(left) => assert_left(&left, name, reason),
            other => panic!("not a Left: {other:?}"),
        }
    }

    /// The names of one Members, and whether there are more.
    #[track_caller]
    pub fn sees_members(&mut self) -> (Vec<String>, bool) {
        match self.recv() {
            Message::Members(members) => (members.names, members.more),
            other => panic!("not a Members: {other:?}"),
        }
    }

    #[track_caller]
    fn error(&mut self, code: ErrorCode, ends_session: bool) -> Error {
        let error = match self.recv() {
            Message::Error(error) => error,
            other => panic!("not {code:?}: {other:?}"),
        };
        assert_eq!(error.code(), code, "{error:?}");
        assert_eq!(error.ends_session, ends_session, "{error:?}");
        assert_ne!(error.detail, "", "CHAT-ERR-6");
        error
    }

    /// What must be true of every message to this peer.
    fn checked(&mut self, envelope: ServerEnvelope) -> Message {
        let message = envelope.message.expect("a server has something to say");
        let needed = match &message {
            Message::Registered(registered) => {
                let limits = registered.limits.as_ref().expect("CHAT-LIM-1");
                self.granted.clone_from(&registered.capabilities);
                let has_files = self.granted.contains(&Capability::Files.into());
                let piece_bytes_max = match has_files {
                    true => limits.file_chunk_bytes_max + 256,
                    false => 0,
                };
                let frame_bytes_max = limits.frame_bytes_max.max(piece_bytes_max);
                self.frame_bytes_max = frame_bytes_max as usize;
                None
            }
            Message::Chat(_) | Message::Error(_) | Message::ServerClosing(_) => None,
            Message::Receipt(_) => Some(Capability::Receipts),
            Message::Joined(_) | Message::Left(_) | Message::Members(_) => {
                Some(Capability::Presence)
            }
            Message::Ping(_) | Message::Pong(_) => Some(Capability::Keepalive),
            Message::History(_) => Some(Capability::History),
            Message::Direct(_) | Message::DirectState(_) => Some(Capability::Direct),
            // CHAT-ID-3: only the tests that send a key receive one.
            Message::Challenge(_) => None,
            Message::Following(_) | Message::Covered(_) => Some(Capability::Follow),
            Message::FileState(_) | Message::FileData(_) => Some(Capability::Files),
        };
        if let Some(needed) = needed {
            let is_granted = self.granted.contains(&needed.into());
            assert!(is_granted, "CHAT-GROW-7: {message:?}");
        }
        message
    }

    fn take_frame(&mut self) -> Option<ServerEnvelope> {
        let unread = &self.unread[self.unread_from..];
        let mut after_length = unread;
        let length = prost::decode_length_delimiter(&mut after_length).ok()?;
        let length_bytes = unread.len() - after_length.len();
        assert_eq!(
            length_bytes,
            prost::length_delimiter_len(length),
            "CHAT-FRAME-2"
        );
        assert!(length <= self.frame_bytes_max, "CHAT-FRAME-12: {length}");
        let body = after_length.get(..length)?;
        let envelope = ServerEnvelope::decode(body).expect("CHAT-FRAME-1");
        self.unread_from += length_bytes + length;
        Some(envelope)
    }

    /// Reads once. `false` at the end of the stream.
    fn fill(&mut self) -> bool {
        self.unread.drain(..self.unread_from);
        self.unread_from = 0;
        let held_bytes = self.unread.len();
        self.unread.resize(held_bytes + READ_BYTES, 0);
        let read = self.stream.read(&mut self.unread[held_bytes..]);
        let read_bytes = match &read {
            Ok(bytes) => *bytes,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            // The process was stopped and goes on.
            Err(error) if error.kind() == ErrorKind::Interrupted => {
                self.unread.truncate(held_bytes);
                return true;
            }
            Err(error) => panic!("nothing came: {error}"),
        };
        self.unread.truncate(held_bytes + read_bytes);
        read_bytes > 0
    }
}

#[track_caller]
pub fn assert_left(left: &Left, name: &str, reason: LeftReason) {
    assert_eq!((left.name.as_str(), left.reason()), (name, reason));
}
