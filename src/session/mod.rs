//! Sessions: checks the messages of each client, and makes commands for the room. Pure:
//! events and the time go in, effects come out; no socket, no clock, no random source.
//!
//! # How to call it
//!
//! 1. [`Sessions::connect`] for each connection. It returns the connection's
//!    [`ConnectionId`], or the answer to send before the connection is closed.
//! 2. [`Sessions::handle`] for each event of the connection, in order. The caller carries
//!    out the effects in their order, before the next call: [`Effect::Subscribe`] and
//!    [`Effect::Publish`] are positions in one order.
//! 3. [`Sessions::disconnect`] once, when the connection is gone. It takes the id, so no
//!    later call can name the connection.
//!
//! Time passes only in arguments: [`Sessions::due`] lists the connections with a deadline
//! behind them, and the caller handles an [`Event::Tick`] for each of them.
//!
//! # Sessions and the room
//!
//! A session decides what one client may do: framing errors, text, rates, errors,
//! keepalive, access. The [`Room`] decides what all members agree on: names, members,
//! numbers. A session sends the room a [`Command`](crate::room::Command), which is applied in the same call; on
//! a node of a cluster it comes back later, in the order of all nodes (`ordering`).

mod access;
mod bans;
mod directs;
mod downloads;
mod ending;
mod error_budget;
mod event;
mod file_index;
mod file_owner;
mod files;
mod follow;
mod granted;
mod identity;
mod inbound_rate;
mod keepalive;
mod members;
mod messages;
mod moderation;
mod name_reclaim;
mod named_by;
mod operation;
mod ordering;
mod pending;
mod register;
mod rejection;
mod reload;
mod remote_directs;
mod silence;
mod state;
mod welcome;

use std::{collections::BTreeMap, sync::Arc};

use slab::Slab;

use crate::{
    identity::Nonce,
    limits::Limits,
    name::Name,
    room::{self, Room, Token},
    wire::{self, Capability, ServerEnvelope, server_envelope::Message},
};

pub use access::AccessPolicy;
pub use bans::{BANS_MAX, Ban, Bans, Network, REASON_BYTES_MAX, Reason, Target};
pub use downloads::NextPiece;
pub use ending::Closing;
pub use event::{
    AddressLimit, CloseReason, Closed, ConnectionId, Edge, Effect, Event, FilterChange,
    PageRequest, Progress, Time,
};
pub use file_index::{FileIndex, Hash, Removal, Written, WrittenPiece};
pub use file_owner::FileOwner;
pub use files::{FileRead, FileTask};
pub use moderation::{Listed, Moderation};
use name_reclaim::HolderProbe;
pub use name_reclaim::NameChecks;
pub use named_by::NamedBy;
pub use operation::{Operated, Operation};
use ordering::{Elsewhere, OrderedRoom};
pub use remote_directs::{DirectKey, DirectPlace, RemoteDirect};
use state::{Session, State};
pub use welcome::{WELCOME_BYTES_MAX, Welcome};

/// What the server offers beside what it always can.
#[derive(Debug, Clone, Copy)]
pub struct Offer {
    /// Members may read the past (CHAT-HIST).
    pub history: bool,
    /// Members may upload files (CHAT-FILE).
    pub files: bool,
    /// Gives a token that strangers cannot guess (CHAT-RES-2); `None` if there is none to
    /// be had, and then nothing is resumed.
    pub fresh_token: fn() -> Option<Token>,
    /// Gives random bytes for a Challenge (CHAT-ID-2); `None` if there are none to be
    /// had, and then keys are ignored (CHAT-ID-1).
    pub fresh_nonce: fn() -> Option<Nonce>,
}

impl Offer {
    /// Whether any session is granted a capability that not every server has.
    fn grants(&self, capability: Capability) -> bool {
        match capability {
            Capability::History => self.history,
            Capability::Files => self.files,
            _ => true,
        }
    }
}

/// Nothing.
impl Default for Offer {
    fn default() -> Self {
        Self {
            history: false,
            files: false,
            fresh_token: || None,
            fresh_nonce: || None,
        }
    }
}

