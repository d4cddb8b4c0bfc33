//! The rules of the protocol, pure: events and the time go in, effects come out.
//! No socket, no clock, no random source; the same events have the same effects.
//!
//! # How to call it
//!
//! 1. [`Engine::connect`] for each connection; it gives the connection's
//!    [`ConnectionId`], or the answer with which to turn it away.
//! 2. [`Engine::handle`] for each thing that happens to it, in order. The caller
//!    carries out the effects in the order in which they stand, before the next
//!    call: [`Effect::Open`] and [`Effect::Publish`] are positions in one order.
//! 3. [`Engine::disconnect`] once, when the connection is gone. It takes the id
//!    back, so nothing can be said about that connection afterwards.
//!
//! Time passes only in arguments: [`Engine::due`] says who has a deadline behind
//! them, and each of those is to be handed [`Event::TimePassed`].

mod admission;
mod flood;
mod liveness;
mod name;
mod rate;
mod refusal;
mod roster;
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

pub use admission::Admission;
use liveness::{Check, Newcomer};
pub use name::{Name, NameError};
pub(crate) use rate::Bucket;
use refusal::Refusal;
use roster::Roster;
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
    pub waiting_since_ms: u64,
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
    Unframed(FrameError),
    /// A frame came whose body does not parse (CHAT-FRAME-8).
    Unparsable,
    /// The client will send nothing more.
    EndOfStream {
        /// Whether it stopped inside a frame (CHAT-FRAME-10).
        inside_frame: bool,
    },
    /// The connection broke.
    Lost,
    /// The client does not read what is due to it (CHAT-LIM-5).
    Stalled,
    /// The queues of all clients take too much memory, and its own the most
    /// (CHAT-LIM-10).
    Evicted,
    /// The time given may be past a deadline, or the server is closing.
    TimePassed {
        /// Whether all that has come from the connection was read; while it is not
        /// (CHAT-LIM-6), it cannot be heard, and is not silent (CHAT-KEEP-4).
        is_read_out: bool,
        /// Whether all replies to it were sent, a Ping among them (CHAT-NAME-8).
        is_sent_out: bool,
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
    Open {
        /// The name it registered.
        name: Name,
        /// Whether it receives what is published for [`Audience::Presence`].
        presence: bool,
    },
    /// The session is over, or there will be none. Send what is due, close.
    End(End),
}

/// The end of a session, for the log that people read.
#[derive(Debug, PartialEq, Eq)]
pub struct End {
    /// Why.
    pub cause: Cause,
    /// Who, where a name was registered.
    pub name: Option<Name>,
    /// How many chats of its were accepted.
    pub chats: u64,
}

