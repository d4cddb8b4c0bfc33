//! Keepalive: pings a silent member, and ends its session if it stays silent (CHAT-KEEP).
//! Only members with keepalive are pinged.

use std::num::NonZeroU32;

use crate::{
    limits::Limits,
    wire::{self, server_envelope::Message},
};

use super::{Context, Progress, Sessions, State, envelope, rejection, state::Session};

/// How long the server waits for the answer to a Ping before it ends the session, in
/// milliseconds, if the limits leave that much time.
const ANSWER_MS_MAX: u32 = 10_000;

/// The silence of a member: since when no frame has arrived, and the Pings since then.
#[derive(Debug, Clone, Copy)]
pub(super) struct Silence {
    since_ms: u64,
    /// How long after that the first Ping was sent, in milliseconds; 0 before it.
    first_ping_after_ms: u32,
    /// The same for the last one.
    last_ping_after_ms: u32,
    /// How many bytes had been written when the first Ping was, in the low 32 bits, until
    /// they have arrived; `None` where the transport does not tell.
    unarrived: Option<NonZeroU32>,
}

impl Silence {
    /// A silence that begins now.
    pub(super) fn new(now_ms: u64) -> Self {
        Self {
            since_ms: now_ms,
            first_ping_after_ms: 0,
            last_ping_after_ms: 0,
            unarrived: None,
        }
    }

    /// How long it has lasted, in milliseconds.
    pub(super) fn ms(&self, now_ms: u64) -> u32 {
        // u32::MAX is longer than any deadline.
        u32::try_from(now_ms.saturating_sub(self.since_ms)).unwrap_or(u32::MAX)
    }

    fn note_ping(&mut self, now_ms: u64, progress: Option<Progress>) {
        self.last_ping_after_ms = self.ms(now_ms);
        if self.first_ping_after_ms == 0 {
            self.first_ping_after_ms = self.last_ping_after_ms;
            let written = progress.map(|progress| progress.written_bytes as u32 | 1);
            self.unarrived = written.and_then(NonZeroU32::new);
        }
    }

    /// Lets the time to answer begin when the first Ping has arrived: behind a full queue
    /// of the network that takes a while. A peer that is gone does not acknowledge, and
    /// the transport gives up on it.
    fn note_progress(&mut self, now_ms: u64, progress: Option<Progress>) {
        if let (Some(written), Some(progress)) = (self.unarrived, progress) {
            // Less than 2 GiB lie between the two.
            let is_behind =
                (progress.acked_bytes as u32).wrapping_sub(written.get()) > u32::MAX / 2;
            match is_behind {
                true => self.first_ping_after_ms = self.ms(now_ms),
                false => self.unarrived = None,
            }
        }
    }

    /// Whether it has lasted for the deadline, and the first Ping since then had time to
    /// be answered. So a server that was suspended pings before it ends a session.
    fn is_over(&self, now_ms: u64, limits: &Limits) -> bool {
        let (interval_ms, deadline_ms) = (limits.keepalive_interval_ms, limits.idle_deadline_ms);
        let answer_ms = (deadline_ms.saturating_sub(interval_ms) / 2).min(ANSWER_MS_MAX);
        let (ms, first_ping_after_ms) = (self.ms(now_ms), self.first_ping_after_ms);
        ms >= deadline_ms
            && first_ping_after_ms > 0
            && ms.saturating_sub(first_ping_after_ms) >= answer_ms
    }

    fn is_ping_due(&self, now_ms: u64, limits: &Limits) -> bool {
        self.ms(now_ms).saturating_sub(self.last_ping_after_ms) >= limits.keepalive_interval_ms
    }
}

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
        let silence = &session.silence;
        silence.unarrived.is_some()
            || silence.is_over(now_ms, &self.limits)
            || silence.is_ping_due(now_ms, &self.limits)
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
