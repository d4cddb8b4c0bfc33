//! Direct messages: passes a line from one member to one other, and tells the sender what
//! became of it (CHAT-DM). Nothing of it goes through the room or the log.

use std::collections::VecDeque;

use prost::Message as _;

use crate::{
    limits::DIRECTS_BYTES,
    name::Name,
    room::{Command, MemberId, Sent},
    wire::{self, server_envelope::Message},
};

use super::{
    ConnectionId, Context, DirectKey, Effect, FileOwner, Sessions, State, envelope, receipt,
    rejection,
};

/// How many Directs of a recipient may be without a DirectAck (CHAT-DM-12): enough for a
/// burst over a slow link.
const UNACKNOWLEDGED_MAX: usize = 64;

/// How many bytes of frames they may have, the first one apart: what a recipient that does
/// not read makes the server hold.
const UNACKNOWLEDGED_BYTES_MAX: usize = 32 * 1024;

/// How many Directs of a sender may be without a DirectState (CHAT-DM-12), so that those
/// that become due at once stay few.
const UNSETTLED_MAX: usize = 256;

/// How long a sender with too many of them is told to wait, in milliseconds.
const UNSETTLED_RETRY_MS: u32 = 1_000;

// What the memory promise counts for each connection. A full table doubles.
const _: () = assert!(
    size_of::<Directs>() + UNACKNOWLEDGED_MAX.next_power_of_two() * size_of::<Waiting>()
        <= DIRECTS_BYTES as usize
);

/// The Directs of one session. Made with the first one.
#[derive(Debug, Default)]
pub(super) struct Directs {
    /// The number of the last one that it was sent (CHAT-DM-8).
    last_seq: u64,
    /// The last ones, as far as it has not acknowledged them, oldest first.
    waiting: VecDeque<Waiting>,
    waiting_bytes: usize,
    /// How many of its own are without a state.
    unsettled: usize,
}

/// A Direct that its recipient has not acknowledged.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) asker: Asker,
    pub(super) bytes: usize,
}

/// Who is told what became of a Direct.
#[derive(Debug)]
pub(super) enum Asker {
    /// A member of this node.
    Here {
        sender: MemberId,
        /// The session of the sender: another one may have its place by now.
        serial: u64,
        /// The id that the sender gave it.
        id: u64,
    },
    /// One of another node of the cluster.
    Elsewhere(Box<DirectKey>),
}

impl Directs {
    /// Whether another one may be sent to it, behind so many others with so many bytes that
    /// are on their way.
    fn has_room_behind(&self, (others, others_bytes): (usize, usize), bytes: usize) -> bool {
        let count = self.waiting.len() + others;
        let total_bytes = self.waiting_bytes + others_bytes + bytes;
        count < UNACKNOWLEDGED_MAX && (count == 0 || total_bytes <= UNACKNOWLEDGED_BYTES_MAX)
    }

    /// One is sent to it. Returns its number (CHAT-DM-8).
    pub(super) fn add(&mut self, waiting: Waiting) -> u64 {
        self.last_seq += 1;
        self.waiting_bytes += waiting.bytes;
        self.waiting.push_back(waiting);
        self.last_seq
    }

    /// One of its own is without a state.
    pub(super) fn add_unsettled(&mut self) {
        self.unsettled += 1;
    }

    pub(super) fn remove_unsettled(&mut self) {
        self.unsettled = self.unsettled.saturating_sub(1);
    }
}

impl Sessions {
    pub(super) fn handle_direct(&mut self, context: &mut Context<'_>, direct: wire::Direct) {
        // CHAT-DM-11: before anything that could refuse what the recipient has.
        if let Some(sent) = context.room.sent(context.id.member(), direct.id) {
            return context.reply(receipt(sent));
        }
        let text = match self.check_text(context, direct.text) {
            Ok(text) => text,
            // CHAT-DM-5
            Err(rejection) => {
                return self.reject_message(context, rejection.for_request(direct.id));
            }
        };
        if let Err(answer) = self.check_files(context, &direct.files, direct.id) {
            return self.reject_message(context, *answer);
        }
        let is_unsettled = |directs: &Directs| directs.unsettled >= UNSETTLED_MAX;
        let session = self.session(context.id);
        let serial = session.serial;
        let retry_after_ms = match session.directs.as_deref().is_some_and(is_unsettled) {
            true => Err(UNSETTLED_RETRY_MS), // CHAT-DM-12
            false => self.take_chat_token(context),
        };
        if let Err(retry_after_ms) = retry_after_ms {
            let answer = rejection::rate(retry_after_ms).for_request(direct.id);
            return self.reject_message(context, answer);
        }
        if !self.has_files(context, &direct.files) {
            let answer = rejection::file(wire::ErrorCode::FileUnknown, &self.limits);
            return self.reject_message(context, answer.for_request(direct.id)); // CHAT-FILE-1
        }
        let sender = context.id.member();
        let Some(name) = context.room.name(sender) else {
            return; // A registered session is a member, so this cannot be.
        };
        let mut delivered = wire::Direct {
            peer: name.as_str().to_owned(), // CHAT-DM-4
            text: text.into_string(),
            id: 0,
            seq: 0,
            time_unix_ms: context.now.unix_ms,
            files: direct.files,
        };
        let bytes = frame_bytes(&delivered);
        // Also to a member of this node, so that the id is remembered whatever happens to it;
        // and to nobody that this node knows, since it may not know yet.
        if self.is_clustered()
            && let Ok(name) = Name::parse(&direct.peer)
        {
            return self.ask_elsewhere(context, direct.id, name, delivered);
        }
        let Some((index, recipient)) = self.recipient(context, &direct.peer, name.as_str(), bytes)
        else {
            let answer = rejection::not_reachable().for_request(direct.id);
            return self.reject_message(context, answer);
        };
        let asker = Asker::Here {
            sender,
            serial,
            id: direct.id,
        };
        delivered.seq = recipient.add(Waiting { asker, bytes }); // CHAT-DM-8
        self.session(context.id)
            .directs
            .get_or_insert_default()
            .add_unsettled();
        let recipient = FileOwner::of(&context.room, ConnectionId(index).member());
        self.note_given(&delivered.files, recipient, context.now.unix_ms);
        let command = Command::Direct {
            member: sender,
            id: direct.id,
            time_unix_ms: context.now.unix_ms,
        };
        self.order(context, command);
        context.effects.push(Effect::Deliver {
            index,
            envelope: envelope(Message::Direct(delivered)),
        });
        // CHAT-DM-3, CHAT-DM-7: it has no number.
        context.reply(receipt(Sent {
            id: direct.id,
            seq: 0,
            time_unix_ms: context.now.unix_ms,
        }));
    }

