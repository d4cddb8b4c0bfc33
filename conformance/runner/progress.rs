//! Progress: one line a case on the output for people, and in a terminal a line that says
//! how far the run is. A thread of its own writes them, since that output may
//! be a pipe that nobody reads, and neither the run nor its reports wait for that.

use std::{
    io::{IsTerminal, Write},
    sync::mpsc,
    thread::{self, JoinHandle},
};

use crate::{cli::Shown, output::Output, report::text, verdict::Outcome};

/// The lines of a run as it goes on.
pub struct Progress {
    lines: mpsc::SyncSender<(usize, Option<String>)>,
    writer: JoinHandle<()>,
    shown: Shown,
}

impl Progress {
    /// For a run of so many cases.
    pub fn new(cases: usize, shown: Shown, output: Output) -> Self {
        // Room for all lines, so that the run never waits for its output.
        let (lines, receiver) = mpsc::sync_channel(cases.max(1));
        Self {
            lines,
            writer: thread::spawn(move || write(cases, output, &receiver)),
            shown,
        }
    }

    /// A case has an outcome.
    pub fn tell(&self, i: usize, outcome: &Outcome) {
        let is_shown = match self.shown {
            Shown::All => true,
            Shown::Violations => outcome.verdict.is_violation(),
            Shown::Nothing => false,
        };
        let _ = self
            .lines
            .try_send((i, is_shown.then(|| text::line(outcome))));
    }

    /// Waits until all is written.
    pub fn end(self) {
        drop(self.lines);
        let _ = self.writer.join();
    }
}

/// Errors are ignored: the output may be closed, and the reports are still due.
fn write(cases: usize, output: Output, lines: &mpsc::Receiver<(usize, Option<String>)>) {
    let (mut output, mut stderr) = (output.stream(), std::io::stderr());
    let is_terminal = stderr.is_terminal();
    let clear = if is_terminal { "\r\x1b[K" } else { "" };
    for (i, line) in lines {
        let _ = write!(stderr, "{clear}");
        if let Some(line) = line {
            let _ = writeln!(output, "{line}");
        }
        if is_terminal {
            let _ = write!(stderr, "{} of {cases} cases", i + 1);
        }
    }
    let _ = write!(stderr, "{clear}");
}
