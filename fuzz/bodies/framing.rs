//! Framing against a reference that knows nothing but the schema's words: under
//! every cut of the bytes the same frames come out (CHAT-FRAME-7).

use chat::{
    frame::{self, FrameError, Split},
    wire::{ClientEnvelope, ServerEnvelope},
};
use prost::Message;

/// More would only repeat what a few frames show, at the square of the cost.
const INPUT_BYTES_MAX: usize = 600;

/// What came out of a stream: the frames, and how it ended: with so many bytes of
/// a frame that is not complete, or with an error.
type Outcome = (Vec<Vec<u8>>, Result<usize, FrameError>);

/// The first two bytes are the bound in force, the others the stream.
pub fn run(data: &[u8]) {
    let Some((&[low, high], stream)) = data.split_first_chunk() else {
        return;
    };
    let bound = u32::from(u16::from_le_bytes([low, high]));
    let stream = &stream[..stream.len().min(INPUT_BYTES_MAX)];

    let expected = reference(stream, bound);
    assert_eq!(in_pieces(stream, bound, &[]), expected, "whole");
    for cut in 0..=stream.len() {
        assert_eq!(in_pieces(stream, bound, &[cut]), expected, "cut at {cut}");
    }
    let every: Vec<usize> = (0..stream.len()).collect();
    assert_eq!(in_pieces(stream, bound, &every), expected, "byte by byte");

    for body in &expected.0 {
        comes_back::<ClientEnvelope>(body);
        comes_back::<ServerEnvelope>(body);
    }
}

/// As the schema says it, a byte at a time, in numbers that cannot overflow.
fn reference(stream: &[u8], bound: u32) -> Outcome {
    let mut frames = Vec::new();
    let mut at = 0;
    loop {
        let start = at;
        let (mut length, mut weight) = (0u128, 1u128);
        loop {
            // CHAT-FRAME-4
            if at - start == 10 {
                return (frames, Err(FrameError::Length));
            }
            let Some(&byte) = stream.get(at) else {
                return (frames, Ok(stream.len() - start));
            };
            at += 1;
            length += u128::from(byte % 128) * weight;
            weight *= 128;
            if length > u128::from(u64::MAX) {
                return (frames, Err(FrameError::Length));
            }
            if byte < 128 {
                break;
            }
        }
        // CHAT-FRAME-5
        if length > u128::from(bound) {
            let error = FrameError::TooLong {
                length_bytes: length as u64,
                length_bytes_max: bound,
            };
            return (frames, Err(error));
        }
        if ((stream.len() - at) as u128) < length {
            return (frames, Ok(stream.len() - start));
        }
        frames.push(stream[at..at + length as usize].to_vec());
        at += length as usize;
    }
}

/// As a connection does it: what is not used up waits for more.
fn in_pieces(stream: &[u8], bound: u32, cuts: &[usize]) -> Outcome {
    let mut frames = Vec::new();
    let mut held = Vec::new();
    let mut start = 0;
    for &cut in cuts.iter().chain([&stream.len()]) {
        held.extend_from_slice(&stream[start..cut]);
        start = cut;
        let mut rest = &held[..];
        loop {
            match frame::split(rest, bound) {
                Ok(Split::Frame { body, rest: after }) => {
                    frames.push(body.to_vec());
                    rest = after;
                }
                Ok(Split::Partial) => break,
                Err(error) => return (frames, Err(error)),
            }
        }
        held = rest.to_vec();
    }
    (frames, Ok(held.len()))
}

/// What parses is written and read again as the same.
fn comes_back<M: Message + Default + PartialEq>(body: &[u8]) {
    let Ok(envelope) = M::decode(body) else {
        return;
    };
    let mut bytes = Vec::new();
    frame::encode(&envelope, &mut bytes);
    assert_eq!(bytes.len(), frame::encoded_len(&envelope));
    let Ok(Split::Frame { body, rest: [] }) = frame::split(&bytes, u32::MAX) else {
        panic!("what is encoded is one frame: {bytes:02x?}");
    };
    assert!(M::decode(body) == Ok(envelope), "{body:02x?}");
}
