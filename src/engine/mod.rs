//! The rules of the protocol, pure: events and the time go in, effects come out.
//! No socket, no clock, no random source; the same events have the same effects.
//!
//! # How to call it
//!
//! 1. [`Engine::connect`] for each connection; it gives the connection's
//!    [`ConnectionId`], or the answer with which to turn it away.
//! 2. [`Engine::handle`] for each thing that happens to it, in order. The caller
//!    carries out the effects in the order in which they stand, before the next
//!    call: [`Effect::Subscribe`] and [`Effect::Publish`] are positions in one order.
//! 3. [`Engine::disconnect`] once, when the connection is gone. It takes the id
//!    back, so nothing can be said about that connection afterwards.
//!
//! Time passes only in arguments: [`Engine::due`] says who has a deadline behind
//! them, and each of those is to be handed [`Event::Tick`].

mod access;
mod flood;
mod name;
mod name_index;
mod name_reclaim;
mod rate;
mod rejection;
mod session;
mod strikes;
mod text;

use std::collections::BTreeMap;

use slab::Slab;

use crate::{
    frame::FrameError,
    limits::Limits,
    log::Audience,
    wire::{
        self, ClientEnvelope, ErrorCode, LeftReason, ServerEnvelope, client_envelope,
        server_envelope::Message,
    },
};

pub use access::AccessPolicy;
pub use name::{Name, NameError};
use name_index::NameIndex;
use name_reclaim::{HolderProbe, PendingRegister};
pub(crate) use rate::Bucket;
use rejection::Rejection;
use session::{Granted, Member, State};
pub use text::{Text, TextError};

/// The bytes a Members may take beyond its names, at the most: the arm's tag and
/// length, and `more`.
const MEMBERS_OVERHEAD_BYTES_MAX: usize = 16;

/// Now, as the engine is told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time {
    /// Milliseconds since some fixed start, never falling.
    pub elapsed_ms: u64,
    /// Milliseconds since 1970-01-01T00:00:00Z, to show to people.
    pub unix_ms: i64,
    /// When, on the first clock, what is handled now may have come already: it had to
    /// wait to be read since then. [`Time::elapsed_ms`] if nothing waits.
    pub earliest_arrival_ms: u64,
}

/// Stands for one connection from [`Engine::connect`] to [`Engine::disconnect`].
/// Not to be copied, so that nobody speaks for a connection that is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct ConnectionId(usize);

impl ConnectionId {
    /// A small number that no other connection has at the same time.
    pub fn index(&self) -> usize {
        self.0
    }
}

/// What happens to a connection.
#[derive(Debug)]
pub enum Event {
    /// A frame came and parsed.
    Message(ClientEnvelope),
    /// What came is no frame (CHAT-FRAME-4, CHAT-FRAME-5).
    BadFrame(FrameError),
    /// A frame came whose body does not parse (CHAT-FRAME-8).
    BadEnvelope,
    /// The client will send nothing more.
    EndOfStream {
        /// Whether it stopped inside a frame (CHAT-FRAME-10).
        inside_frame: bool,
    },
    /// The connection broke.
    ConnectionLost,
    /// The client does not read what is due to it (CHAT-LIM-5).
    WriteTimedOut,
    /// The queues of all clients take too much memory, and its own the most
    /// (CHAT-LIM-10).
    Evicted,
    /// The time given may be past a deadline, or the server is closing.
    Tick {
        /// Whether all that has come from the connection was read; while it is not
        /// (CHAT-LIM-6), it cannot be heard, and is not silent (CHAT-KEEP-4).
        reads_drained: bool,
        /// Whether all replies to it were sent, a Ping among them (CHAT-NAME-8).
        replies_flushed: bool,
    },
}

/// What to do, in this order.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Send this to this connection.
    Reply(ServerEnvelope),
    /// Append this to the room's log, for the members in `audience` but the one
    /// that this event is about.
    Publish {
        /// Who is to receive it.
        audience: Audience,
        /// The message.
        envelope: ServerEnvelope,
    },
    /// The session is open: this connection follows the log from its present end.
    Subscribe {
        /// The name it registered.
        name: Name,
        /// Whether it receives what is published for [`Audience::Presence`].
        presence: bool,
    },
    /// The session is over, or there will be none. Send what is due, close.
    Closed(Closed),
}

