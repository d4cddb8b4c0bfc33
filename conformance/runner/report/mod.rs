//! Reports: the results of a run, rendered in several formats.

pub mod causes;
pub mod html;
pub mod junit;
pub mod ladder;
pub mod markdown;
pub mod text;

use std::path::Path;

use causes::Cause;
use ladder::Ladder;
use serde::Serialize;

use crate::{
    exit::Exit,
    interrupt::Interrupted,
    plan::Plan,
    rules::{Level, Rule, Subject},
    run::Run,
    suite::Suite,
    transcript::Side,
    verdict::{Kind, Outcome, Verdict},
};

/// The version of the JSON report; it grows when a field changes its meaning.
const FORMAT: u32 = 1;

/// The verdict on a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RuleVerdict {
    /// Cases prove it, and all of them passed.
    Kept,
    /// A case shows that it is broken.
    Broken,
    /// A SHOULD that is not followed.
    NotFollowed,
    /// A MAY that was not made use of.
    NotUsed,
    /// Its cases failed for another rule, so that nothing is known.
    Unproven,
    /// Its cases were not run.
    NotRun,
    /// No case shows it.
    NoCase,
}

impl RuleVerdict {
    /// In words, for people.
    pub fn words(self) -> &'static str {
        match self {
            RuleVerdict::Kept => "kept",
            RuleVerdict::Broken => "broken",
            RuleVerdict::NotFollowed => "not followed",
            RuleVerdict::NotUsed => "not used",
            RuleVerdict::Unproven => "unproven",
            RuleVerdict::NotRun => "not run",
            RuleVerdict::NoCase => "no case",
        }
    }
}

/// A rule and its verdict.
#[derive(Clone, Debug, Serialize)]
pub struct RuleLine {
    /// The rule.
    #[serde(flatten)]
    pub rule: Rule,
    /// The verdict.
    pub verdict: RuleVerdict,
    /// The cases that prove it.
    pub cases: Vec<String>,
    /// Why no case shows it, where that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// How many cases have which verdict.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counts {
    /// Cases selected.
    pub selected: usize,
    /// As the rules ask.
    pub passed: usize,
    /// A MUST is broken.
    pub failed: usize,
    /// A SHOULD is not followed.
    pub warned: usize,
    /// A MAY was not made use of.
    pub declined: usize,
    /// Broken, and known.
    pub known_failures: usize,
    /// Listed as known failures, and passed.
    pub unexpected_passes: usize,
    /// Not judged.
    pub not_run: usize,
}

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The version of this form.
    pub format: u32,
    /// "server" or "client".
    pub side: &'static str,
    /// The address or the command.
    pub target: String,
    /// "conforms", "violates", "incomplete" or "fault".
    pub result: &'static str,
    /// The exit code.
    pub exit_code: u8,
    /// Why it ended before its time, if it did: "interrupted by SIGINT".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<String>,
    /// How long it took.
    pub elapsed_ms: u64,
    /// The capabilities that the server grants.
    pub granted: Vec<String>,
    /// The counts.
    pub counts: Counts,
    /// The causes of the failures, the most frequent first.
    pub causes: Vec<Cause>,
    /// The score, rung by rung.
    pub ladder: Ladder,
    /// The cases, in the order of their ids.
    pub cases: Vec<Outcome>,
    /// The rules, in the order of the schema.
    pub rules: Vec<RuleLine>,
}

impl Report {
    /// Makes the report of a run.
    pub fn new(
        plan: &Plan,
        suite: &Suite,
        side: Side,
        target: &str,
        run: Run,
        elapsed_ms: u64,
    ) -> Self {
        let outcomes = run.outcomes;
        let counts = count(&outcomes);
        let exit = match run.interrupted {
            None => exit_of(&outcomes, &counts),
            Some(_) => Exit::Incomplete,
        };
        Self {
            format: FORMAT,
            side: match side {
                Side::Server => "server",
                Side::Client => "client",
            },
            target: target.to_owned(),
            result: match exit {
                Exit::Conforms => "conforms",
                Exit::Violates => "violates",
                Exit::Fault => "fault",
                Exit::Usage | Exit::Incomplete => "incomplete",
            },
            exit_code: exit as u8,
            interrupted: run.interrupted.map(Interrupted::sentence),
            elapsed_ms,
            granted: if side == Side::Server {
                run.facts.granted
            } else {
                Vec::new()
            },
            counts,
            causes: causes::causes(&outcomes, &plan.rules),
            ladder: Ladder::new(plan, suite, side, &outcomes),
            rules: rule_lines(&plan.rules, suite, side, &outcomes),
            cases: outcomes,
        }
    }

