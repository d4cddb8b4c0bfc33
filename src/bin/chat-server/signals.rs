//! Signals: SIGINT and SIGTERM close the server, SIGHUP closes it only if its terminal
//! is gone and makes it read its configuration again otherwise, SIGUSR1 and SIGUSR2 are
//! ignored.
//!
//! Service managers and log rotation send SIGHUP and SIGUSR1 for "reload your
//! configuration" and "reopen your log". There is no log to open again, and no reason to
//! empty the room.

use std::{fs::File, io, time::Duration};

use nix::sys::signal::Signal::SIGXFSZ;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::sleep,
};
use tracing::info;

/// The controlling terminal of a process, whatever its standard streams are.
const TERMINAL: &str = "/dev/tty";

/// How long the terminal may outlive a SIGHUP, in milliseconds: a shell that exits
/// signals its jobs first.
const HANGUP_SETTLES_MS: u64 = 500;

/// The signals of the server, caught from now on.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    /// Whether the server closes when its terminal does.
    follows_terminal: bool,
}

impl Signals {
    /// Catches the signals. With `no_hangup`, or if SIGHUP was ignored at the start
    /// (`nohup`), the server outlives its terminal.
    pub fn catch(no_hangup: bool) -> io::Result<Self> {
        let follows_terminal = !no_hangup && !is_hangup_ignored() && has_terminal();
        // Caught for good, though nothing waits for them. SIGXFSZ is sent under a file
        // size limit (ulimit -f): then the room's log is not kept in a file, and the
        // log on standard error ends.
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

    /// Waits until the server is told to close; calls `reload` when it is told to read
    /// again what it has read. That may take a while, and must not hold up the close.
    pub async fn close(&mut self, reload: impl AsyncFn()) {
        let closing = async {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
            }
        };
        let reloading = async {
            while self.hangup.recv().await.is_some() {
                if self.follows_terminal && is_terminal_gone().await {
                    info!("the terminal is closed");
                    return;
                }
                reload().await;
            }
        };
        tokio::select! {
            () = closing => {}
            () = reloading => {}
        }
    }

    /// Waits until the server is told to end at once. SIGHUP does not count: a shell
    /// and the system may both send it.
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

/// Whether the controlling terminal is gone.
async fn is_terminal_gone() -> bool {
    if has_terminal() {
        sleep(Duration::from_millis(HANGUP_SETTLES_MS)).await;
    }
    !has_terminal()
}

/// Whether this process was started with SIGHUP ignored. Asking the system would be
/// unsafe code; Linux also has the mask of ignored signals in a file, where SIGHUP,
/// signal 1, is the lowest bit. On other systems `--no-hangup` says it.
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
