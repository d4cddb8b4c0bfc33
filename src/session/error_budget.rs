//! Error budget: a token bucket for the non-fatal errors that a session may cause
//! (CHAT-ERR-8). It is generous, since honest clients cause errors too: a newer client
//! sends messages that an older server does not know, and a script exceeds the chat
//! rate. A client that uses up the budget does little else.

use crate::token_bucket::TokenBucket;

/// In how much time the budget forgets one error, in milliseconds.
const FORGOTTEN_EVERY_MS: u64 = 100;

/// The errors of one session that are not forgotten yet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ErrorBudget {
    bucket: TokenBucket,
}

impl ErrorBudget {
    /// Charges one error. Returns whether the session has caused more than `errors_max`,
    /// forgotten ones left out.
    pub(super) fn charge(&mut self, now_ms: u64, errors_max: u32) -> bool {
        self.bucket.charge(now_ms, FORGOTTEN_EVERY_MS);
        let capacity_ms = u64::from(errors_max) * FORGOTTEN_EVERY_MS;
        self.bucket.is_overdrawn(now_ms, capacity_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_may_cause_errors_max_errors_at_once() {
        let mut errors = ErrorBudget::default();
        for _ in 0..100 {
            assert!(!errors.charge(5_000, 100));
        }
        assert!(errors.charge(5_000, 100));
    }

    #[test]
    fn the_error_budget_forgets_ten_errors_a_second_and_saves_nothing_up() {
        let mut errors = ErrorBudget::default();
        for _ in 0..100 {
            assert!(!errors.charge(0, 100));
        }
        for _ in 0..10 {
            assert!(!errors.charge(1_000, 100));
        }
        assert!(errors.charge(1_000, 100));
        for _ in 0..100 {
            assert!(!errors.charge(3_600_000, 100));
        }
        assert!(errors.charge(3_600_000, 100));
    }
}
