//! Password prompt: reads a line from the terminal without echo. And a question, whose
//! answer is shown.

use std::io::{self, Write};
use std::os::fd::AsFd;
use std::thread;

use nix::errno::Errno;
use nix::libc::_POSIX_VDISABLE;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices};
use nix::unistd::read;
use tokio::sync::oneshot;

use super::{signals::Signals, terminal_mode::TerminalMode};

/// How often the user is asked after a wrong password.
pub(super) const ASKED_TIMES_MAX: u32 = 3;

/// The longest line that is read, in bytes: the size of a terminal's line buffer.
const LINE_BYTES_MAX: usize = 4_096;

/// The user's answer.
pub(super) enum Answer {
    /// A line, which may be no valid password.
    Line(Vec<u8>),
    /// Ctrl-D, or the terminal is gone.
    End,
    /// Ctrl-C, or another signal to leave.
    Interrupt,
}

/// Whether the terminal shows what is typed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Echo {
    On,
    Off,
}

/// Shows `prompt` and reads a line. The terminal is restored, whatever the answer.
///
/// # Errors
///
/// When this is no terminal, or the system gives no thread.
pub(super) async fn ask(prompt: &str, echo: Echo, signals: &mut Signals) -> io::Result<Answer> {
    let _mode = set_mode(echo)?;
    // Not before the echo is off: a user who sees the prompt may type.
    let mut output = io::stdout();
    write!(output, "{prompt}").and_then(|()| output.flush())?;
    let (answer, mut answered) = oneshot::channel();
    let (is_over, over) = io::pipe()?;
    thread::Builder::new()
        .name("password".to_owned())
        .spawn(move || {
            let _ = answer.send(read_line(&is_over));
        })?;
    let answer = tokio::select! {
        answer = &mut answered => answer.unwrap_or(Answer::End),
        () = signals.next() => {
            // What is typed from now on is for others: the thread must not read it.
            drop(over);
            let _ = answered.await;
            Answer::Interrupt
        }
    };
    if !matches!(answer, Answer::Line(_)) {
        let _ = writeln!(output);
    }
    Ok(answer)
}

/// Reads the terminal itself, not the standard library's buffer: what is typed after
/// the line is for the editor. Ends when the other end of `is_over` is closed.
fn read_line(is_over: &io::PipeReader) -> Answer {
    let input = io::stdin();
    let mut line = Vec::new();
    let mut bytes = [0; LINE_BYTES_MAX];
    while line.len() < LINE_BYTES_MAX {
        let mut polled = [
            PollFd::new(input.as_fd(), PollFlags::POLLIN),
            // No event is requested, so only its end is reported.
            PollFd::new(is_over.as_fd(), PollFlags::empty()),
        ];
        match poll(&mut polled, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            Err(_) => return Answer::End,
            Ok(_) => {}
        }
        if polled.iter().skip(1).any(|it| it.any() == Some(true)) {
            return Answer::Interrupt;
        }
        match read(&input, &mut bytes) {
            Err(Errno::EINTR) => {}
            Ok(0) | Err(_) => return Answer::End,
            Ok(count) => {
                line.extend(bytes.iter().take(count));
                if line.ends_with(b"\n") {
                    line.pop();
                    break;
                }
            }
        }
    }
    Answer::Line(line)
}

/// Has the terminal read whole lines, without echo but for the line break at the end if
/// the echo is off.
fn set_mode(echo: Echo) -> io::Result<TerminalMode> {
    // What was typed before the prompt is no answer to it, so it is dropped.
    TerminalMode::change(SetArg::TCSAFLUSH, |mode| {
        mode.local_flags.set(LocalFlags::ECHO, echo == Echo::On);
        let whole_lines = LocalFlags::ICANON | LocalFlags::ECHONL | LocalFlags::ISIG;
        mode.local_flags.insert(whole_lines);
        // Ctrl-C sends a signal, which is caught. These two would stop or kill the
        // program and leave the terminal without echo.
        for key in [
            SpecialCharacterIndices::VSUSP,
            SpecialCharacterIndices::VQUIT,
        ] {
            if let Some(character) = mode.control_chars.get_mut(key as usize) {
                *character = _POSIX_VDISABLE;
            }
        }
    })
}
