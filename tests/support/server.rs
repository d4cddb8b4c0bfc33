//! The real server, in a process of its own.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

use super::PATIENCE;

/// A running `chat-server`, killed when this is dropped.
pub struct TestServer {
    pub address: SocketAddr,
    child: Child,
    stdout: BufReader<ChildStdout>,
    log: Arc<Log>,
}

/// What the server has written to standard error.
#[derive(Default)]
struct Log {
    state: Mutex<LogState>,
    changed: Condvar,
}

#[derive(Default)]
struct LogState {
    text: String,
    is_closed: bool,
}

/// `chat-server` with these options, not started yet; none of the environment
/// of the test run configures it.
pub fn command(options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chat-server"));
    command.args(options);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CHAT_") || name == "RUST_LOG" {
            command.env_remove(name);
        }
    }
    command
}

/// Runs `command` to its end, which must come by itself.
#[track_caller]
pub fn output(command: Command) -> Output {
    let (mut child, log) = spawn(command);
    // Its standard error is closed when it ends, which can be waited for with a bound.
    let has_ended = log.wait_until(|log| log.is_closed);
    if !has_ended {
        let _ = child.kill();
    }
    let mut output = child.wait_with_output().expect("it is our child");
    output.stderr = log.text().into_bytes();
    assert!(has_ended, "it should have ended: {output:?}");
    output
}

/// Starts `command` and follows what it says on its standard error.
fn spawn(mut command: Command) -> (Child, Arc<Log>) {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let log = Log::follow(child.stderr.take().expect("it is piped"));
    (child, log)
}

/// Sends a signal, by its name without SIG. STOP returns when the process has stopped.
#[track_caller]
pub fn signal(process_id: u32, name: &str) {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -s {name} {process_id}")])
        .status()
        .expect("there is a shell");
    assert!(sent.success(), "the process is there");
    // One thread takes the signal and stops the others; until it is scheduled, on a busy
    // machine, the others go on.
    let deadline = Instant::now() + PATIENCE;
    while name == "STOP" && !has_stopped(process_id) {
        assert!(Instant::now() < deadline, "the process should stop");
        thread::sleep(STOP_POLL);
    }
}

/// Whether each thread of a process has stopped.
fn has_stopped(process_id: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{process_id}/task")) else {
        return true; // A system without /proc, or a process that is gone.
    };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // "pid (name) state ..."; a name may hold anything.
        let state = stat.rsplit_once(") ").map(|(_, rest)| rest.chars().next());
        state.is_none_or(|state| state == Some('T'))
    })
}

/// How often a process is asked whether it has stopped.
const STOP_POLL: Duration = Duration::from_millis(1);

impl TestServer {
    pub fn start(options: &[&str]) -> Self {
        Self::run(command(options))
    }

    /// Starts `command` and waits until it listens.
    pub fn run(command: Command) -> Self {
        let (mut child, log) = spawn(command);
        let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("it is text");
        let address = line
            .strip_prefix("listening on ")
            .and_then(|rest| rest.strip_suffix('\n'))
            .and_then(|address| address.split_once("://"))
            .and_then(|(_, address)| address.split('#').next()?.parse().ok());
        let Some(address) = address else {
            let _ = child.kill();
            panic!("the first line is {line:?}; {}", log.text());
        };
        Self {
            address,
            child,
            stdout,
            log,
        }
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        signal(self.process_id(), name);
    }

    /// Waits for it to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        // Its standard error is closed when it ends, which can be waited for with
        // a bound.
        let ended = self.log.wait_until(|log| log.is_closed);
        assert!(ended, "the server should have ended");
        self.child.wait().expect("it is our child")
    }

    /// The next line of its standard output, which must come.
    pub fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).expect("it is text");
        line.trim_end().to_owned()
    }

    /// What it wrote to standard output after the first line; it has ended.
    pub fn rest_of_stdout(&mut self) -> String {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).expect("it is text");
        rest
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until it has logged `text`.
    pub fn wait_for_log(&self, text: &str) {
        let has_come = self.log.wait_until(|log| log.text.contains(text));
        assert!(has_come, "{text:?} should have been logged");
    }

    /// The most memory it has had resident so far, in bytes.
    pub fn peak_bytes(&self) -> u64 {
        let status = self.proc_file("status");
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let kib: Option<u64> = line
            .and_then(|line| line.split_whitespace().nth(1))
            .and_then(|number| number.parse().ok());
        kib.expect("the system says it in kB") * 1_024
    }

    /// How many file descriptors it has open.
    pub fn descriptors(&self) -> usize {
        let folder = format!("/proc/{}/fd", self.process_id());
        std::fs::read_dir(folder).expect("it runs").count()
    }

    /// The processor time it has used, in ticks of a hundredth of a second.
    pub fn processor_ticks(&self) -> u64 {
        let stat = self.proc_file("stat");
        // Behind the name in parentheses: user time is the 12th, system time the
        // 13th.
        let (_, fields) = stat.rsplit_once(')').expect("the name comes before");
        let fields: Vec<_> = fields.split_whitespace().collect();
        let ticks = |index: usize| fields[index].parse::<u64>().expect("a number");
        ticks(11) + ticks(12)
    }

    fn proc_file(&self, name: &str) -> String {
        let path = format!("/proc/{}/{name}", self.process_id());
        std::fs::read_to_string(path).expect("the process is there")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let log = self.log.text();
            // The end of it says most.
            let lines: Vec<_> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(50)..];
            eprintln!("the server logged:\n{}", shown.join("\n"));
        } else {
            // Whatever a test looks at: a server never panics.
            let log = self.log.text();
            assert!(!log.contains("panicked"), "{log}");
        }
    }
}

impl Log {
    fn follow(source: impl Read + Send + 'static) -> Arc<Self> {
        let log = Arc::new(Self::default());
        let follower = Arc::clone(&log);
        thread::spawn(move || {
            let mut lines = BufReader::new(source);
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                follower.change(|state| state.text.push_str(&line));
                line.clear();
            }
            follower.change(|state| state.is_closed = true);
        });
        log
    }

    fn change(&self, change: impl FnOnce(&mut LogState)) {
        change(&mut self.state.lock().expect("nobody panics with it"));
        self.changed.notify_all();
    }

    fn text(&self) -> String {
        self.state
            .lock()
            .expect("nobody panics with it")
            .text
            .clone()
    }

    /// Whether it came to be so in time.
    fn wait_until(&self, condition: impl Fn(&LogState) -> bool) -> bool {
        let state = self.state.lock().expect("nobody panics with it");
        let (state, _) = self
            .changed
            .wait_timeout_while(state, PATIENCE, |state| !condition(state))
            .expect("nobody panics with it");
        condition(&state)
    }
}
