//! Ladder report: the points of each rung, the first case of it that fails, and what to do
//! about that. A screen for people, and the score for programs.

use std::fmt::Write;

use serde::Serialize;

use super::{Report, text::last_line};
use crate::{
    ladder::Place,
    plan::Plan,
    rules::Rule,
    suite::Suite,
    transcript::Side,
    verdict::{Failure, Kind, Outcome, Verdict},
};

/// How wide a line for people is, in characters, so that it fits a terminal of a hundred.
const LINE_CHARS_MAX: usize = 96;

/// How many of the last messages before a failure are shown: more than a screen helps nobody.
const TRACE_LINES_MAX: usize = 8;

/// What the placeholders mean that stand in most of what is expected.
const PLACEHOLDERS: &[(&str, &str)] = &[
    (
        "<any>",
        ": a value that is not 0 or empty; no field that is not named",
    ),
    ("<maybe>", ": any value, or none"),
    ("<n>", ": a number that came earlier in this case"),
    (
        "<n+",
        "...>: so many more than a number that came earlier in this case",
    ),
    (
        "<alice.seq",
        "...>: alice's Registered.seq, and so many chats on",
    ),
];

/// The points of a run, a case each.
#[derive(Clone, Debug, Serialize)]
pub struct Ladder {
    /// Cases that are as they should be.
    pub points: usize,
    /// Cases that were judged, or could not be judged for the target's sake.
    pub total: usize,
    /// The rungs, the lowest first.
    pub rungs: Vec<RungLine>,
}

/// One rung.
#[derive(Clone, Debug, Serialize)]
pub struct RungLine {
    /// From 1 up.
    pub rung: usize,
    /// What a target on it can do.
    pub title: String,
    /// As above.
    pub points: usize,
    /// As above.
    pub total: usize,
    /// Cases that did not apply to the target, or were left out by an option.
    pub not_run: usize,
    /// The first case without its point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<Next>,
}

/// What to mend next on a rung.
#[derive(Clone, Debug, Serialize)]
pub struct Next {
    /// The case.
    pub case: String,
    /// The rule to mend; absent: the case was not played.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// What is wrong, in a sentence.
    pub sentence: String,
    /// What to do about it, in a sentence.
    pub advice: String,
}

impl Ladder {
    /// Counts the points of a run.
    pub fn new(plan: &Plan, suite: &Suite, side: Side, outcomes: &[Outcome]) -> Self {
        let mut rungs: Vec<RungLine> = suite
            .ladder
            .titles(side)
            .into_iter()
            .enumerate()
            .map(|(i, title)| RungLine {
                rung: i + 1,
                title: title.to_owned(),
                points: 0,
                total: 0,
                not_run: 0,
                next: None,
            })
            .collect();
        let mut placed: Vec<(Place, &Outcome)> = outcomes
            .iter()
            .filter_map(|outcome| Some((suite.ladder.place(suite.case(&outcome.case)?), outcome)))
            .collect();
        placed.sort_by_key(|(place, outcome)| (*place, &outcome.case));
        for ((i, _), outcome) in placed {
            let Some(rung) = rungs.get_mut(i) else {
                continue;
            };
            match has_point(outcome) {
                None => rung.not_run += 1,
                Some(true) => {
                    rung.points += 1;
                    rung.total += 1;
                }
                Some(false) => {
                    rung.total += 1;
                    rung.next
                        .get_or_insert_with(|| next(outcome, suite, &plan.rules));
                }
            }
        }
        Self {
            points: rungs.iter().map(|rung| rung.points).sum(),
            total: rungs.iter().map(|rung| rung.total).sum(),
            rungs,
        }
    }

    /// The lowest rung that is not complete.
    fn lowest(&self) -> Option<&RungLine> {
        self.rungs.iter().find(|rung| rung.next.is_some())
    }
}

/// Whether a case earned its point; None if it does not count. A SHOULD that is not followed
/// takes none away, as it breaks no rule.
fn has_point(outcome: &Outcome) -> Option<bool> {
    match &outcome.verdict {
        Verdict::Passed | Verdict::Warned | Verdict::Declined | Verdict::UnexpectedPass { .. } => {
            Some(true)
        }
        Verdict::Failed | Verdict::KnownFailure { .. } => Some(false),
        Verdict::NotRun { incomplete, .. } => incomplete.then_some(false),
    }
}

fn next(outcome: &Outcome, suite: &Suite, rules: &[Rule]) -> Next {
    let case = outcome.case.clone();
    match (&outcome.failure, &outcome.verdict) {
        (Some(failure), _) => {
            let rule = first_rule(failure, rules);
            let advice = advice(failure, rule.as_deref(), suite);
            Next {
                case,
                rule,
                sentence: sentence(failure),
                advice,
            }
        }
        (None, Verdict::NotRun { reason, .. }) => Next {
            case,
            rule: None,
            sentence: reason.clone(),
            advice: "Mend what kept it from being run, and run it again.".to_owned(),
        },
        (None, _) => Next {
            case,
            rule: None,
            sentence: String::new(),
            advice: String::new(),
        },
    }
}

