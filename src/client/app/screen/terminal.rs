//! Terminal: raw mode, the alternate screen, frames, bells, notices and the clipboard.
//!
//! A terminal that does not read must not hold up the session: a thread writes, and the
//! next frame is drawn when the one before has been written.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::panic;
use std::process;
use std::sync::Once;
use std::thread;
use std::time::Duration;

use crossterm::terminal::{disable_raw_mode, enable_raw_mode};
use nix::libc::{O_NOCTTY, O_NONBLOCK};
use nix::unistd::{dup2_stdin, ttyname};
use ratatui_core::layout::Size;
use ratatui_core::terminal::Terminal;
use tokio::sync::mpsc;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::draw::{Drawn, draw};
use super::frames::Frames;
use super::model::Model;
use super::notify::Notify;
use crate::client::Printable;

/// The alternate screen, bracketed paste, reports of the focus. No row goes on at the left
/// edge of the next, should the terminal draw a character wider than it counts here.
const ENTER: &str = "\x1b[?1049h\x1b[?7l\x1b[?2004h\x1b[?1004h";
const LEAVE: &str =
    "\x1b[?1006l\x1b[?1000l\x1b[?1004l\x1b[?2004l\x1b[?7h\x1b[0m\x1b[?25h\x1b[?1049l";

/// The wheel and the buttons of the mouse; no movement.
const MOUSE_ON: &str = "\x1b[?1000h\x1b[?1006h";
const MOUSE_OFF: &str = "\x1b[?1006l\x1b[?1000l";

/// A frame is shown as a whole by terminals that know this, and ignored by others.
const FRAME_BEGIN: &str = "\x1b[?2026h";
const FRAME_END: &str = "\x1b[?2026l";

/// How many writes may wait for the terminal.
const WRITES_QUEUED_MAX: usize = 1;

/// How long to wait for a terminal that does not read before it is left, in
/// milliseconds.
const LEAVE_TIMEOUT_MS: u64 = 1_000;

/// The largest screen, in columns and rows. A terminal may claim any size.
const COLUMNS_MAX: u16 = 1_000;
const ROWS_MAX: u16 = 500;

/// The exit code of a program of Rust that has panicked.
const PANICKED: i32 = 101;

/// The size of a terminal that does not tell it.
const SIZE: (u16, u16) = (80, 24);

enum Output {
    Bytes(Vec<u8>),
    Flush(oneshot::Sender<()>),
}

/// The terminal in full-screen use; restored when it is dropped.
pub(super) struct Screen {
    terminal: Terminal<Frames>,
    writes: mpsc::Sender<Output>,
    /// What goes out with the next frame, beside it.
    extra: Vec<u8>,
    has_mouse: bool,
    is_entered: bool,
    input: Option<Input>,
}

/// The terminal as standard input, once as it was and once opened anew so that reading
/// never blocks: crossterm also reads where it only looks whether there is something to
/// read. The file of the parent process is not changed.
struct Input {
    blocking: OwnedFd,
    non_blocking: OwnedFd,
}

impl Input {
    fn open() -> io::Result<Self> {
        let name = ttyname(io::stdin())?;
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(O_NONBLOCK | O_NOCTTY)
            .open(name)?;
        Ok(Self {
            blocking: io::stdin().as_fd().try_clone_to_owned()?,
            non_blocking: file.into(),
        })
    }
}

impl Screen {
    /// Takes the terminal.
    ///
    /// # Errors
    ///
    /// When it refuses raw mode, or the system gives no thread.
    pub(super) fn enter(has_mouse: bool) -> io::Result<Self> {
        restore_on_panic();
        let (writes, mut queued) = mpsc::channel(WRITES_QUEUED_MAX);
        thread::Builder::new()
            .name("screen".to_owned())
            .spawn(move || {
                let mut output = io::stdout();
                while let Some(write) = queued.blocking_recv() {
                    match write {
                        Output::Bytes(bytes) => {
                            // A terminal that is gone tells so by a signal.
                            let _ = output.write_all(&bytes).and_then(|()| output.flush());
                        }
                        Output::Flush(done) => drop(done.send(())),
                    }
                }
            })?;
        let terminal = Terminal::new(Frames::new(size()))?;
        let mut screen = Self {
            terminal,
            writes,
            extra: Vec::new(),
            has_mouse,
            is_entered: false,
            // Without it, half a character could hold up the session.
            input: Input::open().ok(),
        };
        screen.resume()?;
        Ok(screen)
    }

