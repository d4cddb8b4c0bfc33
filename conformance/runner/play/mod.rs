//! Interpreter: plays one case once, in one cut. It executes the steps in order, bounds
//! each wait, and writes the observed steps down in the transcript's notation.

mod client;
mod crowd;
mod encode;
mod failing;
mod joining;
mod pace;
mod server;
mod together;
mod wire;

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use crate::{
    admission::Admission,
    conn::Conn,
    connection_caps::ConnectionCaps,
    cut::Cut,
    mark::Mark,
    pattern::Bindings,
    probe::Facts,
    problem::{Problem, Received},
    register::leave,
    server_under_test::ServerUnderTest,
    timing::{OTHER_CLOCK_SLACK, OWN_CLOCK_SLACK, Timing},
    transcript::{Action, Case, Side, Step, print},
    verdict::{Failure, Kind, millis},
};

use pace::Pace;

pub use client::{ClientUnderTest, try_client};
pub use encode::encode;

/// The context of one play of a case.
pub struct RunContext<'a> {
    /// The case.
    pub case: &'a Case,
    /// How bytes are cut.
    pub cut: Cut,
    /// The deadlines and pauses of the suite, over the network to the target.
    pub timing: Timing,
    /// The mark in the names of this play.
    pub mark: Mark,
    /// Whether others may be talking on the same server.
    pub shared: bool,
    /// How many connections the server takes, where the user said so.
    pub caps: ConnectionCaps,
    /// Its password and its list of names.
    pub admission: &'a Admission,
    /// The limits and capabilities of the server.
    pub facts: &'a Facts,
}

/// Why a case did not come to its end.
pub enum Stop {
    /// It failed.
    Failed(Box<Failure>),
    /// The case does not apply to this target.
    NotRun(String),
    /// The case could not be judged: the server was at its capacity, or the suite has no
    /// more time for it.
    Incomplete(String),
    /// The suite itself took too long, so that nothing is proven.
    Late(String),
}

/// The observed steps, and how the play ended.
pub struct Played {
    /// The steps that went as expected, and the message that came where one did not.
    pub observed: Vec<String>,
    /// Why it stopped, if it did not come to its end.
    pub stop: Option<Stop>,
}

impl Played {
    /// A play that did not begin.
    pub fn incomplete(reason: String) -> Self {
        Self {
            observed: Vec::new(),
            stop: Some(Stop::Incomplete(reason)),
        }
    }
}

/// Why a step did not succeed.
enum StepError {
    Problem(Problem),
    NotRun(String),
    Incomplete(String),
    Late(String),
    /// The transcript, or the suite, is at fault.
    Fault(String),
}

impl From<Problem> for StepError {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

impl From<String> for StepError {
    fn from(sentence: String) -> Self {
        Self::Fault(sentence)
    }
}

type Outcome = Result<(), StepError>;

/// The program under test.
pub enum Subject<'a> {
    /// A server.
    Server(&'a mut ServerUnderTest),
    /// A client, started anew for each case.
    Client(ClientUnderTest),
}

/// One play of one case.
struct Play<'a> {
    context: &'a RunContext<'a>,
    subject: Subject<'a>,
    bindings: Bindings,
    conns: BTreeMap<String, Conn>,
    /// Connections that a step opened and that only have to stay.
    crowd: Vec<Conn>,
    /// Their names.
    crowd_names: Vec<String>,
    /// The greatest number of a chat that anybody received.
    last_seq: u64,
    /// When each connection may send its next chats without exceeding the rate.
    paces: BTreeMap<String, Pace>,
    /// How many chats each person has sent.
    said: BTreeMap<String, u64>,
    /// Names of members that the runner itself registers.
    helpers: Vec<String>,
    began: Instant,
    /// When the suite gives the case up.
    deadline: Instant,
    expected: String,
    /// The person of the current step.
    who: String,
    extra_trace: Vec<String>,
}

