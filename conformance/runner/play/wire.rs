//! Wire steps: connecting and sending, and reading what comes on one connection.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{Outcome, Play, StepError, Subject, at_capacity, encode, no_room};
use crate::{
    conn::{Conn, Event},
    framing,
    messages::{self, Envelope},
    problem::{Problem, Received},
    server_under_test::ServerUnderTest,
    stream::Place,
    transcript::{Content, Payload, Side, print},
    verdict::Kind,
};

/// The sender of what the server itself says (CHAT-MOD-7).
const SERVER_NAME: &str = "server";

impl Play<'_> {
    pub(super) fn envelope(&self) -> Envelope {
        match self.context.case.side() {
            Side::Server => Envelope::Client,
            Side::Client => Envelope::Server,
        }
    }

    pub(super) fn connect(&mut self, who: &str, small_window: bool) -> Outcome {
        let conn = self.dial(who, small_window)?;
        let old = self.conns.insert(who.to_owned(), conn);
        self.keep_trace(who, old);
        Ok(())
    }

    /// Where a person connects: the first one of a case to the server, the others to those
    /// that serve the same room, in turn.
    fn place<'b>(&'b self, who: &str, server: &'b ServerUnderTest) -> &'b Place {
        let people = self.context.case.people();
        let others = people.iter().skip(1);
        let also = self.context.also;
        let index = match others.clone().position(|person| *person == who) {
            Some(index) => index,
            None if people.first() == Some(&who) => return &server.place,
            // A stranger: the suite sends its Register itself.
            None => others.count(),
        };
        let index = index.checked_rem(also.len());
        index.and_then(|it| also.get(it)).unwrap_or(&server.place)
    }

    pub(super) fn dial(&mut self, who: &str, small_window: bool) -> Result<Conn, StepError> {
        let Subject::Server(server) = &self.subject else {
            return Err(StepError::Fault("a client case cannot connect".to_owned()));
        };
        let (timing, cut) = (self.context.timing, self.context.cut);
        Conn::connect(
            self.place(who, server),
            timing,
            small_window,
            cut,
            self.began,
        )
        .map_err(|error| {
            let refused = error.kind() == std::io::ErrorKind::ConnectionRefused;
            let kind = if refused { Kind::Crash } else { Kind::Hang };
            Problem::new(
                kind,
                &[],
                format!("the server takes no connection: {error}"),
            )
            .into()
        })
    }

    pub(super) fn send(&mut self, who: &str, payload: &Payload) -> Outcome {
        let is_paced = matches!(
            payload,
            Payload::Frame { envelope: Content::Message { kind, .. }, .. } if kind == "chat"
        ) && !self.context.case.is_about_rate()
            && self.envelope() == Envelope::Client;
        if is_paced {
            let limits = &self.bindings.limits;
            let pace = self
                .paces
                .entry(who.to_owned())
                .or_insert_with(|| super::Pace::new(limits));
            let pause = pace.pause(limits);
            if !pause.is_zero() {
                self.flush()?;
                self.deadline += pause;
                std::thread::sleep(pause);
            }
        }
        if let Payload::Frame {
            envelope: Content::Message { kind, .. },
            ..
        } = payload
            && kind == "registered"
        {
            self.nothing_before_registered(who)?;
        }
        let (bytes, prefix) = encode(payload, self.envelope(), &self.bindings)?;
        let shown = match payload {
            Payload::Frame {
                envelope: Content::Message { kind, body, .. },
                ..
            } => {
                let mut body = self.bindings.fill(body)?;
                if kind == "register" {
                    self.bindings.add_password(&mut body);
                }
                print::message(kind, &body)
            }
            _ => "raw bytes".to_owned(),
        };
        self.conn(who)?.send(&bytes, prefix, &shown)?;
        if shown.starts_with("chat ") {
            *self.said.entry(who.to_owned()).or_default() += 1;
        }
        if is_paced && let Some(pace) = self.paces.get_mut(who) {
            pace.sent();
        }
        Ok(())
    }

    /// Checks that the client sent nothing before Registered.
    fn nothing_before_registered(&mut self, who: &str) -> Outcome {
        self.pump_what_has_come(who, self.context.timing.rest())?;
        match self.first_unasked(who) {
            None => Ok(()),
            Some(message) => {
                let sentence = "the client sent a message before Registered";
                Err(Problem::new(Kind::WrongAnswer, &["CHAT-REG-10"], sentence)
                    .showing(message)
                    .into())
            }
        }
    }

    /// Reads one message, or the close, or the deadline. Pings are answered and foreign
    /// messages dropped on the way.
    pub(super) fn next(
        &mut self,
        who: &str,
        deadline: Instant,
        answer_pings: bool,
    ) -> Result<Event, StepError> {
        loop {
            let event = self.conn(who)?.next(deadline)?;
            let Event::Message(mut message) = event else {
                return Ok(event);
            };
            if self.is_foreign(&mut message) {
                continue;
            }
            if let Some(error) = no_room(&message, self.context) {
                return Err(error);
            }
            if self.context.case.saturation().is_none()
                && let Some(error) = at_capacity(&message, &self.context.caps)
            {
                return Err(error);
            }
            if message.kind == "ping" && self.envelope() == Envelope::Client {
                if answer_pings {
                    let pong =
                        json!({"token": message.body.get("token").cloned().unwrap_or(json!("0"))});
                    let envelope = messages::encode(Envelope::Client, "pong", &pong, &[], &[])?;
                    let frame = framing::frame(&envelope);
                    let conn = self.conn(who)?;
                    conn.send(&frame, 1, &print::message("pong", &pong))?;
                    conn.flush()?;
                }
                continue;
            }
            return Ok(Event::Message(message));
        }
    }

    /// Whether a message is about members outside this case. Their names are removed from
    /// a Members.
    pub(super) fn is_foreign(&mut self, message: &mut Received) -> bool {
        let bindings = &mut self.bindings;
        let helpers = &self.helpers;
        let foreign = |bindings: &crate::pattern::Bindings, name: &str| {
            bindings.is_foreign(name) || helpers.iter().any(|h| h == name)
        };
        match message.kind.as_str() {
            "covered" => !self.context.case.is_about_coverage(),
            "joined" | "left" => message.body["name"]
                .as_str()
                .is_some_and(|name| foreign(bindings, name)),
            "members" => {
                if let Some(names) = message.body["names"].as_array_mut() {
                    names.retain(|n| !n.as_str().is_some_and(|n| foreign(bindings, n)));
                }
                false
            }
            "chat" => {
                let sender = message.body["sender"].as_str().unwrap_or("");
                let is_helper = helpers.iter().any(|h| h == sender);
                let seq = message.body["seq"]
                    .as_str()
                    .and_then(|s| s.parse::<u64>().ok());
                self.last_seq = self.last_seq.max(seq.unwrap_or(0));
                // The mark of this play stands in what its operator lets the server say.
                let marked = match sender {
                    SERVER_NAME => message.body["text"].as_str().unwrap_or(""),
                    name => name,
                };
                if is_helper || (self.context.shared && bindings.is_foreign(marked)) {
                    bindings.foreign_seqs.extend(seq);
                    return true;
                }
                false
            }
            _ => false,
        }
    }

    /// The next message of one of the streams of a connection.
    pub(super) fn take(
        &mut self,
        who: &str,
        queue: usize,
        deadline: Instant,
        answer_pings: bool,
    ) -> Result<Option<Received>, StepError> {
        loop {
            if let Some(message) = self.conn(who)?.queues[queue].pop_front() {
                return Ok(Some(message));
            }
            match self.next(who, deadline, answer_pings)? {
                Event::Message(message) => {
                    self.conn(who)?.queue(message);
                }
                Event::Closed => {
                    // A message of another stream came in its place.
                    let mut queues = self.conn(who)?.queues.iter_mut();
                    let other = queues.find_map(VecDeque::pop_front);
                    if other.is_some() {
                        return Ok(other);
                    }
                    let sentence = format!("{who}'s connection was closed instead");
                    return Err(Problem::new(Kind::Closed, &[], sentence).into());
                }
                Event::Timeout => return Ok(None),
            }
        }
    }

    /// Reads messages until none has come for so long.
    pub(super) fn pump_what_has_come(&mut self, who: &str, rest: Duration) -> Outcome {
        if self.conn(who)?.is_closed() {
            return Ok(());
        }
        let give_up = self.until();
        while let Event::Message(message) = self.next(who, Instant::now() + rest, true)? {
            if Instant::now() >= give_up {
                let sentence = format!("{who} receives messages without an end");
                return Err(Problem::new(Kind::WrongAnswer, &[], sentence)
                    .showing(&message)
                    .into());
            }
            self.conn(who)?.queue(message);
        }
        Ok(())
    }
}
