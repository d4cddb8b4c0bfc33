//! How the servers that can be measured want to be spoken to. A dialect is thin:
//! what a client sends to get into the room, what stands around a text, and how
//! what comes back splits into units.

mod chat;
mod irc;
mod mqtt;
mod nats;
mod redis;

use clap::ValueEnum;

/// The room, in the protocols that have more than one.
const ROOM: &str = "bench";

/// A server's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// chat.v1, as proto/chat.proto has it
    Chat,
    /// The text protocol of nats-server
    Nats,
    /// Publish and subscribe of redis-server
    Redis,
    /// A channel of an IRC server
    Irc,
    /// MQTT 3.1.1 with QoS 0
    Mqtt,
}

impl Protocol {
    pub fn dialect(self) -> Box<dyn Dialect> {
        match self {
            Self::Chat => Box::new(chat::Chat),
            Self::Nats => Box::new(nats::Nats),
            Self::Redis => Box::new(redis::Redis),
            Self::Irc => Box::new(irc::Irc),
            Self::Mqtt => Box::new(mqtt::Mqtt),
        }
    }

    /// How many connections may be on their way into the room at a time: fewer than
    /// the server lets the system hold for it.
    pub fn joining_max(self) -> usize {
        match self {
            Self::Irc => 8,
            _ => 64,
        }
    }

    /// Whether those who send also receive what the others send.
    pub fn senders_are_members(self) -> bool {
        matches!(self, Self::Chat | Self::Irc)
    }

    /// Whether all members see the messages of several senders in one order.
    pub fn has_one_order(self) -> bool {
        matches!(self, Self::Chat | Self::Redis)
    }
}

/// What a connection is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinAs {
    /// Reads what is said. In the protocols that separate the two, says nothing.
    Reader,
    /// Says things. In those protocols, hears nothing.
    Sender,
    /// Is there. Where a newcomer is announced to all, stays out of the room.
    Idle,
}

/// What the start of a run of bytes holds.
pub enum Unit<'a> {
    /// Something that was said.
    Message(Message<'a>),
    /// The connection is in the room.
    Joined {
        /// How long the server makes a member wait between messages; 0: not at all.
        interval_ms: u32,
    },
    /// Something that is to be answered like this.
    Answer(Vec<u8>),
    /// Something that means nothing here.
    Other,
    /// The server refuses, for this reason.
    Refused(String),
}

/// Something that was said.
pub struct Message<'a> {
    pub text: &'a [u8],
    /// Its place in the order, where the protocol has one.
    pub seq: Option<u64>,
    /// The name of who said it, where the protocol tells.
    pub sender: Option<&'a [u8]>,
}

impl<'a> Message<'a> {
    fn of_text(text: &'a [u8]) -> Unit<'a> {
        Unit::Message(Self {
            text,
            seq: None,
            sender: None,
        })
    }
}

/// One unit and the bytes it takes; `None` while it is not whole.
pub type Split<'a> = Option<(usize, Unit<'a>)>;

/// A server's protocol, from a client's side.
pub trait Dialect {
    /// What a new connection sends first.
    fn join(&self, name: &str, join_as: JoinAs) -> Vec<u8>;

    /// What stands before and behind a text of this length to publish it.
    fn around_text(&self, text_bytes: usize) -> (Vec<u8>, Vec<u8>);

    /// What a connection sends last.
    fn leave(&self) -> &'static [u8];

    /// Splits the first unit off. An error is a sentence: these bytes are not of
    /// this protocol.
    fn split<'a>(&self, bytes: &'a [u8], join_as: JoinAs) -> Result<Split<'a>, String>;
}

/// The longest line of a text protocol that is waited for, in bytes.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// The first line of `bytes` without its end, and the bytes it takes.
fn line(bytes: &[u8]) -> Result<Option<(usize, &[u8])>, String> {
    match bytes.iter().position(|&byte| byte == b'\n') {
        Some(end) => {
            let line = &bytes[..end];
            Ok(Some((end + 1, line.strip_suffix(b"\r").unwrap_or(line))))
        }
        None if bytes.len() > LINE_BYTES_MAX => Err("a line does not end".to_owned()),
        None => Ok(None),
    }
}

/// A number in decimal digits.
fn decimal(digits: &[u8]) -> Result<usize, String> {
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| format!("{:?} is no number", shown(digits)))
}

/// Bytes of a peer as a person can read them.
pub fn shown(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 80;
    bytes[..bytes.len().min(SHOWN_BYTES_MAX)]
        .escape_ascii()
        .to_string()
}
