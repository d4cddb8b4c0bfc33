//! The decoder of WebSocket against a reference that knows nothing but RFC 6455 and the
//! rules CHAT-WS: under every cut of the bytes the same stream comes out, the same Ping is
//! answered last, and the connection is closed with the same status.

use super::codec::{CloseCode, Decoder};

/// More would only repeat what a few frames show, at the square of the cost.
const INPUT_BYTES_MAX: usize = 400;

/// The longest message of a client, in bytes (CHAT-WS-5).
const MESSAGE_BYTES_MAX: u128 = 65_536;

/// The stream, the payload of the last Ping, and how the connection is closed.
type Outcome = (Vec<u8>, Option<Vec<u8>>, Option<CloseCode>);

/// Any bytes of a client.
pub fn run(data: &[u8]) {
    let data = &data[..data.len().min(INPUT_BYTES_MAX)];
    let expected = reference(data);
    assert_eq!(in_pieces(data, &[]), expected, "whole");
    for cut in 0..=data.len() {
        assert_eq!(in_pieces(data, &[cut]), expected, "cut at {cut}");
    }
    let every: Vec<usize> = (0..data.len()).collect();
    assert_eq!(in_pieces(data, &every), expected, "byte by byte");
}

/// Frame after frame, in numbers that cannot overflow.
fn reference(data: &[u8]) -> Outcome {
    let (mut stream, mut ping) = (Vec::new(), None);
    let mut message = None;
    let mut rest = data;
    let close = loop {
        let Some(&first) = rest.first() else {
            break None;
        };
        let (is_final, opcode) = (first >= 0x80, first % 16);
        if first / 16 % 8 != 0 || !matches!(opcode, 0..=2 | 8..=10) {
            break Some(CloseCode::Protocol);
        }
        let Some(&second) = rest.get(1) else {
            break None;
        };
        if second < 0x80 {
            break Some(CloseCode::Protocol);
        }
        let long_bytes = match second % 128 {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some((head, payload)) = rest.split_at_checked(2 + long_bytes + 4) else {
            break None;
        };
        let (long, mask) = head[2..].split_at(long_bytes);
        let length = match long_bytes {
            0 => u128::from(second % 128),
            _ => long
                .iter()
                .fold(0, |sum, &byte| sum * 256 + u128::from(byte)),
        };
        match opcode {
            1 => break Some(CloseCode::Text),
            0 if message.is_none() => break Some(CloseCode::Protocol),
            2 if message.is_some() => break Some(CloseCode::Protocol),
            0 | 2 => {
                let bytes: u128 = message.unwrap_or(0) + length;
                if bytes > MESSAGE_BYTES_MAX {
                    break Some(CloseCode::TooLong);
                }
                message = (!is_final).then_some(bytes);
            }
            _ if !is_final || length > 125 => break Some(CloseCode::Protocol),
            _ => {}
        }
        let there = payload.len().min(length as usize);
        let masks = mask.iter().cycle();
        let plain: Vec<u8> = payload[..there]
            .iter()
            .zip(masks)
            .map(|(a, b)| a ^ b)
            .collect();
        let is_whole = there as u128 == length;
        match opcode {
            0 | 2 => stream.extend(plain),
            8 if is_whole => break Some(CloseCode::Normal),
            9 if is_whole => ping = Some(plain),
            _ => {}
        }
        if !is_whole {
            break None;
        }
        rest = &payload[there..];
    };
    (stream, ping, close)
}

/// As a connection does it.
fn in_pieces(data: &[u8], cuts: &[usize]) -> Outcome {
    let (mut decoder, mut stream, mut last) = (Decoder::default(), Vec::new(), None);
    let mut start = 0;
    for &cut in cuts.iter().chain([&data.len()]) {
        let mut piece = data[start..cut].to_vec();
        start = cut;
        let mut ping = None;
        let decoded = decoder.decode(&mut piece, &mut ping);
        assert!(decoded.stream_bytes <= piece.len());
        stream.extend_from_slice(&piece[..decoded.stream_bytes]);
        last = ping.or(last);
        if decoded.close.is_some() {
            return (stream, last, decoded.close);
        }
    }
    (stream, last, None)
}
