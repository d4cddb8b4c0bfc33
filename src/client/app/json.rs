//! JSON lines: what happens in a session, as proto3 JSON of the schema's messages. What to
//! send is in `json_input`. Pure.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::client::{Ended, Ending, Event, FileError, Printable};
use crate::wire::{Chat, File, Registered};

/// How many lines are remembered until the server answers them: more than the library
/// has in flight and in its queues.
const IDS_MAX: usize = 1_024;

/// The ids that the lines of the input have: a session numbers its chats from 1 on.
#[derive(Debug, Default)]
pub(super) struct Ids(Mutex<IdsInner>);

#[derive(Debug, Default)]
struct IdsInner {
    /// The session's id of the first entry.
    first: u64,
    ids: VecDeque<u64>,
}

impl Ids {
    /// The next chat that the session takes has this id in the input; 0 if it has none.
    pub(super) fn push(&self, id: u64) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if inner.ids.len() >= IDS_MAX {
            inner.ids.pop_front();
            inner.first += 1;
        }
        inner.first = inner.first.max(1);
        inner.ids.push_back(id);
    }

    /// The session has not taken the last one.
    pub(super) fn take_back(&self) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.ids.pop_back();
    }

    /// The input's id of a chat that the session calls `id`.
    fn of(&self, id: u64) -> u64 {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let index = id.checked_sub(inner.first);
        let index = index.and_then(|index| usize::try_from(index).ok());
        let known = index.and_then(|index| inner.ids.get(index)).copied();
        known.filter(|&known| known != 0).unwrap_or(id)
    }
}

/// The line for the begin of a session.
pub(super) fn registered(registered: &Registered) -> String {
    let mut fields = json!({
        "name": registered.name,
        "epoch": registered.epoch,
        "seq": number(registered.seq),
    });
    if let (false, Some(fields)) = (registered.welcome.is_empty(), fields.as_object_mut()) {
        fields.insert("welcome".to_owned(), registered.welcome.as_str().into());
    }
    line(&json!({"registered": fields}))
}

/// The line for a chat.
pub(super) fn chat(chat: &Chat) -> String {
    let mut fields = serde_json::Map::new();
    let mut put = |name: &str, value| fields.insert(name.to_owned(), value);
    put("text", json!(chat.text));
    put("sender", json!(chat.sender));
    put("seq", number(chat.seq));
    put("timeUnixMs", json!(chat.time_unix_ms.to_string()));
    // What is absent is left out, as in proto3 JSON.
    if !chat.topic.is_empty() {
        put("topic", json!(chat.topic));
    }
    if !chat.mentions.is_empty() {
        put("mentions", json!(chat.mentions));
    }
    if !chat.sender_id.is_empty() {
        // proto3 JSON writes bytes so.
        put("senderId", json!(STANDARD.encode(&chat.sender_id)));
    }
    line(&with_files("chat", Value::Object(fields), &chat.files))
}

/// A message with the files that it names, if it names any.
fn with_files(arm: &str, mut message: Value, files: &[File]) -> Value {
    if let (false, Some(fields)) = (files.is_empty(), message.as_object_mut()) {
        let files = files.iter().map(|file| {
            json!({
                "sha256": STANDARD.encode(&file.sha256),
                "size": number(file.size),
                "name": file.name,
            })
        });
        fields.insert("files".to_owned(), files.collect());
    }
    json!({ arm: message })
}

/// The line for a chat whose text was removed (CHAT-MOD-9).
pub(super) fn removed(sender: &str, seq: u64, time_unix_ms: i64) -> String {
    line(&json!({"chat": {
        "sender": sender,
        "seq": number(seq),
        "timeUnixMs": time_unix_ms.to_string(),
        "removed": true,
    }}))
}

