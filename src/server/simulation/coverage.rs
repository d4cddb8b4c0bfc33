//! Coverage: what the schedules have reached, so that the simulation cannot lose a case
//! unnoticed.

use std::collections::BTreeMap;

/// How often each case was reached: by one seed, or of many seeds how many have reached it.
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

    /// Adds what one seed has reached.
    pub(super) fn add(&mut self, seed: &Self) {
        for what in seed.0.keys() {
            self.mark(what);
        }
    }

    pub(super) fn count(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }
}

impl std::fmt::Display for Coverage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0
            .iter()
            .try_for_each(|(what, count)| writeln!(f, "{count:>10} {what}"))
    }
}
