//! Without a terminal: each line of the input is sent, the output carries
//! `@name: text` lines and nothing else.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{SFlag, fstat};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::oneshot::{self, error::RecvError};

use super::exit::Exit;
use super::messages;
use super::report::{say, sum_up};
use super::signals::Signals;
use crate::client::{Event, Outgoing, Printable, Sender, Session};

/// How much of the input is read at a time, in bytes.
const INPUT_BYTES: usize = 8_192;

/// How many lines may wait for whoever reads the output. When they are not taken,
/// the server is not read either.
const OUTPUT_LINES_MAX: usize = 256;

/// Runs the session until the input ends (and on, if `listen`), the server ends
/// it, or a signal comes.
pub(super) async fn run(mut session: Session, listen: bool, signals: &mut Signals) -> Exit {
    let sender = session.sender();
    let held = Arc::new(AtomicUsize::new(0));
    let text_bytes_max = session.limits().text_bytes_max as usize;
    let (Ok(mut input_over), Ok(mut input_ended), Ok((output, mut output_over)), Ok(mut hung_up)) = (
        feed(sender.clone(), text_bytes_max, Arc::clone(&held)),
        watch_input(),
        write_lines(),
        watch_output(),
    ) else {
        say(&Printable::new()
            .trusted("this system gives no more threads, end something else first"));
        session.leave().await;
        return Exit::Failed;
    };
    let mut output = Some(output);
    let mut is_input_over = false;
    let mut is_input_ended = false;
    let mut is_output_over = false;
    let mut is_hung_up = false;
    let mut has_failed = false;
    let mut refused = 0;
    let ended = loop {
        tokio::select! {
            event = session.next() => match event {
                Some(Event::Message { sender: name, text, .. }) => {
                    let line = Printable::message(&name, &text);
                    if let Some(output) = &output {
                        tokio::select! {
                            // An output that is closed is seen below.
                            _ = output.send(line) => {}
                            () = signals.next() => sender.leave_now(),
                        }
                    }
                }
                Some(Event::Refused { id, text, code, detail, .. }) => {
                    refused += usize::from(id != 0);
                    say(&messages::not_sent(text.as_deref(), code, &detail));
                }
                Some(Event::Ended(ended)) => break ended,
                // Receipts are counted by the session.
                Some(_) => {}
                None => return Exit::Failed,
            },
            read = &mut input_over, if !is_input_over => {
                is_input_over = true;
                if let Ok(Err(error)) = read {
                    has_failed = true;
                    say(&Printable::new().trusted("cannot read the input: ").untrusted(&error.to_string()));
                }
                if !listen {
                    sender.leave();
                }
            }
            told = &mut input_ended, if !is_input_ended => {
                is_input_ended = true;
                if let (Ok(Ok(())), false) = (told, listen) {
                    sender.leave_soon();
                }
            }
            written = &mut output_over, if !is_output_over => {
                is_output_over = true;
                output = None;
                has_failed |= is_output_lost(written);
                sender.leave_now();
            }
            // Who has nothing to say stays to be read, and nobody reads.
            told = &mut hung_up, if is_input_over && !is_hung_up => {
                is_hung_up = true;
                if let Ok(Ok(())) = told {
                    sender.leave();
                }
            }
            () = signals.next() => sender.leave_now(),
        }
    };
    // The rest of the lines goes out, unless somebody has waited long enough.
    drop(output);
    if !is_output_over {
        tokio::select! {
            written = &mut output_over => has_failed |= is_output_lost(written),
            () = signals.next() => {}
        }
    }
    let held = held.load(Ordering::Acquire);
    // A reader that could not hand on what it had read has not come to the rest.
    let has_unread = is_input_ended && held > 0;
    let exit = sum_up(&ended, refused, held, has_unread);
    if has_failed && matches!(exit, Exit::Done | Exit::Undelivered) {
        // The cause says more than what came of it.
        Exit::Failed
    } else {
        exit
    }
}

