//! Guard: one pass of a connection, under the hub's lock.

use std::sync::MutexGuard;

use crate::session::{ConnectionId, Event, FileTask, NextPiece, Time};

use super::{Hub, State, effects::Published};
use crate::server::{
    archive::Delivery,
    outbound::{Due, Files, Outbound},
    read_budget::ReadBudget,
    registry::ConnectionHandle,
};

/// One pass of a connection: the lock is held. Dropping it commits what was published
/// and wakes the readers.
pub(in crate::server) struct HubGuard<'a> {
    pub(super) hub: &'a Hub,
    /// `None` once it is dropped.
    pub(super) state: Option<MutexGuard<'a, State>>,
    pub(super) id: &'a ConnectionId,
    pub(super) handle: &'a ConnectionHandle,
    pub(super) now: Time,
    /// What the connection has to send.
    pub(in crate::server) outbound: &'a mut Outbound,
    /// What it may read.
    pub(in crate::server) budget: &'a mut ReadBudget,
    pub(super) published: Published,
}

impl HubGuard<'_> {
    /// Something happened to the connection.
    pub(in crate::server) fn handle(&mut self, event: Event) {
        let Some(state) = self.state.as_deref_mut() else {
            return;
        };
        let State {
            sessions,
            room,
            effects,
            ..
        } = state;
        sessions.handle(room, self.now, self.id, event, effects);
        self.budget.is_throttled = sessions.is_throttled(self.id);
        self.budget.awaits_pieces = sessions.awaits_pieces(self.id);
        let published = std::mem::take(&mut self.published);
        let due = |due| self.outbound.take(due);
        self.published = self.hub.carry_out(
            state,
            due,
            Some(self.id.index()),
            Some(&self.handle.peer),
            published,
        );
    }

    /// Takes what became due to the connection since its last pass.
    pub(super) fn take_mail(&mut self) {
        let Some(state) = self.state.as_deref_mut() else {
            return;
        };
        self.handle.set_mail(false);
        for due in state.mail.remove(&self.id.index()).unwrap_or_default() {
            self.outbound.take(due);
        }
        self.budget.is_throttled = state.sessions.is_throttled(self.id);
        self.budget.awaits_pieces = state.sessions.awaits_pieces(self.id);
    }

    /// Whether an event must wait for the pieces of a file that are on their way to the disk
    /// (CHAT-FILE-2).
    pub(in crate::server) fn waits_for_pieces(&mut self, event: &Event) -> bool {
        let Some(state) = self
            .state
            .as_deref_mut()
            .filter(|_| self.budget.awaits_pieces)
        else {
            return false;
        };
        let waits = state.sessions.waits_for_pieces(self.id, event);
        self.budget.is_throttled |= waits;
        waits
    }

    /// A part of the past has arrived for the connection.
    pub(in crate::server) fn deliver(&mut self, delivery: Delivery) {
        let Some(state) = self.state.as_deref_mut() else {
            return;
        };
        match delivery {
            Delivery::Page(frames) => {
                if state.sessions.page_arrived(self.id) {
                    self.outbound.replies.push_frames(&frames);
                }
                self.budget.is_throttled = state.sessions.is_throttled(self.id);
            }
            Delivery::Chats {
                frames,
                chats,
                is_last,
            } => {
                if self.outbound.is_catching_up {
                    if let Some(reader) = self.outbound.reader.as_mut()
                        && reader.due().is_some()
                    {
                        reader.note_sent(chats);
                    }
                    let outbound = &mut self.outbound;
                    outbound.replies.push_frames(&frames);
                    outbound.is_catching_up = !is_last;
                    // What is in memory comes behind them, also where they wait behind a
                    // receipt for its commit (CHAT-RES-9).
                    outbound.is_opening = is_last && !outbound.replies.is_empty();
                }
            }
            Delivery::Removed if self.outbound.is_ended => self.outbound.drop_log(),
            Delivery::Removed => self.handle(Event::PastRemoved),
        }
    }

    /// So many frames and bytes arrived, whatever they held, and apart from those so many
    /// bytes of files.
    pub(in crate::server) fn charge_inbound(&mut self, frames: usize, bytes: (usize, usize)) {
        if let Some(State { sessions, room, .. }) = self.state.as_deref_mut() {
            self.budget.is_throttled =
                sessions.charge_inbound(room, self.now, self.id, frames, bytes);
        }
    }

    /// Its Following is on its way: it may be read from again.
    pub(in crate::server) fn followed(&mut self) {
        self.outbound.has_followed = false;
        if let Some(State { sessions, .. }) = self.state.as_deref_mut() {
            sessions.followed(self.id);
            self.budget.is_throttled = sessions.is_throttled(self.id);
        }
    }

    /// It has sent all it had, and the server closes.
    pub(in crate::server) fn farewell(&mut self) {
        let state = self.state.as_deref_mut();
        let envelope = state.and_then(|state| state.sessions.farewell(self.id));
        self.outbound.owes_farewell = false;
        if let Some(envelope) = envelope {
            self.outbound.reply(&envelope);
        }
    }

    /// It has sent all it had: the next piece of the file that it is sent. Returns whether
    /// that is there already.
    pub(in crate::server) fn next_piece(&mut self) -> bool {
        let Some(state) = self.state.as_deref_mut() else {
            return false;
        };
        self.outbound.files = Files::Idle;
        match (state.sessions.next_piece(self.id), &self.hub.files) {
            (Some(NextPiece::Frame(frame)), _) => {
                self.outbound.take(Due::Piece(frame));
                return true;
            }
            (Some(NextPiece::Read(read)), Some(files)) => {
                files.push(FileTask::Read(read));
                self.outbound.files = Files::Awaited;
            }
            _ => {}
        }
        false
    }

    /// It has sent all it had: the next of the members that are due to it.
    pub(in crate::server) fn more_members(&mut self) {
        let state = self.state.as_deref_mut();
        let envelope = state.and_then(|state| state.sessions.more_members(&state.room, self.id));
        self.outbound.has_more_members = false;
        if let Some(envelope) = envelope {
            self.outbound.reply(&envelope);
        }
    }
}

impl Drop for HubGuard<'_> {
    fn drop(&mut self) {
        let Some(mut state) = self.state.take() else {
            return;
        };
        // Under the lock: a pass that appends after this one finds a reader that this
        // one opened, and wakes it.
        let index = self.id.index();
        match &self.outbound.reader {
            Some(reader) => self.hub.registry.subscribe(
                (index, self.handle),
                reader.position(),
                reader.wants_presence(),
                !state.followers.has(index),
            ),
            // Nobody waits for a connection that is only being closed, nor wakes it.
            None => self.handle.unsubscribe(),
        }
        // What was told of numbers waits for the commit of everything so far.
        let end = state.log.end();
        let committed_end = self.hub.channel.committed_end();
        let is_waiting = self.outbound.replies.end_hold(end)
            || (self.hub.waits_for_store() && self.outbound.is_due_behind(committed_end));
        let waiting = is_waiting.then_some(index);
        let woken = self.hub.publish(&mut state, &self.published, waiting);
        let has_commands = state.sessions.has_commands();
        drop(state);
        if has_commands {
            self.hub.commands_made.notify_one();
        }
        self.hub.wake(self.published.audience, &woken);
        if !self.published.notify.is_empty() {
            self.hub.registry.notify(&self.published.notify);
        }
    }
}
