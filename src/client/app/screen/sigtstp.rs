//! SIGTSTP, the signal of Ctrl-Z: only the editor's thread takes it.

use nix::sys::signal::{SigSet, Signal};

/// Leaves the signal of Ctrl-Z to the editor's thread. rustyline gives the terminal
/// back, sends it, and takes the terminal again as soon as sending returns. That
/// waits for the stop only where no other thread can take the signal; elsewhere
/// the terminal is taken before the stop, and the shell has it afterwards, which
/// leaves it without a prompt and with an echo when the program goes on.
pub(super) struct SigtstpMask;

impl SigtstpMask {
    /// For this thread and those that it starts from here on.
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
