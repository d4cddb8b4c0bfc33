//! Directs between nodes of a cluster. The text goes from node to node, beside the order.
//! Where it goes, and that it is accepted, given up or settled stands in the order, so that
//! all nodes agree:
//!
//! ```text
//!   sender's node    ── DirectAsked ──┐
//!                   ◀─────────────────┘      (in the order: now it knows who has the name)
//!                    ── text ──────────────▶ recipient's node
//!                   ◀── DirectAnswer ──────   (in the order: now it is delivered)
//!                    ── DirectGivenUp ─────▶  (in the order: no answer in time)
//!                   ◀── DirectSettled ─────   (in the order: acknowledged, or gone)
//! ```
//!
//! What comes first in the order of an answer and a giving up counts.
//!
//! A client may have learned of a member before its own node has. So the sender's node looks
//! who has the name at a place in the order that is behind all that was told anybody before.
//! The recipient's node first comes as far too. If a recipient has gone on at another node
//! meanwhile, the Direct goes there.

use std::collections::{BTreeMap, VecDeque};

use crate::{
    name::Name,
    room::{MemberId, Room, Sent},
    wire,
};

use super::{
    ConnectionId, Context, Effect, FileOwner, OrderedRoom, Sessions, State, Time,
    directs::{Asker, Waiting, frame_bytes},
    receipt, rejection,
};

/// How long the recipient's node may take to answer, in milliseconds: less than a client
/// waits for a receipt before it doubts the connection.
const ANSWER_MS_MAX: u64 = 2_000;

/// How much of the Directs from other nodes may wait for their place in the order, in bytes.
const ARRIVING_BYTES_MAX: usize = 4 << 20;

/// How many of those that were given up are remembered, in case that they come later.
const GIVEN_UP_MAX: usize = 4_096;

/// Names a Direct among those of all nodes of a cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirectKey {
    /// The node of its sender.
    pub node: String,
    /// That node's incarnation.
    pub incarnation: u64,
    /// Which of the Directs of that incarnation it is.
    pub ticket: u64,
}

/// A Direct to a member of another node.
#[derive(Debug)]
pub struct RemoteDirect {
    /// Which it is.
    pub ticket: u64,
    /// The connection of its sender.
    pub session: usize,
    /// The id that the sender gave it.
    pub id: u64,
    /// To whom.
    pub recipient: MemberId,
    /// The name that it asked for.
    pub name: Name,
    /// As the recipient gets it, but for its number.
    pub direct: wire::Direct,
}

/// The place of a Direct in the order, with its answer.
#[derive(Debug)]
pub struct DirectPlace {
    /// Which it is.
    pub key: DirectKey,
    /// Its sender, if it is still a member.
    pub sender: Option<MemberId>,
    /// The id that the sender gave it.
    pub id: u64,
    /// When it was received from its sender.
    pub time_unix_ms: i64,
    /// Whether the recipient's node takes it.
    pub is_accepted: bool,
    /// Its sender is of this node.
    pub is_from_here: bool,
    /// Its recipient is of this node.
    pub is_to_here: bool,
}

/// The Directs from and to other nodes.
#[derive(Debug, Default)]
pub(super) struct RemoteDirects {
    last_ticket: u64,
    /// Those whose place in the order was not asked for yet; at most one of each session.
    asked: Vec<u64>,
    /// Those that were not taken yet; at most one of each session.
    outgoing: Vec<RemoteDirect>,
    /// Those of members of this node that have no answer, or no state, by ticket.
    pending: BTreeMap<u64, Pending>,
    /// Those to members of this node that have no place in the order yet.
    arriving: BTreeMap<DirectKey, Arriving>,
    arriving_bytes: usize,
    /// What became of those from other nodes, for these to know.
    settled: Vec<(DirectKey, bool)>,
    given_up: VecDeque<DirectKey>,
}

impl RemoteDirects {
    /// Whether there is something for other nodes.
    pub(super) fn has_outgoing(&self) -> bool {
        !(self.asked.is_empty() && self.outgoing.is_empty() && self.settled.is_empty())
    }
}