    /// The connection and the Directs of the member with this name, if a Direct of so many
    /// bytes by this sender reaches it (CHAT-DM-6, CHAT-DM-12).
    fn recipient(
        &mut self,
        context: &Context<'_>,
        name: &str,
        sender: &str,
        bytes: usize,
    ) -> Option<(usize, &mut Directs)> {
        let holder = context.room.holder(&Name::parse(name).ok()?)?;
        let index = holder.0 as usize;
        Some((index, self.directs_of(index, sender, (0, 0), bytes)?))
    }

    /// The Directs of a member of this node, if another one of so many bytes by this sender
    /// reaches it, behind others that are on their way (CHAT-DM-6, CHAT-DM-12).
    pub(super) fn directs_of(
        &mut self,
        index: usize,
        sender: &str,
        others: (usize, usize),
        bytes: usize,
    ) -> Option<&mut Directs> {
        match self.states.get_mut(index) {
            Some(State::Registered(session))
                if session.granted.direct && !session.ignores(sender) =>
            {
                let directs = session.directs.get_or_insert_default();
                directs.has_room_behind(others, bytes).then_some(directs)
            }
            _ => None,
        }
    }

    /// The client has its Directs up to a number (CHAT-DM-9, CHAT-DM-10).
    pub(super) fn handle_direct_ack(&mut self, context: &mut Context<'_>, seq: u64) {
        let Some(directs) = &mut self.session(context.id).directs else {
            return;
        };
        let first_seq = directs.last_seq + 1 - directs.waiting.len() as u64;
        if !(first_seq..=directs.last_seq).contains(&seq) {
            return;
        }
        // There are at most as many as wait.
        let count = (seq + 1 - first_seq) as usize;
        let settled: Vec<_> = directs.waiting.drain(..count).collect();
        for waiting in settled {
            if let Some(directs) = &mut self.session(context.id).directs {
                directs.waiting_bytes -= waiting.bytes;
            }
            self.tell_state(waiting.asker, true, context.effects);
        }
    }

    /// The session of a recipient has ended: what it did not acknowledge counts as not
    /// delivered (CHAT-DM-9).
    pub(super) fn settle_directs(
        &mut self,
        directs: Option<Box<Directs>>,
        effects: &mut Vec<Effect>,
    ) {
        // CHAT-CLOSE-2: every session ends.
        if self.closing.is_some() {
            return;
        }
        for waiting in directs.into_iter().flat_map(|directs| directs.waiting) {
            self.tell_state(waiting.asker, false, effects);
        }
    }

    /// Tells the sender of a Direct what became of it, if its session is still there.
    pub(super) fn tell_state(&mut self, asker: Asker, delivered: bool, effects: &mut Vec<Effect>) {
        let (sender, serial, id) = match asker {
            Asker::Here { sender, serial, id } => (sender, serial, id),
            Asker::Elsewhere(key) => return self.note_settled(*key, delivered),
        };
        let index = sender.0 as usize;
        let Some(State::Registered(session)) = self.states.get_mut(index) else {
            return;
        };
        if session.serial != serial {
            return;
        }
        if let Some(directs) = &mut session.directs {
            directs.remove_unsettled();
        }
        let state = wire::DirectState { id, delivered };
        let envelope = envelope(Message::DirectState(state));
        // CHAT-DM-9: behind the Receipt.
        if let Some(envelope) = self.hold_behind_answers(index, envelope) {
            effects.push(Effect::Deliver { index, envelope });
        }
    }
}

/// How much a Direct counts for its recipient, in bytes: its number takes at most ten more.
pub(super) fn frame_bytes(direct: &wire::Direct) -> usize {
    direct.encoded_len() + 16
}
