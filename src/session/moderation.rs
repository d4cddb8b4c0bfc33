//! Moderation: what the operator of the server does to members (CHAT-MOD). It ends their
//! sessions, keeps names and addresses out, mutes members and speaks in the room.

use core::net::IpAddr;

use crate::{
    name::Name,
    room::{self, Command, MemberId, Room},
    text::Text,
    wire::{self, ServerEnvelope},
};

use super::{
    Bans, CloseReason, Closed, ConnectionId, Context, Effect, OrderedRoom, Reason, Sessions, State,
    Time,
    rejection::{self, Rejection},
    state::Revoked,
};

/// Whom the operator keeps out, and who may not speak.
#[derive(Debug, Clone, Default)]
pub struct Moderation {
    /// The bans of the file of `--deny`.
    pub denied: Bans,
    /// The bans that were set while the server ran.
    pub bans: Bans,
    /// The mutes, of names only.
    pub mutes: Bans,
}

impl Moderation {
    /// CHAT-MOD-3
    fn check_address(&self, address: IpAddr, now_unix_ms: i64) -> Result<(), Rejection> {
        for bans in [&self.denied, &self.bans] {
            if let Some(ban) = bans.of_address(address, now_unix_ms) {
                return Err(rejection::banned_address(ban, now_unix_ms));
            }
        }
        Ok(())
    }

    /// CHAT-MOD-3
    pub(super) fn check_name(&self, name: &Name, now_unix_ms: i64) -> Result<(), Rejection> {
        for bans in [&self.denied, &self.bans] {
            if let Some(ban) = bans.of_name(name, now_unix_ms) {
                return Err(rejection::banned_name(ban, now_unix_ms));
            }
        }
        Ok(())
    }
}

/// A member, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The index of its connection ([`ConnectionId::index`]).
    pub index: usize,
    /// Its name.
    pub name: Name,
    /// When it registered, in milliseconds since 1970-01-01T00:00:00Z.
    pub since_unix_ms: i64,
    /// How long nothing has arrived from it, in milliseconds.
    pub idle_ms: u32,
    /// How many of its chats were accepted.
    pub chats: u64,
    /// It is connected to another node of the cluster, and nothing is known of its
    /// connection.
    pub is_elsewhere: bool,
}

impl Sessions {
    /// Whom the operator keeps out, and who may not speak.
    pub fn moderation(&self) -> &Moderation {
        &self.moderation
    }

    /// The same, to change. Sessions that no longer fit go on until the caller ends them
    /// (`Sessions::expel`).
    pub fn moderation_mut(&mut self) -> &mut Moderation {
        &mut self.moderation
    }

    /// Checks the address of a new connection.
    ///
    /// # Errors
    ///
    /// The answer to send before the connection is closed (CHAT-MOD-3).
    pub fn check_address(&self, now: Time, address: IpAddr) -> Result<(), Box<ServerEnvelope>> {
        // CHAT-CLOSE-1 comes first.
        if self.closing.is_some() {
            return Ok(());
        }
        let checked = self.moderation.check_address(address, now.unix_ms);
        checked.map_err(|rejection| Box::new(rejection.fatal()))
    }

    /// Whether the operator lets a member speak (CHAT-MOD-4).
    pub(super) fn check_mute(&self, context: &Context<'_>) -> Result<(), Rejection> {
        let now_unix_ms = context.now.unix_ms;
        let name = context.room.name(context.id.member());
        match name.and_then(|name| self.moderation.mutes.of_name(name, now_unix_ms)) {
            Some(mute) => Err(rejection::muted(mute, now_unix_ms)),
            None => Ok(()),
        }
    }

