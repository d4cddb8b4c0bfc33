//! Encoder: the exact bytes that a step sends.

use serde_json::Value;

use crate::{
    framing,
    messages::{self, Envelope},
    transcript::{Content, CutAt, Payload},
};

/// The number of a field that no version of the schema is likely to have, for padding.
const PADDING_FIELD: u64 = 9_999;

/// The bytes of a payload, and how many of them are the first frame's prefix.
pub fn encode(
    payload: &Payload,
    to: Envelope,
    bindings: &crate::pattern::Bindings,
) -> Result<(Vec<u8>, usize), String> {
    let narrow = |n: u64, width: &Option<usize>| match width {
        Some(width) => framing::length_padded(n, *width)
            .ok_or_else(|| format!("a length of {n} does not fit into {width} bytes")),
        None => Ok(framing::length(n)),
    };
    match payload {
        Payload::Bytes(bytes) => Ok((bytes.clone(), 1)),
        Payload::Length { value, width } => {
            let bytes = narrow(value.value(&bindings.limits), width)?;
            let prefix = bytes.len();
            Ok((bytes, prefix))
        }
        Payload::Frame {
            envelope,
            padded_to,
            width,
            cut_at,
        } => {
            let mut body = match envelope {
                Content::Raw(bytes) => bytes.clone(),
                Content::Message {
                    kind,
                    body,
                    inside,
                    outside,
                } => {
                    let mut body: Value = bindings.fill(body)?;
                    if kind == "register" {
                        bindings.add_password(&mut body);
                    }
                    messages::encode(to, kind, &body, inside, outside)?
                }
            };
            if let Some(padded_to) = padded_to {
                pad(&mut body, padded_to.value(&bindings.limits))?;
            }
            let mut bytes = narrow(body.len() as u64, width)?;
            let prefix = bytes.len();
            bytes.extend(body);
            match cut_at {
                Some(CutAt::Bytes(n)) => bytes.truncate(*n),
                Some(CutAt::Repetition) => {
                    let i = bindings.get("i").and_then(|i| i.parse().ok());
                    bytes.truncate(i.ok_or("\"cut at i\" stands in no repetition")?);
                }
                None => {}
            }
            Ok((bytes, prefix))
        }
    }
}

/// Pads an envelope to exactly `target` bytes with an unknown field.
fn pad(body: &mut Vec<u8>, target: u64) -> Result<(), String> {
    let tag = framing::length(PADDING_FIELD << 3 | 2);
    let target = target as usize;
    for padding in (0..=target).rev() {
        let length = framing::length(padding as u64);
        if body.len() + tag.len() + length.len() + padding == target {
            body.extend(tag);
            body.extend(length);
            body.extend(std::iter::repeat_n(0, padding));
            return Ok(());
        }
    }
    Err(format!(
        "an envelope of {} bytes cannot be padded to {target}",
        body.len()
    ))
}
