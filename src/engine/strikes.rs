//! How many errors that it survives a session may provoke (CHAT-ERR-8). Generous,
//! and forgiving: a newer client sends what an older server does not know, and a
//! script sends faster than it may. Who goes on regardless does nothing else.

/// An error is forgotten every so often, in milliseconds.
const FORGOTTEN_EVERY_MS: u64 = 100;

/// The errors of one session, kept as the time at which they would all be forgotten,
/// in steps of [`FORGOTTEN_EVERY_MS`]: 32 bits are 13 years.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Strikes {
    forgotten_at: u32,
}

impl Strikes {
    /// Counts an error. Returns whether that is more than `most`.
    pub(super) fn add(&mut self, now_ms: u64, most: u32) -> bool {
        let now = u32::try_from(now_ms / FORGOTTEN_EVERY_MS).unwrap_or(u32::MAX);
        self.forgotten_at = self.forgotten_at.max(now).saturating_add(1);
        self.forgotten_at - now > most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_at_once() {
        let mut strikes = Strikes::default();
        for _ in 0..100 {
            assert!(!strikes.add(5_000, 100));
        }
        assert!(strikes.add(5_000, 100));
    }

    #[test]
    fn time_heals_ten_a_second_and_no_more_than_there_were() {
        let mut strikes = Strikes::default();
        for _ in 0..100 {
            assert!(!strikes.add(0, 100));
        }
        for _ in 0..10 {
            assert!(!strikes.add(1_000, 100));
        }
        assert!(strikes.add(1_000, 100));
        for _ in 0..100 {
            assert!(!strikes.add(3_600_000, 100));
        }
        assert!(strikes.add(3_600_000, 100));
    }
}
