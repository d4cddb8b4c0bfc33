//! Keepalive: pings a member that is silent, and ends its session when it stays so
//! (CHAT-KEEP). Only members with keepalive are asked.

use crate::wire::{self, server_envelope::Message};

use super::{Context, Sessions, envelope, rejection, state::Session};

impl Sessions {
    /// Handles the passing of time for a member from which everything was read.
    pub(super) fn handle_silence(&mut self, context: &mut Context<'_>, replies_flushed: bool) {
        if !self.session(context.id).granted.keepalive // CHAT-KEEP-6
            || self.handle_probe(context, replies_flushed)
        {
            return;
        }
        let interval_ms = u64::from(self.limits.keepalive_interval_ms);
        let deadline_ms = self.limits.idle_deadline_ms;
        let now_ms = context.now.elapsed_ms;
        let session = self.session(context.id);
        if now_ms - session.last_activity_ms >= u64::from(deadline_ms) {
            // CHAT-KEEP-4
            self.end_with(context, rejection::idle_timeout(deadline_ms));
        } else if now_ms - session.last_activity_ms.max(session.last_ping_ms) >= interval_ms {
            context.ping(session); // CHAT-KEEP-3
        }
    }

    /// Whether a member is to be pinged, or has let the deadline pass.
    pub(super) fn is_silence_due(&self, now_ms: u64, session: &Session) -> bool {
        let silent_ms = |since_ms: u64| now_ms.saturating_sub(since_ms);
        silent_ms(session.last_activity_ms) >= u64::from(self.limits.idle_deadline_ms)
            || silent_ms(session.last_activity_ms.max(session.last_ping_ms))
                >= u64::from(self.limits.keepalive_interval_ms)
    }
}

impl Context<'_> {
    /// Pings a member. The token only has to differ from ping to ping.
    pub(super) fn ping(&mut self, session: &mut Session) {
        let now_ms = self.now.elapsed_ms;
        session.last_ping_ms = now_ms;
        self.reply(envelope(Message::Ping(wire::Ping { token: now_ms })));
    }
}