#[derive(Debug)]
struct Pending {
    index: usize,
    serial: u64,
    id: u64,
    time_unix_ms: i64,
    asked_ms: u64,
    /// For whom it is.
    name: Name,
    /// As its recipient gets it. Empty once it was accepted.
    direct: wire::Direct,
    /// Who had the name when it was looked for last.
    recipient: Option<MemberId>,
    /// The node of the recipient, once it is known.
    node: String,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Asked,
    GivingUp,
    Accepted,
}

/// The answer to a Direct of a member of this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RemoteAnswer {
    Accepted,
    /// It was accepted before.
    Repeated(Sent),
    Unreachable,
}

#[derive(Debug)]
struct Arriving {
    index: usize,
    bytes: usize,
    direct: wire::Direct,
}

/// What the hub of a node of a cluster calls.
impl Sessions {
    /// The tickets of Directs that ask for a place in the order, since the last call.
    pub fn take_asked_directs(&mut self) -> Vec<u64> {
        let remote = self.remote();
        remote.map_or_else(Vec::new, |remote| std::mem::take(&mut remote.asked))
    }

    /// The Directs to members of other nodes since the last call, and what became of those
    /// from there.
    pub fn take_remote_directs(&mut self) -> (Vec<RemoteDirect>, Vec<(DirectKey, bool)>) {
        self.remote().map_or_else(Default::default, |remote| {
            (
                std::mem::take(&mut remote.outgoing),
                std::mem::take(&mut remote.settled),
            )
        })
    }

    /// To which node a Direct goes.
    pub fn direct_goes_to(&mut self, ticket: u64, node: &str) {
        if let Some(pending) = self.remote().and_then(|it| it.pending.get_mut(&ticket)) {
            node.clone_into(&mut pending.node);
        }
    }

    /// The Directs that have had no answer for too long, each once.
    pub fn overdue_directs(&mut self, now_ms: u64) -> Vec<u64> {
        let Some(remote) = self.remote() else {
            return Vec::new();
        };
        let mut overdue = Vec::new();
        for (&ticket, pending) in &mut remote.pending {
            if pending.stage == Stage::Asked
                && now_ms.saturating_sub(pending.asked_ms) >= ANSWER_MS_MAX
            {
                pending.stage = Stage::GivingUp;
                overdue.push(ticket);
            }
        }
        overdue
    }

    /// A Direct of a member of another node has come. Whether it can be delivered.
    pub fn direct_arrived(
        &mut self,
        room: &Room,
        key: DirectKey,
        name: &str,
        direct: wire::Direct,
    ) -> bool {
        let holder = Name::parse(name).ok().and_then(|name| room.holder(&name));
        let Some(index) = holder.filter(|it| it.elsewhere().is_none()) else {
            return false;
        };
        let index = index.0 as usize;
        let bytes = frame_bytes(&direct);
        let Some(remote) = self.remote() else {
            return false;
        };
        if remote.given_up.contains(&key) || remote.arriving.contains_key(&key) {
            return false;
        }
        let others = remote.arriving.values().filter(|it| it.index == index);
        let others = others.fold((0, 0), |(count, sum), it| (count + 1, sum + it.bytes));
        if remote.arriving_bytes + bytes > ARRIVING_BYTES_MAX {
            return false;
        }
        if (self.directs_of(index, &direct.peer, others, bytes)).is_none() {
            return false;
        }
        if let Some(remote) = self.remote() {
            remote.arriving_bytes += bytes;
            let arriving = Arriving {
                index,
                bytes,
                direct,
            };
            remote.arriving.insert(key, arriving);
        }
        true
    }

    /// The answer to a Direct stands in the order. Returns the connection that it concerns.
    pub fn direct_placed(
        &mut self,
        room: &mut Room,
        now: Time,
        place: &DirectPlace,
        effects: &mut Vec<Effect>,
    ) -> Option<usize> {
        let sent = place.sender.and_then(|sender| room.sent(sender, place.id));
        let is_taken = place.is_accepted && place.sender.is_some() && sent.is_none();
        if place.is_to_here
            && let Some(arriving) = self.take_arriving(&place.key)
            && is_taken
        {
            self.deliver_remote(room, now, place.key.clone(), arriving, effects);
        }
        if let (Some(member), true) = (place.sender, is_taken) {
            room.apply(crate::room::Command::Direct {
                member,
                id: place.id,
                time_unix_ms: place.time_unix_ms,
            });
        }
        if !place.is_from_here {
            return None;
        }
        let answer = match (place.is_accepted, sent) {
            (_, Some(sent)) => RemoteAnswer::Repeated(sent),
            (true, None) => RemoteAnswer::Accepted,
            (false, None) => RemoteAnswer::Unreachable,
        };
        self.answer_remote(room, now, place.key.ticket, answer, effects)
    }

