//! Connection: one connection of the suite. It writes frames in the pieces of the
//! chosen cut, reads frames, and checks each against the rules of every message.

use std::{
    collections::VecDeque,
    io::{ErrorKind, Read, Write},
    thread,
    time::{Duration, Instant},
};

use crate::{
    cut::Cut,
    framing::{self, Head},
    messages::{self, Envelope},
    problem::{Problem, Received},
    server_stream::ServerStream,
    stream::{Place, Stream},
    timing::{READ_TIMEOUT_MIN, Timing},
    trace::Trace,
    verdict::{Kind, millis},
};

/// How many bytes of a frame are sent with a pause after each. The rest of a long
/// frame follows without pauses, since it shows nothing new.
const PIECES_PAUSED_MAX: usize = 12;

/// The receive buffer of a connection that catches up.
const WIDE_WINDOW_BYTES: usize = 1 << 20;

/// How many bytes of a frame are shown.
const TRACE_BYTES_MAX: usize = 64;

/// The result of a wait on a connection.
#[derive(Debug)]
pub enum Event {
    /// A message.
    Message(Received),
    /// The other end closed, properly or by a reset.
    Closed,
    /// The deadline passed.
    Timeout,
}

/// One connection, of which the suite plays the client's or the server's end.
pub struct Conn {
    stream: Stream,
    sends: Envelope,
    cut: Cut,
    timing: Timing,
    began: Instant,
    /// Bytes received and not yet taken as frames.
    buffer: Vec<u8>,
    closed: bool,
    was_reset: bool,
    received: usize,
    /// The state of the server's stream, when the other end is a server.
    pub server: ServerStream,
    /// Written with the next flush, in the merged cut.
    pending: Vec<u8>,
    /// When this end last sent bytes, or connected.
    pub last_sent: Instant,
    /// Answers and the room's messages that no step has taken yet.
    pub queues: [VecDeque<Received>; 4],
    /// The names that Members gave, and whether any came.
    pub members: (Vec<String>, bool),
    /// The transcript line that says "receives nothing", until something comes.
    pub nothing_since: Option<usize>,
    /// Every message on it, with the time.
    pub trace: Trace,
}

impl Conn {
    /// Connects as a client.
    pub fn connect(
        place: &Place,
        timing: Timing,
        small_window: bool,
        cut: Cut,
        began: Instant,
    ) -> std::io::Result<Self> {
        let stream = place.connect(timing, small_window)?;
        Ok(Self::new(stream, Envelope::Client, cut, timing, began))
    }

    /// Takes over a stream; `sends` says which end the suite plays.
    pub fn new(stream: Stream, sends: Envelope, cut: Cut, timing: Timing, began: Instant) -> Self {
        let mut conn = Self {
            stream,
            sends,
            cut,
            timing,
            began,
            buffer: Vec::new(),
            closed: false,
            was_reset: false,
            received: 0,
            server: ServerStream::default(),
            pending: Vec::new(),
            last_sent: Instant::now(),
            queues: Default::default(),
            members: (Vec::new(), false),
            nothing_since: None,
            trace: Trace::default(),
        };
        conn.note("connected".to_owned());
        conn
    }

    fn note(&mut self, line: String) {
        self.trace.note(self.began.elapsed(), line);
    }

    /// Sends bytes, cut as this run cuts them; `prefix` is the length of the
    /// frame's prefix. An error of the transport is no verdict: the messages that the
    /// other end sent before it closed decide.
    pub fn send(&mut self, bytes: &[u8], prefix: usize, shown: &str) -> Result<(), Problem> {
        self.note(format!("-> {shown}  [{}]", shortened(bytes)));
        self.last_sent = Instant::now();
        match self.cut {
            Cut::Whole => self.write(bytes),
            Cut::Merged => {
                self.pending.extend_from_slice(bytes);
                Ok(())
            }
            Cut::Prefix => {
                let (head, tail) = bytes.split_at(prefix.saturating_sub(1).max(1).min(bytes.len()));
                self.write(head)?;
                thread::sleep(self.timing.piece());
                self.write(tail)
            }
            Cut::Bytes => {
                for (i, byte) in bytes.iter().enumerate() {
                    self.write(std::slice::from_ref(byte))?;
                    if i < PIECES_PAUSED_MAX {
                        thread::sleep(self.timing.piece());
                    }
                }
                Ok(())
            }
        }
    }

