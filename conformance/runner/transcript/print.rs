//! Printer: writes steps in the notation of transcripts, with shorthands spelled out.
//! Expected and observed steps are compared in this form.

use std::fmt::Write;

use serde_json::Value;

use super::{Action, Arrival, Content, CutAt, Payload, Saturation, Step, Wanted};
use crate::framing;

/// The longest message that is shown whole; a longer one is shown in part.
const SHOWN_CHARS_MAX: usize = 400;

/// Steps as lines, inner ones indented.
pub fn steps(steps: &[Step]) -> Vec<String> {
    let mut lines = Vec::new();
    put_steps(steps, 0, &mut lines);
    lines
}

fn put_steps(steps: &[Step], depth: usize, lines: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    for step in steps {
        match &step.action {
            Action::Repeat { count, steps } => {
                lines.push(format!("{indent}repeat {count}"));
                put_steps(steps, depth + 1, lines);
                lines.push(format!("{indent}end"));
            }
            Action::AnyOrder(lanes) => {
                lines.push(format!("{indent}in any order"));
                for (i, lane) in lanes.iter().enumerate() {
                    if i > 0 {
                        lines.push(format!("{indent}and"));
                    }
                    put_steps(lane, depth + 1, lines);
                }
                lines.push(format!("{indent}end"));
            }
            action => lines.push(format!("{indent}{}", self::action(action))),
        }
    }
}

/// One action as one line.
pub fn action(action: &Action) -> String {
    match action {
        Action::Connect { who, small_window } => {
            let window = if *small_window {
                " with a small window"
            } else {
                ""
            };
            format!("{who} connects{window}")
        }
        Action::Join {
            who,
            name,
            capabilities,
            patiently,
        } => {
            let mut line = format!("{who} joins");
            if *name != format!("<{who}>") {
                let _ = write!(line, " as {}", Value::from(name.as_str()));
            }
            if !capabilities.is_empty() {
                let _ = write!(line, " with {}", capabilities.join(" and "));
            }
            if *patiently {
                line.push_str(" when the name is free");
            }
            line
        }
        Action::Send { who, payload } => format!("{who} sends {}", self::payload(payload)),
        Action::Receive {
            who,
            wanted,
            arrival,
        } => {
            let wanted: Vec<String> = wanted.iter().map(self::wanted).collect();
            format!("{who} receives {}{}", wanted.join(" or "), suffix(arrival))
        }
        Action::Finds { who, names } => {
            let names: Vec<String> = names
                .iter()
                .map(|n| Value::from(n.as_str()).to_string())
                .collect();
            format!("{who} finds {}", names.join(", "))
        }
        Action::Pieces { who, wanted } => {
            format!("{who} receives in pieces {}", self::wanted(wanted))
        }
        Action::AllMembers { who } => format!("{who} receives all members"),
        Action::Nothing { who } => format!("{who} receives nothing"),
        Action::Closed {
            who,
            arrival,
            in_order,
        } => {
            let order = if *in_order { " in order" } else { "" };
            format!("{who} is closed{order}{}", suffix(arrival))
        }
        Action::HalfClose { who } => format!("{who} half-closes"),
        Action::Close { who } => format!("{who} closes"),
        Action::Reset { who } => format!("{who} resets"),
        Action::Silence(expr) => format!("everybody is silent for {expr}"),
        Action::Repeat { count, .. } => format!("repeat {count}"),
        Action::AnyOrder(_) => "in any order".to_owned(),
        Action::Serves => "the server still serves".to_owned(),
        Action::Restarts => "the server starts again".to_owned(),
        Action::Kills => "the server is killed".to_owned(),
        Action::ComesBack => "the server comes back".to_owned(),
        Action::Crowd(expr) => format!("a crowd of {expr} joins"),
        Action::Skips { who } => format!("{who} skips what has come"),
        Action::CatchesUp {
            who,
            with_everything: false,
        } => format!("{who} catches up"),
        Action::CatchesUp { who, .. } => format!("{who} catches up with everything"),
        Action::Accounts { who, receiver } => {
            format!("each chat of {who} reaches {receiver} or is refused")
        }
        Action::SameEnd(people) => format!("{} hear the same to the end", people.join(" and ")),
        Action::Stops => "the server is told to end".to_owned(),
        Action::Operates(words) => format!("the operator runs {}", Value::from(words.as_str())),
        Action::Otherwise => "otherwise the case ends".to_owned(),
        Action::Ends => "the server ends".to_owned(),
        Action::Saturate(Saturation::Server) => "the server fills up".to_owned(),
        Action::Saturate(Saturation::Address) => "the address fills up".to_owned(),
        Action::Saturate(Saturation::AddressRate) => "the address connects too often".to_owned(),
        Action::ClientStarts { password: None } => "client starts".to_owned(),
        Action::ClientStarts {
            password: Some(password),
        } => format!(
            "client starts with the password {}",
            Value::from(password.as_str())
        ),
        Action::ClientJoins { capabilities } if capabilities.is_empty() => {
            "client joins".to_owned()
        }
        Action::ClientJoins { capabilities } => {
            format!("client joins with {}", capabilities.join(" and "))
        }
        Action::ClientComesBack => "client comes back".to_owned(),
        Action::ClientStaysAway => "client has not come back".to_owned(),
        Action::Types(line) => format!("client types {}", Value::from(line.as_str())),
        Action::InputEnds => "client's input ends".to_owned(),
        Action::Prints(line) => format!("client prints {}", Value::from(line.as_str())),
        Action::NeverPrints(line) => format!("client never prints {}", Value::from(line.as_str())),
        Action::NeverShows(text) => format!("client never shows {}", Value::from(text.as_str())),
        Action::ClientEnds => "client ends".to_owned(),
        Action::ClientFails => "client fails and says why".to_owned(),
    }
}

