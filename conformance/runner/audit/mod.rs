//! Audit: checks captures offline. What each connection carried must keep the rules about
//! numbers, order and resends, and all captures together must agree on every chat.

mod agreement;
mod capture_file;
mod client;
mod coverage;
mod filter;
mod finding;
mod line;
mod missing;
mod refusal;
mod session;

use std::collections::HashMap;
use std::path::PathBuf;

use chat::capture::End;
use serde_json::Value;

use crate::{
    messages::{self, Envelope},
    problem::Received,
    server_stream::ServerStream,
};
use agreement::Known;
use capture_file::What;
use coverage::Teller;
use filter::{Filter, texts};
use finding::{Place, Report};
use line::Line;
use session::{Asked, Pending, Session, number, text};

/// Audits the captures in these files.
pub fn audit(files: Vec<PathBuf>) -> Result<Report, String> {
    let mut audit = Audit {
        report: Report {
            files: files.clone(),
            ..Report::default()
        },
        ..Audit::default()
    };
    for (index, path) in files.iter().enumerate() {
        audit.begins();
        let is_cut = capture_file::read(path, |line| audit.line(index, line))?;
        if is_cut {
            let sentence = format!("{} ends within a line, which is left out", path.display());
            audit.report.notes.push(sentence);
        }
    }
    audit.begins();
    Ok(audit.end())
}

/// A page of the past.
struct Page {
    filter: Option<Filter>,
    epoch: String,
    from: u64,
    to: u64,
    numbers: Vec<u64>,
    at: Place,
}

/// A connection of the present recording.
#[derive(Default)]
struct Connection {
    stream: ServerStream,
    messages: usize,
    register: Option<Register>,
    session: Option<Session>,
    /// What follows cannot be read.
    is_lost: bool,
}

/// A Register that waits for its answer, or has it.
struct Register {
    resume_seq: Option<u64>,
    /// The filter that it asked for.
    filter: Value,
    /// The highest number of each epoch that the recording had told before.
    told: HashMap<String, u64>,
}

#[derive(Default)]
struct Audit {
    report: Report,
    chats: HashMap<(String, u64), Known>,
    sessions: Vec<Session>,
    pages: Vec<Page>,
    // Of the present recording:
    connections: HashMap<u64, Connection>,
    lines: HashMap<String, Line>,
    told: HashMap<String, u64>,
}

impl Audit {
    /// A recording begins, and the one before it is over.
    fn begins(&mut self) {
        let mut open: Vec<_> = self.connections.drain().collect();
        open.sort_by_key(|(number, _)| *number);
        let sessions = open.into_iter().filter_map(|(_, it)| it.session);
        self.sessions.extend(sessions);
        self.lines.clear();
        self.told.clear();
    }

    fn line(&mut self, file: usize, line: capture_file::Line) {
        let at = Place {
            file,
            line: line.number,
        };
        match line.what {
            What::Begins => self.begins(),
            What::Opened => {
                let connection = Connection::default();
                let before = self.connections.insert(line.connection, connection);
                self.sessions.extend(before.and_then(|it| it.session));
            }
            What::Closed => {
                let closed = self.connections.remove(&line.connection);
                self.sessions.extend(closed.and_then(|it| it.session));
            }
            What::NoFrame(by) => {
                let sentence = "bytes went over it that are no frame".to_owned();
                self.report.find("CHAT-FRAME-1", by, at, sentence);
                self.connection(line.connection).is_lost = true;
            }
            What::Frame {
                from,
                raw,
                prefix,
                is_partial,
            } => {
                let mut connection = self
                    .connections
                    .remove(&line.connection)
                    .unwrap_or_default();
                if !connection.is_lost {
                    self.frame(&mut connection, at, from, raw, prefix, is_partial);
                }
                self.connections.insert(line.connection, connection);
            }
        }
    }

    fn connection(&mut self, number: u64) -> &mut Connection {
        self.connections.entry(number).or_default()
    }

