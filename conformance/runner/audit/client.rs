//! The client's side: registering, resuming and sending.

use chat::capture::End;
use serde_json::Value;

use super::{
    Audit, Connection, Register,
    filter::{Filter, texts},
    finding::Place,
    key,
    session::{Asked, Pending, number, text},
};
use crate::problem::Received;

impl Audit {
    pub(super) fn client(&mut self, connection: &mut Connection, at: Place, message: &Received) {
        let find = |audit: &mut Self, rule, sentence: String| {
            audit.report.find(rule, End::Client, at, sentence);
        };
        if message.kind == "register" && connection.register.is_none() {
            let register = self.register(at, &message.body);
            connection.register = Some(register);
            return;
        }
        if connection.register.is_none() {
            let sentence = format!("{} came before Register", message.kind);
            find(self, "CHAT-REG-1", sentence);
            // Told once.
            connection.is_lost = true;
            return;
        }
        let Some(session) = &mut connection.session else {
            // The answer to a Challenge.
            if message.kind == "proof" {
                return;
            }
            let sentence = format!("{} came before Registered", message.kind);
            return find(self, "CHAT-REG-10", sentence);
        };
        match message.kind.as_str() {
            // CHAT-DM-7, CHAT-DM-14: a Direct is answered and sent again like a Chat.
            kind @ ("chat" | "direct") => {
                let body = &message.body;
                let (id, text) = (number(&body["id"]), text(&body["text"]));
                let is_direct = kind == "direct";
                let names_files = body["files"].as_array().is_some_and(|it| !it.is_empty());
                session.pending.push_back(Pending {
                    id,
                    text: text.clone(),
                    // CHAT-FOL-2
                    topic: match session.has_follow {
                        true => self::text(&body["topic"]),
                        false => String::new(),
                    },
                    mentions: match session.has_follow {
                        true => texts(&body["mentions"]),
                        false => Vec::new(),
                    },
                    is_direct,
                    names_files,
                    is_not_granted: (is_direct && !session.has_direct)
                        || (names_files && !session.has_files),
                    is_refused: false,
                    line: at.line,
                });
                if !session.has_resume || id == 0 {
                    return;
                }
                let line = self.lines.entry(key(&session.name)).or_default();
                let wrong = line.sends(id, &text);
                let unanswered = line.unanswered();
                if let Some((rule, sentence)) = wrong {
                    find(self, rule, sentence);
                }
                let most = session.resend_ids_max / 2;
                if unanswered as u64 > most && !session.is_told_of_window {
                    session.is_told_of_window = true;
                    let sentence = format!("{unanswered} chats are unanswered, {most} may be");
                    find(self, "CHAT-RES-15", sentence);
                }
            }
            "get_history" => {
                let filter = Filter::of(&session.name, &message.body["filter"]);
                // CHAT-FOL-11
                let filter = filter.filter(|_| session.has_follow);
                let line = at.line;
                session
                    .pages
                    .insert(text(&message.body["id"]), Asked { filter, line });
            }
            "follow" if session.has_follow => {
                let filter = Filter::of(&session.name, &message.body["filter"]);
                let line = at.line;
                session
                    .choice
                    .asks(number(&message.body["id"]), Asked { filter, line });
            }
            _ => {}
        }
    }

    /// A client registers, and perhaps resumes its line.
    fn register(&mut self, at: Place, body: &Value) -> Register {
        let told = self.told.clone();
        let filter = body["filter"].clone();
        let Some(resume) = body.get("resume") else {
            return Register {
                resume_seq: None,
                filter,
                told,
            };
        };
        let seq = number(&resume["seq"]);
        // Without one, the capture began later than the line.
        if let Some(line) = self.lines.get_mut(&key(&text(&body["name"]))) {
            let mut wrong = Vec::new();
            let attempt = resume["attempt"].as_u64().unwrap_or(0);
            if attempt <= line.attempt {
                let sentence = format!("the attempt {attempt} comes after {}", line.attempt);
                wrong.push(("CHAT-RES-18", sentence));
            }
            line.attempt = line.attempt.max(attempt);
            if text(&resume["epoch"]) != line.epoch {
                let sentence = "the token is from another epoch than it says".to_owned();
                wrong.push(("CHAT-RES-21", sentence));
            } else if seq > line.upto() {
                let upto = line.upto();
                let sentence = format!("it has everything up to {upto}, and says {seq}");
                wrong.push(("CHAT-RES-20", sentence));
            }
            for (rule, sentence) in wrong {
                self.report.find(rule, End::Client, at, sentence);
            }
        }
        Register {
            resume_seq: Some(seq),
            filter,
            told,
        }
    }
}
