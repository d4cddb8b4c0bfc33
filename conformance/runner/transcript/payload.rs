//! Parser of payloads: messages, frames, lengths and bytes.

use serde_json::{Value, json};

use super::{
    Content, CutAt, Expr, Payload, body as message_body,
    word::{LineError, Parsed, json_value, unexpected},
};
use crate::{framing, messages};

pub(super) fn message(kind: &str, body: Value) -> Content {
    Content::Message {
        kind: kind.to_owned(),
        body,
        inside: Vec::new(),
        outside: Vec::new(),
    }
}

pub(super) fn frame(envelope: Content) -> Payload {
    Payload::Frame {
        envelope,
        padded_to: None,
        width: None,
        cut_at: None,
    }
}

pub(super) fn payload(who: &str, text: &str) -> Result<Payload, LineError> {
    let (kind, tail) = text.split_once(' ').unwrap_or((text, ""));
    // The body first: words inside a text are no options.
    let (body, tail) = if tail.starts_with('{') {
        let (body, tail) = json_value(tail)?;
        (Some(body), tail)
    } else {
        (None, tail)
    };
    let (tail, cut_at) = match tail.strip_suffix("cut at i") {
        Some(head) => (head.trim(), Some(CutAt::Repetition)),
        None => {
            let (tail, n) = option(tail, "cut at ")?;
            (tail, n.map(CutAt::Bytes))
        }
    };
    let (tail, width) = match tail.strip_suffix(" bytes") {
        Some(head) => option(head, "in ")?,
        None => (tail, None),
    };
    match kind {
        "bytes" | "length" | "frame" if body.is_some() => return Err(unexpected("sends", text)),
        "bytes" => return Ok(Payload::Bytes(bytes(tail)?)),
        "length" => {
            return Ok(Payload::Length {
                value: Expr::parse(tail)?,
                width,
            });
        }
        _ => {}
    }
    let (tail, padded_to) = match tail.rsplit_once("padded to ") {
        Some((head, expr)) => (head.trim(), Some(Expr::parse(expr)?)),
        None => (tail, None),
    };
    let to = if who == "server" {
        messages::Envelope::Server
    } else {
        messages::Envelope::Client
    };
    let envelope = if kind == "frame" {
        Content::Raw(bytes(tail)?)
    } else if messages::kinds(to).iter().any(|k| k == kind) {
        let body = body.unwrap_or_else(|| json!({}));
        message_body::check(to, kind, &body)?;
        let (tail, outside) = match tail.split_once("plus outside ") {
            Some((head, hex)) => (head.trim(), bytes(hex)?),
            None => (tail, Vec::new()),
        };
        let inside = match tail.strip_prefix("plus ") {
            Some(hex) => bytes(hex)?,
            None if tail.is_empty() => Vec::new(),
            None => return Err(unexpected("sends", tail)),
        };
        Content::Message {
            kind: kind.to_owned(),
            body,
            inside,
            outside,
        }
    } else {
        return Err(LineError::Wrong(format!(
            "expected frame, bytes, length or one of {}, found {kind:?}",
            messages::kinds(to).join(", ")
        )));
    };
    Ok(Payload::Frame {
        envelope,
        padded_to,
        width,
        cut_at,
    })
}

/// Takes `word N` from the end of the text.
fn option<'a>(text: &'a str, word: &str) -> Result<(&'a str, Option<usize>), LineError> {
    match text.rsplit_once(word) {
        Some((head, n))
            if (head.is_empty() || head.ends_with(' ')) && n.trim().parse::<usize>().is_ok() =>
        {
            Ok((head.trim(), n.trim().parse().ok()))
        }
        _ => Ok((text, None)),
    }
}

/// Hex, in which `0b*200` is a byte two hundred times.
fn bytes(text: &str) -> Parsed<Vec<u8>> {
    /// More than any bound of the schema, so that a slip of the pen stays small.
    const RUN_BYTES_MAX: usize = 1 << 20;
    let mut out = Vec::new();
    for word in text.split_whitespace() {
        let (hex, times) = match word.split_once('*') {
            Some((hex, n)) => (hex, n.parse().unwrap_or(usize::MAX)),
            None => (word, 1),
        };
        let piece = framing::unhex(hex)
            .filter(|_| times <= RUN_BYTES_MAX)
            .ok_or_else(|| {
                format!("expected bytes in hex such as \"0a 05 68\" or \"00*20\", found {word:?}")
            })?;
        out.extend(piece.repeat(times));
    }
    Ok(out)
}
