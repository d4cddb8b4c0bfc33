//! Recording proxy: writes a live session between clients and a server as a draft
//! transcript. A person must check it, since it shows how a server behaved, not how the
//! schema says that it must.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
};

use chat::capture::{Capture, CapturedConnection, End};
use serde_json::Value;

use crate::{
    framing::{self, Head},
    halves::Half,
    interrupt::{self, Interrupted},
    messages::{self, Envelope},
    stream::{Place, Stream},
    timing::Timing,
    transcript::{print, word},
};

/// How many connections are recorded. A transcript of more is unreadable.
const CONNECTIONS_MAX: usize = 64;

/// How many there may be where a capture is made, which nobody reads line by line.
const CONNECTIONS_CAPTURED_MAX: usize = 4_096;

/// How many lines a draft has. A recording without a capture ends there.
const LINES_MAX: usize = 10_000;

/// How many events may wait to be written down.
const SEEN_WAITING_MAX: usize = 1_024;

/// An event on a proxied connection.
enum Seen {
    Opened(usize),
    Bytes(usize, Envelope, Vec<u8>),
    Ended(usize, Envelope),
}

/// A recording.
pub struct Recorded {
    /// A transcript to be checked.
    pub draft: String,
    /// The signal that ended the recording.
    pub interrupted: Option<Interrupted>,
}

/// Listens, proxies connections to `server`, and returns the draft when the last
/// connection has closed, or when a signal comes. What they carry also goes into the
/// capture.
pub fn record(
    listen: SocketAddr,
    server: &Place,
    capture: Option<&Capture>,
) -> Result<Recorded, String> {
    let listener =
        TcpListener::bind(listen).map_err(|e| format!("cannot listen on {listen}: {e}"))?;
    let address = listener.local_addr().map_err(|e| e.to_string())?;
    println!("listening on chat://{address}");
    std::io::stdout().flush().map_err(|e| e.to_string())?;
    let (sender, seen) = mpsc::sync_channel(SEEN_WAITING_MAX);
    let open = Arc::new(AtomicUsize::new(0));
    let server = server.clone();
    let counter = Arc::clone(&open);
    let connections_max = match capture {
        None => CONNECTIONS_MAX,
        Some(_) => CONNECTIONS_CAPTURED_MAX,
    };
    thread::spawn(move || {
        for (i, client) in listener
            .incoming()
            .flatten()
            .take(connections_max)
            .enumerate()
        {
            counter.fetch_add(1, Ordering::SeqCst);
            let _ = sender.send(Seen::Opened(i));
            let upstream = server.connect(Timing::new(1.0), false);
            match upstream.and_then(|upstream| pump_both(i, client, upstream, &sender)) {
                Ok(()) => {}
                Err(error) => {
                    eprintln!("chat-conformance: the server takes no connection: {error}");
                    let _ = sender.send(Seen::Ended(i, Envelope::Client));
                    let _ = sender.send(Seen::Ended(i, Envelope::Server));
                }
            }
        }
    });
    let mut draft = Draft::default();
    let mut captured = Captured::new(capture);
    let mut halves = 0;
    loop {
        let next = match interrupt::check() {
            Ok(()) => seen.recv_timeout(interrupt::POLL),
            // Events from before the signal are still written down.
            Err(_) => seen.try_recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let seen = match next {
            Ok(seen) => seen,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => break,
        };
        if let Seen::Ended(..) = seen {
            halves += 1;
        }
        captured.take(&seen);
        let is_full = draft.lines.len() >= LINES_MAX;
        if !is_full {
            draft.take(seen);
        }
        if halves == 2 * open.load(Ordering::SeqCst) || is_full && capture.is_none() {
            break;
        }
    }
    let interrupted = interrupt::check().err();
    if let Some(interrupted) = interrupted {
        draft.lines.push(format!("# {}", interrupted.sentence()));
    }
    Ok(Recorded {
        draft: draft.text(),
        interrupted,
    })
}

fn pump_both(
    i: usize,
    client: TcpStream,
    upstream: Stream,
    seen: &mpsc::SyncSender<Seen>,
) -> io::Result<()> {
    client.set_nodelay(true)?;
    let near = Half::Tcp(client.try_clone()?);
    let (from_server, to_server) = upstream.split()?;
    let (up, down) = (seen.clone(), seen.clone());
    // The order of the lines is the order in which bytes were passed on, both ways.
    let order = Arc::new(Mutex::new(()));
    let order2 = Arc::clone(&order);
    thread::spawn(move || pump(i, Envelope::Client, near, to_server, &up, &order));
    let near = Half::Tcp(client);
    thread::spawn(move || pump(i, Envelope::Server, from_server, near, &down, &order2));
    Ok(())
}

fn pump(
    i: usize,
    from: Envelope,
    mut source: Half,
    mut sink: Half,
    seen: &mpsc::SyncSender<Seen>,
    order: &Mutex<()>,
) {
    let mut chunk = [0; 16 * 1024];
    while let Ok(n @ 1..) = source.read(&mut chunk) {
        let guard = order.lock();
        let _ = seen.send(Seen::Bytes(i, from, chunk[..n].to_vec()));
        let written = sink.write_all(&chunk[..n]);
        drop(guard);
        if written.is_err() {
            break;
        }
    }
    sink.end();
    let _ = seen.send(Seen::Ended(i, from));
}

/// What goes into the capture.
struct Captured<'a> {
    capture: Option<&'a Capture>,
    connections: BTreeMap<usize, CapturedConnection>,
    buffers: BTreeMap<(usize, bool), Vec<u8>>,
    ended: BTreeMap<usize, usize>,
}

