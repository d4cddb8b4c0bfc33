//! Signals: SIGINT, SIGTERM and SIGHUP leave; SIGTSTP and SIGCONT stop and go on;
//! SIGWINCH tells another size.

use std::io;

use nix::sys::signal::Signal::{SIGCONT, SIGTSTP, SIGXFSZ};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// The three signals, caught from now on.
#[derive(Debug)]
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
    /// Whether the program was told to end, by another signal than SIGINT.
    is_over: bool,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        // A file size limit (ulimit -f) must end in an error message, not in death by
        // SIGXFSZ. Caught for good, though nothing waits for it.
        let _ = signal(SignalKind::from_raw(SIGXFSZ as i32))?;
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            is_over: false,
        })
    }

    /// Waits for the next of them. Cancel safe.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => self.is_over = true,
            _ = self.hang_up.recv() => self.is_over = true,
        }
    }

    /// Whether one of them has told the program to end. SIGINT may mean less: a question or
    /// an attempt to connect that it ends.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }
}

/// Signals for a program that has changed the terminal: it must give it back before it
/// stops, and fill it when its size changes.
#[derive(Debug)]
pub(super) struct JobSignals {
    stop: Signal,
    go_on: Signal,
    resize: Signal,
}

/// One of them.
pub(super) enum JobSignal {
    /// SIGTSTP.
    Stop,
    /// SIGCONT.
    Continue,
    /// SIGWINCH.
    Resize,
}

impl JobSignals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            stop: signal(SignalKind::from_raw(SIGTSTP as i32))?,
            go_on: signal(SignalKind::from_raw(SIGCONT as i32))?,
            resize: signal(SignalKind::window_change())?,
        })
    }

    /// Waits for the next of them. Cancel safe.
    pub(super) async fn next(&mut self) -> JobSignal {
        tokio::select! {
            _ = self.stop.recv() => JobSignal::Stop,
            _ = self.go_on.recv() => JobSignal::Continue,
            _ = self.resize.recv() => JobSignal::Resize,
        }
    }
}
