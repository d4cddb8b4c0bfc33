//! Agreement: a chat is the same wherever the captures tell of it.

use chat::capture::End;
use serde_json::Value;

use super::{Audit, finding::Place};

/// A chat that a capture tells of.
pub(super) struct Known {
    pub(super) sender: String,
    pub(super) text: String,
    pub(super) topic: String,
    pub(super) mentions: Vec<String>,
    pub(super) time: String,
    /// The whole of it, where it was relayed; a receipt tells less.
    pub(super) body: Option<Value>,
    pub(super) at: Place,
}

impl Known {
    fn is_removed(&self) -> bool {
        let body = self.body.as_ref();
        body.is_some_and(|body| body["removed"] == true)
    }
}

impl Audit {
    /// Takes in a chat, which must be the same wherever it is told.
    pub(super) fn know(&mut self, epoch: &str, seq: u64, new: Known) {
        let Some(known) = self.chats.get_mut(&(epoch.to_owned(), seq)) else {
            self.chats.insert((epoch.to_owned(), seq), new);
            return;
        };
        let (there, at) = (known.at, new.at);
        let wrong = if known.sender != new.sender {
            let is_same = (&known.text, &known.time) == (&new.text, &new.time);
            let rule = match is_same {
                true => "CHAT-CHAT-4",
                false => "CHAT-HIST-10",
            };
            let both = format!("by {} here and by {}", new.sender, known.sender);
            Some((rule, both))
        } else if known.time == new.time && (known.is_removed() || new.is_removed()) {
            // Its text was there before, and must not be any more (CHAT-MOD-8).
            let has_text = |it: &Known| it.is_removed() && !it.text.is_empty();
            has_text(&new).then(|| ("CHAT-MOD-8", "removed, and has a text still,".to_owned()))
        } else if known.text != new.text {
            let rule = match known.time == new.time {
                true => "CHAT-CHAT-3",
                false => "CHAT-HIST-10",
            };
            Some((rule, format!("{:?} here and {:?}", new.text, known.text)))
        } else if known.time != new.time {
            let times = format!("of the time {} here and {}", new.time, known.time);
            Some(("CHAT-RCPT-3", times))
        } else {
            match (&known.body, &new.body) {
                (Some(known), Some(new)) if known != new => {
                    Some(("CHAT-HIST-2", format!("{new} here and {known}")))
                }
                _ => None,
            }
        };
        if known.body.is_none() {
            known.body = new.body;
        }
        if let Some((rule, both)) = wrong {
            let sentence = format!("the chat {seq} is {both} in {}", self.report.shown(there));
            self.report.find(rule, End::Server, at, sentence);
        }
    }
}
