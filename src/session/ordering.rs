//! Ordering: the way of a command to the room. On one node it is applied in the call that
//! makes it. On a node of a cluster it first takes its place in the order of all nodes,
//! and what it leads to is done when it comes back:
//!
//! ```text
//!   one node:   session ── order ──▶ room ──▶ the session's answer
//!   a cluster:  session ── order ──▶ take_commands ──▶ the order of all nodes
//!                                                            │
//!               the session's answer ◀── applied ◀── room ◀──┘
//! ```
//!
//! Meanwhile the session goes on: its next chats follow the first one, and whatever it is
//! answered waits behind their receipts, so that answers keep their order (CHAT-RCPT-2).

mod elsewhere;

use std::{collections::VecDeque, ops::Deref};

use crate::{
    room::{self, Command, Replaced, Room},
    wire::{ErrorCode, LeftReason, ServerEnvelope},
};

pub(super) use elsewhere::Elsewhere;
use elsewhere::{Answer, Known};

use super::{
    CloseReason, Closed, ConnectionId, Context, Effect, Event, Sessions, State, Time, messages,
    rejection, state::Revoked,
};

/// The room, to look at. Only [`Sessions::order`] changes it, so that no command of a
/// session misses the order.
pub(super) struct OrderedRoom<'a>(pub(super) &'a mut Room);

impl Deref for OrderedRoom<'_> {
    type Target = Room;

    fn deref(&self) -> &Room {
        self.0
    }
}

/// What the hub of a node of a cluster calls.
impl Sessions {
    /// Commands are applied where [`Sessions::take_commands`] takes them to, and not at
    /// once. Nobody is let in before [`Sessions::set_reachable`].
    pub fn order_elsewhere(&mut self, retry_after_ms: u32) {
        self.elsewhere = Some(Box::new(Elsewhere {
            retry_after_ms: Some(retry_after_ms),
            ..Elsewhere::default()
        }));
    }

    /// Whether commands wait to be taken.
    pub fn has_commands(&self) -> bool {
        self.elsewhere.as_ref().is_some_and(|it| {
            !it.commands.is_empty() || it.directs.has_outgoing() || !it.name_checks.asked.is_empty()
        })
    }

    /// The commands that were made since the last call, in order.
    pub fn take_commands(&mut self) -> Vec<Command> {
        self.elsewhere
            .as_mut()
            .map(|elsewhere| std::mem::take(&mut elsewhere.commands))
            .unwrap_or_default()
    }

    /// Whether this node cannot let clients in, since it does not take part in the order.
    pub fn is_unreachable(&self) -> bool {
        self.unreachable_ms().is_some()
    }

    /// This node takes part in the order: clients are let in.
    pub fn set_reachable(&mut self) {
        if let Some(elsewhere) = &mut self.elsewhere {
            elsewhere.retry_after_ms = None;
        }
    }

    /// This node is cut off the cluster: ends every session, of which the others know
    /// nothing more. Each connection is told at its next event. The caller goes on with
    /// another room.
    pub fn set_unreachable(&mut self, room: &Room, retry_after_ms: u32) {
        let Some(elsewhere) = &mut self.elsewhere else {
            return;
        };
        let known = std::mem::take(elsewhere).known;
        elsewhere.retry_after_ms = Some(retry_after_ms);
        self.probes.clear();
        for (index, _) in known.into_iter().filter(|(_, known)| known.is_gone) {
            self.states.try_remove(index);
        }
        let unreachable = CloseReason::Error(ErrorCode::ClusterUnreachable);
        for (index, state) in &mut self.states {
            let (reason, rejection) = match state {
                State::Unregistered { .. } | State::Revoked(_) | State::Ended => continue,
                // It has been told why.
                State::Leaving(closed) => (closed.reason, None),
                State::AwaitingProof(_)
                | State::AwaitingName(_)
                | State::Joining(_)
                | State::Registered(_) => {
                    let rejection = rejection::cluster_unreachable(retry_after_ms);
                    (unreachable, Some(rejection))
                }
            };
            let closed = Closed {
                reason,
                name: room.name(ConnectionId(index).member()).cloned(),
                chats: 0,
            };
            *state = State::Revoked(Box::new(Revoked { closed, rejection }));
        }
    }

