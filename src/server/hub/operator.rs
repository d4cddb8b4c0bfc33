//! Operator: what the control socket asks of the hub.

#![cfg_attr(
    not(feature = "cli"),
    expect(dead_code, reason = "for the control socket")
)]

use std::{net::IpAddr, sync::atomic::Ordering};

use tokio::sync::oneshot;
use tracing::info;

use crate::{
    name::Name,
    room::Command,
    session::{Ban, Listed, Network, Operated, Operation, Target, Time},
};

use super::{Hub, Removal, State, effects::Published};
use crate::server::peer::Peer;

/// How many removals may wait for the disk.
const REMOVALS_MAX: usize = 1_000;

/// A member, with what the server knows of its connection.
pub(in crate::server) struct ListedMember {
    pub(in crate::server) member: Listed,
    /// Where it comes from, over a network.
    pub(in crate::server) peer: Option<Peer>,
    /// How much waits to be sent to it, in bytes.
    pub(in crate::server) queue_bytes: u64,
}

/// How the server is.
pub(in crate::server) struct Stats {
    pub(in crate::server) uptime_ms: u64,
    pub(in crate::server) connections: usize,
    pub(in crate::server) members: usize,
    /// The number of the last accepted chat.
    pub(in crate::server) seq: u64,
    /// The number of the oldest chat that is kept.
    pub(in crate::server) oldest_seq: u64,
    /// What waits in the buffers of all connections, in bytes.
    pub(in crate::server) buffered_bytes: u64,
    /// Senders wait for readers.
    pub(in crate::server) is_paused: bool,
    /// The disk has no space to keep another chat.
    pub(in crate::server) is_store_full: bool,
}

impl Hub {
    /// At most `members_max` members behind `after`, in the order of their names.
    pub(in crate::server) fn list(
        &self,
        after: Option<&Name>,
        members_max: usize,
    ) -> Vec<ListedMember> {
        let now = self.now();
        let state = self.lock();
        let listed = state.sessions.listed(&state.room, now, after);
        let listed: Vec<Listed> = listed.take(members_max).collect();
        let log_end = state.log.end();
        let connections = self.registry.read();
        let entry = |index: usize| connections.get(index)?.as_ref();
        listed
            .into_iter()
            .map(|member| {
                let entry = entry(member.index);
                let behind_bytes = entry
                    .and_then(|entry| entry.handle.position())
                    .map_or(0, |position| log_end.saturating_sub(position));
                let buffered_bytes = entry.map_or(0, |entry| entry.handle.buffered_bytes());
                ListedMember {
                    peer: entry.map(|entry| entry.handle.peer),
                    queue_bytes: behind_bytes + buffered_bytes,
                    member,
                }
            })
            .collect()
    }

    pub(in crate::server) fn stats(&self) -> Stats {
        let uptime_ms = self.elapsed_ms();
        let state = self.lock();
        Stats {
            uptime_ms,
            connections: state.sessions.connections(),
            members: state.room.member_count(),
            seq: state.room.seq(),
            oldest_seq: state.room.oldest_seq(),
            buffered_bytes: self.registry.buffered_bytes(),
            is_paused: self.channel.is_paused(),
            is_store_full: state.sessions.is_store_full(),
        }
    }

    /// Whether a member of this name is connected here, over a network, or to another node.
    pub(in crate::server) fn has_address(&self, name: &Name) -> bool {
        let state = self.lock();
        state.room.is_elsewhere(name) || self.address(&state, name).is_some()
    }

    /// Where a member of this node comes from, over a network.
    fn address(&self, state: &State, name: &Name) -> Option<IpAddr> {
        let holder = state.room.holder(name)?;
        let connections = self.registry.read();
        let entry = connections.get(holder.0 as usize)?.as_ref()?;
        entry.handle.peer.ip()
    }

