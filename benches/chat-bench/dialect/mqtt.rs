//! The MQTT 3.1.1 dialect with QoS 0: packets with a type and a length.

use super::{Dialect, JoinAs, Message, ROOM, Split, Unit};

const CONNECT: u8 = 1 << 4;
const CONNECT_ACK: u8 = 2 << 4;
const PUBLISH: u8 = 3 << 4;
const SUBSCRIBE: u8 = 8 << 4 | 2;
const SUBSCRIBE_ACK: u8 = 9 << 4;
const DISCONNECT: &[u8] = &[14 << 4, 0];

/// The most bytes in a length.
const LENGTH_BYTES_MAX: usize = 4;

pub struct Mqtt;

impl Dialect for Mqtt {
    fn join(&self, name: &str, join_as: JoinAs) -> Vec<u8> {
        // Protocol name, level 4, clean session, no keepalive, client name.
        let hello = [&string("MQTT")[..], &[4, 1 << 1, 0, 0], &string(name)];
        let mut bytes = packet(CONNECT, &hello.concat());
        if join_as != JoinAs::Sender {
            // Packet id 1, topic, QoS 0.
            let room = [&[0, 1][..], &string(ROOM), &[0]];
            bytes.extend(packet(SUBSCRIBE, &room.concat()));
        }
        bytes
    }

    fn around_text(&self, text_bytes: usize) -> (Vec<u8>, Vec<u8>) {
        let room = string(ROOM);
        let mut head = packet(PUBLISH, &[&room[..], &vec![0; text_bytes]].concat());
        head.truncate(head.len() - text_bytes);
        (head, Vec::new())
    }

    fn leave(&self) -> &'static [u8] {
        DISCONNECT
    }

    fn split<'a>(&self, bytes: &'a [u8], join_as: JoinAs) -> Result<Split<'a>, String> {
        let Some((&kind, after_kind)) = bytes.split_first() else {
            return Ok(None);
        };
        let Some((length, after_length)) = split_length(after_kind)? else {
            return Ok(None);
        };
        let Some(body) = after_length.get(..length) else {
            return Ok(None);
        };
        let used = bytes.len() - after_length.len() + length;
        let unit = match kind {
            PUBLISH => {
                let text = body.get(2 + ROOM.len()..);
                Message::of_text(text.ok_or("a message without a topic")?)
            }
            CONNECT_ACK if body.get(1) != Some(&0) => {
                Unit::Refused(format!("CONNACK says {body:?}"))
            }
            CONNECT_ACK if join_as == JoinAs::Sender => Unit::Joined { interval_ms: 0 },
            CONNECT_ACK => Unit::Other,
            SUBSCRIBE_ACK => Unit::Joined { interval_ms: 0 },
            kind => return Err(format!("packet type {kind:#x} was not expected")),
        };
        Ok(Some((used, unit)))
    }
}

fn split_length(bytes: &[u8]) -> Result<Option<(usize, &[u8])>, String> {
    let mut length = 0;
    for (index, &byte) in bytes.iter().take(LENGTH_BYTES_MAX).enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((length, &bytes[index + 1..])));
        }
    }
    if bytes.len() >= LENGTH_BYTES_MAX {
        return Err("a length does not end".to_owned());
    }
    Ok(None)
}

fn string(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("names are short");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    let mut rest = body.len();
    while rest > 0x7f {
        bytes.push(rest as u8 & 0x7f | 0x80);
        rest >>= 7;
    }
    bytes.push(rest as u8);
    bytes.extend(body);
    bytes
}