    /// A command of the connection `index` was applied, with `event`. Effects: as in
    /// [`Sessions::handle`].
    pub fn applied(
        &mut self,
        room: &mut Room,
        now: Time,
        index: usize,
        event: room::Event,
        effects: &mut Vec<Effect>,
    ) {
        if self.closing.is_some() {
            return; // CHAT-CLOSE-2: nothing follows ServerClosing.
        }
        let id = ConnectionId(index);
        let mut context = Context {
            now,
            id: &id,
            room: OrderedRoom(room),
            effects,
        };
        match event {
            room::Event::Joined { .. }
            | room::Event::NameTaken
            | room::Event::NameOwned
            | room::Event::Replaced => {
                self.join_applied(&mut context, event);
            }
            room::Event::Accepted { .. } | room::Event::Repeated(_) => {
                self.chat_applied(&mut context, event)
            }
            room::Event::Left {
                name,
                chats,
                published,
            } => {
                self.probes.remove(&name);
                context.effects.push(Effect::Publish(published));
                if let Some(state @ State::Leaving(_)) = self.states.get_mut(index)
                    && let State::Leaving(mut closed) = std::mem::replace(state, State::Ended)
                {
                    closed.chats = chats;
                    context.effects.push(Effect::Closed(*closed));
                }
                self.forget(index);
            }
            // Its member had gone.
            room::Event::Ignored => {}
        }
    }

    /// The member of another node, or of none any more, did something.
    pub fn applied_elsewhere(&mut self, event: room::Event, effects: &mut Vec<Effect>) {
        if self.closing.is_some() {
            return; // CHAT-CLOSE-2
        }
        match event {
            room::Event::Joined {
                replaced,
                published,
                ..
            } => {
                if let Some(replaced) = replaced {
                    self.replaced(*replaced, effects);
                }
                effects.push(Effect::Publish(published));
            }
            room::Event::Accepted { .. } => {
                self.note_named(&event);
                if let room::Event::Accepted { published, .. } = event {
                    effects.push(Effect::Publish(published));
                }
            }
            room::Event::Left {
                name, published, ..
            } => {
                self.probes.remove(&name);
                effects.push(Effect::Publish(published));
            }
            room::Event::NameTaken
            | room::Event::NameOwned
            | room::Event::Replaced
            | room::Event::Repeated(_)
            | room::Event::Ignored => {}
        }
    }

    fn join_applied(&mut self, context: &mut Context<'_>, event: room::Event) {
        let index = context.id.0;
        let state = self.states.get_mut(index);
        if let Some(state @ State::Joining(_)) = state
            && let State::Joining(joining) = std::mem::replace(state, State::Ended)
        {
            let is_in = matches!(event, room::Event::Joined { .. });
            // Answered as an Unregistered one: nothing of it was held.
            self.joined(context, *joining, event);
            if !is_in {
                self.forget(index);
            }
            return;
        }
        // It has ended meanwhile.
        match event {
            room::Event::Joined { .. } => {
                self.applied_elsewhere(event, context.effects);
                if let Some(elsewhere) = &mut self.elsewhere {
                    elsewhere.commands.push(Command::Leave {
                        member: context.id.member(),
                        reason: LeftReason::ConnectionLost,
                        time_unix_ms: context.now.unix_ms,
                    });
                }
            }
            _ => self.forget(index),
        }
    }

    fn chat_applied(&mut self, context: &mut Context<'_>, event: room::Event) {
        let answers = self.known(context.id.0).map(|known| &mut known.answers);
        let Some(Answer::Chat { id, receipts }) = answers.and_then(VecDeque::pop_front) else {
            // It reads no answers any more.
            return self.applied_elsewhere(event, context.effects);
        };
        self.note_named(&event);
        messages::answer_chat(context, id, receipts, event);
        self.flush_answers(context.id.0, context.effects);
    }

