//! Elsewhere: the commands that are on their way through the order of a cluster, and the
//! answers that wait for them.

use std::collections::{BTreeMap, VecDeque};

use crate::{name::Name, room::Command, wire::ServerEnvelope};

use super::super::{Effect, NameChecks, remote_directs::RemoteDirects};

/// How many answers to one connection may wait for chats that are being ordered. Beyond
/// that the server reads nothing more from it.
const ANSWERS_MAX: usize = 1_024;

/// The commands that are on their way through the order of a cluster.
#[derive(Debug, Default)]
pub(in crate::session) struct Elsewhere {
    /// Those that were not taken yet, in order. Bounded, since the hub stops reading from
    /// members while they take too much.
    pub(super) commands: Vec<Command>,
    /// The connections with a session that the order knows, or will.
    pub(super) known: BTreeMap<usize, Known>,
    /// This node is cut off the cluster, or starts: how long clients are to wait, in
    /// milliseconds.
    pub(super) retry_after_ms: Option<u32>,
    pub(in crate::session) directs: RemoteDirects,
    pub(in crate::session) name_checks: NameChecks,
    /// The names whose holders are probed for other nodes.
    pub(in crate::session) probed_for_others: Vec<Name>,
}

/// A connection whose session the order knows, or will.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What it is to be answered, in order. The first is never a reply.
    pub(super) answers: VecDeque<Answer>,
    /// The connection is gone; its id must not be used again before its member is gone too.
    pub(super) is_gone: bool,
}

/// What a connection is to be answered.
#[derive(Debug)]
pub(super) enum Answer {
    /// To a chat that is being ordered.
    Chat { id: u64, receipts: bool },
    /// To a Direct that is on its way to another node. It is behind all chats, since the
    /// server reads nothing more from the connection meanwhile.
    Direct { ticket: u64 },
    /// Anything else.
    Reply(Box<ServerEnvelope>),
}

impl Elsewhere {
    /// Takes the replies of one call that must wait for others out of `effects`, where they
    /// stand from `first` on.
    pub(super) fn hold_replies(&mut self, index: usize, effects: &mut Vec<Effect>, first: usize) {
        let Some(known) = self.known.get_mut(&index) else {
            return;
        };
        if known.answers.is_empty() {
            return;
        }
        let made = effects.split_off(first.min(effects.len()));
        for effect in made {
            match effect {
                Effect::Reply(envelope) => {
                    known.answers.push_back(Answer::Reply(Box::new(envelope)));
                }
                effect => effects.push(effect),
            }
        }
    }

    /// Whether so much waits for one connection that nothing more must be read from it.
    pub(super) fn is_full(&self, index: usize) -> bool {
        let known = self.known.get(&index);
        known.is_some_and(|known| known.answers.len() >= ANSWERS_MAX)
    }
}
