//! Common causes: failures that begin in the same way, and the rule to mend first.

use serde::Serialize;

use crate::{
    rules::Rule,
    verdict::{Failure, Outcome, Verdict},
};

/// Failures of the same cause.
#[derive(Clone, Debug, Serialize)]
pub struct Cause {
    /// What goes wrong.
    pub cause: String,
    /// How many cases begin to fail with it.
    pub failures: usize,
    /// The rule that most of them blame.
    pub rule: String,
    /// The case that shows it best.
    pub case: String,
}

/// The causes of all failures, the most frequent first; of equal ones that whose rule
/// stands first in the schema, since the later rules build on it.
pub fn causes(outcomes: &[Outcome], rules: &[Rule]) -> Vec<Cause> {
    let failed: Vec<(&Outcome, &Failure)> = outcomes
        .iter()
        .filter(|outcome| matches!(outcome.verdict, Verdict::Failed))
        .filter_map(|outcome| Some((outcome, outcome.failure.as_ref()?)))
        .collect();
    let place = |id: &str| {
        rules
            .iter()
            .position(|rule| rule.id == id)
            .unwrap_or(usize::MAX)
    };
    let mut groups: Vec<(&str, Vec<(&Outcome, &Failure)>)> = Vec::new();
    for (outcome, failure) in failed {
        match groups.iter_mut().find(|(cause, _)| *cause == failure.cause) {
            Some((_, group)) => group.push((outcome, failure)),
            None => groups.push((&failure.cause, vec![(outcome, failure)])),
        }
    }
    let mut causes: Vec<Cause> = groups
        .into_iter()
        .filter_map(|(cause, group)| {
            let rule = most_blamed(&group, &place)?;
            // A case about the rule shows it with fewer steps than others.
            let about = |o: &&Outcome| o.rules.contains(&rule);
            let cases = || group.iter().map(|(outcome, _)| *outcome);
            let case = cases().find(about).or(cases().next())?;
            Some(Cause {
                cause: cause.to_owned(),
                failures: group.len(),
                case: case.case.clone(),
                rule,
            })
        })
        .collect();
    causes.sort_by_key(|cause| (usize::MAX - cause.failures, place(&cause.rule)));
    causes
}

fn most_blamed(group: &[(&Outcome, &Failure)], place: &impl Fn(&str) -> usize) -> Option<String> {
    let all = || group.iter().flat_map(|(_, failure)| &failure.rules);
    let count = |id: &String| all().filter(|other| *other == id).count();
    all()
        .min_by_key(|id| (usize::MAX - count(id), place(id)))
        .cloned()
}
