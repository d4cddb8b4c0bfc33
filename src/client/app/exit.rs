//! Exit codes, for scripts.

use std::process::ExitCode;

/// The exit codes. The table in `--help` repeats them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The client left, or the server closed, and nothing was lost.
    Done = 0,
    /// This machine refused a stream, a thread or a terminal.
    Failed = 1,
    /// The command line is wrong. clap uses the same code.
    Usage = 2,
    /// There is no chat server at the address.
    CannotConnect = 3,
    /// The server refused the registration.
    Refused = 4,
    /// The connection was lost.
    Lost = 5,
    /// The server ended the session with an error.
    Ended = 6,
    /// The session ended normally, but lines were refused, not sent or not confirmed.
    Undelivered = 7,
}

/// The table for `--help`.
pub(super) const TABLE: &str = "\
Exit codes:
  0  left, or the server closed
  1  something on this machine failed
  2  wrong usage
  3  cannot connect
  4  registration refused
  5  connection lost
  6  session ended by the server with an error
  7  lines were refused, not sent or not confirmed";

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_every_code() {
        let codes = [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::CannotConnect,
            Exit::Refused,
            Exit::Lost,
            Exit::Ended,
            Exit::Undelivered,
        ];
        let rows: Vec<u8> = TABLE
            .lines()
            .filter_map(|line| line.split_whitespace().next()?.parse().ok())
            .collect();
        assert_eq!(rows, codes.map(|code| code as u8));
    }
}
