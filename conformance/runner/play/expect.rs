//! Expectations: the steps that wait for a message, or for the end of a connection.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Outcome, Play, StepError};
use crate::{
    conn::Event,
    messages::Envelope,
    problem::{Place, Problem, Received},
    timing::{ANSWERED_WITHIN, announced, earliest},
    transcript::{Arrival, Wanted},
    verdict::{Kind, millis},
};

/// The rules about the order of answers.
const ORDERING: [&str; 2] = ["CHAT-ORD-8", "CHAT-RCPT-2"];

impl Play<'_> {
    pub(super) fn receive(&mut self, who: &str, wanted: &[Wanted], arrival: &Arrival) -> Outcome {
        let kind = wanted.first().map_or("", |w| w.kind.as_str());
        let queue = self.conn(who)?.queue_of(kind);
        if wanted.iter().any(|w| w.kind == "ping") && self.envelope() == Envelope::Client {
            return self.receive_ping(who, arrival);
        }
        let (deadline, floor) = self.window(who, arrival)?;
        let waits_since = Instant::now();
        let Some(message) = self.take(who, queue, deadline, answers_pings(arrival))? else {
            return Err(self.too_late(who, arrival).into());
        };
        too_early(floor, &message)?;
        self.note_answer(arrival, waits_since.elapsed());
        let mut fields = Vec::new();
        for one in wanted {
            let mut bindings = self.bindings.clone();
            let mut body = one.body.clone();
            if self.context.shared && one.kind == "registered" {
                at_least(&mut body["seq"]);
            }
            if one.kind == message.kind && bindings.matches(&body, Some(&message.body))? {
                self.bindings = bindings;
                if one.kind == "registered" {
                    self.bind_registered(who, &message.body);
                }
                if one.kind == "challenge" {
                    self.bind_challenge(who, &message.body);
                }
                self.conn(who)?.nothing_since = None;
                return self.first_in_place(who, &message);
            }
            if one.kind == message.kind && fields.is_empty() {
                fields = self.bindings.differing(&body, &message.body);
            }
        }
        let mut problem = self.unexpected(who, &message);
        problem.fields = fields.into();
        if message.kind == "error" && kind == "error" {
            // The answer that is due, with a wrong field.
            problem.place = Place::Step;
        }
        let ordering = self.ordering_rules();
        if !ordering.is_empty() && self.comes_later(who, queue, wanted)? {
            problem.rules = ordering.into();
        }
        if wanted.iter().all(|one| one.kind != message.kind) {
            // The step may be a SHOULD, and the message that of the next step.
            self.conn(who)?.put_back(message);
        }
        Err(problem.into())
    }

    /// Notes how long an answer took that is due at once: neither the case nor the step
    /// waits for a deadline of the server.
    fn note_answer(&self, arrival: &Arrival, took: Duration) {
        let case = self.context.case;
        let may_wait = ANSWERED_WITHIN
            .into_iter()
            .any(|(limit, _)| case.depends_on(limit));
        if matches!(arrival, Arrival::Anytime) && !may_wait {
            let slow = self.context.timing.slow_answer();
            self.context.answer_time.note(took, slow);
        }
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
            Arrival::At(expr) => {
                let limit = announced(expr.value(&self.bindings.limits));
                self.deadline += limit;
                let last_sent = self.conn(who)?.last_sent;
                let deadline = last_sent + self.context.timing.latest(limit);
                // The deadline may have begun before a pause that took too long.
                let floor = last_sent + earliest(limit).saturating_sub(self.overslept);
                Ok((deadline, Some(floor)))
            }
            Arrival::ByNow => Ok((Instant::now() + self.context.timing.by_now(), None)),
            Arrival::Within(expr) => {
                let limit = announced(expr.value(&self.bindings.limits));
                let deadline = Instant::now() + self.context.timing.within(limit);
                Ok((deadline.min(self.until()), None))
            }
        }
    }

    /// Registered is the first message but for a Challenge, and the first Members the next.
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
        if message.index == place + self.conn(who)?.server.challenges {
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
            Arrival::Anytime | Arrival::After(_) => return problem,
            Arrival::ByNow => problem.sentence = format!("{who} had not received it by then"),
            Arrival::At(expr) => {
                let ms = expr.value(&self.bindings.limits);
                problem.sentence =
                    format!("{who} had not received it clearly later than the announced {ms} ms");
            }
            Arrival::Within(expr) => {
                let ms = expr.value(&self.bindings.limits);
                problem.sentence = format!("{who} did not receive it within {ms} ms");
            }
        }
        problem.about_time()
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
        let mut problem = Problem::new(kind, &[], sentence).showing(message);
        if quiet.is_some() {
            problem.place = Place::Silence;
        }
        problem
    }

    pub(super) fn closed(&mut self, who: &str, arrival: &Arrival, in_order: bool) -> Outcome {
        let (deadline, floor) = self.window(who, arrival)?;
        if let Some(message) = self.first_unasked(who) {
            return Err(self.unexpected(who, message).into());
        }
        match self.next(who, deadline, answers_pings(arrival))? {
            Event::Closed if floor.is_some_and(|floor| Instant::now() < floor) => {
                let sentence = format!("{who} was closed too early");
                let problem = Problem::new(Kind::Closed, &[], sentence);
                Err(problem.about_time().into())
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
                let mut problem = Problem::new(Kind::Hang, &[], sentence);
                problem.is_about_time = matches!(arrival, Arrival::ByNow | Arrival::At(_));
                Err(problem.into())
            }
        }
    }
}

/// Whether Pings are answered while a step waits; one that waits for a deadline of the
/// server does not.
fn answers_pings(arrival: &Arrival) -> bool {
    !matches!(arrival, Arrival::After(_) | Arrival::At(_))
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
        .about_time()
        .into()),
        _ => Ok(()),
    }
}
