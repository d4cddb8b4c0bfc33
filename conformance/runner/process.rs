//! Child processes: a program under test runs in a process group of its own, which ends
//! with the run, and its output is read line by line.

use std::{
    collections::{BTreeSet, VecDeque},
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Instant,
};

use nix::{
    sys::signal::{Signal, killpg},
    unistd::Pid,
};

use crate::{data_folder, timing};

/// How much of a program's stderr is kept from its beginning, where many interpreters
/// say what is wrong.
const STDERR_HEAD_BYTES_MAX: usize = 4 * 1024;

/// How much is kept from its end, where others do.
const STDERR_TAIL_BYTES_MAX: usize = 60 * 1024;

/// How many lines of its stdout may wait to be read.
const STDOUT_LINES_MAX: usize = 10_000;

/// The longest line of its stdout that is kept.
const STDOUT_LINE_BYTES_MAX: u64 = 1 << 16;

/// How many bytes of lines may wait to be read.
const STDOUT_WAITING_BYTES_MAX: usize = 4 << 20;

/// The process groups that run.
struct Groups {
    running: BTreeSet<i32>,
    /// Whether the run has ended: nothing more is started.
    is_closed: bool,
}

static GROUPS: Mutex<Groups> = Mutex::new(Groups {
    running: BTreeSet::new(),
    is_closed: false,
});

fn groups() -> MutexGuard<'static, Groups> {
    // A set of numbers is whole after a panic too.
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends every program that runs, with its children, and starts no other.
pub fn end_all() {
    let mut groups = groups();
    groups.is_closed = true;
    for group in &groups.running {
        let _ = killpg(Pid::from_raw(*group), Signal::SIGKILL);
    }
    data_folder::remove_all();
}

/// Ends every program when it is dropped, so also when the runner panics.
pub struct EndAll;

impl Drop for EndAll {
    fn drop(&mut self) {
        end_all();
    }
}

/// A running program.
pub struct Process {
    child: Child,
    /// Its process group, which has the number of the process.
    group: Pid,
    /// How it ended, once that is known.
    status: Option<ExitStatus>,
    stdin: Option<ChildStdin>,
    lines: mpsc::Receiver<String>,
    /// The bytes of the lines that wait.
    waiting: Arc<AtomicUsize>,
    stderr: Arc<Mutex<ErrorOutput>>,
    /// Closed when stderr has ended.
    stderr_open: mpsc::Receiver<()>,
    /// Whether the suite has told it to end.
    is_told_to_end: bool,
}

impl Process {
    /// Starts a program with its arguments.
    pub fn start_words(words: &[String]) -> Result<Self, String> {
        let (program, arguments) = words.split_first().ok_or("there is no program to start")?;
        // Locked until it is one of those that a signal ends.
        let mut groups = groups();
        if groups.is_closed {
            return Err("the run has ended".to_owned());
        }
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()
            .map_err(|e| format!("{program:?} does not start: {e}"))?;
        let group = child.id().cast_signed();
        groups.running.insert(group);
        drop(groups);
        let (sender, lines) = mpsc::sync_channel(STDOUT_LINES_MAX);
        let waiting = Arc::new(AtomicUsize::new(0));
        if let Some(stdout) = child.stdout.take() {
            let waiting = Arc::clone(&waiting);
            thread::spawn(move || read_lines(stdout, &sender, &waiting));
        }
        let stderr = Arc::new(Mutex::new(ErrorOutput::default()));
        let (open, stderr_open) = mpsc::sync_channel(0);
        if let Some(source) = child.stderr.take() {
            let kept = Arc::clone(&stderr);
            thread::spawn(move || {
                keep(source, &kept);
                drop(open);
            });
        }
        let stdin = child.stdin.take();
        Ok(Self {
            child,
            group: Pid::from_raw(group),
            status: None,
            stdin,
            lines,
            waiting,
            stderr,
            stderr_open,
            is_told_to_end: false,
        })
    }

    /// The next line of its stdout; None at its end or when the deadline passes.
    pub fn line(&mut self, deadline: Instant) -> Option<String> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left.min(timing::LINE_POLL)) {
                Ok(line) => {
                    self.waiting.fetch_sub(line.len(), Ordering::Relaxed);
                    return Some(line);
                }
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) if left.is_zero() => return None,
                // Its stdout may have been inherited by children, which end with it.
                Err(RecvTimeoutError::Timeout) => drop(self.ended()),
            }
        }
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
    pub fn terminate(&mut self) {
        self.is_told_to_end = true;
        // The number of one that has ended may be another's by now.
        if self.ended().is_none() {
            self.signal(Signal::SIGTERM);
        }
    }

    /// Ends it at once, with its children.
    pub fn kill(&mut self, deadline: Instant) {
        self.is_told_to_end = true;
        if self.ended().is_none() {
            self.signal(Signal::SIGKILL);
            let _ = self.wait(deadline);
        }
    }

    /// Whether it was told to end.
    pub fn is_told_to_end(&self) -> bool {
        self.is_told_to_end
    }

    fn signal(&self, signal: Signal) {
        let _ = killpg(self.group, signal);
    }

    /// Ends the program and its children.
    fn end_group(&self) {
        let mut groups = groups();
        self.signal(Signal::SIGKILL);
        groups.running.remove(&self.group.as_raw());
    }

    /// How it ended, if it has. Its children end with it.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().ok().flatten();
            if self.status.is_some() {
                // At once, since its number may be another's later.
                self.end_group();
            }
        }
        self.status
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
            thread::sleep(timing::POLL);
        }
    }

    /// Its stderr, as far as it is kept. If it has ended, all of that has been read,
    /// unless the deadline passes.
    pub fn error_output(&mut self, deadline: Instant) -> String {
        if self.ended().is_some() {
            let left = deadline.saturating_duration_since(Instant::now());
            let _ = self.stderr_open.recv_timeout(left);
        }
        let kept = self.stderr.lock().map(|kept| kept.text());
        kept.unwrap_or_default()
    }

    /// The first and the last lines of its stderr, for a sentence.
    pub fn error_lines(&mut self, deadline: Instant) -> String {
        shown_lines(&self.error_output(deadline))
    }
}

