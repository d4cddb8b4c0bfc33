//! Keepalive: pings a silent member, and ends its session if it stays silent (CHAT-KEEP).
//! Only members with keepalive are pinged.

use crate::wire::{self, server_envelope::Message};

use super::{Context, Progress, Sessions, State, envelope, rejection, state::Session};

impl Sessions {
    /// Handles a tick for a member from which everything was read.
    pub(super) fn handle_silence(
        &mut self,
        context: &mut Context<'_>,
        replies_flushed: bool,
        progress: Option<Progress>,
    ) {
        if !self.session(context.id).granted.keepalive // CHAT-KEEP-6
            || self.handle_probe(context, replies_flushed, progress)
        {
            return;
        }
        let now_ms = context.now.elapsed_ms;
        let Some(State::Registered(session)) = self.states.get_mut(context.id.0) else {
            return;
        };
        session.silence.note_progress(now_ms, progress);
        if session.silence.is_over(now_ms, &self.limits) {
            // CHAT-KEEP-4
            let deadline_ms = self.limits.idle_deadline_ms;
            self.end_with(context, rejection::idle_timeout(deadline_ms));
        } else if session.silence.is_ping_due(now_ms, &self.limits) {
            context.ping(session, progress); // CHAT-KEEP-3
        }
    }

    /// Whether the server must ping a member, or end its session.
    pub(super) fn is_silence_due(&self, now_ms: u64, session: &Session) -> bool {
        session.silence.is_due(now_ms, &self.limits)
    }
}

impl Context<'_> {
    /// Pings a member. The token only has to differ from ping to ping.
    pub(super) fn ping(&mut self, session: &mut Session, progress: Option<Progress>) {
        let now_ms = self.now.elapsed_ms;
        session.silence.note_ping(now_ms, progress);
        self.reply(envelope(Message::Ping(wire::Ping { token: now_ms })));
    }
}
