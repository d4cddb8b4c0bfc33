//! Test support: runs the runner, and installs the packages of the Python
//! implementations.

use std::{
    env,
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use assert_cmd::assert::OutputAssertExt;
use nix::fcntl::{Flock, FlockArg};
use serde_json::Value;

/// The exit codes, as the runner documents them.
pub const CONFORMS: i32 = 0;
pub const VIOLATES: i32 = 1;
pub const USAGE: i32 = 2;
pub const INCOMPLETE: i32 = 3;

/// A machine that builds something else meanwhile is slow.
pub const TIMEOUT_SCALE: &str = "3";

/// The cuts for a test about something else than cuts: these, or all cuts where `ALL_CUTS` is
/// set. Another test plays all cuts against the reference server.
pub fn cuts(few: &'static str) -> [&'static str; 2] {
    let all = env::var_os("ALL_CUTS").map(|_| "whole,bytes,prefix,merged");
    ["--cuts", all.unwrap_or(few)]
}

macro_rules! heart_deadlines {
    () => {
        "--register-deadline-ms 1500 --name-check-deadline-ms 400 --keepalive-interval-ms 500 --idle-deadline-ms 1500"
    };
}

/// Deadlines short enough to wait for, long enough for a busy machine.
pub const SHORT_DEADLINES: &str = concat!(heart_deadlines!(), " --covered-interval-ms 1000");

/// The same for a server without filters.
pub const HEART_DEADLINES: &str = heart_deadlines!();

/// The runner, with nothing of the test run's environment that would configure a target.
pub fn runner() -> Command {
    without_settings(Command::new(env!("CARGO_BIN_EXE_chat-conformance")))
}

/// The same, started by `env` with an option about signals: a test run may ignore some,
/// and its programs with it.
pub fn runner_with_signals(option: &str) -> Command {
    let mut command = Command::new("env");
    command.args([option, env!("CARGO_BIN_EXE_chat-conformance")]);
    without_settings(command)
}

fn without_settings(mut command: Command) -> Command {
    for (name, _) in env::vars_os() {
        if name.to_string_lossy().starts_with("CHAT_") {
            command.env_remove(name);
        }
    }
    command
}

/// What a run said and how it ended.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the runner with these arguments.
pub fn run(arguments: &[&str]) -> Ran {
    let assert = runner().args(arguments).assert();
    let output = assert.get_output();
    Ran {
        code: output.status.code().expect("the runner is not killed"),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs the runner and reads its JSON report as well.
pub fn report(arguments: &[&str]) -> (Ran, Value) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("report.json");
    let path = path.to_str().expect("a path in UTF-8");
    let ran = run(&[arguments, &["--quiet", "--json", path]].concat());
    let json = fs::read_to_string(path)
        .unwrap_or_else(|e| panic!("no report: {e}; {}{}", ran.stdout, ran.stderr));
    (
        ran,
        serde_json::from_str(&json).expect("the report is JSON"),
    )
}

/// The reference server's command line.
pub fn reference(options: &str) -> String {
    format!("{} {options}", env!("CARGO_BIN_EXE_chat-server"))
}

/// The files of a server with a password and a list of names, in upper and lower case.
pub struct Admission {
    folder: tempfile::TempDir,
}

impl Admission {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("password"), "the door is ajar é\n").expect("a file");
        fs::write(
            folder.path().join("names"),
            "# who may come\nAlice\nbOB # a\nCarol-7\n",
        )
        .expect("a file");
        Self { folder }
    }

    /// The options that say so, to the servers and to the runner alike.
    pub fn options(&self, has_password: bool, has_list: bool) -> Vec<String> {
        let path = |name: &str| {
            let path = self.folder.path().join(name);
            path.to_str().expect("a path in UTF-8").to_owned()
        };
        let mut options = Vec::new();
        if has_password {
            options.extend(["--password-file".to_owned(), path("password")]);
        }
        if has_list {
            options.extend(["--allow".to_owned(), path("names")]);
        }
        options
    }
}

/// A client's command line in which the suite says name, address and password.
pub fn client(command: &str) -> String {
    let data = env!("CARGO_TARGET_TMPDIR");
    format!("env CHAT_PASSWORD={{password}} XDG_DATA_HOME={data} {command} {{address}} {{name}}")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The command line of one of the Python implementations, its interpreter installed.
pub fn python(script: &str) -> String {
    let python = virtual_environment().join("bin/python");
    let script = root()
        .join("conformance/implementations/python")
        .join(script);
    format!("{} {}", python.display(), script.display())
}

/// The folder of the Python implementations.
pub fn python_folder() -> PathBuf {
    root().join("conformance/implementations/python")
}

/// The interpreter of the Python implementations, in their folder.
pub fn python_command() -> Command {
    let mut command = Command::new(virtual_environment().join("bin/python"));
    command.current_dir(root().join("conformance/implementations/python"));
    command
}

/// An environment with what the implementations require, made once and used again for as
/// long as the requirements are the same.
fn virtual_environment() -> PathBuf {
    let requirements = root().join("conformance/implementations/python/requirements.txt");
    let wanted =
        fs::read_to_string(&requirements).expect("the requirements of the implementations");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-implementations");
    let done = folder.join("installed-requirements.txt");
    fs::create_dir_all(env!("CARGO_TARGET_TMPDIR")).expect("cargo's folder for tests");
    let lock = File::create(folder.with_extension("lock")).expect("a lock file");
    // Test programs that run at the same time wait here for the first one.
    let _lock = Flock::lock(lock, FlockArg::LockExclusive).expect("the lock");
    if fs::read_to_string(&done).is_ok_and(|have| have == wanted) {
        return folder;
    }
    let run = |command: &mut Command| {
        let output = command
            .output()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        assert!(
            output.status.success(),
            "{command:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let _ = fs::remove_dir_all(&folder);
    run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
    run(Command::new(folder.join("bin/python"))
        .args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "-r",
        ])
        .arg(&requirements));
    fs::write(done, wanted).expect("a note of what is installed");
    folder
}

/// A process that ends with its test, also when the test fails.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a program that says where it listens.
pub fn listening(command: &mut Command) -> (Ended, String) {
    let mut child = Ended(
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts"),
    );
    let stdout = child.0.stdout.take().expect("it is piped");
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).expect("a line");
    let address = line.trim().trim_start_matches("listening on ").to_owned();
    let address = address.trim_start_matches("chat://").to_owned();
    (child, address)
}

/// Starts a server from its command line, and says at which address it listens.
pub fn listening_to(command_line: &str) -> (Ended, String) {
    let mut words = command_line.split_whitespace();
    let mut command = Command::new(words.next().expect("a program"));
    listening(command.args(words).stdin(Stdio::null()))
}
