//! Markdown report, for pull requests and wikis.

use std::fmt::Write;

use super::{Report, RuleVerdict, text};

/// The whole report in Markdown.
pub fn markdown(report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "# chat.v1 conformance: {}\n", report.result);
    let _ = writeln!(
        out,
        "Target ({}): `{}`\n",
        report.side,
        report.target.replace('`', "'")
    );
    let _ = writeln!(out, "{}\n", text::last_line(report));
    if report.side == "server" {
        let granted = if report.granted.is_empty() {
            "none".to_owned()
        } else {
            report.granted.join(", ")
        };
        let _ = writeln!(out, "Capabilities granted: {granted}\n");
    }
    let rules: Vec<_> = report.rules.iter().map(|l| l.rule.clone()).collect();
    let failures: Vec<_> = report
        .cases
        .iter()
        .flat_map(|o| o.failures().map(move |f| (o, f)))
        .collect();
    if !failures.is_empty() {
        out.push_str("## What is not as it should be\n\n");
        for (outcome, failure) in failures {
            let _ = writeln!(out, "### {}\n\n{}\n", outcome.case, outcome.title);
            let _ = writeln!(
                out,
                "````text\n{}````\n",
                text::failure(outcome, failure, &rules)
            );
        }
    }
    out.push_str("## Rules\n\n| rule | weight | verdict | cases |\n|---|---|---|---|\n");
    for line in &report.rules {
        let mut cases = line.cases.join(", ");
        if let (RuleVerdict::NoCase, Some(reason)) = (line.verdict, &line.reason) {
            cases = format!("none: {reason}");
        }
        let _ = writeln!(
            out,
            "| {} | {} | {} | {} |",
            line.rule.id,
            line.rule.level,
            line.verdict.words(),
            cases.replace('|', "\\|")
        );
    }
    out.push_str("\n## Cases\n\n| case | verdict | shows |\n|---|---|---|\n");
    for outcome in &report.cases {
        let _ = writeln!(
            out,
            "| {} | {} | {} |",
            outcome.case,
            outcome.verdict.word(),
            outcome.title.replace('|', "\\|")
        );
    }
    out
}
