//! Probe: registers once before the first case, to learn the limits of a server, the
//! capabilities that it grants, and how long the network takes.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::{
    admission::Admission,
    conn::{Conn, Event},
    cut::Cut,
    framing,
    keys::{self, Signed},
    messages::{self, Envelope},
    register::{all_capabilities, leave, register},
    server_under_test::ServerUnderTest,
    timing::Timing,
    transcript::{Keys, expr::Limits},
    verdict::Kind,
};

/// How many connections the probes open: one to register, two about keys.
pub const PROBE_CONNECTIONS_MAX: usize = 3;

/// How many Pings measure the round trip.
const PINGS: usize = 3;

/// A target, as the probe found it.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The limits it announced.
    pub limits: Limits,
    /// The capabilities it grants, in lower case.
    pub granted: Vec<String>,
    /// The time from a message to its answer.
    pub round_trip: Duration,
    /// What it knows of keys.
    pub keys: Keys,
}

impl Facts {
    /// Of a server that does not answer, so that the cases themselves show it, and of
    /// clients.
    pub fn assumed() -> Self {
        Self {
            limits: Limits::assumed(),
            granted: all_capabilities(),
            round_trip: Duration::ZERO,
            keys: Keys::Owning,
        }
    }
}

/// Why no case can be played.
pub enum ProbeError {
    /// No server listens there.
    Unreachable(String),
    /// The server speaks another protocol.
    OtherProtocol(String),
}

/// Registers once with all capabilities. `None` from a server that does not answer that.
pub fn probe(
    server: &ServerUnderTest,
    name: &str,
    admission: &Admission,
    timing: Timing,
) -> Result<Option<Facts>, ProbeError> {
    let began = Instant::now();
    let mut conn = Conn::connect(&server.place, timing, false, Cut::Whole, began)
        .map_err(|e| ProbeError::Unreachable(e.to_string()))?;
    let connected = Instant::now();
    let name = admission.any_name().unwrap_or(name);
    let Ok(frame) = register(name, &all_capabilities(), admission) else {
        return Ok(None);
    };
    let _ = conn.send(&frame, 1, "register");
    match conn.next(Instant::now() + timing.step()) {
        Ok(Event::Message(message)) if message.kind == "registered" => {
            let answered = connected.elapsed();
            let facts = Facts {
                limits: Limits::from_json(&message.body["limits"]),
                granted: conn.server.granted.clone().unwrap_or_default(),
                // A proxy on the way may accept at once what it passes on late. To a
                // process on this machine there is no way at all.
                round_trip: match server.process {
                    Some(_) => Duration::ZERO,
                    None => {
                        let pong = quickest_pong(&mut conn, timing.over(answered));
                        (connected - began).max(pong.unwrap_or(answered))
                    }
                },
                keys: Keys::Ignored,
            };
            if let Ok(frame) = leave() {
                let _ = conn.send(&frame, 1, "leave");
            }
            let deadline = Instant::now() + timing.over(facts.round_trip).leave();
            while let Ok(Event::Message(_)) = conn.next(deadline) {}
            Ok(Some(facts))
        }
        Err(problem) if problem.kind == Kind::Malformed && looks_like_text(&problem.bytes) => {
            Err(ProbeError::OtherProtocol(problem.received))
        }
        _ => Ok(None),
    }
}

/// The least time from a Ping to its Pong. The first answer of a connection also has the
/// time in which the server, or a proxy, gets ready for it, and each may meet a pause of a
/// machine.
fn quickest_pong(conn: &mut Conn, timing: Timing) -> Option<Duration> {
    let mut quickest: Option<Duration> = None;
    for token in 1..=PINGS {
        let body = json!({ "token": token });
        let envelope = messages::encode(Envelope::Client, "ping", &body, &[], &[]).ok()?;
        let sent = Instant::now();
        conn.send(&framing::frame(&envelope), 1, "ping").ok()?;
        let deadline = sent + timing.step();
        loop {
            match conn.next(deadline) {
                Ok(Event::Message(message)) if message.kind == "pong" => break,
                // Chats and presence of others.
                Ok(Event::Message(message)) if message.kind != "error" => {}
                _ => return quickest,
            }
        }
        let took = sent.elapsed();
        quickest = Some(quickest.map_or(took, |it| it.min(took)));
    }
    quickest
}

/// Learns what the server knows of keys: registers with one, and then without it under the
/// same name. On a list of names, a name must not get an owner by this.
pub fn probe_keys(
    server: &ServerUnderTest,
    name: &str,
    admission: &Admission,
    timing: Timing,
) -> Keys {
    if admission.any_name().is_some() {
        return Keys::Ignored;
    }
    let open = || Conn::connect(&server.place, timing, false, Cut::Whole, Instant::now()).ok();
    let next = |conn: &mut Conn| match conn.next(Instant::now() + timing.step()) {
        Ok(Event::Message(message)) => Some(message),
        _ => None,
    };
    let send = |conn: &mut Conn, kind: &str, body: serde_json::Value| {
        let envelope = messages::encode(Envelope::Client, kind, &body, &[], &[]).ok()?;
        conn.send(&framing::frame(&envelope), 1, kind).ok()
    };
    let mut body = json!({ "name": name });
    if let Some(password) = &admission.password {
        body["password"] = json!(password);
    }
    let mut asks_for_proof = || {
        let mut conn = open()?;
        body["key"] = json!(keys::public(name).ok()?);
        send(&mut conn, "register", body.clone())?;
        let challenge = next(&mut conn)?;
        if challenge.kind != "challenge" {
            return None;
        }
        let text = |field: &str| {
            challenge.body[field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        let (nonce, epoch) = (text("nonce"), text("epoch"));
        let signed = Signed {
            nonce: &nonce,
            epoch: &epoch,
            name,
        };
        let signature = keys::proof(name, &signed).ok()?;
        send(&mut conn, "proof", json!({ "signature": signature }))?;
        // While it is a member, the name is in use at least.
        let registered = next(&mut conn)?;
        let _ = send(&mut conn, "leave", json!({}));
        let deadline = Instant::now() + timing.leave();
        while let Ok(Event::Message(_)) = conn.next(deadline) {}
        Some(registered.kind == "registered")
    };
    match asks_for_proof() {
        None => Keys::Ignored,
        // The cases show what is wrong.
        Some(false) => Keys::Owning,
        Some(true) => {
            let is_owned = || {
                let mut conn = open()?;
                let frame = register(name, &[], admission).ok()?;
                conn.send(&frame, 1, "register").ok()?;
                // It belongs to nobody else, whatever the server calls that.
                Some(next(&mut conn)?.kind == "error")
            };
            match is_owned() {
                Some(true) => Keys::Owning,
                _ => Keys::Known,
            }
        }
    }
}

/// Whether bytes are a greeting or a complaint of a text protocol: at least its
/// first four are printable.
fn looks_like_text(bytes: &[u8]) -> bool {
    bytes.len() >= 4 && bytes[..4].iter().all(|b| (0x20..0x7f).contains(b))
}
