//! Dialects: the protocols of the servers that can be measured. A dialect is thin: the
//! bytes with which a client joins, the bytes around a text, and how received bytes
//! split into units.

mod chat;
mod irc;
mod jetstream;
mod mqtt;
mod nats;
mod redis;
mod redis_stream;
mod websocket;

use clap::ValueEnum;

/// The name of the room, in protocols that have more than one.
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
    /// A stream of nats-server in files (JetStream)
    #[value(name = "jetstream")]
    JetStream,
    /// A stream of redis-server
    RedisStream,
    /// A channel of an IRC server
    Irc,
    /// MQTT 3.1.1 with QoS 0
    Mqtt,
    /// Text messages over WebSocket
    #[value(name = "websocket")]
    WebSocket,
}

impl Protocol {
    pub fn dialect(self) -> Box<dyn Dialect> {
        match self {
            Self::Chat => Box::new(chat::Chat),
            Self::Nats => Box::new(nats::Nats),
            Self::Redis => Box::new(redis::Redis),
            Self::JetStream => Box::new(jetstream::JetStream),
            Self::RedisStream => Box::new(redis_stream::RedisStream),
            Self::Irc => Box::new(irc::Irc),
            Self::Mqtt => Box::new(mqtt::Mqtt),
            Self::WebSocket => Box::new(websocket::WebSocket),
        }
    }

    /// How many connections may be joining at a time: fewer than the server's accept
    /// queue holds.
    pub fn joining_max(self) -> usize {
        match self {
            Self::Irc => 8,
            // All ask for the stream, and the first one makes it.
            Self::JetStream => 1,
            _ => 64,
        }
    }

    /// Whether senders also receive what the others send.
    pub fn senders_are_members(self) -> bool {
        matches!(self, Self::Chat | Self::Irc | Self::WebSocket)
    }

    /// Whether members can follow topics.
    pub fn has_topics(self) -> bool {
        self.dialect().join_topics("", &[]).is_some()
    }

    /// Whether all members receive the messages of several senders in one order.
    pub fn has_one_order(self) -> bool {
        matches!(
            self,
            Self::Chat | Self::Redis | Self::JetStream | Self::RedisStream
        )
    }
}

/// What a connection joins for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinAs {
    /// To receive. In protocols that separate the two, it cannot send.
    Reader,
    /// To send. In those protocols, it does not receive.
    Sender,
    /// To stay connected. Where a join is announced to all, it stays out of the room.
    Idle,
}

/// One unit of what a server sends.
pub enum Unit<'a> {
    /// Something that was said.
    Message(Message<'a>),
    /// The connection has joined.
    Joined {
        /// The announced interval between messages, in milliseconds; 0 without a limit.
        interval_ms: u32,
    },
    /// A request, and the answer to it.
    Answer(Vec<u8>),
    /// Anything else.
    Other,
    /// The server refuses something, for this reason.
    Refused(String),
}

/// Something that was said.
pub struct Message<'a> {
    pub text: &'a [u8],
    /// Its position in the order, where the protocol has one.
    pub seq: Option<u64>,
    /// The sender's name, where the protocol tells it.
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

/// A unit and its length in bytes; `None` while it is incomplete.
pub type Split<'a> = Option<(usize, Unit<'a>)>;

/// A server's protocol, from a client's side.
pub trait Dialect {
    /// What a new connection sends first.
    fn join(&self, name: &str, join_as: JoinAs) -> Vec<u8>;

    /// The bytes before and behind a text of this length in a message.
    fn around_text(&self, text_bytes: usize) -> (Vec<u8>, Vec<u8>);

    /// What a new connection sends first that follows these topics alone, or that sends
    /// about topics where there are none here; `None` if the protocol has no topics.
    fn join_topics(&self, _name: &str, _topics: &[usize]) -> Option<Vec<u8>> {
        None
    }

    /// As [`Dialect::around_text`], in a message about a topic.
    fn around_text_about(&self, _topic: usize, text_bytes: usize) -> (Vec<u8>, Vec<u8>) {
        self.around_text(text_bytes)
    }

    /// Whether all members receive a message in the same bytes.
    fn has_same_bytes(&self) -> bool {
        true
    }

    /// What a connection sends last.
    fn leave(&self) -> &'static [u8];

    /// Splits off the first unit. Fails with a sentence if the bytes are not of this
    /// protocol.
    fn split<'a>(&self, bytes: &'a [u8], join_as: JoinAs) -> Result<Split<'a>, String>;
}

/// The name of a topic, of the same length for all.
fn topic_name(topic: usize) -> String {
    format!("t{topic:05}")
}

/// The longest line of a text protocol, in bytes.
const LINE_BYTES_MAX: usize = 8 * 1024;

/// The first line of `bytes` without its line break, and its length with it.
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

/// Parses a decimal number.
fn decimal(digits: &[u8]) -> Result<usize, String> {
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| format!("{:?} is no number", shown(digits)))
}

/// Formats received bytes for people.
pub fn shown(bytes: &[u8]) -> String {
    const SHOWN_BYTES_MAX: usize = 80;
    bytes[..bytes.len().min(SHOWN_BYTES_MAX)]
        .escape_ascii()
        .to_string()
}
