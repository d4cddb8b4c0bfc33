//! Pipe mode: sends each line of the input and writes only `@name: text` lines to the
//! output, and `@name (direct): text` for what is said to this client alone; with `--json`, lines of JSON both ways.

use std::collections::{BTreeSet, VecDeque};
use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;
use tokio::sync::oneshot::{self, error::RecvError};

use super::exit::Exit;
use super::feeder::{Feeder, Source};
use super::hang_up::{in_thread, watch_input, watch_output};
use super::json::{self, Ids};
use super::known_names::{self, KnownNames, Verdict};
use super::known_names_file;
use super::line_messages;
use super::messages;
use super::options::Options;
use super::past;
use super::report::{say, sum_up};
use super::save_queue;
use super::signals::Signals;
use super::topics;
use crate::client::{Address, Event, Printable, SenderId, Session};
use crate::wire::Capability;

/// How many names `--who` takes. A server that names more is not believed.
const NAMES_MAX: usize = 100_000;

/// How many refused files may wait to be told as JSON.
const ERRORS_QUEUED_MAX: usize = 16;

/// How many lines may wait for the reader of the output. While they wait, the server is
/// not read either.
const OUTPUT_LINES_MAX: usize = 256;

/// Runs the session until the input ends (or further, with `--listen`), the server ends
/// it, or a signal arrives.
pub(super) async fn run(mut session: Session, options: &Options, signals: &mut Signals) -> Exit {
    if options.who && !session.has(Capability::Presence) {
        say(&Printable::new().trusted("this server does not tell who is here"));
        session.leave().await;
        return Exit::Failed;
    }
    if options.has_topics() && !session.has(Capability::Follow) {
        say(&Printable::new().trusted("this server has no topics"));
        session.leave().await;
        return Exit::Failed;
    }
    let listen = options.listen;
    let sender = session.sender();
    let held = Arc::new(AtomicUsize::new(0));
    let ids = Arc::new(Ids::default());
    let wrong = Arc::new(AtomicUsize::new(0));
    let (errors, mut errors_told) = mpsc::channel(ERRORS_QUEUED_MAX);
    let feeder = Feeder {
        sender: sender.clone(),
        text_bytes_max: session.limits().text_bytes_max as usize,
        topic: options.topic.clone(),
        mentions_max: match session.has(Capability::Follow) {
            true => session.limits().mentions_max as usize,
            false => 0,
        },
        held: Arc::clone(&held),
        ids: options.json.then(|| Arc::clone(&ids)),
        wrong: Arc::clone(&wrong),
        attach: options.attach.clone(),
        errors: options.json.then(|| errors.clone()),
    };
    let saves = options.save_to.as_ref().map(|folder| {
        let errors = options.json.then(|| errors.clone());
        save_queue::start(session.sender(), folder, errors)
    });
    let input = match &options.send {
        Some(text) => Source::Text(text.clone().into_bytes()),
        None if options.who => Source::Nothing,
        None => Source::Input,
    };
    let is_input_read = matches!(input, Source::Input);
    let (Ok(mut input_over), Ok(mut input_ended), Ok((output, mut output_over)), Ok(mut hung_up)) = (
        feeder.start(input),
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
    let (mut refused, mut unknown) = (0, 0);
    let mut names = BTreeSet::new();
    if !is_input_read {
        is_input_ended = true;
        // Nothing limits how long a file takes that gets on.
        if options.attach.is_none() {
            sender.leave_soon();
        }
    }
    if options.json && !options.who {
        put(&output, json::registered(session.registered())).await;
    }
    // Who does not ask for topics sees what everybody has always seen.
    let shown = |sender: &str, topic: &str, text: &str| {
        let topic = if options.has_topics() { topic } else { "" };
        topics::message(sender, topic, text).to_string()
    };
    if !options.json && !options.who && options.send.is_none() {
        messages::welcome(&session.registered().welcome).for_each(|line| say(&line));
        // A screen reader's user types here.
        if io::stdin().is_terminal() && io::stdout().is_terminal() {
            say(&messages::plain(&session.registered().name, listen));
        }
    }
    if let Some(count) = options.last {
        let filter = options.filter();
        let mut past = VecDeque::new();
        tokio::select! {
            chats = past::last(&mut session, count, &filter) => past = chats,
            () = signals.next() => sender.leave_now(),
        }
        for chat in past {
            let line = match options.json {
                true if chat.removed => json::removed(&chat.sender, chat.seq, chat.time_unix_ms),
                false if chat.removed => {
                    Printable::message(&chat.sender, line_messages::REMOVED).to_string()
                }
                true => json::chat(&chat),
                false => shown(&chat.sender, &chat.topic, &chat.text),
            };
            tokio::select! {
                () = put(&output, line) => {}
                () = signals.next() => {
                    sender.leave_now();
                    break;
                }
            }
        }
    }
    // A file that cannot be read is told by the first name that is added to it.
    let mut known = known_names_file::read(&options.address).unwrap_or_default();
    let mut ended = loop {
        tokio::select! {
            event = session.next() => {
                let mut lines = Vec::new();
                if options.json && !options.who {
                    lines.extend(event.as_ref().and_then(|event| json::event(event, &ids)));
                }
                if let (Some(saves), Some(Event::Message { files, .. } | Event::Direct { files, .. })) =
                    (&saves, &event)
                {
                    for file in files {
                        if saves.try_send(file.clone()).is_err() {
                            say(&Printable::new().trusted("too many files wait to be saved"));
                        }
                    }
                }
                match event {
                    Some(Event::Message { sender: name, topic, text, sender_id, .. }) => {
                        judge(&mut known, &options.address, &name, sender_id);
                        if !options.json && options.send.is_none() && !options.who {
                            lines.push(shown(&name, &topic, &text));
                        }
                    }
                    Some(Event::Removed { sender: name, .. }) => {
                        if !options.json && options.send.is_none() && !options.who {
                            lines.push(Printable::message(&name, line_messages::REMOVED).to_string());
                        }
                    }
                    Some(Event::Direct { sender: name, text, .. }) => {
                        if !options.json && options.send.is_none() && !options.who {
                            lines.push(line_messages::direct(&name, &text).to_string());
                        }
                    }
                    Some(Event::Refused { id, text, code, detail, .. }) => {
                        refused += usize::from(id != 0);
                        say(&line_messages::not_sent(text.as_deref(), code, &detail));
                    }
                    Some(Event::Members { names: some, more }) if options.who => {
                        names.extend(some.into_iter().take(NAMES_MAX - names.len().min(NAMES_MAX)));
                        if !more {
                            lines.extend(who(&names, &session.registered().name, options.json));
                            sender.leave();
                        }
                    }
                    Some(Event::Joined { name }) if options.events && !options.json => {
                        say(&Printable::new().name(&name).trusted(" joined"));
                    }
                    Some(Event::Left { name, reason }) if options.events && !options.json => {
                        say(&messages::left(&name, reason));
                    }
                    Some(Event::Reconnecting { after, reason }) => {
                        say(&messages::reconnecting(&reason, after));
                    }
                    Some(Event::Resumed { missed, is_filtered, .. }) => {
                        say(&messages::resumed(missed, is_filtered));
                    }
                    Some(Event::NotResumed { reason, .. }) => say(&messages::not_resumed(reason)),
                    Some(Event::Unknown { text, .. }) => {
                        unknown += 1;
                        say(&line_messages::unknown(&text));
                    }
                    Some(Event::Ended(ended)) => break ended,
                    // Receipts are counted by the session.
                    Some(_) => {}
                    None => return Exit::Failed,
                }
                for line in lines {
                    tokio::select! {
                        // A closed output is handled below.
                        () = put(&output, line) => {}
                        () = signals.next() => sender.leave_now(),
                    }
                }
            },
            Some(line) = errors_told.recv() => tokio::select! {
                () = put(&output, line) => {}
                () = signals.next() => sender.leave_now(),
            },
            read = &mut input_over, if !is_input_over => {
                is_input_over = true;
                if let Ok(Err(error)) = read {
                    has_failed = true;
                    say(&Printable::new().trusted("cannot read the input: ").untrusted(&error.to_string()));
                }
                // The answer to --who is still to come.
                if !listen && !options.who {
                    sender.leave();
                }
            }
            told = &mut input_ended, if !is_input_ended => {
                is_input_ended = true;
                if let (Ok(Ok(())), false, None) = (told, listen, &options.attach) {
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
    let refused = refused + wrong.load(Ordering::Acquire);
    if options.json && !options.who {
        let told = std::iter::from_fn(|| errors_told.try_recv().ok());
        let told: Vec<_> = told.take(ERRORS_QUEUED_MAX).collect();
        for line in told.into_iter().chain(json::ended(&ended, refused)) {
            tokio::select! {
                () = put(&output, line) => {}
                () = signals.next() => break,
            }
        }
    }
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
    ended.unconfirmed += unknown;
    let exit = sum_up(&ended, refused, held, has_unread);
    if has_failed && matches!(exit, Exit::Done | Exit::Undelivered) {
        // The cause says more than its result.
        Exit::Failed
    } else {
        exit
    }
}

/// Tells when the key of a name has changed, and remembers the first (CHAT-ID-17).
fn judge(known: &mut KnownNames, server: &Address, name: &str, id: Option<SenderId>) {
    match known.judge(name, id) {
        Verdict::Nothing => {}
        Verdict::Remember(id) => {
            if let Err(error) = known_names_file::append(server, name, id) {
                say(&known_names::not_kept(&error));
            }
        }
        Verdict::Tell(before) => {
            let path = known_names_file::path().unwrap_or_default();
            let how = Printable::new()
                .trusted("remove the line of the name from ")
                .untrusted(&path.display().to_string());
            say(&known_names::changed(name, before, id, &how));
        }
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

/// Writes a line, if the output is still there.
async fn put(output: &Option<mpsc::Sender<String>>, line: String) {
    if let Some(output) = output {
        let _ = output.send(line).await;
    }
}

/// The members, in order, without this session.
fn who(names: &BTreeSet<String>, own: &str, is_json: bool) -> Vec<String> {
    let names = names.iter().filter(|name| *name != own);
    match is_json {
        true => {
            let names = names.cloned().collect();
            let members = Event::Members { names, more: false };
            json::event(&members, &Ids::default()).into_iter().collect()
        }
        false => names
            .map(|name| Printable::new().name(name).to_string())
            .collect(),
    }
}

/// Writes lines from a thread, each flushed: a write may block as long as the reader
/// likes.
fn write_lines() -> io::Result<(mpsc::Sender<String>, oneshot::Receiver<io::Result<()>>)> {
    let (lines, mut queued) = mpsc::channel::<String>(OUTPUT_LINES_MAX);
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
