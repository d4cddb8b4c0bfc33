//! `chat-client` as a process with pipes for its standard streams.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::fake::{LOOK_MS, WAIT_SECONDS};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_chat-client");

pub struct Program {
    child: Child,
    input: Option<ChildStdin>,
    output: JoinHandle<String>,
    errors: JoinHandle<String>,
}

/// How a process ended.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    pub code: Option<i32>,
    pub output: String,
    pub errors: String,
}

impl Program {
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, &[])
    }

    /// Starts the client with these environment variables.
    pub fn start_with(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(PROGRAM);
        unconfigure(&mut command);
        let mut child = command
            .args(arguments)
            .envs(variables.iter().copied())
            // The help must not depend on where the tests run.
            .env_remove("COLUMNS")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let output = read_all(child.stdout.take().expect("a pipe"));
        let errors = read_all(child.stderr.take().expect("a pipe"));
        Self {
            input: child.stdin.take(),
            child,
            output,
            errors,
        }
    }

    /// Writes to the input, which stays open.
    pub fn write(&mut self, bytes: &[u8]) {
        let input = self.input.as_mut().expect("an open input");
        input.write_all(bytes).expect("the program reads");
    }

    pub fn end_input(&mut self) {
        self.input = None;
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the program to end by itself.
    pub fn outcome(mut self) -> Outcome {
        let deadline = Instant::now() + Duration::from_secs(WAIT_SECONDS);
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                break status;
            }
            if Instant::now() > deadline {
                self.child.kill().expect("a child");
                panic!("the program does not end");
            }
            thread::sleep(Duration::from_millis(LOOK_MS));
        };
        Outcome {
            code: status.code(),
            output: self.output.join().expect("the output"),
            errors: self.errors.join().expect("the error output"),
        }
    }
}

/// Removes the variables that would configure the programs.
pub fn unconfigure(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CHAT_") {
            command.env_remove(name);
        }
    }
    // No file of the user either.
    command.env("XDG_CONFIG_HOME", "/nonexistent");
}

fn read_all(mut pipe: impl Read + Send + 'static) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("a pipe");
        String::from_utf8(bytes).expect("UTF-8")
    })
}
