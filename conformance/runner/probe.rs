//! Probe: registers once before the first case, to learn the limits of a server, the
//! capabilities that it grants, and how long the network takes.

use std::time::{Duration, Instant};

use crate::{
    admission::Admission,
    conn::{Conn, Event},
    cut::Cut,
    register::{all_capabilities, leave, register},
    server_under_test::ServerUnderTest,
    timing::Timing,
    transcript::expr::Limits,
    verdict::Kind,
};

/// A target, as the probe found it.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The limits it announced.
    pub limits: Limits,
    /// The capabilities it grants, in lower case.
    pub granted: Vec<String>,
    /// The time from a message to its answer.
    pub round_trip: Duration,
}

impl Facts {
    /// Of a server that does not answer, so that the cases themselves show it, and of
    /// clients.
    pub fn assumed() -> Self {
        Self {
            limits: Limits::assumed(),
            granted: all_capabilities(),
            round_trip: Duration::ZERO,
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

/// Registers once with all capabilities.
pub fn probe(
    server: &ServerUnderTest,
    name: &str,
    admission: &Admission,
    timing: Timing,
) -> Result<Facts, ProbeError> {
    let began = Instant::now();
    let mut conn = Conn::connect(&server.place, timing, false, Cut::Whole, began)
        .map_err(|e| ProbeError::Unreachable(e.to_string()))?;
    let connected = Instant::now();
    let name = admission.any_name().unwrap_or(name);
    let Ok(frame) = register(name, &all_capabilities(), admission) else {
        return Ok(Facts::assumed());
    };
    let _ = conn.send(&frame, 1, "register");
    match conn.next(Instant::now() + timing.step()) {
        Ok(Event::Message(message)) if message.kind == "registered" => {
            let facts = Facts {
                limits: Limits::from_json(&message.body["limits"]),
                granted: conn.server.granted.clone().unwrap_or_default(),
                // A proxy on the way may accept at once what it passes on late. To a
                // process on this machine there is no way at all.
                round_trip: match server.process {
                    Some(_) => Duration::ZERO,
                    None => (connected - began).max(connected.elapsed()),
                },
            };
            if let Ok(frame) = leave() {
                let _ = conn.send(&frame, 1, "leave");
            }
            let deadline = Instant::now() + timing.over(facts.round_trip).leave();
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
