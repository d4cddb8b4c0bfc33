//! Operator: what the control socket asks of the hub.

use std::{net::IpAddr, sync::atomic::Ordering};

use tokio::sync::oneshot;

use crate::{
    name::Name,
    room::Command,
    session::{Ban, Listed, Moderation, Reason, Target, Time},
    text::Text,
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

    /// Throws a member out (CHAT-MOD-1). Returns whether there is one of that name.
    pub(in crate::server) fn kick(&self, name: &Name, reason: &Reason) -> bool {
        let now = self.now();
        self.operate(|state| {
            state
                .sessions
                .kick(&mut state.room, now, name, reason, &mut state.effects)
        })
    }

    /// Where a member comes from, over a network.
    pub(in crate::server) fn address(&self, name: &Name) -> Option<IpAddr> {
        let holder = self.lock().room.holder(name)?;
        let connections = self.registry.read();
        let entry = connections.get(holder.0 as usize)?.as_ref()?;
        entry.handle.peer.ip()
    }

    /// Bans names and addresses, and ends their sessions (CHAT-MOD-2). Returns how many it
    /// has ended; `None` if there are too many bans.
    pub(in crate::server) fn ban(&self, targets: &[Target], ban: &Ban) -> Option<usize> {
        let now = self.now();
        self.operate(|state| {
            let bans = &mut state.sessions.moderation_mut().bans;
            bans.drop_expired(now.unix_ms);
            let mut is_full = false;
            for target in targets {
                is_full |= !bans.insert(target.clone(), ban.clone());
            }
            (!is_full).then(|| self.expel_banned(state, now))
        })
    }

    /// Lifts a ban. Returns whether there was one.
    pub(in crate::server) fn unban(&self, target: &Target) -> bool {
        let mut state = self.lock();
        state.sessions.moderation_mut().bans.remove(target)
    }

    /// Mutes a name (CHAT-MOD-4). Returns whether there was room for it.
    pub(in crate::server) fn mute(&self, name: Name, mute: Ban) -> bool {
        let now = self.now();
        let mut state = self.lock();
        let mutes = &mut state.sessions.moderation_mut().mutes;
        mutes.drop_expired(now.unix_ms);
        mutes.insert(Target::Name(name), mute)
    }

    /// Lifts a mute. Returns whether there was one.
    pub(in crate::server) fn unmute(&self, name: &Name) -> bool {
        let target = Target::Name(name.clone());
        let mut state = self.lock();
        state.sessions.moderation_mut().mutes.remove(&target)
    }

    /// Looks at the bans and mutes.
    pub(in crate::server) fn moderation<T>(&self, look: impl FnOnce(&Moderation) -> T) -> T {
        look(self.lock().sessions.moderation())
    }

    /// Sets the bans and mutes of an earlier run.
    #[cfg(feature = "store")]
    pub(in crate::server) fn restore_bans(
        &self,
        bans: crate::session::Bans,
        mutes: crate::session::Bans,
    ) {
        let mut state = self.lock();
        let moderation = state.sessions.moderation_mut();
        moderation.bans = bans;
        moderation.mutes = mutes;
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

    /// Says a text to all members (CHAT-MOD-7). Returns its number; `None` if nothing is
    /// accepted any more or for now.
    pub(in crate::server) fn say(&self, text: Text) -> Option<u64> {
        let now = self.now();
        self.operate(|state| {
            state
                .sessions
                .say(&mut state.room, now, text, &mut state.effects)
        })
    }

    /// Removes the text of a chat for ever (CHAT-MOD-8). What is returned is closed when
    /// that is kept, and nobody who resumes or reads the past can get it any more.
    ///
    /// # Errors
    ///
    /// Why there is nothing to remove.
    pub(in crate::server) fn remove(&self, seq: u64) -> Result<oneshot::Receiver<()>, String> {
        let mut state = self.lock();
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
        if self.archive.is_some() {
            self.publish(&mut state, &Published::default(), None);
        } else {
            self.channel
                .commit(&mut state.log, position, &self.registry);
            state.remove_texts(position);
        }
        Ok(waits)
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
