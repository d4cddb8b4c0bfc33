//! Coverage: what the schedules have reached, so that the simulation cannot lose a case
//! unnoticed.

use std::collections::BTreeMap;

/// How often each case was reached.
#[derive(Debug, Default, Clone)]
pub(super) struct Coverage(BTreeMap<&'static str, u64>);

impl Coverage {
    pub(super) fn mark(&mut self, what: &'static str) {
        *self.0.entry(what).or_default() += 1;
    }

    pub(super) fn mark_if(&mut self, condition: bool, what: &'static str) {
        if condition {
            self.mark(what);
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    pub(super) fn has(&self, what: &str) -> bool {
        self.0.contains_key(what)
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .iter()
            .try_for_each(|(what, count)| writeln!(f, "{count:>10} {what}"))
    }
}
