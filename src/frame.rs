//! Framing: a base-128 varint length, then that many bytes of one envelope
//! (CHAT-FRAME-1). Pure and stateless: a caller keeps the bytes it has not used
//! yet and asks again when more have come, so the cuts of the transport cannot
//! change what comes out (CHAT-FRAME-7).

use std::fmt;

use prost::Message;

/// The most bytes a length may take: ten bytes of seven bits hold 64 bits
/// (CHAT-FRAME-3, CHAT-FRAME-4).
pub const LENGTH_BYTES_MAX: usize = 10;

/// What the start of a run of bytes holds.
#[derive(Debug, PartialEq, Eq)]
pub enum Split<'a> {
    /// A whole frame.
    Frame {
        /// The bytes of one envelope.
        body: &'a [u8],
        /// What follows the frame.
        rest: &'a [u8],
    },
    /// Not a whole frame yet; nothing is used up.
    Partial,
}

/// Why the bytes are no frame. Nothing after it can be read: where the next
/// frame would begin is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameError {
    /// The length does not end within ten bytes or does not fit in 64 bits
    /// (CHAT-FRAME-4).
    Length,
    /// The length is above the bound in force (CHAT-FRAME-5).
    TooLong {
        /// The length that was declared, in bytes.
        length_bytes: u64,
        /// The bound in force, in bytes.
        length_bytes_max: u32,
    },
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length => write!(
                f,
                "the length of a frame is not a varint of at most {LENGTH_BYTES_MAX} bytes and 64 bits"
            ),
            Self::TooLong {
                length_bytes,
                length_bytes_max,
            } => write!(
                f,
                "a frame of {length_bytes} bytes is longer than the {length_bytes_max} bytes allowed here"
            ),
        }
    }
}

impl std::error::Error for FrameError {}

/// Splits the first frame off `input`.
///
/// The length is judged as soon as its last byte is there, whether or not any of
/// the body is (CHAT-FRAME-5); no memory is reserved.
///
/// # Errors
///
/// [`FrameError`] when `input` does not begin with a frame of at most
/// `body_bytes_max` bytes.
pub fn split(input: &[u8], body_bytes_max: u32) -> Result<Split<'_>, FrameError> {
    let Some((length_bytes, after_length)) = split_length(input)? else {
        return Ok(Split::Partial);
    };
    if length_bytes > u64::from(body_bytes_max) {
        return Err(FrameError::TooLong {
            length_bytes,
            length_bytes_max: body_bytes_max,
        });
    }
    // Within the bound, so within 32 bits, which a usize holds.
    match after_length.split_at_checked(length_bytes as usize) {
        Some((body, rest)) => Ok(Split::Frame { body, rest }),
        None => Ok(Split::Partial),
    }
}

/// Splits a length off `input`, or `None` where its last byte has not come yet.
fn split_length(input: &[u8]) -> Result<Option<(u64, &[u8])>, FrameError> {
    let mut length = 0u64;
    for (index, &byte) in input.iter().take(LENGTH_BYTES_MAX).enumerate() {
        let bits = u64::from(byte & 0x7f);
        // The tenth byte holds the 64th bit and no other.
        if index == LENGTH_BYTES_MAX - 1 && bits > 1 {
            return Err(FrameError::Length);
        }
        length |= bits << (7 * index);
        if byte & 0x80 == 0 {
            return Ok(Some((length, input.get(index + 1..).unwrap_or_default())));
        }
    }
    if input.len() >= LENGTH_BYTES_MAX {
        return Err(FrameError::Length);
    }
    Ok(None)
}

/// The bytes that `envelope` takes as a frame, its length included.
pub fn encoded_len(envelope: &impl Message) -> usize {
    let body_bytes = envelope.encoded_len();
    body_bytes + prost::length_delimiter_len(body_bytes)
}

/// Appends `envelope` to `out` as a frame, its length in the fewest bytes
/// (CHAT-FRAME-2).
#[expect(clippy::expect_used, reason = "only memory can be too small for a Vec")]
pub fn encode(envelope: &impl Message, out: &mut Vec<u8>) {
    envelope
        .encode_length_delimited(out)
        .expect("a Vec grows as needed");
}
