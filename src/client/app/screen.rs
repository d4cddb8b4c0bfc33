//! The terminal as two threads: one edits lines, one prints above them. Both
//! block, so neither runs on the runtime.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::termios::{InputFlags, LocalFlags, SetArg};
use nix::unistd::Pid;
use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Behavior, Config, Editor, ExternalPrinter, Helper, Prompt};
use terminal_size::{Width, terminal_size_of};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::time::timeout;

use super::{prompt_gate::PromptGate, terminal, terminal_mode::TerminalMode};
use crate::client::Line;

/// What stands before the line that is being typed.
const PROMPT: &str = "> ";

/// How many lines the up key remembers. Nothing is kept after the program.
const HISTORY_LINES_MAX: usize = 1_000;

/// How many inputs may wait for the session.
const INPUTS_QUEUED_MAX: usize = 64;

/// How many lines may wait to be printed, and how many go out in one print.
const PRINTS_QUEUED_MAX: usize = 256;

/// How wide a terminal is taken to be that does not say it, in columns.
const COLUMNS: usize = 80;

/// How long to wait for the last lines to be printed, in milliseconds.
const FLUSH_TIMEOUT_MS: u64 = 1_000;

/// How long to wait for the editor to notice a signal, in milliseconds, and how
/// often it is sent: the first one can come between two prompts.
const STOP_WAIT_MS: u64 = 50;
const STOP_SIGNALS_MAX: usize = 40;

/// One row up and one down: nothing to see. rustyline takes a message only after
/// it has printed the one before, so printing this tells when that is done.
const NOTHING: &str = "\x1b[A\n";

/// What somebody did at the prompt.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// Lines: one, or several that were pasted.
    Lines(String),
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D, or the terminal is gone.
    End,
}

enum Print {
    /// A line, to be cut into rows when it is its turn: the terminal may have got
    /// another width until then.
    Line(Line),
    /// Tell when everything before is on the screen.
    Flush(oneshot::Sender<()>),
}

/// A terminal that can edit lines and print above them.
pub(super) struct Screen {
    editor: Editor<Hooks, DefaultHistory>,
    printer: Box<dyn ExternalPrinter + Send>,
    gate: Arc<PromptGate>,
    stops: SigtstpMask,
}

impl Screen {
    /// Opens the terminal; `None` if it can only be written and read like a pipe.
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

    /// Shows the prompt. The terminal is as it was when [`ActiveScreen`] is dropped.
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
    /// The next thing that somebody did; [`Input::End`] for ever after the last.
    /// Cancel safe.
    pub(super) async fn input(&mut self) -> Input {
        self.inputs.recv().await.unwrap_or(Input::End)
    }

    /// Where to print.
    pub(super) fn printer(&self) -> Printer {
        Printer(self.prints.clone())
    }

    /// Gives the terminal back after the last input: Ctrl-C and Ctrl-Z are signals
    /// again.
    pub(super) fn release(&mut self) {
        self.quiet = None;
        self.stops = None;
    }

    /// Printer what is waiting, ends the prompt, wherever the user is in it, and
    /// gives the terminal back.
    pub(super) async fn stop(mut self, to_print: VecDeque<Line>) {
        // An editor that waits for its input to be taken goes on, and ends.
        self.inputs.close();
        self.flush(to_print).await;
        self.stop.store(true, Ordering::Release);
        for _ in 0..STOP_SIGNALS_MAX {
            if self.is_over.try_recv() != Err(TryRecvError::Empty) {
                break;
            }
            // The editor waits in a system call for keys. Its own handler for
            // this signal ends it and restores the terminal; between two prompts
            // the signal is the runtime's, which only notes it.
            let _ = kill(Pid::this(), Signal::SIGINT);
            let wait = Duration::from_millis(STOP_WAIT_MS);
            if timeout(wait, &mut self.is_over).await.is_ok() {
                break;
            }
        }
        // What was printed too late for the prompt comes out below it.
        self.flush(VecDeque::new()).await;
    }

    async fn flush(&self, to_print: VecDeque<Line>) {
        let (done, is_done) = oneshot::channel();
        let flush = async {
            // Where the thread has ended, nobody sees it anyway.
            for line in to_print {
                let _ = self.prints.send(Print::Line(line)).await;
            }
            let _ = self.prints.send(Print::Flush(done)).await;
            let _ = is_done.await;
        };
        let _ = timeout(Duration::from_millis(FLUSH_TIMEOUT_MS), flush).await;
    }
}

/// Printer above the prompt.
pub(super) struct Printer(mpsc::Sender<Print>);

impl Printer {
    /// Waits until something can be printed. Cancel safe.
    pub(super) async fn ready(&self) {
        // A thread that has ended takes everything.
        let _ = self.0.reserve().await;
    }

