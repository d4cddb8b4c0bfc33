//! Room events: the result of applying a command.

use crate::{
    log::Audience,
    name::Name,
    wire::{ResumeFailure, ServerEnvelope, server_envelope::Message},
};

use super::{MemberId, Sent};

/// The result of one command.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// The member has joined.
    Joined {
        /// The member whose session it continues, if that was open (CHAT-RES-5).
        replaced: Option<Box<Replaced>>,
        /// What became of the line that it claimed; `None` if it claimed none.
        claimed: Option<Claimed>,
        /// The message to the others.
        published: Publication,
    },
    /// Another member holds the name; nothing has changed (CHAT-NAME-3).
    NameTaken,
    /// Another key owns the name; nothing has changed (CHAT-ID-8).
    NameOwned,
    /// A later Register has resumed the claimed line already; nothing has changed
    /// (CHAT-RES-6).
    Replaced,
    /// The chat was accepted.
    Accepted {
        /// Its number (CHAT-ORD-1).
        seq: u64,
        /// When it was received, in milliseconds since 1970-01-01T00:00:00Z.
        time_unix_ms: i64,
        /// The message to the others.
        published: Publication,
    },
    /// This chat was accepted from the member's line before (CHAT-RES-11).
    Repeated(Sent),
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
    /// The messages to publish, in order.
    pub fn publications(&self) -> impl Iterator<Item = &Publication> {
        let (first, second) = match self {
            Self::Joined {
                replaced,
                published,
                ..
            } => (replaced.as_ref().map(|it| &it.published), Some(published)),
            Self::Accepted { published, .. } | Self::Left { published, .. } => {
                (None, Some(published))
            }
            Self::NameTaken
            | Self::NameOwned
            | Self::Replaced
            | Self::Repeated(_)
            | Self::Ignored => (None, None),
        };
        first.into_iter().chain(second)
    }
}

/// A member that has left because a new one continues its session.
#[derive(Debug, PartialEq)]
pub struct Replaced {
    /// The member, which is gone.
    pub member: MemberId,
    /// Its name.
    pub name: Name,
    /// How many of its chats were accepted.
    pub chats: u64,
    /// The message to the others.
    pub published: Publication,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claimed {
    /// The line goes on, with this chat first (CHAT-RES-8).
    Resumed {
        /// The number of the first chat to send.
        from_seq: u64,
    },
    /// A new line has begun, for this reason (CHAT-RES-10).
    Failed(ResumeFailure),
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
