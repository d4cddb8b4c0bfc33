//! What tests against the real `chat-server` need: a server in a process of its
//! own, and a blocking peer that speaks to it over a socket.
//!
//! The peer shares nothing with the server but the generated types: its framing is
//! its own, so that a mistake in the server's cannot hide behind itself.

// Each test program uses a part of this.
#![allow(dead_code, unused_imports)]

mod files;
mod peer;
mod server;
pub mod udp;
pub mod websocket;

use std::time::Duration;

use chat::wire::{self, Capability, ClientEnvelope, client_envelope::Message};
use prost::Message as _;

pub use chat::wire::server_envelope::Message as Received;
pub use files::file;
pub use peer::Peer;
pub use server::{TestServer, command, output, signal};

/// How long a test waits for what must come. Nothing waits this long unless it
/// fails, so it may be generous to a crowded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// No capability at all.
pub const NOTHING: &[Capability] = &[];

/// A client's message in its envelope.
pub fn envelope(message: Message) -> ClientEnvelope {
    ClientEnvelope {
        message: Some(message),
    }
}

/// Register, with these capabilities.
pub fn register(name: &str, capabilities: &[Capability]) -> ClientEnvelope {
    envelope(Message::Register(wire::Register {
        name: name.to_owned(),
        capabilities: capabilities.iter().map(|&known| known.into()).collect(),
        ..Default::default()
    }))
}

/// Register with a password, without capabilities.
pub fn register_with_password(name: &str, password: &str) -> ClientEnvelope {
    envelope(Message::Register(wire::Register {
        name: name.to_owned(),
        password: password.to_owned(),
        ..Default::default()
    }))
}

/// Chat without an id.
pub fn chat(text: &str) -> ClientEnvelope {
    chat_with_id(text, 0)
}

/// Chat with an id.
pub fn chat_with_id(text: &str, id: u64) -> ClientEnvelope {
    envelope(Message::Chat(wire::Chat {
        text: text.to_owned(),
        id,
        ..Default::default()
    }))
}

/// Leave.
pub fn leave() -> ClientEnvelope {
    envelope(Message::Leave(wire::Leave {}))
}

/// Ping.
pub fn ping(token: u64) -> ClientEnvelope {
    envelope(Message::Ping(wire::Ping { token }))
}

/// Pong.
pub fn pong(token: u64) -> ClientEnvelope {
    envelope(Message::Pong(wire::Pong { token }))
}

/// Several messages as the bytes of one write.
pub fn frames<'a>(envelopes: impl IntoIterator<Item = &'a ClientEnvelope>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for envelope in envelopes {
        bytes.extend(envelope.encode_length_delimited_to_vec());
    }
    bytes
}

/// `body` as a frame, whatever it holds.
pub fn frame(body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encode_length_delimiter(body.len(), &mut bytes).expect("a Vec grows");
    bytes.extend(body);
    bytes
}
