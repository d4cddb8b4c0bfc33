//! JSON lines of the input: what to send, as proto3 JSON of the schema's messages. Pure.

use serde_json::Value;

use crate::client::NewChat;

/// What a line of the input asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A chat, with the id that its receipt will have; 0 for none.
    Chat { chat: NewChat, id: u64 },
    /// A direct, in the same way.
    Direct { peer: String, text: String, id: u64 },
    /// To leave, when everything is sent.
    Leave,
}

/// Understands a line of the input: `{"chat": {"text": "hi", "id": "7"}}`, where the id
/// may be left out, `{"direct": {"peer": "Bob", "text": "hi"}}`, where it may be given, or
/// `{"leave": {}}`.
///
/// # Errors
///
/// A sentence that says what is wrong.
pub(super) fn parse(line: &[u8]) -> Result<Request, String> {
    let value: Value = serde_json::from_slice(line).map_err(|error| error.to_string())?;
    let message = value.as_object().filter(|message| message.len() == 1);
    let Some((arm, message)) = message.and_then(|message| message.iter().next()) else {
        return Err("it is no object with one message".to_owned());
    };
    let fields = message.as_object();
    let fields = fields.ok_or_else(|| format!("{arm} is no object"))?;
    let unknown = |known: &[&str]| {
        let key = fields.keys().find(|key| !known.contains(&key.as_str()));
        key.map_or(Ok(()), |key| {
            Err(format!("{arm} has no field {key} to send"))
        })
    };
    let text = |key: &str| {
        let text = fields.get(key).and_then(Value::as_str);
        let text = text.ok_or_else(|| format!("{arm}.{key} is no text"))?;
        Ok::<_, String>(text.to_owned())
    };
    // proto3 JSON writes 64 bits as a text, and reads both.
    let id = || {
        let id = match fields.get("id") {
            None => Some(0),
            Some(Value::String(digits)) => digits.parse().ok(),
            Some(number) => number.as_u64(),
        };
        id.ok_or_else(|| format!("{arm}.id is no number of 64 bits"))
    };
    match arm.as_str() {
        "leave" => unknown(&[]).map(|()| Request::Leave),
        "chat" => {
            unknown(&["text", "topic", "mentions", "id"])?;
            let text = text("text")?;
            let id = id()?;
            let topic = match fields.get("topic") {
                None => String::new(),
                Some(topic) => topic.as_str().ok_or("chat.topic is no text")?.to_owned(),
            };
            let mentions = match fields.get("mentions") {
                None => Vec::new(),
                Some(names) => {
                    let names = names.as_array().ok_or("chat.mentions is no list")?;
                    let names = names.iter().map(|name| name.as_str().map(str::to_owned));
                    names
                        .collect::<Option<Vec<_>>>()
                        .ok_or("chat.mentions is no list of texts")?
                }
            };
            let chat = NewChat {
                text,
                topic,
                mentions,
            };
            Ok(Request::Chat { chat, id })
        }
        "direct" => {
            unknown(&["peer", "text", "id"])?;
            let (peer, text) = (text("peer")?, text("text")?);
            let id = id()?;
            Ok(Request::Direct { peer, text, id })
        }
        _ => Err(format!("{arm} cannot be sent: chat, direct or leave can")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_input_are_understood() {
        let chat = |text: &str, id| {
            let chat = NewChat::from(text);
            Ok(Request::Chat { chat, id })
        };
        for (line, expected) in [
            (r#"{"chat":{"text":"hi"}}"#, chat("hi", 0)),
            (r#"{"chat":{"text":"hi","id":"7"}}"#, chat("hi", 7)),
            (r#" {"chat":{"id":7,"text":""}} "#, chat("", 7)),
            (
                r#"{"direct":{"peer":"Bob","text":"hi","id":"7"}}"#,
                Ok(Request::Direct {
                    peer: "Bob".to_owned(),
                    text: "hi".to_owned(),
                    id: 7,
                }),
            ),
            (
                r#"{"chat":{"text":"hi","topic":"build","mentions":["bob"]}}"#,
                Ok(Request::Chat {
                    chat: NewChat::from("hi").topic("build").mention("bob"),
                    id: 0,
                }),
            ),
            (r#"{"leave":{}}"#, Ok(Request::Leave)),
        ] {
            assert_eq!(parse(line.as_bytes()), expected, "{line}");
        }
        for line in [
            "hi",
            "[]",
            "{}",
            r#"{"chat":{}}"#,
            r#"{"chat":{"text":"a"},"leave":{}}"#,
            r#"{"chat":{"text":"a","sender":"Eve"}}"#,
            r#"{"chat":{"text":"a","id":-1}}"#,
            r#"{"chat":{"text":"a","topic":7}}"#,
            r#"{"chat":{"text":"a","mentions":"bob"}}"#,
            r#"{"chat":"a"}"#,
            r#"{"direct":{"text":"a"}}"#,
            r#"{"direct":{"peer":"Bob","text":"a","seq":1}}"#,
            r#"{"register":{"name":"a"}}"#,
            "{\"chat\":{\"text\":\"\u{1}\"}}",
        ] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
        assert!(parse(b"{\"chat\":{\"text\":\"\xff\"}}").is_err());
    }
}
