//! Replica: the rules by which each node applies the records of the stream, so that all
//! apply the same commands. Pure.
//!
//! - A record counts if it is the next one of its node's incarnation. So one that comes
//!   twice counts once, and one that comes late does not count.
//! - The first record of a higher incarnation of a node, and NodeDown, end the sessions of
//!   the earlier one, of which nothing more counts.
//! - Another life of the engine is another room, since what the engine had acknowledged may
//!   be lost: a replica is of one life, and the records of others do not count.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    name::Name,
    room::{Command, MemberId},
    session::{DirectKey, DirectPlace, Operation},
    wire::LeftReason,
};

use super::{
    direct::{DirectAnswer, Origin},
    record::{Item, Kind, NodeDown, Record},
};

/// How many earlier lives of the engine are remembered: a record of one that is forgotten
/// would have to be on its way for that many restarts.
const PAST_LIVES_MAX: usize = 64;

/// How many nodes are remembered, those that went included.
const NODES_MAX: usize = 256;

/// Where the commands of a replica go: the room of a node.
pub(crate) trait Rooms {
    /// Applies a command to it. `connection`: of this node, whose session made it.
    fn apply(&mut self, command: Command, connection: Option<usize>) -> Outcome;

    /// Carries out what an operator asks all nodes. `ticket`: of this node, which operator
    /// waits for it. Returns the members that it has thrown out.
    fn operate(
        &mut self,
        operation: Operation,
        time_unix_ms: i64,
        ticket: Option<u64>,
    ) -> Vec<MemberId>;

    /// A node asks for a probe of the holder of a name.
    fn name_asked(&mut self, name: Name, is_from_here: bool);

    /// The bans and mutes may be others: so many changes of them are known.
    fn bans_changed(&mut self, changes: u64);

    /// The holder of a name has answered, or cannot be probed.
    fn name_answered(&mut self, name: &Name);

    /// A Direct of this node looks for its recipient.
    fn direct_asked(&mut self, ticket: u64);

    /// A Direct between nodes was answered.
    fn direct_placed(&mut self, place: DirectPlace);

    /// A Direct between nodes was given up, by this node or another one.
    fn direct_given_up(&mut self, key: DirectKey, is_from_here: bool);

    /// What became of a Direct of this node to another one.
    fn direct_settled(&mut self, ticket: u64, delivered: bool);

    /// A node has ended, and its members have left; others may have declared it gone.
    fn node_ended(&mut self, node: &str, is_declared: bool);
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
    /// It belongs to another room, of which the sessions of this node know nothing.
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
    /// How many Joins of it were applied.
    pub(super) joins: u64,
    /// Its sessions that are members.
    pub(super) members: BTreeMap<u32, Session>,
}

/// A session of a node that is a member.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Session {
    pub(super) member: MemberId,
    /// Which of the Joins of its node has begun it. Its index is that of others before and
    /// after it.
    pub(super) join_no: u64,
}

/// What this node is.
#[derive(Debug, Clone)]
pub(crate) struct Own {
    /// Its name.
    pub(crate) node: String,
    /// Higher than any before of that name.
    pub(crate) incarnation: u64,
}

/// The state that all nodes share beside the room, and what this node calls its members.
#[derive(Debug)]
pub(crate) struct Replica {
    /// The life of the engine that it is of.
    life: String,
    /// Others that were seen, oldest first.
    pub(super) past_lives: VecDeque<String>,
    pub(super) nodes: BTreeMap<String, Node>,
    /// This node, once it takes part.
    own: Option<Own>,
    /// Ids of members of other nodes that are free again.
    free: Vec<u32>,
    pub(super) next_id: u32,
    /// The position of the last checkpoint that nodes have told of, 0 for none.
    checkpoint: u64,
    /// How many changes of bans and mutes are known, those of earlier epochs included.
    pub(super) ban_changes: u64,
    /// How many of them a node has brought from an earlier epoch.
    pub(super) carried_ban_changes: u64,
}

