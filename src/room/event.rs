//! Room events: the result of applying a command.

use crate::{
    log::Audience,
    name::Name,
    wire::{ServerEnvelope, server_envelope::Message},
};

/// The result of one command.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// The member has joined; the others receive Joined.
    Joined(Publication),
    /// Another member holds the name; nothing has changed (CHAT-NAME-3).
    NameTaken,
    /// The chat was accepted.
    Accepted {
        /// Its number (CHAT-ORD-1).
        seq: u64,
        /// When it was received, in milliseconds since 1970-01-01T00:00:00Z.
        time_unix_ms: i64,
        /// The message to the others.
        published: Publication,
    },
    /// The member has left.
    Left {
        /// Its name, which is free now.
        name: Name,
        /// How many of its chats were accepted.
        chats: u64,
        /// The message to the others.
        published: Publication,
    },
    /// The command names no member; nothing has changed.
    Ignored,
}

impl Event {
    /// The message to publish, if there is one.
    pub fn publication(&self) -> Option<&Publication> {
        match self {
            Self::Joined(published)
            | Self::Accepted { published, .. }
            | Self::Left { published, .. } => Some(published),
            Self::NameTaken | Self::Ignored => None,
        }
    }
}

/// A message for all members in its audience, except the member that caused it.
#[derive(Debug, PartialEq)]
pub struct Publication {
    /// The members that receive it.
    pub audience: Audience,
    /// The message.
    pub envelope: ServerEnvelope,
}

impl Publication {
    pub(crate) fn new(audience: Audience, message: Message) -> Self {
        let envelope = ServerEnvelope {
            message: Some(message),
        };
        Self { audience, envelope }
    }
}
