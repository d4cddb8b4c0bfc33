//! What is printed.

use std::io::{self, ErrorKind, Write};

use crate::failure::Failure;

/// Prints to the standard output. Whoever closed it wants no more: that is no
/// failure.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout();
    let printed = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match printed {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(Failure::unusable(format!("cannot print: {error}")))
        }
        _ => Ok(()),
    }
}

/// Prints to the standard error, as far as that is possible: there is no other place
/// to complain.
pub fn complain(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}
