//! One connection of the pool: what it does, and how it gets into the room.

use std::io::Write;

use mio::net::TcpStream;

use crate::{
    dialect::{Dialect, JoinAs, Unit},
    digest::Digest,
    failure::Failure,
    order::Cursor,
};

/// What a member is called.
pub fn name(number: usize) -> String {
    format!("bench{number:05}")
}

/// What a connection does.
pub enum Role {
    /// Receives everything, and is checked.
    Reads(Cursor),
    /// The same, but comes late and goes early.
    Visits(Cursor),
    /// Says things; what it receives is checked at the end. Not kept until then: that
    /// would be all messages once for each sender.
    Sends { number: usize, received: Digest },
    /// Is there and reads what comes, which is nothing.
    Idles,
    /// Never reads.
    Stalls,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Connecting,
    Joining,
    Joined,
    /// It is closed, by us or, where that is no failure, by the server.
    Gone,
}

pub struct Connection {
    pub stream: TcpStream,
    pub stage: Stage,
    pub role: Role,
    pub name: String,
    /// The start of a unit; only before joining and for those who send.
    pub held: Vec<u8>,
    pub out: Vec<u8>,
    pub out_sent: usize,
    /// The server sends no more than what can be read now.
    pub is_ended: bool,
}

impl Connection {
    pub fn close(&mut self) {
        self.stage = Stage::Gone;
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }

    /// Goes through what came before it is in the room; whether it is now.
    pub fn join_step(
        &mut self,
        dialect: &dyn Dialect,
        interval_ms: &mut u32,
    ) -> Result<bool, Failure> {
        let mut used = 0;
        let mut is_joined = false;
        while !is_joined
            && let Some((bytes, unit)) = dialect
                .split(&self.held[used..], join_as(&self.role))
                .map_err(Failure::protocol)?
        {
            used += bytes;
            match unit {
                Unit::Joined { interval_ms: told } => {
                    *interval_ms = told;
                    self.stage = Stage::Joined;
                    is_joined = true;
                }
                Unit::Answer(answer) => {
                    self.out.extend(&answer);
                    // A few bytes on a new connection: the system has room.
                    let sent = self.stream.write(&self.out[self.out_sent..]).unwrap_or(0);
                    self.out_sent += sent;
                }
                Unit::Refused(sentence) => return Err(refused(&self.name, &sentence)),
                Unit::Message(_) | Unit::Other => {}
            }
        }
        self.held.drain(..used);
        Ok(is_joined)
    }
}

pub fn join_as(role: &Role) -> JoinAs {
    match role {
        Role::Sends { .. } => JoinAs::Sender,
        Role::Idles => JoinAs::Idle,
        Role::Reads(_) | Role::Visits(_) | Role::Stalls => JoinAs::Reader,
    }
}

pub fn refused(name: &str, sentence: &str) -> Failure {
    Failure::unusable(format!("the server refuses {name}: {sentence}"))
}
