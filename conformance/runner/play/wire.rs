//! Wire steps: sending, receiving and being closed on one connection.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Outcome, Play, StepError, Subject, at_capacity, encode};
use crate::{
    conn::{Conn, Event},
    framing,
    messages::{self, Envelope},
    problem::{Problem, Received},
    timing::{announced, earliest},
    transcript::{Arrival, Content, Payload, Side, Wanted, print},
    verdict::{Kind, millis},
};

/// The rules about the order of answers.
const ORDERING: [&str; 2] = ["CHAT-ORD-8", "CHAT-RCPT-2"];

impl Play<'_> {
    pub(super) fn envelope(&self) -> Envelope {
        match self.context.case.side() {
            Side::Server => Envelope::Client,
            Side::Client => Envelope::Server,
        }
    }

    pub(super) fn connect(&mut self, who: &str, small_window: bool) -> Outcome {
        let conn = self.dial(small_window)?;
        let old = self.conns.insert(who.to_owned(), conn);
        self.keep_trace(who, old);
        Ok(())
    }

    pub(super) fn dial(&mut self, small_window: bool) -> Result<Conn, StepError> {
        let Subject::Server(server) = &self.subject else {
            return Err(StepError::Fault("a client case cannot connect".to_owned()));
        };
        let (timing, cut) = (self.context.timing, self.context.cut);
        Conn::connect(&server.addresses, timing, small_window, cut, self.began).map_err(|error| {
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
                if is_helper || (self.context.shared && bindings.is_foreign(sender)) {
                    bindings.foreign_seqs.extend(seq);
                    return true;
                }
                false
            }
            _ => false,
        }
    }

    /// The next message of one of the two streams of a connection.
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
                    // A message of the other stream came in its place.
                    let other = self.conn(who)?.queues[1 - queue].pop_front();
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

    pub(super) fn receive(&mut self, who: &str, wanted: &[Wanted], arrival: &Arrival) -> Outcome {
        let kind = wanted.first().map_or("", |w| w.kind.as_str());
        let queue = self.conn(who)?.queue_of(kind);
        if wanted.iter().any(|w| w.kind == "ping") && self.envelope() == Envelope::Client {
            return self.receive_ping(who, arrival);
        }
        let (deadline, floor) = self.window(who, arrival)?;
        let Some(message) = self.take(who, queue, deadline, answers_pings(arrival))? else {
            return Err(self.too_late(who, arrival).into());
        };
        too_early(floor, &message)?;
        let mut fields = Vec::new();
        for one in wanted {
            let mut bindings = self.bindings.clone();
            let mut body = one.body.clone();
            if self.context.shared && one.kind == "registered" {
                at_least(&mut body["seq"]);
            }
            if one.kind == message.kind && bindings.matches(&body, Some(&message.body))? {
                self.bindings = bindings;
                self.conn(who)?.nothing_since = None;
                return self.first_in_place(who, &message);
            }
            if one.kind == message.kind && fields.is_empty() {
                fields = self.bindings.differing(&body, &message.body);
            }
        }
        if let Some(late) = self.is_late(who, &message) {
            return Err(late);
        }
        let mut problem = self.unexpected(who, &message);
        problem.fields = fields;
        let ordering = self.ordering_rules();
        if !ordering.is_empty() && self.comes_later(who, queue, wanted)? {
            problem.rules = ordering;
        }
        if wanted.iter().all(|one| one.kind != message.kind) {
            // The step may be a SHOULD, and the message that of the next step.
            self.conn(who)?.put_back(message);
        }
        Err(problem.into())
    }

    /// The rules about the order of answers that the case is about.
    fn ordering_rules(&self) -> Vec<&'static str> {
        let is_of_case = |rule: &&str| self.context.case.rules.iter().any(|r| r == rule);
        ORDERING.into_iter().filter(is_of_case).collect()
    }

    /// Whether a message that did not come in its place comes behind others.
    fn comes_later(
        &mut self,
        who: &str,
        queue: usize,
        wanted: &[Wanted],
    ) -> Result<bool, StepError> {
        let deadline = self.until();
        let mut others = Vec::new();
        let mut has_come = false;
        // A connection that is closed brings nothing more.
        while let Ok(Some(message)) = self.take(who, queue, deadline, true) {
            let mut bindings = self.bindings.clone();
            has_come = wanted.iter().any(|one| {
                one.kind == message.kind
                    && matches!(bindings.matches(&one.body, Some(&message.body)), Ok(true))
            });
            others.push(message);
            if has_come {
                break;
            }
        }
        for message in others.into_iter().rev() {
            self.conn(who)?.put_back(message);
        }
        Ok(has_come)
    }

    /// The server's own Ping, for the cases about it.
    fn receive_ping(&mut self, who: &str, arrival: &Arrival) -> Outcome {
        let (deadline, floor) = self.window(who, arrival)?;
        let event = loop {
            let mut event = self.conn(who)?.next(deadline)?;
            if let Event::Message(message) = &mut event
                && self.is_foreign(message)
            {
                continue;
            }
            break event;
        };
        match event {
            Event::Message(message) if message.kind == "ping" => {
                too_early(floor, &message)?;
                let token = message.body["token"].as_str().unwrap_or("0").to_owned();
                self.bindings.set("token", token);
                Ok(())
            }
            Event::Message(message) => {
                let problem = self.unexpected(who, &message);
                self.conn(who)?.put_back(message);
                Err(problem.into())
            }
            Event::Closed => {
                let sentence = format!("{who}'s connection was closed instead of a Ping");
                Err(Problem::new(Kind::Closed, &[], sentence).into())
            }
            Event::Timeout => Err(self.silent(who).into()),
        }
    }

    /// The deadline of a step, and the earliest time at which its message may come.
    fn window(
        &mut self,
        who: &str,
        arrival: &Arrival,
    ) -> Result<(Instant, Option<Instant>), StepError> {
        match arrival {
            Arrival::Anytime => Ok((self.until(), None)),
            Arrival::After(expr) => {
                let limit = announced(expr.value(&self.bindings.limits));
                self.deadline += limit;
                let last_sent = self.conn(who)?.last_sent;
                let deadline = last_sent + limit + self.context.timing.step();
                Ok((deadline, Some(last_sent + earliest(limit))))
            }
            Arrival::ByNow => Ok((Instant::now() + self.context.timing.by_now(), None)),
            Arrival::Within(expr) => {
                let limit = announced(expr.value(&self.bindings.limits));
                let deadline = Instant::now() + self.context.timing.within(limit);
                Ok((deadline.min(self.until()), None))
            }
        }
    }

    /// Registered is the first message, and the first Members the second.
    fn first_in_place(&mut self, who: &str, message: &Received) -> Outcome {
        let members_before = self.conn(who)?.members.1;
        let (place, rule) = match message.kind.as_str() {
            "registered" => (0, "CHAT-REG-3"),
            "members" if !members_before => (1, "CHAT-PRES-1"),
            _ => return Ok(()),
        };
        if message.kind == "members" {
            self.conn(who)?.members.1 = true;
        }
        if message.index == place {
            return Ok(());
        }
        let sentence = format!("{who} received {} too late", message.kind);
        Err(Problem::new(Kind::WrongAnswer, &[rule], sentence)
            .showing(message)
            .into())
    }

    /// What is wrong when nothing came in time.
    fn too_late(&self, who: &str, arrival: &Arrival) -> Problem {
        let mut problem = self.silent(who);
        match arrival {
            Arrival::Anytime | Arrival::After(_) => {}
            Arrival::ByNow => problem.sentence = format!("{who} had not received it by then"),
            Arrival::Within(expr) => {
                let ms = expr.value(&self.bindings.limits);
                problem.sentence = format!("{who} did not receive it within {ms} ms");
            }
        }
        problem
    }

    pub(super) fn silent(&self, who: &str) -> Problem {
        let ms = millis(self.context.timing.step());
        let other = self.first_unasked(who).cloned();
        let mut problem = Problem::new(
            Kind::Hang,
            &[],
            format!("{who} received nothing within {ms} ms"),
        );
        if let Some(message) = other {
            problem.sentence =
                format!("{who} did not receive it within {ms} ms, but another message");
            problem = problem.showing(&message);
            problem.kind = Kind::WrongAnswer;
        }
        problem
    }

    pub(super) fn unexpected(&self, who: &str, message: &Received) -> Problem {
        let quiet = self.conns.get(who).and_then(|c| c.nothing_since);
        let (kind, sentence) = match (message.kind.as_str(), quiet) {
            (_, Some(line)) => (
                Kind::WrongAnswer,
                format!("{who} received a message, but line {line} says that it receives nothing"),
            ),
            ("error", None) if !self.expected.contains(" receives error") => {
                let code = message.code().unwrap_or("without a code");
                (Kind::Refusal, format!("{who} was refused: {code}"))
            }
            _ => (Kind::WrongAnswer, format!("{who} received another message")),
        };
        Problem::new(kind, &[], sentence).showing(message)
    }

    pub(super) fn closed(&mut self, who: &str, arrival: &Arrival, in_order: bool) -> Outcome {
        let (deadline, floor) = self.window(who, arrival)?;
        if let Some(message) = self.first_unasked(who) {
            return Err(self.unexpected(who, message).into());
        }
        match self.next(who, deadline, answers_pings(arrival))? {
            Event::Closed if floor.is_some_and(|floor| Instant::now() < floor) => {
                let sentence = format!("{who} was closed too early");
                Err(Problem::new(Kind::Closed, &[], sentence).into())
            }
            Event::Closed if in_order && self.conn(who)?.was_reset() => {
                let sentence = format!("{who}'s connection was reset instead of closed in order");
                Err(Problem::new(Kind::Closed, &[], sentence).into())
            }
            Event::Closed => Ok(()),
            Event::Message(message) => Err(self.unexpected(who, &message).into()),
            Event::Timeout => {
                let ms = millis(self.context.timing.step());
                let mut sentence = format!("{who}'s connection was not closed within {ms} ms");
                if matches!(arrival, Arrival::ByNow) {
                    sentence = format!("{who}'s connection was not closed by then");
                }
                Err(Problem::new(Kind::Hang, &[], sentence).into())
            }
        }
    }
}

/// Whether Pings are answered while a step waits; one that waits for a deadline of the
/// server does not.
fn answers_pings(arrival: &Arrival) -> bool {
    !matches!(arrival, Arrival::After(_))
}

/// Makes `<n>` into `<n+0>`: other members may have talked since.
fn at_least(seq: &mut Value) {
    let word = seq
        .as_str()
        .and_then(|s| s.strip_prefix('<'))
        .and_then(|s| s.strip_suffix('>'));
    if let Some(word) = word.filter(|w| !matches!(*w, "any" | "maybe")) {
        *seq = format!("<{word}+0>").into();
    }
}

fn too_early(floor: Option<Instant>, message: &Received) -> Outcome {
    match floor {
        Some(floor) if Instant::now() < floor => Err(Problem::new(
            Kind::WrongAnswer,
            &[],
            "it came before the announced time had passed",
        )
        .showing(message)
        .into()),
        _ => Ok(()),
    }
}