    /// Printer a line.
    ///
    /// # Errors
    ///
    /// The line, when it has to wait.
    pub(super) fn try_print(&self, line: Line) -> Result<(), Line> {
        match self.0.try_send(Print::Line(line)) {
            Err(TrySendError::Full(Print::Line(line))) => Err(line),
            _ => Ok(()),
        }
    }
}

/// Edits lines until somebody leaves or `stop` is set.
fn edit(
    mut editor: Editor<Hooks, DefaultHistory>,
    gate: &Arc<PromptGate>,
    stop: &AtomicBool,
    inputs: &mpsc::Sender<Input>,
) {
    let prompt = Marker(Arc::clone(gate));
    while !stop.load(Ordering::Acquire) {
        gate.coming();
        let input = match editor.readline(&prompt) {
            Ok(line) => Input::Lines(line),
            Err(ReadlineError::Interrupted) => Input::Interrupt,
            // A terminal that fails is a terminal that is gone.
            Err(_) => Input::End,
        };
        let is_last = match &input {
            Input::Lines(lines) => terminal::only_line(lines) == Some(terminal::QUIT),
            Input::Interrupt | Input::End => true,
        };
        if inputs.blocking_send(input).is_err() || is_last {
            break;
        }
    }
    // Its printer writes straight to the terminal from here on.
    drop(editor);
    gate.over();
}

/// Printer until the queue is closed or the terminal is gone.
fn print(
    mut printer: Box<dyn ExternalPrinter + Send>,
    gate: &PromptGate,
    mut prints: mpsc::Receiver<Print>,
    is_colourful: bool,
) {
    let mut batch = Vec::new();
    while prints.blocking_recv_many(&mut batch, PRINTS_QUEUED_MAX) > 0 {
        let mut text = String::new();
        let mut flushes = Vec::new();
        let columns = columns();
        for print in batch.drain(..) {
            match print {
                Print::Line(line) => text.push_str(&line.rows(columns, is_colourful)),
                Print::Flush(done) => flushes.push(done),
            }
        }
        if !text.is_empty() && gate.pass(|| print_or_write(&mut *printer, text)).is_err() {
            return;
        }
        if !flushes.is_empty() {
            let _ = gate.pass(|| printer.print(NOTHING.to_owned()));
        }
        for done in flushes {
            let _ = done.send(());
        }
    }
}

/// How wide the terminal is now.
fn columns() -> usize {
    match terminal_size_of(io::stdout()) {
        Some((Width(columns), _)) if columns > 0 => columns.into(),
        _ => COLUMNS,
    }
}

/// Printer above the prompt; below it when the editor has just gone.
fn print_or_write(printer: &mut dyn ExternalPrinter, text: String) -> io::Result<()> {
    match printer.print(text.clone()) {
        Ok(()) => Ok(()),
        Err(_) => io::stdout().write_all(text.as_bytes()),
    }
}

/// Keeps the terminal silent between two prompts: what is typed then is not
/// echoed into the lines, and Ctrl-C stays a key for the next prompt.
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

/// Leaves the signal of Ctrl-Z to the editor's thread. rustyline gives the terminal
/// back, sends it, and takes the terminal again as soon as sending returns. That
/// waits for the stop only where no other thread can take the signal; elsewhere
/// the terminal is taken before the stop, and the shell has it afterwards, which
/// leaves it without a prompt and with an echo when the program goes on.
struct SigtstpMask;

impl SigtstpMask {
    /// For this thread and those that it starts from here on.
    fn hold_back() -> Self {
        let _ = Self::signals().thread_block();
        Self
    }

    fn signals() -> SigSet {
        SigSet::from(Signal::SIGTSTP)
    }
}

impl Drop for SigtstpMask {
    fn drop(&mut self) {
        let _ = Self::signals().thread_unblock();
    }
}

/// The prompt; rustyline asks for it when the terminal is ready.
struct Marker(Arc<PromptGate>);

impl Prompt for Marker {
    fn raw(&self) -> &str {
        self.0.there();
        PROMPT
    }
}

/// What rustyline calls while somebody types.
struct Hooks(Arc<PromptGate>);

impl Validator for Hooks {
    fn validate(&self, _: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        self.0.accepted();
        Ok(ValidationResult::Valid(None))
    }
}

impl Highlighter for Hooks {
    fn highlight_prompt<'b, 's: 'b, 'p: 'b>(&'s self, prompt: &'p str, _: bool) -> Cow<'b, str> {
        Cow::Borrowed(prompt)
    }
}

impl Completer for Hooks {
    type Candidate = String;
}

impl Hinter for Hooks {
    type Hint = String;
}

impl Helper for Hooks {}
