//! Crowds: the steps that register many members at a time, or bring the server to one of
//! its limits on connections.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use super::{Outcome, Play, StepError, Subject, at_capacity};
use crate::{
    conn::{Conn, Event},
    connection_caps::ConnectionCaps,
    cut::Cut,
    mark,
    problem::Problem,
    register::register,
    transcript::Saturation,
    verdict::Kind,
};

/// How many members of a crowd register at the same time, so that each does not wait for
/// the round trips of all before it.
const REGISTERING_MAX: usize = 32;

/// The code of a server that has too little room for a crowd.
const SERVER_FULL: &str = "ERROR_CODE_SERVER_FULL";

/// The longest name.
const NAME_BYTES_MAX: usize = 32;

impl Play<'_> {
    /// Opens connections until the server is at one of its limits on them.
    pub(super) fn saturate(&mut self, saturation: Saturation) -> Outcome {
        let max = self.context.caps.get(saturation);
        let max = max.ok_or_else(|| StepError::NotRun(ConnectionCaps::unknown(saturation)))?;
        match saturation {
            Saturation::Server | Saturation::Address => {
                let names = (self.conns.len()..max).map(|i| format!("crowd{i}"));
                let names = names.map(|name| self.context.mark.name(&name)).collect();
                self.register_all(names)
            }
            // Those that are closed again count as well.
            Saturation::AddressRate => {
                (0..max).try_for_each(|_| self.dial("crowd", false).map(drop))
            }
        }
    }

    /// Registers many members with the longest names.
    pub(super) fn crowd(&mut self, count: u64) -> Outcome {
        let names: Vec<String> = (0..count)
            .map(|i| self.context.mark.name(&format!("crowd{i}")))
            .map(|name| mark::stretched(&name, NAME_BYTES_MAX))
            .collect();
        self.crowd_names.extend(names.iter().cloned());
        match self.register_all(names) {
            Err(StepError::Problem(problem)) if problem.received.contains(SERVER_FULL) => {
                Err(StepError::NotRun(format!(
                    "it needs {count} members and the server takes fewer; announce a smaller frame_bytes_max"
                )))
            }
            result => result,
        }
    }

    /// Registers these members, many at a time, and keeps their connections.
    fn register_all(&mut self, names: Vec<String>) -> Outcome {
        let Subject::Server(server) = &self.subject else {
            return Err(StepError::Fault("a client case has no crowd".to_owned()));
        };
        let place = self.context.also.first().unwrap_or(&server.place);
        let (timing, began) = (self.context.timing, self.began);
        let register_one = |name: &str| -> Result<Conn, StepError> {
            let frame = register(name, &[], self.context.admission)?;
            let mut conn =
                Conn::connect(place, timing, false, Cut::Whole, began).map_err(|error| {
                    let sentence = format!("the server takes no connection: {error}");
                    Problem::new(Kind::Hang, &[], sentence)
                })?;
            conn.send(&frame, 1, "register")?;
            match conn.next(Instant::now() + timing.step())? {
                Event::Message(message) if message.kind == "registered" => Ok(conn),
                Event::Message(message) => match at_capacity(&message, &self.context.caps) {
                    Some(error) => Err(error),
                    None => Err(Problem::new(
                        Kind::Refusal,
                        &[],
                        "a member of the crowd was not registered",
                    )
                    .showing(&message)
                    .into()),
                },
                event => {
                    let sentence = format!("a member of the crowd was not registered: {event:?}");
                    Err(Problem::new(Kind::Hang, &[], sentence).into())
                }
            }
        };
        let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        thread::scope(|scope| {
            for _ in 0..REGISTERING_MAX.min(names.len()) {
                scope.spawn(|| {
                    while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let result = register_one(name);
                        let has_failed = result.is_err();
                        if let Ok(mut done) = done.lock() {
                            done.push(result);
                        }
                        if has_failed {
                            // The others need not go on.
                            next.store(names.len(), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let done = done.into_inner().unwrap_or_default();
        let registered = done.iter().filter(|result| result.is_ok()).count();
        for result in done {
            match result {
                Ok(conn) => self.crowd.push(conn),
                Err(StepError::Problem(mut problem)) => {
                    problem.sentence = format!(
                        "{}, after {registered} of {} others",
                        problem.sentence,
                        names.len()
                    );
                    return Err(problem.into());
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
