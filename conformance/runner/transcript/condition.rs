//! Preconditions: what a case requires of the limits that a server announces.

use std::fmt;

use super::{Expr, expr::Limits};

/// One condition of a case's `when:` line.
#[derive(Clone, Debug)]
pub enum Condition {
    /// `chat_interval_ms`: the limit is announced as more than 0.
    Announced(Expr),
    /// `errors_max >= chat_burst*2`: the one leaves room for the other. A limit that
    /// is absent leaves room for anything.
    AtLeast(Expr, Expr),
}

impl Condition {
    /// Reads a condition; the error says what was expected.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(match text.split_once(">=") {
            Some((limit, needed)) => Self::AtLeast(Expr::parse(limit)?, Expr::parse(needed)?),
            None => Self::Announced(Expr::parse(text)?),
        })
    }

    /// Whether it is about this limit.
    pub fn is_of(&self, limit: &str) -> bool {
        match self {
            Self::Announced(expr) => expr.is_of(limit),
            Self::AtLeast(expr, needed) => expr.is_of(limit) || needed.is_of(limit),
        }
    }

    /// Why it does not hold, in a sentence.
    pub fn why_not(&self, limits: &Limits) -> Option<String> {
        match self {
            Self::Announced(limit) => {
                (limit.value(limits) == 0).then(|| format!("the server announces no {limit}"))
            }
            Self::AtLeast(limit, needed) => {
                let (has, needs) = (limit.value(limits), needed.value(limits));
                (has != 0 && has < needs).then(|| {
                    format!(
                        "it needs {limit} >= {needed}, and the server announces {has} and {needs}"
                    )
                })
            }
        }
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Announced(limit) => write!(f, "{limit}"),
            Self::AtLeast(limit, needed) => write!(f, "{limit} >= {needed}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_absent_limit_meets_every_bound() {
        let condition = Condition::parse("errors_max >= chat_burst*2").unwrap();
        assert_eq!(condition.to_string(), "errors_max >= chat_burst*2");
        for (errors_max, chat_burst, holds) in
            [(40, 20, true), (39, 20, false), (0, 20, true), (1, 0, true)]
        {
            let limits = json!({"errorsMax": errors_max, "chatBurst": chat_burst});
            let why_not = condition.why_not(&Limits::from_json(&limits));
            assert_eq!(why_not.is_none(), holds, "{limits}: {why_not:?}");
        }
    }

    #[test]
    fn a_required_limit_must_be_announced() {
        let condition = Condition::parse("chat_interval_ms").unwrap();
        for (chat_interval_ms, holds) in [(0, false), (1, true)] {
            let limits = Limits::from_json(&json!({"chatIntervalMs": chat_interval_ms}));
            assert_eq!(condition.why_not(&limits).is_none(), holds);
        }
        assert!(Condition::parse("errors_max >=").is_err());
    }
}
