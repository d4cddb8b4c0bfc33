//! Name reclaiming: when a client registers a name that is in use, the server probes the
//! holder with a Ping, and frees the name if no answer arrives (CHAT-NAME-7).
//!
//! ```text
//!  newcomer: Register ──▶ waits ─────────────────────────▶ NAME_IN_USE, or the name
//!                           │                                   ▲             ▲
//!  holder:                  └──▶ Ping ──▶ bytes arrive ─────────┘             │
//!                                   └───▶ none before the deadline: ended ────┘
//! ```
//!
//! Only a holder with keepalive can be probed. For another holder the newcomer receives
//! NAME_IN_USE at once; if the holder's machine is gone, TCP detects it within a minute.
//!
//! On a node of a cluster the holder may be connected to another node. The probe goes to that
//! one through the order of all nodes, and so does its result:
//!
//! ```text
//!  newcomer's node: NameAsked ─▶ ... ─▶ holder's node: probes ─▶ NameAnswered, or its Leave
//! ```
//!
//! Everything happens on [`Event::Tick`](super::Event::Tick), of the holder and of the
//! newcomers that wait. A holder that answers keeps its name, so two clients that
//! reconnect automatically cannot evict each other. One probe serves all newcomers that
//! wait, and a holder is probed at most once per deadline.

use crate::{
    name::Name,
    room::{MemberId, Room},
};

use super::{
    ConnectionId, Context, Progress, Sessions, State, Time, pending::PendingRegister, rejection,
};

/// How many newcomers may wait for one holder. The server rejects others at once, since
/// only one can get the name.
const PENDING_REGISTERS_MAX: usize = 4;

/// The probe of a holder, and the newcomers that wait for the result.
#[derive(Debug)]
pub(super) struct HolderProbe {
    began_ms: u64,
    state: ProbeState,
    /// Another node waits for the result too.
    is_for_others: bool,
    /// The indices of their connections, at most [`PENDING_REGISTERS_MAX`].
    waiting: Vec<usize>,
}

/// The progress of a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ProbeState {
    /// The holder is connected to another node of the cluster, which was asked.
    Elsewhere,
    /// The holder was not pinged yet.
    Begun,
    /// The Ping is queued.
    Pinging,
    /// The Ping was sent; the deadline counts from `since_ms`.
    Pinged {
        since_ms: u64,
        /// Until the client's system has acknowledged the Ping: the progress at
        /// `since_ms`. `None` also if the transport does not know.
        unacked: Option<Progress>,
    },
    /// Bytes have arrived since, or the holder cannot be probed.
    Answered,
}

/// The answer to a newcomer.
enum Answer {
    Wait,
    Free,
    Taken,
}

impl HolderProbe {
    fn begin(now_ms: u64, state: ProbeState) -> Self {
        Self {
            began_ms: now_ms,
            state,
            is_for_others: false,
            waiting: Vec::new(),
        }
    }

    /// Whether the holder had time to answer and did not.
    fn has_timed_out(&self, now_ms: u64, deadline_ms: u32) -> bool {
        match self.state {
            ProbeState::Pinged { since_ms, .. } => {
                now_ms.saturating_sub(since_ms) >= u64::from(deadline_ms)
            }
            ProbeState::Elsewhere
            | ProbeState::Begun
            | ProbeState::Pinging
            | ProbeState::Answered => false,
        }
    }
}

/// What nodes of a cluster ask each other about names.
#[derive(Debug, Default)]
pub struct NameChecks {
    /// The holders of these are to be probed.
    pub asked: Vec<Name>,
    /// The holders of these have answered, or cannot be probed.
    pub answered: Vec<Name>,
}

/// What the hub of a node of a cluster calls.
impl Sessions {
    /// What this node has to ask and to answer, since the last call.
    pub fn take_name_checks(&mut self) -> NameChecks {
        let Some(elsewhere) = &mut self.elsewhere else {
            return NameChecks::default();
        };
        let mut checks = std::mem::take(&mut elsewhere.name_checks);
        elsewhere.probed_for_others.retain(|name| {
            let Some(probe) = self.probes.get_mut(name) else {
                return false; // The holder has left, which tells enough.
            };
            let is_answered = probe.state == ProbeState::Answered;
            if is_answered {
                probe.is_for_others = false;
                checks.answered.push(name.clone());
            }
            !is_answered
        });
        checks
    }

