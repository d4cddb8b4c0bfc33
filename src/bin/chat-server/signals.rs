//! Signals: SIGINT and SIGTERM close the server, a hangup closes it only where its
//! terminal is gone, and SIGUSR1 and SIGUSR2 are ignored.
//!
//! Managers of services and of log files send SIGHUP and SIGUSR1 for "read your
//! configuration again" and "open your log again". There is nothing to do for either,
//! and no reason to empty the room.

use std::{fs::File, io, time::Duration};

use nix::sys::signal::Signal::SIGXFSZ;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};
use tracing::info;

/// The terminal that a process belongs to, whatever its standard streams are.
const TERMINAL: &str = "/dev/tty";

/// How long after a hangup the terminal may still be there, in milliseconds: a shell
/// that ends tells its jobs first.
const HANGUP_SETTLES_MS: u64 = 500;

/// The signals of the server, caught from now on.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    /// Whether the server goes when its terminal does.
    follows_terminal: bool,
}

impl Signals {
    /// Catches the signals. With `no_hangup`, or where SIGHUP was ignored at the start
    /// (`nohup`), the server outlives its terminal.
    pub fn catch(no_hangup: bool) -> io::Result<Self> {
        let follows_terminal = !no_hangup && !is_hangup_ignored() && has_terminal();
        // Caught for good, though nobody waits for them. The last is sent where files
        // must be short (ulimit -f): then the room's log is no file, and the log on
        // standard error ends.
        for ignored in [
            SignalKind::user_defined1(),
            SignalKind::user_defined2(),
            SignalKind::from_raw(SIGXFSZ as i32),
        ] {
            let _ = signal(ignored)?;
        }
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            follows_terminal,
        })
    }

    /// Waits until the server is told to close.
    pub async fn close(&mut self) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hangup.recv() => {}
            }
            if self.follows_terminal && is_terminal_gone().await {
                info!("the terminal is closed");
                return;
            }
            info!("SIGHUP: nothing to read or open again, serving on");
        }
    }

    /// Waits until the server is told to end at once. A shell and the system may both
    /// tell that the terminal is gone: hangups do not count.
    pub async fn end_at_once(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn has_terminal() -> bool {
    File::open(TERMINAL).is_ok()
}

/// Whether the terminal that this process belonged to is gone.
async fn is_terminal_gone() -> bool {
    if has_terminal() {
        sleep(Duration::from_millis(HANGUP_SETTLES_MS)).await;
    }
    !has_terminal()
}

/// Whether SIGHUP is ignored by whoever started this process. To ask the system would
/// be unsafe code; Linux also writes it into a file, as a mask in which SIGHUP, signal
/// 1, is the lowest bit. Elsewhere `--no-hangup` says it.
fn is_hangup_ignored() -> bool {
    const HANGUP_BIT: u64 = 1;
    std::fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let mask = status
                .lines()
                .find_map(|line| line.strip_prefix("SigIgn:"))?;
            u64::from_str_radix(mask.trim(), 16).ok()
        })
        .is_some_and(|ignored| ignored & HANGUP_BIT != 0)
}
