//! Error budget: how many non-fatal errors a session may provoke (CHAT-ERR-8). It is
//! generous and forgiving: a newer client sends what an older server does not know,
//! and a script sends faster than it may. A client that goes on regardless does
//! nothing else.

use crate::token_bucket::TokenBucket;

/// One error is forgotten every so often, in milliseconds.
const FORGOTTEN_EVERY_MS: u64 = 100;

/// The errors of one session that are not forgotten yet.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ErrorBudget {
    bucket: TokenBucket,
}

impl ErrorBudget {
    /// Charges one error. Returns whether the session has provoked more than
    /// `errors_max`.
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
    fn a_burst_of_errors_up_to_the_limit_is_survived() {
        let mut errors = ErrorBudget::default();
        for _ in 0..100 {
            assert!(!errors.charge(5_000, 100));
        }
        assert!(errors.charge(5_000, 100));
    }

    #[test]
    fn ten_errors_a_second_are_forgotten_and_no_more_than_there_were() {
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
