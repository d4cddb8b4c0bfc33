//! How many frames and bytes are taken from a member (CHAT-LIM-9), whatever they
//! hold. Who sends more is not closed but not read from for a while, so that the
//! system at its end makes it wait: an honest client that has much to say loses
//! nothing, and one that floods costs no more than the limit allows.

use crate::limits::{FLOOD_WINDOW_MS, Limits, Rate};

const NS_PER_MS: u64 = 1_000_000;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// What one member has sent of late, kept as the time at which that would be
/// forgotten, in nanoseconds. A frame is worth its share of a second, a byte its
/// own; what is worth more counts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Flood {
    forgotten_at_ns: u64,
}

impl Flood {
    /// Notes what came. Returns whether it is too much, so that nothing more is to
    /// be read for now.
    pub(super) fn take(&mut self, now_ms: u64, frames: u64, bytes: u64, limits: &Limits) -> bool {
        let worth_ns = |count: u64, per_second: Option<u32>| {
            per_second.map_or(0, |most| {
                count.saturating_mul(NS_PER_SECOND) / u64::from(most)
            })
        };
        let taken_ns = worth_ns(frames, limits.frames_per_second_max)
            .max(worth_ns(bytes, limits.bytes_per_second_max));
        self.forgotten_at_ns = self
            .forgotten_at_ns
            .max(now_ms * NS_PER_MS)
            .saturating_add(taken_ns);
        self.is_too_much(now_ms, limits)
    }

    /// Whether it is still too much. What was taken at once is never more than one
    /// read, so this comes to an end.
    pub(super) fn is_too_much(&self, now_ms: u64, limits: &Limits) -> bool {
        self.forgotten_at_ns > (now_ms + window_ms(limits.chat_rate())) * NS_PER_MS
    }
}

/// How much may come at once: as much as in this time, in milliseconds. The limits
/// are at least twice the rate of chats, so a burst of chats fits in twice
/// (CHAT-LIM-2).
fn window_ms(rate: Option<Rate>) -> u64 {
    let burst_ms = rate.map_or(0, |rate| {
        u64::from(rate.burst) * u64::from(rate.interval_ms)
    });
    burst_ms.max(FLOOD_WINDOW_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(frames: Option<u32>, bytes: Option<u32>) -> Limits {
        Limits {
            frames_per_second_max: frames,
            bytes_per_second_max: bytes,
            ..Limits::default()
        }
    }

    #[test]
    fn ten_seconds_worth_at_once_then_the_rate() {
        let limits = limits(Some(100), None);
        let mut flood = Flood::default();
        assert!(!flood.take(0, 1_000, 1 << 30, &limits));
        assert!(flood.take(0, 1, 1, &limits));
        assert!(flood.is_too_much(9, &limits));
        assert!(!flood.is_too_much(10, &limits));
        assert!(!flood.take(1_000, 99, 0, &limits));
        assert!(flood.take(1_000, 1, 0, &limits));
        // Silence makes up for it, and no further than for ten seconds.
        assert!(!flood.take(90_000, 1_000, 0, &limits));
        assert!(flood.take(90_000, 1, 0, &limits));
    }

    #[test]
    fn a_burst_that_is_worth_more_fits_in_twice() {
        let limits = Limits {
            chat_burst: 30,
            chat_interval_ms: Some(1_000),
            ..limits(Some(2), None)
        };
        let mut flood = Flood::default();
        assert!(!flood.take(0, 60, 0, &limits));
        assert!(flood.take(0, 1, 0, &limits));
    }

    #[test]
    fn bytes_count_for_themselves() {
        let limits = limits(Some(100), Some(1_000));
        let mut flood = Flood::default();
        assert!(!flood.take(0, 1, 10_000, &limits));
        assert!(flood.take(0, 0, 1, &limits));
        assert!(!flood.is_too_much(1, &limits));
    }

    #[test]
    fn no_limit_is_none() {
        let limits = limits(None, None);
        assert!(!Flood::default().take(0, u64::MAX, u64::MAX, &limits));
    }

    #[test]
    fn who_keeps_to_the_rate_of_chats_is_never_held_up() {
        let limits = Limits::default();
        let rate = limits.chat_rate().expect("the default has one");
        let frame_bytes = u64::from(limits.frame_bytes_max);
        let mut flood = Flood::default();
        let mut now_ms = 0;
        for chat in 0..10_000u32 {
            if chat > rate.burst {
                now_ms += u64::from(rate.interval_ms);
            }
            // The longest frame, with a Pong beside it.
            assert!(!flood.take(now_ms, 2, frame_bytes + 12, &limits));
        }
    }
}