/// The end of a session, for the log that people read.
#[derive(Debug, PartialEq, Eq)]
pub struct Closed {
    /// Why.
    pub reason: CloseReason,
    /// Who, where a name was registered.
    pub name: Option<Name>,
    /// How many chats of its were accepted.
    pub chats: u64,
}

/// Why a session ended, or never began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseReason {
    /// The client sent Leave.
    Leave,
    /// The connection ended without a Leave.
    ConnectionLost,
    /// The same, inside a frame, which the client was told (CHAT-FRAME-10).
    CutShort,
    /// The server closes.
    ServerClosing,
    /// The client was told this error.
    Error(ErrorCode),
}

/// Of what there is too much from one network address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressLimit {
    /// Connections at a time (CHAT-REG-11).
    Concurrent,
    /// New connections in a short while (CHAT-REG-12).
    Rate {
        /// How long to wait with the next, in milliseconds, from 1.
        retry_after_ms: u32,
    },
}

/// The room: who is in it, and what the rules say to each event.
#[derive(Debug)]
pub struct Engine {
    limits: Limits,
    access: AccessPolicy,
    epoch: String,
    /// The number of the last accepted chat (CHAT-ORD-1).
    seq: u64,
    sessions: Slab<State>,
    /// The members, in the order of their names, which leaks no chance.
    name_index: NameIndex,
    /// The questions to holders of names that somebody else asked for; an answered
    /// one stays until the holder goes, or is asked again.
    probes: BTreeMap<Name, HolderProbe>,
    /// What ServerClosing says, once the server closes.
    closing: Option<String>,
}