/// Plays a case.
pub fn play(context: &RunContext<'_>, subject: Subject<'_>) -> Played {
    let case = context.case;
    let mut people = case.people();
    people.extend(case.names.iter().map(String::as_str));
    if case.side() == Side::Client {
        people.push("client");
    }
    let mut bindings = Bindings::new(context.mark.clone(), &people, context.facts.limits.clone())
        .shared(context.shared);
    for person in people {
        if let Some(name) = context.admission.listed(case, person) {
            bindings.set_name(person, name.to_owned());
        }
    }
    if let Some(password) = &context.admission.password {
        bindings.set_password(password);
    }
    bindings.clock_slack = match &subject {
        Subject::Server(server) if server.process.is_some() => OWN_CLOCK_SLACK,
        _ => OTHER_CLOCK_SLACK,
    };
    let began = Instant::now();
    let mut play = Play {
        context,
        subject,
        bindings,
        conns: BTreeMap::new(),
        crowd: Vec::new(),
        crowd_names: Vec::new(),
        last_seq: 0,
        paces: BTreeMap::new(),
        said: BTreeMap::new(),
        helpers: Vec::new(),
        began,
        deadline: began + context.timing.case(),
        expected: String::new(),
        who: "the suite".to_owned(),
        extra_trace: Vec::new(),
    };
    let mut observed = Vec::new();
    let mut stop = None;
    for step in &case.steps {
        let result = play.step(step);
        match result {
            Ok(()) => observed.extend(print::steps(std::slice::from_ref(step))),
            Err(error) => {
                stop = Some(play.stopped(step, error, &mut observed));
                break;
            }
        }
    }
    if stop.is_none()
        && let (Some(last), Err(error)) = (case.steps.last(), play.nothing_is_left())
    {
        stop = Some(play.stopped(last, error, &mut observed));
    }
    play.leave();
    Played { observed, stop }
}

