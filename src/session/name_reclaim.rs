//! Name reclaiming: asks the holder of a name for a sign of life when another client
//! registers it, and takes the name back when there is none (CHAT-NAME-7).
//!
//! ```text
//!  newcomer: Register ──▶ waits ─────────────────────────▶ NAME_IN_USE, or the name
//!                           │                                   ▲             ▲
//!  holder:                  └──▶ Ping ──▶ something arrived ────┘             │
//!                                   └───▶ nothing for the deadline: ended ────┘
//! ```
//!
//! Only a member with keepalive can be asked. For another one the newcomer is told
//! NAME_IN_USE at once; when its machine is gone, TCP finds out within a minute.
//!
//! Everything happens when time passes: the holder and the newcomers that wait are due
//! to [`Event::Tick`](super::Event::Tick). A holder that answers keeps its name, so two
//! clients that reconnect by themselves cannot throw each other out. It is asked once
//! for all newcomers that wait, and at most once in a deadline.

use crate::{
    name::Name,
    room::{MemberId, Room},
};

use super::{ConnectionId, Context, Progress, Sessions, State, rejection, state::Granted};

/// How many may wait for the answer of one holder. Others are refused at once: only
/// one can get the name.
const PENDING_REGISTERS_MAX: usize = 4;

/// A client whose Register waits.
#[derive(Debug)]
pub(super) struct PendingRegister {
    /// When it was accepted: the register deadline counts from here.
    pub(super) since_ms: u64,
    pub(super) name: Name,
    pub(super) granted: Granted,
}

/// A question to a holder, and the newcomers that wait for the answer.
#[derive(Debug)]
pub(super) struct HolderProbe {
    began_ms: u64,
    state: ProbeState,
    /// The indices of their connections, at most [`PENDING_REGISTERS_MAX`].
    waiting: Vec<usize>,
}

/// How far a question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProbeState {
    ToAsk,
    /// The Ping is on its way out.
    Asking,
    /// The Ping had gone out, and had time to be answered since then.
    Asked {
        since_ms: u64,
        /// Where the transport tells: how far what was sent had got at that time, until
        /// the Ping has arrived.
        unacked: Option<Progress>,
    },
    /// Something has arrived since.
    Answered,
}

/// What a newcomer must be told.
enum Answer {
    Wait,
    Free,
    Taken,
}

impl HolderProbe {
    fn begin(now_ms: u64) -> Self {
        Self {
            began_ms: now_ms,
            state: ProbeState::ToAsk,
            waiting: Vec::new(),
        }
    }

    /// Whether there was time for an answer, and none arrived.
    fn has_timed_out(&self, now_ms: u64, deadline_ms: u32) -> bool {
        match self.state {
            ProbeState::Asked { since_ms, .. } => {
                now_ms.saturating_sub(since_ms) >= u64::from(deadline_ms)
            }
            ProbeState::ToAsk | ProbeState::Asking | ProbeState::Answered => false,
        }
    }
}

impl Sessions {
    /// Makes a newcomer wait for `name`, which the member `holder` has. Returns false
    /// where there is nothing to wait for.
    pub(super) fn wait_for_name(
        &mut self,
        now_ms: u64,
        name: &Name,
        holder: MemberId,
        newcomer: &ConnectionId,
    ) -> bool {
        let deadline_ms = u64::from(self.limits.name_check_deadline_ms);
        let Some(State::Registered(session)) = self.states.get(holder.0 as usize) else {
            return false;
        };
        if !session.granted.keepalive {
            return false;
        }
        let begin = || HolderProbe::begin(now_ms);
        let probe = self.probes.entry(name.clone()).or_insert_with(begin);
        if probe.state == ProbeState::Answered {
            // It has just said that it is there.
            if now_ms.saturating_sub(probe.began_ms) < deadline_ms {
                return false;
            }
            *probe = begin();
        }
        if probe.waiting.len() >= PENDING_REGISTERS_MAX {
            return false;
        }
        probe.waiting.push(newcomer.0);
        true
    }

    /// Tells a newcomer what has become of the name that it waits for: by the members of
    /// this moment, and without another question (CHAT-NAME-12).
    pub(super) fn handle_name_wait(&mut self, context: &mut Context<'_>) {
        let Some(State::AwaitingName(pending)) = self.states.get(context.id.0) else {
            return;
        };
        let (name, granted) = (pending.name.clone(), pending.granted);
        let is_late = self.register_is_late(context.now.elapsed_ms, pending.since_ms);
        match self.answer(context.room, context.id.0, &name) {
            Answer::Wait if is_late => {
                let deadline_ms = self.limits.register_deadline_ms;
                self.end_with(context, rejection::register_timeout(deadline_ms));
            }
            Answer::Wait => {}
            Answer::Free => self.join(context, name, granted),
            Answer::Taken => self.end_with(context, rejection::name_in_use(&name)), // CHAT-NAME-3
        }
    }