/// What is wrong: in the words of the step, and then in those that name the message and the
/// fields.
fn sentence(failure: &Failure) -> String {
    match failure.kind {
        Kind::WrongAnswer if failure.cause != failure.sentence => {
            format!("{}: {}", failure.sentence, failure.cause)
        }
        _ => failure.sentence.clone(),
    }
}

/// Of the rules that a failure blames, the one that stands first in the schema.
fn first_rule(failure: &Failure, rules: &[Rule]) -> Option<String> {
    let place = |id: &String| rules.iter().position(|rule| rule.id == *id);
    failure.rules.iter().min_by_key(|id| place(id)).cloned()
}

/// What to do about a failure: about a process that died or bytes that are no frame that
/// comes first, whatever the rule.
fn advice(failure: &Failure, rule: Option<&str>, suite: &Suite) -> String {
    let general = match failure.kind {
        Kind::Hang if failure.expected == "client starts" => Some(
            "Connect to the address that the suite puts in the place of {address} as soon as the program starts, and send Register.",
        ),
        Kind::Crash => Some(
            "Find out why the process ended (its last words are above), and catch that error: nothing that a peer sends may end a program.",
        ),
        Kind::Malformed => Some(
            "Write each envelope as a frame: its length in bytes as a varint (FRAMES in the schema), then its bytes, and nothing else between frames.",
        ),
        Kind::Fault => Some("This is a fault of the suite, not yours: please report it."),
        Kind::WrongAnswer | Kind::Refusal | Kind::Closed | Kind::Hang => None,
    };
    let of_rule = rule.and_then(|rule| suite.advice(rule));
    general.or(of_rule).map_or_else(
        || match failure.kind {
            Kind::Hang => format!("Send what is expected here: {}.", failure.expected),
            Kind::Closed => "Keep the connection open here, and answer.".to_owned(),
            Kind::Refusal => "Accept what was sent: the rules allow it.".to_owned(),
            _ => "Compare what was expected with what was received.".to_owned(),
        },
        str::to_owned,
    )
}

/// The rungs for people, and then all about the next step, which stands last, where a
/// terminal shows it.
pub fn text(report: &Report, suite: &Suite) -> String {
    let mut out = String::new();
    let ladder = &report.ladder;
    let rules: Vec<_> = report.rules.iter().map(|line| line.rule.clone()).collect();
    let lowest = ladder.lowest();
    let mut told: Vec<&str> = lowest
        .and_then(|rung| rung.next.as_ref()?.rule.as_deref())
        .into_iter()
        .collect();
    for rung in &ladder.rungs {
        let state = match (rung.total, &rung.next) {
            (0, _) => "nothing of it was judged",
            (_, None) => "done",
            (_, Some(_)) => "",
        };
        let points = format!("{}/{}", rung.points, rung.total);
        let _ = write!(
            out,
            "{:>2}  {:<28} {points:>7}  {state}",
            rung.rung, rung.title
        );
        if rung.not_run > 0 {
            let _ = write!(out, " ({} do not apply)", rung.not_run);
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        if let Some(next) = &rung.next
            && lowest.is_some_and(|lowest| lowest.rung != rung.rung)
        {
            later(next, &rules, &mut told, &mut out);
        }
    }
    let _ = writeln!(out, "\nscore {}/{}", ladder.points, ladder.total);
    let _ = writeln!(out, "{}", last_line(report));
    match lowest {
        Some(rung) => step(rung, &report.cases, suite, &rules, &mut out),
        None => out.push_str("every rung that was judged is complete\n"),
    }
    out
}

/// The first failure of a rung above the one to mend: three facts, a few lines. A rule that
/// stands on the screen already is named only.
fn later<'a>(next: &'a Next, rules: &[Rule], told: &mut Vec<&'a str>, out: &mut String) {
    let Some(rule) = next.rule.as_deref() else {
        return;
    };
    if told.contains(&rule) {
        wrap(
            out,
            "      first  ",
            &format!("{}, by {rule} as well", next.case),
        );
        return;
    }
    told.push(rule);
    wrap(out, "      first  ", &next.case);
    wrap(out, "      rule   ", &quoted(rule, rules));
    wrap(out, "      do     ", &next.advice);
}

