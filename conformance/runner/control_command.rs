//! Control command: how the operator of a server under test acts on it. The schema leaves
//! that to each server, so the user of the suite says it.

use std::time::Instant;

use crate::{
    process::{Process, words_of},
    server_under_test::ServerUnderTest,
};

/// The command line that `--control-cmd` gives. What the operator does is appended:
/// `kick NAME`, `ban NAME`, `unban NAME`, `mute NAME`, `unmute NAME`, `remove SEQ`, `say TEXT`.
#[derive(Clone, Debug)]
pub struct ControlCommand(Vec<String>);

impl ControlCommand {
    /// Why cases in which the operator acts are not run.
    pub const MISSING: &'static str = "the operator acts in it: say with --control-cmd how";

    /// Reads a command line.
    pub fn parse(command: &str) -> Result<Self, String> {
        words_of(command).map(Self)
    }

    /// Runs it to its end, with more words.
    pub fn run(
        &self,
        server: &ServerUnderTest,
        words: &str,
        deadline: Instant,
    ) -> Result<(), String> {
        let command = self.0.iter().map(|word| server.fill(word));
        let more = words.split_whitespace().map(str::to_owned);
        let command: Vec<String> = command.chain(more).collect();
        let mut process = Process::start_words(&command)?;
        match process.wait(deadline) {
            Some(status) if status.success() => Ok(()),
            Some(status) => Err(format!(
                "the operator's command for {words:?} ended with {status}: {}",
                process.error_lines(deadline)
            )),
            None => Err(format!("the operator's command for {words:?} does not end")),
        }
    }
}
