//! Lint: the requirements of a transcript beyond its syntax, so that a case proves the
//! rules it names.

use crate::{
    blame::missing_rule,
    rules::{Rule, Subject},
    suite::Suite,
    transcript::{Action, Case, Side, Step, print},
};

/// The longest title that still fits into a line of a report.
const TITLE_CHARS_MAX: usize = 120;

/// Everything that is wrong with the suite's transcripts, one sentence each.
pub fn lint(suite: &Suite, rules: &[Rule]) -> Vec<String> {
    let mut found = Vec::new();
    for case in &suite.cases {
        let mut complain = |line: usize, sentence: String| {
            found.push(format!("{}.chat:{line}: {sentence}", case.id));
        };
        check_header(case, rules, &mut complain);
        check_blame(case, &mut complain);
        check_silences(case, &mut complain);
        check_raw(case, &mut complain);
        check_needs(case, &mut complain);
        check_admission(case, &mut complain);
    }
    for (id, _) in &suite.uncovered {
        if !rules.iter().any(|r| r.id == *id) {
            found.push(format!("uncovered.txt: the schema has no rule {id}"));
        }
    }
    check_advice(suite, rules, &mut found);
    found
}

/// Each rule that has a case has a line in `advice.txt` that says what to do about it.
fn check_advice(suite: &Suite, rules: &[Rule], found: &mut Vec<String>) {
    for (id, _) in &suite.advice {
        if !rules.iter().any(|r| r.id == *id) {
            found.push(format!("advice.txt: the schema has no rule {id}"));
        }
    }
    let has_case = |id: &String| suite.cases.iter().any(|case| case.rules.contains(id));
    for rule in rules {
        if has_case(&rule.id) && suite.advice(&rule.id).is_none() {
            found.push(format!(
                "advice.txt: nothing about {}, which has cases",
                rule.id
            ));
        }
    }
}

type Complain<'a> = dyn FnMut(usize, String) + 'a;

fn check_header(case: &Case, rules: &[Rule], complain: &mut Complain<'_>) {
    if case.draft {
        complain(1, "it is a draft: check each expectation against the schema, then take out \"status: draft\"".to_owned());
    }
    if case.title.is_empty() || case.title.chars().count() > TITLE_CHARS_MAX {
        complain(
            1,
            format!("it needs a title of 1 to {TITLE_CHARS_MAX} characters"),
        );
    }
    if case.why.is_empty() {
        complain(
            1,
            "it needs a reason why it matters (\"why: ...\")".to_owned(),
        );
    }
    if case.rules.is_empty() {
        complain(1, "it names no rule (\"rules: CHAT-...\")".to_owned());
    }
    let kebab = |part: &str| {
        !part.is_empty()
            && part
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
    };
    if !case.id.split('/').all(kebab) {
        complain(1, "its path is not in kebab-case".to_owned());
    }
    if case.steps.is_empty() {
        complain(1, "it has no steps".to_owned());
    }
    let wrong_side = match case.side() {
        Side::Server => Subject::Client,
        Side::Client => Subject::Server,
    };
    let mut named: Vec<(usize, &String)> = case.rules.iter().map(|id| (1, id)).collect();
    all_steps(&case.steps, &mut |step| {
        named.extend(step.rules.iter().map(|id| (step.line, id)))
    });
    for (line, id) in named {
        match rules.iter().find(|r| r.id == *id) {
            None => complain(line, format!("the schema has no rule {id}")),
            Some(rule) if rule.subject == wrong_side => {
                complain(
                    line,
                    format!("{id} does not bind the end that this case is about"),
                );
            }
            Some(_) => {}
        }
    }
    for name in case.people() {
        if name != "server" && case.side() == Side::Client {
            complain(
                1,
                format!("{name} acts in a case about clients, where only client and server do"),
            );
        }
    }
}

