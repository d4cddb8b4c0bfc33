//! Client pool: drives all connections of a run from one thread, on readiness events.

use std::{
    io::{self, Read, Write},
    time::{Duration, Instant},
};

use chat::tls::Untrusted;
use mio::{Events, Poll, Token};

use crate::{
    dialect::Dialect,
    failure::Failure,
    link::Link,
    member::{Connection, Role, Stage, join_as, name},
    socket,
    stream::Stream,
    tally::Tally,
};

/// How many bytes one read takes: usually all that the server has sent meanwhile, and
/// no more than stays in a core's cache.
const READ_BYTES: usize = 256 * 1024;

/// How many full reads one connection gets before the others are served.
const READS_PER_PASS_MAX: usize = 16;

/// How many readiness events one poll returns.
const EVENTS_MAX: usize = 1024;

/// How long no event may arrive before the run gives up, in milliseconds.
pub const SILENCE_MS_MAX: u64 = 10_000;

pub struct ClientPool {
    link: Link,
    pub dialect: Box<dyn Dialect>,
    poll: Poll,
    events: Events,
    buffer: Vec<u8>,
    pub connections: Vec<Connection>,
    /// Connections that may have more to read than one pass takes.
    unfinished: Vec<usize>,
    pub tally: Tally,
    /// How many connections are in the room.
    pub joined: usize,
    /// How many names have been used.
    pub names: usize,
    /// Whether members follow topics, which the protocol has.
    pub has_topics: bool,
    /// The interval between messages that the server announced, in milliseconds.
    pub interval_ms: u32,
    /// When the last event arrived.
    pub active: Instant,
}