    /// Whether a newcomer can be told something.
    pub(super) fn is_wait_over(
        &self,
        room: &Room,
        now_ms: u64,
        index: usize,
        pending: &PendingRegister,
    ) -> bool {
        self.register_is_late(now_ms, pending.since_ms)
            || !matches!(self.answer(room, index, &pending.name), Answer::Wait)
    }

    /// A newcomer waits no longer, whatever the reason.
    pub(super) fn stop_waiting(&mut self, index: usize, pending: &PendingRegister) {
        if let Some(probe) = self.probes.get_mut(&pending.name) {
            probe.waiting.retain(|&waiting| waiting != index);
        }
    }

    /// Asks a holder for a sign of life, or takes its name from it when there was
    /// none. `replies_flushed`: whether it was sent all replies; `progress`: how far they
    /// have got. Returns whether its session has ended.
    pub(super) fn handle_probe(
        &mut self,
        context: &mut Context<'_>,
        replies_flushed: bool,
        progress: Option<Progress>,
    ) -> bool {
        let now_ms = context.now.elapsed_ms;
        let deadline_ms = self.limits.name_check_deadline_ms;
        let Some(State::Registered(session)) = self.states.get_mut(context.id.0) else {
            return false;
        };
        let name = context.room.name(context.id.member());
        let Some(probe) = name.and_then(|name| self.probes.get_mut(name)) else {
            return false;
        };
        match probe.state {
            ProbeState::ToAsk => {
                // CHAT-NAME-7. A holder that has said something at this moment has
                // answered.
                probe.state = match session.silence.ms(now_ms) == 0 {
                    true => ProbeState::Answered,
                    false => ProbeState::Asking,
                };
                context.ping(session);
            }
            ProbeState::Asking if replies_flushed => {
                probe.state = ProbeState::Asked {
                    since_ms: now_ms,
                    unacked: progress,
                };
            }
            // It takes nothing, so it cannot be asked. If that lasts it is closed for
            // that (CHAT-LIM-5).
            ProbeState::Asking => probe.state = ProbeState::Answered,
            // CHAT-NAME-8: behind a full queue of the network the Ping takes its time, and
            // the deadline counts from when it has arrived; or from when the last byte
            // has, of a holder that is gone.
            ProbeState::Asked {
                unacked: Some(before),
                ..
            } => {
                let acked_bytes = progress.map_or(u64::MAX, |progress| progress.acked_bytes);
                if acked_bytes > before.acked_bytes {
                    let has_arrived = acked_bytes >= before.written_bytes;
                    probe.state = ProbeState::Asked {
                        since_ms: now_ms,
                        unacked: (!has_arrived).then_some(Progress {
                            acked_bytes,
                            ..before
                        }),
                    };
                }
            }
            ProbeState::Asked { unacked: None, .. } | ProbeState::Answered => {}
        }
        let is_gone = probe.has_timed_out(now_ms, deadline_ms); // CHAT-NAME-8
        if is_gone {
            self.end_with(context, rejection::name_reclaimed(deadline_ms)); // CHAT-NAME-9
        }
        is_gone
    }

    /// Something arrived from a member, if only a part of a frame: if it is asked for
    /// its name, that is an answer (CHAT-NAME-8).
    pub(super) fn note_activity(&mut self, room: &Room, member: MemberId) {
        if let Some(probe) = self.probe_of(room, member)
            && probe.state != ProbeState::ToAsk
        {
            probe.state = ProbeState::Answered;
        }
    }

    /// The server does not read from a holder for now: it cannot be silent meanwhile.
    pub(super) fn suspend_probe(&mut self, room: &Room, member: MemberId) {
        if let Some(probe) = self.probe_of(room, member) {
            probe.state = ProbeState::Answered;
        }
    }

    /// The question to a member.
    fn probe_of(&mut self, room: &Room, member: MemberId) -> Option<&mut HolderProbe> {
        // Nearly always nobody is asked.
        if self.probes.is_empty() {
            return None;
        }
        self.probes.get_mut(room.name(member)?)
    }

    /// Whether a holder is to be asked, or has let the deadline pass.
    pub(super) fn is_probe_due(&self, room: &Room, now_ms: u64, member: MemberId) -> bool {
        // Nearly always nobody is asked.
        if self.probes.is_empty() {
            return false;
        }
        let probe = room.name(member).and_then(|name| self.probes.get(name));
        probe.is_some_and(|probe| {
            let deadline_ms = self.limits.name_check_deadline_ms;
            matches!(
                probe.state,
                ProbeState::ToAsk
                    | ProbeState::Asking
                    | ProbeState::Asked {
                        unacked: Some(_),
                        ..
                    }
            ) || probe.has_timed_out(now_ms, deadline_ms)
        })
    }

    fn answer(&self, room: &Room, index: usize, name: &Name) -> Answer {
        if room.holder(name).is_none() {
            return Answer::Free;
        }
        match self.probes.get(name) {
            Some(probe)
                if probe.waiting.contains(&index) && probe.state != ProbeState::Answered =>
            {
                Answer::Wait
            }
            _ => Answer::Taken,
        }
    }
}
