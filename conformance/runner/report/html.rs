//! HTML report: one self-contained page. The rules stand by area; a rule opens where it is
//! clicked, with its sentence, what to do, and its cases with their reasons and bytes.

use std::fmt::Write;

use super::{Report, RuleLine, RuleVerdict, junit::escape, text};
use crate::{
    export,
    rules::area,
    suite::Suite,
    verdict::{Failure, Outcome, Verdict},
};

/// Readable in light and dark, on a phone and on paper, without a script.
const STYLE: &str = "
:root{color-scheme:light dark;--line:#8884}
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:1rem auto;padding:0 1rem;overflow-wrap:anywhere}
h2{margin:1.5rem 0 .3rem}h2 small{font-weight:400;opacity:.75}
pre{overflow-x:auto;padding:.6rem;border:1px solid var(--line);border-radius:.4rem;font-size:.8rem;overflow-wrap:normal}
summary{cursor:pointer;padding:.3rem .5rem;border-radius:.3rem}
details{margin:.2rem 0}details details{margin-left:1rem}details p{margin:.3rem .5rem}
.filter label{display:inline-block;margin:.2rem .3rem .2rem 0;padding:.2rem .6rem;border:1px solid var(--line);border-radius:1rem;cursor:pointer}
input.show{position:absolute;opacity:0}
input.show:focus-visible~.filter{outline:2px solid}
.word{display:inline-block;padding:0 .4rem;border-radius:.3rem;border:1px solid var(--line);font-size:.85em}
.kept>summary .word,.passed>summary .word{background:#2a93}
.broken>summary .word,.failed>summary .word{background:#d336;font-weight:600}
.not-followed>summary .word,.warned>summary .word,.unproven>summary .word{background:#da13}
progress{width:6rem;vertical-align:middle}
li{margin:.2rem 0}
";

/// The order in which verdicts are offered: what needs work first.
const VERDICTS: [RuleVerdict; 7] = [
    RuleVerdict::Broken,
    RuleVerdict::NotFollowed,
    RuleVerdict::Unproven,
    RuleVerdict::NotRun,
    RuleVerdict::NoCase,
    RuleVerdict::NotUsed,
    RuleVerdict::Kept,
];

/// The whole report as a page.
pub fn html(report: &Report, suite: &Suite) -> String {
    let mut out = String::new();
    let title = format!("chat.v1 conformance: {}", report.result);
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <title>{title}</title><style>{STYLE}{}</style></head><body>\n<h1>{title}</h1>\n",
        filter_style()
    );
    let _ = writeln!(
        out,
        "<p>Target ({}): <code>{}</code></p><p>{}</p>",
        report.side,
        escape(&report.target),
        escape(&text::last_line(report))
    );
    ladder(report, &mut out);
    filter(report, &mut out);
    out.push_str("<main>\n");
    let mut areas: Vec<&str> = Vec::new();
    for line in &report.rules {
        if !areas.contains(&area(&line.rule.id)) {
            areas.push(area(&line.rule.id));
        }
    }
    for name in areas {
        let of_area = |line: &&RuleLine| area(&line.rule.id) == name;
        let lines: Vec<_> = report.rules.iter().filter(of_area).collect();
        section(&lines, report, suite, &mut out);
    }
    out.push_str("</main>\n");
    failures(report, &mut out);
    out.push_str("</body></html>\n");
    out
}

/// Hides the rules that the chosen verdict leaves out.
fn filter_style() -> String {
    let mut style = String::new();
    for verdict in VERDICTS {
        let class = class(verdict);
        let _ = writeln!(
            style,
            "#show-{class}:checked~main .rule:not(.{class}){{display:none}}\
             #show-{class}:checked~main section:not(:has(.{class})){{display:none}}\
             #show-{class}:checked~.filter [for=show-{class}]{{background:#88f4}}"
        );
    }
    style.push_str("#show-all:checked~.filter [for=show-all]{background:#88f4}\n");
    style
}

/// One choice for each verdict that a rule has. The buttons stand before the rules, so that
/// the style alone can follow them.
fn filter(report: &Report, out: &mut String) {
    let mut labels = String::new();
    let mut choice = |name: &str, words: &str, count: usize, checked: &str| {
        let _ = writeln!(
            out,
            "<input class=\"show\" type=\"radio\" name=\"show\" id=\"show-{name}\"{checked}>"
        );
        let _ = writeln!(
            labels,
            "<label for=\"show-{name}\">{words} ({count})</label>"
        );
    };
    choice("all", "all rules", report.rules.len(), " checked");
    for verdict in VERDICTS {
        let count = report.rules.iter().filter(|l| l.verdict == verdict).count();
        if count > 0 {
            choice(&class(verdict), verdict.words(), count, "");
        }
    }
    let _ = writeln!(out, "<div class=\"filter\">{labels}</div>");
}

fn ladder(report: &Report, out: &mut String) {
    let ladder = &report.ladder;
    let _ = writeln!(
        out,
        "<h2>Score {}/{}</h2>\n<ol>",
        ladder.points, ladder.total
    );
    for rung in &ladder.rungs {
        let _ = write!(
            out,
            "<li>{} <progress max=\"{}\" value=\"{}\"></progress> {}/{}",
            escape(&rung.title),
            rung.total.max(1),
            rung.points,
            rung.points,
            rung.total
        );
        if let Some(next) = &rung.next {
            let _ = write!(
                out,
                "<br><small>first: <a href=\"#failure-{case}\">{case}</a>. {}</small>",
                escape(&next.advice),
                case = escape(&next.case)
            );
        }
        out.push_str("</li>\n");
    }
    out.push_str("</ol>\n");
}

/// The rules of one area.
fn section(lines: &[&RuleLine], report: &Report, suite: &Suite, out: &mut String) {
    let Some(first) = lines.first() else { return };
    let kept = lines
        .iter()
        .filter(|l| l.verdict == RuleVerdict::Kept)
        .count();
    let _ = writeln!(
        out,
        "<section><h2>{} <small>{kept} of {} kept</small></h2>",
        escape(&first.rule.heading),
        lines.len()
    );
    for line in lines {
        let _ = writeln!(
            out,
            "<details class=\"rule {}\" id=\"{id}\"><summary><b>{id}</b> <span class=\"word\">{}</span> {}</summary>",
            class(line.verdict),
            line.verdict.words(),
            escape(&line.rule.sentence),
            id = escape(&line.rule.id),
        );
        if let Some(advice) = suite.advice(&line.rule.id) {
            let _ = writeln!(out, "<p>What to do: {}</p>", escape(advice));
        }
        if let Some(reason) = &line.reason {
            let _ = writeln!(out, "<p>No case: {}</p>", escape(reason));
        }
        let blames = |outcome: &Outcome| {
            let mut failures = outcome.failures();
            failures.any(|failure| failure.rules.contains(&line.rule.id))
        };
        let shows = |o: &&Outcome| o.rules.contains(&line.rule.id) || blames(o);
        for outcome in report.cases.iter().filter(shows) {
            case(outcome, suite, out);
        }
        out.push_str("</details>\n");
    }
    out.push_str("</section>\n");
}

/// A case below its rule: why it is there, and its bytes or what is wrong.
fn case(outcome: &Outcome, suite: &Suite, out: &mut String) {
    let word = outcome.verdict.word();
    let _ = writeln!(
        out,
        "<details class=\"{word}\"><summary>{} <span class=\"word\">{word}</span> {}</summary>",
        escape(&outcome.case),
        escape(&outcome.title),
    );
    let case = suite.case(&outcome.case);
    if let Some(case) = case {
        let _ = writeln!(out, "<p>Why: {}</p>", escape(&case.why));
    }
    if let Verdict::NotRun { reason, .. } = &outcome.verdict {
        let _ = writeln!(out, "<p>Not run: {}</p>", escape(reason));
    }
    let mut lines = String::new();
    for Failure {
        sentence,
        expected,
        received,
        received_bytes,
        ..
    } in outcome.failures()
    {
        let _ = writeln!(
            lines,
            "{sentence}\nexpected  {expected}\nreceived  {received}"
        );
        if !received_bytes.is_empty() {
            let _ = writeln!(lines, "bytes     {received_bytes}");
        }
    }
    if !lines.is_empty() {
        let _ = writeln!(
            out,
            "<pre>{}</pre><p><a href=\"#failure-{}\">all that went over the connections</a></p>",
            escape(&lines),
            escape(&outcome.case)
        );
    }
    let sent = case.map(export::sent).unwrap_or_default();
    if !sent.is_empty() {
        let _ = writeln!(out, "<pre>{}</pre>", escape(&sent.concat()));
    }
    out.push_str("</details>\n");
}

fn failures(report: &Report, out: &mut String) {
    let rules: Vec<_> = report.rules.iter().map(|l| l.rule.clone()).collect();
    for outcome in &report.cases {
        for (i, failure) in outcome.failures().enumerate() {
            let id = match i {
                0 => format!(" id=\"failure-{}\"", escape(&outcome.case)),
                _ => String::new(),
            };
            let _ = writeln!(
                out,
                "<details{id}><summary><b>{}</b> {}</summary><pre>{}</pre></details>",
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
