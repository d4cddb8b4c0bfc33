//! Directs between nodes: the text, which goes beside the stream, and what stands in the
//! stream for all nodes to agree on.

use prost::Message;

use crate::{
    session::{DirectKey, RemoteDirect},
    wire,
};

/// [`DirectKey`].
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Key {
    #[prost(string, tag = "1")]
    pub(crate) node: String,
    #[prost(uint64, tag = "2")]
    pub(crate) incarnation: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) ticket: u64,
}

impl From<DirectKey> for Key {
    fn from(key: DirectKey) -> Self {
        Self {
            node: key.node,
            incarnation: key.incarnation,
            ticket: key.ticket,
        }
    }
}

impl From<Key> for DirectKey {
    fn from(key: Key) -> Self {
        Self {
            node: key.node,
            incarnation: key.incarnation,
            ticket: key.ticket,
        }
    }
}

/// Who has sent a Direct.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Origin {
    #[prost(message, required, tag = "1")]
    pub(crate) key: Key,
    /// The session of the sender at its node.
    #[prost(uint32, tag = "2")]
    pub(crate) session: u32,
    /// Which of the Joins of its node has begun that session.
    #[prost(uint64, tag = "3")]
    pub(crate) join_no: u64,
    /// The id that the sender gave the Direct.
    #[prost(uint64, tag = "4")]
    pub(crate) id: u64,
}

/// A Direct on its way to the node of its recipient.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DirectSent {
    #[prost(string, tag = "1")]
    pub(crate) life: String,
    #[prost(message, required, tag = "2")]
    pub(crate) origin: Origin,
    /// The incarnation of the recipient's node that is meant.
    #[prost(uint64, tag = "3")]
    pub(crate) to_incarnation: u64,
    /// The name of the recipient.
    #[prost(string, tag = "4")]
    pub(crate) name: String,
    #[prost(message, required, tag = "5")]
    pub(crate) direct: wire::Direct,
    /// How far in the stream its node was. The recipient's node may not be as far: then it
    /// does not know yet who is there.
    #[prost(uint64, tag = "6")]
    pub(crate) position: u64,
}

impl DirectSent {
    /// A Direct to the incarnation of a node, from one that is so far in the stream of a life.
    pub(crate) fn of(
        sent: RemoteDirect,
        (session, join_no): (u32, u64),
        (life, position): (&str, u64),
        (node, incarnation): (&str, u64),
        to_incarnation: u64,
    ) -> Self {
        Self {
            life: life.to_owned(),
            position,
            origin: Origin {
                key: Key {
                    node: node.to_owned(),
                    incarnation,
                    ticket: sent.ticket,
                },
                session,
                join_no,
                id: sent.id,
            },
            to_incarnation,
            name: sent.name.as_str().to_owned(),
            direct: sent.direct,
        }
    }
}

/// A Direct of the record's node looks for its recipient, at this place in the order.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct DirectAsked {
    #[prost(uint64, tag = "1")]
    pub(crate) ticket: u64,
}

/// The recipient's node takes a Direct, or not.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct DirectAnswer {
    #[prost(message, required, tag = "1")]
    pub(crate) origin: Origin,
    #[prost(int64, tag = "2")]
    pub(crate) time_unix_ms: i64,
    #[prost(bool, tag = "3")]
    pub(crate) is_accepted: bool,
}

/// A Direct of the record's node had no answer for too long.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct DirectGivenUp {
    #[prost(uint64, tag = "1")]
    pub(crate) ticket: u64,
}

/// What became of a Direct that was accepted.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct DirectSettled {
    #[prost(message, required, tag = "1")]
    pub(crate) key: Key,
    #[prost(bool, tag = "2")]
    pub(crate) delivered: bool,
}