    /// Writes the bytes that the merged cut holds back.
    pub fn flush(&mut self) -> Result<(), Problem> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let pending = std::mem::take(&mut self.pending);
        self.last_sent = Instant::now();
        self.write(&pending)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let timeout = self.timing.step();
        self.stream.set_write_timeout(timeout);
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

    /// Ends the sending side.
    pub fn half_close(&mut self) {
        self.note("-> end of stream".to_owned());
        self.last_sent = Instant::now();
        self.stream.half_close();
    }

    /// Lifts the bound of a small window, so that much can be read in a short time over a
    /// network.
    pub fn widen_window(&self) {
        let _ = socket2::SockRef::from(self.stream.tcp()).set_recv_buffer_size(WIDE_WINDOW_BYTES);
    }

    /// Makes closing break the connection off with a reset.
    pub fn set_reset(&mut self) {
        self.note("-> reset".to_owned());
        let _ = socket2::SockRef::from(self.stream.tcp()).set_linger(Some(Duration::ZERO));
    }

    /// Whether the other end closed by a reset.
    pub fn was_reset(&self) -> bool {
        self.was_reset
    }

    /// Whether the other end has closed.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    /// The next message, the close, or the deadline. Bytes that arrived by the deadline
    /// are still read after it, within a bound: the other end may never stop sending.
    pub fn next(&mut self, deadline: Instant) -> Result<Event, Problem> {
        let mut chunk = [0; 16 * 1024];
        loop {
            if Instant::now() >= deadline + self.timing.overtime() {
                return Ok(Event::Timeout);
            }
            if let Some(message) = self.take_frame()? {
                return Ok(Event::Message(message));
            }
            if self.closed {
                return Ok(Event::Closed);
            }
            let left = deadline
                .saturating_duration_since(Instant::now())
                .max(READ_TIMEOUT_MIN);
            self.stream.set_read_timeout(left);
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
                        self.was_reset = true;
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
        // A client may be of a later version than the suite.
        if self.sends == Envelope::Client {
            if let Some(part) = decoded.unknown {
                let sentence = format!("{part} came that the schema does not define");
                // A capability that the schema does not define was asked for before.
                let rules: &[_] = match (message.kind.as_str(), part) {
                    ("registered", "an enum value") => &["CHAT-GROW-4", "CHAT-GROW-9"],
                    _ => &["CHAT-GROW-9"],
                };
                return Err(Problem::new(Kind::WrongAnswer, rules, sentence).showing(&message));
            }
            self.server.check(&message, from)?;
        }
        Ok(Some(message))
    }

    /// Keeps a message for the step that asks for it.
    pub fn queue(&mut self, message: Received) {
        let queue = self.queue_of(&message.kind);
        self.queues[queue].push_back(message);
    }

    /// Keeps a message for the step after the one that it does not belong to.
    pub fn put_back(&mut self, message: Received) {
        let queue = self.queue_of(&message.kind);
        self.queues[queue].push_front(message);
    }

    /// Which of the queues a message belongs to: 0 for answers to this connection, 1 for
    /// messages of the room, 2 for what concerns Directs, 3 for pieces of files. A client's messages are one
    /// stream.
    pub fn queue_of(&self, kind: &str) -> usize {
        match kind {
            _ if self.sends == Envelope::Server => 0,
            "chat" | "joined" | "left" | "server_closing" | "following" | "covered" => 1,
            "direct" | "direct_state" => 2,
            "file_data" => 3,
            _ => 0,
        }
    }
}

fn envelope_len(raw: &[u8], prefix: usize) -> u64 {
    (raw.len() - prefix) as u64
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
