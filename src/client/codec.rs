//! Codec: frames on a tokio byte stream. [`crate::frame`] splits; this buffers
//! incomplete frames.

use std::{fmt, io};

use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite, ReadHalf, WriteHalf, split};
use tokio_util::bytes::{Buf, BytesMut};
use tokio_util::codec::{Decoder, Encoder, FramedRead, FramedWrite};

use crate::frame::{self, FrameError, Split};
use crate::wire::{ClientEnvelope, ServerEnvelope};

/// The longest envelope before Registered, in bytes (CHAT-FRAME-6, CHAT-FRAME-12).
pub(crate) const REGISTERING_BODY_BYTES_MAX: u32 = 1_024;

/// The longest envelope that this client accepts from any server, in bytes: the
/// server's announced limit does not entitle it to that much memory.
pub(crate) const BODY_BYTES_CEILING: u32 = 1_048_576;

/// Decodes server envelopes and encodes client envelopes.
#[derive(Debug)]
pub(crate) struct Codec {
    body_bytes_max: u32,
}

impl Codec {
    /// A codec for a connection that has not registered.
    pub(crate) fn new() -> Self {
        Self {
            body_bytes_max: REGISTERING_BODY_BYTES_MAX,
        }
    }

    /// Applies the limit that Registered announced, in bytes (CHAT-FRAME-12).
    pub(crate) fn registered(&mut self, frame_bytes_max: u32) {
        self.body_bytes_max = frame_bytes_max.min(BODY_BYTES_CEILING);
    }
}

/// What carries the bytes.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Whichever carries them.
pub(crate) type ByteStream = Box<dyn Stream>;

/// The two directions of one connection, which do not block each other.
#[derive(Debug)]
pub(crate) struct Halves<S> {
    pub(crate) reader: FramedRead<ReadHalf<S>, Codec>,
    pub(crate) writer: FramedWrite<WriteHalf<S>, Codec>,
}

impl<S: AsyncRead + AsyncWrite> Halves<S> {
    /// Frames on a stream that has not registered.
    pub(crate) fn new(stream: S) -> Self {
        let (read_half, write_half) = split(stream);
        Self {
            reader: FramedRead::new(read_half, Codec::new()),
            writer: FramedWrite::new(write_half, Codec::new()),
        }
    }
}

/// Why decoding failed. The connection must be closed then (CHAT-FRAME-11).
#[derive(Debug)]
pub(crate) enum CodecError {
    /// The transport failed.
    Io(io::Error),
    /// The bytes are not a frame.
    Frame(FrameError),
    /// The body of a frame is not an envelope.
    Body,
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "{error}"),
            Self::Frame(error) => write!(f, "{error}"),
            Self::Body => write!(f, "a frame does not contain an envelope"),
        }
    }
}

impl From<io::Error> for CodecError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Decoder for Codec {
    type Item = ServerEnvelope;
    type Error = CodecError;

    fn decode(&mut self, bytes: &mut BytesMut) -> Result<Option<ServerEnvelope>, CodecError> {
        let (envelope, used_bytes) =
            match frame::split(bytes, self.body_bytes_max).map_err(CodecError::Frame)? {
                // No memory is reserved for bytes that have not arrived.
                Split::Partial => return Ok(None),
                Split::Frame { body, rest } => {
                    let envelope = ServerEnvelope::decode(body).map_err(|_| CodecError::Body)?;
                    (envelope, bytes.len() - rest.len())
                }
            };
        bytes.advance(used_bytes);
        Ok(Some(envelope))
    }

    /// A frame that the end of the stream cut short is dropped (CHAT-FRAME-9); the end
    /// itself is reported.
    fn decode_eof(&mut self, bytes: &mut BytesMut) -> Result<Option<ServerEnvelope>, CodecError> {
        let envelope = self.decode(bytes)?;
        if envelope.is_none() {
            bytes.clear();
        }
        Ok(envelope)
    }
}

impl Encoder<ClientEnvelope> for Codec {
    type Error = CodecError;

    fn encode(&mut self, envelope: ClientEnvelope, bytes: &mut BytesMut) -> Result<(), CodecError> {
        let mut frame = Vec::with_capacity(frame::encoded_len(&envelope));
        frame::encode(&envelope, &mut frame);
        bytes.extend_from_slice(&frame);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{ServerClosing, server_envelope};

    fn closing(detail: &str) -> (ServerEnvelope, Vec<u8>) {
        let envelope = ServerEnvelope {
            message: Some(server_envelope::Message::ServerClosing(ServerClosing {
                detail: detail.to_owned(),
                retry_after_ms: 0,
            })),
        };
        let mut frame = Vec::new();
        frame::encode(&envelope, &mut frame);
        (envelope, frame)
    }

    #[test]
    fn frames_come_out_whole_however_they_are_cut() {
        let (first, mut stream) = closing("one");
        let (second, frame) = closing("two");
        stream.extend(frame);
        let mut codec = Codec::new();
        let (mut bytes, mut got) = (BytesMut::new(), Vec::new());
        for byte in stream {
            bytes.extend_from_slice(&[byte]);
            got.extend(codec.decode(&mut bytes).expect("frames"));
        }
        assert_eq!(got, [first, second]);
        assert!(bytes.is_empty());
    }

    #[test]
    fn the_bound_grows_with_registered_and_never_above_the_ceiling() {
        let (envelope, frame) = closing(&"x".repeat(2_000));
        let mut codec = Codec::new();
        let error = codec
            .decode(&mut BytesMut::from(&frame[..]))
            .expect_err("above the bound");
        assert!(matches!(
            error,
            CodecError::Frame(FrameError::TooLong { .. })
        ));
        codec.registered(4_096);
        let got = codec
            .decode(&mut BytesMut::from(&frame[..]))
            .expect("a frame");
        assert_eq!(got, Some(envelope));
        codec.registered(u32::MAX);
        assert_eq!(codec.body_bytes_max, BODY_BYTES_CEILING);
    }

    #[test]
    fn a_frame_cut_short_is_dropped() {
        let (_, frame) = closing("gone");
        let mut bytes = BytesMut::from(&frame[..frame.len() - 1]);
        assert!(
            Codec::new()
                .decode_eof(&mut bytes)
                .expect("no error")
                .is_none()
        );
        assert!(bytes.is_empty());
    }

    #[test]
    fn a_body_that_is_no_envelope_is_an_error() {
        // A field with a wire type that protobuf does not define.
        let mut bytes = BytesMut::from(&[1u8, 0x0f][..]);
        assert!(matches!(
            Codec::new().decode(&mut bytes),
            Err(CodecError::Body)
        ));
    }
}
