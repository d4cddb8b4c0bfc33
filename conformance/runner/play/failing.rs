//! Failure reports: turns the error of a step into a failure with its diff and trace.

use std::time::{Duration, Instant};

use super::{Play, StepError, Stop, Subject, cause::cause};
use crate::{
    blame::blame,
    framing,
    problem::{Problem, Received},
    process::Process,
    timing::{ANSWERED_WITHIN, announced, earliest},
    transcript::{Step, print},
    verdict::{Failure, Kind, millis},
};

impl<'a> Play<'a> {
    /// Why the case stopped at this step.
    pub(super) fn stopped(
        &mut self,
        step: &'a Step,
        error: StepError,
        observed: &mut Vec<String>,
    ) -> Stop {
        let problem = match error {
            StepError::NotRun(reason) => return Stop::NotRun(reason),
            StepError::Incomplete(reason) => return Stop::Incomplete(reason),
            StepError::Late(reason) => return Stop::Late(reason),
            StepError::NoRoom(reason) => return Stop::NoRoom(reason),
            StepError::Problem(problem) => match self.was_too_slow(&problem) {
                Some(reason) => return Stop::Late(reason),
                None => problem,
            },
            StepError::Fault(sentence) => Problem::new(Kind::Fault, &[], sentence),
        };
        let mut problem = self.death_of_target(problem);
        if problem.is_silence
            && let Some(took) = self.context.answer_time.lately()
        {
            return Stop::Late(format!(
                "{}, and other answers took up to {} ms; raise --timeout-scale",
                problem.sentence,
                millis(took)
            ));
        }
        let step = self.failing.unwrap_or(step);
        let cause = cause(&step.action, &problem);
        let expected = std::mem::take(&mut self.expected);
        let who = self.who.clone();
        if problem.received.is_empty() {
            observed.push(format!("# {}", problem.sentence));
            problem.received = match problem.kind {
                Kind::Hang => "nothing".to_owned(),
                Kind::Closed => "the connection was closed".to_owned(),
                Kind::Crash => "the end of the target".to_owned(),
                _ => String::new(),
            };
        } else {
            observed.push(format!("{who} receives {}", problem.received));
        }
        let mut rules = blame(self.context.case, step, &problem);
        rules.retain(|id| self.context.binds(id));
        if rules.is_empty() {
            rules.clone_from(&self.context.case.rules);
        }
        let mut trace = self.extra_trace.clone();
        for (who, conn) in &self.conns {
            trace.extend(conn.trace.lines(who));
        }
        let wanted = print::steps(&self.context.case.steps);
        Stop::Failed(Box::new(Failure {
            kind: problem.kind,
            rules,
            line: step.line,
            step: print::action(&step.action),
            cause,
            is_about_time: problem.is_about_time,
            sentence: problem.sentence,
            expected,
            received: problem.received,
            received_bytes: framing::hex(&problem.bytes),
            elapsed_ms: millis(self.began.elapsed()),
            cut: self.context.cut.name().to_owned(),
            diff: diff(&wanted, observed),
            trace,
        }))
    }

    /// Why a failure proves nothing, if the suite took so long up to this step that a
    /// deadline may have struck within which it had to send something.
    fn was_too_slow(&self, problem: &Problem) -> Option<String> {
        let depends = |limit: &str| self.context.case.depends_on(limit);
        let (limit, _) = ANSWERED_WITHIN
            .into_iter()
            .filter(|(limit, code)| depends(limit) || is_told(*code, problem.code()))
            .find(|(limit, _)| self.may_have_struck(limit))?;
        Some(format!(
            "the suite took {} ms up to line {}, too long for a {limit} of {} ms; start the server with a longer one",
            millis(self.own_time()),
            self.failing.map_or(0, |step| step.line),
            self.bindings.limits.get(limit)
        ))
    }

    /// Whether a deadline that a message tells of is due: the suite took too long.
    pub(super) fn is_due(&self, message: &Received) -> bool {
        ANSWERED_WITHIN
            .into_iter()
            .any(|(limit, code)| is_told(code, message.code()) && self.may_have_struck(limit))
    }

    fn may_have_struck(&self, limit: &str) -> bool {
        let value = announced(self.bindings.limits.get(limit));
        !value.is_zero() && self.own_time() >= earliest(value)
    }

    /// The time from the beginning of the case to that of this step, without what it waited
    /// on purpose.
    fn own_time(&self) -> Duration {
        let elapsed = self.step_began.duration_since(self.began);
        elapsed.saturating_sub(self.waited)
    }

    /// A close or a silence is a crash when the process of the target has died, unless
    /// the suite told it to end.
    fn death_of_target(&mut self, problem: Problem) -> Problem {
        let Subject::Server(target) = &mut self.subject else {
            return problem;
        };
        let process = target.process.as_ref();
        let is_told_to_end = process.is_some_and(Process::is_told_to_end);
        if is_told_to_end || !matches!(problem.kind, Kind::Closed | Kind::Hang) {
            return problem;
        }
        if let (Kind::Closed, Some(process)) = (problem.kind, &mut target.process) {
            process.wait(Instant::now() + self.context.timing.death());
        }
        match target.death() {
            Some(sentence) => Problem::new(Kind::Crash, &problem.rules, sentence),
            None => problem,
        }
    }
}

fn is_told(code: Option<&str>, told: Option<&str>) -> bool {
    code.is_some() && code == told
}

/// The differences between the transcript and the observed steps.
fn diff(wanted: &[String], observed: &[String]) -> String {
    let wanted: String = wanted.iter().map(|l| format!("{l}\n")).collect();
    let observed: String = observed.iter().map(|l| format!("{l}\n")).collect();
    similar::TextDiff::from_lines(&wanted, &observed)
        .unified_diff()
        .context_radius(2)
        .header("transcript", "observed")
        .to_string()
}