    /// Takes out the answers that wait for nothing any more.
    fn flush_answers(&mut self, index: usize, effects: &mut Vec<Effect>) {
        if let Some(Known { answers, .. }) = self.known(index) {
            let is_reply = |answer: &&Answer| matches!(answer, Answer::Reply(_));
            let replies = answers.iter().take_while(is_reply).count();
            let replies = answers.drain(..replies).filter_map(|answer| match answer {
                Answer::Reply(envelope) => Some(Effect::Reply(*envelope)),
                Answer::Chat { .. } | Answer::Direct { .. } => None,
            });
            effects.extend(replies);
        }
    }

    fn known(&mut self, index: usize) -> Option<&mut Known> {
        self.elsewhere.as_mut()?.known.get_mut(&index)
    }

    /// The order knows nothing more of a connection.
    fn forget(&mut self, index: usize) {
        let known = self
            .elsewhere
            .as_mut()
            .and_then(|it| it.known.remove(&index));
        if known.is_some_and(|known| known.is_gone) {
            self.states.try_remove(index);
        }
    }
}

/// What the other modules of the sessions call.
impl Sessions {
    /// Has a command applied. Returns what became of it; on a node of a cluster `None`,
    /// and [`Sessions::applied`] goes on with it later.
    pub(super) fn order(
        &mut self,
        context: &mut Context<'_>,
        command: Command,
    ) -> Option<room::Event> {
        let Some(elsewhere) = &mut self.elsewhere else {
            return Some(context.room.0.apply(command));
        };
        elsewhere.known.entry(context.id.0).or_default();
        elsewhere.commands.push(command);
        None
    }

    /// The answer to a chat waits until it was applied.
    pub(super) fn await_chat(&mut self, context: &Context<'_>, id: u64, receipts: bool) {
        if let Some(known) = self.known(context.id.0) {
            known.answers.push_back(Answer::Chat { id, receipts });
        }
    }

    /// The answer to a Direct waits for another node.
    pub(super) fn await_direct(&mut self, index: usize, ticket: u64) {
        if let Some(elsewhere) = &mut self.elsewhere {
            let known = elsewhere.known.entry(index).or_default();
            known.answers.push_back(Answer::Direct { ticket });
        }
    }

    /// The replies of a Direct, which stand in `effects` from `first` on, take its place
    /// among the answers.
    pub(super) fn place_answer(
        &mut self,
        index: usize,
        ticket: u64,
        effects: &mut Vec<Effect>,
        first: usize,
    ) {
        let Some(known) = self.known(index) else {
            return;
        };
        let is_it =
            |answer: &Answer| matches!(answer, Answer::Direct { ticket: it } if *it == ticket);
        let Some(place) = known.answers.iter().position(is_it) else {
            return;
        };
        let behind = known.answers.split_off(place);
        for effect in effects.split_off(first) {
            match effect {
                Effect::Reply(envelope) => {
                    known.answers.push_back(Answer::Reply(Box::new(envelope)));
                }
                effect => effects.push(effect),
            }
        }
        known.answers.extend(behind.into_iter().skip(1));
        self.flush_answers(index, effects);
    }

    /// Has a message that is none of the answers wait behind these. Returns it if there are
    /// none.
    pub(super) fn hold_behind_answers(
        &mut self,
        index: usize,
        envelope: ServerEnvelope,
    ) -> Option<ServerEnvelope> {
        match self.known(index) {
            Some(known) if !known.answers.is_empty() => {
                known.answers.push_back(Answer::Reply(Box::new(envelope)));
                None
            }
            _ => Some(envelope),
        }
    }

