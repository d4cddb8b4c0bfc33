//! Standard output and standard error.

use std::io::{self, ErrorKind, Write};

use crate::failure::Failure;

/// Prints to standard output. A reader that closed it wants no more, which is no
/// failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout();
    let printed = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match printed {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::unusable(format!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

/// Prints to standard error and ignores failures: there is no other place to report
/// them.
pub fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
