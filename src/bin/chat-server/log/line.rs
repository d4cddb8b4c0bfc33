//! Log lines: an event as a line of text or of JSON. What comes from elsewhere can neither
//! end a line nor command a terminal.

use std::fmt::{self, Debug, Write};

use serde_json::{Map, Value};
use tracing::{
    Event, Level,
    field::{Field, Visit},
};

/// Fields in which equal events differ.
const VOLATILE: [&str; 2] = ["port", "messages"];

/// The field that tracing keeps the message in.
const MESSAGE: &str = "message";

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Text { has_colours: bool },
    Json,
}

/// An event.
#[derive(Debug, Clone)]
pub struct Line {
    pub level: Level,
    pub message: String,
    fields: Vec<(&'static str, Shown)>,
}

#[derive(Debug, Clone)]
enum Shown {
    Quoted(String),
    Plain(String),
    Number(Value),
}

impl Line {
    pub fn new(event: &Event<'_>) -> Self {
        let mut line = Self::of(*event.metadata().level(), "");
        event.record(&mut line);
        line
    }

    pub fn of(level: Level, message: &str) -> Self {
        Self {
            level,
            message: message.to_owned(),
            fields: Vec::new(),
        }
    }

    pub fn with(mut self, name: &'static str, count: u64) -> Self {
        self.fields.push((name, Shown::Number(count.into())));
        self
    }

    /// What it has in common with events that are equal for the operator.
    pub fn key(&self) -> String {
        let mut key = self.message.clone();
        for (name, shown) in &self.fields {
            if !VOLATILE.contains(name) {
                let _ = write!(key, " {name}={shown}");
            }
        }
        key
    }

    /// It stands for events that are equal for the operator.
    pub fn without_volatile(&self) -> Self {
        let mut line = self.clone();
        line.fields.retain(|(name, _)| !VOLATILE.contains(name));
        line
    }

    /// The line, with its end. `time` is the present time.
    pub fn write(&self, format: Format, time: &str) -> String {
        match format {
            Format::Json => self.json(time),
            Format::Text { has_colours } => self.text(has_colours, time),
        }
    }

    fn text(&self, has_colours: bool, time: &str) -> String {
        let Self { level, message, .. } = self;
        let mut line = String::new();
        let _ = match has_colours {
            true => {
                let colour = match *level {
                    Level::ERROR => 31,
                    Level::WARN => 33,
                    Level::INFO => 32,
                    Level::DEBUG => 34,
                    Level::TRACE => 35,
                };
                write!(
                    line,
                    "\x1b[2m{time}\x1b[0m \x1b[{colour}m{level:>5}\x1b[0m "
                )
            }
            false => write!(line, "{time} {level:>5} "),
        };
        push_safe(&mut line, message);
        for (name, shown) in &self.fields {
            let _ = match has_colours {
                true => write!(line, " \x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m"),
                false => write!(line, " {name}="),
            };
            push_safe(&mut line, &shown.to_string());
        }
        line.push('\n');
        line
    }

    fn json(&self, time: &str) -> String {
        let mut object = Map::new();
        object.insert("time".to_owned(), time.into());
        object.insert("level".to_owned(), self.level.as_str().into());
        object.insert(MESSAGE.to_owned(), self.message.as_str().into());
        for (name, shown) in &self.fields {
            let value = match shown {
                Shown::Quoted(text) | Shown::Plain(text) => text.as_str().into(),
                Shown::Number(value) => value.clone(),
            };
            object.insert((*name).to_owned(), value);
        }
        format!("{}\n", Value::Object(object))
    }

    fn push(&mut self, field: &Field, shown: Shown) {
        match (field.name(), shown) {
            (MESSAGE, Shown::Plain(text) | Shown::Quoted(text)) => self.message = text,
            (name, shown) => self.fields.push((name, shown)),
        }
    }
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.push(field, Shown::Plain(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, Shown::Quoted(value.to_owned()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, Shown::Number(value.into()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, Shown::Number(value.into()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, Shown::Number(value.into()));
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Quoted(text) => write!(f, "{text:?}"),
            Self::Plain(text) => f.write_str(text),
            Self::Number(value) => write!(f, "{value}"),
        }
    }
}

/// A sentence may quote what the system or a peer said.
fn push_safe(line: &mut String, text: &str) {
    for character in text.chars() {
        match character.is_control() {
            true => line.extend(character.escape_unicode()),
            false => line.push(character),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left() -> Line {
        let mut line = Line::of(Level::INFO, "left");
        line.fields = vec![
            ("name", Shown::Plain("Alice".to_owned())),
            ("peer", Shown::Plain("192.0.2.1".to_owned())),
            ("port", Shown::Number(40_112.into())),
            ("why", Shown::Quoted("a \"b\"\n".to_owned())),
            ("error", Shown::Plain("\x1b[31m\n2026".to_owned())),
        ];
        line.with("messages", 7)
    }

    #[test]
    fn a_line_is_text_or_json_and_one_line() {
        let text = Format::Text { has_colours: false };
        assert_eq!(
            left().write(text, "NOW"),
            "NOW  INFO left name=Alice peer=192.0.2.1 port=40112 why=\"a \\\"b\\\"\\n\" \
             error=\\u{1b}[31m\\u{a}2026 messages=7\n"
        );
        assert_eq!(
            left().write(Format::Json, "NOW"),
            "{\"time\":\"NOW\",\"level\":\"INFO\",\"message\":\"left\",\"name\":\"Alice\",\
             \"peer\":\"192.0.2.1\",\"port\":40112,\"why\":\"a \\\"b\\\"\\n\",\
             \"error\":\"\\u001b[31m\\n2026\",\"messages\":7}\n"
        );
        let colours = left().write(Format::Text { has_colours: true }, "NOW");
        assert!(
            colours.starts_with("\x1b[2mNOW\x1b[0m \x1b[32m INFO\x1b[0m left"),
            "{colours}"
        );
    }

    #[test]
    fn equal_lines_differ_in_port_and_count_alone() {
        let key = left().key();
        assert!(
            key.starts_with("left name=Alice peer=192.0.2.1 why="),
            "{key}"
        );
        assert!(!key.contains("40112") && !key.contains("messages"), "{key}");
    }
}
