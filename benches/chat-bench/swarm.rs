//! Many connections in one thread, around the system's notices of what can be
//! read and written.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::TcpStream};
use socket2::{Domain, Socket, Type};

use crate::{
    dialect::{Dialect, Role, Unit},
    failure::Failure,
    latency::Histogram,
    member::{Connection, Part, Stage, name, refused, role},
    order::{Order, stamp},
};

/// What is read at once, in bytes: all that the server may have sent meanwhile, and
/// no more than stays in a core's cache.
const READ_BYTES: usize = 256 * 1024;

/// How many full reads one connection gets before the others get theirs.
const READS_PER_TURN_MAX: usize = 16;

/// How many notices are taken at once.
const EVENTS_MAX: usize = 1024;

/// How long nothing may happen before something is missing, in milliseconds.
pub const PATIENCE_MS: u64 = 10_000;

/// What those who do not read let the system take in, in bytes.
const STALLED_BUFFER_BYTES: usize = 4 * 1024;

pub struct Swarm {
    address: SocketAddr,
    pub dialect: Box<dyn Dialect>,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    pub connections: Vec<Connection>,
    /// Those who may have more to read than one turn takes.
    unfinished: Vec<usize>,
    pub order: Order,
    /// How many messages those have received, all together, who are here from the
    /// start, and those who visit.
    pub deliveries: u64,
    pub visitors_deliveries: u64,
    pub latency: Histogram,
    /// Every delivery is timed; otherwise the last of each read.
    pub times_all: bool,
    /// How many are in the room.
    pub joined: usize,
    /// How many names were used.
    names: usize,
    /// How long the server makes a member wait between messages.
    pub interval_ms: u32,
    pub start: Instant,
    /// When something last happened.
    pub active: Instant,
}

