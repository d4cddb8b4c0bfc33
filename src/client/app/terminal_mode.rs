//! Terminal mode: termios settings that are restored on drop.

use std::io;

use nix::sys::termios::{self, SetArg, Termios};

/// Restores the terminal's settings when it is dropped.
pub(super) struct TerminalMode {
    original: Termios,
}

impl TerminalMode {
    /// Changes the settings. `when`: whether input that was typed before is dropped.
    ///
    /// # Errors
    ///
    /// When standard input is no terminal, or refuses the settings.
    pub(super) fn change(when: SetArg, change: impl FnOnce(&mut Termios)) -> io::Result<Self> {
        let original = termios::tcgetattr(io::stdin())?;
        let mut changed = original.clone();
        change(&mut changed);
        termios::tcsetattr(io::stdin(), when, &changed)?;
        Ok(Self { original })
    }
}

impl Drop for TerminalMode {
    fn drop(&mut self) {
        let _ = termios::tcsetattr(io::stdin(), SetArg::TCSADRAIN, &self.original);
    }
}
