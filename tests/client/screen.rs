//! A terminal whose screen a test can read: the program runs on a pty, and a terminal
//! emulator reads its output.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rexpect::process::PtyProcess;
use tempfile::TempDir;

use crate::fake::{LOOK_MS, WAIT_SECONDS};

/// The screen, in rows and columns: small, so that tests can fill it.
const ROWS: u16 = 24;
const COLUMNS: u16 = 80;

/// Runs the client in a shell that compares the terminal's settings before and after,
/// and shows the exit code. An interrupt reaches only the client.
const SHELL: &str = r#"trap : INT; stty sane rows "$HEIGHT" columns "$WIDTH"; before=$(stty -g); "$0" "$@"; code=$?
after=$(stty -g); [ "$before" = "$after" ] && echo "code $code, terminal as before"
[ "$before" = "$after" ] || echo "code $code, terminal changed: $before -> $after""#;

/// Runs the client as a job, and resumes it when it stops; the shell has the terminal
/// meanwhile.
const SHELL_WITH_JOBS: &str = r#"set -m; stty sane rows "$HEIGHT" columns "$WIDTH"; "$0" "$@"
while code=$?; [ $code -gt 128 ]; do stty sane; echo "stopped"; fg; done; echo "code $code""#;

/// How a terminal is and how the client is started in it.
pub struct Setup<'a> {
    pub rows: u16,
    pub columns: u16,
    pub term: &'a str,
    pub no_color: &'a str,
    /// As a job of a shell that resumes it.
    pub is_job: bool,
    /// Where the client keeps what was typed; `None` for a folder of this screen.
    pub state_folder: Option<&'a Path>,
    /// Where the client keeps its key and the keys of others; `None`: it has none.
    pub data_folder: Option<&'a Path>,
    /// Without times, and ending with its session, unless a test is about that.
    pub options: &'a [&'a str],
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Self {
            rows: ROWS,
            columns: COLUMNS,
            term: "xterm",
            no_color: "1",
            is_job: false,
            state_folder: None,
            data_folder: None,
            options: &["--time", "off", "--no-reconnect"],
        }
    }
}

pub struct Screen {
    keys: File,
    emulator: Arc<Mutex<vt100::Parser>>,
    /// Every byte that the client wrote.
    written: Arc<Mutex<Vec<u8>>>,
    columns: u16,
    /// The client's command line in /proc.
    command_line: String,
    /// Killed with the screen.
    _process: PtyProcess,
    _state_folder: TempDir,
}

