//! JUnit report: the XML that CI systems read.

use std::fmt::Write;

use super::{Report, text};
use crate::verdict::Verdict;

/// The whole report as JUnit XML. A SHOULD that is not followed, and a known
/// failure, pass with a note, as that form has no word for them.
pub fn junit(report: &Report) -> String {
    let counts = &report.counts;
    let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let _ = writeln!(
        out,
        "<testsuites><testsuite name=\"chat-conformance {}\" tests=\"{}\" failures=\"{}\" errors=\"0\" skipped=\"{}\" time=\"{}\">",
        report.side,
        counts.selected,
        counts.failed + counts.unexpected_passes,
        counts.not_run,
        seconds(report.elapsed_ms),
    );
    out.push_str("<properties>\n");
    properties(report, &mut out);
    out.push_str("</properties>\n");
    let rules: Vec<_> = report.rules.iter().map(|l| l.rule.clone()).collect();
    for outcome in &report.cases {
        let (area, case) = outcome.case.rsplit_once('/').unwrap_or(("", &outcome.case));
        let _ = write!(
            out,
            "<testcase classname=\"{}\" name=\"{}\" time=\"{}\">",
            escape(area),
            escape(case),
            seconds(outcome.elapsed_ms)
        );
        let detail: String = outcome
            .failures()
            .map(|f| text::failure(outcome, f, &rules))
            .collect();
        let sentence = outcome
            .failure
            .as_ref()
            .map(|f| f.sentence.clone())
            .unwrap_or_default();
        let kind = outcome.failure.as_ref().map_or("", |f| f.kind.words());
        match &outcome.verdict {
            Verdict::Failed => {
                let _ = write!(
                    out,
                    "<failure type=\"{kind}\" message=\"{}\">{}</failure>",
                    escape(&sentence),
                    escape(&detail)
                );
            }
            Verdict::UnexpectedPass { reason } => {
                let _ = write!(
                    out,
                    "<failure type=\"unexpected pass\" message=\"listed as a known failure, but it passed: {}\"/>",
                    escape(reason)
                );
            }
            Verdict::NotRun { reason, .. } => {
                let _ = write!(out, "<skipped message=\"{}\"/>", escape(reason));
            }
            Verdict::KnownFailure { .. } | Verdict::Warned | Verdict::Declined => {
                let note = format!("{}\n{detail}", text::line(outcome));
                let _ = write!(out, "<system-out>{}</system-out>", escape(&note));
            }
            Verdict::Passed => {}
        }
        out.push_str("</testcase>\n");
    }
    out.push_str("</testsuite></testsuites>\n");
    out
}

/// The score, in all and rung by rung.
fn properties(report: &Report, out: &mut String) {
    let ladder = &report.ladder;
    let mut property = |name: &str, points: usize, total: usize| {
        let name = escape(name);
        let _ = writeln!(
            out,
            "<property name=\"{name}\" value=\"{points}/{total}\"/>"
        );
    };
    property("score", ladder.points, ladder.total);
    for rung in &ladder.rungs {
        let name = format!("rung {}: {}", rung.rung, rung.title);
        property(&name, rung.points, rung.total);
    }
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03}", ms / 1000, ms % 1000)
}

/// Text for XML and HTML, attributes included; characters that XML cannot hold
/// become a question mark.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' | '\t' => out.push(c),
            '\u{fffe}' | '\u{ffff}' => out.push('?'),
            c if c.is_control() => out.push('?'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn characters_that_xml_forbids_are_replaced() {
        assert_eq!(super::escape("a<b>\"&\u{1}\n"), "a&lt;b&gt;&quot;&amp;?\n");
    }
}