impl<'a> Captured<'a> {
    fn new(capture: Option<&'a Capture>) -> Self {
        Self {
            capture,
            connections: BTreeMap::new(),
            buffers: BTreeMap::new(),
            ended: BTreeMap::new(),
        }
    }

    fn take(&mut self, seen: &Seen) {
        let Some(capture) = self.capture else {
            return;
        };
        match seen {
            Seen::Opened(i) => {
                self.connections.insert(*i, capture.connection());
            }
            Seen::Bytes(i, from, bytes) => {
                let key = (*i, *from == Envelope::Client);
                self.buffers.entry(key).or_default().extend(bytes);
                self.take_frames(*i, *from);
            }
            Seen::Ended(i, _) => {
                let ended = self.ended.entry(*i).or_insert(0);
                *ended += 1;
                if *ended == 2 {
                    self.connections.remove(i);
                }
            }
        }
    }

    fn take_frames(&mut self, i: usize, from: Envelope) {
        let buffer = self
            .buffers
            .entry((i, from == Envelope::Client))
            .or_default();
        let Some(connection) = self.connections.get(&i) else {
            return buffer.clear();
        };
        let end = match from {
            Envelope::Client => End::Client,
            Envelope::Server => End::Server,
        };
        loop {
            match framing::head(buffer) {
                Head::Incomplete => return,
                Head::Frame { from, to } => {
                    connection.envelope(end, &buffer[from..to]);
                    buffer.drain(..to);
                }
                Head::Malformed(_) => {
                    connection.no_frame(end, buffer.len());
                    // What follows has no frames, either.
                    self.connections.remove(&i);
                    return;
                }
            }
        }
    }
}

/// The draft as it grows.
#[derive(Default)]
struct Draft {
    lines: Vec<String>,
    buffers: BTreeMap<(usize, bool), Vec<u8>>,
    names: BTreeMap<usize, String>,
    wire_names: Vec<(String, String)>,
    /// The tokens of sessions, and whose connections they were.
    tokens: Vec<(String, String)>,
    first_seq: Option<u64>,
    left: Vec<usize>,
    asks_password: bool,
}

impl Draft {
    fn who(&self, i: usize) -> String {
        self.names
            .get(&i)
            .cloned()
            .unwrap_or_else(|| format!("guest{i}"))
    }

    fn take(&mut self, seen: Seen) {
        match seen {
            Seen::Opened(i) => self.lines.push(format!("{} connects", self.who(i))),
            Seen::Bytes(i, from, bytes) => {
                let key = (i, from == Envelope::Client);
                self.buffers.entry(key).or_default().extend(bytes);
                while self.take_frame(i, from) {}
            }
            Seen::Ended(i, from) => {
                let rest = self
                    .buffers
                    .remove(&(i, from == Envelope::Client))
                    .unwrap_or_default();
                let who = self.who(i);
                if !rest.is_empty() && from == Envelope::Client {
                    self.lines
                        .push(format!("{who} sends bytes {}", framing::hex(&rest)));
                }
                if !self.left.contains(&i) {
                    self.left.push(i);
                    let verb = if from == Envelope::Client {
                        "closes"
                    } else {
                        "is closed"
                    };
                    self.lines.push(format!("{who} {verb}"));
                }
            }
        }
    }

