//! Records: what nodes tell each other through the stream, as bytes. Internal: all nodes of
//! a cluster run the same version, so this is no part of the contract.

use std::fmt;

use prost::{Message, Oneof};

use super::{
    direct::{DirectAnswer, DirectAsked, DirectGivenUp, DirectSettled},
    operate::Operate,
};

use crate::{
    identity::PublicKey,
    name::Name,
    room::{Claim, Command, JoinKey, JoinLine, MemberId, Ownership, Token},
    session::Operation,
    text::Text,
    wire::{File, LeftReason},
};

/// How many bans and mutes of an earlier epoch one item has: less than a batch, however
/// long their reasons are.
const CARRIED_BANS_MAX: usize = 500;

/// What one node publishes at once. Without items it is a heartbeat.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Record {
    /// The life of the engine that its node was connected to.
    #[prost(string, tag = "1")]
    pub(crate) life: String,
    /// The name of the node.
    #[prost(string, tag = "2")]
    pub(crate) node: String,
    /// Rises each time the node begins again.
    #[prost(uint64, tag = "3")]
    pub(crate) incarnation: u64,
    /// From 1, without gaps in an incarnation: a record that comes twice counts once.
    #[prost(uint64, tag = "4")]
    pub(crate) batch_no: u64,
    /// When it was made, in milliseconds since 1970-01-01T00:00:00Z.
    #[prost(int64, tag = "5")]
    pub(crate) time_unix_ms: i64,
    /// What is to be done, in order.
    #[prost(message, repeated, tag = "6")]
    pub(crate) items: Vec<Item>,
}

/// One thing to do.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Item {
    #[prost(
        oneof = "Kind",
        tags = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15"
    )]
    pub(crate) kind: Option<Kind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(crate) enum Kind {
    #[prost(message, tag = "1")]
    Join(Join),
    #[prost(message, tag = "2")]
    Chat(Chat),
    #[prost(message, tag = "3")]
    Leave(Leave),
    /// Another node has gone.
    #[prost(message, tag = "4")]
    NodeDown(NodeDown),
    /// The node of this record goes.
    #[prost(message, tag = "5")]
    Goodbye(Goodbye),
    #[prost(message, tag = "6")]
    Direct(Direct),
    /// A checkpoint was written.
    #[prost(message, tag = "7")]
    Checkpoint(CheckpointWritten),
    /// The operator does something.
    #[prost(message, tag = "8")]
    Operate(Operate),
    /// Directs between nodes.
    #[prost(message, tag = "9")]
    DirectAnswer(DirectAnswer),
    #[prost(message, tag = "10")]
    DirectGivenUp(DirectGivenUp),
    #[prost(message, tag = "11")]
    DirectSettled(DirectSettled),
    #[prost(message, tag = "12")]
    DirectAsked(DirectAsked),
    /// The holder of a name is to be probed (CHAT-NAME-7).
    #[prost(message, tag = "13")]
    NameAsked(CheckedName),
    /// It has answered, or cannot be probed.
    #[prost(message, tag = "14")]
    NameAnswered(CheckedName),
    /// Bans and mutes of an earlier epoch.
    #[prost(message, tag = "15")]
    CarriedBans(CarriedBans),
}

/// A part of the bans and mutes that a node has from an earlier epoch.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct CarriedBans {
    /// How many changes of them it knows: the bans of a node that knows more are newer.
    #[prost(uint64, tag = "1")]
    pub(crate) changes: u64,
    /// Those that set them.
    #[prost(message, repeated, tag = "2")]
    pub(crate) operations: Vec<Operate>,
    #[prost(bool, tag = "3")]
    pub(crate) is_last: bool,
}