    /// The members behind `after` by name, in order.
    pub fn listed<'a>(
        &'a self,
        room: &'a Room,
        now: Time,
        after: Option<&'a Name>,
    ) -> impl Iterator<Item = Listed> + 'a {
        room.members_after(after).filter_map(move |(member, name)| {
            let index = member.0 as usize;
            if member.elsewhere().is_some() {
                return Some(Listed {
                    index,
                    name: name.clone(),
                    since_unix_ms: 0,
                    idle_ms: 0,
                    chats: room.chats(member),
                    is_elsewhere: true,
                });
            }
            let Some(State::Registered(session)) = self.states.get(index) else {
                return None;
            };
            Some(Listed {
                index,
                name: name.clone(),
                since_unix_ms: session.since_unix_ms,
                idle_ms: session.silence.ms(now.elapsed_ms),
                chats: room.chats(member),
                is_elsewhere: false,
            })
        })
    }

    /// The operator throws a member out (CHAT-MOD-1). Returns whether there is one of
    /// that name.
    pub fn kick(
        &mut self,
        room: &mut Room,
        now: Time,
        name: &Name,
        reason: &Reason,
        effects: &mut Vec<Effect>,
    ) -> bool {
        match room.holder(name) {
            Some(member) => {
                self.expel_member(room, now, member, rejection::kicked(reason), effects)
            }
            None => false,
        }
    }

    /// Ends the session of the member whose name a ban keeps out (CHAT-MOD-2). Returns
    /// whether there is one.
    pub fn expel_banned_member(
        &mut self,
        room: &mut Room,
        now: Time,
        name: &Name,
        effects: &mut Vec<Effect>,
    ) -> bool {
        // The file of `--deny` is another one at each node of a cluster.
        let ban = self.moderation.bans.of_name(name, now.unix_ms);
        match (room.holder(name), ban) {
            (Some(member), Some(ban)) => {
                let rejection = rejection::banned_name(ban, now.unix_ms);
                self.expel_member(room, now, member, rejection, effects)
            }
            _ => false,
        }
    }

    /// Ends the session of a member for the operator. In a cluster every node does so at the
    /// same place in the order: its client cannot go on at another node before that
    /// (CHAT-MOD-5).
    fn expel_member(
        &mut self,
        room: &mut Room,
        now: Time,
        member: MemberId,
        rejection: Rejection,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let index = member.0 as usize;
        if !self.is_clustered() {
            return self.expel(room, now, index, rejection, effects);
        }
        let reason = CloseReason::Error(rejection.code);
        if let Some(state @ (State::Registered(_) | State::Leaving(_))) = self.states.get_mut(index)
        {
            let mut closed = Closed {
                reason,
                name: room.name(member).cloned(),
                chats: room.chats(member),
            };
            let mut rejection = Some(rejection);
            // It has been told why.
            if let State::Leaving(leaving) = &*state {
                (closed.reason, rejection) = (leaving.reason, None);
            }
            let revoked = State::Revoked(Box::new(Revoked { closed, rejection }));
            if let State::Registered(session) = std::mem::replace(state, revoked) {
                self.settle(*session, effects);
            }
            effects.push(Effect::Notify(index));
        }
        let left = room.apply(reason.leave(member, now));
        match member.elsewhere() {
            Some(_) => self.applied_elsewhere(left, effects),
            None => self.applied(room, now, index, left, effects),
        }
        true
    }

    /// The clients whose Join is on its way through the order of a cluster, and the names
    /// that they ask for.
    fn joining(&self) -> impl Iterator<Item = (usize, &Name)> {
        let states = self.states.iter();
        states.filter_map(|(index, state)| match state {
            State::Joining(joining) => Some((index, &joining.name)),
            _ => None,
        })
    }

    /// Whether a client of this node is about to join under a name.
    pub fn is_joining(&self, name: &Name) -> bool {
        self.joining().any(|(_, it)| it == name)
    }

    /// Ends every connection that a ban keeps out by now (CHAT-MOD-2). `addresses`: where
    /// connections come from, by their index. Returns how many were ended.
    pub fn expel_banned(
        &mut self,
        room: &mut Room,
        now: Time,
        addresses: &[(usize, IpAddr)],
        effects: &mut Vec<Effect>,
    ) -> usize {
        let now_unix_ms = now.unix_ms;
        let by_address = addresses.iter().filter_map(|&(index, address)| {
            let checked = self.moderation.check_address(address, now_unix_ms);
            Some((index, checked.err()?))
        });
        let by_name = room.members_after(None).filter_map(|(member, name)| {
            let checked = self.moderation.check_name(name, now_unix_ms);
            Some((member.0 as usize, checked.err()?))
        });
        let joining = self.joining().filter_map(|(index, name)| {
            let checked = self.moderation.check_name(name, now_unix_ms);
            Some((index, checked.err()?))
        });
        let banned: Vec<(usize, Rejection)> = by_name.chain(by_address).chain(joining).collect();
        banned
            .into_iter()
            .filter(|(index, rejection)| self.expel(room, now, *index, rejection.clone(), effects))
            .count()
    }

    /// Ends the connection with this index for the operator. It is told at its next
    /// event. Returns whether there was something to end.
    pub(super) fn expel(
        &mut self,
        room: &mut Room,
        now: Time,
        index: usize,
        rejection: Rejection,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let id = ConnectionId(index);
        let mut context = Context {
            now,
            id: &id,
            room: OrderedRoom(room),
            effects,
        };
        self.revoke(&mut context, index, rejection)
    }

    /// Ends what another connection has: its session, or its wait for a name. Its client
    /// is told why at its next event. Returns whether there was something to end.
    fn revoke(&mut self, context: &mut Context<'_>, index: usize, rejection: Rejection) -> bool {
        let reason = CloseReason::Error(rejection.code);
        let member = ConnectionId(index).member();
        let closed = Closed {
            reason,
            name: context.room.name(member).cloned(),
            chats: context.room.chats(member),
        };
        match self.states.get_mut(index) {
            Some(State::Registered(_)) => {
                self.leave(context, member, reason);
                self.drop_answers(index);
            }
            Some(state @ State::AwaitingName(_)) => {
                if let State::AwaitingName(pending) = std::mem::replace(state, State::Ended) {
                    self.stop_waiting(index, &pending);
                }
            }
            // Behind its Join, which may stand behind the ban in the order.
            Some(State::Joining(_)) => {
                self.order(context, reason.leave(member, context.now));
            }
            Some(State::Unregistered { .. } | State::AwaitingProof(_)) => {}
            Some(State::Leaving(_) | State::Revoked(_) | State::Ended) | None => return false,
        }
        let rejection = Some(rejection);
        if let Some(state) = self.states.get_mut(index) {
            let revoked = State::Revoked(Box::new(Revoked { closed, rejection }));
            if let State::Registered(session) = std::mem::replace(state, revoked) {
                self.settle(*session, context.effects);
            }
        }
        context.effects.push(Effect::Notify(index));
        true
    }

    /// The operator speaks in the room (CHAT-MOD-7). Returns the number of the chat;
    /// `None` if nothing is accepted any more or for now. What all nodes of a cluster say
    /// has its number at each of them.
    pub fn say(
        &mut self,
        room: &mut Room,
        now: Time,
        text: Text,
        effects: &mut Vec<Effect>,
    ) -> Option<u64> {
        // CHAT-CLOSE-5, CHAT-HIST-9
        if !self.is_clustered() && (self.closing.is_some() || self.is_store_full) {
            return None;
        }
        let accepted = room.apply(Command::Say {
            text,
            time_unix_ms: now.unix_ms,
        });
        let room::Event::Accepted { seq, published, .. } = accepted else {
            return None;
        };
        // CHAT-CLOSE-2
        if self.closing.is_none() {
            effects.push(Effect::Publish(published));
        }
        Some(seq)
    }
}

/// What a Left says of a member that the operator ended.
pub(super) fn left_reason(code: wire::ErrorCode) -> Option<wire::LeftReason> {
    match code {
        wire::ErrorCode::Kicked => Some(wire::LeftReason::Kicked),
        wire::ErrorCode::Banned => Some(wire::LeftReason::Banned),
        _ => None,
    }
}
