//! Expressions: a number in a transcript, plain or computed from an announced limit.

use std::{collections::BTreeMap, fmt};

/// `4`, `text_bytes_max`, `text_bytes_max+1`, `idle_deadline_ms*2`,
/// `idle_deadline_ms/2`, `chat_burst*chat_interval_ms`, `chat_burst or 50`.
#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    base: Base,
    times: Base,
    divided: u64,
    plus: i64,
    /// Stands in for a limit that is 0.
    otherwise: Option<u64>,
}

#[derive(Clone, Debug, PartialEq)]
enum Base {
    Number(u64),
    Limit(String),
}

impl Base {
    fn parse(text: &str) -> Option<Self> {
        if let Ok(n) = text.parse() {
            Some(Self::Number(n))
        } else if limit_names().iter().any(|l| l == text) {
            Some(Self::Limit(text.to_owned()))
        } else {
            None
        }
    }

    fn value(&self, limits: &Limits) -> u64 {
        match self {
            Self::Number(n) => *n,
            Self::Limit(name) => limits.get(name),
        }
    }
}

impl fmt::Display for Base {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(n) => write!(f, "{n}"),
            Self::Limit(name) => f.write_str(name),
        }
    }
}

impl Expr {
    /// Reads an expression; the error says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wanted = || {
            format!(
                "expected a number or a limit such as text_bytes_max, text_bytes_max+1, \
                 idle_deadline_ms*2 or \"chat_burst or 50\", found {text:?}"
            )
        };
        let (text, otherwise) = match text.split_once(" or ") {
            Some((text, n)) => (text, Some(n.trim().parse().map_err(|_| wanted())?)),
            None => (text, None),
        };
        let text = text.trim();
        let end = text.find(['*', '/', '+', '-']).unwrap_or(text.len());
        let (base, tail) = text.split_at(end);
        let base = Base::parse(base).ok_or_else(wanted)?;
        let (mut times, mut divided, mut plus) = (Base::Number(1), 1, 0);
        if let Some(factor) = tail.strip_prefix('*') {
            times = Base::parse(factor).ok_or_else(wanted)?;
        } else if let Some(divisor) = tail.strip_prefix('/') {
            divided = divisor.parse().map_err(|_| wanted())?;
            if divided == 0 {
                return Err(wanted());
            }
        } else if !tail.is_empty() {
            plus = tail.parse().map_err(|_| wanted())?;
        }
        Ok(Self {
            base,
            times,
            divided,
            plus,
            otherwise,
        })
    }

    /// Whether it depends on an announced limit.
    pub fn is_limit(&self) -> bool {
        matches!(self.base, Base::Limit(_))
    }

    /// Whether it depends on this limit.
    pub fn is_of(&self, limit: &str) -> bool {
        [&self.base, &self.times]
            .into_iter()
            .any(|base| matches!(base, Base::Limit(name) if name == limit))
    }

    /// The number, given the limits in force.
    pub fn value(&self, limits: &Limits) -> u64 {
        let mut base = self.base.value(limits);
        if let (0, Some(otherwise)) = (base, self.otherwise) {
            base = otherwise;
        }
        (base.saturating_mul(self.times.value(limits)) / self.divided)
            .saturating_add_signed(self.plus)
    }
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.base)?;
        if self.times != Base::Number(1) {
            write!(f, "*{}", self.times)?;
        }
        if self.divided != 1 {
            write!(f, "/{}", self.divided)?;
        }
        if self.plus != 0 {
            write!(f, "{:+}", self.plus)?;
        }
        if let Some(otherwise) = self.otherwise {
            write!(f, " or {otherwise}")?;
        }
        Ok(())
    }
}

/// The fields of the schema's Limits.
pub fn limit_names() -> Vec<String> {
    crate::messages::fields("chat.v1.Limits")
}

/// The limits that a server announced, by the schema's names.
#[derive(Clone, Debug, Default)]
pub struct Limits(BTreeMap<String, u64>);

impl Limits {
    /// Takes them from a Registered's `limits` in proto3 JSON.
    pub fn from_json(limits: &serde_json::Value) -> Self {
        let mut map = BTreeMap::new();
        for name in limit_names() {
            let value = &limits[crate::messages::json_name(&name)];
            let number = value
                .as_u64()
                .or_else(|| value.as_str().and_then(|s| s.parse().ok()));
            map.insert(name, number.unwrap_or(0));
        }
        Self(map)
    }

    /// Assumed of a server that announces none, and used for `export`.
    pub fn assumed() -> Self {
        let values = [
            ("frame_bytes_max", 8192),
            ("text_bytes_max", 4096),
            ("name_bytes_max", 32),
            ("chat_burst", 0),
            ("chat_interval_ms", 0),
            ("register_deadline_ms", 2_000),
            ("keepalive_interval_ms", 1_000),
            ("idle_deadline_ms", 2_000),
            ("write_deadline_ms", 2_000),
            ("lag_bytes_max", 1_048_576),
        ];
        Self(values.map(|(name, n)| (name.to_owned(), n)).into())
    }

    /// One of them, 0 where it was absent.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// All of them, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(name, n)| (name.as_str(), *n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read_computed_and_written_back() {
        let limits = Limits::assumed();
        for (text, value) in [
            ("7", 7),
            ("text_bytes_max", 4096),
            ("text_bytes_max+1", 4097),
            ("text_bytes_max-1", 4095),
            ("text_bytes_max/2", 2048),
            ("idle_deadline_ms*2", 4000),
            ("text_bytes_max*idle_deadline_ms", 8_192_000),
            ("chat_burst or 50", 50),
        ] {
            let expr = Expr::parse(text).unwrap();
            assert_eq!(expr.value(&limits), value, "{text}");
            assert_eq!(expr.to_string(), text);
        }
        assert!(Expr::parse("text_bytes").is_err());
        assert!(Expr::parse("7*x").is_err());
    }
}