    /// A Direct was given up by its sender's node. Returns the connection that it concerns.
    pub fn direct_given_up(
        &mut self,
        room: &mut Room,
        now: Time,
        key: DirectKey,
        is_from_here: bool,
        effects: &mut Vec<Effect>,
    ) -> Option<usize> {
        self.take_arriving(&key);
        let ticket = key.ticket;
        if let (Some(remote), false) = (self.remote(), is_from_here) {
            if remote.given_up.len() >= GIVEN_UP_MAX {
                remote.given_up.pop_front();
            }
            remote.given_up.push_back(key);
            return None;
        }
        self.answer_remote(room, now, ticket, RemoteAnswer::Unreachable, effects)
    }

    /// What became of a Direct of a member of this node.
    pub fn direct_settled(&mut self, ticket: u64, delivered: bool, effects: &mut Vec<Effect>) {
        let remote = self.remote();
        if let Some(pending) = remote.and_then(|remote| remote.pending.remove(&ticket)) {
            let asker = Asker::Here {
                sender: ConnectionId(pending.index).member(),
                serial: pending.serial,
                id: pending.id,
            };
            self.tell_state(asker, delivered, effects);
        }
    }

    /// A node has ended: the Directs to it that wait for nothing else. Each must be given up
    /// or settled.
    pub fn directs_to(&mut self, node: &str) -> Vec<(u64, bool)> {
        let Some(remote) = self.remote() else {
            return Vec::new();
        };
        let to_node = remote.pending.iter().filter(|(_, it)| it.node == node);
        to_node
            .map(|(&ticket, pending)| (ticket, pending.stage == Stage::Accepted))
            .collect()
    }

    /// A Direct goes to whoever has the name now. If nobody has it, or only the member that
    /// it did not reach, it reaches nobody. Returns the connection that it concerns.
    pub fn direct_goes_on(
        &mut self,
        room: &mut Room,
        now: Time,
        ticket: u64,
        effects: &mut Vec<Effect>,
    ) -> Option<usize> {
        self.answer_remote(room, now, ticket, RemoteAnswer::Unreachable, effects)
    }
}

/// What the other modules of the sessions call.
impl Sessions {
    fn remote(&mut self) -> Option<&mut RemoteDirects> {
        self.elsewhere.as_mut().map(|it| &mut it.directs)
    }

    /// A Direct is to find its recipient in the order. Its session waits for the answer.
    pub(super) fn ask_elsewhere(
        &mut self,
        context: &mut Context<'_>,
        id: u64,
        name: Name,
        direct: wire::Direct,
    ) {
        let index = context.id.0;
        let session = self.session(context.id);
        session.awaits_direct = true;
        session.directs.get_or_insert_default().add_unsettled();
        let serial = session.serial;
        let Some(remote) = self.remote() else {
            return;
        };
        remote.last_ticket += 1;
        let ticket = remote.last_ticket;
        let pending = Pending {
            index,
            serial,
            id,
            time_unix_ms: direct.time_unix_ms,
            asked_ms: context.now.elapsed_ms,
            name,
            direct,
            recipient: None,
            node: String::new(),
            stage: Stage::Asked,
        };
        remote.pending.insert(ticket, pending);
        remote.asked.push(ticket);
        self.await_direct(index, ticket);
    }