    /// Takes the terminal again, after [`suspend`](Self::suspend) or after the shell has
    /// had it.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        // The shell may have changed the settings: take them from it anew.
        let _ = disable_raw_mode();
        enable_raw_mode()?;
        if let Some(input) = &self.input {
            dup2_stdin(&input.non_blocking)?;
        }
        self.is_entered = true;
        self.extra.extend_from_slice(ENTER.as_bytes());
        if self.has_mouse {
            self.extra.extend_from_slice(MOUSE_ON.as_bytes());
        }
        self.redraw()
    }

    /// Gives the terminal back.
    pub(super) async fn suspend(&mut self) {
        if !self.is_entered {
            return;
        }
        let (done, is_done) = oneshot::channel();
        let mut bytes = std::mem::take(&mut self.extra);
        bytes.extend_from_slice(LEAVE.as_bytes());
        let flush = async {
            let _ = self.writes.send(Output::Bytes(bytes)).await;
            let _ = self.writes.send(Output::Flush(done)).await;
            let _ = is_done.await;
        };
        let _ = timeout(Duration::from_millis(LEAVE_TIMEOUT_MS), flush).await;
        let _ = disable_raw_mode();
        if let Some(input) = &self.input {
            let _ = dup2_stdin(&input.blocking);
        }
        self.is_entered = false;
    }

    /// The next frame is drawn as a whole, at the terminal's present size.
    pub(super) fn redraw(&mut self) -> io::Result<()> {
        self.terminal.backend_mut().size = size();
        self.terminal.autoresize()?;
        self.terminal.clear()
    }

    /// Waits until the terminal has room for another frame. Cancel safe.
    pub(super) async fn ready(&self) {
        let _ = self.writes.reserve().await;
    }

    /// Draws the model, if the terminal has taken the frame before.
    pub(super) fn draw(&mut self, model: &mut Model) -> io::Result<()> {
        let Ok(permit) = self.writes.try_reserve() else {
            return Ok(());
        };
        let Drawn { cursor, links } = draw(model, self.terminal.get_frame().buffer_mut());
        let frames = self.terminal.backend_mut();
        frames.links = links;
        frames.bytes.extend_from_slice(FRAME_BEGIN.as_bytes());
        self.terminal.flush()?;
        self.terminal.swap_buffers();
        self.terminal.set_cursor_position(cursor)?;
        let frames = self.terminal.backend_mut();
        frames.bytes.extend_from_slice(FRAME_END.as_bytes());
        let mut bytes = std::mem::take(&mut self.extra);
        bytes.append(&mut frames.bytes);
        permit.send(Output::Bytes(bytes));
        Ok(())
    }

    pub(super) fn bell(&mut self) {
        self.extra.push(b'\x07');
    }

    /// A notice of the desktop, in the form that this terminal knows.
    pub(super) fn notify(&mut self, form: Notify, line: &Printable) {
        let text = line.as_str();
        let sequence = match form {
            Notify::No => return,
            Notify::Osc9 => format!("\x1b]9;{text}\x07"),
            Notify::Osc777 => format!("\x1b]777;notify;chat;{}\x07", text.replace(';', ",")),
        };
        self.extra.extend_from_slice(sequence.as_bytes());
    }

    /// Puts a text on the clipboard (OSC 52).
    pub(super) fn copy(&mut self, text: &str) {
        let sequence = format!("\x1b]52;c;{}\x07", base64(text.as_bytes()));
        self.extra.extend_from_slice(sequence.as_bytes());
    }

    pub(super) fn set_mouse(&mut self, has_mouse: bool) {
        self.has_mouse = has_mouse;
        let sequence = if has_mouse { MOUSE_ON } else { MOUSE_OFF };
        self.extra.extend_from_slice(sequence.as_bytes());
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.is_entered {
            restore();
        }
    }
}

