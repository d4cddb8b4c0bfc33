//! Framing: the same bytes in any pieces give the same frames (CHAT-FRAME-7), and the
//! bounds on lengths hold at their edges.

use chat::{
    frame::{self, FrameError, LENGTH_BYTES_MAX, Split},
    wire::{self, ClientEnvelope, client_envelope::Message as Sent},
};
use proptest::prelude::*;

const BODY_BYTES_MAX: u32 = 300;

/// All frames of some bytes; then how many bytes of an incomplete frame follow, or the
/// error.
type Outcome = (Vec<Vec<u8>>, Result<usize, FrameError>);

fn whole(mut bytes: &[u8]) -> Outcome {
    let mut frames = Vec::new();
    loop {
        match frame::split(bytes, BODY_BYTES_MAX) {
            Ok(Split::Frame { body, rest }) => {
                frames.push(body.to_vec());
                bytes = rest;
            }
            Ok(Split::Partial) => return (frames, Ok(bytes.len())),
            Err(error) => return (frames, Err(error)),
        }
    }
}

/// Splits `bytes` as a connection does, in pieces: unused bytes wait for the next piece.
fn in_pieces(bytes: &[u8], cuts: &[usize]) -> Outcome {
    let mut frames = Vec::new();
    let mut held = Vec::new();
    let mut start = 0;
    let mut cuts: Vec<_> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.push(bytes.len());
    cuts.sort_unstable();
    for cut in cuts {
        held.extend_from_slice(&bytes[start..cut]);
        start = cut;
        let (more, end) = whole(&held);
        frames.extend(more);
        match end {
            Ok(left) => held.drain(..held.len() - left),
            Err(error) => return (frames, Err(error)),
        };
    }
    (frames, Ok(held.len()))
}

fn frame_of(body: &[u8], length_bytes: usize) -> Vec<u8> {
    let mut bytes = longer_length(body.len() as u64, length_bytes);
    bytes.extend_from_slice(body);
    bytes
}

/// A length in `length_bytes` bytes, or in as many more as it needs.
fn longer_length(mut length: u64, length_bytes: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let bits = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 && bytes.len() + 1 >= length_bytes {
            bytes.push(bits);
            return bytes;
        }
        bytes.push(bits | 0x80);
    }
}

proptest! {
    #[test]
    fn every_split_of_the_bytes_gives_the_same_frames(
        bodies in prop::collection::vec(
            (prop::collection::vec(any::<u8>(), 0..=300), 1usize..=10),
            0..8,
        ),
        tail in prop::collection::vec(any::<u8>(), 0..20),
        cuts in prop::collection::vec(any::<usize>(), 0..30),
    ) {
        let mut bytes = Vec::new();
        for (body, length_bytes) in &bodies {
            bytes.extend(frame_of(body, *length_bytes));
        }
        bytes.extend(&tail);
        let outcome = whole(&bytes);
        for ((body, _), frame) in bodies.iter().zip(&outcome.0) {
            prop_assert_eq!(body, frame);
        }
        prop_assert!(outcome.0.len() >= bodies.len());
        prop_assert_eq!(in_pieces(&bytes, &cuts), outcome.clone());
        let every_byte: Vec<_> = (0..bytes.len()).collect();
        prop_assert_eq!(in_pieces(&bytes, &every_byte), outcome);
    }

    #[test]
    fn an_encoded_frame_is_split_off_again(text in ".{0,80}", id in any::<u64>()) {
        use prost::Message as _;
        let envelope = ClientEnvelope {
            message: Some(Sent::Chat(wire::Chat { text, id, ..Default::default() })),
        };
        let mut bytes = Vec::new();
        frame::encode(&envelope, &mut bytes);
        prop_assert_eq!(bytes.len(), frame::encoded_len(&envelope));
        let (frames, end) = whole(&bytes);
        prop_assert_eq!(end, Ok(0));
        prop_assert_eq!(frames.len(), 1);
        prop_assert_eq!(ClientEnvelope::decode(frames[0].as_slice()).unwrap(), envelope);
        // CHAT-FRAME-2
        let shortest = longer_length(frames[0].len() as u64, 1);
        prop_assert!(bytes.starts_with(&shortest));
    }
}

#[track_caller]
fn check(bytes: &[u8], expected: Result<Split<'_>, FrameError>) {
    assert_eq!(
        frame::split(bytes, BODY_BYTES_MAX),
        expected,
        "{bytes:02x?}"
    );
}

#[test]
fn lengths_at_the_edges_of_the_bounds() {
    let too_long = |length_bytes| {
        Err(FrameError::TooLong {
            length_bytes,
            length_bytes_max: BODY_BYTES_MAX,
        })
    };
    check(&[], Ok(Split::Partial));
    check(
        &[0],
        Ok(Split::Frame {
            body: &[],
            rest: &[],
        }),
    );
    check(&[1], Ok(Split::Partial));
    check(
        &[1, 7, 8],
        Ok(Split::Frame {
            body: &[7],
            rest: &[8],
        }),
    );
    // 300 is within the bound, 301 is rejected before its body arrives.
    check(&[0xac, 0x02], Ok(Split::Partial));
    check(&[0xad, 0x02], too_long(301));
    check(&[0x80; 9], Ok(Split::Partial));
    // The same length in every longer form.
    for length_bytes in 1..=LENGTH_BYTES_MAX {
        check(
            &frame_of(&[9], length_bytes),
            Ok(Split::Frame {
                body: &[9],
                rest: &[],
            }),
        );
    }
    // Eleven bytes, even for a small number.
    check(&[0x80; 10], Err(FrameError::Length));
    check(&frame_of(&[9], 11), Err(FrameError::Length));
    check(&longer_length(1 << 31, 1), too_long(1 << 31));
    check(&longer_length(1 << 63, 1), too_long(1 << 63));
    check(&longer_length(u64::MAX, 1), too_long(u64::MAX));
    // A tenth byte above 1 does not fit in 64 bits.
    let mut overflow = [0xff; 10];
    overflow[9] = 2;
    check(&overflow, Err(FrameError::Length));
    overflow[9] = 1;
    check(&overflow, too_long(u64::MAX));
}
