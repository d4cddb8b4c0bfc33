//! Rule coverage: the rules with cases, those with a reason for having none, and
//! those that lack both.

use crate::{
    rules::{Level, Rule, Subject},
    suite::Suite,
    transcript::Side,
};

/// The coverage of all rules.
pub struct Coverage {
    /// `CHAT-REG-3   MUST    3 cases: ...`.
    pub lines: Vec<String>,
    /// The gaps and contradictions, one sentence each; empty: the coverage is complete.
    pub wrong: Vec<String>,
}

/// Compares the cases and `uncovered.txt` with the schema, both ways.
pub fn coverage(suite: &Suite, rules: &[Rule]) -> Coverage {
    let mut coverage = Coverage {
        lines: Vec::new(),
        wrong: Vec::new(),
    };
    for rule in rules {
        let reason = suite
            .uncovered
            .iter()
            .find(|(id, _)| *id == rule.id)
            .map(|(_, r)| r);
        let cases_of = |side: Side| -> Vec<&str> {
            suite
                .cases
                .iter()
                .filter(|c| c.side() == side && c.rules.contains(&rule.id))
                .map(|c| c.id.as_str())
                .collect()
        };
        let (server, client) = (cases_of(Side::Server), cases_of(Side::Client));
        let all: Vec<&str> = server.iter().chain(&client).copied().collect();
        let tail = match (all.len(), reason) {
            (0, Some(reason)) => format!("no case: {reason}"),
            (0, None) => "NO CASE AND NO REASON".to_owned(),
            (n, _) => format!(
                "{n} {}: {}",
                if n == 1 { "case" } else { "cases" },
                all.join(", ")
            ),
        };
        coverage
            .lines
            .push(format!("{:<14} {:<6} {tail}", rule.id, rule.level));
        if reason.is_some() && !all.is_empty() {
            coverage.wrong.push(format!(
                "{} has cases ({}) and stands in uncovered.txt: take it out there",
                rule.id,
                all.join(", ")
            ));
        }
        if reason.is_some() {
            continue;
        }
        if rule.level != Level::Must {
            if all.is_empty() {
                coverage.wrong.push(format!(
                    "{} ({}) has no case, and no reason in uncovered.txt",
                    rule.id, rule.level
                ));
            }
            continue;
        }
        let missing = |side: &str| {
            format!(
                "{} (MUST) has no case about the {side}, and no reason in uncovered.txt",
                rule.id
            )
        };
        // A rule for both ends needs a case for each.
        if rule.subject != Subject::Client && server.is_empty() {
            coverage.wrong.push(missing("server"));
        }
        if rule.subject != Subject::Server && client.is_empty() {
            coverage.wrong.push(missing("client"));
        }
    }
    for (id, _) in &suite.uncovered {
        if !rules.iter().any(|r| r.id == *id) {
            coverage.wrong.push(format!(
                "uncovered.txt names {id}, which the schema does not have"
            ));
        }
    }
    coverage
}