impl CarriedBans {
    /// The parts, in order.
    pub(crate) fn parts(changes: u64, operations: Vec<Operation>) -> Vec<Self> {
        let operations: Vec<_> = operations
            .into_iter()
            .map(|operation| Operate::of(operation, 0))
            .collect();
        let parts = operations.chunks(CARRIED_BANS_MAX).map(|part| Self {
            changes,
            operations: part.to_vec(),
            is_last: false,
        });
        let mut parts: Vec<_> = parts.collect();
        if let Some(last) = parts.last_mut() {
            last.is_last = true;
        }
        parts
    }
}

/// A name that another client has asked for.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct CheckedName {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
}

impl CheckedName {
    pub(crate) fn of(name: &Name) -> Self {
        Self {
            name: name.as_str().to_owned(),
        }
    }
}

/// [`Command::Join`]. `session` names a session of the record's node.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Join {
    #[prost(uint32, tag = "1")]
    pub(crate) session: u32,
    #[prost(string, tag = "2")]
    pub(crate) name: String,
    #[prost(int64, tag = "3")]
    pub(crate) time_unix_ms: i64,
    /// The token of a session that can be resumed; empty for another.
    #[prost(bytes = "vec", tag = "4")]
    pub(crate) token: Vec<u8>,
    #[prost(message, optional, tag = "5")]
    pub(crate) claim: Option<ClaimedLine>,
    #[prost(message, optional, tag = "6")]
    pub(crate) key: Option<ProvedKey>,
}

/// The key that a member has proved.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct ProvedKey {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    /// 0: known, 1: the first proof counts, 2: the operator says so.
    #[prost(uint32, tag = "2")]
    pub(crate) ownership: u32,
}

impl ProvedKey {
    fn of(key: &JoinKey) -> Self {
        Self {
            key: key.key.as_bytes().to_vec(),
            ownership: match key.ownership {
                Ownership::Known => 0,
                Ownership::FirstProof => 1,
                Ownership::Operator => 2,
            },
        }
    }

    fn key(&self) -> Option<Box<JoinKey>> {
        Some(Box::new(JoinKey {
            key: PublicKey::from_bytes(&self.key)?,
            ownership: match self.ownership {
                1 => Ownership::FirstProof,
                2 => Ownership::Operator,
                _ => Ownership::Known,
            },
        }))
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ClaimedLine {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) token: Vec<u8>,
    #[prost(string, tag = "2")]
    pub(crate) epoch: String,
    #[prost(uint64, tag = "3")]
    pub(crate) seq: u64,
    #[prost(uint32, tag = "4")]
    pub(crate) attempt: u32,
}

/// [`Command::Chat`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Chat {
    #[prost(uint32, tag = "1")]
    pub(crate) session: u32,
    #[prost(string, tag = "2")]
    pub(crate) text: String,
    #[prost(uint64, tag = "3")]
    pub(crate) id: u64,
    #[prost(int64, tag = "4")]
    pub(crate) time_unix_ms: i64,
    #[prost(string, tag = "5")]
    pub(crate) topic: String,
    #[prost(string, repeated, tag = "6")]
    pub(crate) mentions: Vec<String>,
    #[prost(message, repeated, tag = "7")]
    pub(crate) files: Vec<File>,
}

/// [`Command::Direct`]: the id alone, since its text stays at the node.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Direct {
    #[prost(uint32, tag = "1")]
    pub(crate) session: u32,
    #[prost(uint64, tag = "2")]
    pub(crate) id: u64,
    #[prost(int64, tag = "3")]
    pub(crate) time_unix_ms: i64,
}

/// [`Command::Leave`].
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Leave {
    #[prost(uint32, tag = "1")]
    pub(crate) session: u32,
    #[prost(int32, tag = "2")]
    pub(crate) reason: i32,
    #[prost(int64, tag = "3")]
    pub(crate) time_unix_ms: i64,
}

/// A node has gone, unless a record of it behind `last_batch` stands before this one.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct NodeDown {
    #[prost(string, tag = "1")]
    pub(crate) node: String,
    #[prost(uint64, tag = "2")]
    pub(crate) incarnation: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) last_batch: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct Goodbye {}

