//! Feeder: reads what is to be sent, as lines of text or of JSON, and gives it to the
//! session.

use std::io::{self, BufRead, BufReader, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};

use super::hang_up::in_thread;
use super::json::{self, Ids};
use super::json_input::{self, Request};
use super::line_messages::{file_error, file_text};
use super::report::say;
use super::topics;
use crate::client::{NewChat, Outgoing, Printable, SendError, Sender};
use crate::wire::File;

/// How many bytes of the input one read takes.
const INPUT_BYTES: usize = 8_192;

/// The longest line of JSON, in bytes: the longest text with every character escaped.
const JSON_BYTES_MAX: u64 = 8 << 20;

/// Where the lines to send come from.
pub(super) enum Source {
    /// Standard input.
    Input,
    /// The command line.
    Text(Vec<u8>),
    /// Nowhere.
    Nothing,
}

/// Sends the lines of the input from a thread, since a read cannot be cancelled: the
/// program ends around it.
pub(super) struct Feeder {
    pub(super) sender: Sender,
    pub(super) text_bytes_max: usize,
    /// The topic of each line of text.
    pub(super) topic: Option<String>,
    /// How many names in a line of text become mentions.
    pub(super) mentions_max: usize,
    /// Counts the chats that were read and that the session has not taken yet.
    pub(super) held: Arc<AtomicUsize>,
    /// With lines of JSON: the ids that they have.
    pub(super) ids: Option<Arc<Ids>>,
    /// A file to upload and to name in the first line.
    pub(super) attach: Option<PathBuf>,
    /// With lines of JSON: where to tell that the server has refused the file.
    pub(super) errors: Option<mpsc::Sender<String>>,
    /// Counts the lines that could not be understood.
    pub(super) wrong: Arc<AtomicUsize>,
}

impl Feeder {
    pub(super) fn start(self, source: Source) -> io::Result<oneshot::Receiver<io::Result<()>>> {
        let runtime = Handle::current();
        in_thread("input", move || {
            let attached = match &self.attach {
                None => None,
                Some(path) => match runtime.block_on(self.sender.attach(path, |_, _| {})) {
                    Ok(file) => Some(file),
                    Err(error) => {
                        self.wrong.fetch_add(1, Ordering::AcqRel);
                        let line = Printable::new().trusted("cannot send ");
                        let line = line.untrusted(&path.display().to_string()).trusted(": ");
                        say(&line.append(&file_error(&error)));
                        if let (Some(errors), Some(line)) =
                            (&self.errors, json::file_error(&error, None))
                        {
                            let _ = errors.blocking_send(line);
                        }
                        None
                    }
                },
            };
            let attached = Mutex::new(attached);
            let fed = match source {
                Source::Input => self.feed(io::stdin().lock(), &attached, &runtime),
                Source::Text(text) => {
                    // A text of the command line is no JSON.
                    let feeder = Self { ids: None, ..self };
                    let fed = feeder.feed(&text[..], &attached, &runtime);
                    feeder.send_alone(&attached, &runtime);
                    return fed;
                }
                Source::Nothing => Ok(()),
            };
            self.send_alone(&attached, &runtime);
            fed
        })
    }

    /// Sends a file that went with no line.
    fn send_alone(&self, attached: &Mutex<Option<File>>, runtime: &Handle) {
        if let Some(file) = take(attached) {
            if let Some(ids) = &self.ids {
                ids.push(0);
            }
            let text = file_text(&file);
            let _ = runtime.block_on(self.sender.send_files(text, vec![file]));
        }
    }

    /// A chat without a topic of its own has that of all.
    fn about(&self, chat: NewChat) -> NewChat {
        match &self.topic {
            Some(topic) if chat.topic.is_empty() => chat.topic(topic),
            _ => chat,
        }
    }

