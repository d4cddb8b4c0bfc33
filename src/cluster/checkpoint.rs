//! Checkpoints: what all nodes agree on at one position of the stream, as bytes. A newcomer
//! takes one and applies the records behind it, so that the stream need not be kept from
//! its beginning.

use std::collections::{BTreeMap, VecDeque};

use prost::Message;

use crate::{
    identity::{PublicKey, SenderId},
    name::Name,
    room::{Line, LineId, MemberId, MemberState, Owner, Sent, Snapshot, Token},
    session::Operation,
};

use super::{
    operate::Operate,
    replica::{Node, Replica, Session},
};

#[derive(Clone, PartialEq, Message)]
struct Checkpoint {
    #[prost(string, repeated, tag = "1")]
    past_lives: Vec<String>,
    #[prost(message, repeated, tag = "2")]
    nodes: Vec<CheckpointNode>,
    #[prost(string, tag = "3")]
    epoch: String,
    #[prost(uint64, tag = "4")]
    seq: u64,
    #[prost(message, repeated, tag = "5")]
    members: Vec<CheckpointMember>,
    #[prost(message, repeated, tag = "6")]
    lines: Vec<CheckpointLine>,
    #[prost(uint64, tag = "7")]
    next_line: u64,
    #[prost(message, repeated, tag = "8")]
    owners: Vec<CheckpointOwner>,
    /// Those that set the bans and mutes.
    #[prost(message, repeated, tag = "9")]
    operations: Vec<Operate>,
    #[prost(uint64, tag = "10")]
    ban_changes: u64,
    #[prost(uint64, tag = "11")]
    carried_ban_changes: u64,
}

#[derive(Clone, PartialEq, Message)]
struct CheckpointNode {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    incarnation: u64,
    #[prost(uint64, tag = "3")]
    last_batch: u64,
    #[prost(bool, tag = "4")]
    is_down: bool,
    /// Its sessions that are members, and which of the members each is.
    #[prost(uint32, repeated, tag = "5")]
    sessions: Vec<u32>,
    #[prost(uint32, repeated, tag = "6")]
    members: Vec<u32>,
    /// Which of the Joins of the node has begun each.
    #[prost(uint64, repeated, tag = "7")]
    join_nos: Vec<u64>,
    #[prost(uint64, tag = "8")]
    joins: u64,
}

#[derive(Clone, PartialEq, Message)]
struct CheckpointMember {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(uint64, tag = "2")]
    chats: u64,
    #[prost(uint64, optional, tag = "3")]
    line: Option<u64>,
    #[prost(bytes = "vec", tag = "4")]
    sender_id: Vec<u8>,
    #[prost(bool, tag = "5")]
    is_owner: bool,
}

#[derive(Clone, PartialEq, Message)]
struct CheckpointLine {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(bytes = "vec", repeated, tag = "3")]
    tokens: Vec<Vec<u8>>,
    #[prost(uint32, tag = "4")]
    attempt: u32,
    #[prost(uint64, tag = "5")]
    began_seq: u64,
    #[prost(int64, tag = "6")]
    seen_unix_ms: i64,
    #[prost(message, repeated, tag = "7")]
    sent: Vec<CheckpointSent>,
}

#[derive(Clone, PartialEq, Message)]
struct CheckpointSent {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(uint64, tag = "2")]
    seq: u64,
    #[prost(int64, tag = "3")]
    time_unix_ms: i64,
}

#[derive(Clone, PartialEq, Message)]
struct CheckpointOwner {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(bytes = "vec", tag = "2")]
    key: Vec<u8>,
    #[prost(int64, tag = "3")]
    used_unix_ms: i64,
}

/// The checkpoint of a replica whose room is as `room` says, and whose bans and mutes
/// `operations` set.
pub(crate) fn encode(replica: &Replica, room: Snapshot, operations: Vec<Operation>) -> Vec<u8> {
    let index_of: BTreeMap<MemberId, u32> =
        (0..).zip(&room.members).map(|(i, it)| (it.id, i)).collect();
    let node = |(name, node): (&String, &Node)| {
        let members = node.members.iter();
        let (sessions, (members, join_nos)) = members
            .filter_map(|(session, it)| Some((*session, (*index_of.get(&it.member)?, it.join_no))))
            .unzip();
        CheckpointNode {
            name: name.clone(),
            incarnation: node.incarnation,
            last_batch: node.last_batch,
            is_down: node.is_down,
            sessions,
            members,
            join_nos,
            joins: node.joins,
        }
    };
    let checkpoint = Checkpoint {
        past_lives: replica.past_lives.iter().cloned().collect(),
        nodes: replica.nodes().iter().map(node).collect(),
        epoch: room.epoch,
        seq: room.seq,
        members: room.members.into_iter().map(Into::into).collect(),
        lines: room.lines.into_iter().map(Into::into).collect(),
        next_line: room.next_line,
        owners: room.owners.into_iter().map(Into::into).collect(),
        operations: operations
            .into_iter()
            .map(|operation| Operate::of(operation, 0))
            .collect(),
        ban_changes: replica.ban_changes,
        carried_ban_changes: replica.carried_ban_changes,
    };
    checkpoint.encode_to_vec()
}

