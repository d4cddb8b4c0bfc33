//! Server steps: probing the server, joining it, checking that it still serves,
//! saturating it, restarting and stopping it.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{Outcome, Play, STEP_DEADLINE, StepError, Subject};
use crate::{
    admission::Admission,
    conn::{Conn, Event},
    connection_caps::ConnectionCaps,
    cut::Cut,
    framing, mark,
    messages::{self, Envelope},
    problem::Problem,
    server_under_test::ServerUnderTest,
    transcript::{Saturation, expr::Limits, print, word},
    verdict::{Kind, millis},
};

/// How many Members are read until the last must have come.
const MEMBERS_FRAMES_MAX: usize = 100_000;

/// Between two tries for a name that is about to be free.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

/// How long a server that is told to end may take (CHAT-CLOSE-3).
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// The limits and capabilities of a server, as the probe found them.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The limits it announced.
    pub limits: Limits,
    /// The capabilities it grants, in lower case.
    pub granted: Vec<String>,
}

impl Facts {
    /// Of a server that has not answered, so that the cases themselves show it.
    pub fn assumed() -> Self {
        Self {
            limits: Limits::assumed(),
            granted: all_capabilities(),
        }
    }
}

/// Every capability of the schema, in lower case.
pub fn all_capabilities() -> Vec<String> {
    messages::enum_values("chat.v1.Capability")
        .iter()
        .map(|c| c.trim_start_matches("CAPABILITY_").to_ascii_lowercase())
        .filter(|c| c != "unspecified")
        .collect()
}

/// Why nothing can be judged at all.
pub enum ProbeError {
    /// No server listens there.
    Unreachable(String),
    /// The server speaks another protocol.
    OtherProtocol(String),
}

/// Registers once with all capabilities, to learn the limits and the capabilities that
/// are granted.
pub fn probe(
    target: &ServerUnderTest,
    name: &str,
    admission: &Admission,
    scale: f64,
) -> Result<Facts, ProbeError> {
    let timeout = STEP_DEADLINE.mul_f64(scale);
    let mut conn = Conn::connect(
        &target.addresses,
        timeout,
        false,
        Cut::Whole,
        Instant::now(),
    )
    .map_err(|e| ProbeError::Unreachable(e.to_string()))?;
    let name = admission.any_name().unwrap_or(name);
    let Ok(frame) = register(name, &all_capabilities(), admission) else {
        return Ok(Facts::assumed());
    };
    let _ = conn.send(&frame, 1, "register", timeout);
    match conn.next(Instant::now() + timeout) {
        Ok(Event::Message(message)) if message.kind == "registered" => {
            let facts = Facts {
                limits: Limits::from_json(&message.body["limits"]),
                granted: conn.server.granted.clone().unwrap_or_default(),
            };
            let _ = conn.send(&[2, 0x1a, 0], 1, "leave", timeout);
            let deadline = Instant::now() + timeout;
            while let Ok(Event::Message(_)) = conn.next(deadline) {}
            Ok(facts)
        }
        Err(problem) if problem.kind == Kind::Malformed && looks_like_text(&problem.bytes) => {
            Err(ProbeError::OtherProtocol(problem.received))
        }
        _ => Ok(Facts::assumed()),
    }
}

/// Whether bytes are a greeting or a complaint of a text protocol: at least its
/// first four are printable.
fn looks_like_text(bytes: &[u8]) -> bool {
    bytes.len() >= 4 && bytes[..4].iter().all(|b| (0x20..0x7f).contains(b))
}

