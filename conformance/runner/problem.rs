//! Problems: a received message, and a deviation from the rules before it is tied to a
//! step.

use serde_json::Value;

use crate::{transcript::print, verdict::Kind};

/// A message that was received.
#[derive(Clone, Debug)]
pub struct Received {
    /// The envelope's arm.
    pub kind: String,
    /// The body in proto3 JSON.
    pub body: Value,
    /// The whole frame.
    pub raw: Vec<u8>,
    /// Its place on the connection, from 0.
    pub index: usize,
}

/// How an envelope with nothing in it is shown.
const EMPTY: &str = "an empty envelope";

impl Received {
    /// The code of an Error, as the schema's rules write it.
    pub fn code(&self) -> Option<&str> {
        let code = self.body["code"].as_str()?;
        Some(code.strip_prefix("ERROR_CODE_").unwrap_or(code))
    }

    /// In the transcript's notation.
    pub fn shown(&self) -> String {
        match self.kind.as_str() {
            "nothing" => EMPTY.to_owned(),
            kind => print::message(kind, &self.body),
        }
    }
}

/// Where a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// At a step that waits for something.
    Step,
    /// Where the case says that a connection receives nothing.
    Silence,
    /// At the end: a message that no step expects.
    End,
}

/// A deviation from the rules.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The kind of failure.
    pub kind: Kind,
    /// The rules that it breaks in any step; empty: those of the step.
    pub rules: Box<[&'static str]>,
    /// One sentence.
    pub sentence: String,
    /// The message that came, in the transcript's notation.
    pub received: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The message that came.
    pub message: Option<Box<Received>>,
    /// Where in the case it is.
    pub place: Place,
    /// The fields that are wrong in a message of the right kind.
    pub fields: Box<[String]>,
    /// Whether it is only about when something came, which a busy machine changes.
    pub is_about_time: bool,
    /// Whether the suite waited in vain, and might have to wait longer.
    pub is_silence: bool,
}

impl Problem {
    /// A problem without a message.
    pub fn new(kind: Kind, rules: &[&'static str], sentence: impl Into<String>) -> Self {
        Self {
            kind,
            rules: rules.into(),
            sentence: sentence.into(),
            received: String::new(),
            bytes: Vec::new(),
            message: None,
            place: Place::Step,
            fields: Box::default(),
            is_about_time: false,
            is_silence: kind == Kind::Hang,
        }
    }

    /// The same, as a problem that is only about when something came.
    pub fn about_time(mut self) -> Self {
        self.is_about_time = true;
        self
    }

    /// The same, showing the message that came.
    pub fn with(mut self, received: String, bytes: &[u8]) -> Self {
        self.received = received;
        self.bytes = bytes.to_vec();
        self
    }

    /// The same, showing a message.
    pub fn showing(mut self, message: &Received) -> Self {
        self.message = Some(Box::new(message.clone()));
        self.with(message.shown(), &message.raw)
    }

    /// The kind of the message that came.
    pub fn came(&self) -> Option<&str> {
        self.message.as_ref().map(|message| message.kind.as_str())
    }

    /// The code that came, if it was an Error.
    pub fn code(&self) -> Option<&str> {
        self.message.as_ref().and_then(|message| message.code())
    }
}
