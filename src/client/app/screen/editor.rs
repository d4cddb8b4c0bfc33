//! The editor: a thread that reads lines with rustyline until the user leaves.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustyline::completion::Completer;
use rustyline::error::ReadlineError;
use rustyline::highlight::Highlighter;
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{Editor, Helper, Prompt};
use tokio::sync::mpsc;

use super::super::command;
use super::prompt_gate::PromptGate;

/// The prompt.
const PROMPT: &str = "> ";

/// The user's input.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::client::app) enum Input {
    /// One typed line, or several pasted ones.
    Lines(String),
    /// Ctrl-C.
    Interrupt,
    /// Ctrl-D, or the terminal is gone.
    End,
}

/// Reads lines until the user leaves or `stop` is set.
pub(super) fn edit(
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
            // A terminal that fails is gone.
            Err(_) => Input::End,
        };
        let is_last = match &input {
            Input::Lines(lines) => command::only_line(lines) == Some(command::QUIT),
            Input::Interrupt | Input::End => true,
        };
        if inputs.blocking_send(input).is_err() || is_last {
            break;
        }
    }
    // From here on its printer writes straight to the terminal.
    drop(editor);
    gate.over();
}

/// The prompt; rustyline asks for it when the terminal is ready.
struct Marker(Arc<PromptGate>);

impl Prompt for Marker {
    fn raw(&self) -> &str {
        self.0.there();
        PROMPT
    }
}

/// Callbacks of rustyline.
pub(super) struct Hooks(pub(super) Arc<PromptGate>);

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