/// A step that a rule outside the header decides names that rule.
fn check_blame(case: &Case, complain: &mut Complain<'_>) {
    if case.rules.is_empty() {
        return;
    }
    all_steps(&case.steps, &mut |step| {
        if let Some(rule) = missing_rule(case, step) {
            complain(
                step.line,
                format!(
                    "none of its rules decides the step \"{}\": name the one that does, for example @{rule}",
                    print::action(&step.action)
                ),
            );
        }
    });
}

/// "Receives nothing" needs a later step in which the same person receives something,
/// and a step in which anybody does, so that a dead server does not pass.
fn check_silences(case: &Case, complain: &mut Complain<'_>) {
    for (i, step) in case.steps.iter().enumerate() {
        let Action::Nothing { who } = &step.action else {
            continue;
        };
        let receives = |s: &Step| matches!(&s.action, Action::Receive { who: w, .. } | Action::Closed { who: w, .. } if w == who);
        let mut later = false;
        all_steps(&case.steps[i + 1..], &mut |s| later |= receives(s));
        if !later {
            complain(
                step.line,
                format!(
                    "{who} receives nothing, but no later step proves it: let {who} receive a message after"
                ),
            );
        }
        let mut control = false;
        all_steps(&case.steps, &mut |s| {
            control |= matches!(s.action, Action::Receive { .. })
        });
        if !control {
            complain(
                step.line,
                "no step of this case receives a message".to_owned(),
            );
        }
    }
}

/// A case that sends malformed bytes ends by showing that the server still serves.
fn check_raw(case: &Case, complain: &mut Complain<'_>) {
    if case.side() == Side::Client || !case.is_raw() || case.is_closing() {
        return;
    }
    let is_malformed = case.any_step(
        &|step| matches!(&step.action, Action::Send { payload, .. } if payload.is_hostile()),
    );
    let last = case.steps.last();
    if is_malformed && !last.is_some_and(|s| matches!(s.action, Action::Serves)) {
        complain(
            last.map_or(1, |s| s.line),
            "it sends malformed bytes and must end with \"the server still serves\"".to_owned(),
        );
    }
}

/// A capability that a step asks for stands in the header, where `--capability` finds it.
fn check_needs(case: &Case, complain: &mut Complain<'_>) {
    let mut asked = Vec::new();
    all_steps(&case.steps, &mut |step| {
        if let Action::Join { capabilities, .. } | Action::ClientJoins { capabilities } =
            &step.action
        {
            asked.extend(capabilities.iter().map(|c| (step.line, c.clone())));
        }
    });
    for (line, capability) in asked {
        if !case.needs.contains(&capability) {
            complain(
                line,
                format!("it asks for {capability}, which \"needs:\" does not name"),
            );
        }
    }
}

/// Passwords and lists of names belong to cases about servers, and a list holds people
/// of the case only.
fn check_admission(case: &Case, complain: &mut Complain<'_>) {
    let is_said = case.asks_password.is_some() || !case.listed.is_empty();
    if case.side() == Side::Client && is_said {
        complain(
            1,
            "\"password:\" and \"listed:\" are for cases about servers".to_owned(),
        );
    }
    for name in &case.listed {
        if !case.people().contains(&name.as_str()) && !case.names.contains(name) {
            complain(
                1,
                format!("\"listed:\" names {name}, but no step is about {name}"),
            );
        }
    }
    let needs_strangers = |step: &Step| {
        matches!(
            step.action,
            Action::Serves | Action::Crowd(_) | Action::Saturate(_)
        )
    };
    if !case.listed.is_empty() && case.any_step(&needs_strangers) {
        complain(
            1,
            "it needs members whose names are on no list, and the server has one".to_owned(),
        );
    }
}

/// Every step, those inside others included.
pub fn all_steps<'a>(steps: &'a [Step], visit: &mut dyn FnMut(&'a Step)) {
    for step in steps {
        visit(step);
        match &step.action {
            Action::Repeat { steps, .. } => all_steps(steps, visit),
            Action::AnyOrder(lanes) => lanes.iter().for_each(|lane| all_steps(lane, visit)),
            _ => {}
        }
    }
}
