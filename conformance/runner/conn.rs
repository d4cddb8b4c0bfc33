//! One connection of the suite: what it sends, in which pieces, and what it
//! receives, with the rules that hold for every message whatever the case.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::{
    framing::{self, Head},
    messages::{self, Envelope},
    transcript::print,
    verdict::{Kind, millis},
};

/// How the bytes that the suite sends are cut into pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// Each step in one write.
    Whole,
    /// Each byte in a write of its own.
    Bytes,
    /// In two, inside the length prefix or, where that is one byte, behind it.
    Prefix,
    /// Steps that follow one another in one write.
    Merged,
}

impl Cut {
    /// All of them, in the order of the reports.
    pub const ALL: [Cut; 4] = [Cut::Whole, Cut::Bytes, Cut::Prefix, Cut::Merged];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Cut::Whole => "whole",
            Cut::Bytes => "bytes",
            Cut::Prefix => "prefix",
            Cut::Merged => "merged",
        }
    }
}

/// Between pieces, so that they arrive apart. No verdict hangs on it.
const PIECE_PAUSE: Duration = Duration::from_micros(300);

/// How many bytes of a frame are sent with a pause after each; the rest of a
/// long one follows without, since nothing is left to be learnt from it.
const PIECES_PAUSED_MAX: usize = 12;

/// The bound on envelopes up to and including Registered (CHAT-FRAME-12).
const EARLY_ENVELOPE_BYTES_MAX: usize = 1024;

/// How many lines are kept of what went over one connection.
const TRACE_LINES_MAX: usize = 200;

/// How many bytes of a frame are shown.
const TRACE_BYTES_MAX: usize = 64;

/// A message that was received.
#[derive(Clone, Debug)]
pub struct Received {
    /// The envelope's arm.
    pub kind: String,
    /// The body in proto3 JSON.
    pub body: Value,
    /// The whole frame.
    pub raw: Vec<u8>,
    /// Its place on the connection, from 0.
    pub index: usize,
}

impl Received {
    /// In the transcript's notation.
    pub fn shown(&self) -> String {
        print::message(&self.kind, &self.body)
    }
}

/// What is wrong, before it is known in which step.
#[derive(Clone, Debug)]
pub struct Problem {
    /// The kind of failure.
    pub kind: Kind,
    /// The rules that it breaks for certain; none: those of the step.
    pub rules: Vec<&'static str>,
    /// One sentence.
    pub sentence: String,
    /// What came.
    pub received: String,
    /// What came, as bytes.
    pub bytes: Vec<u8>,
}

