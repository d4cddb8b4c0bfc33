//! Prompt gate: decides when a line may be printed above the prompt.
//!
//! rustyline prints above the line that is being edited. Without a prompt, between two
//! lines, it would write straight to the terminal: into the line that was just typed,
//! or before a message that waits for the next prompt. So the printer thread passes
//! this gate first.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long the end of a line waits for a print that has begun, in milliseconds. A
/// longer print waits for the next prompt.
const PRINT_WAIT_MS: u64 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Prompt {
    /// There is no prompt, but another will follow.
    Between,
    /// The editor has been called and is not ready yet.
    Coming,
    /// Lines can be printed above the prompt.
    There,
    /// No prompt will follow: lines can be written directly.
    Over,
}

#[derive(Debug)]
struct State {
    prompt: Prompt,
    is_printing: bool,
}

/// Shared by the editor and the printer.
#[derive(Debug)]
pub(super) struct PromptGate {
    state: Mutex<State>,
    changed: Condvar,
}

impl PromptGate {
    pub(super) fn new() -> Self {
        Self {
            state: Mutex::new(State {
                prompt: Prompt::Between,
                is_printing: false,
            }),
            changed: Condvar::new(),
        }
    }

    /// The editor is about to be called.
    pub(super) fn coming(&self) {
        self.set(|_| Prompt::Coming);
    }

    /// The editor is ready. It reports so repeatedly; only the first time counts.
    pub(super) fn there(&self) {
        self.set(|prompt| match prompt {
            Prompt::Coming => Prompt::There,
            other => other,
        });
    }

    /// The line was accepted: nothing may be printed until the next prompt.
    pub(super) fn accepted(&self) {
        self.set(|_| Prompt::Between);
        let wait = Duration::from_millis(PRINT_WAIT_MS);
        let _ = self
            .changed
            .wait_timeout_while(self.lock(), wait, |state| state.is_printing);
    }

    /// The editor will not be called again.
    pub(super) fn over(&self) {
        self.set(|_| Prompt::Over);
    }

    /// Waits until `print` may run, and runs it.
    pub(super) fn pass<T>(&self, print: impl FnOnce() -> T) -> T {
        let mut state = self
            .changed
            .wait_while(self.lock(), |state| {
                !matches!(state.prompt, Prompt::There | Prompt::Over)
            })
            .unwrap_or_else(PoisonError::into_inner);
        state.is_printing = true;
        drop(state);
        let printed = print();
        self.lock().is_printing = false;
        self.changed.notify_all();
        printed
    }

    fn set(&self, next: impl FnOnce(Prompt) -> Prompt) {
        let mut state = self.lock();
        state.prompt = next(state.prompt);
        drop(state);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, mpsc};
    use std::thread;

    #[test]
    fn prints_only_above_a_prompt_or_after_the_last() {
        let gate = Arc::new(PromptGate::new());
        let (printed, prints) = mpsc::sync_channel(2);
        let printer = thread::spawn({
            let gate = Arc::clone(&gate);
            move || {
                for number in 0..2 {
                    gate.pass(|| printed.send(number).expect("a reader"));
                }
            }
        });
        let short = Duration::from_millis(50);
        gate.there(); // Nothing was coming.
        assert!(prints.recv_timeout(short).is_err());
        gate.coming();
        assert!(prints.recv_timeout(short).is_err());
        gate.there();
        assert_eq!(prints.recv_timeout(10 * short), Ok(0));
        // The second print may have passed already; from here on none does.
        gate.accepted();
        gate.there();
        let _ = prints.recv_timeout(short);
        gate.over();
        printer.join().expect("no panic");
    }
}
