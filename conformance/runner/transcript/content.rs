//! Content: the bytes that a step of a transcript sends.

use serde_json::Value;

use super::expr::Expr;

/// The bytes that a step sends.
#[derive(Clone, Debug)]
pub enum Payload {
    /// One frame.
    Frame {
        /// The envelope in it.
        envelope: Content,
        /// Pads the envelope to this many bytes with an unknown field.
        padded_to: Option<Expr>,
        /// Writes the length in this many bytes.
        width: Option<usize>,
        /// Sends only the first bytes of the frame.
        cut_at: Option<CutAt>,
    },
    /// Bytes as they are.
    Bytes(Vec<u8>),
    /// A length and nothing after it.
    Length {
        /// The length.
        value: Expr,
        /// In so many bytes.
        width: Option<usize>,
    },
}

/// Where a frame is cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutAt {
    /// Behind so many bytes.
    Bytes(usize),
    /// Behind as many as this is the repetition, so behind each byte in turn.
    Repetition,
}

/// The content of an envelope.
#[derive(Clone, Debug)]
pub enum Content {
    /// A message, with bytes added.
    Message {
        /// The arm.
        kind: String,
        /// The body, with placeholders.
        body: Value,
        /// Bytes at the end of the message.
        inside: Vec<u8>,
        /// Bytes at the end of the envelope.
        outside: Vec<u8>,
    },
    /// Bytes as they are.
    Raw(Vec<u8>),
}

impl Payload {
    /// Whether it is bytes outside all frames, or a frame cut short.
    pub fn is_hostile(&self) -> bool {
        match self {
            Payload::Frame { cut_at, .. } => cut_at.is_some(),
            Payload::Bytes(_) | Payload::Length { .. } => true,
        }
    }

    /// Whether a repeated step cuts it behind each of its bytes.
    pub(super) fn is_cut_everywhere(&self) -> bool {
        let everywhere = Some(CutAt::Repetition);
        matches!(self, Payload::Frame { cut_at, .. } if *cut_at == everywhere)
    }

    /// Whether no client library would send this.
    pub fn is_raw(&self) -> bool {
        match self {
            Payload::Frame {
                envelope,
                width,
                cut_at,
                ..
            } => width.is_some() || cut_at.is_some() || matches!(envelope, Content::Raw(_)),
            Payload::Bytes(_) | Payload::Length { .. } => true,
        }
    }
}