/// The line for an event; `None` for the end, which has lines of its own.
pub(super) fn event(event: &Event, ids: &Ids) -> Option<String> {
    Some(line(&match event {
        Event::Message {
            seq,
            sender,
            text,
            time_unix_ms,
            topic,
            mentions,
            sender_id,
            files,
        } => {
            return Some(chat(&Chat {
                text: text.clone(),
                sender: sender.clone(),
                seq: *seq,
                time_unix_ms: *time_unix_ms,
                topic: topic.clone(),
                mentions: mentions.clone(),
                sender_id: sender_id.map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
                files: files.clone(),
                ..Chat::default()
            }));
        }
        Event::Following { id, seq } => json!({"following": {
            "id": number(*id),
            "seq": number(*seq),
        }}),
        Event::Covered { seq, sent } => json!({"covered": {
            "seq": number(*seq),
            "sent": number(*sent),
        }}),
        Event::Removed {
            seq,
            sender,
            time_unix_ms,
        } => return Some(removed(sender, *seq, *time_unix_ms)),
        Event::Direct {
            seq,
            sender,
            text,
            time_unix_ms,
            files,
        } => with_files(
            "direct",
            json!({
                "peer": sender,
                "text": text,
                "seq": number(*seq),
                "timeUnixMs": time_unix_ms.to_string(),
            }),
            files,
        ),
        Event::DirectState { id, is_delivered } => json!({"directState": {
            "id": number(ids.of(*id)),
            "delivered": is_delivered,
        }}),
        Event::Members { names, more } => json!({"members": {"names": names, "more": more}}),
        Event::Joined { name } => json!({"joined": {"name": name}}),
        Event::Left { name, reason } => json!({"left": {
            "name": name,
            "reason": reason.as_str_name(),
        }}),
        Event::Receipt { id, seq } => json!({"receipt": {
            "id": number(ids.of(*id)),
            "seq": number(*seq),
        }}),
        Event::Refused {
            id,
            code,
            detail,
            retry_after_ms,
            ..
        } => json!({"error": {
            "code": code.as_str_name(),
            "detail": detail,
            "endsSession": false,
            "id": number(ids.of(*id)),
            "retryAfterMs": retry_after_ms,
        }}),
        Event::Reconnecting { after, .. } => json!({"reconnecting": {
            "afterMs": u64::try_from(after.as_millis()).unwrap_or(u64::MAX),
        }}),
        Event::Gap { from, to, .. } => {
            json!({"gap": {"from": number(*from), "to": number(*to)}})
        }
        Event::Resumed {
            missed, registered, ..
        } => json!({"resumed": {
            "missed": number(*missed),
            "epoch": registered.epoch,
            "seq": number(registered.seq),
        }}),
        Event::NotResumed { reason, registered } => json!({"notResumed": {
            "reason": reason.as_str_name(),
            "epoch": registered.epoch,
            "seq": number(registered.seq),
        }}),
        Event::Unknown { id, text } => json!({"unknown": {
            "id": number(ids.of(*id)),
            "text": text,
        }}),
        Event::Ended(_) => return None,
    }))
}

/// The line for a file that the server has refused; `None` if something else went wrong.
pub(super) fn file_error(error: &FileError, file: Option<&File>) -> Option<String> {
    let FileError::Refused { code, detail } = error else {
        return None;
    };
    let mut fields = json!({
        "code": code.as_str_name(),
        "detail": detail,
        "endsSession": false,
    });
    if let (Some(file), Some(fields)) = (file, fields.as_object_mut()) {
        let sha256 = STANDARD.encode(&file.sha256);
        fields.insert("sha256".to_owned(), sha256.into());
    }
    Some(line(&json!({ "error": fields })))
}

/// The lines for the end of a session: what the server said, and, always the last, how
/// it ended.
pub(super) fn ended(ended: &Ended, refused: usize) -> Vec<String> {
    let (said, ending) = match &ended.ending {
        Ending::Left => (None, "LEFT"),
        Ending::ServerClosed { detail, .. } => (
            Some(json!({"serverClosing": {"detail": detail}})),
            "SERVER_CLOSED",
        ),
        Ending::Error { code, detail } => (
            Some(json!({"error": {
                "code": code.as_str_name(),
                "detail": detail,
                "endsSession": true,
            }})),
            "ERROR",
        ),
        Ending::Lost { .. } => (None, "LOST"),
    };
    let last = json!({"ended": {
        "ending": ending,
        "refused": refused,
        "unsent": ended.unsent,
        "unconfirmed": ended.unconfirmed,
    }});
    said.iter().chain([&last]).map(line).collect()
}

/// proto3 JSON writes 64 bits as a text, since many readers have 53 only.
fn number(number: u64) -> Value {
    Value::String(number.to_string())
}

