//! The values of the limits: those that are given, and the defaults that go with them.

use crate::wire::{self, Capability};

use super::{LIMITS, Limit, Limits, NAME_BYTES_MAX, Rate};

impl Default for Limits {
    fn default() -> Self {
        let mut limits = Self::UNSET;
        for limit in LIMITS {
            let value = limit.default(&limits);
            (limit.set)(&mut limits, value);
        }
        limits
    }
}

impl Limits {
    /// The limits with the values that are given, and for the others the defaults that
    /// go with those.
    ///
    /// # Errors
    ///
    /// A sentence that says which value is wrong and what is allowed.
    pub fn resolve(given: impl Fn(&Limit) -> Option<Option<u64>>) -> Result<Self, String> {
        let mut limits = Self::UNSET;
        for limit in LIMITS {
            let value = given(limit).unwrap_or_else(|| limit.default(&limits));
            limit.check(&limits, value)?;
            (limit.set)(&mut limits, value);
        }
        Ok(limits)
    }

    /// Checks that the bounds fit together.
    ///
    /// # Errors
    ///
    /// A sentence that says which bound is wrong and what is allowed.
    pub fn check(&self) -> Result<(), String> {
        LIMITS
            .iter()
            .try_for_each(|limit| limit.check(self, limit.value(self)))
    }

    /// These limits, with those of `other` that can change while the server runs.
    pub fn with_live(&self, other: &Self) -> Self {
        let mut limits = self.clone();
        for limit in LIMITS.iter().filter(|limit| limit.is_live) {
            (limit.set)(&mut limits, limit.value(other));
        }
        limits
    }

    /// The bounds as a server announces them that grants every capability (CHAT-LIM-1).
    pub fn announced(&self) -> wire::Limits {
        self.announced_with(|_| true)
    }

    /// The bounds as a server announces them that grants some capabilities: a bound of
    /// another one is absent.
    pub fn announced_with(&self, grants: impl Fn(Capability) -> bool) -> wire::Limits {
        let mut announced = wire::Limits {
            name_bytes_max: NAME_BYTES_MAX as u32,
            ..wire::Limits::default()
        };
        let granted = LIMITS.iter().filter(|it| it.capability.is_none_or(&grants));
        for announce in granted.filter_map(|limit| limit.announce) {
            announce(self, &mut announced);
        }
        announced
    }

    /// How fast a member may chat, or `None` for as fast as it likes.
    pub fn chat_rate(&self) -> Option<Rate> {
        self.chat_interval_ms.map(|interval_ms| Rate {
            burst: self.chat_burst,
            interval_ms,
        })
    }

    /// How many a second, rounded up, where a member may have `each` for each chat.
    pub(super) fn per_second(&self, each: u64) -> Option<u64> {
        let interval_ms = u64::from(self.chat_interval_ms?.max(1));
        Some((each * 1_000).div_ceil(interval_ms))
    }
}
