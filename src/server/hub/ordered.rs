//! Ordered: the hub of a node of a cluster. Commands leave it, and come back in the order
//! of all nodes; what they lead to waits for the tasks of the connections.

#![cfg_attr(
    not(any(test, feature = "cluster")),
    expect(dead_code, reason = "for a cluster")
)]

use std::{
    collections::BTreeMap,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use tokio::{sync::oneshot, time::timeout};

use crate::{
    log::Audience,
    room::{Command, Event, Place, Room, Snapshot},
    session::{DirectKey, Moderation, NameChecks, Operated, Operation, RemoteDirect, Target},
    wire,
};
#[cfg(any(test, feature = "cluster"))]
use crate::{
    name::Name,
    room::MemberId,
    session::{Effect, Sessions, Time},
};

use super::{Hub, State, effects::Published};
use crate::server::registry::ConnectionHandle;

/// How long the order of a cluster may take to carry out what an operator asks, in
/// milliseconds.
const OPERATION_MS_MAX: u64 = 5_000;

/// How many operations may be on their way.
const OPERATIONS_MAX: usize = 1_000;

/// What the operator asks all nodes of a cluster.
#[derive(Default)]
pub(super) struct Operations {
    /// Those that were not taken yet, in order, with their tickets.
    queue: Vec<(Operation, u64)>,
    /// Who waits for those on their way, by ticket.
    waiting: BTreeMap<u64, oneshot::Sender<Operated>>,
    last_ticket: u64,
}

impl Operations {
    /// Adds one for which nobody waits.
    pub(super) fn extend(&mut self, operation: Option<Operation>) {
        self.queue.extend(operation.map(|operation| (operation, 0)));
    }
}

/// What a node has to say to the others.
pub(in crate::server) struct Outgoing {
    /// The commands of sessions, in order.
    pub(in crate::server) commands: Vec<Command>,
    /// Names whose holders are to be probed, or have answered.
    pub(in crate::server) names: NameChecks,
    /// What the operator asks, with its tickets.
    pub(in crate::server) operations: Vec<(Operation, u64)>,
    /// The Directs that are to find their recipients, by ticket.
    pub(in crate::server) asked: Vec<u64>,
    /// Directs to members of other nodes.
    pub(in crate::server) directs: Vec<RemoteDirect>,
    /// What became of those from there.
    pub(in crate::server) settled: Vec<(DirectKey, bool)>,
    /// Those that had no answer for too long.
    pub(in crate::server) overdue: Vec<u64>,
}

/// The hub while it applies commands that came back: its lock is held.
pub(in crate::server) struct InOrder<'a> {
    pub(super) hub: &'a Hub,
    state: &'a mut State,
    audience: Option<Audience>,
    /// The place of the record that is applied, and its bytes.
    applied: Option<(Place, u64)>,
    /// The connections that something became due to.
    woken: Vec<usize>,
    /// The connections whose session was ended by that of another one.
    notified: Vec<usize>,
}

impl Hub {
    /// Commands go through the order of a cluster from now on. Clients are told to wait
    /// `retry_after_ms` until [`Hub::set_reachable`].
    pub(in crate::server) fn order_elsewhere(&self, retry_after_ms: u32) {
        self.is_clustered.store(true, Ordering::Relaxed);
        self.lock().sessions.order_elsewhere(retry_after_ms);
    }

    /// Whether commands go through the order of a cluster.
    pub(in crate::server) fn is_clustered(&self) -> bool {
        self.is_clustered.load(Ordering::Relaxed)
    }