    /// Has an operation carried out: at once, or in the order of a cluster, by all nodes.
    ///
    /// # Errors
    ///
    /// A sentence that says why it may not have been.
    pub(in crate::server) async fn carry_out_operation(
        &self,
        operation: Operation,
    ) -> Result<Operated, &'static str> {
        match self.is_clustered() {
            true => self.order_operation(operation).await,
            false => Ok(self.perform_here(operation)),
        }
    }

    /// Carries out an operation in the room of this server alone.
    pub(in crate::server) fn perform_here(&self, operation: Operation) -> Operated {
        let now = self.now();
        self.operate(|state| self.perform(state, now, operation))
    }

    /// Carries out an operation; on a node of a cluster, as each other one does.
    pub(super) fn perform(&self, state: &mut State, now: Time, operation: Operation) -> Operated {
        let State {
            sessions,
            room,
            effects,
            ..
        } = &mut *state;
        match operation {
            Operation::Kick { name, reason } => {
                Operated::Done(sessions.kick(room, now, &name, &reason, effects))
            }
            Operation::Ban {
                targets,
                with_address_of,
                ban,
            } => self.ban(state, now, (targets, with_address_of), &ban),
            Operation::Unban { target } => {
                Operated::Done(sessions.moderation_mut().bans.remove(&target))
            }
            Operation::Mute { name, mute } => {
                let mutes = &mut sessions.moderation_mut().mutes;
                mutes.drop_expired(now.unix_ms);
                match mutes.insert(Target::Name(name), mute) {
                    true => Operated::Done(true),
                    false => Operated::TooMany,
                }
            }
            Operation::Unmute { name } => {
                let target = Target::Name(name);
                Operated::Done(sessions.moderation_mut().mutes.remove(&target))
            }
            Operation::Say { text } => match sessions.say(room, now, text, effects) {
                Some(seq) => Operated::Said(seq),
                None => Operated::Done(false),
            },
            Operation::Remove { seq } => {
                // A node that lacks a chat may be about to get it from another one.
                let oldest_seq = match self.is_clustered() {
                    true => 1,
                    false => room.oldest_seq(),
                };
                if (oldest_seq..=room.seq()).contains(&seq) {
                    drop(self.begin_removal(state, seq));
                }
                Operated::Done(true)
            }
        }
    }

    /// Bans names and addresses, and ends their sessions (CHAT-MOD-2).
    fn ban(
        &self,
        state: &mut State,
        now: Time,
        (mut targets, with_address_of): (Vec<Target>, Option<Name>),
        ban: &Ban,
    ) -> Operated {
        let address = with_address_of.and_then(|name| self.address(state, &name));
        let network = address.map(|it| Target::Network(Network::household(it)));
        if let Some(network) = &network {
            info!(target = %network, "the operator has banned an address");
        }
        match self.is_clustered() {
            false => targets.extend(network),
            // The other nodes do not know it.
            true => state
                .operations
                .extend(network.map(|network| Operation::Ban {
                    targets: vec![network],
                    with_address_of: None,
                    ban: ban.clone(),
                })),
        }
        let bans = &mut state.sessions.moderation_mut().bans;
        bans.drop_expired(now.unix_ms);
        let mut is_full = false;
        for target in &targets {
            is_full |= !bans.insert(target.clone(), ban.clone());
        }
        if is_full {
            return Operated::TooMany;
        }
        let State {
            sessions,
            room,
            effects,
            ..
        } = &mut *state;
        let mut members = 0;
        for target in &targets {
            if let Target::Name(name) = target {
                members += usize::from(sessions.expel_banned_member(room, now, name, effects));
            }
        }
        // To look at every connection for every ban that is set again would take long.
        let addresses = self.addresses();
        let is_here = |target: &Target| match target {
            Target::Name(name) => sessions.is_joining(name),
            Target::Network(network) => addresses.iter().any(|(_, it)| network.contains(*it)),
        };
        let others = match targets.iter().any(is_here) {
            true => self.expel_banned(state, now),
            false => 0,
        };
        Operated::Ended(members + others)
    }

    pub(super) fn expel_banned(&self, state: &mut State, now: Time) -> usize {
        let State {
            sessions,
            room,
            effects,
            ..
        } = state;
        sessions.expel_banned(room, now, &self.addresses(), effects)
    }

    /// Removes the text of a chat for ever (CHAT-MOD-8). What is returned is closed when
    /// that is kept, and nobody who resumes or reads the past can get it any more.
    ///
    /// # Errors
    ///
    /// Why there is nothing to remove.
    pub(in crate::server) async fn remove(
        &self,
        seq: u64,
    ) -> Result<oneshot::Receiver<()>, String> {
        if self.is_clustered() {
            self.check_removal(&self.lock(), seq)?;
            let removed = self.order_operation(Operation::Remove { seq }).await;
            removed?;
            // It is done here, and closed.
            return Ok(oneshot::channel().1);
        }
        self.remove_here(seq)
    }

    /// The same, in the room of this server alone.
    pub(in crate::server) fn remove_here(&self, seq: u64) -> Result<oneshot::Receiver<()>, String> {
        let mut state = self.lock();
        self.check_removal(&state, seq)?;
        let waits = self.begin_removal(&mut state, seq);
        if self.archive.is_some() {
            self.publish(&mut state, &Published::default(), None);
        } else {
            let position = state.log.end();
            self.channel
                .commit(&mut state.log, position, &self.registry);
            state.remove_texts(position);
        }
        Ok(waits)
    }

    /// Whether a chat is there to be removed.
    fn check_removal(&self, state: &State, seq: u64) -> Result<(), String> {
        let (oldest_seq, last_seq) = (state.room.oldest_seq(), state.room.seq());
        if seq == 0 || seq > last_seq {
            return Err(format!(
                "there is no message {seq}, the last one is {last_seq}"
            ));
        }
        if seq < oldest_seq {
            return Err(format!(
                "message {seq} is not kept any more, the oldest one is {oldest_seq}"
            ));
        }
        if state.removals.len() >= REMOVALS_MAX {
            return Err("too many removals wait for the disk, try again later".to_owned());
        }
        Ok(())
    }

    /// The text of a chat is removed with the next commit.
    fn begin_removal(&self, state: &mut State, seq: u64) -> oneshot::Receiver<()> {
        // Its segment must be complete before it can be replaced.
        state.log.end_segment();
        state.room.apply(Command::Remove { seq });
        state.sessions.chat_removed(seq);
        let (done, waits) = oneshot::channel();
        let position = state.log.end();
        state.removals.push(Removal {
            position,
            seq,
            done,
        });
        waits
    }

    /// Does something that belongs to no connection, and carries out its effects.
    pub(super) fn operate<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.lock();
        let result = act(&mut state);
        let (published, woken) = self.apply(&mut state, None);
        drop(state);
        self.wake(published.audience, &woken);
        self.registry.notify(&published.notify);
        result
    }

    /// Where the connections come from, by their index.
    fn addresses(&self) -> Vec<(usize, IpAddr)> {
        let connections = self.registry.read();
        let entries = connections.iter().enumerate();
        entries
            .filter_map(|(index, entry)| Some((index, entry.as_ref()?.handle.peer.ip()?)))
            .collect()
    }

    /// The operator asks the server to close; clients are to come back `back_in_ms` later,
    /// if that is known.
    pub(in crate::server) fn request_close(&self, back_in_ms: Option<u32>) {
        if let Some(back_in_ms) = back_in_ms {
            self.back_in_ms.store(back_in_ms, Ordering::Relaxed);
        }
        self.close_requested.notify_one();
    }
}
