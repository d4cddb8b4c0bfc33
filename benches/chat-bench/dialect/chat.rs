//! The chat.v1 dialect. A Chat, of which there are millions, is read by a walk over its
//! fields; every other message is decoded with the generated types.

use chat::{
    frame,
    wire::{
        self, ClientEnvelope, ServerEnvelope, client_envelope::Message as Sent,
        server_envelope::Message as Received,
    },
};
use prost::Message as _;

use super::{Dialect, JoinAs, Message, Split, Unit, topic_name};

/// The longest frame accepted from a server, in bytes: more than any may announce.
const FRAME_BYTES_MAX: u32 = 1 << 20;

/// The numbers of `ServerEnvelope.chat` and of the fields of `Chat`.
const ENVELOPE_CHAT: u64 = 1;
const CHAT_TEXT: u64 = 1;
const CHAT_SENDER: u64 = 2;
const CHAT_SEQ: u64 = 3;

/// `Leave` as a frame: length, field number, empty message.
const LEAVE: &[u8] = &[2, 3 << 3 | 2, 0];

pub struct Chat;

impl Dialect for Chat {
    fn join(&self, name: &str, _join_as: JoinAs) -> Vec<u8> {
        let register = wire::Register {
            name: name.to_owned(),
            ..Default::default()
        };
        framed(Sent::Register(register))
    }

    fn around_text(&self, text_bytes: usize) -> (Vec<u8>, Vec<u8>) {
        let chat = wire::Chat {
            text: "x".repeat(text_bytes),
            ..Default::default()
        };
        // The text is the only field, so it ends the frame.
        let mut frame = framed(Sent::Chat(chat));
        frame.truncate(frame.len() - text_bytes);
        (frame, Vec::new())
    }

    fn join_topics(&self, name: &str, topics: &[usize]) -> Option<Vec<u8>> {
        let filter = wire::Filter {
            topics: topics.iter().map(|&topic| topic_name(topic)).collect(),
            ..Default::default()
        };
        let register = wire::Register {
            name: name.to_owned(),
            capabilities: vec![wire::Capability::Follow.into()],
            filter: (!topics.is_empty()).then_some(filter),
            ..Default::default()
        };
        Some(framed(Sent::Register(register)))
    }

    fn around_text_about(&self, topic: usize, text_bytes: usize) -> (Vec<u8>, Vec<u8>) {
        let chat = wire::Chat {
            topic: topic_name(topic),
            ..Default::default()
        };
        // The topic comes last, and the text right before it.
        let tail = chat.encode_to_vec();
        let text = "x".repeat(text_bytes);
        let mut frame = framed(Sent::Chat(wire::Chat { text, ..chat }));
        frame.truncate(frame.len() - tail.len() - text_bytes);
        (frame, tail)
    }

    fn leave(&self) -> &'static [u8] {
        LEAVE
    }

    fn split<'a>(&self, bytes: &'a [u8], _join_as: JoinAs) -> Result<Split<'a>, String> {
        let (body, used) = match frame::split(bytes, FRAME_BYTES_MAX) {
            Ok(frame::Split::Frame { body, rest }) => (body, bytes.len() - rest.len()),
            Ok(frame::Split::Partial) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let unit = match fields(body).next() {
            Some((ENVELOPE_CHAT, Value::Bytes(chat))) => Unit::Message(message(chat)),
            _ => rare(body)?,
        };
        Ok(Some((used, unit)))
    }
}

fn framed(message: Sent) -> Vec<u8> {
    ClientEnvelope {
        message: Some(message),
    }
    .encode_length_delimited_to_vec()
}

fn message(chat: &[u8]) -> Message<'_> {
    let mut message = Message {
        text: &[],
        seq: Some(0),
        sender: Some(&[]),
    };
    for field in fields(chat) {
        match field {
            (CHAT_TEXT, Value::Bytes(text)) => message.text = text,
            (CHAT_SENDER, Value::Bytes(sender)) => message.sender = Some(sender),
            (CHAT_SEQ, Value::Number(seq)) => message.seq = Some(seq),
            _ => {}
        }
    }
    message
}

fn rare(body: &[u8]) -> Result<Unit<'static>, String> {
    let envelope = ServerEnvelope::decode(body).map_err(|error| error.to_string())?;
    Ok(match envelope.message {
        Some(Received::Registered(registered)) => Unit::Joined {
            interval_ms: registered.limits.unwrap_or_default().chat_interval_ms,
        },
        Some(Received::Error(error)) => {
            Unit::Refused(format!("{}: {}", error.code().as_str_name(), error.detail))
        }
        Some(Received::ServerClosing(closing)) => Unit::Refused(closing.detail),
        _ => Unit::Other,
    })
}

enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// The number and bytes fields of a message, up to the first field of another type.
fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u64, Value<'_>)> {
    std::iter::from_fn(move || {
        let key = number(&mut bytes)?;
        let value = match key & 7 {
            0 => Value::Number(number(&mut bytes)?),
            2 => {
                let length_bytes = usize::try_from(number(&mut bytes)?).ok()?;
                let (value, rest) = bytes.split_at_checked(length_bytes)?;
                bytes = rest;
                Value::Bytes(value)
            }
            _ => return None,
        };
        Some((key >> 3, value))
    })
}

/// Takes a varint off the front of `bytes`.
fn number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}
