//! Attackers: one floods, some never register, some register and never read, and some
//! send a first frame with a length of 2^63 bytes. One thread drives all of them. An
//! attacker that the server closes connects again, except a deaf one, which does not
//! read and so does not notice.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind, Read, Write},
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use chat::{
    frame::{self, Split},
    wire::{ServerEnvelope, server_envelope::Message},
};
use mio::{Events, Poll, Token, net::TcpStream};
use prost::Message as _;

use crate::{
    dialect::{JoinAs, Protocol},
    failure::Failure,
    options::Attackers,
    socket,
};

/// How often new connections are opened, in milliseconds, and how many at a time.
const PASS_MS: u64 = 10;
const OPENED_PER_PASS_MAX: usize = 64;

/// How many connections that send a huge length are open at a time.
const LENGTHS_AT_A_TIME: u32 = 64;

/// The share of the run over which the huge lengths are spread.
const LENGTHS_SHARE: f64 = 0.9;

/// How long the remaining attackers may take to receive their last error, in
/// milliseconds.
const SETTLE_MS: u64 = 3_000;

/// How many bytes the flooding member keeps ready to send.
const FLOOD_BYTES_MAX: usize = 64 * 1024;

/// The length of the flood's texts, in bytes: the longest that the default limits
/// allow.
const FLOOD_TEXT_BYTES: usize = 4_096;

/// How many bytes one read takes.
const READ_BYTES: usize = 64 * 1024;

const EVENTS_MAX: usize = 1_024;

/// 2^63 as the length of a frame.
const HUGE_LENGTH: [u8; 10] = [0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Flood,
    Silent,
    Deaf,
    Length,
}

impl Kind {
    /// The name of this kind in the report.
    pub fn label(self) -> &'static str {
        match self {
            Self::Flood => "flooding member",
            Self::Silent => "connections that never register",
            Self::Deaf => "members that never read",
            Self::Length => "lengths of 2^63",
        }
    }
}

/// For each kind, how often each error code arrived; and how many connections were
/// closed without an error or were still open at the end.
pub type Ends = BTreeMap<Kind, BTreeMap<&'static str, u64>>;

struct Attacker {
    kind: Kind,
    stream: Option<TcpStream>,
    has_begun: bool,
    /// Whether an error arrived that ends its session.
    is_told: bool,
    out: Vec<u8>,
    held: Vec<u8>,
}

struct Attack<'a> {
    address: SocketAddr,
    poll: Poll,
    attackers: Vec<Attacker>,
    buffer: Vec<u8>,
    ends: Ends,
    start: Instant,
    time: Duration,
    is_over: &'a AtomicBool,
    /// Chats a second that the flooding member sends, and how many it has sent.
    flood_rate: f64,
    flooded: u64,
    flood_frame: Vec<u8>,
    /// How many huge lengths are to be sent, and how many have been started.
    lengths: u32,
    lengths_begun: u32,
    /// How many names have been used.
    names: u32,
}

/// Attacks for `time`, or until `is_over`. `member_rate` is the number of chats a
/// second that the server allows a member.
pub fn run(
    address: SocketAddr,
    wanted: Attackers,
    member_rate: f64,
    time: Duration,
    is_over: &AtomicBool,
) -> Result<Ends, Failure> {
    let (head, tail) = Protocol::Chat.dialect().around_text(FLOOD_TEXT_BYTES);
    let counts = [
        (Kind::Flood, wanted.flood_times.min(1)),
        (Kind::Silent, wanted.silent),
        (Kind::Deaf, wanted.deaf),
        (Kind::Length, wanted.lengths.min(LENGTHS_AT_A_TIME)),
    ];
    let attackers = counts
        .iter()
        .flat_map(|&(kind, count)| (0..count).map(move |_| Attacker::new(kind)));
    let mut attack = Attack {
        address,
        poll: Poll::new()?,
        attackers: attackers.collect(),
        buffer: vec![0; READ_BYTES],
        ends: BTreeMap::new(),
        start: Instant::now(),
        time,
        is_over,
        flood_rate: member_rate * f64::from(wanted.flood_times),
        flooded: 0,
        flood_frame: [head, vec![b'x'; FLOOD_TEXT_BYTES], tail].concat(),
        lengths: wanted.lengths,
        lengths_begun: 0,
        names: 0,
    };
    let mut events = Events::with_capacity(EVENTS_MAX);
    while !attack.is_over.load(Ordering::Relaxed) {
        attack.open()?;
        attack.flood();
        let pass_end = Instant::now() + Duration::from_millis(PASS_MS);
        while let Some(left) = pass_end.checked_duration_since(Instant::now()) {
            attack.poll(&mut events, left)?;
        }
    }
    // The deaf attackers read now, to find out what became of them.
    for index in 0..attack.attackers.len() {
        attack.read(index);
    }
    let settled = Instant::now() + Duration::from_millis(SETTLE_MS);
    while let Some(left) = settled.checked_duration_since(Instant::now()) {
        attack.poll(&mut events, left)?;
    }
    for index in 0..attack.attackers.len() {
        if attack.attackers[index].stream.is_some() {
            attack.count(index, "still there");
        }
    }
    Ok(attack.ends)
}