    /// Has an operation carried out by all nodes. Returns what has become of it here.
    pub(super) async fn order_operation(
        &self,
        operation: Operation,
    ) -> Result<Operated, &'static str> {
        let (sender, operated) = oneshot::channel();
        {
            let mut state = self.lock();
            if state.sessions.is_unreachable() {
                return Err("this server cannot reach the others of its cluster");
            }
            let operations = &mut state.operations;
            operations.waiting.retain(|_, waiting| !waiting.is_closed());
            if operations.waiting.len() >= OPERATIONS_MAX {
                return Err("too many operations are on their way, try again later");
            }
            operations.last_ticket += 1;
            let ticket = operations.last_ticket;
            operations.queue.push((operation, ticket));
            operations.waiting.insert(ticket, sender);
        }
        self.commands_made.notify_one();
        let wait = Duration::from_millis(OPERATION_MS_MAX);
        match timeout(wait, operated).await {
            Ok(Ok(operated)) => Ok(operated),
            _ => Err("the other servers of the cluster were not reached: look whether it was done"),
        }
    }

    /// Waits until sessions have made commands.
    pub(in crate::server) async fn commands_made(&self) {
        self.commands_made.notified().await;
    }

    /// What this node has to say to the others since the last call.
    pub(in crate::server) fn take_outgoing(&self) -> Outgoing {
        let now_ms = self.elapsed_ms();
        let mut state = self.lock();
        let (directs, settled) = state.sessions.take_remote_directs();
        Outgoing {
            commands: state.sessions.take_commands(),
            names: state.sessions.take_name_checks(),
            operations: std::mem::take(&mut state.operations.queue),
            asked: state.sessions.take_asked_directs(),
            directs,
            settled,
            overdue: state.sessions.overdue_directs(now_ms),
        }
    }

    /// Whether clients cannot be let in.
    pub(in crate::server) fn is_unreachable(&self) -> bool {
        self.lock().sessions.is_unreachable()
    }

    /// To which node a Direct goes.
    pub(in crate::server) fn direct_goes_to(&self, ticket: u64, node: &str) {
        self.lock().sessions.direct_goes_to(ticket, node);
    }

    /// A Direct from another node has come. Whether it can be delivered.
    pub(in crate::server) fn direct_arrived(
        &self,
        key: DirectKey,
        name: &str,
        direct: wire::Direct,
    ) -> bool {
        let mut state = self.lock();
        let State { sessions, room, .. } = &mut *state;
        sessions.direct_arrived(room, key, name, direct)
    }

    /// This node takes part in the order: lets clients in.
    pub(in crate::server) fn set_reachable(&self) {
        self.lock().sessions.set_reachable();
        self.reachable.notify_one();
        // Those of a checkpoint, if any.
        self.bans_changed.notify_one();
    }

    /// Waits until clients are let in.
    pub(in crate::server) async fn became_reachable(&self) {
        self.reachable.notified().await;
    }

    /// This node is cut off the cluster: ends all sessions. Clients are told to wait
    /// `retry_after_ms`.
    pub(in crate::server) fn set_unreachable(&self, retry_after_ms: u32) {
        let mut state = self.lock();
        let State { sessions, room, .. } = &mut *state;
        sessions.set_unreachable(room, retry_after_ms);
        // Whoever waits is told so.
        state.operations = Operations::default();
        drop(state);
        self.registry.notify_all();
    }

    /// Whether too many commands wait for the order to read more from members.
    pub(in crate::server) fn set_order_behind(&self, is_behind: bool) {
        if self.channel.set_order_behind(is_behind) && !is_behind {
            self.registry.wake_all();
        }
    }

    /// Begins another room, without members, behind a position of the order. Sessions of the
    /// last one must have ended.
    pub(in crate::server) fn begin_room(&self, epoch: String, position: u64) {
        self.set_room(Room::new(epoch, &self.limits), position);
    }

    /// Goes on from a snapshot of a position, with those of the chats before it that the
    /// store has, and with the bans and mutes that operations set. Sessions must have ended.
    pub(in crate::server) fn restore_room(
        &self,
        snapshot: Snapshot,
        operations: Vec<Operation>,
        position: u64,
    ) {
        self.set_room(Room::of_snapshot(snapshot, &self.limits), position);
        let mut state = self.lock();
        let Moderation { bans, mutes, .. } = state.sessions.moderation_mut();
        for operation in operations {
            // They were not too many where they come from.
            let _ = match operation {
                Operation::Ban { targets, ban, .. } => targets
                    .into_iter()
                    .all(|target| bans.insert(target, ban.clone())),
                Operation::Mute { name, mute } => mutes.insert(Target::Name(name), mute),
                _ => false,
            };
        }
    }

    fn set_room(&self, mut other: Room, position: u64) {
        let mut state = self.lock();
        if let Some(archive) = &self.archive {
            state.follow(archive, &mut other, position);
        }
        if state.room.epoch() != other.epoch() {
            state.sessions.begin_files_epoch();
        }
        let State {
            sessions,
            room,
            log,
            followers,
            ..
        } = &mut *state;
        *room = other;
        // What is appended is about to be committed.
        let woken = followers.end_pass();
        log.begin_numbers(room.seq() + 1);
        // Those of the room come with it.
        let moderation = sessions.moderation_mut();
        (moderation.bans, moderation.mutes) = Default::default();
        let end = log.end();
        self.channel.commit(log, end, &self.registry);
        drop(state);
        self.registry.wake_these(&woken);
    }

    /// The state of the room.
    pub(in crate::server) fn snapshot(&self) -> Snapshot {
        self.lock().room.snapshot()
    }

    /// Applies commands that came back, in order: all that `apply` says. Readers see what
    /// they published when it returns.
    pub(in crate::server) fn in_order<T>(&self, apply: impl FnOnce(&mut InOrder<'_>) -> T) -> T {
        let mut state = self.lock();
        let mut in_order = InOrder {
            hub: self,
            state: &mut state,
            audience: None,
            applied: None,
            woken: Vec::new(),
            notified: Vec::new(),
        };
        let result = apply(&mut in_order);
        let due = in_order.state.followers.end_pass();
        let InOrder {
            audience,
            applied,
            woken,
            notified,
            ..
        } = in_order;
        if audience.is_some() || !state.removals.is_empty() {
            let State { log, .. } = &mut *state;
            let end = log.end();
            self.channel.commit(log, end, &self.registry);
            state.remove_texts(end);
        }
        if let Some(archive) = &self.archive {
            state.keep(archive, applied);
        }
        drop(state);
        if let Some(audience) = audience {
            self.registry.wake(audience);
        }
        self.registry.wake_these(&due);
        self.registry.wake_these(&woken);
        self.registry.notify(&notified);
        result
    }
}