    /// A node asks for a probe of the holder of a name, at this place in the order. Whichever
    /// node the holder is connected to begins it.
    pub fn name_asked(&mut self, room: &Room, now: Time, name: Name, is_from_here: bool) {
        let Some(holder) = room.holder(&name) else {
            return; // Whoever waits for it sees that it is free.
        };
        // One that has come to be here since this node has asked: nobody waits any more.
        if holder.elsewhere().is_some() || is_from_here {
            return;
        }
        let probe = self.begin_probe(now.elapsed_ms, &name, holder);
        let is_known = probe.map(|probe| std::mem::replace(&mut probe.is_for_others, true));
        let Some(elsewhere) = &mut self.elsewhere else {
            return;
        };
        match is_known {
            Some(true) => {}
            Some(false) => elsewhere.probed_for_others.push(name),
            None => elsewhere.name_checks.answered.push(name),
        }
    }

    /// The holder of a name has answered to its node.
    pub fn name_answered(&mut self, name: &Name) {
        if let Some(probe) = self.probes.get_mut(name)
            && probe.state == ProbeState::Elsewhere
        {
            probe.state = ProbeState::Answered;
        }
    }
}

impl Sessions {
    /// Makes a newcomer wait for `name`, which the member `holder` holds. Returns false
    /// if the holder cannot be probed or was just probed, or too many wait.
    pub(super) fn wait_for_name(
        &mut self,
        now_ms: u64,
        name: &Name,
        holder: MemberId,
        newcomer: &ConnectionId,
    ) -> bool {
        let Some(probe) = self.begin_probe(now_ms, name, holder) else {
            return false;
        };
        if probe.waiting.len() >= PENDING_REGISTERS_MAX {
            return false;
        }
        probe.waiting.push(newcomer.0);
        true
    }

    /// The probe of a holder, which begins if it is not under way. `None` if the holder cannot
    /// be probed, or was just probed.
    fn begin_probe(
        &mut self,
        now_ms: u64,
        name: &Name,
        holder: MemberId,
    ) -> Option<&mut HolderProbe> {
        let deadline_ms = u64::from(self.limits.name_check_deadline_ms);
        let first = match holder.elsewhere() {
            // Its node knows whether it can be probed.
            Some(_) => ProbeState::Elsewhere,
            None => match self.states.get(holder.0 as usize) {
                Some(State::Registered(session)) if session.granted.keepalive => ProbeState::Begun,
                _ => return None,
            },
        };
        let known = self.probes.get(name);
        let goes_on = known.is_some_and(|probe| match probe.state {
            // It has answered within the last deadline.
            ProbeState::Answered => now_ms.saturating_sub(probe.began_ms) < deadline_ms,
            _ => true,
        });
        if !goes_on {
            if let (ProbeState::Elsewhere, Some(elsewhere)) = (first, &mut self.elsewhere) {
                elsewhere.name_checks.asked.push(name.clone());
            }
            let probe = HolderProbe::begin(now_ms, first);
            self.probes.insert(name.clone(), probe);
        }
        let probe = self.probes.get_mut(name);
        probe.filter(|probe| probe.state != ProbeState::Answered)
    }

    /// Handles a tick for a newcomer that waits for a name: by the members of
    /// this moment, without another probe (CHAT-NAME-12).
    pub(super) fn handle_name_wait(&mut self, context: &mut Context<'_>) {
        let Some(State::AwaitingName(pending)) = self.states.get(context.id.0) else {
            return;
        };
        let name = pending.name.clone();
        let is_late = self.register_is_late(context.now.elapsed_ms, pending.since_ms);
        let answer = self.answer(&context.room, context.id.0, &name);
        // CHAT-MOD-3: the operator may have banned it meanwhile, and so ended its holder.
        if let (Answer::Free | Answer::Taken, Err(rejection)) = (
            &answer,
            self.moderation.check_name(&name, context.now.unix_ms),
        ) {
            return self.end_with(context, rejection);
        }
        match answer {
            Answer::Wait if is_late => {
                let deadline_ms = self.limits.register_deadline_ms;
                self.end_with(context, rejection::register_timeout(deadline_ms));
            }
            Answer::Wait => {}
            Answer::Free => {
                let pending = (**pending).clone();
                self.join(context, pending, None);
            }
            Answer::Taken => self.end_with(context, rejection::name_in_use(&name)), // CHAT-NAME-3
        }
    }