impl Attacker {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            stream: None,
            has_begun: false,
            is_told: false,
            out: Vec::new(),
            held: Vec::new(),
        }
    }

    /// Sends as much as the socket takes. A close is noticed when reading.
    fn write(&mut self) {
        let Some(stream) = &mut self.stream else {
            return;
        };
        while !self.out.is_empty() {
            match stream.write(&self.out) {
                Ok(bytes) => drop(self.out.drain(..bytes)),
                Err(_) => return,
            }
        }
    }
}

impl Attack<'_> {
    /// Opens missing connections, a few at a time.
    fn open(&mut self) -> Result<(), Failure> {
        let share = self.start.elapsed().as_secs_f64() / self.time.as_secs_f64();
        let lengths_share = (share / LENGTHS_SHARE).min(1.0);
        let lengths_due = (f64::from(self.lengths) * lengths_share) as u32;
        let mut opened = 0;
        for index in 0..self.attackers.len() {
            let attacker = &self.attackers[index];
            let is_wanted = match attacker.kind {
                Kind::Flood | Kind::Silent => true,
                Kind::Deaf => !attacker.has_begun,
                Kind::Length => self.lengths_begun < lengths_due,
            };
            if attacker.stream.is_some() || !is_wanted {
                continue;
            }
            if opened == OPENED_PER_PASS_MAX {
                break;
            }
            opened += 1;
            self.connect(index)?;
        }
        Ok(())
    }

    fn connect(&mut self, index: usize) -> Result<(), Failure> {
        let kind = self.attackers[index].kind;
        let reads = kind != Kind::Deaf;
        // A failed connect shows when the socket is read.
        let (stream, _) = socket::connect(self.address, reads, &self.poll, Token(index))?;
        let out = match kind {
            Kind::Flood | Kind::Deaf => {
                self.names += 1;
                let name = format!("hostile{}", self.names);
                Protocol::Chat.dialect().join(&name, JoinAs::Reader)
            }
            Kind::Silent => Vec::new(),
            Kind::Length => {
                self.lengths_begun += 1;
                HUGE_LENGTH.to_vec()
            }
        };
        self.attackers[index] = Attacker {
            stream: Some(stream),
            has_begun: true,
            out,
            ..Attacker::new(kind)
        };
        Ok(())
    }

    /// Sends the chats of the flood that are due, as far as the socket takes them.
    fn flood(&mut self) {
        let due = (self.start.elapsed().as_secs_f64() * self.flood_rate) as u64;
        for attacker in &mut self.attackers {
            if attacker.kind != Kind::Flood || attacker.stream.is_none() {
                continue;
            }
            while self.flooded < due && attacker.out.len() < FLOOD_BYTES_MAX {
                attacker.out.extend_from_slice(&self.flood_frame);
                self.flooded += 1;
            }
            attacker.write();
        }
        // Chats that the socket did not take are not sent later.
        self.flooded = due;
    }

    fn poll(&mut self, events: &mut Events, timeout: Duration) -> Result<(), Failure> {
        match self.poll.poll(events, Some(timeout)) {
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        for event in &*events {
            let Token(index) = event.token();
            let attacker = &mut self.attackers[index];
            if event.is_writable() {
                attacker.write();
            }
            let is_deaf = attacker.kind == Kind::Deaf && !self.is_over.load(Ordering::Relaxed);
            if !is_deaf && (event.is_readable() || event.is_read_closed() || event.is_error()) {
                self.read(index);
            }
        }
        Ok(())
    }

    fn read(&mut self, index: usize) {
        loop {
            let attacker = &mut self.attackers[index];
            let Some(stream) = &mut attacker.stream else {
                return;
            };
            match stream.read(&mut self.buffer) {
                Ok(bytes @ 1..) => {
                    attacker.held.extend_from_slice(&self.buffer[..bytes]);
                    self.judge(index);
                }
                Err(error) if is_to_wait(&error) => return,
                Ok(0) | Err(_) => {
                    let is_told = attacker.is_told;
                    attacker.stream = None;
                    if !is_told {
                        self.count(index, "closed");
                    }
                }
            }
        }
    }

    /// Counts the errors among the received frames.
    fn judge(&mut self, index: usize) {
        let held = std::mem::take(&mut self.attackers[index].held);
        let mut rest = held.as_slice();
        while let Ok(Split::Frame { body, rest: after }) = frame::split(rest, u32::MAX) {
            rest = after;
            let envelope = ServerEnvelope::decode(body).unwrap_or_default();
            if let Some(Message::Error(error)) = envelope.message {
                self.attackers[index].is_told |= error.ends_session;
                let code = error.code().as_str_name();
                self.count(index, code.trim_start_matches("ERROR_CODE_"));
            }
        }
        self.attackers[index].held = rest.to_vec();
    }

    fn count(&mut self, index: usize, what: &'static str) {
        let kind = self.attackers[index].kind;
        *self.ends.entry(kind).or_default().entry(what).or_default() += 1;
    }
}

fn is_to_wait(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected | ErrorKind::Interrupted
    )
}
