//! Reconnecting: after which ends of a session a client connects again, and how long it
//! waits before. Pure.

use std::time::{Duration, Instant};

use super::event::Ending;
use crate::wire::ErrorCode;

/// How long a session must last so that its end is not one more failure of the same
/// outage, in milliseconds.
const STEADY_MS: u64 = 10_000;

/// How long a client tries again what is perhaps in vain, in milliseconds: the server may
/// not have noticed yet that the old connection is gone, and then the name is in use for
/// as long as a silent member may stay (CHAT-KEEP-4).
const DOUBTFUL_MS_MAX: u64 = 180_000;

/// The longest wait that a server can ask for, in milliseconds.
const RETRY_AFTER_MS_MAX: u32 = 600_000;

/// When to connect again after a session was lost.
///
/// Each try waits twice as long as the one before, half of it by chance, so that the
/// clients of a server that comes back do not come all at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    /// The longest wait before the first try.
    pub first: Duration,
    /// The longest wait before any try.
    pub longest: Duration,
    /// How long to go on without a session that lasts.
    pub give_up_after: Duration,
}

impl Default for Backoff {
    /// One second, one minute, one day.
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            longest: Duration::from_secs(60),
            give_up_after: Duration::from_secs(86_400),
        }
    }
}

/// Whether another try can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Retry {
    /// Only the user can change it.
    Never,
    /// For a while.
    Doubtful,
    /// Until the server is back.
    Worthwhile,
}

/// How long the server asks the client to wait, in milliseconds, by how a session ended
/// (CHAT-CLOSE-8).
pub(crate) fn retry_after_ms(ending: &Ending) -> u32 {
    match ending {
        Ending::ServerClosed { retry_after_ms, .. } => *retry_after_ms,
        _ => 0,
    }
}

impl Retry {
    pub(crate) fn after(ending: &Ending) -> Self {
        match ending {
            Ending::Left => Self::Never,
            Ending::ServerClosed { .. } | Ending::Lost { .. } => Self::Worthwhile,
            Ending::Error { code, .. } => Self::after_code(*code),
        }
    }

    pub(crate) fn after_code(code: ErrorCode) -> Self {
        match code {
            ErrorCode::IdleTimeout
            | ErrorCode::SlowConsumer
            | ErrorCode::Overloaded
            | ErrorCode::ServerFull
            | ErrorCode::ClusterUnreachable
            | ErrorCode::TooManyConnections
            | ErrorCode::ConnectingTooFast
            | ErrorCode::RegisterTimeout => Self::Worthwhile,
            // The old session may have the name, unless the server resumes. And a stream
            // that was cut inside a frame is malformed.
            ErrorCode::NameInUse | ErrorCode::MalformedFrame => Self::Doubtful,
            // CHAT-RES-19, CHAT-NAME-10, CHAT-ADM-7, CHAT-ID-15, CHAT-MOD-6. An unknown code may mean that the
            // client is not wanted here (CHAT-GROW-5).
            _ => Self::Never,
        }
    }
}

/// Why a try to connect failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// How the session ends, if this was the last try.
    pub(crate) ending: Ending,
    pub(crate) retry: Retry,
    /// How long the server asks the client to wait, in milliseconds.
    pub(crate) retry_after_ms: u32,
}

/// The tries of one outage, which ends with a session that lasts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Outage {
    tries: u32,
    since: Option<Instant>,
}

impl Outage {
    /// A session that lasted so long has ended.
    pub(crate) fn session_ended(&mut self, lasted: Duration) {
        if lasted >= Duration::from_millis(STEADY_MS) {
            *self = Self::default();
        }
    }