impl ClientPool {
    pub fn new(
        link: &Link,
        dialect: Box<dyn Dialect>,
        senders: usize,
        text_bytes: usize,
    ) -> Result<Self, Failure> {
        Ok(Self {
            link: link.clone(),
            dialect,
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS_MAX),
            buffer: vec![0; READ_BYTES],
            connections: Vec::new(),
            unfinished: Vec::new(),
            tally: Tally::new(senders, text_bytes),
            joined: 0,
            names: 0,
            has_topics: false,
            interval_ms: 0,
            active: Instant::now(),
        })
    }

    /// Starts one more connection.
    fn connect(&mut self, role: Role) -> Result<(), Failure> {
        let connection = self.connection(self.connections.len(), role)?;
        self.connections.push(connection);
        Ok(())
    }

    /// Leaves on one connection, closes it and starts another in its place.
    pub fn replace(&mut self, index: usize, role: Role) -> Result<(), Failure> {
        let goodbye = self.dialect.leave();
        // A connection that was closed meanwhile needs no goodbye.
        let _ = self.connections[index].stream.write(goodbye);
        self.connections[index] = self.connection(index, role)?;
        self.joined -= 1;
        Ok(())
    }

    fn connection(&mut self, index: usize, role: Role) -> Result<Connection, Failure> {
        let reads = !matches!(role, Role::Stalls);
        let address = self.link.address_of(index);
        let (socket, connected) = socket::connect(address, reads, &self.poll, Token(index))?;
        connected.map_err(|error| not_there(&self.link, &error))?;
        let stream = Stream::new(socket, &self.link)?;
        let name = name(self.names);
        self.names += 1;
        let out = match self.has_topics {
            true => self.dialect.join_topics(&name, role.topics()),
            false => Some(self.dialect.join(&name, join_as(&role))),
        };
        Ok(Connection {
            stream,
            stage: Stage::Connecting,
            out: out.unwrap_or_default(),
            out_sent: 0,
            role,
            name,
            held: Vec::new(),
            is_ended: false,
        })
    }

    pub fn is_joined(&self, index: usize) -> bool {
        self.connections[index].stage == Stage::Joined
    }

    pub fn is_gone(&self, index: usize) -> bool {
        self.connections[index].stage == Stage::Gone
    }

    /// Opens one connection for each role, `joining_max` at a time, and waits until all
    /// of them are in the room.
    pub fn join_all(
        &mut self,
        roles: impl Iterator<Item = Role>,
        joining_max: usize,
        mut on_progress: impl FnMut(usize),
    ) -> Result<(), Failure> {
        let mut roles = roles.peekable();
        while roles.peek().is_some() || self.joined < self.connections.len() {
            while self.connections.len() - self.joined < joining_max
                && let Some(role) = roles.next()
            {
                self.connect(role)?;
            }
            self.poll(Some(Duration::from_millis(SILENCE_MS_MAX)))?;
            self.check_silence().map_err(|silence| {
                Failure::unusable(format!(
                    "{silence}, and a connection has not joined: \
                     is it a server of this protocol (see --dialect)?"
                ))
            })?;
            on_progress(self.joined);
        }
        Ok(())
    }

    /// Polls for at most `timeout` and handles the events.
    pub fn poll(&mut self, timeout: Option<Duration>) -> Result<(), Failure> {
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
                self.connections[index].is_ended |= event.is_read_closed();
                // A handshake goes on with what was read.
                let was_waiting = self.connections[index].stream.is_waiting();
                self.read(index)?;
                if was_waiting {
                    self.write(index)?;
                }
            }
        }
        self.events = events;
        Ok(())
    }

    /// Fails with half a sentence when no event has arrived for a long time.
    pub fn check_silence(&self) -> Result<(), String> {
        if self.active.elapsed() < Duration::from_millis(SILENCE_MS_MAX) {
            return Ok(());
        }
        Err(format!("nothing arrived for {SILENCE_MS_MAX} ms"))
    }

    /// Whether everything queued for a connection has been written.
    pub fn is_flushed(&self, index: usize) -> bool {
        let connection = &self.connections[index];
        connection.out_sent == connection.out.len() && !connection.stream.is_waiting()
    }

    /// The buffer of what a connection sends next; [`ClientPool::write`] sends it.
    pub fn out(&mut self, index: usize) -> &mut Vec<u8> {
        &mut self.connections[index].out
    }

    pub fn write(&mut self, index: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        if connection.stage == Stage::Gone {
            return Ok(());
        }
        if connection.stage == Stage::Connecting {
            let socket = connection.stream.socket();
            if let Ok(Some(error)) | Err(error) = socket.take_error() {
                return Err(not_there(&self.link, &error));
            }
            if socket.peer_addr().is_err() {
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
                // What the server sent before it closed must still be read.
                Err(_) => break,
            }
        }
        connection.out.clear();
        connection.out_sent = 0;
        // The events tell when the rest can go.
        let _ = connection.stream.flush();
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<(), Failure> {
        let connection = &self.connections[index];
        let is_deaf = matches!(connection.role, Role::Stalls) && connection.stage == Stage::Joined;
        if connection.stage == Stage::Gone || is_deaf {
            return Ok(());
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut result = Ok(());
        for pass in 1.. {
            match self.connections[index].stream.read(&mut buffer) {
                Ok(0) => result = self.closed(index),
                Ok(bytes) => {
                    result = self.take(index, &buffer[..bytes]);
                    // A full buffer may not be all there is, and no other event reports
                    // an end that came together with these bytes.
                    let has_more = bytes == buffer.len() || self.connections[index].is_ended;
                    if has_more && result.is_ok() && !self.is_gone(index) {
                        if pass < READS_PER_PASS_MAX {
                            continue;
                        }
                        self.unfinished.push(index);
                    }
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::Interrupted => continue,
                    io::ErrorKind::WouldBlock | io::ErrorKind::NotConnected => {}
                    io::ErrorKind::ConnectionRefused => {
                        result = Err(not_there(&self.link, &error));
                    }
                    // Not the network, but what goes over it.
                    io::ErrorKind::Other | io::ErrorKind::InvalidData => {
                        let untrusted = Untrusted::in_error(&error).map(ToString::to_string);
                        let sentence = untrusted.unwrap_or_else(|| error.to_string());
                        let shown = &self.link.shown;
                        result = Err(Failure::unusable(format!("{shown}: {sentence}")));
                    }
                    _ => result = self.closed(index),
                },
            }
            break;
        }
        self.buffer = buffer;
        result
    }

    /// Handles a connection that the server closed.
    fn closed(&mut self, index: usize) -> Result<(), Failure> {
        let connection = &mut self.connections[index];
        let stage = connection.stage;
        let name = &connection.name;
        match (&connection.role, stage) {
            (_, Stage::Connecting | Stage::Joining) => Err(Failure::unusable(format!(
                "{} closed the connection of {name} before it had joined: \
                 is it a server of this protocol (see --dialect), and does it allow so many connections?",
                self.link.shown
            ))),
            (Role::Stalls, _) => {
                connection.close();
                Ok(())
            }
            _ => Err(Failure::lost(format!(
                "the server closed the connection of {name}"
            ))),
        }
    }

    /// Handles bytes that a connection received.
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
        self.tally.take(connection, bytes, &*self.dialect)?;
        if !self.connections[index].out.is_empty() {
            self.write(index)?;
        }
        Ok(())
    }
}

fn not_there(link: &Link, error: &io::Error) -> Failure {
    Failure::unusable(format!("no server answers at {}: {error}", link.shown))
}
