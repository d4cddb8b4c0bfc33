//! Reconnecting: when to try again, and when not to. Pure.

use std::time::Duration;

use crate::client::{ConnectError, Ending};
use crate::wire::ErrorCode;

/// The longest wait before the first try, and before any, in milliseconds. The wait
/// doubles from try to try.
const WAIT_FIRST_MS: u64 = 1_000;
const WAIT_MS_MAX: u64 = 60_000;

/// The waits between tries to connect: exponential back-off with jitter.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next wait. `random` spreads clients that were cut off together over half of
    /// it.
    pub(super) fn next(&mut self, random: u64) -> Duration {
        let doubled = 1_u64.checked_shl(self.tries.min(16)).unwrap_or(u64::MAX);
        let wait_ms = WAIT_FIRST_MS.saturating_mul(doubled).min(WAIT_MS_MAX);
        self.tries = self.tries.saturating_add(1);
        Duration::from_millis(wait_ms / 2 + random % (wait_ms / 2 + 1))
    }

    /// A session lasted: the next loss is a new one.
    pub(super) fn reset(&mut self) {
        self.tries = 0;
    }

    /// The server asks its clients to slow down.
    pub(super) fn slow_down(&mut self) {
        self.tries = self.tries.max(6);
    }
}

/// Whether to connect again after a session that ended so.
pub(super) fn is_worth_a_try(ending: &Ending) -> bool {
    match ending {
        Ending::Left => false,
        Ending::ServerClosed { .. } | Ending::Lost { .. } => true,
        Ending::Error { code, .. } => is_passing(*code),
    }
}

/// Whether to try again after a connect that failed so.
pub(super) fn may_work_later(error: &ConnectError) -> bool {
    match error {
        ConnectError::Address(_) | ConnectError::NotChat | ConnectError::Untrusted(_) => false,
        ConnectError::Refused { code, .. } => is_passing(*code),
        _ => true,
    }
}

/// Whether the server is the reason, and not what the client asked for. Somebody else
/// has the name, or the password is wrong: only the user can change that (CHAT-ADM-7).
fn is_passing(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::IdleTimeout
            | ErrorCode::Overloaded
            | ErrorCode::SlowConsumer
            | ErrorCode::ServerFull
            | ErrorCode::TooManyConnections
            | ErrorCode::ConnectingTooFast
            | ErrorCode::RegisterTimeout
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute() {
        for random in [0, 12_345, u64::MAX] {
            let mut backoff = Backoff::default();
            let mut longest_ms = 1_000;
            for _ in 0..100 {
                let wait_ms = backoff.next(random).as_millis();
                assert!(wait_ms >= longest_ms / 2 && wait_ms <= longest_ms);
                longest_ms = (longest_ms * 2).min(60_000);
            }
            backoff.reset();
            assert!(backoff.next(random).as_millis() <= 1_000);
        }
    }

    #[test]
    fn what_only_the_user_can_change_is_not_tried_again() {
        let ended = |code| Ending::Error {
            code,
            detail: String::new(),
        };
        let refused = |code| ConnectError::Refused {
            code,
            detail: String::new(),
            retry_after_ms: 0,
        };
        for code in [
            ErrorCode::NameInUse,
            ErrorCode::NameReclaimed,
            ErrorCode::PasswordWrong,
            ErrorCode::NameNotAllowed,
            ErrorCode::MalformedFrame,
            ErrorCode::Unspecified,
        ] {
            assert!(!is_worth_a_try(&ended(code)), "{code:?}");
            assert!(!may_work_later(&refused(code)), "{code:?}");
        }
        assert!(!is_worth_a_try(&Ending::Left));
        assert!(is_worth_a_try(&ended(ErrorCode::SlowConsumer)));
        assert!(may_work_later(&refused(ErrorCode::ServerFull)));
        assert!(may_work_later(&ConnectError::Closed));
        assert!(!may_work_later(&ConnectError::NotChat));
    }
}