/// Why a session ended, or never began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
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
    admission: Admission,
    epoch: String,
    /// The number of the last accepted chat (CHAT-ORD-1).
    seq: u64,
    sessions: Slab<State>,
    /// The members, in the order of their names, which leaks no chance.
    roster: Roster,
    /// The questions to holders of names that somebody else asked for; an answered
    /// one stays until the holder goes, or is asked again.
    checks: BTreeMap<Name, Check>,
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
            admission: Admission::default(),
            epoch,
            seq: 0,
            sessions: Slab::new(),
            roster: Roster::default(),
            checks: BTreeMap::new(),
            closing: None,
        }
    }

    /// The same room, for those alone whom `admission` lets in.
    #[must_use]
    pub fn admitting(mut self, admission: Admission) -> Self {
        self.admission = admission;
        self
    }

    /// The bounds it works within.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many are registered.
    pub fn members(&self) -> usize {
        self.roster.len()
    }

    /// The names of the members, in order.
    #[cfg(test)]
    pub(crate) fn names(&self) -> impl Iterator<Item = &Name> {
        self.roster.names_after(&self.sessions, None)
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
            return Err(Box::new(refusal::server_full().ending()));
        }
        let since_ms = now.elapsed_ms;
        Ok(ConnectionId(
            self.sessions.insert(State::Connected { since_ms }),
        ))
    }

    /// A connection is gone. Ends its session, where it still has one.
    pub fn disconnect(&mut self, now: Time, id: ConnectionId, effects: &mut Vec<Effect>) {
        self.handle(now, &id, Event::Lost, effects);
        self.sessions.remove(id.0);
    }

    /// A connection is not wanted after all, because of where it comes from. Takes its
    /// id back, before anything was said about it; returns what to tell it.
    pub fn turn_away(&mut self, id: ConnectionId, cause: AddressLimit) -> Box<ServerEnvelope> {
        self.sessions.remove(id.0);
        Box::new(refusal::too_many(cause).ending())
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
            Some(State::Connected { since_ms }) => {
                let since_ms = *since_ms;
                self.handle_connected(&mut context, since_ms, event);
            }
            Some(State::Waiting(_)) => self.handle_waiting(&mut context, event),
            Some(State::Member(_)) => self.handle_member(&mut context, event),
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
        let Some(State::Member(member)) = self.sessions.get(id.0) else {
            return None;
        };
        let after = member.members_after.clone()?;
        Some(self.members_page(id, Some(after)))
    }

    /// Appends the index ([`ConnectionId::index`]) of each connection that
    /// [`Event::TimePassed`] is due to.
    pub fn due(&self, now: Time, indices: &mut Vec<usize>) {
        let due = self
            .sessions
            .iter()
            .filter(|&(index, state)| self.is_due(now.elapsed_ms, index, state));
        indices.extend(due.map(|(index, _)| index));
    }

    /// The server closes: publishes ServerClosing, after which nothing is
    /// accepted (CHAT-CLOSE-5). Every connection is to be handed
    /// [`Event::TimePassed`] afterwards.
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
    /// has changed, [`Event::TimePassed`] is due to it. Before it has registered there
    /// is nothing to count: the first frame registers it or ends it.
    pub fn charge(&mut self, now: Time, id: &ConnectionId, frames: usize, bytes: usize) -> bool {
        if bytes > 0 {
            self.hear(id.0);
        }
        let Some(State::Member(member)) = self.sessions.get_mut(id.0) else {
            return self.is_held_up(id);
        };
        let (frames, bytes) = (frames as u64, bytes as u64);
        member.is_held_up = member
            .flood
            .take(now.elapsed_ms, frames, bytes, &self.limits);
        member.is_held_up
    }

    /// Whether nothing is to be read from a connection for now, nor handed on what
    /// came: it floods, or its Register waits (CHAT-NAME-7).
    pub fn is_held_up(&self, id: &ConnectionId) -> bool {
        match self.sessions.get(id.0) {
            Some(State::Member(member)) => member.is_held_up,
            Some(State::Waiting(_)) => true,
            Some(State::Connected { .. } | State::Ended) | None => false,
        }
    }

    fn handle_connected(&mut self, context: &mut Context<'_>, since_ms: u64, event: Event) {
        use client_envelope::Message as Sent;
        match event {
            Event::Message(ClientEnvelope {
                message: Some(Sent::Register(register)),
            }) => self.register(context, since_ms, &register),
            // CHAT-REG-2: whatever else comes first, known or not.
            Event::Message(_) => self.end_with(context, refusal::not_registered()),
            // CHAT-REG-5
            Event::TimePassed { .. } if self.register_is_late(context.now.elapsed_ms, since_ms) => {
                let deadline_ms = self.limits.register_deadline_ms;
                self.end_with(context, refusal::register_timeout(deadline_ms));
            }
            Event::TimePassed { .. } => {}
            event => self.handle_stream(context, event),
        }
    }

    fn register(&mut self, context: &mut Context<'_>, since_ms: u64, register: &wire::Register) {
        // CHAT-ADM-2: before anything is said about names.
        if let Err(refusal) = self.admission.judge_password(&register.password) {
            return self.end_with(context, refusal);
        }
        let name = match Name::parse(&register.name) {
            Ok(name) => name,
            Err(error) => return self.end_with(context, refusal::name(error)),
        };
        // CHAT-ADM-4
        if let Err(refusal) = self.admission.judge_name(&name) {
            return self.end_with(context, refusal);
        }
        let granted = Granted::from_asked(&register.capabilities);
        if self.roster.holder(&self.sessions, &name).is_none() {
            self.admit(context, name, granted);
        } else if self.waits_for(context.now.elapsed_ms, &name, context.id.0) {
            // CHAT-NAME-7: the answer comes when time has passed.
            if let Some(state) = self.sessions.get_mut(context.id.0) {
                *state = State::Waiting(Box::new(Newcomer {
                    since_ms,
                    name,
                    granted,
                }));
            }
        } else {
            // CHAT-NAME-3, CHAT-NAME-4
            self.end_with(context, refusal::name_in_use(&name));
        }
    }

    /// Opens a session under a name that nobody has.
    fn admit(&mut self, context: &mut Context<'_>, name: Name, granted: Granted) {
        let member = State::Member(Member {
            name: name.clone(),
            granted,
            bucket: Default::default(),
            flood: Default::default(),
            strikes: Default::default(),
            is_held_up: false,
            heard_ms: context.now.elapsed_ms,
            pinged_ms: context.now.elapsed_ms,
            chats: 0,
            members_after: None,
        });
        if let Some(state) = self.sessions.get_mut(context.id.0) {
            *state = member;
        }
        self.roster.add(&self.sessions, context.id.0);
        // CHAT-PRES-2. Published before Open, so that the newcomer's own place in
        // the log is behind it (CHAT-PRES-6).
        context.publish(
            Audience::Presence,
            Message::Joined(wire::Joined {
                name: name.as_str().to_owned(),
            }),
        );
        // CHAT-ORD-4, CHAT-ORD-5: the log from here on, nothing from before.
        context.effects.push(Effect::Open {
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

    fn handle_waiting(&mut self, context: &mut Context<'_>, event: Event) {
        match event {
            Event::TimePassed { .. } => self.handle_wait(context),
            // It is not to be read from; and it was not to send (CHAT-REG-10).
            Event::Message(_) => self.end_with(context, refusal::not_registered()),
            event => self.handle_stream(context, event),
        }
    }

    fn handle_member(&mut self, context: &mut Context<'_>, event: Event) {
        match event {
            Event::Message(envelope) => {
                self.hear(context.id.0);
                self.member(context.id).heard_ms = context.now.elapsed_ms;
                self.handle_message(context, envelope);
            }
            Event::TimePassed {
                is_read_out,
                is_sent_out,
            } => {
                if let Some(State::Member(member)) = self.sessions.get_mut(context.id.0)
                    && member.may_go_on(context.now.elapsed_ms, &self.limits)
                {
                    member.is_held_up = false;
                }
                if is_read_out {
                    self.handle_silence(context, is_sent_out);
                } else {
                    self.excuse(context.id.0);
                    self.member(context.id).heard_ms = context.now.elapsed_ms;
                }
            }
            event => self.handle_stream(context, event),
        }
    }

    /// What happens to the stream itself means the same before and after Register.
    fn handle_stream(&mut self, context: &mut Context<'_>, event: Event) {
        match event {
            Event::Unframed(error) => self.end_with(context, refusal::frame(error)),
            Event::Unparsable => self.end_with(context, refusal::unparsable()),
            // CHAT-LIM-5
            Event::Stalled => self.end_with(context, refusal::slow_consumer()),
            Event::Evicted => self.end_with(context, refusal::overloaded()), // CHAT-LIM-10
            // CHAT-LEAVE-5. A stream cut inside a frame is most likely a client
            // that was killed, so the others are told of a lost connection.
            Event::EndOfStream { inside_frame: true } => {
                // CHAT-FRAME-10; the frame itself was never handed on (CHAT-FRAME-9).
                context.reply(refusal::cut_short().ending());
                self.end(context, Cause::CutShort);
            }
            Event::EndOfStream {
                inside_frame: false,
            }
            | Event::Lost => self.end(context, Cause::ConnectionLost),
            // Each state handles messages and time itself.
            Event::Message(_) | Event::TimePassed { .. } => {}
        }
    }

    fn handle_message(&mut self, context: &mut Context<'_>, envelope: ClientEnvelope) {
        use client_envelope::Message as Sent;
        let granted = self.member(context.id).granted;
        match envelope.message {
            Some(Sent::Chat(chat)) => self.handle_chat(context, chat),
            Some(Sent::Leave(_)) => self.end(context, Cause::Leave), // CHAT-LEAVE-2
            // CHAT-REG-6
            Some(Sent::Register(_)) => {
                self.refuse(context, refusal::already_registered().passing());
            }
            // CHAT-GROW-6
            Some(Sent::Ping(_) | Sent::Pong(_)) if !granted.keepalive => {
                self.refuse(context, refusal::not_granted().passing());
            }
            // CHAT-KEEP-1
            Some(Sent::Ping(ping)) => context.reply(self::envelope(Message::Pong(wire::Pong {
                token: ping.token,
            }))),
            // CHAT-KEEP-5: that it came is noted already.
            Some(Sent::Pong(_)) => {}
            // CHAT-GROW-1
            None => self.refuse(context, refusal::unknown_message().passing()),
        }
    }

    fn handle_chat(&mut self, context: &mut Context<'_>, chat: wire::Chat) {
        let text_bytes_max = self.limits.text_bytes_max;
        let text = match Text::parse(chat.text, text_bytes_max) {
            Ok(text) => text,
            // CHAT-CHAT-8
            Err(error) => {
                let answer = refusal::text(error, text_bytes_max).of_chat(chat.id);
                return self.refuse(context, answer);
            }
        };
        let rate = self.limits.chat_rate();
        let next_seq = self.seq + 1;
        let member = self.member(context.id);
        if let Some(rate) = rate
            && let Err(retry_after_ms) =
                member
                    .bucket
                    .take_late(context.now.elapsed_ms, context.now.waiting_since_ms, rate)
        {
            // CHAT-LIM-3
            return self.refuse(context, refusal::rate(retry_after_ms).of_chat(chat.id));
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
            // CHAT-RCPT-1, CHAT-RCPT-3; a refusal took its place in the same queue of
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
            self.end_with(context, refusal::too_many_errors());
        }
    }

    fn handle_silence(&mut self, context: &mut Context<'_>, is_sent_out: bool) {
        let limits = &self.limits;
        let (interval_ms, deadline_ms) = (limits.keepalive_interval_ms, limits.idle_deadline_ms);
        let now_ms = context.now.elapsed_ms;
        let member = self.member(context.id);
        // CHAT-KEEP-6
        if !member.granted.keepalive || self.handle_check(context, is_sent_out) {
            return;
        }
        let member = self.member(context.id);
        if now_ms - member.heard_ms >= u64::from(deadline_ms) {
            // CHAT-KEEP-4
            self.end_with(context, refusal::idle_timeout(deadline_ms));
        } else if now_ms - member.heard_ms.max(member.pinged_ms) >= u64::from(interval_ms) {
            // CHAT-KEEP-3. The token only has to differ from ping to ping.
            member.pinged_ms = now_ms;
            context.reply(envelope(Message::Ping(wire::Ping { token: now_ms })));
        }
    }

    fn is_due(&self, now_ms: u64, index: usize, state: &State) -> bool {
        match state {
            State::Connected { .. } | State::Waiting(_) | State::Member(_)
                if self.closing.is_some() =>
            {
                true
            }
            State::Connected { since_ms } => self.register_is_late(now_ms, *since_ms),
            State::Waiting(newcomer) => self.is_wait_over(now_ms, index, newcomer),
            State::Member(member) if member.may_go_on(now_ms, &self.limits) => true,
            State::Member(member) if member.granted.keepalive => {
                let silent_ms = |since_ms: u64| now_ms.saturating_sub(since_ms);
                silent_ms(member.heard_ms) >= u64::from(self.limits.idle_deadline_ms)
                    || silent_ms(member.heard_ms.max(member.pinged_ms))
                        >= u64::from(self.limits.keepalive_interval_ms)
                    || self.is_check_due(now_ms, member)
            }
            State::Member(_) | State::Ended => false,
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
        for name in self.roster.names_after(&self.sessions, after.as_ref()) {
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
    fn end_with(&mut self, context: &mut Context<'_>, refusal: Refusal) {
        let code = refusal.code;
        context.reply(refusal.ending());
        self.end(context, Cause::Error(code));
    }

    /// CHAT-CLOSE-1: members find ServerClosing in the log, the others are told.
    fn end_for_closing(&mut self, context: &mut Context<'_>) {
        let state = self.sessions.get(context.id.0);
        if let (Some(State::Connected { .. } | State::Waiting(_)), Some(detail)) =
            (state, &self.closing)
        {
            context.reply(server_closing(detail.clone()));
        }
        self.end(context, Cause::ServerClosing);
    }

    /// Ends a session: frees its name (CHAT-NAME-5), tells who asked to know
    /// (CHAT-PRES-3).
    fn end(&mut self, context: &mut Context<'_>, cause: Cause) {
        // While its name can still be looked up.
        self.roster.remove(&self.sessions, context.id.0);
        let Some(state) = self.sessions.get_mut(context.id.0) else {
            return;
        };
        let state = std::mem::replace(state, State::Ended);
        let mut end = End {
            cause,
            name: None,
            chats: 0,
        };
        if let State::Waiting(newcomer) = &state {
            self.stop_waiting(context.id.0, newcomer);
        }
        if let State::Member(member) = state {
            self.checks.remove(&member.name);
            if self.closing.is_none() {
                context.publish(
                    Audience::Presence,
                    Message::Left(wire::Left {
                        name: member.name.as_str().to_owned(),
                        reason: left_reason(cause).into(),
                    }),
                );
            }
            end.name = Some(member.name);
            end.chats = member.chats;
        }
        context.effects.push(Effect::End(end));
    }

    /// The member that a turn in state `Member` is about.
    #[expect(
        clippy::indexing_slicing,
        clippy::unreachable,
        reason = "`handle` looked at the state; what the peer sent has no say in it"
    )]
    fn member(&mut self, id: &ConnectionId) -> &mut Member {
        match &mut self.sessions[id.0] {
            State::Member(member) => member,
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
fn left_reason(cause: Cause) -> LeftReason {
    match cause {
        Cause::Leave => LeftReason::Leave,
        Cause::Error(ErrorCode::IdleTimeout | ErrorCode::NameReclaimed) => LeftReason::IdleTimeout,
        Cause::Error(ErrorCode::SlowConsumer | ErrorCode::Overloaded) => LeftReason::SlowConsumer,
        Cause::Error(_) => LeftReason::ProtocolError,
        Cause::ConnectionLost | Cause::CutShort | Cause::ServerClosing => {
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