impl Problem {
    /// A problem with nothing received to show.
    pub fn new(kind: Kind, rules: &[&'static str], sentence: impl Into<String>) -> Self {
        Self {
            kind,
            rules: rules.to_vec(),
            sentence: sentence.into(),
            received: String::new(),
            bytes: Vec::new(),
        }
    }

    fn with(mut self, received: String, bytes: &[u8]) -> Self {
        self.received = received;
        self.bytes = bytes.to_vec();
        self
    }

    /// The same, showing a message.
    pub fn showing(self, message: &Received) -> Self {
        self.with(message.shown(), &message.raw)
    }
}

/// What a wait on a connection brought.
#[derive(Debug)]
pub enum Event {
    /// A message.
    Message(Received),
    /// The other end closed, properly or by a reset.
    Closed,
    /// The deadline passed.
    Timeout,
}

/// One connection. The suite's end of it is a client's or a server's.
pub struct Conn {
    stream: TcpStream,
    sends: Envelope,
    cut: Cut,
    began: Instant,
    /// Bytes received and not yet taken as frames.
    buffer: Vec<u8>,
    closed: bool,
    received: usize,
    /// What Registered said was granted; None until it came.
    pub granted: Option<Vec<String>>,
    frame_bytes_max: usize,
    /// What ended the conversation: nothing may come after it.
    ended_by: Option<(String, &'static str)>,
    /// Written with the next flush, in the merged cut.
    pending: Vec<u8>,
    /// When this end last sent something, or connected.
    pub last_sent: Instant,
    /// Answers and the room's messages, read and not yet asked for.
    pub queues: [VecDeque<Received>; 2],
    /// The names that Members gave, and whether any came.
    pub members: (Vec<String>, bool),
    /// The transcript line that says "receives nothing", until something comes.
    pub nothing_since: Option<usize>,
    /// What went over it and when.
    pub trace: Vec<(Duration, String)>,
}

impl Conn {
    /// Connects as a client.
    pub fn connect(
        addresses: &[SocketAddr],
        timeout: Duration,
        small_window: bool,
        cut: Cut,
        began: Instant,
    ) -> std::io::Result<Self> {
        let mut last = std::io::Error::from(ErrorKind::AddrNotAvailable);
        for address in addresses {
            let socket = socket2::Socket::new(
                socket2::Domain::for_address(*address),
                socket2::Type::STREAM,
                None,
            )?;
            if small_window {
                // The system rounds it up to the least that it allows.
                socket.set_recv_buffer_size(1)?;
            }
            match socket.connect_timeout(&(*address).into(), timeout) {
                Ok(()) => return Self::new(socket.into(), Envelope::Client, cut, began),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Takes over a stream; `sends` says which end the suite plays.
    pub fn new(
        stream: TcpStream,
        sends: Envelope,
        cut: Cut,
        began: Instant,
    ) -> std::io::Result<Self> {
        stream.set_nodelay(true)?;
        let mut conn = Self {
            stream,
            sends,
            cut,
            began,
            buffer: Vec::new(),
            closed: false,
            received: 0,
            granted: None,
            frame_bytes_max: EARLY_ENVELOPE_BYTES_MAX,
            ended_by: None,
            pending: Vec::new(),
            last_sent: Instant::now(),
            queues: [VecDeque::new(), VecDeque::new()],
            members: (Vec::new(), false),
            nothing_since: None,
            trace: Vec::new(),
        };
        conn.note("connected".to_owned());
        Ok(conn)
    }

    fn note(&mut self, line: String) {
        if self.trace.len() < TRACE_LINES_MAX {
            self.trace.push((self.began.elapsed(), line));
        }
    }

    /// Sends bytes, cut as this run cuts them; `prefix` is the length of the
    /// frame's prefix. An error of the transport is no verdict: what the other end
    /// said before it closed is what counts.
    pub fn send(
        &mut self,
        bytes: &[u8],
        prefix: usize,
        shown: &str,
        timeout: Duration,
    ) -> Result<(), Problem> {
        self.note(format!("-> {shown}  [{}]", shortened(bytes)));
        self.last_sent = Instant::now();
        match self.cut {
            Cut::Whole => self.write(bytes, timeout),
            Cut::Merged => {
                self.pending.extend_from_slice(bytes);
                Ok(())
            }
            Cut::Prefix => {
                let (head, tail) = bytes.split_at(prefix.saturating_sub(1).max(1).min(bytes.len()));
                self.write(head, timeout)?;
                thread::sleep(PIECE_PAUSE);
                self.write(tail, timeout)
            }
            Cut::Bytes => {
                for (i, byte) in bytes.iter().enumerate() {
                    self.write(std::slice::from_ref(byte), timeout)?;
                    if i < PIECES_PAUSED_MAX {
                        thread::sleep(PIECE_PAUSE);
                    }
                }
                Ok(())
            }
        }
    }

    /// Writes what the merged cut held back.
    pub fn flush(&mut self, timeout: Duration) -> Result<(), Problem> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        self.last_sent = Instant::now();
        self.write(&pending, timeout)
    }

    fn write(&mut self, bytes: &[u8], timeout: Duration) -> Result<(), Problem> {
        let _ = self.stream.set_write_timeout(Some(timeout));
        match self.stream.write_all(bytes) {
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                Err(Problem::new(
                    Kind::Hang,
                    &[],
                    format!("the other end has not read for {} ms", millis(timeout)),
                ))
            }
            Err(error) => {
                self.note(format!("   (not sent: {error})"));
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Ends what this end sends.
    pub fn half_close(&mut self) {
        self.note("-> end of stream".to_owned());
        self.last_sent = Instant::now();
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Makes closing break the connection off with a reset.
    pub fn set_reset(&mut self) {
        self.note("-> reset".to_owned());
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    /// Whether the other end has closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether the conversation was ended by an error or ServerClosing.
    pub fn is_ended(&self) -> bool {
        self.ended_by.is_some()
    }

    /// The next message, the close, or the deadline.
    pub fn next(&mut self, deadline: Instant) -> Result<Event, Problem> {
        let mut chunk = [0; 16 * 1024];
        loop {
            if let Some(message) = self.take_frame()? {
                return Ok(Event::Message(message));
            }
            if self.closed {
                return Ok(Event::Closed);
            }
            // Zero would mean for ever.
            let left = deadline
                .saturating_duration_since(Instant::now())
                .max(Duration::from_millis(1));
            let _ = self.stream.set_read_timeout(Some(left));
            match self.stream.read(&mut chunk) {
                Ok(0) => self.set_closed("<- end of stream")?,
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                        if Instant::now() >= deadline {
                            return Ok(Event::Timeout);
                        }
                    }
                    ErrorKind::Interrupted => {}
                    // FIN or RST: both are a close.
                    _ => {
                        self.buffer.clear();
                        self.set_closed("<- reset")?;
                    }
                },
            }
        }
    }

    fn set_closed(&mut self, line: &str) -> Result<(), Problem> {
        self.closed = true;
        self.note(line.to_owned());
        if self.buffer.is_empty() {
            return Ok(());
        }
        let bytes = std::mem::take(&mut self.buffer);
        Err(Problem::new(
            Kind::Malformed,
            &["CHAT-FRAME-1"],
            "the stream ended inside a frame",
        )
        .with(printable(&bytes), &bytes))
    }

    fn take_frame(&mut self) -> Result<Option<Received>, Problem> {
        let malformed = |rules: &[&'static str], sentence: String, bytes: &[u8]| {
            let shown = printable(bytes);
            Problem::new(Kind::Malformed, rules, sentence).with(shown, bytes)
        };
        let (from, to) = match framing::head(&self.buffer) {
            Head::Incomplete => return Ok(None),
            Head::Malformed(why) => {
                let bytes = std::mem::take(&mut self.buffer);
                return Err(malformed(&["CHAT-FRAME-1"], format!("{why} came"), &bytes));
            }
            Head::Frame { from, to } => (from, to),
        };
        let raw: Vec<u8> = self.buffer.drain(..to).collect();
        let envelope = &raw[from..];
        let receives = match self.sends {
            Envelope::Client => Envelope::Server,
            Envelope::Server => Envelope::Client,
        };
        let decoded = messages::decode(receives, envelope)
            .map_err(|e| malformed(&["CHAT-FRAME-1"], format!("no envelope: {e}"), &raw))?;
        let message = Received {
            kind: decoded.kind,
            body: decoded.body,
            raw,
            index: self.received,
        };
        self.received += 1;
        self.note(format!(
            "<- {}  [{}]",
            message.shown(),
            shortened(&message.raw)
        ));
        if framing::length(envelope_len(&message.raw, from)).len() != from {
            return Err(Problem::new(
                Kind::Malformed,
                &["CHAT-FRAME-2"],
                "a length came in more bytes than it needs",
            )
            .showing(&message));
        }
        if decoded.unknown_fields {
            let sentence = "fields came that the schema does not have";
            return Err(Problem::new(Kind::WrongAnswer, &[], sentence).showing(&message));
        }
        if self.sends == Envelope::Client {
            self.judge_server_message(&message, from)?;
        }
        Ok(Some(message))
    }

    /// The rules that hold for every message of a server.
    fn judge_server_message(&mut self, message: &Received, prefix: usize) -> Result<(), Problem> {
        let wrong = |rule, sentence: String| {
            Err(Problem::new(Kind::WrongAnswer, &[rule], sentence).showing(message))
        };
        if let Some((what, rule)) = &self.ended_by {
            return wrong(rule, format!("something came after {what}"));
        }
        let length = message.raw.len() - prefix;
        if length > self.frame_bytes_max {
            let sentence = format!(
                "an envelope of {length} bytes came, {} are allowed",
                self.frame_bytes_max
            );
            return wrong("CHAT-FRAME-12", sentence);
        }
        if message.kind == "nothing" {
            return wrong(
                "CHAT-FRAME-1",
                "an envelope with nothing in it came".to_owned(),
            );
        }
        match (&self.granted, message.kind.as_str()) {
            (None, "registered") => {
                let granted = message.body["capabilities"].as_array();
                self.granted = Some(
                    granted
                        .into_iter()
                        .flatten()
                        .map(|c| c.as_str().map_or_else(|| c.to_string(), str::to_owned))
                        .map(|c| c.trim_start_matches("CAPABILITY_").to_ascii_lowercase())
                        .collect(),
                );
                let max = message.body["limits"]["frameBytesMax"].as_u64();
                self.frame_bytes_max = max.unwrap_or(0) as usize;
            }
            (None, "error" | "server_closing") => {}
            (None, _) => return wrong("CHAT-REG-3", "something came before Registered".to_owned()),
            (Some(granted), kind) => {
                if let Some(capability) = capability_of(kind)
                    && !granted.iter().any(|c| c == capability)
                {
                    let sentence = format!("a message of {capability} came, which was not granted");
                    return wrong("CHAT-GROW-7", sentence);
                }
            }
        }
        if message.kind == "server_closing" {
            self.ended_by = Some(("ServerClosing".to_owned(), "CHAT-CLOSE-2"));
        } else if message.kind == "error" && message.body["endsSession"] == true {
            self.ended_by = Some(("an error that ends the session".to_owned(), "CHAT-ERR-1"));
        }
        Ok(())
    }

    /// Keeps a message for the step that asks for it.
    pub fn queue(&mut self, message: Received) {
        let queue = self.queue_of(&message.kind);
        self.queues[queue].push_back(message);
    }

    /// Which of the two queues a message belongs to: 0 for answers to this
    /// connection, 1 for what the room says.
    /// A client has but one stream.
    pub fn queue_of(&self, kind: &str) -> usize {
        let is_room = matches!(kind, "chat" | "joined" | "left" | "server_closing");
        usize::from(is_room && self.sends == Envelope::Client)
    }
}

fn envelope_len(raw: &[u8], prefix: usize) -> u64 {
    (raw.len() - prefix) as u64
}

/// The capability that a server's message belongs to.
fn capability_of(kind: &str) -> Option<&'static str> {
    match kind {
        "receipt" => Some("receipts"),
        "joined" | "left" | "members" => Some("presence"),
        "ping" | "pong" => Some("keepalive"),
        _ => None,
    }
}

fn shortened(bytes: &[u8]) -> String {
    if bytes.len() <= TRACE_BYTES_MAX {
        framing::hex(bytes)
    } else {
        format!(
            "{} ... ({} bytes)",
            framing::hex(&bytes[..TRACE_BYTES_MAX]),
            bytes.len()
        )
    }
}

/// Bytes of another protocol as text, as far as they are text.
fn printable(bytes: &[u8]) -> String {
    bytes
        .iter()
        .take(TRACE_BYTES_MAX)
        .map(|b| {
            if (0x20..0x7f).contains(b) {
                char::from(*b)
            } else {
                '.'
            }
        })
        .collect()
}
