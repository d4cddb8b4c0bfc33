//! The printer: a thread that prints above the prompt.

use std::io::{self, Write};

use rustyline::ExternalPrinter;
use terminal_size::{Width, terminal_size_of};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;

use super::prompt_gate::PromptGate;
use crate::client::Line;

/// How many lines may wait to be printed, and how many one print takes.
pub(super) const PRINTS_QUEUED_MAX: usize = 256;

/// The width of a terminal that does not report one, in columns.
const COLUMNS: usize = 80;

/// One row up and one down, which shows nothing. rustyline accepts a print only after
/// it has finished the one before, so printing this tells when that is done.
const NOTHING: &str = "\x1b[A\n";

/// What the printer is asked to do.
pub(super) enum Print {
    /// A line. It is cut into rows when it is printed, since the terminal may be
    /// resized before.
    Line(Line),
    /// A request to tell when everything before it is on the screen.
    Flush(oneshot::Sender<()>),
}

/// Prints above the prompt.
pub(in crate::client::app) struct Printer(pub(super) mpsc::Sender<Print>);

impl Printer {
    /// Waits until there is room in the queue. Cancel safe.
    pub(in crate::client::app) async fn ready(&self) {
        // A thread that has ended accepts everything.
        let _ = self.0.reserve().await;
    }

    /// Prints a line.
    ///
    /// # Errors
    ///
    /// The line, if the queue is full.
    pub(in crate::client::app) fn try_print(&self, line: Line) -> Result<(), Line> {
        match self.0.try_send(Print::Line(line)) {
            Err(TrySendError::Full(Print::Line(line))) => Err(line),
            _ => Ok(()),
        }
    }
}

/// Prints until the queue is closed or the terminal is gone.
pub(super) fn print(
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

/// The terminal's current width.
fn columns() -> usize {
    match terminal_size_of(io::stdout()) {
        Some((Width(columns), _)) if columns > 0 => columns.into(),
        _ => COLUMNS,
    }
}

/// Prints above the prompt, or below it if the editor has just ended.
fn print_or_write(printer: &mut dyn ExternalPrinter, text: String) -> io::Result<()> {
    match printer.print(text.clone()) {
        Ok(()) => Ok(()),
        Err(_) => io::stdout().write_all(text.as_bytes()),
    }
}
