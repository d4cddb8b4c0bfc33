//! Stream invariants: the rules that every message of a server keeps, whatever the
//! case is about.

use crate::{
    problem::{Problem, Received},
    verdict::Kind,
};

/// The longest envelope up to and including Registered (CHAT-FRAME-12).
const EARLY_ENVELOPE_BYTES_MAX: usize = 1024;

/// What a piece of a file may take beyond its bytes (CHAT-FRAME-12).
const PIECE_OVERHEAD_BYTES: u64 = 256;

/// The messages of a server on one connection, in so far as they bind the next ones.
pub struct ServerStream {
    /// The capabilities that Registered granted; None until it came.
    pub granted: Option<Vec<String>>,
    /// How many messages came before Registered: a Challenge, or none.
    pub challenges: usize,
    /// The name that it gave.
    name: String,
    /// Up to this number, its own chats come back to it: what a resumed session missed
    /// (CHAT-RES-9).
    missed_to: u64,
    /// The longest envelope that may come.
    frame_bytes_max: usize,
    /// The last message of the conversation, and the rule that forbids others after it.
    ended_by: Option<(&'static str, &'static str)>,
}

impl Default for ServerStream {
    fn default() -> Self {
        Self {
            granted: None,
            challenges: 0,
            name: String::new(),
            missed_to: 0,
            frame_bytes_max: EARLY_ENVELOPE_BYTES_MAX,
            ended_by: None,
        }
    }
}

impl ServerStream {
    /// Whether an error or ServerClosing has ended the conversation.
    pub fn is_ended(&self) -> bool {
        self.ended_by.is_some()
    }

    /// Checks the next message, whose frame begins with a prefix of so many bytes.
    pub fn check(&mut self, message: &Received, prefix: usize) -> Result<(), Problem> {
        let wrong = |rule, sentence: String| {
            Err(Problem::new(Kind::WrongAnswer, &[rule], sentence).showing(message))
        };
        if let Some((what, rule)) = &self.ended_by {
            return wrong(rule, format!("a message came after {what}"));
        }
        let length = message.raw.len() - prefix;
        if length > self.frame_bytes_max {
            let sentence = format!(
                "an envelope of {length} bytes came, {} are allowed",
                self.frame_bytes_max
            );
            return wrong("CHAT-FRAME-12", sentence);
        }
        if message.kind == "nothing" {
            // A byte of zero between frames is an empty envelope, too.
            let rules = &["CHAT-FRAME-1", "CHAT-GROW-9"];
            let problem = Problem::new(Kind::WrongAnswer, rules, "an empty envelope came");
            return Err(problem.showing(message));
        }
        match (&self.granted, message.kind.as_str()) {
            (None, "registered") => {
                let granted = message.body["capabilities"].as_array();
                self.granted = Some(
                    granted
                        .into_iter()
                        .flatten()
                        .map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_owned))
                        .map(|c| c.trim_start_matches("CAPABILITY_").to_ascii_lowercase())
                        .collect(),
                );
                self.name = message.body["name"].as_str().unwrap_or_default().to_owned();
                if number(&message.body["resumedFrom"]) > 0 {
                    self.missed_to = number(&message.body["seq"]);
                }
                let limit = |name: &str| message.body["limits"][name].as_u64().unwrap_or(0);
                let has_files = self.granted.iter().flatten().any(|c| c == "files");
                let pieces = match has_files {
                    true => limit("fileChunkBytesMax") + PIECE_OVERHEAD_BYTES,
                    false => 0,
                };
                self.frame_bytes_max = limit("frameBytesMax").max(pieces) as usize;
            }
            (None, "error" | "server_closing") => {}
            // Whether the client sent a key, the case knows.
            (None, "challenge") if self.challenges == 0 => self.challenges = 1,
            (None, "challenge") => {
                return wrong("CHAT-ID-2", "a second Challenge came".to_owned());
            }
            (None, _) => return wrong("CHAT-REG-3", "a message came before Registered".to_owned()),
            (Some(_), "challenge") => {
                return wrong("CHAT-ID-2", "a Challenge came to a member".to_owned());
            }
            (Some(granted), kind) => {
                if let Some(capability) = capability_of(kind)
                    && !granted.iter().any(|c| c == capability)
                {
                    let sentence = format!("a message of {capability} came, which was not granted");
                    return wrong("CHAT-GROW-7", sentence);
                }
                let is_missed = number(&message.body["seq"]) <= self.missed_to;
                if kind == "chat" && message.body["sender"] == self.name && !is_missed {
                    let sentence = "a chat came back to its sender".to_owned();
                    return wrong("CHAT-CHAT-2", sentence);
                }
            }
        }
        if message.kind == "server_closing" {
            self.ended_by = Some(("ServerClosing", "CHAT-CLOSE-2"));
        } else if message.kind == "error" && message.body["endsSession"] == true {
            self.ended_by = Some(("an error that ends the session", "CHAT-ERR-1"));
        }
        Ok(())
    }
}

/// A number of 64 bits, which proto3 JSON writes as a text; absent: 0.
fn number(value: &serde_json::Value) -> u64 {
    let text = value.as_str().unwrap_or_default();
    text.parse().unwrap_or(0)
}

/// The capability that a server's message belongs to.
fn capability_of(kind: &str) -> Option<&'static str> {
    match kind {
        "receipt" => Some("receipts"),
        "joined" | "left" | "members" => Some("presence"),
        "ping" | "pong" => Some("keepalive"),
        "history" => Some("history"),
        "direct" | "direct_state" => Some("direct"),
        "following" | "covered" => Some("follow"),
        "file_state" | "file_data" => Some("files"),
        _ => None,
    }
}
