//! A fake server that does what a test tells it, and records what it received. Every
//! wait panics at its deadline.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use chat::frame::{self, Split};
use chat::wire::{
    Capability, Chat, ClientEnvelope, Direct, DirectAck, Error, ErrorCode, Limits, Members, Ping,
    Receipt, Register, Registered, ServerClosing, ServerEnvelope, client_envelope, server_envelope,
};
use prost::Message as _;

pub use client_envelope::Message as FromClient;
pub use server_envelope::Message as ToClient;

/// The deadline of every wait, in seconds: far more than anything takes.
pub const WAIT_SECONDS: u64 = 20;

/// How often a condition is polled, in milliseconds.
pub const LOOK_MS: u64 = 5;

/// The longest frame accepted from a client: the longest text that it sends to any
/// server, with its overhead.
const FRAME_BYTES_MAX: u32 = (1 << 20) + 256;

pub struct Server(TcpListener);

impl Server {
    pub fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        Self(listener)
    }

    pub fn address(&self) -> String {
        format!("chat://{}", self.0.local_addr().expect("an address"))
    }

    /// The next connection.
    pub fn accept(&self) -> Peer {
        let deadline = Instant::now() + Duration::from_secs(WAIT_SECONDS);
        loop {
            match self.0.accept() {
                Ok((stream, _)) => return Peer::new(stream),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    assert!(Instant::now() < deadline, "nobody connected");
                    thread::sleep(Duration::from_millis(LOOK_MS));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Accepts and registers the next connection, with every capability that it asked
    /// for.
    pub fn welcome(&self) -> (Peer, Register) {
        self.welcome_with(limits(), None)
    }

    /// Accepts and registers the next connection, with these limits and capabilities.
    pub fn welcome_with(&self, limits: Limits, grants: Option<&[Capability]>) -> (Peer, Register) {
        let mut peer = self.accept();
        let register = peer.register();
        peer.send(ToClient::Registered(Registered {
            name: register.name.clone(),
            epoch: "e".to_owned(),
            seq: 0,
            capabilities: match grants {
                None => register.capabilities.clone(),
                Some(grants) => grants.iter().map(|&grant| grant.into()).collect(),
            },
            limits: Some(limits),
            ..Registered::default()
        }));
        (peer, register)
    }
}

/// The limits of a normal server, without a rate limit to wait for.
pub fn limits() -> Limits {
    Limits {
        frame_bytes_max: 4_096 + 256,
        text_bytes_max: 4_096,
        name_bytes_max: 32,
        chat_burst: 0,
        chat_interval_ms: 0,
        register_deadline_ms: 10_000,
        keepalive_interval_ms: 60_000,
        idle_deadline_ms: 150_000,
        write_deadline_ms: 10_000,
        lag_bytes_max: 1 << 20,
        ..Limits::default()
    }
}

pub fn now_unix_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.expect("a time after 1970").as_millis() as i64
}

/// The server's end of one connection.
pub struct Peer {
    stream: TcpStream,
    received: Vec<u8>,
    seq: u64,
}

impl Peer {
    fn new(stream: TcpStream) -> Self {
        stream.set_nonblocking(false).expect("blocking");
        let wait = Some(Duration::from_secs(WAIT_SECONDS));
        stream.set_read_timeout(wait).expect("a timeout");
        stream.set_write_timeout(wait).expect("a timeout");
        Self {
            stream,
            received: Vec::new(),
            seq: 0,
        }
    }

    /// The next message, or `None` when the client has closed.
    pub fn receive(&mut self) -> Option<FromClient> {
        loop {
            let split =
                frame::split(&self.received, FRAME_BYTES_MAX).expect("frames from the client");
            if let Split::Frame { body, rest } = split {
                let envelope = ClientEnvelope::decode(body).expect("an envelope");
                self.received = rest.to_vec();
                return Some(envelope.message.expect("a message"));
            }
            let mut bytes = [0; 4_096];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => self.received.extend(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                // A read with a timeout is not restarted after a signal.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("nothing came from the client: {error}"),
            }
        }
    }

    pub fn register(&mut self) -> Register {
        match self.receive() {
            Some(FromClient::Register(register)) => register,
            other => panic!("expected Register, got {other:?}"),
        }
    }

    pub fn chat(&mut self) -> Chat {
        match self.receive() {
            Some(FromClient::Chat(chat)) => chat,
            other => panic!("expected Chat, got {other:?}"),
        }
    }

    /// Receives a chat and answers with its receipt.
    pub fn accept_chat(&mut self) -> String {
        let chat = self.chat();
        self.receipt(chat.id);
        chat.text
    }

    pub fn receipt(&mut self, id: u64) {
        self.seq += 1;
        self.send(ToClient::Receipt(Receipt {
            id,
            seq: self.seq,
            time_unix_ms: 1,
        }));
    }

    /// Receives Leave and closes, which the client waits for.
    pub fn leave(mut self) {
        assert_eq!(self.receive(), Some(FromClient::Leave(Default::default())));
        self.close();
    }

    /// Closes, and waits for the client to close.
    pub fn close(mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        while self.receive().is_some() {}
    }

    pub fn send(&mut self, message: ToClient) {
        let envelope = ServerEnvelope {
            message: Some(message),
        };
        let mut bytes = Vec::new();
        frame::encode(&envelope, &mut bytes);
        self.send_bytes(&bytes);
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) {
        // Some tests expect the client to have closed.
        let _ = self.stream.write_all(bytes);
    }

    /// The next chat or receipt has the number behind this one.
    pub fn has_sent(&mut self, seq: u64) {
        self.seq = seq;
    }

    pub fn say(&mut self, sender: &str, text: &str) {
        self.say_in("", sender, text);
    }

    /// As [`say`](Self::say), with a topic.
    pub fn say_in(&mut self, topic: &str, sender: &str, text: &str) {
        self.seq += 1;
        self.send(ToClient::Chat(Chat {
            text: text.to_owned(),
            sender: sender.to_owned(),
            seq: self.seq,
            time_unix_ms: now_unix_ms(),
            topic: topic.to_owned(),
            ..Chat::default()
        }));
    }

    /// A Direct that somebody sends to the client, which acknowledges it (CHAT-DM-13).
    pub fn say_direct(&mut self, sender: &str, seq: u64, text: &str) {
        self.send(ToClient::Direct(Direct {
            peer: sender.to_owned(),
            text: text.to_owned(),
            seq,
            time_unix_ms: 5,
            ..Direct::default()
        }));
        let ack = self.receive();
        assert_eq!(ack, Some(FromClient::DirectAck(DirectAck { seq })));
    }

    pub fn members(&mut self, names: &[&str]) {
        self.send(ToClient::Members(Members {
            names: names.iter().map(|&name| name.to_owned()).collect(),
            more: false,
        }));
    }

    pub fn refuse(&mut self, id: u64, code: ErrorCode, retry_after_ms: u32) {
        self.send(ToClient::Error(Error {
            code: code.into(),
            detail: "as the server puts it".to_owned(),
            ends_session: false,
            id,
            retry_after_ms,
            ..Error::default()
        }));
    }

    pub fn end(&mut self, code: i32, detail: &str) {
        self.send(ToClient::Error(Error {
            code,
            detail: detail.to_owned(),
            ends_session: true,
            ..Error::default()
        }));
    }

    pub fn closing(&mut self, detail: &str) {
        self.closing_for(detail, 0);
    }

    pub fn closing_for(&mut self, detail: &str, retry_after_ms: u32) {
        self.send(ToClient::ServerClosing(ServerClosing {
            detail: detail.to_owned(),
            retry_after_ms,
        }));
    }

    pub fn ping(&mut self, token: u64) {
        self.send(ToClient::Ping(Ping { token }));
    }
}
