//! Those who mean harm, in one thread around the system's notices: one who floods,
//! connections that never register, members that never read, and connections that
//! say how long their first frame is: 2^63 bytes. Whoever is closed comes again,
//! but for those who never read, who do not notice.

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

/// How often new connections are made, in milliseconds, and how many at a time.
const TURN_MS: u64 = 10;
const OPENED_PER_TURN_MAX: usize = 64;

/// How many of those with a long length are there at a time.
const LENGTHS_AT_A_TIME: u32 = 64;

/// In which share of the run all of them are sent.
const LENGTHS_SHARE: f64 = 0.9;

/// How long those who are left may take to hear their end, in milliseconds.
const SETTLE_MS: u64 = 3_000;

/// What one who floods keeps ready to send, in bytes.
const FLOOD_BYTES_MAX: usize = 64 * 1024;

/// The length of its texts, in bytes: the longest that is allowed by default.
const FLOOD_TEXT_BYTES: usize = 4_096;

/// What is read at once, in bytes.
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
    /// For people.
    pub fn label(self) -> &'static str {
        match self {
            Self::Flood => "who floods",
            Self::Silent => "who never register",
            Self::Deaf => "who never read",
            Self::Length => "who send a length of 2^63",
        }
    }
}

/// How often each was told what, by error code; and, without one, how many were
/// closed or are still there.
pub type Ends = BTreeMap<Kind, BTreeMap<&'static str, u64>>;

struct Attacker {
    kind: Kind,
    stream: Option<TcpStream>,
    has_begun: bool,
    /// It was told an error that ends its session.
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
    /// Chats a second of who floods, and how many it has sent.
    flood_rate: f64,
    flooded: u64,
    flood_frame: Vec<u8>,
    /// Lengths to be sent in all, and begun with.
    lengths: u32,
    lengths_begun: u32,
    /// How many names were used.
    names: u32,
}

/// Attacks for `time`, or until `is_over`. `member_rate`: the chats a second that
/// the server allows.
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
        let turn_end = Instant::now() + Duration::from_millis(TURN_MS);
        while let Some(left) = turn_end.checked_duration_since(Instant::now()) {
            attack.turn(&mut events, left)?;
        }
    }
    // Those who never read do so now, to learn what became of them.
    for index in 0..attack.attackers.len() {
        attack.read(index);
    }
    let settled = Instant::now() + Duration::from_millis(SETTLE_MS);
    while let Some(left) = settled.checked_duration_since(Instant::now()) {
        attack.turn(&mut events, left)?;
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

    /// Sends what the system takes. Who is closed learns it by reading.
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
    /// Connects those who are not there, a few at a time.
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
            if opened == OPENED_PER_TURN_MAX {
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
        // Whether it comes about is seen when it is read from.
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

    /// Has who floods send what is due by now, as far as the server takes it.
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
        // What was not taken is not made up for.
        self.flooded = due;
    }

    fn turn(&mut self, events: &mut Events, timeout: Duration) -> Result<(), Failure> {
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

    /// Counts the errors among what came.
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