/// The sessions of all connections of a server.
#[derive(Debug)]
pub struct Sessions {
    limits: Arc<Limits>,
    access: AccessPolicy,
    moderation: Moderation,
    welcome: Welcome,
    offer: Offer,
    /// There is no space to keep another chat (CHAT-HIST-9).
    is_store_full: bool,
    /// How many sessions there were.
    last_serial: u64,
    files: FileIndex,
    /// How many pieces of uploads are on their way to the disk.
    pieces: usize,
    /// How many downloads are under way.
    downloads: usize,
    states: Slab<State>,
    /// When [`Sessions::due`] was called last.
    looked_ms: u64,
    /// The probes of holders whose names other clients registered. An answered one stays
    /// until the holder leaves or is probed again.
    probes: BTreeMap<Name, HolderProbe>,
    /// What is said in ServerClosing, once the server closes.
    closing: Option<Closing>,
    /// Members do not find it in the log, of which nothing more is committed.
    has_failed: bool,
    /// Commands go through the order of a cluster; `None` on one node, where they are
    /// applied at once.
    elsewhere: Option<Box<Elsewhere>>,
}

/// One call of [`Sessions::handle`]: its arguments and its effects.
struct Context<'a> {
    now: Time,
    id: &'a ConnectionId,
    room: OrderedRoom<'a>,
    effects: &'a mut Vec<Effect>,
}

