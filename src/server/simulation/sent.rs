//! What a peer sends: right, wrong or in pieces, and what it should lead to.

use fastrand::Rng;
use prost::Message as _;

use crate::wire::{self, Capability, ClientEnvelope, ErrorCode, client_envelope::Message};

/// One frame, or what is none.
#[derive(Debug, Clone)]
pub(super) enum Sent {
    Register {
        name: String,
        password: String,
        asked: Vec<i32>,
        /// Why it is refused whoever is there.
        refusal: Option<ErrorCode>,
    },
    Chat {
        id: u64,
        text: String,
        refusal: Option<ErrorCode>,
    },
    Leave,
    Ping(u64),
    Pong(u64),
    /// An envelope with nothing in it, or with something new.
    Unknown(Vec<u8>),
    /// A frame whose body is no envelope.
    Unparsable,
    /// A length that is too long: nothing of the body comes.
    TooLong(u64),
    /// A length without an end.
    Unending,
}

impl Sent {
    /// Whether the server ends the session over it, if it came `first` or later.
    pub(super) fn ends_session(&self, is_first: bool) -> bool {
        match self {
            Self::Register { refusal, .. } => is_first && refusal.is_some(),
            Self::Leave | Self::Unparsable | Self::TooLong(_) | Self::Unending => true,
            _ => is_first,
        }
    }

    /// The error that the server answers a first frame with, or a later one that
    /// ends the session.
    pub(super) fn ending_error(&self, is_first: bool) -> Option<ErrorCode> {
        match self {
            Self::Unparsable | Self::Unending => Some(ErrorCode::MalformedFrame),
            Self::TooLong(_) => Some(ErrorCode::FrameTooLong),
            Self::Register { refusal, .. } if is_first => *refusal,
            _ if is_first => Some(ErrorCode::NotRegistered),
            _ => None,
        }
    }

    pub(super) fn bytes(&self, rng: &mut Rng) -> Vec<u8> {
        let body = match self {
            Self::Register {
                name,
                password,
                asked,
                ..
            } => encoded(Message::Register(wire::Register {
                name: name.clone(),
                capabilities: asked.clone(),
                password: password.clone(),
            })),
            Self::Chat { id, text, .. } => encoded(Message::Chat(wire::Chat {
                text: text.clone(),
                id: *id,
                // What only the server may say.
                sender: "Mallory".to_owned(),
                seq: 7,
                time_unix_ms: 7,
            })),
            Self::Leave => encoded(Message::Leave(wire::Leave {})),
            &Self::Ping(token) => encoded(Message::Ping(wire::Ping { token })),
            &Self::Pong(token) => encoded(Message::Pong(wire::Pong { token })),
            Self::Unknown(body) => body.clone(),
            // A text that is longer than its frame.
            Self::Unparsable => vec![0x0a, 0x05, b'x'],
            Self::TooLong(length) => return length_bytes(*length, 0),
            Self::Unending => return vec![0xff; 10],
        };
        // Sometimes in more bytes than it needs (CHAT-FRAME-3).
        let padding = if rng.u8(..) < 16 { rng.usize(0..8) } else { 0 };
        let mut bytes = length_bytes(body.len() as u64, padding);
        bytes.extend_from_slice(&body);
        bytes
    }
}

/// What a client asks for: anything, known or not, and more than once.
pub(super) fn asked(rng: &mut Rng) -> Vec<i32> {
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

/// `length` as a varint, with `padding` bytes more than it needs.
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