    fn frame(
        &mut self,
        connection: &mut Connection,
        at: Place,
        from: End,
        raw: Vec<u8>,
        prefix: usize,
        is_partial: bool,
    ) {
        let envelope = match from {
            End::Client => Envelope::Client,
            End::Server => Envelope::Server,
        };
        let decoded = match messages::decode(envelope, &raw[prefix..]) {
            Ok(decoded) => decoded,
            Err(error) => {
                let sentence = format!("a frame holds no envelope: {error}");
                return self.report.find("CHAT-FRAME-1", from, at, sentence);
            }
        };
        if is_partial && decoded.kind == "nothing" {
            return;
        }
        let message = Received {
            kind: decoded.kind,
            body: decoded.body,
            raw,
            index: connection.messages,
        };
        connection.messages += 1;
        match from {
            End::Client => self.client(connection, at, &message),
            End::Server => {
                if let Err(problem) = connection.stream.check(&message, prefix) {
                    let rule = problem.rules.first().copied().unwrap_or("CHAT-FRAME-1");
                    self.report.find(rule, from, at, problem.sentence);
                }
                self.server(connection, at, &message);
            }
        }
    }

    fn server(&mut self, connection: &mut Connection, at: Place, message: &Received) {
        if message.kind == "registered" && connection.session.is_none() {
            let register = connection.register.as_ref();
            let resume_seq = register.and_then(|it| it.resume_seq);
            let filter = register.map(|it| &it.filter);
            let session = Session::new(at, &message.body, resume_seq, filter);
            let told = register.and_then(|it| it.told.get(&session.epoch)).copied();
            self.registered(&session, resume_seq, told.unwrap_or(0));
            connection.session = Some(session);
            return;
        }
        let Some(session) = &mut connection.session else {
            return;
        };
        match message.kind.as_str() {
            "chat" => self.chat(session, at, &message.body),
            "receipt" => self.receipt(session, at, &message.body),
            "covered" => self.covered(session, at, &message.body),
            "following" => self.following(session, at, &message.body),
            "error" => self.error(session, at, message),
            "history" => self.page(session, at, &message.body),
            _ => {}
        }
    }

    fn registered(&mut self, session: &Session, resume_seq: Option<u64>, told: u64) {
        let at = session.at;
        if session.registered_seq < told {
            let sentence = format!(
                "Registered says that {} chats were accepted, and {told} had been told before",
                session.registered_seq
            );
            self.report.find("CHAT-ORD-6", End::Server, at, sentence);
        }
        if let Some(seq) = resume_seq.filter(|_| session.is_resumed)
            && session.from <= seq
        {
            let sentence = format!(
                "the session is resumed from {}, which its client has: it has {seq}",
                session.from
            );
            self.report.find("CHAT-RES-8", End::Server, at, sentence);
        }
        let key = key(&session.name);
        let line = match session.is_resumed {
            true => self.lines.entry(key).or_insert_with(|| Line::new(0)),
            false => {
                self.lines
                    .insert(key.clone(), Line::new(session.registered_seq));
                self.lines.entry(key).or_default()
            }
        };
        if session.is_resumed {
            line.resumed(session.from);
        }
        if session.has_resume {
            line.epoch.clone_from(&session.epoch);
        }
    }

    fn chat(&mut self, session: &mut Session, at: Place, body: &Value) {
        let seq = number(&body["seq"]);
        let wrong = if session.chats.contains_key(&seq) {
            Some(("CHAT-ORD-2", format!("the chat {seq} comes twice")))
        } else if session.own.contains_key(&seq) && seq > session.registered_seq {
            let sentence = format!("the chat {seq} comes back to the session that sent it");
            Some(("CHAT-CHAT-2", sentence))
        } else if seq < session.last {
            let sentence = format!("the chat {seq} comes after {}", session.last);
            Some(("CHAT-ORD-2", sentence))
        } else if seq < session.from {
            let sentence = format!(
                "the chat {seq} comes, and the session begins with {}",
                session.from
            );
            let rule = match session.is_resumed {
                true => "CHAT-RES-9",
                false => "CHAT-ORD-5",
            };
            Some((rule, sentence))
        } else {
            None
        };
        if let Some((rule, sentence)) = wrong {
            self.report.find(rule, End::Server, at, sentence);
        }
        self.check_place(session, at, seq);
        session.last = session.last.max(seq);
        session.chats.insert(seq, at.line);
        session.chats_came += 1;
        session.choice.tell(Teller::Chat, seq, at.line);
        self.told(session, seq);
        self.reached(session, seq);
        let known = Known {
            topic: text(&body["topic"]),
            mentions: texts(&body["mentions"]),
            sender: text(&body["sender"]),
            text: text(&body["text"]),
            time: text(&body["timeUnixMs"]),
            body: Some(body.clone()),
            at,
        };
        self.know(&session.epoch, seq, known);
    }