impl Swarm {
    pub fn new(
        address: SocketAddr,
        dialect: Box<dyn Dialect>,
        senders: usize,
    ) -> Result<Self, Failure> {
        Ok(Self {
            address,
            dialect,
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_MAX),
            buffer: vec![0; READ_BYTES],
            connections: Vec::new(),
            unfinished: Vec::new(),
            order: Order::new(senders),
            deliveries: 0,
            visitors_deliveries: 0,
            latency: Histogram::new(),
            times_all: false,
            joined: 0,
            names: 0,
            interval_ms: 0,
            start: Instant::now(),
            active: Instant::now(),
        })
    }

    /// Begins to connect one more.
    fn connect(&mut self, part: Part) -> Result<(), Failure> {
        let connection = self.connection(self.connections.len(), part)?;
        self.connections.push(connection);
        Ok(())
    }

    /// Says goodbye for one connection, closes it and begins to connect another in
    /// its place.
    pub fn replace(&mut self, index: usize, part: Part) -> Result<(), Failure> {
        let goodbye = self.dialect.leave();
        // Who is closed meanwhile has no use for it.
        let _ = self.connections[index].stream.write(goodbye);
        self.connections[index] = self.connection(index, part)?;
        self.joined -= 1;
        Ok(())
    }

    fn connection(&mut self, index: usize, part: Part) -> Result<Connection, Failure> {
        let socket = Socket::new(Domain::for_address(self.address), Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        if matches!(part, Part::Stalls) {
            // Before connecting: the window is agreed upon then.
            socket.set_recv_buffer_size(STALLED_BUFFER_BYTES)?;
        }
        match socket.connect(&self.address.into()) {
            Ok(()) => {}
            Err(error) if is_under_way(&error) => {}
            Err(error) => return Err(self.not_there(&error)),
        }
        let mut stream = TcpStream::from_std(socket.into());
        self.poll.registry().register(
            &mut stream,
            Token(index),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        let name = name(self.names);
        self.names += 1;
        Ok(Connection {
            stream,
            stage: Stage::Connecting,
            out: self.dialect.join(&name, role(&part)),
            out_sent: 0,
            part,
            name,
            held: Vec::new(),
        })
    }

    pub fn is_joined(&self, index: usize) -> bool {
        self.connections[index].stage == Stage::Joined
    }

    pub fn is_gone(&self, index: usize) -> bool {
        self.connections[index].stage == Stage::Gone
    }

    /// Connects one of each part, a few at a time, and waits until all of them are in
    /// the room.
    pub fn join_all(
        &mut self,
        parts: impl Iterator<Item = Part>,
        joining_max: usize,
        mut on_progress: impl FnMut(usize),
    ) -> Result<(), Failure> {
        let mut parts = parts.peekable();
        while parts.peek().is_some() || self.joined < self.connections.len() {
            while self.connections.len() - self.joined < joining_max
                && let Some(part) = parts.next()
            {
                self.connect(part)?;
            }
            self.turn(Some(Duration::from_millis(PATIENCE_MS)))?;
            self.check_patience().map_err(|silence| {
                Failure::unusable(format!(
                    "{silence}, and a connection waits to be let in: \
                     is it a server of this protocol (see --dialect)?"
                ))
            })?;
            on_progress(self.joined);
        }
        Ok(())
    }

    /// Waits for notices, for `timeout` at the most, and handles them.
    pub fn turn(&mut self, timeout: Option<Duration>) -> Result<(), Failure> {
        let timeout = if self.unfinished.is_empty() {
            timeout
        } else {
            Some(Duration::ZERO)
        };
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            result => result?,
        }
        let events = std::mem::replace(&mut self.events, Events::with_capacity(0));
        for index in std::mem::take(&mut self.unfinished) {
            self.read(index)?;
        }
        for event in &events {
            let Token(index) = event.token();
            self.active = Instant::now();
            if event.is_writable() {
                self.write(index)?;
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.read(index)?;
            }
        }
        self.events = events;
        Ok(())
    }

    /// An error, half a sentence, when nothing has happened for a long time.
    pub fn check_patience(&self) -> Result<(), String> {
        if self.active.elapsed() < Duration::from_millis(PATIENCE_MS) {
            return Ok(());
        }
        Err(format!("nothing has come for {PATIENCE_MS} ms"))
    }

    /// Whether all that was given to a connection is with the system.
    pub fn is_flushed(&self, index: usize) -> bool {
        let connection = &self.connections[index];
        connection.out_sent == connection.out.len()
    }

    /// Where to put what a connection is to send; then [`Swarm::write`].
    pub fn out(&mut self, index: usize) -> &mut Vec<u8> {
        &mut self.connections[index].out
    }

    pub fn write(&mut self, index: usize) -> Result<(), Failure> {
        let address = self.address;
        let connection = &mut self.connections[index];
        if connection.stage == Stage::Connecting {
            if let Ok(Some(error)) | Err(error) = connection.stream.take_error() {
                return Err(not_there(address, &error));
            }
            if connection.stream.peer_addr().is_err() {
                return Ok(());
            }
            connection.stage = Stage::Joining;
        }
        while connection.out_sent < connection.out.len() {
            match connection
                .stream
                .write(&connection.out[connection.out_sent..])
            {
                Ok(sent) => connection.out_sent += sent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // What the server said before it closed is still to be read.
                Err(_) => break,
            }
        }
        connection.out.clear();
        connection.out_sent = 0;
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<(), Failure> {
        let connection = &self.connections[index];
        let is_deaf = matches!(connection.part, Part::Stalls) && connection.stage == Stage::Joined;
        if connection.stage == Stage::Gone || is_deaf {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut result = Ok(());
        for turn in 1.. {
            match self.connections[index].stream.read(&mut buffer) {
                Ok(0) => result = self.closed(index),
                Ok(bytes) => {
                    result = self.take(index, &buffer[..bytes]);
                    // What fills the buffer may not be all there is.
                    if bytes == buffer.len() && result.is_ok() && !self.is_gone(index) {
                        if turn < READS_PER_TURN_MAX {
                            continue;
                        }
                        self.unfinished.push(index);
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => {}
                    io::ErrorKind::ConnectionRefused => result = Err(self.not_there(&error)),
                    _ => result = self.closed(index),
                },
            }
            break;
        }
        self.buffer = buffer;
        result
    }

    /// The server closed a connection.
    fn closed(&mut self, index: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        let stage = connection.stage;
        let name = &connection.name;
        match (&connection.part, stage) {
            (_, Stage::Connecting | Stage::Joining) => Err(Failure::unusable(format!(
                "{} closed the connection of {name} before it was in the room: \
                 is it a server of this protocol (see --dialect), and has it room for so many?",
                self.address
            ))),
            (Part::Stalls | Part::Idles, _) => {
                connection.close();
                Ok(())
            }
            (Part::Reads(_) | Part::Visits(_) | Part::Sends { .. }, _) => Err(Failure::lost(
                format!("the server closed the connection of {name}"),
            )),
        }
    }

    /// Handles what a connection received.
    fn take(&mut self, index: usize, bytes: &[u8]) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        let joined_rest;
        let bytes = if connection.stage != Stage::Joined {
            connection.held.extend_from_slice(bytes);
            if !connection.join_step(&*self.dialect, &mut self.interval_ms)? {
                return Ok(());
            }
            self.joined += 1;
            joined_rest = std::mem::take(&mut connection.held);
            &joined_rest
        } else {
            bytes
        };
        let Connection {
            part,
            out,
            name,
            held,
            ..
        } = connection;
        let mut on_other = |unit: Unit<'_>| match unit {
            Unit::Answer(answer) => {
                out.extend(answer);
                Ok(())
            }
            Unit::Refused(sentence) => Err(refused(name, &sentence)),
            _ => Ok(()),
        };
        match part {
            Part::Reads(follower) => {
                let first = follower.next();
                follower.take(bytes, &mut self.order, &*self.dialect, &mut on_other)?;
                if let (Some(first), Some(end)) = (first, follower.next()) {
                    self.delivered(first, end);
                }
            }
            Part::Visits(follower) => {
                let first = follower.next();
                follower.take(bytes, &mut self.order, &*self.dialect, &mut on_other)?;
                if let Some(end) = follower.next() {
                    // What comes in one piece at first counts as one.
                    let first = first.unwrap_or(end.saturating_sub(1));
                    self.visitors_deliveries += (end - first) as u64;
                }
            }
            Part::Sends { number, received } => {
                held.extend_from_slice(bytes);
                let mut used = 0;
                while let Some((unit_bytes, unit)) = self
                    .dialect
                    .split(&held[used..], Role::Sender)
                    .map_err(Failure::protocol)?
                {
                    match unit {
                        Unit::Message(message) => {
                            if stamp(&message)?.sender == *number {
                                return Err(Failure::lost(format!(
                                    "{name} received its own message"
                                )));
                            }
                            received.extend_from_slice(&held[used..used + unit_bytes]);
                            self.deliveries += 1;
                        }
                        other => on_other(other)?,
                    }
                    used += unit_bytes;
                }
                held.drain(..used);
            }
            Part::Idles | Part::Stalls => {}
        }
        if !self.connections[index].out.is_empty() {
            self.write(index)?;
        }
        Ok(())
    }

    fn delivered(&mut self, first: usize, end: usize) {
        if first == end {
            return;
        }
        self.deliveries += (end - first) as u64;
        let now_ns = self.start.elapsed().as_nanos() as u64;
        let timed = if self.times_all { first } else { end - 1 };
        for index in timed..end {
            let sent_ns = self.order.sent_ns(index);
            self.latency.record(now_ns.saturating_sub(sent_ns));
        }
    }

    fn not_there(&self, error: &io::Error) -> Failure {
        not_there(self.address, error)
    }
}

fn not_there(address: SocketAddr, error: &io::Error) -> Failure {
    Failure::unusable(format!("no server answers at {address}: {error}"))
}

fn is_under_way(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.raw_os_error() == Some(nix::errno::Errno::EINPROGRESS as i32)
}
