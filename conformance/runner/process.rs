//! A program under test: started in a process group of its own, read line by
//! line, and never left behind.

use std::{
    io::{BufRead, BufReader, Read, Write},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

/// How much of a program's stderr is kept, from its end.
const STDERR_BYTES_MAX: usize = 4 * 1024;

/// How many lines of its stdout may wait to be read.
const STDOUT_LINES_MAX: usize = 10_000;

/// The longest line of its stdout that is kept.
const STDOUT_LINE_BYTES_MAX: u64 = 1 << 20;

/// How often the end of a process is looked for.
const POLL: Duration = Duration::from_millis(2);

/// A running program.
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    stderr: Arc<Mutex<Vec<u8>>>,
}

impl Process {
    /// Starts a command line, split as a shell splits it, without a shell.
    pub fn start(command: &str) -> Result<Self, String> {
        let words = shlex::split(command)
            .filter(|words| !words.is_empty())
            .ok_or_else(|| {
                format!("the command {command:?} has no program, or a quote without its end")
            })?;
        Self::start_words(&words)
    }

    /// Starts a program with its arguments.
    pub fn start_words(words: &[String]) -> Result<Self, String> {
        use std::os::unix::process::CommandExt;
        let (program, arguments) = words.split_first().ok_or("there is no program to start")?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|e| format!("{program:?} does not start: {e}"))?;
        let (sender, lines) = mpsc::sync_channel(STDOUT_LINES_MAX);
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || read_lines(stdout, &sender));
        }
        let stderr = Arc::new(Mutex::new(Vec::new()));
        if let Some(source) = child.stderr.take() {
            let kept = Arc::clone(&stderr);
            thread::spawn(move || keep_tail(source, &kept));
        }
        let stdin = child.stdin.take();
        Ok(Self {
            child,
            stdin,
            lines,
            stderr,
        })
    }

    /// The next line of its stdout; None at its end or when the deadline passes.
    pub fn line(&self, deadline: Instant) -> Option<String> {
        self.lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .ok()
    }

    /// Types a line into it. A program that has ended takes none, which shows elsewhere.
    pub fn type_line(&mut self, line: &str) {
        if let Some(stdin) = &mut self.stdin {
            let _ = stdin
                .write_all(format!("{line}\n").as_bytes())
                .and_then(|()| stdin.flush());
        }
    }

    /// Ends its input.
    pub fn end_input(&mut self) {
        self.stdin = None;
    }

    /// Tells it to end.
    pub fn terminate(&self) {
        self.signal(Signal::SIGTERM);
    }

    fn signal(&self, signal: Signal) {
        if let Ok(pid) = i32::try_from(self.child.id()) {
            let _ = killpg(Pid::from_raw(pid), signal);
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits for its end.
    pub fn wait(&mut self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            thread::sleep(POLL);
        }
    }

    /// The last lines of its stderr.
    pub fn last_words(&self) -> String {
        /// As many as show a panic or a traceback's end.
        const LINES_SHOWN_MAX: usize = 4;
        let bytes = self.stderr.lock().map(|b| b.clone()).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(LINES_SHOWN_MAX)..].join(" | ")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

fn read_lines(stdout: impl Read, lines: &mpsc::SyncSender<String>) {
    let mut reader = BufReader::new(stdout);
    loop {
        let mut line = Vec::new();
        let read = reader
            .by_ref()
            .take(STDOUT_LINE_BYTES_MAX)
            .read_until(b'\n', &mut line);
        if !matches!(read, Ok(n) if n > 0) {
            return;
        }
        let line = String::from_utf8_lossy(&line);
        // A full queue loses lines rather than stopping the program under test.
        let _ = lines.try_send(line.trim_end_matches(['\n', '\r']).to_owned());
    }
}

fn keep_tail(mut source: impl Read, kept: &Mutex<Vec<u8>>) {
    let mut chunk = [0; 1024];
    while let Ok(n @ 1..) = source.read(&mut chunk) {
        if let Ok(mut kept) = kept.lock() {
            kept.extend_from_slice(&chunk[..n]);
            let surplus = kept.len().saturating_sub(STDERR_BYTES_MAX);
            kept.drain(..surplus);
        }
    }
}
