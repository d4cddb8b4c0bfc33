//! A session over a blocking socket, for workloads with messages of their own.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use chat::{
    frame::{self, Split},
    wire::{
        self, ClientEnvelope, Registered, ServerEnvelope, client_envelope::Message as Sent,
        server_envelope::Message,
    },
};
use prost::Message as _;

use crate::{client_pool::SILENCE_MS_MAX, failure::Failure};

/// The longest frame accepted from a server, in bytes.
pub const FRAME_BYTES_MAX: u32 = 2 << 20;

/// How many bytes one read takes.
const READ_BYTES: usize = 256 * 1024;

/// A member.
pub struct Session {
    pub stream: TcpStream,
    /// The start of a frame that has not arrived completely, behind what was used.
    held: Vec<u8>,
    used: usize,
}

impl Session {
    /// Connects and registers.
    pub fn join(
        address: SocketAddr,
        register: wire::Register,
    ) -> Result<(Self, Registered), Failure> {
        let stream = TcpStream::connect(address).map_err(|error| {
            Failure::unusable(format!("no server answers at {address}: {error}"))
        })?;
        stream.set_nodelay(true)?;
        let patience = Some(Duration::from_millis(SILENCE_MS_MAX));
        stream.set_read_timeout(patience)?;
        stream.set_write_timeout(patience)?;
        let mut session = Self {
            stream,
            held: Vec::new(),
            used: 0,
        };
        session.send(Sent::Register(register))?;
        loop {
            if let Message::Registered(registered) = session.receive()? {
                return Ok((session, registered));
            }
        }
    }

    pub fn send(&mut self, message: Sent) -> Result<(), Failure> {
        Ok(self.stream.write_all(&framed(message))?)
    }

    /// The next message. Errors of the server are failures.
    pub fn receive(&mut self) -> Result<Message, Failure> {
        loop {
            match frame::split(&self.held[self.used..], FRAME_BYTES_MAX) {
                Ok(Split::Frame { body, rest }) => {
                    let message = decode(body)?;
                    self.used = self.held.len() - rest.len();
                    if let Some(message) = message {
                        return Ok(message);
                    }
                }
                Ok(Split::Partial) => self.read()?,
                Err(error) => return Err(Failure::protocol(error.to_string())),
            }
        }
    }

    fn read(&mut self) -> Result<(), Failure> {
        self.held.drain(..self.used);
        self.used = 0;
        let held_bytes = self.held.len();
        self.held.resize(held_bytes + READ_BYTES, 0);
        let read = self.stream.read(&mut self.held[held_bytes..]);
        self.held
            .truncate(held_bytes + read.as_ref().map_or(0, |&bytes| bytes));
        match read {
            Ok(0) => Err(Failure::lost("the server closed the connection")),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(Failure::lost(format!("nothing more comes: {error}"))),
        }
    }
}

/// The message in a frame, if this program knows it. Errors of the server are failures.
pub fn decode(body: &[u8]) -> Result<Option<Message>, Failure> {
    let envelope =
        ServerEnvelope::decode(body).map_err(|error| Failure::protocol(error.to_string()))?;
    match envelope.message {
        Some(Message::Error(error)) => Err(Failure::unusable(format!(
            "{}: {}",
            error.code().as_str_name(),
            error.detail
        ))),
        message => Ok(message),
    }
}

pub fn framed(message: Sent) -> Vec<u8> {
    ClientEnvelope {
        message: Some(message),
    }
    .encode_length_delimited_to_vec()
}
