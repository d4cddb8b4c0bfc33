//! Why a run failed, and what a program is told about it.

use std::{fmt, process::ExitCode};

/// Exit codes. 2 is wrong usage, as clap has it.
const EXIT_CODE_LOST: u8 = 1;
const EXIT_CODE_UNUSABLE: u8 = 3;

/// A sentence for people, and whose fault it is.
#[derive(Debug)]
pub struct Failure {
    sentence: String,
    exit_code: u8,
}

impl Failure {
    /// The server did not deliver what it must.
    pub fn lost(sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            exit_code: EXIT_CODE_LOST,
        }
    }

    /// Nothing can be measured there.
    pub fn unusable(sentence: impl Into<String>) -> Self {
        Self {
            sentence: sentence.into(),
            exit_code: EXIT_CODE_UNUSABLE,
        }
    }

    /// The peer speaks something else.
    pub fn protocol(sentence: String) -> Self {
        Self::unusable(format!(
            "what came is not of this protocol (see --dialect): {sentence}"
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
        Self::unusable(format!("the system refuses: {error}"))
    }
}
