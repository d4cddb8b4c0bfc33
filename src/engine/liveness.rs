//! Whether the holder of a name is still there, when somebody else asks for it
//! (CHAT-NAME-7).
//!
//! ```text
//!  newcomer: Register ──▶ waits ─────────────────────────▶ NAME_IN_USE, or the name
//!                           │                                   ▲             ▲
//!  holder:                  └──▶ Ping ──▶ something came ───────┘             │
//!                                   └───▶ nothing for the deadline: ended ────┘
//! ```
//!
//! Only a member with keepalive can be asked. For another one the newcomer is told
//! NAME_IN_USE at once; when its machine is gone, TCP finds out within a minute.
//!
//! Everything happens when time passes: the holder and those who wait are due to
//! [`Event::TimePassed`](super::Event::TimePassed). A holder that answers keeps its
//! name, so two clients that connect again by themselves cannot throw each other
//! out. It is asked once for all who wait, and once in a deadline at the most.

use super::{
    Context, Engine, envelope, refusal,
    session::{Granted, Member, State},
};
use crate::{
    engine::Name,
    wire::{self, server_envelope::Message},
};

/// How many may wait for the answer of one holder. Others are refused at once: only
/// one can get the name.
const NEWCOMERS_MAX: usize = 4;

/// A client whose Register waits.
#[derive(Debug)]
pub(super) struct Newcomer {
    /// When it was accepted: the register deadline counts from here.
    pub(super) since_ms: u64,
    pub(super) name: Name,
    pub(super) granted: Granted,
}

/// A question to a holder, and who waits for the answer.
#[derive(Debug)]
pub(super) struct Check {
    began_ms: u64,
    stage: Stage,
    /// The indices of the newcomers, [`NEWCOMERS_MAX`] at the most.
    waiting: Vec<usize>,
}

/// How far a question is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    ToAsk,
    /// The Ping is on its way out.
    Asking,
    /// The Ping had gone out then.
    Asked {
        since_ms: u64,
    },
    /// Something has come since.
    Answered,
}

/// What a newcomer is to be told.
enum Answer {
    Wait,
    Free,
    Taken,
}

impl Check {
    fn begin(now_ms: u64) -> Self {
        Self {
            began_ms: now_ms,
            stage: Stage::ToAsk,
            waiting: Vec::new(),
        }
    }

    /// Whether there was time for an answer, and none came.
    fn is_in_vain(&self, now_ms: u64, deadline_ms: u32) -> bool {
        match self.stage {
            Stage::Asked { since_ms } => now_ms.saturating_sub(since_ms) >= u64::from(deadline_ms),
            Stage::ToAsk | Stage::Asking | Stage::Answered => false,
        }
    }
}

impl Engine {
    /// Has `newcomer` wait for `name`, which a member has. Returns false where there
    /// is nothing to wait for.
    pub(super) fn waits_for(&mut self, now_ms: u64, name: &Name, newcomer: usize) -> bool {
        let deadline_ms = u64::from(self.limits.name_check_deadline_ms);
        let Some(holder) = self.roster.holder(&self.sessions, name) else {
            return false;
        };
        let Some(State::Member(member)) = self.sessions.get(holder) else {
            return false;
        };
        if !member.granted.keepalive {
            return false;
        }
        let begin = || Check::begin(now_ms);
        let check = self.checks.entry(name.clone()).or_insert_with(begin);
        if check.stage == Stage::Answered {
            // It has just said that it is there.
            if now_ms.saturating_sub(check.began_ms) < deadline_ms {
                return false;
            }
            *check = begin();
        }
        if check.waiting.len() >= NEWCOMERS_MAX {
            return false;
        }
        check.waiting.push(newcomer);
        true
    }

    /// Tells a newcomer what has become of the name it waits for.
    pub(super) fn handle_wait(&mut self, context: &mut Context<'_>) {
        let Some(State::Waiting(newcomer)) = self.sessions.get(context.id.0) else {
            return;
        };
        let (name, granted) = (newcomer.name.clone(), newcomer.granted);
        if self.register_is_late(context.now.elapsed_ms, newcomer.since_ms) {
            let deadline_ms = self.limits.register_deadline_ms;
            return self.end_with(context, refusal::register_timeout(deadline_ms));
        }
        match self.answer(context.id.0, &name) {
            Answer::Wait => {}
            Answer::Free => self.admit(context, name, granted),
            Answer::Taken => self.end_with(context, refusal::name_in_use(&name)), // CHAT-NAME-3
        }
    }