/// The line, without characters that a terminal would act on or that cannot be seen:
/// JSON has escapes for them.
fn line(value: &Value) -> String {
    let mut safe = String::new();
    for character in value.to_string().chars() {
        let text = character.encode_utf8(&mut [0; 4]).to_owned();
        if Printable::new().untrusted(&text).as_str() == text {
            safe.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::SenderId;
    use crate::wire::{ErrorCode, LeftReason};

    #[test]
    fn every_event_is_a_line() {
        let ids = Ids::default();
        ids.push(0);
        ids.push(77);
        let events = [
            Event::Message {
                seq: u64::MAX,
                sender: "Bob".to_owned(),
                text: "é \"\u{202e}\u{7f}\u{e0041}\n".to_owned(),
                time_unix_ms: -1,
                topic: String::new(),
                mentions: Vec::new(),
                sender_id: None,
                files: Vec::new(),
            },
            Event::Message {
                seq: 2,
                sender: "Bob".to_owned(),
                text: "x".to_owned(),
                time_unix_ms: 3,
                topic: String::new(),
                mentions: Vec::new(),
                sender_id: SenderId::from_bytes(&[0xff; 16]),
                files: Vec::new(),
            },
            Event::Direct {
                seq: 1,
                sender: "Bob".to_owned(),
                text: "psst".to_owned(),
                time_unix_ms: 7,
                files: vec![File {
                    sha256: vec![0xff; 3],
                    size: 12,
                    name: "a.txt".to_owned(),
                }],
            },
            Event::DirectState {
                id: 2,
                is_delivered: false,
            },
            Event::Message {
                seq: 2,
                sender: "Bob".to_owned(),
                text: "hi".to_owned(),
                time_unix_ms: 1,
                topic: "build".to_owned(),
                mentions: vec!["Eve".to_owned()],
                sender_id: None,
                files: Vec::new(),
            },
            Event::Following { id: 4, seq: 2 },
            Event::Covered { seq: 9, sent: 1 },
            Event::Members {
                names: vec!["Bob".to_owned()],
                more: false,
            },
            Event::Joined {
                name: "Eve".to_owned(),
            },
            Event::Left {
                name: "Eve".to_owned(),
                reason: LeftReason::ConnectionLost,
            },
            Event::Receipt { id: 1, seq: 5 },
            Event::Receipt { id: 2, seq: 6 },
            Event::Refused {
                id: 3,
                text: None,
                code: ErrorCode::TextInvalid,
                detail: "no".to_owned(),
                retry_after_ms: 7,
            },
        ];
        let lines: Vec<_> = events.iter().filter_map(|it| event(it, &ids)).collect();
        let expected = [
            r#"{"chat":{"text":"é \"\u202e\u007f\udb40\udc41\n","sender":"Bob","seq":"18446744073709551615","timeUnixMs":"-1"}}"#,
            r#"{"chat":{"text":"x","sender":"Bob","seq":"2","timeUnixMs":"3","senderId":"/////////////////////w=="}}"#,
            r#"{"direct":{"peer":"Bob","text":"psst","seq":"1","timeUnixMs":"7","files":[{"sha256":"////","size":"12","name":"a.txt"}]}}"#,
            r#"{"directState":{"id":"77","delivered":false}}"#,
            r#"{"chat":{"text":"hi","sender":"Bob","seq":"2","timeUnixMs":"1","topic":"build","mentions":["Eve"]}}"#,
            r#"{"following":{"id":"4","seq":"2"}}"#,
            r#"{"covered":{"seq":"9","sent":"1"}}"#,
            r#"{"members":{"names":["Bob"],"more":false}}"#,
            r#"{"joined":{"name":"Eve"}}"#,
            r#"{"left":{"name":"Eve","reason":"LEFT_REASON_CONNECTION_LOST"}}"#,
            r#"{"receipt":{"id":"1","seq":"5"}}"#,
            r#"{"receipt":{"id":"77","seq":"6"}}"#,
            r#"{"error":{"code":"ERROR_CODE_TEXT_INVALID","detail":"no","endsSession":false,"id":"3","retryAfterMs":7}}"#,
        ];
        assert_eq!(lines, expected);
        // What was escaped is what was said.
        let value: Value = serde_json::from_str(&lines[0]).expect("JSON");
        assert_eq!(value["chat"]["text"], "é \"\u{202e}\u{7f}\u{e0041}\n");
    }

    #[test]
    fn the_last_line_tells_closing_from_leaving() {
        let of = |ending| {
            ended(
                &Ended {
                    ending,
                    unsent: 1,
                    unconfirmed: 2,
                },
                3,
            )
        };
        let last = |ending: &str| {
            format!(r#"{{"ended":{{"ending":"{ending}","refused":3,"unsent":1,"unconfirmed":2}}}}"#)
        };
        assert_eq!(of(Ending::Left), [last("LEFT")]);
        let detail = "bye".to_owned();
        assert_eq!(
            of(Ending::ServerClosed {
                detail,
                retry_after_ms: 0,
            }),
            [
                r#"{"serverClosing":{"detail":"bye"}}"#,
                &last("SERVER_CLOSED")
            ]
        );
    }
}
