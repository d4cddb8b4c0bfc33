//! Run plan: the target, the cases, and how they are played.

use std::time::Duration;

use crate::{
    admission::Admission,
    connection_caps::ConnectionCaps,
    control_command::ControlCommand,
    cut::Cut,
    jobs::Jobs,
    rules::Rule,
    server_under_test::{DATA, Source},
    stream::Place,
    suite::KnownFailures,
    timing::Timing,
    transcript::{Case, Side},
};

/// What a run plays, and how.
pub struct Plan {
    /// The cases.
    pub cases: Vec<Case>,
    /// The rung of each case, if those of the lowest are played first.
    pub rungs: Option<Vec<usize>>,
    /// The schema's rules.
    pub rules: Vec<Rule>,
    /// The cuts to play each case in.
    pub cuts: Vec<Cut>,
    /// How many cases at a time.
    pub jobs: Jobs,
    /// The deadlines and pauses of the suite, next to the target.
    pub timing: Timing,
    /// Whether a SHOULD that is not followed fails.
    pub strict: bool,
    /// Whether cases that wait for deadlines are left out.
    pub skip_slow: bool,
    /// The longest a case may wait on purpose.
    pub wait_max: Duration,
    /// Whether the suite alone uses the server.
    pub exclusive: bool,
    /// Where the same room is served too.
    pub also: Vec<Place>,
    /// How many connections the server takes.
    pub caps: ConnectionCaps,
    /// Its password and its list of names.
    pub admission: Admission,
    /// How its operator acts on it.
    pub control: Option<ControlCommand>,
    /// The failures that are known.
    pub known: KnownFailures,
}

/// The program under test.
#[derive(Clone)]
pub enum Target {
    /// A server.
    Server(Source),
    /// A client's command line.
    Client(String),
}

impl Target {
    /// Whether the suite gives the server a folder to keep the room in.
    pub fn keeps_data(&self) -> bool {
        matches!(self, Self::Server(Source::Command(command, _)) if command.contains(DATA))
    }

    /// Which end it is.
    pub fn side(&self) -> Side {
        match self {
            Self::Server(_) => Side::Server,
            Self::Client(_) => Side::Client,
        }
    }
}
