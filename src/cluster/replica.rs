//! Replica: the rules by which each node applies the records of the stream, so that all
//! apply the same commands. Pure.
//!
//! - A record counts if it is the next one of its node's incarnation. So one that comes
//!   twice counts once, and one that comes late does not count.
//! - The first record of a higher incarnation of a node, and NodeDown, end the sessions of
//!   the earlier one, of which nothing more counts.
//! - The first record of another life of the engine begins another room, since what the
//!   engine had acknowledged may be lost. Records of earlier lives do not count any more.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    room::{Command, MemberId},
    wire::LeftReason,
};

use super::record::{Item, Kind, NodeDown, Record};

/// How many earlier lives of the engine are remembered: a record of one that is forgotten
/// would have to be on its way for that many restarts.
const PAST_LIVES_MAX: usize = 64;

/// How many nodes are remembered, those that went included.
const NODES_MAX: usize = 256;

/// Where the commands of a replica go: the room of a node.
pub(crate) trait Rooms {
    /// Begins a room without members.
    fn begin_room(&mut self, epoch: String);

    /// Applies a command to it. `connection`: of this node, whose session made it.
    fn apply(&mut self, command: Command, connection: Option<usize>) -> Outcome;
}

/// What became of a command, as far as the replica must know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There is a new member, perhaps in the place of another.
    Joined { replaced: Option<MemberId> },
    /// The member is gone.
    Left,
    /// Neither.
    Other,
}

/// What a record was to this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Applied {
    /// It did not count.
    Ignored,
    /// It counted; it was made by another node.
    Other,
    /// It counted; it was made by this one.
    Own { batch_no: u64 },
}

/// Why this node cannot apply a record and go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It begins another room, of which the sessions of this node know nothing.
    NewLife,
    /// The other nodes have declared this one gone.
    Gone,
    /// Another process uses the name of this node.
    Usurped,
}

/// What is agreed on about one node.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) incarnation: u64,
    /// The last batch that counted.
    pub(crate) last_batch: u64,
    /// Nothing of this incarnation counts any more.
    pub(crate) is_down: bool,
    /// Its sessions that are members.
    members: BTreeMap<u32, MemberId>,
}

/// What this node is.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    /// Its name.
    pub(crate) node: String,
    /// Higher than any before of that name.
    pub(crate) incarnation: u64,
    /// The life of the engine that it is connected to.
    pub(crate) life: String,
}

/// The state that all nodes share beside the room, and what this node calls its members.
#[derive(Debug, Default)]
pub(crate) struct Replica {
    life: String,
    past_lives: VecDeque<String>,
    nodes: BTreeMap<String, Node>,
    /// This node, once it takes part.
    own: Option<Own>,
    /// Ids of members of other nodes that are free again.
    free: Vec<u32>,
    next_id: u32,
}

impl Replica {
    /// This node takes part from now on.
    pub(crate) fn take_part(&mut self, own: Own) {
        self.own = Some(own);
    }

    /// The nodes, by name.
    pub(crate) fn nodes(&self) -> &BTreeMap<String, Node> {
        &self.nodes
    }

    /// Whether the next record ends the part of this node. Then its sessions must end
    /// before anything of the record shows, and it must begin again.
    pub(crate) fn cut(&self, record: &Record) -> Option<Cut> {
        let own = self.own.as_ref()?;
        if record.life != self.life {
            let is_new = record.life != own.life && !self.past_lives.contains(&record.life);
            return is_new.then_some(Cut::NewLife);
        }
        if record.node == own.node && record.incarnation > own.incarnation {
            return Some(Cut::Usurped);
        }
        let last_batch = self.nodes.get(&own.node).map(|node| node.last_batch);
        let is_gone = self.counts(record)
            && record.items.iter().any(|item| match &item.kind {
                Some(Kind::NodeDown(down)) => {
                    down.node == own.node
                        && down.incarnation == own.incarnation
                        && Some(down.last_batch) == last_batch
                }
                _ => false,
            });
        is_gone.then_some(Cut::Gone)
    }

    /// Applies the next record of the stream.
    pub(crate) fn apply(&mut self, record: Record, rooms: &mut impl Rooms) -> Applied {
        if record.life != self.life {
            if self.past_lives.contains(&record.life) {
                return Applied::Ignored;
            }
            self.begin_life(&record.life);
            rooms.begin_room(epoch(&record.life));
        }
        if !self.counts(&record) {
            return Applied::Ignored;
        }
        self.admit(&record, rooms);
        let is_own = self
            .own
            .as_ref()
            .is_some_and(|own| own.node == record.node && own.incarnation == record.incarnation);
        for Item { kind } in record.items {
            match kind {
                Some(Kind::NodeDown(down)) => self.node_down(&down, record.time_unix_ms, rooms),
                Some(Kind::Goodbye(_)) => self.end_node(&record.node, record.time_unix_ms, rooms),
                Some(kind) => self.apply_command(&record.node, is_own, kind, rooms),
                // Of a later version: which no node of this version must make.
                None => {}
            }
        }
        match is_own {
            true => Applied::Own {
                batch_no: record.batch_no,
            },
            false => Applied::Other,
        }
    }