impl InOrder<'_> {
    /// What is applied is the record at a place, of so many bytes.
    #[cfg(any(test, feature = "cluster"))]
    pub(in crate::server) fn stands_at(&mut self, place: Place, bytes: usize) {
        self.applied = Some((place, bytes as u64));
    }

    /// Applies one command: that of a connection of this node, or of none. `look` sees the
    /// event before the session has it.
    pub(in crate::server) fn apply<T>(
        &mut self,
        command: Command,
        connection: Option<usize>,
        look: impl FnOnce(&Event) -> T,
    ) -> T {
        let now = self.hub.now();
        let State {
            sessions,
            room,
            effects,
            ..
        } = &mut *self.state;
        let event = room.apply(command);
        let looked = look(&event);
        match connection {
            Some(index) => sessions.applied(room, now, index, event, effects),
            None => sessions.applied_elsewhere(event, effects),
        }
        self.carry_out(connection);
        looked
    }

    /// Carries out the effects of what was done for a connection of this node, or for none.
    fn carry_out(&mut self, connection: Option<usize>) {
        let handle = connection.and_then(|index| self.handle(index));
        let mut mail = Vec::new();
        let published = self.hub.carry_out(
            self.state,
            |due| mail.push(due),
            connection,
            handle.as_ref().map(|handle| &handle.peer),
            Published::default(),
        );
        self.audience = self.audience.max(published.audience);
        self.notified.extend(published.notify);
        if let (Some(index), Some(handle)) = (connection, handle) {
            // Before the commit, so that the task knows which frames are its own when it
            // sees them.
            self.state.mail.entry(index).or_default().extend(mail);
            handle.set_mail(true);
            self.woken.push(index);
        }
    }

    /// Has the sessions do something with a Direct between nodes. `act` returns the
    /// connection that it concerns.
    #[cfg(any(test, feature = "cluster"))]
    pub(in crate::server) fn direct(
        &mut self,
        act: impl FnOnce(&mut Sessions, &mut Room, Time, &mut Vec<Effect>) -> Option<usize>,
    ) {
        let now = self.hub.now();
        let State {
            sessions,
            room,
            effects,
            ..
        } = &mut *self.state;
        let connection = act(sessions, room, now, effects);
        self.carry_out(connection);
    }

    /// A node asks for a probe of the holder of a name (CHAT-NAME-7).
    #[cfg(any(test, feature = "cluster"))]
    pub(in crate::server) fn name_asked(&mut self, name: Name, is_from_here: bool) {
        let now = self.hub.now();
        let State { sessions, room, .. } = &mut *self.state;
        sessions.name_asked(room, now, name, is_from_here);
    }

    /// The holder of a name has answered, or cannot be probed.
    #[cfg(any(test, feature = "cluster"))]
    pub(in crate::server) fn name_answered(&mut self, name: &Name) {
        self.state.sessions.name_answered(name);
    }

    /// A node has ended: what becomes of the Directs to it.
    #[cfg(any(test, feature = "cluster"))]
    pub(in crate::server) fn node_ended(&mut self, node: &str, is_declared: bool) {
        if is_declared {
            self.hub.metrics.cluster.node_down();
        }
        for (ticket, is_accepted) in self.state.sessions.directs_to(node) {
            self.direct(|sessions, room, now, effects| match is_accepted {
                true => {
                    sessions.direct_settled(ticket, false, effects);
                    None
                }
                false => sessions.direct_goes_on(room, now, ticket, effects),
            });
        }
    }

    /// Carries out an operation, as each node does, and returns the members that it has
    /// thrown out. `ticket`: of this node, if somebody waits for it.
    #[cfg(any(test, feature = "cluster"))]
    pub(in crate::server) fn operate(
        &mut self,
        operation: Operation,
        time_unix_ms: i64,
        ticket: Option<u64>,
    ) -> Vec<MemberId> {
        let now = Time {
            unix_ms: time_unix_ms,
            ..self.hub.now()
        };
        let room = &self.state.room;
        let names = operation.expelled_names().into_iter();
        let mut members: Vec<_> = names.filter_map(|name| room.holder(&name)).collect();
        let operated = self.hub.perform(self.state, now, operation);
        self.carry_out(None);
        let waiting = &mut self.state.operations.waiting;
        if let Some(waiting) = ticket.and_then(|ticket| waiting.remove(&ticket)) {
            let _ = waiting.send(operated);
        }
        let room = &self.state.room;
        members.retain(|&member| room.name(member).is_none());
        members
    }

    /// The handle of a connection, unless it has gone.
    fn handle(&self, index: usize) -> Option<Arc<ConnectionHandle>> {
        let connections = self.hub.registry.read();
        let entry = connections.get(index)?.as_ref()?;
        Some(Arc::clone(&entry.handle))
    }
}
