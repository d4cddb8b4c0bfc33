//! A terminal whose screen a test can read: the program runs on a pty, and a terminal
//! emulator reads its output.

use std::fs::File;
use std::io::{Read, Write};
use std::num::NonZeroU16;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rexpect::process::PtyProcess;

use crate::fake::{LOOK_MS, WAIT_SECONDS};

/// The screen, in rows and columns: small, so that tests can fill it.
const ROWS: u16 = 24;
const COLUMNS: u16 = 80;

/// Runs the client in a shell that compares the terminal's settings before and after,
/// and shows the exit code. An interrupt reaches only the client.
const SHELL: &str = r#"trap : INT; stty sane rows 24 columns "$WIDTH"; before=$(stty -g); "$0" "$@"; code=$?
after=$(stty -g); [ "$before" = "$after" ] && echo "code $code, terminal as before"
[ "$before" = "$after" ] || echo "code $code, terminal changed: $before -> $after""#;

/// Runs the client as a job, and resumes it when it stops; the shell has the terminal
/// meanwhile.
const SHELL_WITH_JOBS: &str = r#"set -m; stty sane rows 24 columns "$WIDTH"; "$0" "$@"
while code=$?; [ $code -gt 128 ]; do stty sane; echo "stopped"; fg; done; echo "code $code""#;

pub struct Screen {
    keys: File,
    emulator: Arc<Mutex<vt100::Parser>>,
    columns: u16,
    /// The client's command line in /proc.
    command_line: String,
    /// Killed with the screen.
    _process: PtyProcess,
}

impl Screen {
    /// Starts the client in a terminal without colours.
    pub fn start(arguments: &[&str]) -> Self {
        Self::start_with(arguments, "1", "xterm")
    }

    /// Starts the client as a job of a shell that resumes it.
    pub fn start_as_job(arguments: &[&str]) -> Self {
        Self::start_in(SHELL_WITH_JOBS, arguments, "1", "xterm", COLUMNS)
    }

    /// Starts the client in a terminal of another width.
    pub fn start_at(arguments: &[&str], columns: u16) -> Self {
        Self::start_in(SHELL, arguments, "1", "xterm", columns)
    }

    pub fn start_with(arguments: &[&str], no_color: &str, term: &str) -> Self {
        Self::start_in(SHELL, arguments, no_color, term, COLUMNS)
    }

    fn start_in(shell: &str, arguments: &[&str], no_color: &str, term: &str, columns: u16) -> Self {
        let mut command = Command::new("sh");
        crate::program::unconfigure(&mut command);
        command
            .args(["-c", shell, crate::program::PROGRAM])
            .args(arguments)
            .env("WIDTH", columns.to_string())
            .env("NO_COLOR", no_color)
            .env("TERM", term);
        let mut process = PtyProcess::new(command).expect("a pty");
        process.set_kill_timeout(Some(1_000));
        let keys = process.get_file_handle().expect("a pty");
        let mut written = process.get_file_handle().expect("a pty");
        let parser = vt100::Parser::new(size(ROWS), size(columns), 10_000);
        let emulator = Arc::new(Mutex::new(parser));
        thread::spawn({
            let emulator = Arc::clone(&emulator);
            move || {
                let mut bytes = [0; 4_096];
                // Reading a pty whose other end is closed is an error.
                while let Ok(read) = written.read(&mut bytes)
                    && read > 0
                {
                    let mut emulator = emulator.lock().expect("no panic");
                    emulator.process(&bytes[..read]);
                }
            }
        });
        Self {
            keys,
            emulator,
            columns,
            command_line: [&[crate::program::PROGRAM], arguments]
                .concat()
                .iter()
                .map(|word| format!("{word}\0"))
                .collect(),
            _process: process,
        }
    }

    /// Resizes the terminal.
    pub fn resize(&mut self, columns: u16) {
        let mut emulator = self.emulator.lock().expect("no panic");
        let rows = emulator.screen().size().0;
        emulator.set_size(rows, size(columns));
        drop(emulator);
        self.columns = columns;
        let keys = self.keys.try_clone().expect("a pty");
        let status = Command::new("stty")
            .args(["columns", &columns.to_string()])
            .stdin(keys)
            .status();
        assert!(status.expect("stty").success());
    }

    /// Sends a signal to the client, by its name without SIG.
    pub fn signal(&self, name: &str) {
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
        crate::support::signal(client.expect("the client runs"), name);
    }

    pub fn type_keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("a pty");
        self.keys.flush().expect("a pty");
    }

    /// The text on the screen, without trailing spaces and empty rows.
    pub fn text(&self) -> String {
        let emulator = self.emulator.lock().expect("no panic");
        let contents = emulator.screen().contents();
        let rows: Vec<&str> = contents.lines().map(str::trim_end).collect();
        rows.join("\n").trim_end().to_owned()
    }

    /// The row and column of the cursor, from 0.
    pub fn cursor(&self) -> (u16, u16) {
        let emulator = self.emulator.lock().expect("no panic");
        emulator.screen().cursor_position()
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

    /// Waits until the text was shown this often, including what has scrolled away.
    #[track_caller]
    pub fn has_times(&self, part: &str, times: usize) {
        let expected = format!("{times} times {part}");
        self.wait_for(|_| self.whole().matches(part).count() >= times, &expected);
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

    /// Everything that was shown, including what has scrolled away.
    pub fn whole(&self) -> String {
        let mut emulator = self.emulator.lock().expect("no panic");
        let screen = emulator.screen_mut();
        screen.set_scrollback(usize::MAX);
        let mut rows = Vec::new();
        let mut above = screen.scrollback();
        // The view moves a screen at a time; the last one may overlap.
        loop {
            screen.set_scrollback(above);
            let seen: Vec<String> = screen
                .rows(0, self.columns)
                .map(|row| row.trim_end().to_owned())
                .collect();
            let is_last = above == 0;
            let taken = if is_last {
                seen.len()
            } else {
                above.min(ROWS.into())
            };
            rows.extend(seen.into_iter().take(taken));
            if is_last {
                return rows.join("\n").trim_end().to_owned();
            }
            above -= taken;
        }
    }

    /// Whether the character at this row and column is bold.
    pub fn is_bold(&self, row: u16, column: u16) -> bool {
        let emulator = self.emulator.lock().expect("no panic");
        emulator.screen().cell(row, column).expect("a cell").bold()
    }
}

fn size(size: u16) -> NonZeroU16 {
    NonZeroU16::new(size).expect("not zero")
}
