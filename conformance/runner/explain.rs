//! The `explain` command: a rule or a case in words, with the bytes of its cases.

use std::fmt::Write;

use crate::{export, rules::Rule, suite::Suite, transcript::Case};

/// Explains a rule by its id, or a case by its path.
pub fn explain(what: &str, suite: &Suite, rules: &[Rule]) -> Result<String, String> {
    if let Some(rule) = rules.iter().find(|r| r.id.eq_ignore_ascii_case(what)) {
        return Ok(explain_rule(rule, suite));
    }
    match suite.case(what) {
        Some(case) => Ok(explain_case(case, suite, rules)),
        None => Err(format!(
            "there is neither a rule nor a case {what:?}; see chat-conformance list, or list --rules"
        )),
    }
}

fn explain_rule(rule: &Rule, suite: &Suite) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{} ({}), {}\n", rule.id, rule.level, rule.heading);
    let _ = writeln!(out, "{}\n", rule.sentence);
    if let Some(advice) = suite.advice(&rule.id) {
        let _ = writeln!(out, "What to do: {advice}\n");
    }
    if let Some((_, reason)) = suite.uncovered.iter().find(|(id, _)| *id == rule.id) {
        let _ = writeln!(out, "No case shows it: {reason}");
    }
    for case in suite.cases.iter().filter(|c| c.rules.contains(&rule.id)) {
        let _ = writeln!(out, "{}\n  {}\n  Why: {}", case.id, case.title, case.why);
        for line in export::sent(case) {
            let _ = write!(out, "  {line}");
        }
        out.push('\n');
    }
    out
}

fn explain_case(case: &Case, suite: &Suite, rules: &[Rule]) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{}\n\n{}\nWhy: {}\n", case.id, case.title, case.why);
    for id in &case.rules {
        if let Some(rule) = rules.iter().find(|r| r.id == *id) {
            let _ = writeln!(out, "{} ({}): {}", rule.id, rule.level, rule.sentence);
        }
    }
    if !case.needs.is_empty() {
        let _ = writeln!(out, "Needs the capabilities: {}", case.needs.join(", "));
    }
    if !case.lacks.is_empty() {
        let _ = writeln!(
            out,
            "Needs a server that does not grant: {}",
            case.lacks.join(", ")
        );
    }
    if case.asks_password == Some(true) {
        let _ = writeln!(out, "Needs a server that asks for a password.");
    }
    if !case.listed.is_empty() {
        let _ = writeln!(out, "Needs a server with a list of names.");
    }
    if case.is_slow() {
        let _ = writeln!(
            out,
            "Slow: it waits for a deadline that the server announced."
        );
    }
    let text = suite
        .texts
        .iter()
        .find(|(id, _)| *id == case.id)
        .map_or("", |(_, t)| t);
    let _ = writeln!(out, "\n{text}");
    let sent = export::sent(case);
    if !sent.is_empty() {
        let _ = writeln!(
            out,
            "The bytes that are sent, with names of an example:\n\n{}",
            sent.concat()
        );
    }
    out
}
