//! One connection of the client pool: its role, and how it joins the room.

use std::io::Write;

use crate::{
    dialect::{Dialect, JoinAs, Unit},
    digest::Digest,
    failure::Failure,
    follow::Follower,
    order::Cursor,
    stream::Stream,
};

/// The name of a member.
pub fn name(number: usize) -> String {
    format!("bench{number:05}")
}

/// What a connection does in the run.
pub enum Role {
    /// Receives every message and is checked.
    Reads(Cursor),
    /// Like [`Role::Reads`], but joins late and leaves early.
    Visits(Cursor),
    /// Sends. What it receives is digested and checked at the end: to keep it would
    /// take all messages once for each sender.
    Sends { number: usize, received: Digest },
    /// Stays connected and reads, though nothing is sent.
    Idles,
    /// Never reads.
    Stalls,
    /// Receives the messages about some topics, and is checked.
    Follows(Follower),
}

impl Role {
    /// The topics that it follows.
    pub fn topics(&self) -> &[usize] {
        match self {
            Self::Follows(follower) => &follower.topics,
            _ => &[],
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    Connecting,
    Joining,
    Joined,
    /// Closed, by this program or, where that is no failure, by the server.
    Gone,
}

pub struct Connection {
    pub stream: Stream,
    pub stage: Stage,
    pub role: Role,
    pub name: String,
    /// The start of a unit that is not complete; used before joining and by senders.
    pub held: Vec<u8>,
    pub out: Vec<u8>,
    pub out_sent: usize,
    /// The server has shut down its side: what can be read now is the last.
    pub is_ended: bool,
}

impl Connection {
    pub fn close(&mut self) {
        self.stage = Stage::Gone;
        self.stream.close();
    }

    /// Handles bytes that arrive before the connection has joined. Returns whether it
    /// has joined now.
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
                    // A new connection's buffer has room for a few bytes.
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
        Role::Reads(_) | Role::Visits(_) | Role::Follows(_) | Role::Stalls => JoinAs::Reader,
    }
}

pub fn refused(name: &str, sentence: &str) -> Failure {
    Failure::unusable(format!("the server refused {name}: {sentence}"))
}