    /// Whether a newcomer can be answered.
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

    /// A newcomer waits no longer, for any reason.
    pub(super) fn stop_waiting(&mut self, index: usize, pending: &PendingRegister) {
        if let Some(probe) = self.probes.get_mut(&pending.name) {
            probe.waiting.retain(|&waiting| waiting != index);
        }
    }

    /// Handles a tick for a member that may be probed: pings it, or ends its session if
    /// the probe has timed out. `replies_flushed`, `progress`: see
    /// [`Event::Tick`](super::Event::Tick). Returns whether the session has ended.
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
            ProbeState::Begun => {
                // CHAT-NAME-7. Bytes that arrived at this very moment are an answer.
                probe.state = match session.silence.ms(now_ms) == 0 {
                    true => ProbeState::Answered,
                    false => ProbeState::Pinging,
                };
                context.ping(session, progress);
            }
            ProbeState::Pinging if replies_flushed => {
                probe.state = ProbeState::Pinged {
                    since_ms: now_ms,
                    unacked: progress.filter(|sent| sent.acked_bytes < sent.written_bytes),
                };
            }
            // A holder that takes no bytes cannot be probed. If that lasts, the server
            // closes it as a slow consumer (CHAT-LIM-5).
            ProbeState::Pinging => probe.state = ProbeState::Answered,
            // CHAT-NAME-8: the Ping may be slow behind a full queue of the network, so
            // the deadline counts from its acknowledgment; or from the last one of any
            // byte, if the holder is gone.
            ProbeState::Pinged {
                unacked: Some(before),
                ..
            } => {
                let acked_bytes = progress.map_or(u64::MAX, |progress| progress.acked_bytes);
                let has_arrived = acked_bytes >= before.written_bytes;
                let is_late = now_ms.saturating_sub(probe.began_ms) >= u64::from(deadline_ms);
                if acked_bytes > before.acked_bytes && is_late && !has_arrived {
                    // It takes what is sent, only slowly: the newcomer need not wait.
                    probe.state = ProbeState::Answered;
                } else if acked_bytes > before.acked_bytes {
                    probe.state = ProbeState::Pinged {
                        since_ms: now_ms,
                        unacked: (!has_arrived).then_some(Progress {
                            acked_bytes,
                            ..before
                        }),
                    };
                }
            }
            ProbeState::Elsewhere
            | ProbeState::Pinged { unacked: None, .. }
            | ProbeState::Answered => {}
        }
        let is_gone = probe.has_timed_out(now_ms, deadline_ms); // CHAT-NAME-8
        if is_gone {
            self.end_with(context, rejection::name_reclaimed(deadline_ms)); // CHAT-NAME-9
        }
        is_gone
    }

    /// Bytes arrived from a member, perhaps only a part of a frame, which answers a probe
    /// (CHAT-NAME-8).
    pub(super) fn note_activity(&mut self, room: &Room, member: MemberId) {
        if let Some(probe) = self.probe_of(room, member)
            && probe.state != ProbeState::Begun
        {
            probe.state = ProbeState::Answered;
        }
    }

    /// The server does not read from a member for now, so its probe counts as answered.
    pub(super) fn suspend_probe(&mut self, room: &Room, member: MemberId) {
        if let Some(probe) = self.probe_of(room, member) {
            probe.state = ProbeState::Answered;
        }
    }

    /// The probe of a member, if there is one.
    fn probe_of(&mut self, room: &Room, member: MemberId) -> Option<&mut HolderProbe> {
        // Nearly always there are no probes.
        if self.probes.is_empty() {
            return None;
        }
        self.probes.get_mut(room.name(member)?)
    }

    /// Whether the server must ping a holder, or end its session.
    pub(super) fn is_probe_due(&self, room: &Room, now_ms: u64, member: MemberId) -> bool {
        // Nearly always there are no probes.
        if self.probes.is_empty() {
            return false;
        }
        let probe = room.name(member).and_then(|name| self.probes.get(name));
        probe.is_some_and(|probe| {
            let deadline_ms = self.limits.name_check_deadline_ms;
            matches!(
                probe.state,
                ProbeState::Begun
                    | ProbeState::Pinging
                    | ProbeState::Pinged {
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