impl Replica {
    /// Of a life of which no record was applied yet.
    pub(crate) fn new(life: &str) -> Self {
        Self {
            life: life.to_owned(),
            past_lives: VecDeque::new(),
            nodes: BTreeMap::new(),
            own: None,
            free: Vec::new(),
            next_id: 0,
            checkpoint: 0,
            ban_changes: 0,
            carried_ban_changes: 0,
        }
    }

    /// This node takes part from now on.
    pub(crate) fn take_part(&mut self, own: Own) {
        self.own = Some(own);
    }

    /// The nodes, by name.
    pub(crate) fn nodes(&self) -> &BTreeMap<String, Node> {
        &self.nodes
    }

    /// The position of the last checkpoint that nodes have told of; 0 for none.
    pub(crate) fn checkpoint(&self) -> u64 {
        self.checkpoint
    }

    /// Whether it is for this node to write a checkpoint. More than one node may think so,
    /// or none for a while: that does no harm.
    pub(crate) fn writes_checkpoints(&self) -> bool {
        let first = self.nodes.iter().find(|(_, node)| !node.is_down);
        let first = first.map(|(name, _)| name.as_str());
        first == self.own.as_ref().map(|own| own.node.as_str())
    }

    /// Whether the next record ends the part of this node. Then its sessions must end
    /// before anything of the record shows, and it must begin again.
    pub(crate) fn cut(&self, record: &Record) -> Option<Cut> {
        let own = self.own.as_ref()?;
        if record.life != self.life {
            return (!self.past_lives.contains(&record.life)).then_some(Cut::NewLife);
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
            self.note_past_life(record.life);
            return Applied::Ignored;
        }
        if !self.counts(&record) {
            return Applied::Ignored;
        }
        self.admit(&record, rooms);
        let is_own = self.is_own(&record.node, record.incarnation);
        for Item { kind } in record.items {
            match kind {
                Some(Kind::NodeDown(down)) => self.node_down(&down, record.time_unix_ms, rooms),
                Some(Kind::Operate(it)) => {
                    let ticket = is_own.then_some(it.ticket);
                    if let Some(operation) = it.operation() {
                        self.operate(operation, record.time_unix_ms, ticket, rooms);
                    }
                }
                Some(Kind::CarriedBans(it)) => self.carry_bans(it, record.time_unix_ms, rooms),
                Some(Kind::NameAsked(it)) => {
                    if let Ok(name) = Name::parse(&it.name) {
                        rooms.name_asked(name, is_own);
                    }
                }
                Some(Kind::NameAnswered(it)) => {
                    if let Ok(name) = Name::parse(&it.name) {
                        rooms.name_answered(&name);
                    }
                }
                Some(Kind::DirectAsked(it)) if is_own => rooms.direct_asked(it.ticket),
                Some(Kind::DirectAsked(_)) => {}
                Some(Kind::DirectAnswer(it)) => self.place_direct(it, is_own, rooms),
                Some(Kind::DirectGivenUp(it)) => {
                    let key = DirectKey {
                        node: record.node.clone(),
                        incarnation: record.incarnation,
                        ticket: it.ticket,
                    };
                    rooms.direct_given_up(key, is_own);
                }
                Some(Kind::DirectSettled(it)) if self.is_own(&it.key.node, it.key.incarnation) => {
                    rooms.direct_settled(it.key.ticket, it.delivered);
                }
                Some(Kind::DirectSettled(_)) => {}
                Some(Kind::Checkpoint(it)) => self.checkpoint = self.checkpoint.max(it.position),
                Some(Kind::Goodbye(_)) => {
                    self.end_node(&record.node, false, record.time_unix_ms, rooms)
                }
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

    fn is_own(&self, node: &str, incarnation: u64) -> bool {
        let own = self.own.as_ref();
        own.is_some_and(|own| own.node == node && own.incarnation == incarnation)
    }

    /// Whether an incarnation of a node takes part.
    pub(crate) fn is_there(&self, node: &str, incarnation: u64) -> bool {
        self.living(node, incarnation).is_some()
    }

    /// A node, if this incarnation of it takes part.
    fn living(&self, node: &str, incarnation: u64) -> Option<&Node> {
        let node = self.nodes.get(node);
        node.filter(|node| node.incarnation == incarnation && !node.is_down)
    }

    /// The node of a member, and its incarnation.
    pub(crate) fn node_of(&self, member: MemberId) -> Option<(&str, u64)> {
        let mut nodes = self.nodes.iter();
        let (name, node) =
            nodes.find(|(_, node)| node.members.values().any(|it| it.member == member))?;
        Some((name, node.incarnation))
    }

    /// Which of the Joins of this node has begun a session of it.
    pub(crate) fn join_no(&self, session: u32) -> Option<u64> {
        let node = self.nodes.get(&self.own.as_ref()?.node)?;
        node.members.get(&session).map(|it| it.join_no)
    }

    fn place_direct(&mut self, answer: DirectAnswer, is_to_here: bool, rooms: &mut impl Rooms) {
        let Origin {
            key,
            session,
            join_no,
            id,
        } = answer.origin;
        rooms.direct_placed(DirectPlace {
            sender: self
                .living(&key.node, key.incarnation)
                .and_then(|node| node.members.get(&session))
                .filter(|it| it.join_no == join_no)
                .map(|it| it.member),
            is_from_here: self.is_own(&key.node, key.incarnation),
            key: key.into(),
            id,
            time_unix_ms: answer.time_unix_ms,
            is_accepted: answer.is_accepted,
            is_to_here,
        });
    }

    fn note_past_life(&mut self, life: String) {
        if self.past_lives.contains(&life) {
            return;
        }
        if self.past_lives.len() >= PAST_LIVES_MAX {
            self.past_lives.pop_front();
        }
        self.past_lives.push_back(life);
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
            Some(_) => self.end_node(&record.node, false, record.time_unix_ms, rooms),
            None => self.make_room(),
        }
        let node = Node {
            incarnation: record.incarnation,
            last_batch: 1,
            is_down: false,
            joins: 0,
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
            self.end_node(&down.node, true, time_unix_ms, rooms);
        }
    }

    /// Ends the sessions of a node, of whose incarnation nothing more counts.
    fn end_node(
        &mut self,
        name: &str,
        is_declared: bool,
        time_unix_ms: i64,
        rooms: &mut impl Rooms,
    ) {
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        node.is_down = true;
        for (_, Session { member, .. }) in std::mem::take(&mut node.members) {
            let command = Command::Leave {
                member,
                reason: LeftReason::ConnectionLost,
                time_unix_ms,
            };
            // Also those of this node: it ends their connections itself.
            rooms.apply(command, None);
            self.free.extend(member.elsewhere());
        }
        rooms.node_ended(name, is_declared);
    }

    fn apply_command(&mut self, node: &str, is_own: bool, kind: Kind, rooms: &mut impl Rooms) {
        let Some(session) = kind.session() else {
            return;
        };
        let known = self
            .nodes
            .get(node)
            .and_then(|node| node.members.get(&session).copied());
        let is_join = matches!(kind, Kind::Join(_));
        let member = match (known, is_own) {
            (Some(known), _) => known.member,
            (None, true) => MemberId(session),
            (None, false) if is_join => self.new_id(),
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
        entry.joins += u64::from(is_join);
        match outcome {
            Outcome::Joined { replaced } => {
                let join_no = entry.joins;
                entry.members.insert(session, Session { member, join_no });
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

    /// A member has left by no command of its own: another one continues its session, or the
    /// operator has ended it.
    fn forget(&mut self, gone: MemberId) {
        for node in self.nodes.values_mut() {
            node.members.retain(|_, it| it.member != gone);
        }
        self.free.extend(gone.elsewhere());
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
pub(crate) fn epoch(life: &str) -> String {
    const EPOCH_BYTES_MAX: usize = 64;
    let printable = life.chars().filter(char::is_ascii_graphic);
    printable.take(EPOCH_BYTES_MAX).collect()
}

mod bans;
#[cfg(test)]
mod tests;