    fn receipt(&mut self, session: &mut Session, at: Place, body: &Value) {
        let (id, seq) = (number(&body["id"]), number(&body["seq"]));
        let is_numbered = seq > 0;
        let Some(sent) = self.answer(session, at, id, is_numbered.then_some(seq)) else {
            return;
        };
        if sent.is_direct != (seq == 0) {
            let sentence = match sent.is_direct {
                true => format!("the direct {id} has a number: {seq}"),
                false => format!("the chat {id} is accepted without a number"),
            };
            let rule = match sent.is_direct {
                true => "CHAT-DM-7",
                false => "CHAT-RCPT-1",
            };
            self.report.find(rule, End::Server, at, sentence);
        }
        if !is_numbered {
            return;
        }
        if session.chats.contains_key(&seq) && seq > session.registered_seq {
            let sentence = format!("the chat {seq} came back to the session that sent it");
            self.report.find("CHAT-CHAT-2", End::Server, at, sentence);
        }
        if let Some(other) = session.own.insert(seq, id)
            && other != id
        {
            let sentence = format!("the chats {other} and {id} have the same number {seq}");
            self.report.find("CHAT-ORD-1", End::Server, at, sentence);
        }
        self.told(session, seq);
        let known = Known {
            topic: sent.topic,
            mentions: sent.mentions,
            sender: session.name.clone(),
            text: sent.text,
            time: text(&body["timeUnixMs"]),
            body: None,
            at,
        };
        self.know(&session.epoch, seq, known);
    }

    /// The server answers a chat or a direct. Returns what it answers.
    fn answer(
        &mut self,
        session: &mut Session,
        at: Place,
        id: u64,
        seq: Option<u64>,
    ) -> Option<Pending> {
        let Some((sent, skipped)) = session.answer(id) else {
            let sentence = format!("no chat of this session waits for an answer to its id {id}");
            self.report.find("CHAT-RCPT-2", End::Server, at, sentence);
            return None;
        };
        if skipped > 0 {
            let sentence =
                format!("the answer to the chat {id} comes before those to {skipped} earlier ones");
            self.report.find("CHAT-RCPT-2", End::Server, at, sentence);
        }
        if session.has_resume && id != 0 {
            let line = self.lines.entry(key(&session.name)).or_default();
            if let (Some(before), Some(seq)) = (line.answered(id, seq), seq) {
                let sentence = format!("the chat {id} is accepted twice, as {before} and {seq}");
                self.report.find("CHAT-RES-11", End::Server, at, sentence);
            }
        }
        Some(sent)
    }

    fn page(&mut self, session: &mut Session, at: Place, body: &Value) {
        let (from, to) = (number(&body["from"]), number(&body["to"]));
        let mut last = 0;
        for chat in body["chats"].as_array().into_iter().flatten() {
            let seq = number(&chat["seq"]);
            if seq <= last || seq < from || seq > to {
                let sentence =
                    format!("a page from {from} to {to} has the chat {seq} behind {last}");
                self.report.find("CHAT-HIST-2", End::Server, at, sentence);
            }
            last = seq;
            let known = Known {
                topic: text(&chat["topic"]),
                mentions: texts(&chat["mentions"]),
                sender: text(&chat["sender"]),
                text: text(&chat["text"]),
                time: text(&chat["timeUnixMs"]),
                body: Some(chat.clone()),
                at,
            };
            self.know(&session.epoch, seq, known);
        }
        let asked = session.pages.remove(&text(&body["id"]));
        if let Some(Asked { filter, .. }) = asked.filter(|_| from > 0) {
            let numbers = body["chats"].as_array().into_iter().flatten();
            let numbers: Vec<u64> = numbers.map(|chat| number(&chat["seq"])).collect();
            self.pages.push(Page {
                filter,
                epoch: session.epoch.clone(),
                from,
                to,
                numbers,
                at,
            });
        }
    }

    fn told(&mut self, session: &Session, seq: u64) {
        if let Some(line) = self.lines.get_mut(&key(&session.name)) {
            line.received(seq);
        }
        let told = self.told.entry(session.epoch.clone()).or_insert(0);
        *told = (*told).max(seq);
    }
}

/// Names are equal whatever the case of their letters.
fn key(name: &str) -> String {
    name.to_ascii_lowercase()
}
