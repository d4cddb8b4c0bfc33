//! HTML report: one self-contained page with the rules by verdict and each failure in
//! full.

use std::fmt::Write;

use super::{Report, RuleVerdict, junit::escape, text};

/// Readable in light and dark, on a phone and on paper, without a script.
const STYLE: &str = "
:root{color-scheme:light dark;--line:#8884}
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;vertical-align:top;padding:.3rem .6rem;border-bottom:1px solid var(--line)}
pre{overflow-x:auto;padding:1rem;border:1px solid var(--line);border-radius:.4rem;font-size:.85rem}
.matrix{display:flex;flex-wrap:wrap;gap:.3rem;list-style:none;padding:0}
.matrix a{display:block;padding:.15rem .5rem;border-radius:.3rem;text-decoration:none;color:inherit;border:1px solid var(--line)}
.kept{background:#2a93}.broken,.failed{background:#d336;font-weight:600}.not-followed,.warned,.unproven{background:#da13}
.not-run,.no-case,.not-used,.declined{opacity:.75}
";

/// The whole report as a page.
pub fn html(report: &Report) -> String {
    let mut out = String::new();
    let title = format!("chat.v1 conformance: {}", report.result);
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n"
    );
    let _ = writeln!(
        out,
        "<p>Target ({}): <code>{}</code></p><p>{}</p>",
        report.side,
        escape(&report.target),
        escape(&text::last_line(report))
    );
    matrix(report, &mut out);
    failures(report, &mut out);
    out.push_str("<h2>Rules</h2>\n<table><tr><th>Rule</th><th>Weight</th><th>Verdict</th><th>Sentence and cases</th></tr>\n");
    for line in &report.rules {
        let mut cases = line.cases.join(", ");
        if let (RuleVerdict::NoCase, Some(reason)) = (line.verdict, &line.reason) {
            cases = format!("No case: {reason}");
        }
        let _ = writeln!(
            out,
            "<tr id=\"{id}\" class=\"{}\"><td>{id}</td><td>{}</td><td>{}</td><td>{}<br><small>{}</small></td></tr>",
            class(line.verdict),
            line.rule.level,
            line.verdict.words(),
            escape(&line.rule.sentence),
            escape(&cases),
            id = escape(&line.rule.id),
        );
    }
    out.push_str(
        "</table>\n<h2>Cases</h2>\n<table><tr><th>Case</th><th>Verdict</th><th>Shows</th></tr>\n",
    );
    for outcome in &report.cases {
        let _ = writeln!(
            out,
            "<tr class=\"{word}\"><td>{}</td><td>{word}</td><td>{}</td></tr>",
            escape(&outcome.case),
            escape(&outcome.title),
            word = outcome.verdict.word(),
        );
    }
    out.push_str("</table>\n</body></html>\n");
    out
}

/// All rules, grouped by verdict.
fn matrix(report: &Report, out: &mut String) {
    use RuleVerdict::*;
    out.push_str("<h2>Rules by verdict</h2>\n<table>\n");
    for verdict in [Broken, NotFollowed, Unproven, NotRun, NoCase, NotUsed, Kept] {
        let lines: Vec<_> = report
            .rules
            .iter()
            .filter(|l| l.verdict == verdict)
            .collect();
        if lines.is_empty() {
            continue;
        }
        let _ = write!(
            out,
            "<tr><th>{} ({})</th><td><ul class=\"matrix\">",
            verdict.words(),
            lines.len()
        );
        for line in lines {
            let id = escape(&line.rule.id);
            let _ = write!(
                out,
                "<li><a class=\"{}\" href=\"#{id}\" title=\"{}\">{id}</a></li>",
                class(verdict),
                escape(&line.rule.sentence)
            );
        }
        out.push_str("</ul></td></tr>\n");
    }
    out.push_str("</table>\n");
}

fn failures(report: &Report, out: &mut String) {
    let rules: Vec<_> = report.rules.iter().map(|l| l.rule.clone()).collect();
    for outcome in &report.cases {
        for failure in outcome.failures() {
            let _ = writeln!(
                out,
                "<h3>{}</h3><p>{}</p><pre>{}</pre>",
                escape(&outcome.case),
                escape(&outcome.title),
                escape(&text::failure(outcome, failure, &rules))
            );
        }
    }
}

fn class(verdict: RuleVerdict) -> String {
    verdict.words().replace(' ', "-")
}
