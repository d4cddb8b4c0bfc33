//! Sent frames: what a simulated client sends, valid or not, and how the server must
//! answer it.

use fastrand::Rng;
use prost::Message as _;

use crate::wire::{self, Capability, ClientEnvelope, ErrorCode, client_envelope::Message};

/// One frame, or bytes that are no frame.
#[derive(Debug, Clone)]
pub(super) enum Sent {
    Register {
        name: String,
        password: String,
        capabilities: Vec<i32>,
        filter: Option<wire::Filter>,
        /// The line that it continues.
        resume: Option<wire::Resume>,
        /// The error with which the server rejects it, whoever the members are.
        rejection: Option<ErrorCode>,
    },
    Chat {
        id: u64,
        text: String,
        topic: String,
        mentions: Vec<String>,
        /// The error with which the server rejects it, whatever the rate is.
        rejection: Option<ErrorCode>,
    },
    Direct {
        peer: String,
        id: u64,
        text: String,
        /// The error with which the server rejects it, whatever the rate is.
        rejection: Option<ErrorCode>,
    },
    DirectAck(u64),
    Follow {
        id: u64,
        filter: wire::Filter,
        /// The error with which the server rejects it.
        rejection: Option<ErrorCode>,
    },
    Leave,
    Ping(u64),
    Pong(u64),
    /// An envelope without a message, or with one that the schema does not have.
    Unknown(Vec<u8>),
    /// A frame whose body does not parse.
    BadEnvelope,
    /// A length above the bound, without a body.
    LengthTooLong(u64),
    /// A varint that does not end.
    EndlessLength,
}

impl Sent {
    /// Whether the server ends the session over it. `is_first`: it is the client's first
    /// frame.
    pub(super) fn ends_session(&self, is_first: bool) -> bool {
        match self {
            Self::Register { rejection, .. } => is_first && rejection.is_some(),
            Self::Leave | Self::BadEnvelope | Self::LengthTooLong(_) | Self::EndlessLength => true,
            _ => is_first,
        }
    }

    /// The error with which the server ends the session over it, if it does so.
    pub(super) fn fatal_error(&self, is_first: bool) -> Option<ErrorCode> {
        match self {
            Self::BadEnvelope | Self::EndlessLength => Some(ErrorCode::MalformedFrame),
            Self::LengthTooLong(_) => Some(ErrorCode::FrameTooLong),
            Self::Register { rejection, .. } if is_first => *rejection,
            _ if is_first => Some(ErrorCode::NotRegistered),
            _ => None,
        }
    }

    /// The bytes that the client sends.
    pub(super) fn bytes(&self, rng: &mut Rng) -> Vec<u8> {
        let body = match self {
            Self::Register {
                name,
                password,
                capabilities,
                filter,
                resume,
                ..
            } => encoded(Message::Register(wire::Register {
                name: name.clone(),
                capabilities: capabilities.clone(),
                password: password.clone(),
                filter: filter.clone(),
                resume: resume.clone(),
                ..wire::Register::default()
            })),
            Self::Chat {
                id,
                text,
                topic,
                mentions,
                ..
            } => encoded(Message::Chat(wire::Chat {
                text: text.clone(),
                id: *id,
                topic: topic.clone(),
                mentions: mentions.clone(),
                // Fields that only the server sets.
                sender: "Mallory".to_owned(),
                seq: 7,
                time_unix_ms: 7,
                sender_id: vec![7; 16],
                ..wire::Chat::default()
            })),
            Self::Direct { peer, id, text, .. } => encoded(Message::Direct(wire::Direct {
                peer: peer.clone(),
                text: text.clone(),
                id: *id,
                // Fields that only the server sets.
                seq: 7,
                time_unix_ms: 7,
                files: Vec::new(),
            })),
            &Self::DirectAck(seq) => encoded(Message::DirectAck(wire::DirectAck { seq })),
            Self::Follow { id, filter, .. } => encoded(Message::Follow(wire::Follow {
                id: *id,
                filter: Some(filter.clone()),
            })),
            Self::Leave => encoded(Message::Leave(wire::Leave {})),
            &Self::Ping(token) => encoded(Message::Ping(wire::Ping { token })),
            &Self::Pong(token) => encoded(Message::Pong(wire::Pong { token })),
            Self::Unknown(body) => body.clone(),
            // A text that is longer than its frame.
            Self::BadEnvelope => vec![0x0a, 0x05, b'x'],
            Self::LengthTooLong(length) => return length_bytes(*length, 0),
            Self::EndlessLength => return vec![0xff; 10],
        };
        // Sometimes the length takes more bytes than it needs (CHAT-FRAME-3).
        let padding = if rng.u8(..) < 16 { rng.usize(0..8) } else { 0 };
        let mut bytes = length_bytes(body.len() as u64, padding);
        bytes.extend_from_slice(&body);
        bytes
    }
}

/// The capabilities that a client asks for: known ones or not, and some twice.
pub(super) fn capabilities(rng: &mut Rng) -> Vec<i32> {
    let all = [
        i32::from(Capability::Presence),
        Capability::Receipts.into(),
        Capability::Keepalive.into(),
        0,
        77,
    ];
    (0..rng.usize(0..5))
        .filter_map(|_| rng.choice(all))
        .collect()
}

fn encoded(message: Message) -> Vec<u8> {
    let message = Some(message);
    ClientEnvelope { message }.encode_to_vec()
}

/// `length` as a varint that takes `padding` more bytes than it needs.
fn length_bytes(mut length: u64, padding: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while length > 127 {
        bytes.push(length as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    for _ in 0..padding {
        *bytes.last_mut().expect("just pushed") |= 0x80;
        bytes.push(0);
    }
    bytes
}
