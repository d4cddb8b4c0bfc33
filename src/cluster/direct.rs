//! Directs between nodes: the text, which goes beside the stream, and what stands in the
//! stream for all nodes to agree on.

use prost::Message;

use crate::{
    session::{DirectKey, RemoteDirect},
    wire,
};

/// A Direct on its way to the node of its recipient.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DirectSent {
    #[prost(string, tag = "1")]
    pub(crate) life: String,
    /// The node of the sender.
    #[prost(string, tag = "2")]
    pub(crate) node: String,
    #[prost(uint64, tag = "3")]
    pub(crate) incarnation: u64,
    #[prost(uint64, tag = "4")]
    pub(crate) ticket: u64,
    /// The session of the sender at its node.
    #[prost(uint32, tag = "5")]
    pub(crate) session: u32,
    /// The id that the sender gave it.
    #[prost(uint64, tag = "6")]
    pub(crate) id: u64,
    /// The incarnation of the recipient's node that is meant.
    #[prost(uint64, tag = "7")]
    pub(crate) to_incarnation: u64,
    /// The name of the recipient.
    #[prost(string, tag = "8")]
    pub(crate) name: String,
    #[prost(message, optional, tag = "9")]
    pub(crate) direct: Option<wire::Direct>,
    /// Which of the Joins of its node has begun the sender's session.
    #[prost(uint64, tag = "10")]
    pub(crate) join_no: u64,
}

impl DirectSent {
    /// A Direct to the incarnation of a node.
    pub(crate) fn of(
        sent: RemoteDirect,
        (session, join_no): (u32, u64),
        life: &str,
        (node, incarnation): (&str, u64),
        to_incarnation: u64,
    ) -> Self {
        Self {
            life: life.to_owned(),
            node: node.to_owned(),
            incarnation,
            ticket: sent.ticket,
            session,
            join_no,
            id: sent.id,
            to_incarnation,
            name: sent.name.as_str().to_owned(),
            direct: Some(sent.direct),
        }
    }

    pub(crate) fn key(&self) -> DirectKey {
        DirectKey {
            node: self.node.clone(),
            incarnation: self.incarnation,
            ticket: self.ticket,
        }
    }

    /// The answer of the recipient's node.
    pub(crate) fn answer(&self, is_accepted: bool) -> DirectAnswer {
        DirectAnswer {
            node: self.node.clone(),
            incarnation: self.incarnation,
            ticket: self.ticket,
            session: self.session,
            join_no: self.join_no,
            id: self.id,
            time_unix_ms: self.direct.as_ref().map_or(0, |it| it.time_unix_ms),
            is_accepted,
        }
    }
}

/// The recipient's node takes a Direct, or not.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct DirectAnswer {
    #[prost(string, tag = "1")]
    pub(crate) node: String,
    #[prost(uint64, tag = "2")]
    pub(crate) incarnation: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) ticket: u64,
    #[prost(uint32, tag = "4")]
    pub(crate) session: u32,
    #[prost(uint64, tag = "5")]
    pub(crate) id: u64,
    #[prost(int64, tag = "6")]
    pub(crate) time_unix_ms: i64,
    #[prost(bool, tag = "7")]
    pub(crate) is_accepted: bool,
    #[prost(uint64, tag = "8")]
    pub(crate) join_no: u64,
}

impl DirectAnswer {
    pub(crate) fn key(&self) -> DirectKey {
        DirectKey {
            node: self.node.clone(),
            incarnation: self.incarnation,
            ticket: self.ticket,
        }
    }
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
    #[prost(string, tag = "1")]
    pub(crate) node: String,
    #[prost(uint64, tag = "2")]
    pub(crate) incarnation: u64,
    #[prost(uint64, tag = "3")]
    pub(crate) ticket: u64,
    #[prost(bool, tag = "4")]
    pub(crate) delivered: bool,
}

impl DirectSettled {
    pub(crate) fn of(key: DirectKey, delivered: bool) -> Self {
        Self {
            node: key.node,
            incarnation: key.incarnation,
            ticket: key.ticket,
            delivered,
        }
    }
}