    /// Ends the session of a member of a cluster. Its connection is closed when its Leave
    /// was applied, behind the answers to its chats (CHAT-LEAVE-2); at once if it takes no
    /// answers anyhow, or the server closes and tells the other nodes itself.
    pub(super) fn leave_elsewhere(&mut self, context: &mut Context<'_>, reason: CloseReason) {
        let index = context.id.0;
        let member = context.id.member();
        let closed = Closed {
            reason,
            name: context.room.name(member).cloned(),
            chats: 0,
        };
        let is_closing = reason == CloseReason::ServerClosing;
        if !is_closing {
            self.order(context, reason.leave(member, context.now));
        }
        let waits = !(is_closing || takes_nothing(reason));
        if let (false, Some(known)) = (waits, self.known(index)) {
            known.answers.clear();
        }
        let state = match waits {
            true => State::Leaving(Box::new(closed)),
            false => {
                context.effects.push(Effect::Closed(closed));
                State::Ended
            }
        };
        if let Some(entry) = self.states.get_mut(index)
            && let State::Registered(session) = std::mem::replace(entry, state)
        {
            self.settle(*session, context.effects);
        }
    }

    /// Handles an event of a connection whose Leave is on its way: it can only stop
    /// waiting for that.
    pub(super) fn handle_leaving(&mut self, context: &mut Context<'_>, event: &Event) {
        if !matches!(
            event,
            Event::WriteTimedOut | Event::Evicted | Event::PastRemoved
        ) {
            return;
        }
        if let Some(known) = self.known(context.id.0) {
            known.answers.clear();
        }
        if let Some(state @ State::Leaving(_)) = self.states.get_mut(context.id.0)
            && let State::Leaving(closed) = std::mem::replace(state, State::Ended)
        {
            context.effects.push(Effect::Closed(*closed));
        }
    }

    /// Whether commands take their place in the order of a cluster.
    pub(super) fn is_clustered(&self) -> bool {
        self.elsewhere.is_some()
    }

    /// A connection takes no answers to its chats any more.
    pub(super) fn drop_answers(&mut self, index: usize) {
        if let Some(known) = self.known(index) {
            known.answers.clear();
        }
    }

    /// Takes the replies that a call of [`Sessions::handle`] has made, where they must wait
    /// for others.
    pub(super) fn hold_replies(&mut self, index: usize, effects: &mut Vec<Effect>, first: usize) {
        if let Some(elsewhere) = &mut self.elsewhere {
            elsewhere.hold_replies(index, effects, first);
        }
    }

    /// Whether too much waits for a connection to read more from it.
    pub(super) fn has_many_answers(&self, index: usize) -> bool {
        let elsewhere = self.elsewhere.as_ref();
        elsewhere.is_some_and(|elsewhere| elsewhere.is_full(index))
    }

    /// A connection is gone. Whether its id must not be used again for a while.
    pub(super) fn keep_id(&mut self, index: usize) -> bool {
        self.known(index)
            .map(|known| known.is_gone = true)
            .is_some()
    }

    /// How long clients are to wait, if this node cannot let them in.
    pub(super) fn unreachable_ms(&self) -> Option<u32> {
        self.elsewhere.as_ref()?.retry_after_ms
    }

    /// A new session has taken the place of an open one of this node (CHAT-RES-5), which is
    /// told at its next event.
    pub(super) fn replaced(&mut self, replaced: Replaced, effects: &mut Vec<Effect>) {
        let Replaced {
            member,
            name,
            chats,
            published,
        } = replaced;
        self.probes.remove(&name);
        effects.push(Effect::Publish(published));
        if member.elsewhere().is_some() {
            return;
        }
        let index = member.0 as usize;
        if let Some(state @ (State::Registered(_) | State::Leaving(_))) = self.states.get_mut(index)
        {
            let closed = Closed {
                reason: CloseReason::Error(ErrorCode::Replaced),
                name: Some(name),
                chats,
            };
            let rejection = Some(rejection::replaced());
            let revoked = State::Revoked(Box::new(Revoked { closed, rejection }));
            if let State::Registered(session) = std::mem::replace(state, revoked) {
                self.settle(*session, effects);
            }
            effects.push(Effect::Notify(index));
        }
        self.forget(index);
    }
}

/// Whether a connection that ends for this reason reads no answers any more.
fn takes_nothing(reason: CloseReason) -> bool {
    matches!(
        reason,
        CloseReason::Error(ErrorCode::SlowConsumer | ErrorCode::Overloaded)
    )
}