impl Sessions {
    /// No connections yet, of clients that `access` allows.
    ///
    /// # Panics
    ///
    /// If `limits` do not fit together ([`Limits::check`]).
    #[expect(
        clippy::panic,
        reason = "before there is a peer: a mistake of the caller"
    )]
    pub fn new(limits: Limits, access: AccessPolicy, offer: Offer) -> Self {
        if let Err(sentence) = limits.check() {
            panic!("limits are checked before they are used: {sentence}");
        }
        Self {
            limits: Arc::new(limits),
            access,
            moderation: Moderation::default(),
            welcome: Welcome::default(),
            offer,
            is_store_full: false,
            last_serial: 0,
            files: FileIndex::default(),
            pieces: 0,
            downloads: 0,
            states: Slab::new(),
            looked_ms: 0,
            probes: BTreeMap::new(),
            closing: None,
            has_failed: false,
            elsewhere: None,
        }
    }

    /// What members have uploaded before (CHAT-FILE-7, CHAT-FILE-12).
    pub fn set_files(&mut self, files: FileIndex) {
        self.files = files;
    }

    /// The limits of every session.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// How many connections there are, registered or not.
    pub fn connections(&self) -> usize {
        self.states.len()
    }

    /// A connection was accepted.
    ///
    /// # Errors
    ///
    /// The answer to send before the connection is closed, if the server is full
    /// (CHAT-REG-9), closes (CHAT-CLOSE-1) or is cut off its cluster (CHAT-CLUS-1).
    pub fn connect(&mut self, now: Time) -> Result<ConnectionId, Box<ServerEnvelope>> {
        if let Some(closing) = &self.closing {
            return Err(Box::new(closing.message(self.states.len())));
        }
        if let Some(retry_after_ms) = self.unreachable_ms() {
            return Err(Box::new(
                rejection::cluster_unreachable(retry_after_ms).fatal(),
            ));
        }
        if self.states.len() >= self.limits.connections_max as usize {
            return Err(Box::new(rejection::server_full().fatal()));
        }
        let since_ms = now.elapsed_ms;
        Ok(ConnectionId(
            self.states.insert(State::Unregistered { since_ms }),
        ))
    }

    /// A connection is gone. Ends its session, if it still has one.
    pub fn disconnect(
        &mut self,
        room: &mut Room,
        now: Time,
        id: ConnectionId,
        effects: &mut Vec<Effect>,
    ) {
        self.handle(room, now, &id, Event::ConnectionLost, effects);
        if !self.keep_id(id.0) {
            self.states.remove(id.0);
        }
    }

    /// A connection exceeds a limit of its address. Takes its id; returns the answer to
    /// send before it is closed.
    pub fn reject(&mut self, id: ConnectionId, limit: AddressLimit) -> Box<ServerEnvelope> {
        self.states.remove(id.0);
        Box::new(rejection::address_limit(limit).fatal())
    }

    /// Handles an event of a connection, and appends its effects to `effects`. There are
    /// none once the session has ended.
    pub fn handle(
        &mut self,
        room: &mut Room,
        now: Time,
        id: &ConnectionId,
        event: Event,
        effects: &mut Vec<Effect>,
    ) {
        let first = effects.len();
        let mut context = Context {
            now,
            id,
            room: OrderedRoom(room),
            effects,
        };
        match self.states.get(id.0) {
            None | Some(State::Ended) => {}
            _ if self.closing.is_some() => self.end_for_closing(&mut context),
            Some(State::Unregistered { since_ms }) => {
                let since_ms = *since_ms;
                self.handle_unregistered(&mut context, since_ms, event);
            }
            Some(State::AwaitingProof(_)) => self.handle_awaiting_proof(&mut context, event),
            Some(State::AwaitingName(_)) => self.handle_awaiting_name(&mut context, event),
            // Whatever it is.
            Some(State::Revoked(_)) => self.tell_revoked(&mut context),
            Some(State::Joining(_)) => self.handle_joining(&mut context, event),
            Some(State::Leaving(_)) => self.handle_leaving(&mut context, &event),
            Some(State::Registered(_)) => self.handle_registered(&mut context, event),
        }
        self.hold_replies(id.0, effects, first);
    }

    /// Appends the index ([`ConnectionId::index`]) of each connection that must handle an
    /// [`Event::Tick`].
    pub fn due(&mut self, room: &Room, now: Time, indices: &mut Vec<usize>) {
        let due = self
            .states
            .iter()
            .filter(|&(index, state)| self.is_due(room, now.elapsed_ms, index, state));
        indices.extend(due.map(|(index, _)| index));
        self.looked_ms = now.elapsed_ms;
    }

    /// Charges frames and bytes that arrived, whatever they hold, and apart from those the
    /// bytes of files (CHAT-FILE-15). Returns whether the server must stop reading from the
    /// connection for now (CHAT-LIM-6, CHAT-LIM-9); once it may read again, [`Sessions::due`] lists the connection. Before a
    /// connection has registered nothing is charged: its first frame registers it or
    /// ends it.
    pub fn charge_inbound(
        &mut self,
        room: &Room,
        now: Time,
        id: &ConnectionId,
        frames: usize,
        (bytes, file_bytes): (usize, usize),
    ) -> bool {
        if bytes > 0 {
            self.note_activity(room, id.member());
        }
        let Some(State::Registered(session)) = self.states.get_mut(id.0) else {
            return self.is_throttled(id);
        };
        session.charge(
            now.elapsed_ms,
            frames as u64,
            bytes as u64,
            file_bytes as u64,
        );
        self.is_throttled(id)
    }

    /// Whether the server must not read from a connection for now, nor handle frames that
    /// have arrived: it is above its inbound rate, or its Register waits (CHAT-NAME-7).
    pub fn is_throttled(&self, id: &ConnectionId) -> bool {
        match self.states.get(id.0) {
            Some(State::Registered(session)) => session.is_held() || self.has_many_answers(id.0),
            Some(State::AwaitingName(_) | State::Joining(_) | State::Leaving(_)) => true,
            Some(
                State::Unregistered { .. }
                | State::AwaitingProof(_)
                | State::Revoked(_)
                | State::Ended,
            )
            | None => false,
        }
    }

    /// The page of the past that a connection waits for has arrived: it may be read from
    /// again. Returns whether its session waits for one.
    pub fn page_arrived(&mut self, id: &ConnectionId) -> bool {
        match self.states.get_mut(id.0) {
            Some(State::Registered(session)) => std::mem::take(&mut session.awaits_page),
            _ => false,
        }
    }

    /// The Following that a connection waits for is on its way: it may be read from again.
    pub fn followed(&mut self, id: &ConnectionId) {
        if let Some(State::Registered(session)) = self.states.get_mut(id.0) {
            session.awaits_following = false;
        }
    }

    /// Greets everybody who registers from now on (CHAT-REG-14). Returns whether that is
    /// something new.
    pub fn set_welcome(&mut self, welcome: Welcome) -> bool {
        let is_new = self.welcome != welcome;
        self.welcome = welcome;
        is_new
    }

    /// Whether there is space to keep another chat (CHAT-HIST-9).
    pub fn set_store_full(&mut self, is_full: bool) {
        self.is_store_full = is_full;
    }

    /// Whether there is no space to keep another chat.
    pub fn is_store_full(&self) -> bool {
        self.is_store_full
    }

    /// Whether nothing is accepted since there is no space to keep it (CHAT-HIST-9). A node
    /// of a cluster accepts what the order keeps, and is about to end its sessions.
    fn refuses_for_space(&self) -> bool {
        self.is_store_full && !self.is_clustered()
    }

    /// Handles events of the stream itself, which are the same before and after Register.
    fn handle_stream(&mut self, context: &mut Context<'_>, event: Event) {
        match event {
            Event::BadFrame(error) => self.end_with(context, rejection::frame(error)),
            Event::BadEnvelope => self.end_with(context, rejection::bad_envelope()),
            // CHAT-LIM-5
            Event::WriteTimedOut => self.end_with(context, rejection::slow_consumer()),
            Event::Evicted => self.end_with(context, rejection::overloaded()), // CHAT-LIM-10
            // CHAT-LIM-5, so that the stream has no gap (CHAT-ORD-4)
            Event::PastRemoved => self.end_with(context, rejection::past_removed()),
            // CHAT-LEAVE-5. A stream that ends inside a frame most likely means that the
            // client was killed, so the others receive Left with a lost connection.
            Event::EndOfStream { inside_frame: true } => {
                // CHAT-FRAME-10; the frame itself was never handled (CHAT-FRAME-9).
                context.reply(rejection::cut_short().fatal());
                self.end(context, CloseReason::CutShort);
            }
            // Before Register there is nothing to answer (CHAT-REG-13).
            Event::EndOfStream {
                inside_frame: false,
            }
            | Event::ConnectionLost => self.end(context, CloseReason::ConnectionLost),
            // Each state handles messages and ticks itself.
            Event::Message(_) | Event::Tick { .. } => {}
        }
    }

    fn is_due(&self, room: &Room, now_ms: u64, index: usize, state: &State) -> bool {
        match state {
            State::Ended => false,
            _ if self.closing.is_some() => true,
            State::Revoked(_) => true,
            State::Joining(_) | State::Leaving(_) => false,
            State::Unregistered { since_ms } => self.register_is_late(now_ms, *since_ms),
            State::AwaitingProof(pending) => {
                self.register_is_late(now_ms, pending.register.since_ms)
            }
            State::AwaitingName(pending) => self.is_wait_over(room, now_ms, index, pending),
            State::Registered(session) if session.may_resume(now_ms) => true,
            State::Registered(session) if self.is_coverage_due(room, now_ms, index, session) => {
                true
            }
            State::Registered(session) => {
                session.granted.keepalive
                    && (self.is_silence_due(now_ms, session)
                        || self.is_probe_due(room, now_ms, ConnectionId(index).member()))
            }
        }
    }

    /// The session of a connection in the state `Registered`.
    #[expect(
        clippy::indexing_slicing,
        clippy::unreachable,
        reason = "`handle` has checked the state, and no peer can change it in between"
    )]
    fn session(&mut self, id: &ConnectionId) -> &mut Session {
        match &mut self.states[id.0] {
            State::Registered(session) => session,
            state => unreachable!("only events of a session are handled here, not {state:?}"),
        }
    }
}

impl Context<'_> {
    fn reply(&mut self, envelope: ServerEnvelope) {
        self.effects.push(Effect::Reply(envelope));
    }
}

fn envelope(message: Message) -> ServerEnvelope {
    ServerEnvelope {
        message: Some(message),
    }
}

fn receipt(sent: room::Sent) -> ServerEnvelope {
    envelope(Message::Receipt(wire::Receipt {
        id: sent.id,
        seq: sent.seq,
        time_unix_ms: sent.time_unix_ms,
    }))
}
