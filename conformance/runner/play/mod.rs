//! Interpreter: plays one case once, in one cut. It executes the steps in order, bounds
//! each wait, and writes the observed steps down in the transcript's notation.

mod cause;
mod client;
mod crowd;
mod encode;
mod expect;
mod failing;
mod joining;
mod pace;
mod server;
mod steps;
mod together;
mod wire;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    admission::Admission,
    answer_time::AnswerTime,
    conn::Conn,
    connection_caps::ConnectionCaps,
    control_command::ControlCommand,
    cut::Cut,
    mark::Mark,
    pattern::Bindings,
    probe::Facts,
    problem::{Problem, Received},
    register::leave,
    rules::{self, Rule},
    server_under_test::ServerUnderTest,
    stream::Place,
    timing::{OTHER_CLOCK_SLACK, OWN_CLOCK_SLACK, Timing},
    transcript::{Case, Side, Step},
    verdict::{Failure, millis},
};

use pace::Pace;

pub use client::{ClientUnderTest, try_client};
pub use encode::encode;

/// The nonce, in base64, that a client under test is told.
pub const CLIENT_NONCE: &str = "oqOkpaanqKmqq6ytrq+wsbKztLW2t7i5uru8vb6/wME=";

/// The epoch that it is told with it.
pub const CLIENT_EPOCH: &str = "client-case";

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
    /// Whether the case is played again in a moment if the server has no room for it.
    pub is_patient: bool,
    /// Where the same room is served too.
    pub also: &'a [Place],
    /// How many connections the server takes, where the user said so.
    pub caps: ConnectionCaps,
    /// Its password and its list of names.
    pub admission: &'a Admission,
    /// How its operator acts on it.
    pub control: Option<&'a ControlCommand>,
    /// How long the target takes for its answers.
    pub answer_time: &'a AnswerTime,
    /// The limits and capabilities of the server.
    pub facts: &'a Facts,
    /// The schema's rules.
    pub rules: &'a [Rule],
}

impl RunContext<'_> {
    /// Whether a rule binds the end under test. No other is blamed.
    fn binds(&self, id: &str) -> bool {
        let other = match self.case.side() {
            Side::Server => rules::Subject::Client,
            Side::Client => rules::Subject::Server,
        };
        let rule = self.rules.iter().find(|rule| rule.id == id);
        rule.is_none_or(|rule| rule.subject != other)
    }
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
    /// The server still counts connections of the suite, or has a name, that it may let go
    /// in a moment.
    NoRoom(String),
}

impl Stop {
    /// Whether a machine that is busy with something else may be the cause.
    pub fn may_be_the_machine(&self) -> bool {
        match self {
            Self::Late(_) => true,
            Self::Failed(failure) => failure.is_about_time,
            Self::NotRun(_) | Self::Incomplete(_) | Self::NoRoom(_) => false,
        }
    }
}

/// The observed steps, and how the play ended.
pub struct Played {
    /// The steps that went as expected, and the message that came where one did not.
    pub observed: Vec<String>,
    /// The steps that failed on a SHOULD or a MAY, and did not stop the case.
    pub warnings: Vec<Failure>,
    /// Whether no step was left out after one of them.
    pub is_whole: bool,
    /// Why it stopped, if it did not come to its end.
    pub stop: Option<Stop>,
}

impl Played {
    /// A play that did not begin.
    pub fn incomplete(reason: String) -> Self {
        Self {
            observed: Vec::new(),
            warnings: Vec::new(),
            is_whole: false,
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
    NoRoom(String),
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
    /// The innermost step that failed.
    failing: Option<&'a Step>,
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
    /// How much longer than planned its pauses took.
    overslept: Duration,
    /// When the current step began.
    step_began: Instant,
    /// How long the steps took that wait on purpose.
    waited: Duration,
    /// When the suite gives the case up.
    deadline: Instant,
    expected: String,
    /// The person of the current step.
    who: String,
    extra_trace: Vec<String>,
}

/// Plays a case.
pub fn play<'a>(context: &'a RunContext<'a>, subject: Subject<'a>) -> Played {
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
    if case.side() == Side::Client {
        // What the suite's server sends in a Challenge.
        bindings.set("nonce", CLIENT_NONCE.to_owned());
        bindings.set("epoch", CLIENT_EPOCH.to_owned());
    }
    bindings.clock_slack = match &subject {
        Subject::Server(server) if server.process.is_some() => OWN_CLOCK_SLACK,
        _ => OTHER_CLOCK_SLACK,
    };
    let began = Instant::now();
    let mut play = Play {
        context,
        failing: None,
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
        overslept: Duration::ZERO,
        step_began: began,
        waited: Duration::ZERO,
        deadline: began + context.timing.case(),
        expected: String::new(),
        who: "the suite".to_owned(),
        extra_trace: Vec::new(),
    };
    let mut played = Played {
        observed: Vec::new(),
        warnings: Vec::new(),
        is_whole: true,
        stop: None,
    };
    play.all_steps(&mut played);
    play.leave();
    played
}

impl<'a> Play<'a> {
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

    fn keep_trace(&mut self, who: &str, conn: Option<Conn>) {
        if let Some(conn) = conn {
            self.extra_trace.extend(conn.trace.lines(who));
            self.extra_trace
                .push(format!("{who}: (closed by the suite)"));
        }
    }

    /// The first message that no step has taken.
    fn first_unasked(&self, who: &str) -> Option<&Received> {
        let queues = &self.conns.get(who)?.queues;
        queues.iter().find_map(|queue| queue.front())
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

/// Why the case cannot be judged now, if a message says that the server has no room for it
/// yet: it counts connections that the suite has just closed, or has the name of one. That
/// passes, so the case is played again in a moment.
fn no_room(message: &Received, context: &RunContext<'_>) -> Option<StepError> {
    let code = message.code()?;
    let passes = match code {
        "SERVER_FULL" | "TOO_MANY_CONNECTIONS" => context.case.saturation().is_none(),
        // Only names on a list are those of the plays before, too.
        "NAME_IN_USE" => {
            !context.admission.names.is_empty() && !context.case.is_about_code("NAME_IN_USE")
        }
        _ => false,
    };
    (passes && context.is_patient).then(|| StepError::NoRoom(format!("the server said {code}")))
}

/// Why the case cannot be judged, if a message says that the server takes no further
/// connection of the suite. Where an option says how many it takes, the suite keeps to
/// that, and the server still counts some that have just closed: so it tries again.
fn at_capacity(message: &Received, caps: &ConnectionCaps) -> Option<StepError> {
    let code = message.code()?;
    let (cap, option) = match code {
        // Without the option, this is how a server refuses everybody.
        "SERVER_FULL" if caps.server.is_some() => (caps.server, "--connections-max"),
        "TOO_MANY_CONNECTIONS" => (caps.address, "--connections-per-address-max"),
        "CONNECTING_TOO_FAST" => (caps.minute, "--connections-per-minute-max"),
        _ => return None,
    };
    Some(match cap {
        Some(_) => StepError::NoRoom(format!("the server said {code}, below {option}")),
        None => StepError::Incomplete(format!(
            "the server said {code}; let it take more connections from the suite's address, or give {option}"
        )),
    })
}