    fn take_frame(&mut self, i: usize, from: Envelope) -> bool {
        let Some(buffer) = self.buffers.get_mut(&(i, from == Envelope::Client)) else {
            return false;
        };
        let (start, end) = match framing::head(buffer) {
            Head::Incomplete => return false,
            Head::Malformed(_) => (0, buffer.len()),
            Head::Frame { from, to } => (from, to),
        };
        let raw: Vec<u8> = buffer.drain(..end).collect();
        let decoded = messages::decode(from, &raw[start..])
            .ok()
            .filter(|_| start > 0);
        let Some(decoded) = decoded.filter(|d| d.kind != "nothing" && d.unknown != Some("a field"))
        else {
            let verb = if from == Envelope::Client {
                "sends bytes"
            } else {
                "# received bytes"
            };
            self.lines
                .push(format!("{} {verb} {}", self.who(i), framing::hex(&raw)));
            return true;
        };
        if decoded.kind == "register" {
            self.name(i, decoded.body["name"].as_str().unwrap_or(""));
        }
        let body = self.general(i, &decoded.kind, decoded.body, from);
        let verb = if from == Envelope::Client {
            "sends"
        } else {
            "receives"
        };
        let line = format!(
            "{} {verb} {}",
            self.who(i),
            print::whole_message(&decoded.kind, &body)
        );
        self.lines.push(line);
        true
    }

    /// Calls a connection after the name that it registers.
    fn name(&mut self, i: usize, wire: &str) {
        let mut word: String = wire
            .to_ascii_lowercase()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .collect();
        let free = |w: &str, names: &BTreeMap<usize, String>| !names.values().any(|n| n == w);
        if self.names.contains_key(&i) || !word::is_person(&word) {
            return;
        }
        if !free(&word, &self.names) {
            word = format!("{word}{i}");
        }
        let old = self.who(i);
        for line in &mut self.lines {
            if let Some(rest) = line.strip_prefix(&format!("{old} ")) {
                *line = format!("{word} {rest}");
            }
        }
        self.wire_names.push((wire.to_owned(), word.clone()));
        self.names.insert(i, word);
    }

    /// Puts placeholders where another run would see something else.
    fn general(&mut self, i: usize, kind: &str, mut body: Value, from: Envelope) -> Value {
        self.put_names(&mut body);
        if let Some(password) = body.get_mut("password") {
            // A transcript is for everybody to read.
            *password = "<password>".into();
            self.asks_password = true;
        }
        // The suite has keys of its own.
        let who = self.who(i);
        match kind {
            "register" if body.get("key").is_some() => {
                body["key"] = format!("<{who}.key>").into();
            }
            "challenge" => {
                body["nonce"] = "<any>".into();
                body["epoch"] = "<any>".into();
            }
            "proof" => {
                let signature = format!("<proof by {who} for {who} after {who}>");
                body["signature"] = signature.into();
            }
            "chat" if body.get("senderId").is_some() => body["senderId"] = "<any>".into(),
            _ => {}
        }
        if from == Envelope::Client {
            if let Some(resume) = body.get_mut("resume") {
                self.put_line(resume);
            }
            return body;
        }
        if kind == "registered" {
            if let Some(token) = body["resumeToken"].as_str() {
                self.tokens.push((token.to_owned(), self.who(i)));
                body["resumeToken"] = "<any>".into();
            }
            body["epoch"] = "<any>".into();
            body["seq"] = "<maybe>".into();
            body["oldestSeq"] = "<maybe>".into();
            body["limits"] = "<any>".into();
        }
        if body.get("timeUnixMs").is_some() {
            body["timeUnixMs"] = "<time>".into();
        }
        if body.get("detail").is_some() {
            body["detail"] = "<maybe>".into();
        }
        if let (true, Some(seq)) = (
            kind != "registered",
            body["seq"].as_str().and_then(|s| s.parse::<u64>().ok()),
        ) {
            let first = *self.first_seq.get_or_insert(seq);
            body["seq"] = match seq.checked_sub(first) {
                Some(0) => "<n>".into(),
                Some(more) => format!("<n+{more}>").into(),
                None => "<any>".into(),
            };
        }
        body
    }

    /// Puts the token and the epoch of the session that is continued.
    fn put_line(&self, resume: &mut Value) {
        let token = resume["token"].as_str().unwrap_or_default();
        if let Some((_, who)) = self.tokens.iter().find(|(known, _)| known == token) {
            resume["token"] = format!("<{who}.token>").into();
            resume["epoch"] = format!("<{who}.epoch>").into();
        }
    }

    fn put_names(&self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Some((_, word)) = self.wire_names.iter().find(|(wire, _)| wire == text) {
                    *text = format!("<{word}>");
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|v| self.put_names(v)),
            Value::Object(fields) => {
                for (key, value) in fields {
                    if matches!(key.as_str(), "name" | "names" | "sender") {
                        self.put_names(value);
                    }
                }
            }
            _ => {}
        }
    }

    fn text(&self) -> String {
        let password = match self.asks_password {
            true => "password: asked\n",
            false => "",
        };
        format!(
            "title: (the statement that this proves, in one line)\nrules:\nwhy: (why it matters)\n{password}status: draft\n\n{}\n",
            self.lines.join("\n")
        )
    }
}
