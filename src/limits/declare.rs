//! How a limit is declared, and what is derived from that: the field of
//! [`Limits`], its check, the option, the environment variable, the help text, what
//! clients are told and the documented table.

use std::ops::RangeInclusive;

use super::{Limits, Unit};
use crate::wire::{self, Capability};

/// One limit, as `src/limits.rs` declares it.
#[derive(Debug, Clone, Copy)]
pub struct Limit {
    /// The field of [`Limits`].
    pub field: &'static str,
    pub(super) help: &'static str,
    /// The option without its dashes, where it is not the field's name.
    pub(super) option: Option<&'static str>,
    /// What its value counts.
    pub unit: Unit,
    /// Its value where none is given.
    pub default: Default,
    /// The values that it may have, given those of the limits before it.
    pub range: fn(&Limits) -> RangeInclusive<u64>,
    /// Why the range is what it is, where it follows from another limit.
    pub because: Option<&'static str>,
    /// Whether it can be switched off, with `off`.
    pub can_be_off: bool,
    /// Whether it can change while the server runs. A session keeps what it was told.
    pub is_live: bool,
    /// How a client is told of it, if at all (CHAT-LIM-1).
    pub announce: Option<fn(&Limits, &mut wire::Limits)>,
    /// The capability that it belongs to: a server that does not grant it announces none.
    pub capability: Option<Capability>,
    /// The rule of the schema that it is for, if there is one.
    pub rule: Option<&'static str>,
    /// What happens beyond it.
    pub beyond: &'static str,
    pub(super) get: fn(&Limits) -> Option<u64>,
    pub(super) set: fn(&mut Limits, Option<u64>),
}

/// The value of a limit where none is given; none is `off`.
#[derive(Debug, Clone, Copy)]
pub enum Default {
    /// The same for every server.
    Fixed(Option<u64>),
    /// It follows from the limits before it, in these words.
    Derived(&'static str, fn(&Limits) -> Option<u64>),
}

impl Limit {
    /// What it limits.
    pub fn help(&self) -> &'static str {
        self.help.trim()
    }

    /// The name of the option, without its dashes.
    pub fn option(&self) -> String {
        match self.option {
            Some(option) => option.to_owned(),
            None => self.field.replace('_', "-"),
        }
    }

    /// The name of the environment variable.
    pub fn variable(&self) -> String {
        let option = self.option().to_ascii_uppercase();
        format!("CHAT_{}", option.replace('-', "_"))
    }

    /// Reads a value, `off` too where that is allowed. Whether it is in range shows
    /// only beside the others: [`Limits::resolve`].
    ///
    /// # Errors
    ///
    /// A sentence that says how values are written.
    pub fn parse(&self, text: &str) -> Result<Option<u64>, String> {
        if self.can_be_off && text.eq_ignore_ascii_case("off") {
            return Ok(None);
        }
        let or_off = if self.can_be_off {
            "; or off for no limit"
        } else {
            ""
        };
        let value = self.unit.parse(text);
        value
            .map(Some)
            .map_err(|sentence| format!("{sentence}{or_off}"))
    }

    /// Writes a value as [`Limit::parse`] reads it.
    pub fn show(&self, value: Option<u64>) -> String {
        value.map_or_else(|| "off".to_owned(), |value| self.unit.show(value))
    }

    /// Its value in these limits.
    pub fn value(&self, limits: &Limits) -> Option<u64> {
        (self.get)(limits)
    }

    pub(super) fn default(&self, limits: &Limits) -> Option<u64> {
        match self.default {
            Default::Fixed(value) => value,
            Default::Derived(_, value) => value(limits),
        }
    }

    /// The values that it may have beside these limits, as a person reads them.
    pub fn shown_range(&self, limits: &Limits) -> String {
        let range = (self.range)(limits);
        let (mut least, mut most) = (*range.start(), *range.end());
        if self.unit == Unit::Rate {
            // The longer the interval, the lower the rate.
            (least, most) = (most, least);
        }
        let or = if self.unit == Unit::Switch {
            "or"
        } else {
            "to"
        };
        format!("{} {or} {}", self.unit.show(least), self.unit.show(most))
    }

