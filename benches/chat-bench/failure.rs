//! Failures of a run, and the exit codes that tell a program about them.

use std::{fmt, process::ExitCode};

/// Exit codes. clap exits with 2 on wrong usage.
const EXIT_CODE_LOST: u8 = 1;
const EXIT_CODE_UNUSABLE: u8 = 3;

/// A sentence for people and an exit code for programs.
#[derive(Debug)]
pub struct Failure {
    sentence: String,
    exit_code: u8,
}

impl Failure {
    /// The server lost, repeated or changed a message.
    pub fn lost(sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            exit_code: EXIT_CODE_LOST,
        }
    }

    /// Nothing can be measured at this address.
    pub fn unusable(sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            exit_code: EXIT_CODE_UNUSABLE,
        }
    }

    /// The server speaks another protocol.
    pub fn protocol(sentence: String) -> Self {
        Self::unusable(format!(
            "the server's bytes are not of this protocol (see --dialect): {sentence}"
        ))
    }

    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.exit_code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::unusable(format!("the system refused: {error}"))
    }
}