impl Engine {
    /// An empty room, for everybody. `epoch` names this life of its numbers: 1 to 64 printable
    /// ASCII characters that no earlier life had (CHAT-ORD-7).
    ///
    /// # Panics
    ///
    /// If `limits` do not fit together ([`Limits::check`]).
    #[expect(
        clippy::panic,
        reason = "before there is a peer: a mistake of the caller"
    )]
    pub fn new(limits: Limits, epoch: String) -> Self {
        if let Err(sentence) = limits.check() {
            panic!("limits are checked before they are used: {sentence}");
        }
        Self {
            limits,
            access: AccessPolicy::default(),
            epoch,
            seq: 0,
            sessions: Slab::new(),
            name_index: NameIndex::default(),
            probes: BTreeMap::new(),
            closing: None,
        }
    }

    /// The same room, for those alone whom `access` lets in.
    #[must_use]
    pub fn with_access(mut self, access: AccessPolicy) -> Self {
        self.access = access;
        self
    }

    /// The bounds it works within.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many are registered.
    pub fn members(&self) -> usize {
        self.name_index.len()
    }

    /// The names of the members, in order.
    #[cfg(test)]
    pub(crate) fn names(&self) -> impl Iterator<Item = &Name> {
        self.name_index.names_after(&self.sessions, None)
    }

    /// How many chats were accepted.
    pub fn chats(&self) -> u64 {
        self.seq
    }

    /// How many connections there are, registered or not.
    pub fn connections(&self) -> usize {
        self.sessions.len()
    }

    /// A connection was accepted.
    ///
    /// # Errors
    ///
    /// What to tell it before closing it, where there is no room for it
    /// (CHAT-REG-9) or the server is closing (CHAT-CLOSE-1).
    pub fn connect(&mut self, now: Time) -> Result<ConnectionId, Box<ServerEnvelope>> {
        if let Some(detail) = &self.closing {
            return Err(Box::new(server_closing(detail.clone())));
        }
        if self.sessions.len() >= self.limits.connections_max as usize {
            return Err(Box::new(rejection::server_full().fatal()));
        }
        let since_ms = now.elapsed_ms;
        Ok(ConnectionId(
            self.sessions.insert(State::Unregistered { since_ms }),
        ))
    }

    /// A connection is gone. Ends its session, where it still has one.
    pub fn disconnect(&mut self, now: Time, id: ConnectionId, effects: &mut Vec<Effect>) {
        self.handle(now, &id, Event::ConnectionLost, effects);
        self.sessions.remove(id.0);
    }

    /// A connection is not wanted after all, because of where it comes from. Takes its
    /// id back, before anything was said about it; returns what to tell it.
    pub fn reject(&mut self, id: ConnectionId, cause: AddressLimit) -> Box<ServerEnvelope> {
        self.sessions.remove(id.0);
        Box::new(rejection::too_many(cause).fatal())
    }

    /// Something happened to a connection. Appends what follows from it to
    /// `effects`; nothing follows once its session has ended.
    pub fn handle(
        &mut self,
        now: Time,
        id: &ConnectionId,
        event: Event,
        effects: &mut Vec<Effect>,
    ) {
        let mut context = Context { now, id, effects };
        match self.sessions.get(id.0) {
            None | Some(State::Ended) => {}
            _ if self.closing.is_some() => self.end_for_closing(&mut context),
            Some(State::Unregistered { since_ms }) => {
                let since_ms = *since_ms;
                self.handle_unregistered(&mut context, since_ms, event);
            }
            Some(State::AwaitingName(_)) => self.handle_awaiting_name(&mut context, event),
            Some(State::Registered(_)) => self.handle_registered(&mut context, event),
        }
    }

    /// The further Members that are due to a member whose earlier ones have been
    /// sent (CHAT-PRES-1). To be called when the connection has nothing else to
    /// send, so that a large room is told in steps that fit into memory. What it
    /// names are members at this moment, so nobody whose Left was sent before
    /// (CHAT-PRES-4).
    pub fn more_members(&mut self, id: &ConnectionId) -> Option<ServerEnvelope> {
        if self.closing.is_some() {
            return None; // CHAT-CLOSE-2: ServerClosing may have been sent.
        }
        let Some(State::Registered(member)) = self.sessions.get(id.0) else {
            return None;
        };
        let after = member.members_after.clone()?;
        Some(self.members_page(id, Some(after)))
    }

    /// Appends the index ([`ConnectionId::index`]) of each connection that
    /// [`Event::Tick`] is due to.
    pub fn due(&self, now: Time, indices: &mut Vec<usize>) {
        let due = self
            .sessions
            .iter()
            .filter(|&(index, state)| self.is_due(now.elapsed_ms, index, state));
        indices.extend(due.map(|(index, _)| index));
    }

    /// The server closes: publishes ServerClosing, after which nothing is
    /// accepted (CHAT-CLOSE-5). Every connection is to be handed
    /// [`Event::Tick`] afterwards.
    pub fn begin_closing(&mut self, detail: String, effects: &mut Vec<Effect>) {
        if self.closing.is_some() {
            return;
        }
        effects.push(Effect::Publish {
            audience: Audience::Everyone,
            envelope: server_closing(detail.clone()),
        });
        self.closing = Some(detail);
    }

    /// Frames and bytes came from a connection, whatever they hold. Returns whether
    /// nothing more is to be read from it for now (CHAT-LIM-6, CHAT-LIM-9); once that
    /// has changed, [`Event::Tick`] is due to it. Before it has registered there
    /// is nothing to count: the first frame registers it or ends it.
    pub fn charge_inbound(
        &mut self,
        now: Time,
        id: &ConnectionId,
        frames: usize,
        bytes: usize,
    ) -> bool {
        if bytes > 0 {
            self.note_activity(id.0);
        }
        let Some(State::Registered(member)) = self.sessions.get_mut(id.0) else {
            return self.is_throttled(id);
        };
        let (frames, bytes) = (frames as u64, bytes as u64);
        member.is_throttled = member
            .flood
            .take(now.elapsed_ms, frames, bytes, &self.limits);
        member.is_throttled
    }

    /// Whether nothing is to be read from a connection for now, nor handed on what
    /// came: it floods, or its Register waits (CHAT-NAME-7).
    pub fn is_throttled(&self, id: &ConnectionId) -> bool {
        match self.sessions.get(id.0) {
            Some(State::Registered(member)) => member.is_throttled,
            Some(State::AwaitingName(_)) => true,
            Some(State::Unregistered { .. } | State::Ended) | None => false,
        }
    }

    fn handle_unregistered(&mut self, context: &mut Context<'_>, since_ms: u64, event: Event) {
        use client_envelope::Message as Sent;
        match event {
            Event::Message(ClientEnvelope {
                message: Some(Sent::Register(register)),
            }) => self.register(context, since_ms, &register),
            // CHAT-REG-2: whatever else comes first, known or not.
            Event::Message(_) => self.end_with(context, rejection::not_registered()),
            // CHAT-REG-5
            Event::Tick { .. } if self.register_is_late(context.now.elapsed_ms, since_ms) => {
                let deadline_ms = self.limits.register_deadline_ms;
                self.end_with(context, rejection::register_timeout(deadline_ms));
            }
            Event::Tick { .. } => {}
            event => self.handle_stream(context, event),
        }
    }

    fn register(&mut self, context: &mut Context<'_>, since_ms: u64, register: &wire::Register) {
        // CHAT-ADM-2: before anything is said about names.
        if let Err(rejection) = self.access.check_password(&register.password) {
            return self.end_with(context, rejection);
        }
        let name = match Name::parse(&register.name) {
            Ok(name) => name,
            Err(error) => return self.end_with(context, rejection::name(error)),
        };
        // CHAT-ADM-4
        if let Err(rejection) = self.access.check_name(&name) {
            return self.end_with(context, rejection);
        }
        let granted = Granted::from_asked(&register.capabilities);
        if self.name_index.holder(&self.sessions, &name).is_none() {
            self.admit(context, name, granted);
        } else if self.wait_for_name(context.now.elapsed_ms, &name, context.id.0) {
            // CHAT-NAME-7: the answer comes when time has passed.
            if let Some(state) = self.sessions.get_mut(context.id.0) {
                *state = State::AwaitingName(Box::new(PendingRegister {
                    since_ms,
                    name,
                    granted,
                }));
            }
        } else {
            // CHAT-NAME-3, CHAT-NAME-4
            self.end_with(context, rejection::name_in_use(&name));
        }
    }

    /// Opens a session under a name that nobody has.
    fn admit(&mut self, context: &mut Context<'_>, name: Name, granted: Granted) {
        let member = State::Registered(Member {
            name: name.clone(),
            granted,
            bucket: Default::default(),
            flood: Default::default(),
            strikes: Default::default(),
            is_throttled: false,
            heard_ms: context.now.elapsed_ms,
            pinged_ms: context.now.elapsed_ms,
            chats: 0,
            members_after: None,
        });
        if let Some(state) = self.sessions.get_mut(context.id.0) {
            *state = member;
        }
        self.name_index.add(&self.sessions, context.id.0);
        // CHAT-PRES-2. Published before Open, so that the pending's own place in
        // the log is behind it (CHAT-PRES-6).
        context.publish(
            Audience::Presence,
            Message::Joined(wire::Joined {
                name: name.as_str().to_owned(),
            }),
        );
        // CHAT-ORD-4, CHAT-ORD-5: the log from here on, nothing from before.
        context.effects.push(Effect::Subscribe {
            name: name.clone(),
            presence: granted.presence,
        });
        // CHAT-REG-3: replies go out before the log, and this is the first.
        context.reply(envelope(Message::Registered(wire::Registered {
            name: name.as_str().to_owned(), // CHAT-REG-4
            epoch: self.epoch.clone(),
            seq: self.seq, // CHAT-ORD-6
            capabilities: granted.to_wire(),
            limits: Some(self.limits.announced()),
        })));
        if granted.presence {
            let page = self.members_page(context.id, None);
            context.reply(page);
        }
    }

    fn handle_awaiting_name(&mut self, context: &mut Context<'_>, event: Event) {
        match event {
            Event::Tick { .. } => self.handle_name_wait(context),
            // It is not to be read from; and it was not to send (CHAT-REG-10).
            Event::Message(_) => self.end_with(context, rejection::not_registered()),
            event => self.handle_stream(context, event),
        }
    }

    fn handle_registered(&mut self, context: &mut Context<'_>, event: Event) {
        match event {
            Event::Message(envelope) => {
                self.note_activity(context.id.0);
                self.member(context.id).heard_ms = context.now.elapsed_ms;
                self.handle_message(context, envelope);
            }
            Event::Tick {
                reads_drained,
                replies_flushed,
            } => {
                if let Some(State::Registered(member)) = self.sessions.get_mut(context.id.0)
                    && member.may_resume(context.now.elapsed_ms, &self.limits)
                {
                    member.is_throttled = false;
                }
                if reads_drained {
                    self.handle_silence(context, replies_flushed);
                } else {
                    self.suspend_probe(context.id.0);
                    self.member(context.id).heard_ms = context.now.elapsed_ms;
                }
            }
            event => self.handle_stream(context, event),
        }
    }

    /// What happens to the stream itself means the same before and after Register.
    fn handle_stream(&mut self, context: &mut Context<'_>, event: Event) {
        match event {
            Event::BadFrame(error) => self.end_with(context, rejection::frame(error)),
            Event::BadEnvelope => self.end_with(context, rejection::unparsable()),
            // CHAT-LIM-5
            Event::WriteTimedOut => self.end_with(context, rejection::slow_consumer()),
            Event::Evicted => self.end_with(context, rejection::overloaded()), // CHAT-LIM-10
            // CHAT-LEAVE-5. A stream cut inside a frame is most likely a client
            // that was killed, so the others are told of a lost connection.
            Event::EndOfStream { inside_frame: true } => {
                // CHAT-FRAME-10; the frame itself was never handed on (CHAT-FRAME-9).
                context.reply(rejection::cut_short().fatal());
                self.end(context, CloseReason::CutShort);
            }
            Event::EndOfStream {
                inside_frame: false,
            }
            | Event::ConnectionLost => self.end(context, CloseReason::ConnectionLost),
            // Each state handles messages and time itself.
            Event::Message(_) | Event::Tick { .. } => {}
        }
    }

    fn handle_message(&mut self, context: &mut Context<'_>, envelope: ClientEnvelope) {
        use client_envelope::Message as Sent;
        let granted = self.member(context.id).granted;
        match envelope.message {
            Some(Sent::Chat(chat)) => self.handle_chat(context, chat),
            Some(Sent::Leave(_)) => self.end(context, CloseReason::Leave), // CHAT-LEAVE-2
            // CHAT-REG-6
            Some(Sent::Register(_)) => {
                self.refuse(context, rejection::already_registered().non_fatal());
            }
            // CHAT-GROW-6
            Some(Sent::Ping(_) | Sent::Pong(_)) if !granted.keepalive => {
                self.refuse(context, rejection::not_granted().non_fatal());
            }
            // CHAT-KEEP-1
            Some(Sent::Ping(ping)) => context.reply(self::envelope(Message::Pong(wire::Pong {
                token: ping.token,
            }))),
            // CHAT-KEEP-5: that it came is noted already.
            Some(Sent::Pong(_)) => {}
            // CHAT-GROW-1
            None => self.refuse(context, rejection::unknown_message().non_fatal()),
        }
    }

    fn handle_chat(&mut self, context: &mut Context<'_>, chat: wire::Chat) {
        let text_bytes_max = self.limits.text_bytes_max;
        let text = match Text::parse(chat.text, text_bytes_max) {
            Ok(text) => text,
            // CHAT-CHAT-8
            Err(error) => {
                let answer = rejection::text(error, text_bytes_max).for_chat(chat.id);
                return self.refuse(context, answer);
            }
        };
        let rate = self.limits.chat_rate();
        let next_seq = self.seq + 1;
        let member = self.member(context.id);
        if let Some(rate) = rate
            && let Err(retry_after_ms) = member.bucket.take_late(
                context.now.elapsed_ms,
                context.now.earliest_arrival_ms,
                rate,
            )
        {
            // CHAT-LIM-3
            return self.refuse(context, rejection::rate(retry_after_ms).for_chat(chat.id));
        }

        member.chats += 1;
        let time_unix_ms = context.now.unix_ms;
        // To every other member (CHAT-CHAT-1); all but the text is the server's
        // (CHAT-CHAT-4, CHAT-CHAT-5, CHAT-CHAT-9).
        context.publish(
            Audience::Everyone,
            Message::Chat(wire::Chat {
                text: text.into_string(),
                sender: member.name.as_str().to_owned(),
                seq: next_seq,
                time_unix_ms,
                id: 0,
            }),
        );
        if member.granted.receipts {
            // CHAT-RCPT-1, CHAT-RCPT-3; a rejection took its place in the same queue of
            // replies, so the answers keep the order of the chats (CHAT-RCPT-2).
            context.reply(envelope(Message::Receipt(wire::Receipt {
                id: chat.id,
                seq: next_seq,
                time_unix_ms,
            })));
        }
        self.seq = next_seq; // CHAT-ORD-1
    }

    /// Refuses something that a member sent, and ends its session when that happens
    /// too often (CHAT-ERR-8, CHAT-ERR-9).
    fn refuse(&mut self, context: &mut Context<'_>, answer: ServerEnvelope) {
        context.reply(answer);
        let now_ms = context.now.elapsed_ms;
        if let Some(errors_max) = self.limits.errors_max
            && self.member(context.id).strikes.add(now_ms, errors_max)
        {
            self.end_with(context, rejection::too_many_errors());
        }
    }

    fn handle_silence(&mut self, context: &mut Context<'_>, replies_flushed: bool) {
        let limits = &self.limits;
        let (interval_ms, deadline_ms) = (limits.keepalive_interval_ms, limits.idle_deadline_ms);
        let now_ms = context.now.elapsed_ms;
        let member = self.member(context.id);
        // CHAT-KEEP-6
        if !member.granted.keepalive || self.handle_probe(context, replies_flushed) {
            return;
        }
        let member = self.member(context.id);
        if now_ms - member.heard_ms >= u64::from(deadline_ms) {
            // CHAT-KEEP-4
            self.end_with(context, rejection::idle_timeout(deadline_ms));
        } else if now_ms - member.heard_ms.max(member.pinged_ms) >= u64::from(interval_ms) {
            // CHAT-KEEP-3. The token only has to differ from ping to ping.
            member.pinged_ms = now_ms;
            context.reply(envelope(Message::Ping(wire::Ping { token: now_ms })));
        }
    }

    fn is_due(&self, now_ms: u64, index: usize, state: &State) -> bool {
        match state {
            State::Unregistered { .. } | State::AwaitingName(_) | State::Registered(_)
                if self.closing.is_some() =>
            {
                true
            }
            State::Unregistered { since_ms } => self.register_is_late(now_ms, *since_ms),
            State::AwaitingName(pending) => self.is_wait_over(now_ms, index, pending),
            State::Registered(member) if member.may_resume(now_ms, &self.limits) => true,
            State::Registered(member) if member.granted.keepalive => {
                let silent_ms = |since_ms: u64| now_ms.saturating_sub(since_ms);
                silent_ms(member.heard_ms) >= u64::from(self.limits.idle_deadline_ms)
                    || silent_ms(member.heard_ms.max(member.pinged_ms))
                        >= u64::from(self.limits.keepalive_interval_ms)
                    || self.is_probe_due(now_ms, member)
            }
            State::Registered(_) | State::Ended => false,
        }
    }

    fn register_is_late(&self, now_ms: u64, since_ms: u64) -> bool {
        now_ms.saturating_sub(since_ms) >= u64::from(self.limits.register_deadline_ms)
    }

    /// The members after `after`, as many as fit into a frame.
    fn members_page(&mut self, id: &ConnectionId, after: Option<Name>) -> ServerEnvelope {
        let bytes_max = self.limits.frame_bytes_max as usize - MEMBERS_OVERHEAD_BYTES_MAX;
        let mut page = wire::Members::default();
        let mut last = None;
        let mut page_bytes = 0;
        for name in self.name_index.names_after(&self.sessions, after.as_ref()) {
            // A tag, a length of one byte, the name.
            page_bytes += 2 + name.as_str().len();
            if page_bytes > bytes_max {
                page.more = true;
                break;
            }
            page.names.push(name.as_str().to_owned());
            last = Some(name);
        }
        let last = last.filter(|_| page.more).cloned();
        self.member(id).members_after = last;
        envelope(Message::Members(page))
    }

    /// Ends a connection with an error (CHAT-ERR-1, CHAT-ERR-2).
    fn end_with(&mut self, context: &mut Context<'_>, rejection: Rejection) {
        let code = rejection.code;
        context.reply(rejection.fatal());
        self.end(context, CloseReason::Error(code));
    }

    /// CHAT-CLOSE-1: members find ServerClosing in the log, the others are told.
    fn end_for_closing(&mut self, context: &mut Context<'_>) {
        let state = self.sessions.get(context.id.0);
        if let (Some(State::Unregistered { .. } | State::AwaitingName(_)), Some(detail)) =
            (state, &self.closing)
        {
            context.reply(server_closing(detail.clone()));
        }
        self.end(context, CloseReason::ServerClosing);
    }

    /// Ends a session: frees its name (CHAT-NAME-5), tells who asked to know
    /// (CHAT-PRES-3).
    fn end(&mut self, context: &mut Context<'_>, reason: CloseReason) {
        // While its name can still be looked up.
        self.name_index.remove(&self.sessions, context.id.0);
        let Some(state) = self.sessions.get_mut(context.id.0) else {
            return;
        };
        let state = std::mem::replace(state, State::Ended);
        let mut end = Closed {
            reason,
            name: None,
            chats: 0,
        };
        if let State::AwaitingName(pending) = &state {
            self.stop_waiting(context.id.0, pending);
        }
        if let State::Registered(member) = state {
            self.probes.remove(&member.name);
            if self.closing.is_none() {
                context.publish(
                    Audience::Presence,
                    Message::Left(wire::Left {
                        name: member.name.as_str().to_owned(),
                        reason: left_reason(reason).into(),
                    }),
                );
            }
            end.name = Some(member.name);
            end.chats = member.chats;
        }
        context.effects.push(Effect::Closed(end));
    }

    /// The member that a turn in state `Member` is about.
    #[expect(
        clippy::indexing_slicing,
        clippy::unreachable,
        reason = "`handle` looked at the state; what the peer sent has no say in it"
    )]
    fn member(&mut self, id: &ConnectionId) -> &mut Member {
        match &mut self.sessions[id.0] {
            State::Registered(member) => member,
            state => unreachable!("only a member's events come here, not {state:?}"),
        }
    }
}

