//! Signals: SIGINT, SIGTERM, SIGHUP and SIGQUIT end a run early. The programs under
//! test are ended at once, and the run ends with the reports that were asked for.

use std::{
    future, process,
    sync::{
        OnceLock,
        mpsc::{self, RecvTimeoutError},
    },
    task::Poll,
    thread,
    time::Duration,
};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{exit::Exit, process::end_all};

/// How long the reports may take to be written after a signal. Standard output may
/// be a pipe that nobody reads.
const REPORT_DEADLINE: Duration = Duration::from_secs(5);

/// How often a wait looks whether a signal has come.
pub const POLL: Duration = Duration::from_millis(10);

/// The first signal that came.
static INTERRUPTED: OnceLock<Interrupted> = OnceLock::new();

/// A signal ended the run; holds its name.
#[derive(Clone, Copy, Debug)]
pub struct Interrupted(&'static str);

impl Interrupted {
    /// Why the run is incomplete.
    pub fn sentence(self) -> String {
        format!("interrupted by {}", self.0)
    }
}

/// Catches the signals from now on. SIGHUP keeps being ignored where it is ignored,
/// as `nohup` asks for.
pub fn catch() -> Result<(), String> {
    let fail = |e: std::io::Error| format!("signals cannot be caught: {e}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(fail)?;
    let mut signals = Vec::new();
    {
        let _context = runtime.enter();
        for (name, kind) in [
            ("SIGINT", SignalKind::interrupt()),
            ("SIGTERM", SignalKind::terminate()),
            ("SIGQUIT", SignalKind::quit()),
            ("SIGHUP", SignalKind::hangup()),
        ] {
            if !(kind == SignalKind::hangup() && is_hangup_ignored()) {
                signals.push((name, signal(kind).map_err(fail)?));
            }
        }
    }
    thread::spawn(move || {
        runtime.block_on(async {
            let name = next(&mut signals).await;
            let _ = INTERRUPTED.set(Interrupted(name));
            end_all();
            // A second signal ends the process at once.
            let _ = tokio::time::timeout(REPORT_DEADLINE, next(&mut signals)).await;
            process::exit(Exit::Incomplete as i32);
        });
    });
    Ok(())
}

/// Waits for one of the signals and says which.
async fn next(signals: &mut [(&'static str, Signal)]) -> &'static str {
    future::poll_fn(|context| {
        for (name, signal) in signals.iter_mut() {
            if signal.poll_recv(context).is_ready() {
                return Poll::Ready(*name);
            }
        }
        Poll::Pending
    })
    .await
}

/// Whether this process was started with SIGHUP ignored. Where the system does not
/// say, it was not.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let hangup = 1 << (nix::sys::signal::Signal::SIGHUP as i32 - 1);
    mask.unwrap_or(0) & hangup != 0
}

/// The signal that came, if one has.
pub fn check() -> Result<(), Interrupted> {
    match INTERRUPTED.get() {
        Some(interrupted) => Err(*interrupted),
        None => Ok(()),
    }
}

/// The next item of a channel; None when all its senders are gone. An item that was
/// sent after a signal is dropped, since it may be an effect of the signal.
pub fn receive<T>(receiver: &mpsc::Receiver<T>) -> Result<Option<T>, Interrupted> {
    loop {
        let received = receiver.recv_timeout(POLL);
        check()?;
        match received {
            Ok(item) => return Ok(Some(item)),
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}
