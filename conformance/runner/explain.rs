//! The `explain` command: a rule or a case in words.

use std::fmt::Write;

use crate::{rules::Rule, suite::Suite};

/// Explains a rule by its id, or a case by its path.
pub fn explain(what: &str, suite: &Suite, rules: &[Rule]) -> Result<String, String> {
    let mut out = String::new();
    if let Some(rule) = rules.iter().find(|r| r.id.eq_ignore_ascii_case(what)) {
        let _ = writeln!(out, "{} ({})\n\n{}\n", rule.id, rule.level, rule.sentence);
        let cases: Vec<_> = suite
            .cases
            .iter()
            .filter(|c| c.rules.contains(&rule.id))
            .collect();
        if let Some((_, reason)) = suite.uncovered.iter().find(|(id, _)| *id == rule.id) {
            let _ = writeln!(out, "No case shows it: {reason}");
        }
        for case in cases {
            let _ = writeln!(out, "{}\n  {}\n  Why: {}\n", case.id, case.title, case.why);
        }
        return Ok(out);
    }
    let Some(case) = suite.case(what) else {
        return Err(format!(
            "there is neither a rule nor a case {what:?}; see chat-conformance list, or list --rules"
        ));
    };
    let _ = writeln!(out, "{}\n\n{}\nWhy: {}\n", case.id, case.title, case.why);
    for id in &case.rules {
        if let Some(rule) = rules.iter().find(|r| r.id == *id) {
            let _ = writeln!(out, "{} ({}): {}", rule.id, rule.level, rule.sentence);
        }
    }
    if !case.needs.is_empty() {
        let _ = writeln!(out, "Needs the capabilities: {}", case.needs.join(", "));
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
    Ok(out)
}
