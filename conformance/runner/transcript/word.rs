//! Lexical pieces of a transcript: words, texts and JSON.

use serde_json::Value;

use crate::messages;

/// A piece of a line, or a sentence about what was expected there.
pub(super) type Parsed<T> = Result<T, String>;

/// Why a line cannot be read.
pub(super) enum LineError {
    /// JSON that may go on in the next line.
    Unfinished,
    /// What was expected.
    Wrong(String),
}

impl From<String> for LineError {
    fn from(sentence: String) -> Self {
        Self::Wrong(sentence)
    }
}

/// Why a step does not go on like this.
pub(super) fn unexpected(verb: &str, rest: &str) -> LineError {
    LineError::Wrong(format!(
        "expected something else after \"{verb}\" than {rest:?}"
    ))
}

/// A text in double quotes, and nothing after it.
pub(super) fn string(text: &str) -> Result<String, LineError> {
    let (value, tail) = json_value(text)?;
    match value {
        Value::String(text) if tail.is_empty() => Ok(text),
        _ => Err(LineError::Wrong(format!(
            "expected one text in double quotes, found {text}"
        ))),
    }
}

/// Whether a word can stand for a person in a transcript.
pub fn is_person(word: &str) -> bool {
    let mut chars = word.chars();
    chars.next().is_some_and(|c| c.is_ascii_lowercase())
        && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        && !matches!(
            word,
            "a" | "the"
                | "everybody"
                | "crowd"
                | "repeat"
                | "in"
                | "and"
                | "otherwise"
                | "end"
                | "any"
                | "maybe"
                | "time"
                | "i"
                | "fill"
                | "limit"
                | "not"
                | "without"
                | "password"
        )
}

/// The JSON at the beginning of the text, and what follows it.
pub(super) fn json_value(text: &str) -> Result<(Value, &str), LineError> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    match values.next() {
        Some(Ok(value)) => {
            let tail = text[values.byte_offset()..].trim();
            Ok((value, tail))
        }
        Some(Err(error)) if error.is_eof() => Err(LineError::Unfinished),
        Some(Err(error)) => Err(LineError::Wrong(format!("expected JSON: {error}"))),
        None => Err(LineError::Wrong(
            "expected JSON, found the end of the line".to_owned(),
        )),
    }
}

/// A capability's short name, as the schema's value.
pub fn capability(name: &str) -> Parsed<String> {
    let value = format!("CAPABILITY_{}", name.to_ascii_uppercase());
    if messages::enum_values("chat.v1.Capability").contains(&value) {
        Ok(value)
    } else {
        Err(format!(
            "expected a capability such as presence, found {name:?}"
        ))
    }
}