fn register(name: &str, capabilities: &[String], admission: &Admission) -> Result<Vec<u8>, String> {
    let capabilities = capabilities
        .iter()
        .map(|c| word::capability(c))
        .collect::<Result<Vec<_>, _>>()?;
    let mut body = json!({ "name": name });
    if !capabilities.is_empty() {
        body["capabilities"] = json!(capabilities);
    }
    if let Some(password) = &admission.password {
        body["password"] = json!(password);
    }
    let envelope = messages::encode(Envelope::Client, "register", &body, &[], &[])?;
    Ok(framing::frame(&envelope))
}

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
            let timeout = self.step_deadline;
            let shown = format!("register {}", json!({ "name": name }));
            let conn = self.conn(who)?;
            conn.send(&frame, 1, &shown, timeout)?;
            conn.flush(timeout)?;
            let deadline = self.until();
            let message = match self.next(who, deadline, true)? {
                Event::Message(message) => message,
                Event::Closed => {
                    let sentence = format!("{who}'s connection was closed instead of Registered");
                    return Err(Problem::new(Kind::Closed, &[], sentence).into());
                }
                Event::Timeout => return Err(self.silent(who).into()),
            };
            let in_use = message.body["code"] == "ERROR_CODE_NAME_IN_USE";
            if patiently && in_use && Instant::now() < give_up {
                let conn = self.conns.remove(who);
                self.keep_trace(who, conn);
                thread::sleep(RETRY_PAUSE);
                continue;
            }
            if message.kind != "registered" {
                return Err(self.unexpected(who, &message).into());
            }
            return self.joined(who, &name, capabilities, &message.body);
        }
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
        let seq = registered["seq"].as_str().unwrap_or("0").to_owned();
        self.bindings.set(&format!("{who}.seq"), seq);
        let epoch = registered["epoch"].as_str().unwrap_or("").to_owned();
        self.bindings.set(&format!("{who}.epoch"), epoch);
        self.bindings.limits = Limits::from_json(&registered["limits"]);
        if !granted.iter().any(|c| c == "presence") {
            return Ok(());
        }
        let deadline = self.until();
        for frame in 0..MEMBERS_FRAMES_MAX {
            let Some(message) = self.take(who, 0, deadline, true)? else {
                return Err(Problem::new(
                    Kind::Hang,
                    &["CHAT-PRES-1"],
                    format!(
                        "{who} received no last Members within {} ms",
                        millis(self.step_deadline)
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

    pub(super) fn finds(&mut self, who: &str, names: &[String]) -> Outcome {
        let mut wanted = Vec::new();
        for name in names {
            match name.as_str() {
                "<crowd>" => wanted.extend(self.crowd_names.iter().cloned()),
                name => wanted.push(self.bindings.fill_text(name)?),
            }
        }
        let mut found = self.conn(who)?.members.0.clone();
        wanted.sort();
        found.sort();
        if wanted == found {
            return Ok(());
        }
        self.expected = format!("{who} finds {}", wanted.join(", "));
        let mut problem = Problem::new(Kind::WrongAnswer, &[], format!("Members named others"));
        problem.received = print::message("members", &json!({ "names": found }));
        Err(problem.into())
    }

    /// Two fresh members come, one hears the other, both go.
    pub(super) fn still_serves(&mut self) -> Outcome {
        let names = ["fresha", "freshb"];
        for who in names {
            let name = self.context.mark.name(who);
            self.helpers.push(name.clone());
            self.join(who, &name, &[], false)?;
        }
        self.helpers.clear();
        let envelope = messages::encode(
            Envelope::Client,
            "chat",
            &json!({"text": "still here"}),
            &[],
            &[],
        )?;
        let frame = framing::frame(&envelope);
        let timeout = self.step_deadline;
        let conn = self.conn(names[0])?;
        conn.send(&frame, 1, "chat \"still here\"", timeout)?;
        conn.flush(timeout)?;
        let deadline = self.until();
        let Some(message) = self.take(names[1], 1, deadline, true)? else {
            return Err(self.silent(names[1]).into());
        };
        if message.kind != "chat" || message.body["text"] != "still here" {
            return Err(self.unexpected(names[1], &message).into());
        }
        for who in names {
            self.helpers.push(self.context.mark.name(who));
        }
        for who in names {
            if let Some(mut conn) = self.conns.remove(who) {
                conn.send(&[2, 0x1a, 0], 1, "leave", timeout)?;
                conn.flush(timeout)?;
                let deadline = Instant::now() + timeout;
                while let Ok(Event::Message(_)) = conn.next(deadline) {}
                self.keep_trace(who, Some(conn));
            }
        }
        Ok(())
    }

    /// Opens connections until the server is at one of its limits on them.
    pub(super) fn saturate(&mut self, saturation: Saturation) -> Outcome {
        let max = self.context.caps.get(saturation);
        let max = max.ok_or_else(|| StepError::NotRun(ConnectionCaps::unknown(saturation)))?;
        match saturation {
            Saturation::Server | Saturation::Address => self.fill(max),
            // Those that are closed again count as well.
            Saturation::AddressRate => (0..max).try_for_each(|_| self.dial(false).map(drop)),
        }
    }

    /// Registers members until there are so many connections.
    fn fill(&mut self, max: usize) -> Outcome {
        for i in self.conns.len()..max {
            let mut conn = self.dial(false)?;
            let frame = register(
                &self.context.mark.name(&format!("crowd{i}")),
                &[],
                self.context.admission,
            )?;
            conn.send(&frame, 1, "register", self.step_deadline)?;
            conn.flush(self.step_deadline)?;
            match conn.next(self.until())? {
                Event::Message(m) if m.kind == "registered" => self.crowd.push(conn),
                _ => {
                    let sentence = format!("the server took {i} connections and not {max}");
                    return Err(Problem::new(Kind::Refusal, &[], sentence).into());
                }
            }
        }
        Ok(())
    }

    /// Registers many members with the longest names.
    pub(super) fn crowd(&mut self, count: u64) -> Outcome {
        for i in 0..count {
            let name = mark::stretched(&self.context.mark.name(&format!("crowd{i}")), 32);
            let mut conn = self.dial(false)?;
            let frame = register(&name, &[], self.context.admission)?;
            conn.send(&frame, 1, "register", self.step_deadline)?;
            conn.flush(self.step_deadline)?;
            match conn.next(self.until())? {
                Event::Message(m) if m.kind == "registered" => self.crowd.push(conn),
                Event::Message(m) if m.body["code"] == "ERROR_CODE_SERVER_FULL" => {
                    return Err(StepError::NotRun(format!(
                        "it needs {count} members and the server takes fewer; announce a smaller frame_bytes_max"
                    )));
                }
                _ => {
                    let sentence = "a member of the crowd was not registered";
                    return Err(Problem::new(Kind::Refusal, &[], sentence).into());
                }
            }
            self.crowd_names.push(name);
        }
        Ok(())
    }

    /// Ends the server and starts it anew.
    pub(super) fn restart(&mut self) -> Outcome {
        self.conns.clear();
        let scale = self.context.scale;
        match &mut self.subject {
            Subject::Server(target) => Ok(target.restart(scale)?),
            Subject::Client(_) => Err(StepError::Fault(
                "a client case has no server to start".to_owned(),
            )),
        }
    }

    pub(super) fn stop_server(&mut self) -> Outcome {
        match &mut self.subject {
            Subject::Server(ServerUnderTest {
                process: Some(process),
                ..
            }) => {
                process.terminate();
                Ok(())
            }
            _ => Err(StepError::NotRun(
                "the suite can stop only a server that it started with --cmd".to_owned(),
            )),
        }
    }

    pub(super) fn server_ends(&mut self) -> Outcome {
        let deadline = Instant::now() + SHUTDOWN_DEADLINE.mul_f64(self.context.scale.max(1.0));
        self.deadline += SHUTDOWN_DEADLINE;
        let Subject::Server(ServerUnderTest {
            process: Some(process),
            ..
        }) = &mut self.subject
        else {
            return Err(StepError::NotRun(
                "the suite can watch only a server that it started with --cmd".to_owned(),
            ));
        };
        match process.wait(deadline) {
            Some(_) => Ok(()),
            None => Err(Problem::new(
                Kind::Hang,
                &[],
                "the server has not ended within 5 seconds of being told to",
            )
            .into()),
        }
    }
}