/// Everything about the first failure of the lowest rung that is not complete.
fn step(rung: &RungLine, outcomes: &[Outcome], suite: &Suite, rules: &[Rule], out: &mut String) {
    let Some(next) = &rung.next else { return };
    let _ = writeln!(out, "next: rung {}, {}", rung.rung, rung.title);
    if let Some(case) = suite.case(&next.case) {
        wrap(out, "  case      ", &format!("{}: {}", case.id, case.title));
        wrap(out, "  why       ", &case.why);
    }
    if let Some(rule) = next.rule.as_deref() {
        wrap(out, "  rule      ", &quoted(rule, rules));
    }
    let outcome = outcomes.iter().find(|outcome| outcome.case == next.case);
    match outcome.and_then(|outcome| outcome.failure.as_ref()) {
        None => wrap(out, "  not run   ", &next.sentence),
        Some(failure) => {
            traffic(failure, out);
            wrap(out, "  wrong     ", &next.sentence);
            wrap(out, "  expected  ", &failure.expected);
            for (placeholder, words) in PLACEHOLDERS {
                if failure.expected.contains(placeholder) {
                    wrap(out, "            ", &format!("({placeholder}{words})"));
                }
            }
            wrap(out, "  received  ", &failure.received);
            if !failure.received_bytes.is_empty() {
                wrap(out, "  bytes     ", &failure.received_bytes);
            }
        }
    }
    wrap(out, "  do        ", &next.advice);
    wrap(
        out,
        "  again     ",
        &format!("add --case {} to this command", next.case),
    );
    let about = next.rule.as_ref().unwrap_or(&next.case);
    wrap(
        out,
        "  more      ",
        &format!("chat-conformance explain {about}"),
    );
}

/// The last messages before a failure, those of all connections in the order of their times.
fn traffic(failure: &Failure, out: &mut String) {
    // Those without a time say how much was left out.
    let has_time = |line: &&String| time_ms(line) != u64::MAX;
    let mut lines: Vec<&String> = failure.trace.iter().filter(has_time).collect();
    lines.sort_by_key(|line| time_ms(line));
    let skipped = lines.len().saturating_sub(TRACE_LINES_MAX);
    for (i, line) in lines.into_iter().skip(skipped).enumerate() {
        let head = if i == 0 {
            "  traffic   "
        } else {
            "            "
        };
        let _ = writeln!(out, "{head}{}", cut(line));
    }
}

/// The time of a line of a trace, which stands before "ms"; without one, the highest.
fn time_ms(line: &str) -> u64 {
    let mut words = line.split_whitespace();
    let mut before = "";
    words
        .find_map(|word| match word {
            "ms" => Some(before.parse().unwrap_or(u64::MAX)),
            _ => {
                before = word;
                None
            }
        })
        .unwrap_or(u64::MAX)
}

/// A line that is not longer than the screen is wide.
fn cut(line: &str) -> String {
    const HEAD_CHARS: usize = 12;
    if line.chars().count() <= LINE_CHARS_MAX - HEAD_CHARS {
        return line.to_owned();
    }
    let kept: String = line.chars().take(LINE_CHARS_MAX - HEAD_CHARS - 3).collect();
    format!("{kept}...")
}

fn quoted(id: &str, rules: &[Rule]) -> String {
    let rule = rules.iter().find(|rule| rule.id == id);
    format!("{id}: {}", rule.map_or("", |rule| &rule.sentence))
}

/// Writes words behind a head, in lines that are as wide as the screen; the lines after the
/// first are indented like it.
fn wrap(out: &mut String, head: &str, words: &str) {
    let indent = " ".repeat(head.len());
    let mut line = head.to_owned();
    let mut is_begun = false;
    for word in words.split_whitespace() {
        if is_begun && line.chars().count() + 1 + word.chars().count() > LINE_CHARS_MAX {
            out.push_str(&line);
            out.push('\n');
            line = indent.clone();
            is_begun = false;
        }
        if is_begun {
            line.push(' ');
        }
        line.push_str(word);
        is_begun = true;
    }
    out.push_str(line.trim_end());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_wrapped_behind_their_head() {
        let mut out = String::new();
        wrap(&mut out, "  do  ", &"word ".repeat(40));
        let lines: Vec<_> = out.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines.iter().all(|line| line.len() <= LINE_CHARS_MAX));
        assert!(lines[1].starts_with("      word"));
    }

    #[test]
    fn a_trace_is_sorted_by_its_times() {
        assert_eq!(time_ms("alice     9 ms -> chat {\"text\": \"5 ms\"}"), 9);
        assert_eq!(time_ms("a note"), u64::MAX);
    }

    #[test]
    fn every_rule_that_has_advice_is_in_the_schema() {
        let suite = Suite::load(None).expect("the suite");
        let rules = crate::rules::parse(chat::wire::SCHEMA);
        for (id, _) in &suite.advice {
            assert!(rules.iter().any(|rule| rule.id == *id), "{id}");
        }
    }

    /// A case on the rungs below the last can break nothing that has no advice.
    #[test]
    fn each_must_of_the_ladder_has_advice() {
        let suite = Suite::load(None).expect("the suite");
        let rules = crate::rules::parse(chat::wire::SCHEMA);
        for side in [Side::Server, Side::Client] {
            let last = suite.ladder.titles(side).len() - 1;
            for case in suite.cases.iter().filter(|case| case.side() == side) {
                if suite.ladder.place(case).0 == last {
                    continue;
                }
                for id in &case.rules {
                    assert!(suite.advice(id).is_some(), "{id} of {}", case.id);
                }
            }
        }
        assert!(rules.len() > 100);
    }
}