/// The engine has a checkpoint of this position, whole.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct CheckpointWritten {
    #[prost(uint64, tag = "1")]
    pub(crate) position: u64,
}

impl fmt::Display for Record {
    /// Which one it is.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            node,
            incarnation,
            batch_no,
            ..
        } = self;
        write!(f, "{node}/{incarnation}/{batch_no}")
    }
}

impl From<Kind> for Item {
    fn from(kind: Kind) -> Self {
        Self { kind: Some(kind) }
    }
}

impl Item {
    /// A command of a session of this node. `None` for one that is of no concern to other
    /// nodes.
    pub(crate) fn of(command: Command) -> Option<Self> {
        let kind = match command {
            Command::Join {
                member,
                name,
                time_unix_ms,
                resume,
                key,
            } => {
                let (token, claim) = match resume {
                    Some(line) => (line.token.to_vec(), line.claim),
                    None => (Vec::new(), None),
                };
                Kind::Join(Join {
                    session: member.0,
                    name: name.as_str().to_owned(),
                    time_unix_ms,
                    token,
                    claim: claim.map(|claim| ClaimedLine {
                        token: claim.token,
                        epoch: claim.epoch,
                        seq: claim.seq,
                        attempt: claim.attempt,
                    }),
                    key: key.as_deref().map(ProvedKey::of),
                })
            }
            Command::Chat {
                member,
                text,
                topic,
                mentions,
                files,
                id,
                time_unix_ms,
            } => Kind::Chat(Chat {
                session: member.0,
                text: text.into_string(),
                id,
                time_unix_ms,
                topic,
                mentions,
                files,
            }),
            Command::Direct {
                member,
                id,
                time_unix_ms,
            } => Kind::Direct(Direct {
                session: member.0,
                id,
                time_unix_ms,
            }),
            Command::Leave {
                member,
                reason,
                time_unix_ms,
            } => Kind::Leave(Leave {
                session: member.0,
                reason: reason.into(),
                time_unix_ms,
            }),
            // Each node has its own past, and what the operator does is an operation.
            Command::Prune { .. } | Command::Say { .. } | Command::Remove { .. } => return None,
        };
        Some(kind.into())
    }
}

impl Kind {
    /// The session that it is a command of.
    pub(crate) fn session(&self) -> Option<u32> {
        match self {
            Self::Join(Join { session, .. })
            | Self::Chat(Chat { session, .. })
            | Self::Direct(Direct { session, .. })
            | Self::Leave(Leave { session, .. }) => Some(*session),
            _ => None,
        }
    }

    /// The command, of the session that is `member` here. `None` if it is none, or one
    /// that no node makes.
    pub(crate) fn command(self, member: MemberId) -> Option<Command> {
        Some(match self {
            Self::Join(join) => Command::Join {
                member,
                name: Name::parse(&join.name).ok()?,
                time_unix_ms: join.time_unix_ms,
                resume: Token::try_from(join.token).ok().map(|token| {
                    let claim = join.claim.map(|claim| Claim {
                        token: claim.token,
                        epoch: claim.epoch,
                        seq: claim.seq,
                        attempt: claim.attempt,
                    });
                    Box::new(JoinLine { token, claim })
                }),
                key: join.key.and_then(|key| key.key()),
            },
            Self::Chat(chat) => Command::Chat {
                member,
                text: Text::parse(chat.text, u32::MAX).ok()?,
                topic: chat.topic,
                mentions: chat.mentions,
                files: chat.files,
                id: chat.id,
                time_unix_ms: chat.time_unix_ms,
            },
            Self::Direct(direct) => Command::Direct {
                member,
                id: direct.id,
                time_unix_ms: direct.time_unix_ms,
            },
            Self::Leave(leave) => Command::Leave {
                member,
                reason: LeftReason::try_from(leave.reason).ok()?,
                time_unix_ms: leave.time_unix_ms,
            },
            _ => return None,
        })
    }
}