    fn feed(
        &self,
        input: impl Read,
        attached: &Mutex<Option<File>>,
        runtime: &Handle,
    ) -> io::Result<()> {
        let send = |requests: Vec<Request>| {
            self.held.fetch_add(requests.len(), Ordering::AcqRel);
            for request in requests {
                let (peer, chat, id) = match request {
                    Request::Chat { chat, id } => (None, self.about(chat), id),
                    Request::Direct { peer, text, id } => (Some(peer), text.into(), id),
                    Request::Leave => {
                        self.held.fetch_sub(1, Ordering::AcqRel);
                        self.sender.leave();
                        return false;
                    }
                };
                if let Some(ids) = &self.ids {
                    ids.push(id);
                }
                let sent = match peer {
                    None => match take(attached) {
                        None => runtime.block_on(self.sender.send(chat)),
                        Some(file) => {
                            let text = format!("{} {}", chat.text, file_text(&file));
                            let chat = NewChat { text, ..chat };
                            runtime.block_on(self.sender.send_files(chat, vec![file]))
                        }
                    },
                    Some(peer) => runtime.block_on(self.sender.direct(peer, chat.text)),
                };
                match sent {
                    Ok(_) => {}
                    Err(error @ (SendError::NotGranted | SendError::FollowNotGranted)) => {
                        if let Some(ids) = &self.ids {
                            ids.take_back();
                        }
                        self.wrong.fetch_add(1, Ordering::AcqRel);
                        let line = Printable::new().trusted("not sent: ");
                        say(&line.untrusted(&error.to_string()));
                    }
                    // The session is over: the held chats stay counted.
                    Err(_) => return false,
                }
                self.held.fetch_sub(1, Ordering::AcqRel);
            }
            true
        };
        match self.ids {
            None => {
                let topic = self.topic.as_deref().unwrap_or_default();
                let chat = |text| topics::chat(text, topic, self.mentions_max);
                read_lines(input, self.text_bytes_max, chat, send)
            }
            Some(_) => read_json(input, send, || {
                self.wrong.fetch_add(1, Ordering::AcqRel);
            }),
        }
    }
}

fn take(attached: &Mutex<Option<File>>) -> Option<File> {
    let mut attached = attached.lock().unwrap_or_else(PoisonError::into_inner);
    attached.take()
}

/// Reads to the end, or until `send` returns `false`.
fn read_lines(
    mut input: impl Read,
    text_bytes_max: usize,
    chat: impl Fn(String) -> NewChat,
    mut send: impl FnMut(Vec<Request>) -> bool,
) -> io::Result<()> {
    let mut outgoing = Outgoing::new(text_bytes_max);
    let mut bytes = vec![0; INPUT_BYTES];
    loop {
        let mut chats = Vec::new();
        let mut put = |text| {
            let chat = chat(text);
            chats.push(Request::Chat { chat, id: 0 });
        };
        let read = match input.read(&mut bytes) {
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        match bytes.get(..read) {
            Some(new) if read > 0 => outgoing.push(new, &mut put),
            _ => outgoing.finish(&mut put),
        }
        if !send(chats) || read == 0 {
            return Ok(());
        }
    }
}

/// Reads lines of JSON to the end, or until `send` returns `false`. A line that cannot
/// be understood is reported and counted.
fn read_json(
    input: impl Read,
    mut send: impl FnMut(Vec<Request>) -> bool,
    mut count_wrong: impl FnMut(),
) -> io::Result<()> {
    let mut input = BufReader::with_capacity(INPUT_BYTES, input);
    let mut number = 0_u64;
    loop {
        let mut line = Vec::new();
        let read = input
            .by_ref()
            .take(JSON_BYTES_MAX)
            .read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        number += 1;
        let request = if read as u64 == JSON_BYTES_MAX && !line.ends_with(b"\n") {
            skip_line(&mut input)?;
            Err("it is too long".to_owned())
        } else if line.trim_ascii().is_empty() {
            continue;
        } else {
            json_input::parse(&line)
        };
        match request {
            Ok(request) => {
                if !send(vec![request]) {
                    return Ok(());
                }
            }
            Err(sentence) => {
                count_wrong();
                say(&Printable::new()
                    .trusted("not sent: line ")
                    .number(number)
                    .trusted(" of the input: ")
                    .untrusted(&sentence));
            }
        }
    }
}

/// Passes over the rest of a line.
fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let bytes = input.fill_buf()?;
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let (count, is_over) = match end {
            Some(index) => (index + 1, true),
            None => (bytes.len(), bytes.is_empty()),
        };
        input.consume(count);
        if is_over {
            return Ok(());
        }
    }
}
