//! Verdicts: the outcome of a case, and the description of a failure.

use std::time::Duration;

use serde::Serialize;

use crate::transcript::Case;

/// The kind of a failure. Each has causes of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A message came that the rules do not allow here.
    WrongAnswer,
    /// An Error came where the rules ask for something else.
    Refusal,
    /// The connection was closed in place of an answer.
    Closed,
    /// Nothing came within the deadline.
    Hang,
    /// Bytes came that are no frame or no envelope.
    Malformed,
    /// The process of the target ended by itself, or nothing listens any more.
    Crash,
    /// The suite itself is at fault.
    Fault,
}

impl Kind {
    /// Whether the target is wrong whatever rule the step is about.
    pub fn is_certain(self) -> bool {
        matches!(self, Kind::Crash | Kind::Malformed | Kind::Fault)
    }

    /// In a word or two, for people.
    pub fn words(self) -> &'static str {
        match self {
            Kind::WrongAnswer => "wrong answer",
            Kind::Refusal => "refusal",
            Kind::Closed => "closed",
            Kind::Hang => "hang",
            Kind::Malformed => "malformed",
            Kind::Crash => "crash",
            Kind::Fault => "fault of the suite",
        }
    }
}

/// How a case failed.
#[derive(Clone, Debug, Serialize)]
pub struct Failure {
    /// The kind.
    pub kind: Kind,
    /// The rules to blame.
    pub rules: Vec<String>,
    /// The line of the transcript.
    pub line: usize,
    /// The step, in the transcript's notation.
    pub step: String,
    /// What is wrong, in one sentence.
    pub sentence: String,
    /// What is wrong, in words that other cases with the same cause share.
    pub cause: String,
    /// What was expected.
    pub expected: String,
    /// The message that came.
    pub received: String,
    /// Its bytes in hex; empty when no message came.
    pub received_bytes: String,
    /// Since the case began.
    pub elapsed_ms: u64,
    /// In which cut of the byte stream.
    pub cut: String,
    /// Expected and observed transcript, as a diff.
    pub diff: String,
    /// Everything that went over each connection.
    pub trace: Vec<String>,
    /// Whether it is only about when something came, which a busy machine changes.
    #[serde(skip)]
    pub is_about_time: bool,
}

/// The verdict on a case.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// As the rules ask.
    Passed,
    /// A MUST is broken.
    Failed,
    /// A SHOULD is not followed.
    Warned,
    /// A MAY was not made use of, which is as right as the other.
    Declined,
    /// Broken, and listed as known.
    KnownFailure {
        /// Why, from the list.
        reason: String,
    },
    /// Listed as a known failure, and not broken.
    UnexpectedPass {
        /// Why it was listed.
        reason: String,
    },
    /// Not judged.
    NotRun {
        /// Why not.
        reason: String,
        /// Whether the run is incomplete for it: the target went away, or the run
        /// was given up. A capability that was not granted leaves a run complete.
        incomplete: bool,
    },
}

impl Verdict {
    /// One word, the same in all reports.
    pub fn word(&self) -> &'static str {
        match self {
            Verdict::Passed => "passed",
            Verdict::Failed => "failed",
            Verdict::Warned => "warned",
            Verdict::Declined => "declined",
            Verdict::KnownFailure { .. } => "known-failure",
            Verdict::UnexpectedPass { .. } => "unexpected-pass",
            Verdict::NotRun { .. } => "not-run",
        }
    }

    /// Whether the run violates the schema for it.
    pub fn is_violation(&self) -> bool {
        matches!(self, Verdict::Failed | Verdict::UnexpectedPass { .. })
    }
}

/// A case and its verdict.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// `area/case`.
    pub case: String,
    /// Its title.
    pub title: String,
    /// The rules it proves.
    pub rules: Vec<String>,
    /// The verdict.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// How long it took, all cuts together.
    pub elapsed_ms: u64,
    /// The cuts it was played in.
    pub cuts: Vec<String>,
    /// The observed steps, in the transcript's notation.
    pub observed: Vec<String>,
    /// How it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The other steps that failed: on a SHOULD or a MAY, which does not end a case.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Failure>,
    /// Whether every step was judged, in every cut.
    #[serde(skip)]
    pub is_whole: bool,
}

impl Outcome {
    /// Of a case that was not played yet.
    pub fn new(case: &Case, verdict: Verdict) -> Self {
        Self {
            case: case.id.clone(),
            title: case.title.clone(),
            rules: case.rules.clone(),
            verdict,
            elapsed_ms: 0,
            cuts: Vec::new(),
            observed: Vec::new(),
            failure: None,
            warnings: Vec::new(),
            is_whole: true,
        }
    }

    /// Everything that failed.
    pub fn failures(&self) -> impl Iterator<Item = &Failure> {
        self.failure.iter().chain(&self.warnings)
    }
}

/// Milliseconds, rounded down, as all reports count.
pub fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}