/// The replica and the room of a checkpoint of this life, and the operations that set its
/// bans and mutes; all members are those of other nodes. `None` if it is none.
pub(crate) fn decode(life: &str, bytes: &[u8]) -> Option<(Replica, Snapshot, Vec<Operation>)> {
    let checkpoint = Checkpoint::decode(bytes).ok()?;
    let mut replica = Replica::new(life);
    replica.past_lives = checkpoint.past_lives.into();
    replica.ban_changes = checkpoint.ban_changes;
    replica.carried_ban_changes = checkpoint.carried_ban_changes;
    // Each member is that of one session.
    let mut is_taken = vec![false; checkpoint.members.len()];
    for node in checkpoint.nodes {
        let mut members = BTreeMap::new();
        let sessions = node.sessions.into_iter().zip(node.members);
        for ((session, index), join_no) in sessions.zip(node.join_nos) {
            let is_taken = is_taken.get_mut(index as usize)?;
            if std::mem::replace(is_taken, true) {
                return None;
            }
            let member = MemberId(MemberId::ELSEWHERE | index);
            members.insert(session, Session { member, join_no });
        }
        let state = Node {
            incarnation: node.incarnation,
            last_batch: node.last_batch,
            is_down: node.is_down,
            joins: node.joins,
            members,
        };
        replica.nodes.insert(node.name, state);
    }
    if is_taken.contains(&false) {
        return None;
    }
    replica.next_id = u32::try_from(is_taken.len()).ok()?;
    let members = (0..).zip(checkpoint.members);
    let members =
        members.map(|(index, member)| member.state(MemberId(MemberId::ELSEWHERE | index)));
    let snapshot = Snapshot {
        epoch: checkpoint.epoch,
        seq: checkpoint.seq,
        members: members.collect::<Option<_>>()?,
        lines: checkpoint
            .lines
            .into_iter()
            .map(CheckpointLine::line)
            .collect::<Option<_>>()?,
        next_line: checkpoint.next_line,
        owners: checkpoint
            .owners
            .into_iter()
            .map(CheckpointOwner::owner)
            .collect::<Option<_>>()?,
    };
    let operations = checkpoint.operations.into_iter();
    let operations = operations.map(Operate::operation);
    Some((replica, snapshot, operations.collect::<Option<_>>()?))
}

impl From<MemberState> for CheckpointMember {
    fn from(member: MemberState) -> Self {
        Self {
            name: member.name.as_str().to_owned(),
            chats: member.chats,
            line: member.line.map(|line| line.0),
            sender_id: member
                .sender_id
                .map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
            is_owner: member.is_owner,
        }
    }
}

impl CheckpointMember {
    fn state(self, id: MemberId) -> Option<MemberState> {
        Some(MemberState {
            id,
            name: Name::parse(&self.name).ok()?,
            chats: self.chats,
            line: self.line.map(LineId),
            sender_id: SenderId::from_bytes(&self.sender_id),
            is_owner: self.is_owner,
        })
    }
}

impl From<(LineId, Line)> for CheckpointLine {
    fn from((id, line): (LineId, Line)) -> Self {
        let sent = line.sent.into_iter().map(|sent| CheckpointSent {
            id: sent.id,
            seq: sent.seq,
            time_unix_ms: sent.time_unix_ms,
        });
        Self {
            id: id.0,
            name: line.name.as_str().to_owned(),
            tokens: line.tokens.iter().map(|token| token.to_vec()).collect(),
            attempt: line.attempt,
            began_seq: line.began_seq,
            seen_unix_ms: line.seen_unix_ms,
            sent: sent.collect(),
        }
    }
}

impl CheckpointLine {
    fn line(self) -> Option<(LineId, Line)> {
        let tokens = self.tokens.into_iter().map(|it| Token::try_from(it).ok());
        let sent = self.sent.into_iter().map(|sent| Sent {
            id: sent.id,
            seq: sent.seq,
            time_unix_ms: sent.time_unix_ms,
        });
        let line = Line::restored(
            Name::parse(&self.name).ok()?,
            tokens.collect::<Option<VecDeque<_>>>()?,
            self.attempt,
            self.began_seq,
            self.seen_unix_ms,
            sent.collect(),
        );
        Some((LineId(self.id), line))
    }
}

impl From<(Name, Owner)> for CheckpointOwner {
    fn from((name, owner): (Name, Owner)) -> Self {
        Self {
            name: name.as_str().to_owned(),
            key: owner.key.as_bytes().to_vec(),
            used_unix_ms: owner.used_unix_ms,
        }
    }
}

impl CheckpointOwner {
    fn owner(self) -> Option<(Name, Owner)> {
        let owner = Owner {
            key: PublicKey::from_bytes(&self.key)?,
            used_unix_ms: self.used_unix_ms,
        };
        Some((Name::parse(&self.name).ok()?, owner))
    }
}