/// One call of [`Engine::handle`]: what it is about and what follows from it.
struct Context<'a> {
    now: Time,
    id: &'a ConnectionId,
    effects: &'a mut Vec<Effect>,
}

impl Context<'_> {
    fn reply(&mut self, envelope: ServerEnvelope) {
        self.effects.push(Effect::Reply(envelope));
    }

    fn publish(&mut self, audience: Audience, message: Message) {
        let envelope = envelope(message);
        self.effects.push(Effect::Publish { audience, envelope });
    }
}

/// CHAT-PRES-5
fn left_reason(reason: CloseReason) -> LeftReason {
    match reason {
        CloseReason::Leave => LeftReason::Leave,
        CloseReason::Error(ErrorCode::IdleTimeout | ErrorCode::NameReclaimed) => {
            LeftReason::IdleTimeout
        }
        CloseReason::Error(ErrorCode::SlowConsumer | ErrorCode::Overloaded) => {
            LeftReason::SlowConsumer
        }
        CloseReason::Error(_) => LeftReason::ProtocolError,
        CloseReason::ConnectionLost | CloseReason::CutShort | CloseReason::ServerClosing => {
            LeftReason::ConnectionLost
        }
    }
}

fn server_closing(detail: String) -> ServerEnvelope {
    envelope(Message::ServerClosing(wire::ServerClosing { detail }))
}

fn envelope(message: Message) -> ServerEnvelope {
    ServerEnvelope {
        message: Some(message),
    }
}