/// Whether the output could not be written, which is said. That nobody reads it
/// any more (`| head -1`) is no failure.
fn is_output_lost(written: Result<io::Result<()>, RecvError>) -> bool {
    match written {
        Ok(Err(error)) if error.kind() != io::ErrorKind::BrokenPipe => {
            say(&Printable::new()
                .trusted("cannot write the output: ")
                .untrusted(&error.to_string()));
            true
        }
        _ => false,
    }
}

/// Sends the lines of the input from a thread of its own: a read cannot be
/// called off, so the program ends around it. `held` counts the chats that were
/// read and not taken by the session yet.
fn feed(
    sender: Sender,
    text_bytes_max: usize,
    held: Arc<AtomicUsize>,
) -> io::Result<oneshot::Receiver<io::Result<()>>> {
    let runtime = Handle::current();
    in_thread("input", move || {
        let send = |texts: Vec<String>| {
            held.fetch_add(texts.len(), Ordering::AcqRel);
            for text in texts {
                // The session is over: what is held stays counted.
                if runtime.block_on(sender.send(text)).is_err() {
                    return false;
                }
                held.fetch_sub(1, Ordering::AcqRel);
            }
            true
        };
        read_lines(io::stdin().lock(), text_bytes_max, send)
    })
}

/// Reads to the end, or until `send` takes no more.
fn read_lines(
    mut input: impl Read,
    text_bytes_max: usize,
    mut send: impl FnMut(Vec<String>) -> bool,
) -> io::Result<()> {
    let mut outgoing = Outgoing::new(text_bytes_max);
    let mut bytes = vec![0; INPUT_BYTES];
    loop {
        let mut texts = Vec::new();
        let read = match input.read(&mut bytes) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        match bytes.get(..read) {
            Some(new) if read > 0 => outgoing.push(new, |text| texts.push(text)),
            _ => outgoing.finish(|text| texts.push(text)),
        }
        if !send(texts) || read == 0 {
            return Ok(());
        }
    }
}

/// Writes lines from a thread of its own, each flushed: a write can take as long
/// as the reader likes.
fn write_lines() -> io::Result<(mpsc::Sender<Printable>, oneshot::Receiver<io::Result<()>>)> {
    let (lines, mut queued) = mpsc::channel::<Printable>(OUTPUT_LINES_MAX);
    let is_over = in_thread("output", move || {
        let mut output = io::stdout().lock();
        let mut written = Ok(());
        while written.is_ok()
            && let Some(line) = queued.blocking_recv()
        {
            written = writeln!(output, "{line}").and_then(|()| output.flush());
        }
        written
    })?;
    Ok((lines, is_over))
}

/// Waits in a thread of its own until nobody can write to the input any more: all that
/// will come is there, though it may not have been read yet.
fn watch_input() -> io::Result<oneshot::Receiver<nix::Result<()>>> {
    in_thread("input-end", || {
        let input = io::stdin();
        let mode = SFlag::from_bits_truncate(fstat(&input)?.st_mode);
        // All of a file is there.
        if mode & SFlag::S_IFMT == SFlag::S_IFREG {
            return Ok(());
        }
        wait_for_hang_up(input.as_fd())
    })
}

/// Waits in a thread of its own until nobody can read the output any more: a reader
/// that is gone (`| head -1`) shows when a line is written, which may not be soon.
fn watch_output() -> io::Result<oneshot::Receiver<nix::Result<()>>> {
    // A file has no reader.
    in_thread("output-end", || wait_for_hang_up(io::stdout().as_fd()))
}

fn wait_for_hang_up(stream: BorrowedFd<'_>) -> nix::Result<()> {
    // Nothing is asked for, so that only an end is told.
    let mut polled = [PollFd::new(stream, PollFlags::empty())];
    loop {
        match poll(&mut polled, PollTimeout::NONE) {
            Err(Errno::EINTR) => {}
            told => return told.map(|_| ()),
        }
    }
}

/// Does `work` in a thread of its own, which the program does not wait for, and tells
/// what came of it.
fn in_thread<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<oneshot::Receiver<T>> {
    let (over, is_over) = oneshot::channel();
    thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            let _ = over.send(work());
        })?;
    Ok(is_over)
}
