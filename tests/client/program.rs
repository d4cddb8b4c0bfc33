//! `chat-client` as a process with pipes for its standard streams.

use std::io::{ErrorKind, Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::fake::{LOOK_MS, WAIT_SECONDS};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_chat-client");

pub struct Program {
    child: Child,
    input: Option<ChildStdin>,
    /// What it has written so far.
    written: Arc<Mutex<Vec<u8>>>,
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
        let written = Arc::default();
        let output = read_all(child.stdout.take().expect("a pipe"), &written);
        let errors = read_all(child.stderr.take().expect("a pipe"), &Arc::default());
        Self {
            input: child.stdin.take(),
            child,
            written,
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

    /// Waits until its output has this text.
    #[track_caller]
    pub fn shows(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(WAIT_SECONDS);
        loop {
            let written = self.written.lock().expect("no panic").clone();
            let written = String::from_utf8_lossy(&written);
            if written.contains(text) {
                return;
            }
            assert!(Instant::now() < deadline, "no {text:?} in {written:?}");
            thread::sleep(Duration::from_millis(LOOK_MS));
        }
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
    // Without a home there is no key, so that tests say where they have one.
    command.env("HOME", "").env_remove("XDG_DATA_HOME");
}

fn read_all(
    mut pipe: impl Read + Send + 'static,
    written: &Arc<Mutex<Vec<u8>>>,
) -> JoinHandle<String> {
    let written = Arc::clone(written);
    thread::spawn(move || {
        let mut bytes = [0; 4_096];
        loop {
            let read = match pipe.read(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                read => read.expect("a pipe"),
            };
            let mut written = written.lock().expect("no panic");
            written.extend(&bytes[..read]);
            if read == 0 {
                let bytes = std::mem::take(&mut *written);
                return String::from_utf8(bytes).expect("UTF-8");
            }
        }
    })
}
