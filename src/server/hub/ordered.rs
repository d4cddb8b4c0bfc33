//! Ordered: the hub of a node of a cluster. Commands leave it, and come back in the order
//! of all nodes; what they lead to waits for the tasks of the connections.

#![cfg_attr(
    not(any(test, feature = "cluster")),
    expect(dead_code, reason = "for a cluster")
)]

use std::sync::{Arc, atomic::Ordering};

use crate::{
    log::Audience,
    room::{Command, Event, Room},
};

use super::{Hub, State, effects::Published};
use crate::server::registry::ConnectionHandle;

/// The hub while it applies commands that came back: its lock is held.
pub(in crate::server) struct InOrder<'a> {
    hub: &'a Hub,
    state: &'a mut State,
    audience: Option<Audience>,
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

    /// Waits until sessions have made commands.
    pub(in crate::server) async fn commands_made(&self) {
        self.commands_made.notified().await;
    }

    /// The commands that sessions have made, in order.
    pub(in crate::server) fn take_commands(&self) -> Vec<Command> {
        self.lock().sessions.take_commands()
    }

    /// This node takes part in the order: lets clients in.
    pub(in crate::server) fn set_reachable(&self) {
        self.lock().sessions.set_reachable();
        self.reachable.notify_one();
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
        drop(state);
        self.registry.notify_all();
    }

    /// Whether too many commands wait for the order to read more from members.
    pub(in crate::server) fn set_order_behind(&self, is_behind: bool) {
        if self.channel.set_order_behind(is_behind) && !is_behind {
            self.registry.wake_all();
        }
    }

    /// Begins another room, without members.
    pub(in crate::server) fn begin_room(&self, epoch: String) {
        self.in_order(|in_order| in_order.begin_room(epoch));
    }

    /// Applies commands that came back, in order: all that `apply` says. Readers see what
    /// they published when it returns.
    pub(in crate::server) fn in_order<T>(&self, apply: impl FnOnce(&mut InOrder<'_>) -> T) -> T {
        let mut state = self.lock();
        let mut in_order = InOrder {
            hub: self,
            state: &mut state,
            audience: None,
            woken: Vec::new(),
            notified: Vec::new(),
        };
        let result = apply(&mut in_order);
        let due = in_order.state.followers.end_pass();
        let InOrder {
            audience,
            woken,
            notified,
            ..
        } = in_order;
        if audience.is_some() {
            let State { log, .. } = &mut *state;
            let end = log.end();
            self.channel.commit(log, end, &self.registry);
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
    /// Begins another room, without members. Sessions of the last one must end.
    pub(in crate::server) fn begin_room(&mut self, epoch: String) {
        // What is appended is about to be committed.
        self.woken.extend(self.state.followers.end_pass());
        let State { room, log, .. } = &mut *self.state;
        *room = Room::new(epoch, &self.hub.limits);
        log.begin_numbers(1);
        let end = log.end();
        self.hub.channel.commit(log, end, &self.hub.registry);
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
        looked
    }

    /// The handle of a connection, unless it has gone.
    fn handle(&self, index: usize) -> Option<Arc<ConnectionHandle>> {
        let connections = self.hub.registry.read();
        let entry = connections.get(index)?.as_ref()?;
        Some(Arc::clone(&entry.handle))
    }
}
