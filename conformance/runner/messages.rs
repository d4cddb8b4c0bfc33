//! Codec: messages as the transcripts write them, the name of an envelope's arm and a
//! body in proto3 JSON, to and from protobuf's bytes. It follows the schema's
//! descriptors and names no message of its own.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::Value;

use crate::framing;

/// Which way an envelope goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    /// Clients send it.
    Client,
    /// Servers send it.
    Server,
}

static POOL: LazyLock<Result<DescriptorPool, String>> =
    LazyLock::new(|| DescriptorPool::decode(chat::wire::DESCRIPTOR_SET).map_err(|e| e.to_string()));

fn descriptor(envelope: Envelope) -> Result<MessageDescriptor, String> {
    let name = match envelope {
        Envelope::Client => "chat.v1.ClientEnvelope",
        Envelope::Server => "chat.v1.ServerEnvelope",
    };
    POOL.as_ref()
        .map_err(String::clone)?
        .get_message_by_name(name)
        .ok_or_else(|| format!("the schema has no {name}"))
}

/// The names of an envelope's arms, as the schema writes them.
pub fn kinds(envelope: Envelope) -> Vec<String> {
    descriptor(envelope)
        .map(|d| d.fields().map(|f| f.name().to_owned()).collect())
        .unwrap_or_default()
}

/// The names of the values of an enum of the schema.
pub fn enum_values(name: &str) -> Vec<String> {
    POOL.as_ref()
        .ok()
        .and_then(|pool| pool.get_enum_by_name(name))
        .map(|e| e.values().map(|v| v.name().to_owned()).collect())
        .unwrap_or_default()
}

/// The names of the fields of a message of the schema.
pub fn fields(message: &str) -> Vec<String> {
    POOL.as_ref()
        .ok()
        .and_then(|pool| pool.get_message_by_name(message))
        .map(|m| m.fields().map(|f| f.name().to_owned()).collect())
        .unwrap_or_default()
}

/// A field's name as proto3 JSON writes it: `text_bytes_max` is `textBytesMax`.
pub fn json_name(field: &str) -> String {
    let mut name = String::new();
    let mut upper = false;
    for c in field.chars() {
        if c == '_' {
            upper = true;
        } else {
            name.push(if upper { c.to_ascii_uppercase() } else { c });
            upper = false;
        }
    }
    name
}

/// The descriptor of a message of an envelope; None when the envelope has no such arm.
pub fn message(envelope: Envelope, kind: &str) -> Result<Option<MessageDescriptor>, String> {
    let field = descriptor(envelope)?.get_field_by_name(kind);
    Ok(field.and_then(|field| field.kind().as_message().cloned()))
}

/// Encodes an envelope that holds one message, with raw bytes put at the end of
/// the message (`inside`) and of the envelope (`outside`).
pub fn encode(
    envelope: Envelope,
    kind: &str,
    body: &Value,
    inside: &[u8],
    outside: &[u8],
) -> Result<Vec<u8>, String> {
    let descriptor = descriptor(envelope)?;
    let field = descriptor
        .get_field_by_name(kind)
        .ok_or_else(|| format!("there is no message {kind:?}"))?;
    let prost_reflect::Kind::Message(inner) = field.kind() else {
        return Err(format!("{kind} is no message"));
    };
    let message = DynamicMessage::deserialize(inner, body.clone())
        .map_err(|e| format!("{body} is not a {kind}: {e}"))?;
    let mut bytes = message.encode_to_vec();
    bytes.extend_from_slice(inside);
    // A length-delimited field by hand, so that `inside` can be added: tag, length, body.
    let mut out = framing::length(u64::from(field.number()) << 3 | 2);
    out.extend(framing::frame(&bytes));
    out.extend_from_slice(outside);
    Ok(out)
}

/// An envelope that was received.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// The arm's name, or "nothing" for an envelope with nothing known set.
    pub kind: String,
    /// The message in proto3 JSON, fields at their defaults left out.
    pub body: Value,
    /// What it holds that the schema does not define: "a field" or "an enum value".
    pub unknown: Option<&'static str>,
}

/// Decodes an envelope.
pub fn decode(envelope: Envelope, bytes: &[u8]) -> Result<Decoded, String> {
    let message =
        DynamicMessage::decode(descriptor(envelope)?, bytes).map_err(|e| e.to_string())?;
    let unknown = unknown_part(&message);
    let Some((field, value)) = message.fields().next() else {
        return Ok(Decoded {
            kind: "nothing".to_owned(),
            body: Value::Object(Default::default()),
            unknown,
        });
    };
    let inner = value.as_message().ok_or("an arm that is no message")?;
    let options = SerializeOptions::new().skip_default_fields(true);
    let body = inner
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|e| e.to_string())?;
    Ok(Decoded {
        kind: field.name().to_owned(),
        body,
        unknown,
    })
}

fn unknown_part(message: &DynamicMessage) -> Option<&'static str> {
    if message.unknown_fields().next().is_some() {
        return Some("a field");
    }
    message
        .fields()
        .find_map(|(field, value)| match (field.kind(), value) {
            (prost_reflect::Kind::Enum(known), value) => {
                let numbers: Vec<_> = match value {
                    prost_reflect::Value::List(values) => {
                        values.iter().filter_map(|v| v.as_enum_number()).collect()
                    }
                    value => value.as_enum_number().into_iter().collect(),
                };
                let is_unknown = |number: &i32| known.get_value(*number).is_none();
                numbers.iter().any(is_unknown).then_some("an enum value")
            }
            (_, value) => value.as_message().and_then(unknown_part),
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_message_is_encoded_and_decoded() {
        let body = json!({"text": "é", "id": "7"});
        let bytes = encode(Envelope::Client, "chat", &body, &[], &[]).unwrap();
        assert_eq!(bytes, [0x0a, 6, 0x0a, 2, 0xc3, 0xa9, 0x28, 7]);
        let back = decode(Envelope::Client, &bytes).unwrap();
        assert_eq!((back.kind.as_str(), back.body), ("chat", body));
        assert_eq!(back.unknown, None);
    }

    #[test]
    fn unknown_fields_and_empty_envelopes_are_reported() {
        let extra = [0x98, 0x06, 0x01];
        let bytes = encode(Envelope::Server, "chat", &json!({}), &extra, &[]).unwrap();
        assert_eq!(
            decode(Envelope::Server, &bytes).unwrap().unknown,
            Some("a field")
        );
        // Error.code is 999.
        let bytes = [0x1a, 3, 0x08, 0xe7, 0x07];
        assert_eq!(
            decode(Envelope::Server, &bytes).unwrap().unknown,
            Some("an enum value")
        );
        assert_eq!(decode(Envelope::Server, &[]).unwrap().kind, "nothing");
        assert!(decode(Envelope::Server, &[0x0a]).is_err());
        assert!(encode(Envelope::Client, "joined", &json!({}), &[], &[]).is_err());
    }
}
