//! Terminal report: a line for each case, then each failure in full.

use std::fmt::Write;

use super::Report;
use crate::{
    applicable::NOT_GRANTED,
    register::all_capabilities,
    rules::Rule,
    verdict::{Failure, Outcome, Verdict},
};

/// With more failures than this, a beginner needs the ladder.
const MANY_FAILURES: usize = 10;

/// How many common causes are named.
const CAUSES_MAX: usize = 3;

/// One case in one line.
pub fn line(outcome: &Outcome) -> String {
    let tail = match &outcome.verdict {
        Verdict::NotRun { reason, .. }
        | Verdict::KnownFailure { reason }
        | Verdict::UnexpectedPass { reason } => {
            format!("  ({reason})")
        }
        _ => String::new(),
    };
    format!(
        "{:<15} {:<42} {}{tail}",
        outcome.verdict.word(),
        outcome.case,
        outcome.title
    )
}

/// One failure in full: rule, sentence, step, expected, received, time, traffic.
pub fn failure(outcome: &Outcome, failure: &Failure, rules: &[Rule]) -> String {
    let mut out = String::new();
    let word = outcome.verdict.word();
    let _ = writeln!(
        out,
        "{word} {}: {}: {}",
        outcome.case,
        failure.kind.words(),
        failure.sentence
    );
    for id in &failure.rules {
        let sentence = rules
            .iter()
            .find(|r| r.id == *id)
            .map_or("", |r| r.sentence.as_str());
        let _ = writeln!(out, "  rule      {id}: {sentence}");
    }
    let _ = writeln!(out, "  step      line {}: {}", failure.line, failure.step);
    let _ = writeln!(out, "  expected  {}", failure.expected);
    let _ = writeln!(out, "  received  {}", failure.received);
    if !failure.received_bytes.is_empty() {
        let _ = writeln!(out, "  bytes     {}", failure.received_bytes);
    }
    let _ = writeln!(
        out,
        "  when      {} ms after the case began, bytes cut: {}",
        failure.elapsed_ms, failure.cut
    );
    for line in failure.diff.lines().skip(2) {
        let _ = writeln!(out, "  | {line}");
    }
    for line in &failure.trace {
        let _ = writeln!(out, "  > {line}");
    }
    out
}

/// The summary: the rules that are not kept, the common causes, and the counts.
pub fn summary(report: &Report) -> String {
    let mut out = String::new();
    for line in &report.rules {
        use super::RuleVerdict::*;
        if matches!(line.verdict, Broken | NotFollowed | Unproven) {
            let _ = writeln!(
                out,
                "{:<13} {}: {}",
                line.verdict.words(),
                line.rule.id,
                line.rule.sentence
            );
        }
    }
    causes(report, &mut out);
    let _ = writeln!(out, "{}", last_line(report));
    out
}

/// What most failures have in common, and which to mend first.
fn causes(report: &Report, out: &mut String) {
    let Some(first) = report.causes.first() else {
        return;
    };
    let failures = report.counts.failed;
    for cause in report
        .causes
        .iter()
        .filter(|c| c.failures > 1)
        .take(CAUSES_MAX)
    {
        let _ = writeln!(
            out,
            "{} of {failures} failures begin with: {}",
            cause.failures, cause.cause
        );
    }
    let rule = report.rules.iter().find(|line| line.rule.id == first.rule);
    let sentence = rule.map_or("", |line| line.rule.sentence.as_str());
    let _ = writeln!(
        out,
        "mend first: {}: {sentence} (--case {})",
        first.rule, first.case
    );
    if failures > MANY_FAILURES {
        out.push_str("all of it on one screen, with what to do: --ladder\n");
    }
}

/// The verdict in one line.
pub fn last_line(report: &Report) -> String {
    let counts = &report.counts;
    let mut line = format!(
        "{}: {} cases, {} passed",
        report.result, counts.selected, counts.passed
    );
    for (n, word) in [
        (counts.failed, "failed"),
        (counts.warned, "warned"),
        (counts.declined, "declined"),
        (counts.known_failures, "known failures"),
        (
            counts.unexpected_passes,
            "listed as known failures but passed",
        ),
        (counts.not_run, "not run"),
    ] {
        if n > 0 {
            let _ = write!(line, ", {n} {word}");
        }
    }
    let _ = write!(
        line,
        " in {}.{} s",
        report.elapsed_ms / 1000,
        report.elapsed_ms % 1000 / 100
    );
    if let Some(sentence) = &report.interrupted {
        let _ = write!(line, "; {sentence}");
    }
    if let Some(sentence) = not_granted(report) {
        let _ = write!(line, "; {sentence}");
    }
    line
}

/// Which capabilities the server does not grant, if cases were not run for that: a server
/// without them must not seem to have passed everything.
fn not_granted(report: &Report) -> Option<String> {
    let is_for_that = |outcome: &&Outcome| matches!(&outcome.verdict, Verdict::NotRun { reason, .. } if reason.starts_with(NOT_GRANTED));
    let cases = report.cases.iter().filter(is_for_that).count();
    let missing: Vec<String> = all_capabilities()
        .into_iter()
        .filter(|capability| !report.granted.contains(capability))
        .collect();
    if cases == 0 || missing.is_empty() {
        return None;
    }
    let which = match report.granted.is_empty() {
        true => "no capability".to_owned(),
        false => format!("not {}", missing.join(", not ")),
    };
    Some(format!(
        "the server grants {which}, so {cases} cases about that were not run"
    ))
}
