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

impl Received {
    /// In the transcript's notation.
    pub fn shown(&self) -> String {
        print::message(&self.kind, &self.body)
    }
}

/// A deviation from the rules.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The kind of failure.
    pub kind: Kind,
    /// The rules that it breaks in any step; empty: those of the step.
    pub rules: Vec<&'static str>,
    /// One sentence.
    pub sentence: String,
    /// The message that came, in the transcript's notation.
    pub received: String,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

impl Problem {
    /// A problem without a message.
    pub fn new(kind: Kind, rules: &[&'static str], sentence: impl Into<String>) -> Self {
        Self {
            kind,
            rules: rules.to_vec(),
            sentence: sentence.into(),
            received: String::new(),
            bytes: Vec::new(),
        }
    }

    /// The same, showing the message that came.
    pub fn with(mut self, received: String, bytes: &[u8]) -> Self {
        self.received = received;
        self.bytes = bytes.to_vec();
        self
    }

    /// The same, showing a message.
    pub fn showing(self, message: &Received) -> Self {
        self.with(message.shown(), &message.raw)
    }
}