    fn begin_life(&mut self, life: &str) {
        let past = std::mem::replace(&mut self.life, life.to_owned());
        if self.past_lives.len() >= PAST_LIVES_MAX {
            self.past_lives.pop_front();
        }
        self.past_lives.push_back(past);
        self.nodes.clear();
        self.free.clear();
        self.next_id = 0;
    }

    /// Whether a record counts.
    fn counts(&self, record: &Record) -> bool {
        match self.nodes.get(&record.node) {
            Some(node) if node.incarnation == record.incarnation => {
                !node.is_down && record.batch_no == node.last_batch + 1
            }
            Some(node) if node.incarnation > record.incarnation => false,
            _ => record.batch_no == 1,
        }
    }

    /// Notes a record that counts.
    fn admit(&mut self, record: &Record, rooms: &mut impl Rooms) {
        match self.nodes.get_mut(&record.node) {
            Some(node) if node.incarnation == record.incarnation => {
                node.last_batch = record.batch_no;
                return;
            }
            Some(_) => self.end_node(&record.node, record.time_unix_ms, rooms),
            None => self.make_room(),
        }
        let node = Node {
            incarnation: record.incarnation,
            last_batch: 1,
            is_down: false,
            members: BTreeMap::new(),
        };
        self.nodes.insert(record.node.clone(), node);
    }

    /// Forgets a node that went, if there are many.
    fn make_room(&mut self) {
        if self.nodes.len() >= NODES_MAX {
            let down = self.nodes.iter().find(|(_, node)| node.is_down);
            if let Some(name) = down.map(|(name, _)| name.clone()) {
                self.nodes.remove(&name);
            }
        }
    }

    /// Ends the sessions of a node that another one has heard nothing of, if that one knew
    /// its last batch.
    fn node_down(&mut self, down: &NodeDown, time_unix_ms: i64, rooms: &mut impl Rooms) {
        let node = self.nodes.get(&down.node);
        let counts = node.is_some_and(|node| {
            !node.is_down
                && node.incarnation == down.incarnation
                && node.last_batch == down.last_batch
        });
        if counts {
            self.end_node(&down.node, time_unix_ms, rooms);
        }
    }

    /// Ends the sessions of a node, of whose incarnation nothing more counts.
    fn end_node(&mut self, node: &str, time_unix_ms: i64, rooms: &mut impl Rooms) {
        let Some(node) = self.nodes.get_mut(node) else {
            return;
        };
        node.is_down = true;
        for (_, member) in std::mem::take(&mut node.members) {
            let command = Command::Leave {
                member,
                reason: LeftReason::ConnectionLost,
                time_unix_ms,
            };
            // Also those of this node: it ends their connections itself.
            rooms.apply(command, None);
            self.free.extend(member.elsewhere());
        }
    }

    fn apply_command(&mut self, node: &str, is_own: bool, kind: Kind, rooms: &mut impl Rooms) {
        let Some(session) = kind.session() else {
            return;
        };
        let known = self
            .nodes
            .get(node)
            .and_then(|node| node.members.get(&session).copied());
        let member = match (known, is_own) {
            (Some(member), _) => member,
            (None, true) => MemberId(session),
            (None, false) if matches!(kind, Kind::Join(_)) => self.new_id(),
            (None, false) => return,
        };
        let connection = is_own.then_some(session as usize);
        let outcome = match kind.command(member) {
            Some(command) => rooms.apply(command, connection),
            None => Outcome::Other,
        };
        let Some(entry) = self.nodes.get_mut(node) else {
            return;
        };
        match outcome {
            Outcome::Joined { replaced } => {
                entry.members.insert(session, member);
                if let Some(replaced) = replaced {
                    self.forget(replaced);
                }
            }
            Outcome::Left => {
                entry.members.remove(&session);
                self.free.extend(member.elsewhere());
            }
            Outcome::Other if known.is_none() => self.free.extend(member.elsewhere()),
            Outcome::Other => {}
        }
    }

    /// A member has left because another one continues its session.
    fn forget(&mut self, replaced: MemberId) {
        for node in self.nodes.values_mut() {
            node.members.retain(|_, member| *member != replaced);
        }
        self.free.extend(replaced.elsewhere());
    }

    fn new_id(&mut self) -> MemberId {
        let index = self.free.pop().unwrap_or_else(|| {
            self.next_id += 1;
            self.next_id - 1
        });
        MemberId(MemberId::ELSEWHERE | index)
    }
}

/// The epoch of the room that a life begins (CHAT-ORD-7): the life, as far as it fits.
fn epoch(life: &str) -> String {
    const EPOCH_BYTES_MAX: usize = 64;
    let printable = life.chars().filter(char::is_ascii_graphic);
    printable.take(EPOCH_BYTES_MAX).collect()
}
