//! Output: the stream for people. It is standard output, unless a report takes that.

use std::io::{self, ErrorKind, Write};

use crate::{
    cli::RunArgs,
    exit::{self, Failed},
};

/// Where lines for people go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output.
    Stdout,
    /// The error output, since a report goes to standard output.
    Stderr,
}

impl Output {
    /// The stream that the reports of a run leave to people.
    pub fn beside(args: &RunArgs) -> Result<Self, Failed> {
        let paths = [&args.json, &args.junit, &args.markdown, &args.html];
        let to_stdout = |path: &&&Option<_>| {
            let path: &Option<std::path::PathBuf> = path;
            path.as_ref().is_some_and(|path| path.as_os_str() == "-")
        };
        match paths.iter().filter(to_stdout).count() {
            0 => Ok(Self::Stdout),
            1 => Ok(Self::Stderr),
            _ => Err(exit::usage("only one report fits on the standard output")),
        }
    }

    /// The stream.
    pub fn stream(self) -> Box<dyn Write> {
        match self {
            Self::Stdout => Box::new(io::stdout()),
            Self::Stderr => Box::new(io::stderr()),
        }
    }

    /// Prints text. A reader that has closed the stream is no error.
    pub fn print(self, text: &str) -> Result<(), Failed> {
        match self.stream().write_all(text.as_bytes()) {
            Err(e) if e.kind() != ErrorKind::BrokenPipe => {
                Err(exit::usage(format!("the output cannot be written: {e}")))
            }
            _ => Ok(()),
        }
    }
}
