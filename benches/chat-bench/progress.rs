//! Progress of the run: a bar in a terminal, and samples for the plot.

use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

use crate::output::complain;

/// How often the bar is drawn and a sample taken, in milliseconds.
const INTERVAL_MS: u64 = 100;

/// How wide the bar is, in characters.
const BAR_WIDTH: usize = 30;

/// The most samples that are kept.
const SAMPLES_MAX: usize = 10_000;

pub struct Progress {
    is_shown: bool,
    start: Instant,
    next: Instant,
    /// Pairs of seconds since the first message and deliveries until then.
    pub samples: Vec<(f64, u64)>,
}

impl Progress {
    pub fn new() -> Self {
        Self {
            is_shown: std::io::stderr().is_terminal(),
            start: Instant::now(),
            next: Instant::now(),
            samples: Vec::new(),
        }
    }

    pub fn joining(&mut self, joined: usize, members: usize) {
        if self.is_due() {
            self.draw(joined as f64 / members as f64, &format!("{joined} joined"));
            if self.samples.len() < SAMPLES_MAX {
                let elapsed_s = self.start.elapsed().as_secs_f64();
                self.samples.push((elapsed_s, joined as u64));
            }
        }
        if joined == members {
            // From here on the samples count deliveries.
            self.next = Instant::now();
        }
    }

    pub fn running(&mut self, elapsed: Duration, duration: Duration, deliveries: u64) {
        if !self.is_due() {
            return;
        }
        let is_first = self
            .samples
            .last()
            .is_none_or(|last| last.0 > elapsed.as_secs_f64());
        if is_first {
            self.samples.clear();
        }
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push((elapsed.as_secs_f64(), deliveries));
        }
        let share = elapsed.as_secs_f64() / duration.as_secs_f64();
        self.draw(share, &format!("{deliveries} deliveries"));
    }

    /// Clears the bar.
    pub fn end(&self) {
        if self.is_shown {
            complain("\r\x1b[K");
        }
    }

    fn is_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = now >= self.next;
        if is_due {
            self.next = now + Duration::from_millis(INTERVAL_MS);
        }
        is_due
    }

    fn draw(&self, share: f64, what: &str) {
        if self.is_shown {
            let full = (share.clamp(0.0, 1.0) * BAR_WIDTH as f64) as usize;
            let bar = "█".repeat(full) + &"░".repeat(BAR_WIDTH - full);
            complain(&format!("\r{bar} {what}\x1b[K"));
        }
    }
}
