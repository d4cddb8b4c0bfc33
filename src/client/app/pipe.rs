//! Pipe mode: sends each line of the input and writes only `@name: text` lines to the
//! output.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::sync::oneshot::{self, error::RecvError};

use super::exit::Exit;
use super::hang_up::{in_thread, watch_input, watch_output};
use super::messages;
use super::report::{say, sum_up};
use super::signals::Signals;
use crate::client::{Event, Outgoing, Printable, Sender, Session};

/// How many bytes of the input one read takes.
const INPUT_BYTES: usize = 8_192;

/// How many lines may wait for the reader of the output. While they wait, the server is
/// not read either.
const OUTPUT_LINES_MAX: usize = 256;

/// Runs the session until the input ends (or further, with `listen`), the server ends
/// it, or a signal arrives.
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
        say(&Printable::new().trusted("this system has no threads left, end another program first"));
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
                            // A closed output is handled below.
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
            // A client whose input is over stays only for the reader of its output.
            told = &mut hung_up, if is_input_over && !is_hung_up => {
                is_hung_up = true;
                if let Ok(Ok(())) = told {
                    sender.leave();
                }
            }
            () = signals.next() => sender.leave_now(),
        }
    };
    // Writes the remaining lines, unless a signal arrives.
    drop(output);
    if !is_output_over {
        tokio::select! {
            written = &mut output_over => has_failed |= is_output_lost(written),
            () = signals.next() => {}
        }
    }
    let held = held.load(Ordering::Acquire);
    // An input thread that holds chats has not read on.
    let has_unread = is_input_ended && held > 0;
    let exit = sum_up(&ended, refused, held, has_unread);
    if has_failed && matches!(exit, Exit::Done | Exit::Undelivered) {
        // The cause says more than its result.
        Exit::Failed
    } else {
        exit
    }
}

/// Whether writing the output failed, which is reported. A reader that has closed it
/// (`| head -1`) is no failure.
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

/// Sends the lines of the input from a thread, since a read cannot be cancelled: the
/// program ends around it. `held` counts the chats that were read and that the session
/// has not taken yet.
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
                // The session is over: the held chats stay counted.
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

/// Reads to the end, or until `send` returns `false`.
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

/// Writes lines from a thread, each flushed: a write may block as long as the reader
/// likes.
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
