//! Blame: the rules that a failed step breaks. A step whose rule is not among those of
//! its case blames that rule, and not the rules that the case is about.

mod context;
mod deciding;

use context::Context;
use deciding::{BEFORE_LEAVE, Deciding, STAYING_OPEN, deciding, of_error_instead, of_unexpected};

use crate::{
    problem::{Place, Problem},
    transcript::{Action, Case, Side, Step},
    verdict::Kind,
};

/// The rules to blame for a problem at a step.
pub fn blame(case: &Case, step: &Step, problem: &Problem) -> Vec<String> {
    if !problem.rules.is_empty() {
        let mut rules: Vec<String> = problem.rules.iter().map(|r| (*r).to_owned()).collect();
        if *problem.rules == ["CHAT-GROW-7"] && waits_for(&step.action, "ERROR_CODE_NOT_GRANTED") {
            // The message is the answer, in place of the refusal.
            rules.push("CHAT-GROW-6".to_owned());
        }
        return rules;
    }
    let context = Context::of(case, step);
    match problem.place {
        Place::Step => {}
        // What the case is about is that nothing comes.
        Place::Silence => return case.rules.clone(),
        Place::End => return too_many(case, problem),
    }
    if case.side() == Side::Server
        && let Some(rules) = of_what_came(case, step, &context, problem)
    {
        return rules;
    }
    if problem.fields.is_empty() && !step.rules.is_empty() {
        return step.rules.clone();
    }
    let Some(deciding) = deciding(&step.action, &context, problem) else {
        return match step.rules.is_empty() {
            true => case.rules.clone(),
            false => step.rules.clone(),
        };
    };
    // A field that is wrong tells more than the step does.
    let of_step = deciding.among(&step.rules);
    match of_step.is_empty() {
        true => of_case(case, &deciding),
        false => of_step,
    }
}

/// The rules of the case that can decide, or the one that does in any case.
fn of_case(case: &Case, deciding: &Deciding) -> Vec<String> {
    let decided = deciding.among(&case.rules);
    match decided.is_empty() {
        true => vec![deciding.first.to_owned()],
        false => decided,
    }
}

/// The rules against a message that is not due.
fn too_many(case: &Case, problem: &Problem) -> Vec<String> {
    match problem.came().and_then(of_unexpected) {
        Some(deciding) if case.side() == Side::Server => of_case(case, &deciding),
        _ => case.rules.clone(),
    }
}

/// The rules that the message which came breaks, or the end of the connection, where
/// these tell more than the step does.
fn of_what_came(
    case: &Case,
    step: &Step,
    context: &Context,
    problem: &Problem,
) -> Option<Vec<String>> {
    let is_wrong = |field: &str| problem.fields.iter().any(|name| name == field);
    let is_about = |rule: &str| case.rules.iter().any(|id| id == rule);
    let only = |rule: &str| Some(vec![rule.to_owned()]);
    if problem.came() == Some("error") && is_wrong("code") {
        // An error without a code has the wrong one whatever the cause.
        if problem.code().is_none() || is_about("CHAT-ERR-5") {
            return only("CHAT-ERR-5");
        }
    }
    if *problem.fields == ["endsSession"] {
        // An error that ends the session, where it must go on, breaks the rule that keeps it.
        let is_kept = !is_fatal(&step.action) && !is_about("CHAT-ERR-2");
        let deciding = deciding(&step.action, context, problem).filter(|_| is_kept);
        return match deciding {
            Some(_) if !step.rules.is_empty() => Some(step.rules.clone()),
            Some(deciding) => Some(of_case(case, &deciding)),
            None => only("CHAT-ERR-2"),
        };
    }
    if let Some(deciding) = problem.code().and_then(of_error_instead)
        && (problem.fields.is_empty() || is_wrong("code"))
    {
        return Some(of_case(case, &deciding));
    }
    if matches!(step.action, Action::Closed { .. }) {
        return match problem.came() {
            Some(_) if context.is_after_leave && is_about("CHAT-LEAVE-4") => only("CHAT-LEAVE-4"),
            Some(_) if context.is_after_fatal_error => only("CHAT-ERR-1"),
            Some(_) => Some(too_many(case, problem)),
            None if context.is_after_fatal_error => only("CHAT-ERR-1"),
            None => None,
        };
    }
    // Presence is told apart from everything else.
    if matches!(problem.came(), Some("joined" | "left")) && problem.fields.is_empty() {
        let decided = problem.came().and_then(of_unexpected);
        let decided = decided.map_or_else(Vec::new, |it| it.among(&case.rules));
        if !decided.is_empty() && !waits_for_presence(&step.action) {
            return Some(decided);
        }
    }
    // Where a fatal error is due, the connection may close, but not without it.
    if problem.kind == Kind::Closed && !is_fatal(&step.action) {
        if context.is_after_leave {
            // A part of what was due has come, so this one alone is missing.
            if context.has_received_since_leave {
                return None;
            }
            let mut rules = of_case(case, &BEFORE_LEAVE);
            if let Some(deciding) = deciding(&step.action, context, problem) {
                rules.extend(deciding.among(&case.rules));
            }
            rules.dedup();
            return Some(rules);
        }
        let decided = STAYING_OPEN.among(&case.rules);
        return (!decided.is_empty()).then_some(decided);
    }
    None
}

/// Whether a step waits for an error with this code.
fn waits_for(action: &Action, code: &str) -> bool {
    match action {
        Action::Receive { wanted, .. } => wanted.iter().any(|w| w.body["code"] == code),
        _ => false,
    }
}

/// Whether a step waits for a Joined or a Left.
fn waits_for_presence(action: &Action) -> bool {
    match action {
        Action::Receive { wanted, .. } => wanted
            .iter()
            .any(|w| matches!(w.kind.as_str(), "joined" | "left")),
        _ => false,
    }
}

/// Whether a step waits for an error that ends the session.
fn is_fatal(action: &Action) -> bool {
    match action {
        Action::Receive { wanted, .. } => wanted.iter().any(|w| w.body["endsSession"] == true),
        _ => false,
    }
}

/// The rule that a step without a rule of its own must name, because none of those of its
/// case decides it.
pub fn missing_rule(case: &Case, step: &Step) -> Option<&'static str> {
    if !step.rules.is_empty() || is_shorthand(&step.action) {
        return None;
    }
    let context = Context::of(case, step);
    if matches!(step.action, Action::Closed { .. }) && context.is_after_fatal_error {
        return None;
    }
    let nothing = Problem::new(Kind::Hang, &[], "");
    let deciding = deciding(&step.action, &context, &nothing)?;
    deciding
        .among(&case.rules)
        .is_empty()
        .then_some(deciding.first)
}

/// Whether a step stands for several, which need no rules of their own.
fn is_shorthand(action: &Action) -> bool {
    matches!(
        action,
        Action::Join { .. } | Action::Saturate(_) | Action::Crowd(_)
    )
}