impl Screen {
    /// Starts the client in a terminal without colours.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_in(arguments, &Setup::default())
    }

    pub fn start_in(arguments: &[&str], setup: &Setup) -> Self {
        let shell = if setup.is_job { SHELL_WITH_JOBS } else { SHELL };
        let arguments = [arguments, setup.options].concat();
        let state_folder = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("sh");
        crate::program::unconfigure(&mut command);
        command
            .args(["-c", shell, crate::program::PROGRAM])
            .args(&arguments)
            .env("WIDTH", setup.columns.to_string())
            .env("HEIGHT", setup.rows.to_string())
            .env("NO_COLOR", setup.no_color)
            .env("TERM", setup.term)
            .env("TZ", "UTC")
            .env_remove("COLORTERM")
            .env(
                "XDG_STATE_HOME",
                setup.state_folder.unwrap_or(state_folder.path()),
            );
        if let Some(folder) = setup.data_folder {
            command.env("XDG_DATA_HOME", folder);
        }
        let mut process = PtyProcess::new(command).expect("a pty");
        process.set_kill_timeout(Some(1_000));
        let keys = process.get_file_handle().expect("a pty");
        let mut output = process.get_file_handle().expect("a pty");
        let parser = vt100::Parser::new(size(setup.rows), size(setup.columns), 10_000);
        let emulator = Arc::new(Mutex::new(parser));
        let written = Arc::new(Mutex::new(Vec::new()));
        thread::spawn({
            let (emulator, written) = (Arc::clone(&emulator), Arc::clone(&written));
            move || {
                let mut bytes = [0; 4_096];
                // Reading a pty whose other end is closed is an error.
                while let Ok(read) = output.read(&mut bytes)
                    && read > 0
                {
                    written.lock().expect("no panic").extend(&bytes[..read]);
                    let mut emulator = emulator.lock().expect("no panic");
                    emulator.process(&bytes[..read]);
                }
            }
        });
        Self {
            keys,
            emulator,
            written,
            columns: setup.columns,
            command_line: [&[crate::program::PROGRAM], &arguments[..]]
                .concat()
                .iter()
                .map(|word| format!("{word}\0"))
                .collect(),
            _process: process,
            _state_folder: state_folder,
        }
    }

    /// Resizes the terminal.
    pub fn resize(&mut self, rows: u16, columns: u16) {
        let mut emulator = self.emulator.lock().expect("no panic");
        emulator.set_size(size(rows), size(columns));
        drop(emulator);
        self.columns = columns;
        let keys = self.keys.try_clone().expect("a pty");
        let status = Command::new("stty")
            .args(["rows", &rows.to_string(), "columns", &columns.to_string()])
            .stdin(keys)
            .status();
        assert!(status.expect("stty").success());
    }

    /// The client's process.
    pub fn process_id(&self) -> u32 {
        let processes = std::fs::read_dir("/proc").expect("the system shows processes");
        let is_client = |id: &u32| {
            // Each argument ends with a zero byte. The server's address is among them,
            // so the command line is unique.
            std::fs::read_to_string(format!("/proc/{id}/cmdline"))
                .is_ok_and(|line| line == self.command_line)
        };
        let client = processes
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .find(is_client);
        client.expect("the client runs")
    }

    /// Sends a signal to the client, by its name without SIG.
    pub fn signal(&self, name: &str) {
        crate::support::signal(self.process_id(), name);
    }

    pub fn type_keys(&mut self, keys: &str) {
        self.type_bytes(keys.as_bytes());
    }

    pub fn type_bytes(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).expect("a pty");
        self.keys.flush().expect("a pty");
    }

    /// The text on the screen, without trailing spaces and empty rows.
    pub fn text(&self) -> String {
        let emulator = self.emulator.lock().expect("no panic");
        let contents = emulator.screen().contents();
        let rows: Vec<&str> = contents.lines().map(str::trim_end).collect();
        rows.join("\n").trim_end().to_owned()
    }

    /// Runs `work` while the terminal takes nothing of what the client writes.
    pub fn while_nobody_reads(&self, work: impl FnOnce()) {
        let _reader_waits = self.emulator.lock().expect("no panic");
        work();
    }

    /// The rows of the screen.
    pub fn rows(&self) -> Vec<String> {
        let emulator = self.emulator.lock().expect("no panic");
        let rows = emulator.screen().rows(0, self.columns);
        rows.map(|row| row.trim_end().to_owned()).collect()
    }

    /// The full screen in its parts: the log, the status line, the draft. `None` while
    /// it is not there.
    fn parts(&self) -> Option<(String, String, String)> {
        let rows = self.rows();
        let emulator = self.emulator.lock().expect("no panic");
        let screen = emulator.screen();
        let is_status = |row: &usize| {
            let cell = screen.cell(*row as u16, 0);
            cell.is_some_and(vt100::Cell::inverse)
        };
        let status = (0..rows.len()).rev().find(is_status)?;
        let is_whole = screen.alternate_screen();
        let log = rows[..status].join("\n").trim_end().to_owned();
        let draft = rows[status + 1..].join("\n").trim_end().to_owned();
        is_whole.then(|| (log, rows[status].trim().to_owned(), draft))
    }

    /// The log on the screen.
    pub fn log(&self) -> String {
        self.parts().map(|(log, ..)| log).unwrap_or_default()
    }

    /// The status line.
    pub fn status(&self) -> String {
        self.parts().map(|parts| parts.1).unwrap_or_default()
    }

    /// Everything that the client wrote.
    pub fn written(&self) -> String {
        let written = self.written.lock().expect("no panic");
        String::from_utf8_lossy(&written).into_owned()
    }

    /// Waits until this is so.
    #[track_caller]
    pub fn wait_until(&self, is_so: impl Fn() -> bool) {
        self.wait_for(|_| is_so(), "something else");
    }

    /// Waits until the log is exactly this, and the draft too.
    #[track_caller]
    pub fn shows_log(&self, log: &str, draft: &str) {
        self.wait_for(
            |_| {
                self.parts()
                    .is_some_and(|parts| (&*parts.0, &*parts.2) == (log, draft))
            },
            &format!("{log}\n----\n{draft}"),
        );
    }

    /// Waits until the log ends with this.
    #[track_caller]
    pub fn log_ends_with(&self, end: &str) {
        self.wait_for(|_| self.log().ends_with(end), end);
    }

    /// Waits until the draft is this.
    #[track_caller]
    pub fn drafts(&self, draft: &str) {
        let has_draft = || self.parts().is_some_and(|parts| parts.2 == draft);
        self.wait_for(|_| has_draft(), draft);
    }

    /// Waits until the status line has this.
    #[track_caller]
    pub fn status_has(&self, part: &str) {
        let has = || self.parts().is_some_and(|parts| parts.1.contains(part));
        self.wait_for(|_| has(), part);
    }

    /// Waits until the screen shows exactly this.
    #[track_caller]
    pub fn shows(&self, expected: &str) {
        self.wait_for(|text| text == expected, expected);
    }

    /// Waits until the screen ends with this.
    #[track_caller]
    pub fn ends_with(&self, expected: &str) {
        self.wait_for(|text| text.ends_with(expected), expected);
    }

    /// Waits until the screen shows this somewhere.
    #[track_caller]
    pub fn has(&self, part: &str) {
        self.wait_for(|text| text.contains(part), part);
    }

    #[track_caller]
    fn wait_for(&self, is_there: impl Fn(&str) -> bool, expected: &str) {
        let deadline = Instant::now() + Duration::from_secs(WAIT_SECONDS);
        loop {
            let text = self.text();
            if is_there(&text) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "expected:\n{expected}\n\nthe screen:\n{text}"
            );
            thread::sleep(Duration::from_millis(LOOK_MS));
        }
    }

    /// What `look` sees in the cell at this row and column.
    pub fn cell<T>(&self, row: u16, column: u16, look: impl Fn(&vt100::Cell) -> T) -> T {
        let emulator = self.emulator.lock().expect("no panic");
        look(emulator.screen().cell(row, column).expect("a cell"))
    }
}

fn size(size: u16) -> NonZeroU16 {
    NonZeroU16::new(size).expect("not zero")
}
