//! Exit codes, and the sentence that explains each failure to run.

use std::process::ExitCode;

/// How the runner ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything judged is as the schema asks.
    Conforms = 0,
    /// A rule is broken.
    Violates = 1,
    /// The command line, or a file it names, is wrong.
    Usage = 2,
    /// Something that was asked for could not be judged.
    Incomplete = 3,
    /// The suite itself is at fault.
    Fault = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// Why the runner cannot go on: one sentence, and the code to end with.
#[derive(Debug)]
pub struct Failed {
    /// The code.
    pub exit: Exit,
    /// The sentence.
    pub sentence: String,
}

/// Wrong usage.
pub fn usage(sentence: impl Into<String>) -> Failed {
    Failed {
        exit: Exit::Usage,
        sentence: sentence.into(),
    }
}

/// Could not be judged.
pub fn incomplete(sentence: impl Into<String>) -> Failed {
    Failed {
        exit: Exit::Incomplete,
        sentence: sentence.into(),
    }
}

/// The suite's own fault.
pub fn fault(sentence: impl Into<String>) -> Failed {
    Failed {
        exit: Exit::Fault,
        sentence: sentence.into(),
    }
}
