//! The end of sessions: of one, for whatever reason, and of all when the server closes
//! (CHAT-CLOSE).

use crate::{
    name::Name,
    room::{self, MemberId},
    wire::{self, ServerEnvelope, server_envelope::Message},
};

use super::{
    CloseReason, Closed, ConnectionId, Context, Effect, Sessions, State, envelope,
    rejection::Rejection, state::Session,
};

/// How much later each connection is told to come back than the one before, in
/// milliseconds: a server opens that many sessions a second with ease.
const RETURNS_MS_APART: u32 = 5;

/// Over how long all of them are spread, in milliseconds: the connections of the default
/// limit.
const RETURNS_MS_MAX: u32 = 50_000;

/// What the server says when it closes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// Why, for people.
    pub detail: String,
    /// When the first clients are to come back, in milliseconds; 0: nothing is said.
    pub retry_after_ms: u32,
}

impl Closing {
    /// ServerClosing for the connection with this index (CHAT-CLOSE-7).
    pub(super) fn message(&self, index: usize) -> ServerEnvelope {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        let later_ms = index.wrapping_mul(RETURNS_MS_APART) % RETURNS_MS_MAX;
        let retry_after_ms = match self.retry_after_ms {
            0 => 0,
            first_ms => first_ms.saturating_add(later_ms),
        };
        envelope(Message::ServerClosing(wire::ServerClosing {
            detail: self.detail.clone(),
            retry_after_ms,
        }))
    }
}

impl Sessions {
    /// The server closes: no message is accepted any more (CHAT-CLOSE-5). The caller then
    /// handles an [`Event::Tick`](super::Event::Tick) for every connection, which tells it so.
    pub fn begin_closing(&mut self, closing: Closing) {
        self.closing.get_or_insert(closing);
    }

    /// The server closes, and nothing that was published since the last commit will be
    /// sent: as [`Sessions::begin_closing`], but clients are told at once.
    pub fn begin_failing(&mut self, detail: String) {
        self.closing = Some(Closing {
            detail,
            retry_after_ms: 0,
        });
        self.has_failed = true;
    }

    /// The last message to a connection with an [`Effect::Farewell`].
    pub fn farewell(&self, id: &ConnectionId) -> Option<ServerEnvelope> {
        let closing = self.closing.as_ref()?;
        Some(closing.message(id.index()))
    }

    /// Whether the server closes.
    pub fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Ends a connection with an error (CHAT-ERR-1, CHAT-ERR-2).
    pub(super) fn end_with(&mut self, context: &mut Context<'_>, rejection: Rejection) {
        let code = rejection.code;
        context.reply(rejection.fatal());
        self.end(context, CloseReason::Error(code));
    }

    /// CHAT-CLOSE-1: each is told when all that is due to it is sent (CHAT-CLOSE-6).
    pub(super) fn end_for_closing(&mut self, context: &mut Context<'_>) {
        match self.states.get(context.id.0) {
            Some(State::Leaving(_) | State::Ended) | None => {}
            Some(_) if self.has_failed => {
                if let Some(farewell) = self.farewell(context.id) {
                    context.reply(farewell);
                }
            }
            Some(_) => context.effects.push(Effect::Farewell),
        }
        self.end(context, CloseReason::ServerClosing);
    }

    /// Ends a session, if there is one: its member leaves the room.
    pub(super) fn end(&mut self, context: &mut Context<'_>, reason: CloseReason) {
        let Some(state) = self.states.get_mut(context.id.0) else {
            return;
        };
        if let (State::Registered(_), Some(_)) = (&*state, &self.elsewhere) {
            return self.leave_elsewhere(context, reason);
        }
        let state = std::mem::replace(state, State::Ended);
        let mut closed = Closed {
            reason,
            name: None,
            chats: 0,
        };
        match state {
            State::AwaitingName(pending) => self.stop_waiting(context.id.0, &pending),
            State::Registered(session) => {
                self.settle(*session, context.effects);
                if let Some((name, chats)) = self.leave(context, context.id.member(), reason) {
                    closed.name = Some(name);
                    closed.chats = chats;
                }
            }
            State::Leaving(left) => closed = *left,
            State::Revoked(revoked) => closed = revoked.closed,
            State::Unregistered { .. }
            | State::AwaitingProof(_)
            | State::Joining(_)
            | State::Ended => {}
        }
        context.effects.push(Effect::Closed(closed));
    }

    /// Tells a client why another has ended its session ([`Sessions::revoke`]).
    pub(super) fn tell_revoked(&mut self, context: &mut Context<'_>) {
        let Some(State::Revoked(revoked)) = self.states.get(context.id.0) else {
            return;
        };
        match revoked.rejection.clone() {
            Some(rejection) => self.end_with(context, rejection),
            None => {
                let reason = revoked.closed.reason;
                self.end(context, reason);
            }
        }
    }

    /// What a session that has ended leaves to be done.
    pub(super) fn settle(&mut self, session: Session, effects: &mut Vec<Effect>) {
        self.downloads -= usize::from(session.download.is_some());
        self.settle_directs(session.directs, effects);
    }

    /// A member leaves the room. Returns its name and how many of its chats were accepted.
    pub(super) fn leave(
        &mut self,
        context: &mut Context<'_>,
        member: MemberId,
        reason: CloseReason,
    ) -> Option<(Name, u64)> {
        let left = self.order(context, reason.leave(member, context.now));
        let Some(room::Event::Left {
            name,
            chats,
            published,
        }) = left
        else {
            return None;
        };
        self.probes.remove(&name);
        // CHAT-CLOSE-2: nothing follows ServerClosing.
        if self.closing.is_none() {
            context.effects.push(Effect::Publish(published));
        }
        Some((name, chats))
    }
}