/// Restores the terminal without waiting for the writer.
fn restore() {
    let mut output = io::stdout();
    let _ = output.write_all(LEAVE.as_bytes());
    let _ = output.flush();
    let _ = disable_raw_mode();
}

/// A panic message is readable, and the shell usable after it. A panic of any task or
/// thread ends the program: what goes on without it would draw over the message.
fn restore_on_panic() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            restore();
            report(panicked);
            process::exit(PANICKED);
        }));
    });
}

/// The terminal's size, within bounds.
fn size() -> Size {
    let (columns, rows) = match crossterm::terminal::size() {
        Ok((columns, rows)) if columns > 0 && rows > 0 => (columns, rows),
        _ => SIZE,
    };
    Size::new(columns.min(COLUMNS_MAX), rows.min(ROWS_MAX))
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for digit in 0..4 {
            let index = (bits >> (18 - 6 * digit)) & 63;
            let shown = DIGITS.get(index as usize).filter(|_| digit <= chunk.len());
            text.push(shown.map_or('=', |&digit| char::from(digit)));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::fs::File;
    use std::io::Read;
    use std::process::{Command, Stdio};

    use nix::pty::openpty;
    use nix::sys::termios::tcgetattr;

    use super::*;

    /// The part of the next test that takes a terminal and panics.
    #[test]
    #[ignore = "started by a_panic_gives_the_terminal_back, on a terminal"]
    fn panics_in_full_screen() {
        let mut screen = Screen::enter(true).expect("a terminal");
        // As the first frame does.
        let (done, is_done) = oneshot::channel();
        let bytes = std::mem::take(&mut screen.extra);
        for write in [Output::Bytes(bytes), Output::Flush(done)] {
            assert!(screen.writes.blocking_send(write).is_ok());
        }
        is_done.blocking_recv().expect("a writer");
        // As a task of the session does, for which nobody waits.
        let _detached = thread::spawn(|| panic!("on purpose"));
        thread::sleep(Duration::from_secs(60));
        panic!("the program goes on");
    }

    #[test]
    fn a_panic_gives_the_terminal_back() {
        let terminal = openpty(None, None).expect("a pty");
        let settings = || tcgetattr(&terminal.slave).expect("a terminal");
        let before = settings();
        let slave = || Stdio::from(terminal.slave.try_clone().expect("a descriptor"));
        let name = module_path!().split_once("::").expect("a module").1;
        let mut child = Command::new(env::current_exe().expect("this program"))
            .args(["--exact", &format!("{name}::panics_in_full_screen")])
            .args(["--ignored", "--nocapture", "--test-threads=1"])
            .stdin(slave())
            .stdout(slave())
            .stderr(slave())
            .spawn()
            .expect("it starts");
        let mut output = File::from(terminal.master);
        let reader = thread::spawn(move || {
            let (mut all, mut bytes) = (Vec::new(), [0; 4_096]);
            // Reading a pty whose other end is closed is an error.
            while let Ok(read @ 1..) = output.read(&mut bytes) {
                all.extend_from_slice(&bytes[..read]);
            }
            String::from_utf8_lossy(&all).into_owned()
        });
        assert_eq!(child.wait().expect("a child").code(), Some(PANICKED));
        assert_eq!(settings(), before);
        drop(terminal.slave);
        let all = reader.join().expect("no panic");
        let (_, taken) = all.split_once(ENTER).expect("it takes the terminal");
        // The message stands behind the end of the alternate screen, where it stays.
        let (_, left) = taken.split_once(LEAVE).expect("it leaves the terminal");
        assert!(left.contains("on purpose"), "{all:?}");
        assert!(!left.contains("goes on"), "{all:?}");
        assert!(!left.contains(LEAVE), "the cursor stays behind the message");
    }

    #[test]
    fn the_clipboard_gets_base64() {
        for (text, expected) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
        ] {
            assert_eq!(base64(text.as_bytes()), expected);
        }
    }
}
