//! Sender window: paces senders by the readers that keep up, so that a burst runs
//! through memory that the processor still has in its cache.
//!
//! The window is small, and concerns a fast room: senders pause when more than half of
//! the readers that keep up are further behind than the window, and go on as soon as
//! half of them have caught up. A slow minority does not pause anybody by it; what a
//! slow member may cost is another bound, the lag of
//! [`slow_consumer`](super::slow_consumer).

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// How far behind readers may be before senders pause, in bytes: what a processor's
/// cache holds beside everything else. With a million messages in flight to 100 members,
/// 256 and 512 KiB gave 58 to 69 M deliveries/s, 1 MiB 45 to 54, 2 and 4 MiB 24 to 43;
/// 128 KiB 33 to 56, since senders pause more often than they gain.
const WINDOW_BYTES: u64 = 256 << 10;

/// The window is at most this part of what the log may hold, so that the pause for a
/// long log stays the later one.
const LAG_PARTS: u64 = 8;

/// The window and whether senders are paced by it. Read and changed without a lock.
pub(super) struct SenderWindow {
    window_bytes: u64,
    /// The readers are looked at when the log gets here, as a position.
    check_at: AtomicU64,
    /// How far readers have to get for the senders to go on, as a position; 0 while
    /// they are not paced.
    resume_at: AtomicU64,
    /// How many more readers have to get there.
    awaited: AtomicU32,
}

impl SenderWindow {
    pub(super) fn new(lag_bytes_max: u64) -> Self {
        let window_bytes = WINDOW_BYTES.min(lag_bytes_max / LAG_PARTS);
        Self {
            window_bytes,
            check_at: AtomicU64::new(window_bytes),
            resume_at: AtomicU64::new(0),
            awaited: AtomicU32::new(0),
        }
    }

    /// How far behind readers may be before senders pause, in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.window_bytes
    }

    /// Whether the readers have to be looked at, now that the log ends at `end`.
    pub(super) fn is_check_due(&self, end: u64) -> bool {
        end > self.check_at.load(Ordering::Relaxed)
    }

    /// Whether senders are paced.
    pub(super) fn is_closed(&self) -> bool {
        self.resume_at.load(Ordering::Relaxed) > 0
    }

    /// Looks at the readers that keep up, by their positions in a log that ends at
    /// `end`. Returns whether senders must pause.
    pub(super) fn check(&self, positions: &mut [u64], end: u64) -> bool {
        let half = positions.len() / 2;
        let window_start = end.saturating_sub(self.window_bytes);
        // More than half are behind the median, or at it.
        let median = match positions.len() {
            0 => end,
            _ => *positions.select_nth_unstable(half).1,
        };
        let resume_at = end.saturating_sub(self.window_bytes / 2);
        let behind = positions
            .iter()
            .filter(|&&position| position < resume_at)
            .count();
        if median >= window_start || behind <= half {
            self.resume_at.store(0, Ordering::Relaxed);
            // Not at every frame, however close it is.
            let next = (median + self.window_bytes).max(end + self.window_bytes / 8);
            self.check_at.store(next, Ordering::Relaxed);
            return false;
        }
        let awaited = u32::try_from(behind - half).unwrap_or(u32::MAX);
        self.awaited.store(awaited, Ordering::Relaxed);
        self.resume_at.store(resume_at, Ordering::Release);
        true
    }

    /// A reader got on. Returns whether senders may go on for that.
    pub(super) fn reader_moved(&self, from: u64, to: u64) -> bool {
        let resume_at = self.resume_at.load(Ordering::Acquire);
        if resume_at == 0 || from >= resume_at || to < resume_at {
            return false;
        }
        // The last of the awaited, and no other.
        self.awaited.fetch_sub(1, Ordering::AcqRel) == 1
            && self.resume_at.swap(0, Ordering::AcqRel) > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = 100 * WINDOW_BYTES;

    fn check(behind: &[u64]) -> (bool, SenderWindow) {
        let window = SenderWindow::new(64 << 20);
        let mut positions: Vec<_> = behind.iter().map(|behind| END - behind).collect();
        (window.check(&mut positions, END), window)
    }

    #[test]
    fn senders_pause_when_more_than_half_are_behind() {
        let far = WINDOW_BYTES + 1;
        assert!(!check(&[]).0);
        assert!(check(&[far]).0);
        assert!(!check(&[far, 0]).0);
        assert!(check(&[far, far, 0]).0);
        assert!(!check(&[far, far, 0, 0]).0);
        assert!(!check(&[WINDOW_BYTES; 3]).0);
    }

    #[test]
    fn senders_go_on_when_half_have_caught_up() {
        let far = WINDOW_BYTES + 1;
        let (is_closed, window) = check(&[far, far, far, far, 0]);
        assert!(is_closed && window.is_closed());
        let resume_at = END - WINDOW_BYTES / 2;
        // Those that do not get there, or were there, do not count.
        assert!(!window.reader_moved(END - far, resume_at - 1));
        assert!(!window.reader_moved(resume_at, END));
        assert!(!window.reader_moved(END - far, resume_at));
        assert!(window.reader_moved(END - far, END));
        assert!(!window.is_closed());
        assert!(!window.reader_moved(END - far, END));
    }

    #[test]
    fn the_next_check_is_a_window_later() {
        let (_, window) = check(&[0, 0]);
        assert!(!window.is_check_due(END + WINDOW_BYTES));
        assert!(window.is_check_due(END + WINDOW_BYTES + 1));
        let (_, window) = check(&[WINDOW_BYTES, WINDOW_BYTES]);
        assert!(!window.is_check_due(END + WINDOW_BYTES / 8));
        assert!(window.is_check_due(END + WINDOW_BYTES / 8 + 1));
    }

    #[test]
    fn a_small_log_has_a_smaller_window() {
        assert_eq!(SenderWindow::new(1 << 20).bytes(), 128 << 10);
        assert_eq!(SenderWindow::new(64 << 20).bytes(), WINDOW_BYTES);
    }
}