    /// Whether a newcomer can be told something.
    pub(super) fn is_wait_over(&self, now_ms: u64, index: usize, newcomer: &Newcomer) -> bool {
        self.register_is_late(now_ms, newcomer.since_ms)
            || !matches!(self.answer(index, &newcomer.name), Answer::Wait)
    }

    /// A newcomer waits no longer, whatever the reason.
    pub(super) fn stop_waiting(&mut self, index: usize, newcomer: &Newcomer) {
        if let Some(check) = self.checks.get_mut(&newcomer.name) {
            check.waiting.retain(|&waiting| waiting != index);
        }
    }

    /// Asks a holder for a sign of life, or takes its name from it when there was
    /// none. `is_sent_out`: whether it has been sent all replies. Returns whether its
    /// session has ended.
    pub(super) fn handle_check(&mut self, context: &mut Context<'_>, is_sent_out: bool) -> bool {
        let now_ms = context.now.elapsed_ms;
        let deadline_ms = self.limits.name_check_deadline_ms;
        let Some(State::Member(member)) = self.sessions.get_mut(context.id.0) else {
            return false;
        };
        let Some(check) = self.checks.get_mut(&member.name) else {
            return false;
        };
        match check.stage {
            Stage::ToAsk => {
                // CHAT-NAME-7. Whoever has said something at this moment has answered.
                check.stage = match member.heard_ms == now_ms {
                    true => Stage::Answered,
                    false => Stage::Asking,
                };
                member.pinged_ms = now_ms;
                context.reply(envelope(Message::Ping(wire::Ping { token: now_ms })));
            }
            Stage::Asking if is_sent_out => check.stage = Stage::Asked { since_ms: now_ms },
            // It takes nothing, so it cannot be asked. If that lasts it is closed for
            // that (CHAT-LIM-5).
            Stage::Asking => check.stage = Stage::Answered,
            Stage::Asked { .. } | Stage::Answered => {}
        }
        let is_gone = check.is_in_vain(now_ms, deadline_ms); // CHAT-NAME-8
        if is_gone {
            self.end_with(context, refusal::name_reclaimed(deadline_ms)); // CHAT-NAME-9
        }
        is_gone
    }

    /// Something came from a member, if only a part of a frame: if it is asked for its
    /// name, that is an answer (CHAT-NAME-8).
    pub(super) fn hear(&mut self, index: usize) {
        if let Some(check) = self.check_of(index)
            && check.stage != Stage::ToAsk
        {
            check.stage = Stage::Answered;
        }
    }

    /// A holder cannot be heard for now: that is no silence of its own.
    pub(super) fn excuse(&mut self, index: usize) {
        if let Some(check) = self.check_of(index) {
            check.stage = Stage::Answered;
        }
    }

    /// The question to a member.
    fn check_of(&mut self, index: usize) -> Option<&mut Check> {
        // Nearly always nobody is asked.
        if self.checks.is_empty() {
            return None;
        }
        match self.sessions.get(index) {
            Some(State::Member(member)) => self.checks.get_mut(&member.name),
            _ => None,
        }
    }

    /// Whether a holder is to be asked, or has let the deadline pass.
    pub(super) fn is_check_due(&self, now_ms: u64, member: &Member) -> bool {
        let check = self.checks.get(&member.name);
        check.is_some_and(|check| {
            let deadline_ms = self.limits.name_check_deadline_ms;
            matches!(check.stage, Stage::ToAsk | Stage::Asking)
                || check.is_in_vain(now_ms, deadline_ms)
        })
    }

    fn answer(&self, index: usize, name: &Name) -> Answer {
        if self.roster.holder(&self.sessions, name).is_none() {
            return Answer::Free;
        }
        match self.checks.get(name) {
            Some(check) if check.waiting.contains(&index) && check.stage != Stage::Answered => {
                Answer::Wait
            }
            _ => Answer::Taken,
        }
    }
}
