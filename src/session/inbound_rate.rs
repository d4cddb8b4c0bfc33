//! Inbound rate limit: how many frames and bytes the server reads from a member
//! (CHAT-LIM-9), whatever they hold. A member above the rate is throttled, not closed:
//! the server stops reading from it until the excess is paid off, and TCP makes it wait.
//! An honest client with much to send loses nothing, and a flood costs no more than the
//! limit allows.

use crate::{
    limits::{FLOOD_WINDOW_MS, Limits, Rate},
    token_bucket::TokenBucket,
};

const NS_PER_MS: u64 = 1_000_000;
const NS_PER_SECOND: u64 = 1_000_000_000;

/// A token bucket in nanoseconds. A frame costs a second divided by the frames per
/// second, and a byte a second divided by the bytes per second; the larger cost counts.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct InboundRate {
    bucket: TokenBucket,
}

impl InboundRate {
    /// Charges frames and bytes that arrived.
    pub(super) fn charge(&mut self, now_ms: u64, frames: u64, bytes: u64, limits: &Limits) {
        let cost_ns = cost_ns(frames, limits.frames_per_second_max)
            .max(cost_ns(bytes, limits.bytes_per_second_max));
        self.bucket.charge(now_ms * NS_PER_MS, cost_ns);
    }

    /// Charges bytes of files, which have a rate of their own (CHAT-FILE-15).
    pub(super) fn charge_files(&mut self, now_ms: u64, bytes: u64, limits: &Limits) {
        let cost_ns = cost_ns(bytes, limits.file_bytes_per_second_max);
        self.bucket.charge(now_ms * NS_PER_MS, cost_ns);
    }

    /// Whether the rate is exceeded, so that the server must stop reading. This ends, since
    /// one charge is at most one read.
    pub(super) fn is_exceeded(&self, now_ms: u64, limits: &Limits) -> bool {
        let capacity_ns = window_ms(limits.chat_rate()) * NS_PER_MS;
        self.bucket.is_overdrawn(now_ms * NS_PER_MS, capacity_ns)
    }
}

fn cost_ns(count: u64, per_second_max: Option<u32>) -> u64 {
    per_second_max.map_or(0, |most| {
        count.saturating_mul(NS_PER_SECOND) / u64::from(most)
    })
}

/// The capacity of the bucket, as the time in which the rate allows as much, in
/// milliseconds. The rate is at least twice the chat rate, so a burst of chats fits in
/// twice (CHAT-LIM-2).
fn window_ms(rate: Option<Rate>) -> u64 {
    let burst_ms = rate.map_or(0, |rate| {
        u64::from(rate.burst) * u64::from(rate.interval_ms)
    });
    burst_ms.max(FLOOD_WINDOW_MS)
}

#[cfg(test)]
mod tests {
    use super::*;

    impl InboundRate {
        /// Charges, and returns whether the rate is exceeded then.
        fn exceeds(&mut self, now_ms: u64, frames: u64, bytes: u64, limits: &Limits) -> bool {
            self.charge(now_ms, frames, bytes, limits);
            self.is_exceeded(now_ms, limits)
        }
    }

    fn limits(frames: Option<u32>, bytes: Option<u32>) -> Limits {
        Limits {
            frames_per_second_max: frames,
            bytes_per_second_max: bytes,
            ..Limits::default()
        }
    }

    #[test]
    fn the_inbound_rate_allows_ten_seconds_worth_at_once() {
        let limits = limits(Some(100), None);
        let mut inbound = InboundRate::default();
        assert!(!inbound.exceeds(0, 1_000, 1 << 30, &limits));
        assert!(inbound.exceeds(0, 1, 1, &limits));
        assert!(inbound.is_exceeded(9, &limits));
        assert!(!inbound.is_exceeded(10, &limits));
        assert!(!inbound.exceeds(1_000, 99, 0, &limits));
        assert!(inbound.exceeds(1_000, 1, 0, &limits));
        // Silence pays off the excess, and saves up no more than ten seconds' worth.
        assert!(!inbound.exceeds(90_000, 1_000, 0, &limits));
        assert!(inbound.exceeds(90_000, 1, 0, &limits));
    }

    #[test]
    fn the_inbound_rate_allows_twice_the_chat_burst_at_once() {
        let limits = Limits {
            chat_burst: 30,
            chat_interval_ms: Some(1_000),
            ..limits(Some(2), None)
        };
        let mut inbound = InboundRate::default();
        assert!(!inbound.exceeds(0, 60, 0, &limits));
        assert!(inbound.exceeds(0, 1, 0, &limits));
    }

    #[test]
    fn the_inbound_rate_counts_bytes_apart_from_frames() {
        let limits = limits(Some(100), Some(1_000));
        let mut inbound = InboundRate::default();
        assert!(!inbound.exceeds(0, 1, 10_000, &limits));
        assert!(inbound.exceeds(0, 0, 1, &limits));
        assert!(!inbound.is_exceeded(1, &limits));
    }

    #[test]
    fn without_an_inbound_rate_nothing_is_throttled() {
        let limits = limits(None, None);
        assert!(!InboundRate::default().exceeds(0, u64::MAX, u64::MAX, &limits));
    }

    #[test]
    fn a_member_within_the_chat_rate_is_never_throttled() {
        let limits = Limits::default();
        let rate = limits.chat_rate().expect("the default has one");
        let frame_bytes = u64::from(limits.frame_bytes_max);
        let mut inbound = InboundRate::default();
        let mut now_ms = 0;
        for chat in 0..10_000u32 {
            if chat > rate.burst {
                now_ms += u64::from(rate.interval_ms);
            }
            // The longest frame and a Pong.
            assert!(!inbound.exceeds(now_ms, 2, frame_bytes + 12, &limits));
        }
    }
}
