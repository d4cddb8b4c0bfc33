//! Terminal report: a line for each case, then each failure in full.

use std::fmt::Write;

use super::Report;
use crate::{
    rules::Rule,
    verdict::{Failure, Outcome, Verdict},
};

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

/// The summary: counts, and the rules that are not kept.
pub fn summary(report: &Report) -> String {
    let counts = &report.counts;
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
    let _ = write!(
        out,
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
            let _ = write!(out, ", {n} {word}");
        }
    }
    let interrupted = match &report.interrupted {
        Some(sentence) => format!("; {sentence}"),
        None => String::new(),
    };
    let _ = writeln!(
        out,
        " in {}.{} s{interrupted}",
        report.elapsed_ms / 1000,
        report.elapsed_ms % 1000 / 100
    );
    out
}
