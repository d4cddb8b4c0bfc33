//! Joining: the step in which a person connects, registers and reads the answer.

use std::{thread, time::Instant};

use serde_json::json;

use super::{Outcome, Play, StepError};
use crate::{
    conn::Event,
    problem::Problem,
    register::register,
    transcript::expr::Limits,
    verdict::{Kind, millis},
};

/// How many Members are read until the last must have come.
const MEMBERS_FRAMES_MAX: usize = 100_000;

impl Play<'_> {
    pub(super) fn join(
        &mut self,
        who: &str,
        name: &str,
        capabilities: &[String],
        patiently: bool,
    ) -> Outcome {
        let name = self.bindings.fill_text(name)?;
        let frame = register(&name, capabilities, self.context.admission)?;
        let give_up = self.until();
        loop {
            if self
                .conns
                .get(who)
                .is_none_or(|c| c.is_closed() || c.server.granted.is_some())
            {
                self.connect(who, false)?;
            }
            let shown = format!("register {}", json!({ "name": name }));
            let conn = self.conn(who)?;
            conn.send(&frame, 1, &shown)?;
            conn.flush()?;
            let (sent, deadline) = (Instant::now(), self.until());
            let message = match self.next(who, deadline, true)? {
                Event::Message(message) => message,
                Event::Closed => {
                    let sentence = format!("{who}'s connection was closed instead of Registered");
                    return Err(Problem::new(Kind::Closed, &[], sentence).into());
                }
                Event::Timeout => {
                    self.note_late_registered(who, sent)?;
                    return Err(self.silent(who).into());
                }
            };
            let in_use = message.body["code"] == "ERROR_CODE_NAME_IN_USE";
            if patiently && in_use && Instant::now() < give_up {
                let conn = self.conns.remove(who);
                self.keep_trace(who, conn);
                thread::sleep(self.context.timing.retry());
                continue;
            }
            if message.kind != "registered" {
                return Err(self.unexpected(who, &message).into());
            }
            if !patiently {
                let slow = self.context.timing.slow_answer();
                self.context.answer_time.note(sent.elapsed(), slow);
            }
            return self.joined(who, &name, capabilities, &message.body);
        }
    }

    /// Notes it if Registered comes after the step has given up.
    fn note_late_registered(&mut self, who: &str, sent: Instant) -> Outcome {
        if !self.context.answer_time.may_wait_longer() {
            return Ok(());
        }
        let deadline = self.until() + self.context.timing.step();
        if let Event::Message(message) = self.next(who, deadline, true)?
            && message.kind == "registered"
        {
            let slow = self.context.timing.slow_answer();
            self.context.answer_time.note(sent.elapsed(), slow);
        }
        Ok(())
    }

    /// Binds the values of Registered, and reads the Members that follow it.
    fn joined(
        &mut self,
        who: &str,
        name: &str,
        capabilities: &[String],
        registered: &serde_json::Value,
    ) -> Outcome {
        let granted = self.conn(who)?.server.granted.clone().unwrap_or_default();
        if let Some(missing) = capabilities.iter().find(|c| !granted.contains(c)) {
            return Err(StepError::NotRun(format!(
                "the server does not grant {missing}"
            )));
        }
        self.bindings.set_name(who, name.to_owned());
        self.bind_registered(who, registered);
        self.bindings.limits = Limits::from_json(&registered["limits"]);
        if !granted.iter().any(|c| c == "presence") {
            return Ok(());
        }
        self.all_members(who)
    }

    /// Binds the values of a Registered that later steps count from or send back.
    pub(super) fn bind_registered(&mut self, who: &str, registered: &serde_json::Value) {
        for (word, field, absent) in [
            ("seq", "seq", "0"),
            ("epoch", "epoch", ""),
            ("token", "resumeToken", ""),
            ("oldest", "oldestSeq", "0"),
        ] {
            let value = registered[field].as_str().unwrap_or(absent).to_owned();
            self.bindings.set(&format!("{who}.{word}"), value);
        }
    }

    /// Binds the values of a Challenge, which the next proof signs.
    pub(super) fn bind_challenge(&mut self, who: &str, challenge: &serde_json::Value) {
        for field in ["nonce", "epoch"] {
            let value = challenge[field].as_str().unwrap_or_default().to_owned();
            self.bindings.set(&format!("{who}.{field}"), value.clone());
            self.bindings.set(field, value);
        }
    }

    /// Reads Members up to the last.
    pub(super) fn all_members(&mut self, who: &str) -> Outcome {
        for frame in 0..MEMBERS_FRAMES_MAX {
            self.in_time()?;
            let deadline = self.until();
            let Some(message) = self.take(who, 0, deadline, true)? else {
                return Err(Problem::new(
                    Kind::Hang,
                    &["CHAT-PRES-1"],
                    format!(
                        "{who} received no last Members within {} ms",
                        millis(self.context.timing.step())
                    ),
                )
                .into());
            };
            if message.kind != "members" || (frame == 0 && message.index != 1) {
                return Err(Problem::new(
                    Kind::WrongAnswer,
                    &["CHAT-PRES-1"],
                    "another message than Members came next after Registered",
                )
                .showing(&message)
                .into());
            }
            let names = message.body["names"].as_array();
            let names = names.into_iter().flatten().filter_map(|n| n.as_str());
            let more = message.body["more"] == true;
            let conn = self.conn(who)?;
            conn.members.0.extend(names.map(str::to_owned));
            if !more {
                conn.members.1 = true;
                return Ok(());
            }
        }
        Err(Problem::new(
            Kind::WrongAnswer,
            &["CHAT-PRES-1"],
            "Members did not come to an end",
        )
        .into())
    }
}