    /// How the runner ends.
    pub fn exit(&self) -> Exit {
        match self.result {
            "conforms" => Exit::Conforms,
            "violates" => Exit::Violates,
            "fault" => Exit::Fault,
            _ => Exit::Incomplete,
        }
    }

    /// Writes one of the forms to a file.
    pub fn write(&self, path: &Path, form: impl Fn(&Self) -> String) -> Result<(), String> {
        chat::files::write_or_print(path, &form(self))
    }

    /// The form for programs.
    pub fn json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).unwrap_or_default();
        json.push('\n');
        json
    }
}

fn count(outcomes: &[Outcome]) -> Counts {
    let mut counts = Counts {
        selected: outcomes.len(),
        ..Counts::default()
    };
    for outcome in outcomes {
        *match outcome.verdict {
            Verdict::Passed => &mut counts.passed,
            Verdict::Failed => &mut counts.failed,
            Verdict::Warned => &mut counts.warned,
            Verdict::Declined => &mut counts.declined,
            Verdict::KnownFailure { .. } => &mut counts.known_failures,
            Verdict::UnexpectedPass { .. } => &mut counts.unexpected_passes,
            Verdict::NotRun { .. } => &mut counts.not_run,
        } += 1;
    }
    counts
}

fn exit_of(outcomes: &[Outcome], counts: &Counts) -> Exit {
    let is_fault = |o: &Outcome| o.failure.as_ref().is_some_and(|f| f.kind == Kind::Fault);
    if outcomes.iter().any(is_fault) {
        Exit::Fault
    } else if outcomes.iter().any(|o| o.verdict.is_violation()) {
        Exit::Violates
    } else if counts.not_run == counts.selected
        || outcomes.iter().any(|o| {
            matches!(
                o.verdict,
                Verdict::NotRun {
                    incomplete: true,
                    ..
                }
            )
        })
    {
        Exit::Incomplete
    } else {
        Exit::Conforms
    }
}

fn rule_lines(rules: &[Rule], suite: &Suite, side: Side, outcomes: &[Outcome]) -> Vec<RuleLine> {
    let other = match side {
        Side::Server => Subject::Client,
        Side::Client => Subject::Server,
    };
    rules
        .iter()
        .filter(|rule| rule.subject != other)
        .map(|rule| RuleLine {
            rule: rule.clone(),
            verdict: rule_verdict(rule, outcomes),
            cases: outcomes
                .iter()
                .filter(|o| o.rules.contains(&rule.id))
                .map(|o| o.case.clone())
                .collect(),
            reason: suite
                .uncovered
                .iter()
                .find(|(id, _)| *id == rule.id)
                .map(|(_, reason)| reason.clone()),
        })
        .collect()
}

fn rule_verdict(rule: &Rule, outcomes: &[Outcome]) -> RuleVerdict {
    let mut failures = outcomes.iter().flat_map(Outcome::failures);
    let blamed = failures.any(|failure| failure.rules.contains(&rule.id));
    if blamed {
        return match rule.level {
            Level::Must => RuleVerdict::Broken,
            Level::Should => RuleVerdict::NotFollowed,
            Level::May => RuleVerdict::NotUsed,
        };
    }
    let mut verdict = RuleVerdict::NoCase;
    for outcome in outcomes.iter().filter(|o| o.rules.contains(&rule.id)) {
        verdict = match (&outcome.verdict, verdict) {
            (Verdict::Passed | Verdict::UnexpectedPass { .. }, _) => return RuleVerdict::Kept,
            // It failed on another rule, and went on.
            (Verdict::Warned | Verdict::Declined, _) if outcome.is_whole => {
                return RuleVerdict::Kept;
            }
            (Verdict::NotRun { .. }, RuleVerdict::NoCase | RuleVerdict::NotRun) => {
                RuleVerdict::NotRun
            }
            (Verdict::NotRun { .. }, verdict) => verdict,
            _ => RuleVerdict::Unproven,
        };
    }
    verdict
}