fn suffix(arrival: &Arrival) -> String {
    match arrival {
        Arrival::Anytime => String::new(),
        Arrival::After(expr) => format!(" after {expr}"),
        Arrival::At(expr) => format!(" at {expr}"),
        Arrival::ByNow => " by now".to_owned(),
        Arrival::Within(expr) => format!(" within {expr}"),
    }
}

/// A message that would be right.
pub fn wanted(wanted: &Wanted) -> String {
    message(&wanted.kind, &wanted.body)
}

/// A message for people to read: its kind and, unless it is empty, its body, with
/// long texts in part.
pub fn message(kind: &str, body: &Value) -> String {
    message_with(kind, body, SHOWN_CHARS_MAX)
}

/// A message as a transcript needs it: nothing is left out.
pub fn whole_message(kind: &str, body: &Value) -> String {
    message_with(kind, body, usize::MAX)
}

fn message_with(kind: &str, body: &Value, text_chars_max: usize) -> String {
    if body.as_object().is_some_and(|o| o.is_empty()) {
        return kind.to_owned();
    }
    format!("{kind} {}", spaced(body, text_chars_max))
}

/// JSON with a blank after each comma and colon, as people write it.
fn spaced(value: &Value, text_chars_max: usize) -> String {
    match value {
        Value::Object(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(k, v)| format!("{}: {}", Value::from(k.as_str()), spaced(v, text_chars_max)))
                .collect();
            format!("{{{}}}", fields.join(", "))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(|v| spaced(v, text_chars_max)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::String(text) if text.chars().count() > text_chars_max => {
            let head: String = text.chars().take(text_chars_max / 10).collect();
            Value::from(format!("{head}... ({} bytes)", text.len())).to_string()
        }
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// A JSON string in which characters that control a terminal are escaped.
fn quoted(text: &str) -> String {
    let json = Value::from(text).to_string();
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if is_unprintable(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out
}

fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

fn payload(payload: &Payload) -> String {
    match payload {
        Payload::Bytes(bytes) => format!("bytes {}", hex_runs(bytes)),
        Payload::Length { value, width } => match width {
            Some(width) => format!("length {value} in {width} bytes"),
            None => format!("length {value}"),
        },
        Payload::Frame {
            envelope,
            padded_to,
            width,
            cut_at,
        } => {
            let mut line = match envelope {
                Content::Raw(bytes) => format!("frame {}", hex_runs(bytes)).trim_end().to_owned(),
                Content::Message {
                    kind,
                    body,
                    inside,
                    outside,
                } => {
                    let mut line = message(kind, body);
                    if !inside.is_empty() {
                        let _ = write!(line, " plus {}", hex_runs(inside));
                    }
                    if !outside.is_empty() {
                        let _ = write!(line, " plus outside {}", hex_runs(outside));
                    }
                    line
                }
            };
            if let Some(padded_to) = padded_to {
                let _ = write!(line, " padded to {padded_to}");
            }
            if let Some(width) = width {
                let _ = write!(line, " in {width} bytes");
            }
            match cut_at {
                Some(CutAt::Bytes(n)) => {
                    let _ = write!(line, " cut at {n}");
                }
                Some(CutAt::Repetition) => line.push_str(" cut at i"),
                None => {}
            }
            line
        }
    }
}

/// Hex in which a byte that comes often in a row is written once: `0b*200`.
fn hex_runs(bytes: &[u8]) -> String {
    const RUN_BYTES_MIN: usize = 12;
    let mut words = Vec::new();
    for run in bytes.chunk_by(|a, b| a == b) {
        if run.len() >= RUN_BYTES_MIN {
            words.push(format!("{:02x}*{}", run[0], run.len()));
        } else {
            words.push(framing::hex(run));
        }
    }
    words.join(" ")
}
