//! Screen: the terminal with a line editor, as two blocking threads: one reads lines,
//! one prints above them.

mod editor;
mod printer;
mod prompt_gate;
mod sigtstp;

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{InputFlags, LocalFlags, SetArg};
use nix::unistd::Pid;
use rustyline::history::DefaultHistory;
use rustyline::{Behavior, Config, Editor, ExternalPrinter};
use tokio::sync::mpsc;
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::timeout;

use self::editor::{Hooks, edit};
use self::printer::{PRINTS_QUEUED_MAX, Print, print};
use self::prompt_gate::PromptGate;
use self::sigtstp::SigtstpMask;
use super::terminal_mode::TerminalMode;
use crate::client::Line;

pub(super) use self::editor::Input;
pub(super) use self::printer::Printer;

/// How many lines the history holds. Nothing is kept on disk.
const HISTORY_LINES_MAX: usize = 1_000;

/// How many inputs may wait for the session.
const INPUTS_QUEUED_MAX: usize = 64;

/// How long to wait for the last lines to be printed, in milliseconds.
const FLUSH_TIMEOUT_MS: u64 = 1_000;

/// How long to wait for the editor to notice a signal, in milliseconds, and how often
/// it is sent: the first may arrive between two prompts.
const STOP_WAIT_MS: u64 = 50;
const STOP_SIGNALS_MAX: usize = 40;

/// A terminal with a line editor, not shown yet.
pub(super) struct Screen {
    editor: Editor<Hooks, DefaultHistory>,
    printer: Box<dyn ExternalPrinter + Send>,
    gate: Arc<PromptGate>,
    stops: SigtstpMask,
}

impl Screen {
    /// Opens the terminal; `None` if it supports no line editing.
    pub(super) fn open() -> Option<Self> {
        let config = Config::builder()
            .auto_add_history(true)
            .max_history_size(HISTORY_LINES_MAX)
            .ok()?
            .behavior(Behavior::Stdio)
            .build();
        let stops = SigtstpMask::hold_back();
        let gate = Arc::new(PromptGate::new());
        let mut editor = Editor::with_config(config).ok()?;
        let printer = Box::new(editor.create_external_printer().ok()?);
        editor.set_helper(Some(Hooks(Arc::clone(&gate))));
        Some(Self {
            editor,
            printer,
            gate,
            stops,
        })
    }

    /// Shows the prompt. Dropping the [`ActiveScreen`] restores the terminal.
    pub(super) fn start(self, is_colourful: bool) -> io::Result<ActiveScreen> {
        let quiet = self::quiet()?;
        let (inputs, inputs_queued) = mpsc::channel(INPUTS_QUEUED_MAX);
        let (prints, prints_queued) = mpsc::channel(PRINTS_QUEUED_MAX);
        let (over, is_over) = oneshot::channel();
        let stop = Arc::new(AtomicBool::new(false));
        let Self {
            editor,
            printer,
            gate,
            stops,
        } = self;
        thread::Builder::new().name("editor".to_owned()).spawn({
            let (gate, stop) = (Arc::clone(&gate), Arc::clone(&stop));
            move || {
                let _ = SigtstpMask::signals().thread_unblock();
                edit(editor, &gate, &stop, &inputs);
                let _ = over.send(());
            }
        })?;
        thread::Builder::new()
            .name("printer".to_owned())
            .spawn(move || print(printer, &gate, prints_queued, is_colourful))?;
        Ok(ActiveScreen {
            inputs: inputs_queued,
            prints,
            stop,
            is_over,
            quiet: Some(quiet),
            stops: Some(stops),
        })
    }
}

/// A terminal with a prompt.
pub(super) struct ActiveScreen {
    inputs: mpsc::Receiver<Input>,
    prints: mpsc::Sender<Print>,
    stop: Arc<AtomicBool>,
    is_over: oneshot::Receiver<()>,
    quiet: Option<TerminalMode>,
    stops: Option<SigtstpMask>,
}

impl ActiveScreen {
    /// The next input; [`Input::End`] for ever after the last. Cancel safe.
    pub(super) async fn input(&mut self) -> Input {
        self.inputs.recv().await.unwrap_or(Input::End)
    }

    /// Where to print.
    pub(super) fn printer(&self) -> Printer {
        Printer(self.prints.clone())
    }

    /// Releases the keys after the last input: Ctrl-C and Ctrl-Z are signals again.
    pub(super) fn release(&mut self) {
        self.quiet = None;
        self.stops = None;
    }

    /// Prints the waiting lines, ends the prompt wherever the user is in it, and
    /// restores the terminal.
    pub(super) async fn stop(mut self, to_print: VecDeque<Line>) {
        // An editor that waits for its input to be taken continues, and ends.
        self.inputs.close();
        self.flush(to_print).await;
        self.stop.store(true, Ordering::Release);
        for _ in 0..STOP_SIGNALS_MAX {
            if self.is_over.try_recv() != Err(TryRecvError::Empty) {
                break;
            }
            // The editor blocks in a read. Its own handler for this signal ends the
            // read and restores the terminal; between two prompts the signal goes to
            // the runtime, which only notes it.
            let _ = kill(Pid::this(), Signal::SIGINT);
            let wait = Duration::from_millis(STOP_WAIT_MS);
            if timeout(wait, &mut self.is_over).await.is_ok() {
                break;
            }
        }
        // Lines that were too late for the prompt are printed below it.
        self.flush(VecDeque::new()).await;
    }

    async fn flush(&self, to_print: VecDeque<Line>) {
        let (done, is_done) = oneshot::channel();
        let flush = async {
            // If the thread has ended, nothing can be shown.
            for line in to_print {
                let _ = self.prints.send(Print::Line(line)).await;
            }
            let _ = self.prints.send(Print::Flush(done)).await;
            let _ = is_done.await;
        };
        let _ = timeout(Duration::from_millis(FLUSH_TIMEOUT_MS), flush).await;
    }
}

/// Silences the terminal between two prompts: keys are not echoed into the lines, and
/// Ctrl-C stays a key for the next prompt.
fn quiet() -> io::Result<TerminalMode> {
    TerminalMode::change(SetArg::TCSANOW, |quiet| {
        quiet
            .local_flags
            .remove(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG | LocalFlags::IEXTEN);
        quiet
            .input_flags
            .remove(InputFlags::ICRNL | InputFlags::IXON);
    })
}