/// The words of a command line, split as a shell splits it.
pub fn words_of(command: &str) -> Result<Vec<String>, String> {
    shlex::split(command)
        .filter(|words| !words.is_empty())
        .ok_or_else(|| {
            format!("the command {command:?} has no program, or a quote without its end")
        })
}

/// The first and the last lines of a text that are not blank.
fn shown_lines(text: &str) -> String {
    /// What is wrong often stands first, where a list of calls follows.
    const FIRST_MAX: usize = 2;
    /// As many as show the end of a panic or a traceback.
    const LAST_MAX: usize = 4;
    let mut lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    if lines.len() > FIRST_MAX + LAST_MAX {
        let last = lines.split_off(lines.len() - LAST_MAX);
        lines.truncate(FIRST_MAX);
        lines.push("...");
        lines.extend(last);
    }
    lines.join(" | ")
}

/// The beginning and the end of a program's stderr.
#[derive(Default)]
struct ErrorOutput {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    is_cut: bool,
}

impl ErrorOutput {
    fn add(&mut self, bytes: &[u8]) {
        let room = STDERR_HEAD_BYTES_MAX.saturating_sub(self.head.len());
        let (head, tail) = bytes.split_at(room.min(bytes.len()));
        self.head.extend_from_slice(head);
        self.tail.extend(tail);
        let surplus = self.tail.len().saturating_sub(STDERR_TAIL_BYTES_MAX);
        self.is_cut |= surplus > 0;
        self.tail.drain(..surplus);
    }

    fn text(&self) -> String {
        let mut bytes = self.head.clone();
        if self.is_cut {
            bytes.extend_from_slice(b"\n...\n");
        }
        bytes.extend(&self.tail);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.is_none() {
            self.end_group();
            let _ = self.child.wait();
        }
    }
}

fn read_lines(stdout: impl Read, lines: &mpsc::SyncSender<String>, waiting: &AtomicUsize) {
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
        let line = line.trim_end_matches(['\n', '\r']).to_owned();
        // A full queue loses lines rather than stopping the program under test.
        let bytes = line.len();
        if waiting.fetch_add(bytes, Ordering::Relaxed) + bytes > STDOUT_WAITING_BYTES_MAX
            || lines.try_send(line).is_err()
        {
            waiting.fetch_sub(bytes, Ordering::Relaxed);
        }
    }
}

fn keep(mut source: impl Read, kept: &Mutex<ErrorOutput>) {
    let mut chunk = [0; 1024];
    while let Ok(n @ 1..) = source.read(&mut chunk) {
        if let Ok(mut kept) = kept.lock() {
            kept.add(&chunk[..n]);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The buffer of a pipe, and that of its reader.
    const PIPE_BYTES: usize = 128 * 1024;

    #[test]
    fn unread_output_is_bounded() {
        let mut process = words_of("head -c 64000000 /dev/zero")
            .and_then(|words| Process::start_words(&words))
            .expect("it starts");
        let deadline = Instant::now() + Duration::from_secs(30);
        assert!(process.wait(deadline).is_some());
        let mut kept = 0;
        while let Some(line) = process.line(deadline) {
            kept += line.len();
        }
        // The rest in the pipe comes in as soon as lines are taken.
        assert!(kept <= STDOUT_WAITING_BYTES_MAX + PIPE_BYTES, "{kept}");
        assert!(kept > 0);
    }

    #[test]
    fn the_first_and_the_last_lines_of_an_error_output_are_shown() {
        assert_eq!(shown_lines("one\n\ntwo\n"), "one | two");
        let stack: String = (0..100).map(|n| format!("  at call {n}\n")).collect();
        let text = format!("Error: cannot cope\n{stack}Node.js v20\n");
        assert_eq!(
            shown_lines(&text),
            "Error: cannot cope |   at call 0 | ... |   at call 97 |   at call 98 |   at call 99 | Node.js v20"
        );
        let mut kept = ErrorOutput::default();
        kept.add(b"first\n");
        kept.add(&b"x".repeat(STDERR_HEAD_BYTES_MAX + STDERR_TAIL_BYTES_MAX));
        kept.add(b"\nlast\n");
        let text = kept.text();
        assert!(text.starts_with("first\n") && text.ends_with("\nlast\n"));
        assert!(text.contains("\n...\n"));
        assert!(text.len() <= STDERR_HEAD_BYTES_MAX + STDERR_TAIL_BYTES_MAX + 5);
    }
}