    /// Checks a value against the limits before it.
    pub(super) fn check(&self, limits: &Limits, value: Option<u64>) -> Result<(), String> {
        match value {
            Some(value) if !(self.range)(limits).contains(&value) => Err(format!(
                "--{} must be from {}, not {}{}{}",
                self.option(),
                self.shown_range(limits),
                self.unit.show(value),
                if self.because.is_some() { ": " } else { "" },
                self.because.unwrap_or_default(),
            )),
            _ => Ok(()),
        }
    }
}

/// The type of a field of [`Limits`].
pub(super) trait Field: Copy {
    const CAN_BE_OFF: bool;
    const UNSET: Self;
    fn get(self) -> Option<u64>;
    fn set(&mut self, value: Option<u64>);
}

impl Field for u64 {
    const CAN_BE_OFF: bool = false;
    const UNSET: Self = 0;
    fn get(self) -> Option<u64> {
        Some(self)
    }
    fn set(&mut self, value: Option<u64>) {
        *self = value.unwrap_or(0);
    }
}

impl Field for u32 {
    const CAN_BE_OFF: bool = false;
    const UNSET: Self = 0;
    fn get(self) -> Option<u64> {
        Some(self.into())
    }
    fn set(&mut self, value: Option<u64>) {
        // The range ends below; a test sees to it.
        *self = value.unwrap_or(0).try_into().unwrap_or(u32::MAX);
    }
}

impl Field for Option<u32> {
    const CAN_BE_OFF: bool = true;
    const UNSET: Self = None;
    fn get(self) -> Option<u64> {
        self.map(Into::into)
    }
    fn set(&mut self, value: Option<u64>) {
        *self = value.map(|value| value.try_into().unwrap_or(u32::MAX));
    }
}

impl Field for bool {
    const CAN_BE_OFF: bool = false;
    const UNSET: Self = false;
    fn get(self) -> Option<u64> {
        Some(self.into())
    }
    fn set(&mut self, value: Option<u64>) {
        *self = value == Some(1);
    }
}

/// Declares the limits: the help text, the field with its type, the rest.
macro_rules! limits {
    ($($(#[doc = $help:literal])+ $field:ident: $type:ty = $limit:expr;)+) => {
        /// The bounds of one server. [`Limits::default`] suits a room of people.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct Limits {
            $($(#[doc = $help])+ pub $field: $type,)+
        }

        /// Every limit. A limit that another one follows from stands before it.
        pub const LIMITS: &[Limit] = &[$(Limit {
            field: stringify!($field),
            help: concat!($($help),+),
            can_be_off: <$type as Field>::CAN_BE_OFF,
            get: |limits| limits.$field.get(),
            set: |limits, value| limits.$field.set(value),
            ..$limit
        },)+];

        impl Limits {
            const UNSET: Self = Self { $($field: <$type as Field>::UNSET,)+ };
        }
    };
}
pub(super) use limits;

/// What a declaration leaves out.
pub(super) const COUNT: Limit = Limit {
    field: "",
    help: "",
    option: None,
    unit: Unit::Count,
    default: Default::Fixed(None),
    range: |_| 0..=0,
    because: None,
    can_be_off: false,
    is_live: false,
    announce: None,
    capability: None,
    rule: None,
    beyond: "",
    get: |_| None,
    set: |_, _| (),
};

/// What the declaration of a size leaves out.
pub(super) const BYTES: Limit = Limit {
    unit: Unit::Bytes,
    ..COUNT
};

/// What the declaration of a time leaves out.
pub(super) const TIME: Limit = Limit {
    unit: Unit::Milliseconds,
    range: |_| 1..=super::DEADLINE_MS_CEILING,
    ..COUNT
};
