//! SIGTSTP, the signal of Ctrl-Z, goes to the editor's thread only.

use nix::sys::signal::{SigSet, Signal};

/// Blocks SIGTSTP in all threads but the editor's. rustyline restores the terminal,
/// sends the signal, and takes the terminal again as soon as sending returns. Sending
/// waits for the stop only if no other thread can take the signal. Otherwise rustyline
/// takes the terminal before the stop, and the shell restores it afterwards, which
/// leaves the resumed program without a prompt and with an echo.
pub(super) struct SigtstpMask;

impl SigtstpMask {
    /// Blocks it in this thread and in those that it starts from here on.
    pub(super) fn hold_back() -> Self {
        let _ = Self::signals().thread_block();
        Self
    }

    pub(super) fn signals() -> SigSet {
        SigSet::from(Signal::SIGTSTP)
    }
}

impl Drop for SigtstpMask {
    fn drop(&mut self) {
        let _ = Self::signals().thread_unblock();
    }
}
