//! Validation: the body of a message in a transcript has only fields and values that
//! the schema has, and regular expressions that can be read.

use prost_reflect::{Kind, MessageDescriptor};
use regex::{Regex, RegexBuilder};
use serde_json::Value;

use crate::messages::{self, Envelope};

/// How deep a regular expression may be nested. The library reads it by recursion,
/// and `a*****` is as deep as it is long.
const REGEX_NESTING_MAX: u32 = 32;

/// Reads the regular expression of a transcript.
pub fn regex(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern)
        .nest_limit(REGEX_NESTING_MAX)
        .build()
}

/// Checks that a body of a transcript has only fields that the message has, in
/// proto3 JSON's spelling, and only values that their enums have; a text in angle
/// brackets stands for something that is not known yet.
///
/// # Errors
///
/// What was expected where something else stands.
pub fn check(envelope: Envelope, kind: &str, body: &Value) -> Result<(), String> {
    match messages::message(envelope, kind)? {
        Some(message) => check_fields(&message, body),
        None => Ok(()), // Not an arm, which the parser refuses in its own words.
    }
}

fn check_fields(message: &MessageDescriptor, body: &Value) -> Result<(), String> {
    let Value::Object(fields) = body else {
        return Ok(()); // A placeholder for a whole message, or a value that never matches.
    };
    for (name, value) in fields {
        let Some(field) = message.fields().find(|field| field.json_name() == name) else {
            let known: Vec<_> = message.fields().map(|f| f.json_name().to_owned()).collect();
            return Err(format!(
                "expected a field of {} ({}), found {name:?}",
                message.name(),
                known.join(", ")
            ));
        };
        let values = match value {
            Value::Array(values) => values.as_slice(),
            value => std::slice::from_ref(value),
        };
        for value in values {
            match (field.kind(), value) {
                (Kind::Message(inner), value) => check_fields(&inner, value)?,
                (Kind::Enum(known), Value::String(value))
                    if !value.starts_with('<') && known.get_value_by_name(value).is_none() =>
                {
                    return Err(format!(
                        "expected a value of {}, found {value:?}",
                        known.name()
                    ));
                }
                (_, Value::String(text)) => check_pattern(text)?,
                _ => {}
            }
        }
    }
    Ok(())
}

/// A text that is a regular expression as a whole can be read as one.
fn check_pattern(text: &str) -> Result<(), String> {
    match text
        .strip_prefix("</")
        .and_then(|text| text.strip_suffix("/>"))
    {
        Some(pattern) => match regex(pattern) {
            Ok(_) => Ok(()),
            Err(_) => Err(format!("expected a regular expression, found {pattern:?}")),
        },
        None => Ok(()),
    }
}