    /// How long to wait before the next try; `None`: there is none. `random` is any
    /// number, `retry_after_ms` what the server asked for.
    pub(crate) fn next_wait(
        &mut self,
        backoff: &Backoff,
        (retry, retry_after_ms): (Retry, u32),
        random: u64,
        now: Instant,
    ) -> Option<Duration> {
        let tried = now.saturating_duration_since(*self.since.get_or_insert(now));
        let doubtful_max = Duration::from_millis(DOUBTFUL_MS_MAX);
        let try_max = match retry {
            Retry::Never => return None,
            Retry::Doubtful => backoff.give_up_after.min(doubtful_max),
            Retry::Worthwhile => backoff.give_up_after,
        };
        if tried >= try_max {
            return None;
        }
        let doubled = 1_u32.checked_shl(self.tries).unwrap_or(u32::MAX);
        self.tries = self.tries.saturating_add(1);
        let wait = backoff.first.saturating_mul(doubled).min(backoff.longest);
        let wait_us = u64::try_from(wait.as_micros()).unwrap_or(u64::MAX);
        let wait = Duration::from_micros(wait_us / 2 + random % (wait_us / 2 + 1));
        let asked = Duration::from_millis(retry_after_ms.min(RETRY_AFTER_MS_MAX).into());
        Some(wait.max(asked))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended(code: ErrorCode) -> Ending {
        Ending::Error {
            code,
            detail: String::new(),
        }
    }

    #[test]
    fn waits_double_up_to_the_longest_and_never_beyond() {
        let backoff = Backoff::default();
        for random in [0, 12_345_678, u64::MAX] {
            let (mut outage, now) = (Outage::default(), Instant::now());
            let mut longest = Duration::from_secs(1);
            for _ in 0..100 {
                let wait = outage.next_wait(&backoff, (Retry::Worthwhile, 0), random, now);
                let wait = wait.expect("another try");
                assert!(wait >= longest / 2 && wait <= longest, "{wait:?}");
                longest = (longest * 2).min(Duration::from_secs(60));
            }
        }
    }

    #[test]
    fn only_a_session_that_lasts_ends_the_outage() {
        let (backoff, now) = (Backoff::default(), Instant::now());
        let mut outage = Outage::default();
        let next = |outage: &mut Outage| {
            outage
                .next_wait(&backoff, (Retry::Worthwhile, 0), u64::MAX, now)
                .expect("another try")
        };
        for _ in 0..10 {
            next(&mut outage);
            outage.session_ended(Duration::from_millis(STEADY_MS - 1));
        }
        assert!(next(&mut outage) > Duration::from_secs(10));
        outage.session_ended(Duration::from_millis(STEADY_MS));
        assert!(next(&mut outage) <= Duration::from_secs(1));
    }

    #[test]
    fn it_gives_up_in_the_end_and_earlier_what_is_doubtful() {
        let (backoff, start) = (Backoff::default(), Instant::now());
        let mut outage = Outage::default();
        let mut waits = |retry, seconds| {
            let now = start + Duration::from_secs(seconds);
            outage.next_wait(&backoff, (retry, 0), 0, now).is_some()
        };
        assert!(waits(Retry::Doubtful, 0));
        assert!(waits(Retry::Doubtful, 179));
        assert!(!waits(Retry::Doubtful, 180));
        assert!(waits(Retry::Worthwhile, 86_399));
        assert!(!waits(Retry::Worthwhile, 86_400));
        assert!(!waits(Retry::Never, 0));
    }

    #[test]
    fn what_the_server_asks_for_is_kept_within_reason() {
        let (backoff, now) = (Backoff::default(), Instant::now());
        for (asked_ms, waits_ms) in [(5_000, 5_000), (u32::MAX, 600_000)] {
            let mut outage = Outage::default();
            let wait = outage.next_wait(&backoff, (Retry::Worthwhile, asked_ms), 0, now);
            assert_eq!(wait, Some(Duration::from_millis(waits_ms)));
        }
    }

    #[test]
    fn what_only_the_user_can_change_is_not_tried_again() {
        for code in [
            ErrorCode::Replaced,
            ErrorCode::Kicked,
            ErrorCode::Banned,
            ErrorCode::NameReclaimed,
            ErrorCode::NameInvalid,
            ErrorCode::NameReserved,
            ErrorCode::NameNotAllowed,
            ErrorCode::PasswordWrong,
            ErrorCode::TooManyErrors,
            ErrorCode::FrameTooLong,
            ErrorCode::Unspecified,
        ] {
            assert_eq!(Retry::after(&ended(code)), Retry::Never, "{code:?}");
        }
        assert_eq!(Retry::after(&Ending::Left), Retry::Never);
        for code in [ErrorCode::SlowConsumer, ErrorCode::Overloaded] {
            assert_eq!(Retry::after(&ended(code)), Retry::Worthwhile);
        }
        let in_use = ended(ErrorCode::NameInUse);
        assert_eq!(Retry::after(&in_use), Retry::Doubtful);
    }
}
