//! Jobs: how many cases are played at a time. A case that waits for the network leaves the
//! machine to other cases, so more of them are played at a server that is far away.

use std::time::Duration;

use crate::{connection_caps::ConnectionCaps, timing::ROUND_TRIP_PER_JOB};

/// How many cases at a time, next to the target.
const NEAR: usize = 4;

/// How many cases at a time at the most, however long the round trip: two connections each
/// are as many as a server often takes from one address.
const FAR_MAX: usize = 32;

/// How many cases are played at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Jobs {
    /// As many as the command line says, or as the kind of run allows.
    Exactly(usize),
    /// By the round trip.
    ByRoundTrip,
}

impl Jobs {
    /// How many are played at a server that is so far away. More cases at a time open more
    /// connections a minute, so a cap on those leaves the number alone.
    pub fn over(self, round_trip: Duration, caps: ConnectionCaps) -> usize {
        match self {
            Self::Exactly(jobs) => jobs.max(1),
            Self::ByRoundTrip if caps.minute.is_some() => NEAR,
            Self::ByRoundTrip => {
                let more = round_trip.as_millis() / ROUND_TRIP_PER_JOB.as_millis();
                let more = usize::try_from(more).unwrap_or(FAR_MAX);
                NEAR.saturating_add(more).min(FAR_MAX)
            }
        }
    }

    /// How many still go on when the server has turned a connection away because it has too
    /// many. The command line is obeyed.
    pub fn without_room(self) -> usize {
        match self {
            Self::Exactly(jobs) => jobs.max(1),
            Self::ByRoundTrip => NEAR,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn over(jobs: Jobs, round_trip_ms: u64) -> usize {
        let round_trip = Duration::from_millis(round_trip_ms);
        jobs.over(round_trip, ConnectionCaps::default())
    }

    #[test]
    fn a_server_far_away_gets_more_cases_at_a_time_up_to_a_bound() {
        let found = [0, 9, 100, 400, 60_000].map(|ms| over(Jobs::ByRoundTrip, ms));
        assert_eq!(found, [4, 4, 14, 32, 32]);
    }

    #[test]
    fn the_command_line_wins() {
        assert_eq!(over(Jobs::Exactly(2), 400), 2);
        assert_eq!(Jobs::Exactly(40).without_room(), 40);
    }

    #[test]
    fn a_server_that_counts_new_connections_gets_no_more_of_them() {
        let caps = ConnectionCaps {
            minute: Some(120),
            ..ConnectionCaps::default()
        };
        assert_eq!(
            Jobs::ByRoundTrip.over(Duration::from_millis(400), caps),
            NEAR
        );
    }
}