impl Play<'_> {
    /// The deadline of a wait that begins now.
    fn until(&self) -> Instant {
        Instant::now() + self.context.timing.step()
    }

    /// Ends a case for which the suite has no more time. That proves nothing of the
    /// target, which has met the deadline of every step.
    fn in_time(&self) -> Outcome {
        if Instant::now() < self.deadline {
            return Ok(());
        }
        let ms = millis(self.deadline - self.began);
        Err(StepError::Incomplete(format!(
            "the suite has no more than {ms} ms for it; raise --timeout-scale"
        )))
    }

    fn step(&mut self, step: &Step) -> Outcome {
        if let Some(who) = step.action.who() {
            self.who = who.to_owned();
        }
        self.expected = print::action(&step.action);
        if !matches!(step.action, Action::Send { .. } | Action::Nothing { .. }) {
            self.flush()?;
        }
        self.in_time()?;
        // Messages on their way are no part of the suite's time.
        self.deadline += self.context.timing.round_trip() * 2;
        match &step.action {
            Action::Connect { who, small_window } => self.connect(who, *small_window),
            Action::Join {
                who,
                name,
                capabilities,
                patiently,
            } => self.join(who, name, capabilities, *patiently),
            Action::Send { who, payload } => self.send(who, payload),
            Action::Receive {
                who,
                wanted,
                arrival,
            } => self.receive(who, wanted, arrival),
            Action::AllMembers { who } => self.all_members(who),
            Action::Finds { who, names } => self.finds(who, names),
            Action::Nothing { who } => {
                self.conn(who)?.nothing_since = Some(step.line);
                Ok(())
            }
            Action::Closed {
                who,
                arrival,
                in_order,
            } => self.closed(who, arrival, *in_order),
            Action::HalfClose { who } => {
                self.conn(who)?.half_close();
                Ok(())
            }
            Action::Close { who } => {
                let conn = self.conns.remove(who);
                self.keep_trace(who, conn);
                Ok(())
            }
            Action::Reset { who } => {
                let conn = self.conns.remove(who);
                if let Some(mut conn) = conn {
                    conn.set_reset();
                    self.keep_trace(who, Some(conn));
                }
                Ok(())
            }
            Action::Silence(expr) => {
                let ms = expr.value(&self.bindings.limits);
                self.silence(self.context.timing.silence(ms, expr.is_limit()))
            }
            Action::Repeat { count, steps } => {
                for i in 1..=count.value(&self.bindings.limits) {
                    self.bindings.set("i", i.to_string());
                    steps.iter().try_for_each(|step| self.step(step))?;
                }
                Ok(())
            }
            Action::AnyOrder(lanes) => self.any_order(lanes),
            Action::Serves => self.still_serves(),
            Action::Restarts => self.restart(),
            Action::Crowd(count) => self.crowd(count.value(&self.bindings.limits)),
            Action::Skips { who } => self.skip(who),
            Action::CatchesUp {
                who,
                with_everything,
            } => self.catch_up(who, *with_everything),
            Action::Accounts { who, receiver } => self.account(who, receiver),
            Action::SameEnd(people) => self.same_end(people),
            Action::Stops => self.stop_server(),
            Action::Ends => self.server_ends(),
            Action::Saturate(saturation) => self.saturate(*saturation),
            Action::ClientStarts { password } => self.client_starts(password.as_deref()),
            Action::ClientJoins { capabilities } => self.client_joins(capabilities),
            Action::Types(line) => self.client_types(line),
            Action::InputEnds => self.client_input_ends(),
            Action::Prints(line) => self.client_prints(line),
            Action::NeverPrints(line) => self.client_never_prints(line),
            Action::NeverShows(text) => self.client_never_shows(text),
            Action::ClientEnds => self.client_ends(),
            Action::ClientFails => self.client_fails(),
        }
    }

    fn conn(&mut self, who: &str) -> Result<&mut Conn, StepError> {
        self.conns
            .get_mut(who)
            .ok_or_else(|| StepError::Fault(format!("{who} has no connection at this step")))
    }

    fn flush(&mut self) -> Outcome {
        for conn in self.conns.values_mut() {
            conn.flush()?;
        }
        Ok(())
    }

    /// Sleeps. A deadline of the server may have passed during a sleep that took too
    /// long.
    fn silence(&mut self, pause: Duration) -> Outcome {
        self.deadline += pause;
        let began = Instant::now();
        thread::sleep(pause);
        let elapsed = began.elapsed();
        if self.context.timing.is_overslept(pause, elapsed) {
            return Err(StepError::Late(format!(
                "this machine is too busy: a pause of {} ms took {} ms",
                millis(pause),
                millis(elapsed)
            )));
        }
        Ok(())
    }

    fn keep_trace(&mut self, who: &str, conn: Option<Conn>) {
        if let Some(conn) = conn {
            self.extra_trace.extend(conn.trace.lines(who));
            self.extra_trace
                .push(format!("{who}: (closed by the suite)"));
        }
    }

    /// Everything that came has been asked for.
    fn nothing_is_left(&mut self) -> Outcome {
        self.flush()?;
        self.expected = "nothing more".to_owned();
        let names: Vec<String> = self.conns.keys().cloned().collect();
        thread::sleep(self.context.timing.rest());
        for who in names {
            self.who.clone_from(&who);
            self.pump_what_has_come(&who, Duration::ZERO)?;
            while let Some(message) = self.first_unasked(&who) {
                // The rest of a list that is long for others' sake.
                let names = message.body["names"].as_array();
                let is_rest = message.kind == "members" && names.is_none_or(|n| n.is_empty());
                if self.context.shared && is_rest {
                    continue;
                }
                let sentence = format!("{who} received a message that no step expects");
                return Err(Problem::new(Kind::WrongAnswer, &[], sentence)
                    .showing(&message)
                    .into());
            }
        }
        Ok(())
    }

    fn first_unasked(&mut self, who: &str) -> Option<Received> {
        let conn = self.conns.get_mut(who)?;
        conn.queues.iter_mut().find_map(|queue| queue.pop_front())
    }

    /// Sends Leave, so that the names are free and the room is quiet for the next case.
    fn leave(&mut self) {
        if self.context.case.side() == Side::Client {
            return;
        }
        self.crowd.clear();
        let Ok(frame) = leave() else { return };
        let deadline = Instant::now() + self.context.timing.leave();
        let conns = std::mem::take(&mut self.conns);
        let mut leaving: Vec<Conn> = Vec::new();
        for (_, mut conn) in conns {
            if conn.server.granted.is_some() && !conn.is_closed() && !conn.server.is_ended() {
                let _ = conn.send(&frame, 1, "leave");
                let _ = conn.flush();
                leaving.push(conn);
            }
        }
        for mut conn in leaving {
            while let Ok(crate::conn::Event::Message(_)) = conn.next(deadline) {}
        }
    }
}

/// Why the case cannot be judged, if a message says that the server takes no further
/// connection of the suite. Where an option says how many it takes, the suite keeps to
/// that, and the server still counts some that have just closed: so it tries again.
fn at_capacity(message: &Received, caps: &ConnectionCaps) -> Option<StepError> {
    let code = message.body["code"].as_str()?;
    let code = code.strip_prefix("ERROR_CODE_").unwrap_or(code);
    let (cap, option) = match code {
        // Without the option, this is how a server refuses everybody.
        "SERVER_FULL" if caps.server.is_some() => (caps.server, "--connections-max"),
        "TOO_MANY_CONNECTIONS" => (caps.address, "--connections-per-address-max"),
        "CONNECTING_TOO_FAST" => (caps.minute, "--connections-per-minute-max"),
        _ => return None,
    };
    Some(match cap {
        Some(_) => StepError::Late(format!("the server said {code}, below {option}")),
        None => StepError::Incomplete(format!(
            "the server said {code}; let it take more connections from the suite's address, or give {option}"
        )),
    })
}