    /// Sends a Direct to the member that has the name now, if that is another one than
    /// before. Returns whether it did. Ends at the latest when the Direct is given up.
    fn sends_on(&mut self, room: &Room, ticket: u64) -> bool {
        let Some(remote) = self.remote() else {
            return false;
        };
        let Some(pending) = remote.pending.get_mut(&ticket) else {
            return false;
        };
        let holder = room.holder(&pending.name);
        let (Some(recipient), Stage::Asked) = (holder, pending.stage) else {
            return false;
        };
        if pending.recipient.replace(recipient) == Some(recipient) {
            return false;
        }
        pending.node.clear();
        remote.outgoing.push(RemoteDirect {
            ticket,
            session: pending.index,
            id: pending.id,
            recipient,
            name: pending.name.clone(),
            direct: pending.direct.clone(),
        });
        true
    }

    /// A Direct from another node was acknowledged, or its recipient has gone.
    pub(super) fn note_settled(&mut self, key: DirectKey, delivered: bool) {
        if let Some(remote) = self.remote() {
            remote.settled.push((key, delivered));
        }
    }

    fn take_arriving(&mut self, key: &DirectKey) -> Option<Arriving> {
        let remote = self.remote()?;
        let arriving = remote.arriving.remove(key)?;
        remote.arriving_bytes -= arriving.bytes;
        Some(arriving)
    }

    fn deliver_remote(
        &mut self,
        room: &Room,
        now: Time,
        key: DirectKey,
        arriving: Arriving,
        effects: &mut Vec<Effect>,
    ) {
        let Arriving {
            index,
            bytes,
            mut direct,
        } = arriving;
        match self.states.get_mut(index) {
            Some(State::Registered(session)) if session.granted.direct => {
                let asker = Asker::Elsewhere(Box::new(key));
                let directs = session.directs.get_or_insert_default();
                direct.seq = directs.add(Waiting { asker, bytes }); // CHAT-DM-8
                let recipient = FileOwner::of(room, ConnectionId(index).member());
                self.note_given(&direct.files, recipient, now.unix_ms);
                effects.push(Effect::Deliver {
                    index,
                    envelope: super::envelope(wire::server_envelope::Message::Direct(direct)),
                });
            }
            // It has gone since.
            _ => self.note_settled(key, false),
        }
    }

    /// Answers a Direct of a member of this node: with a receipt, or that it reaches nobody.
    /// Returns its connection.
    fn answer_remote(
        &mut self,
        room: &mut Room,
        now: Time,
        ticket: u64,
        answer: RemoteAnswer,
        effects: &mut Vec<Effect>,
    ) -> Option<usize> {
        if answer == RemoteAnswer::Unreachable && self.sends_on(room, ticket) {
            return None;
        }
        let remote = self.remote()?;
        let pending = remote.pending.get_mut(&ticket)?;
        if pending.stage == Stage::Accepted {
            return None;
        }
        let files = std::mem::take(&mut pending.direct).files;
        let (index, serial, id) = (pending.index, pending.serial, pending.id);
        let time_unix_ms = pending.time_unix_ms;
        pending.stage = Stage::Accepted;
        let is_over = answer != RemoteAnswer::Accepted;
        if is_over {
            remote.pending.remove(&ticket);
        }
        if answer == RemoteAnswer::Accepted {
            self.note_given_elsewhere(&files, now.unix_ms);
        }
        let is_there = match self.states.get_mut(index) {
            Some(State::Registered(session)) if session.serial == serial => {
                session.awaits_direct = false;
                if is_over && let Some(directs) = &mut session.directs {
                    directs.remove_unsettled();
                }
                true
            }
            _ => false,
        };
        if !is_there {
            return None;
        }
        let connection = ConnectionId(index);
        let mut context = Context {
            now,
            id: &connection,
            room: OrderedRoom(room),
            effects,
        };
        let first = context.effects.len();
        // CHAT-DM-7
        match answer {
            RemoteAnswer::Repeated(sent) => context.reply(receipt(sent)), // CHAT-DM-11
            RemoteAnswer::Accepted => context.reply(receipt(Sent {
                id,
                seq: 0,
                time_unix_ms,
            })),
            RemoteAnswer::Unreachable => {
                let answer = rejection::not_reachable().for_request(id);
                self.reject_message(&mut context, answer);
            }
        }
        self.place_answer(index, ticket, effects, first);
        Some(index)
    }
}
