//! Effects: carries out what the sessions decide.

use std::sync::Arc;

use tracing::{debug, info};

use crate::{
    filter::Filter,
    log::{Audience, Log, Mark, Reader},
    room::{Command, Publication},
    session::{CloseReason, Closed, Effect, FilterChange},
    wire::{ServerEnvelope, server_envelope::Message},
};

use super::{Hub, State};
use crate::server::{followers::Followers, metrics::short_name, outbound::Due, peer::Peer};

/// What a pass has published so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Published {
    /// The largest of the audiences.
    pub(super) audience: Option<Audience>,
    /// The connections whose sessions others have ended (CHAT-RES-5, CHAT-MOD).
    pub(super) notify: Vec<usize>,
}

impl Hub {
    /// Carries out effects, in order; returns what the pass has published by then. `index`
    /// is the connection, unless it is gone, and `peer` where it came from. What is due to
    /// it goes to `due`.
    pub(super) fn carry_out(
        &self,
        state: &mut State,
        mut due: impl FnMut(Due),
        index: Option<usize>,
        peer: Option<&Peer>,
        mut published: Published,
    ) -> Published {
        let is_deferred = self.waits_for_store() || !state.commits_at_once;
        let State {
            sessions,
            room,
            log,
            followers,
            effects,
            counts,
            mail,
            ..
        } = state;
        // Their sessions are over: what is published from here on is not for them, their own
        // Left least of all (CHAT-PRES-6).
        for effect in effects.iter() {
            if let &Effect::Notify(index) = effect {
                mail.entry(index).or_default().push(Due::Stop(log.end()));
                self.registry.note_mail(index);
            }
        }
        for effect in effects.drain(..) {
            match effect {
                Effect::Reply(envelope) => {
                    // CHAT-ORD-9
                    let is_held = is_deferred && tells_number(&envelope);
                    if let Some(Message::Error(error)) = &envelope.message {
                        counts.refused(error.code());
                    }
                    due(Due::Reply { envelope, is_held });
                }
                Effect::Deliver { index, envelope } => {
                    let is_held = false;
                    let mail = mail.entry(index).or_default();
                    mail.push(Due::Reply { envelope, is_held });
                    self.registry.note_mail(index);
                }
                Effect::Publish(Publication { audience, envelope }) => {
                    published.audience = published.audience.max(Some(audience));
                    let range = log.append(audience, &envelope);
                    let kept_out = envelope.message.as_ref().map_or(0, |message| {
                        followers.push(message, &log.appended(&range), index)
                    });
                    if let Some(Message::Chat(_)) = envelope.message {
                        counts.messages += 1;
                        // CHAT-CHAT-2: not for its sender.
                        let others = room.member_count().saturating_sub(1);
                        counts.deliveries += others.saturating_sub(kept_out) as u64;
                    }
                    due(Due::Skip(range));
                }
                Effect::Subscribe {
                    name,
                    presence,
                    files,
                    from_seq,
                    filter,
                    sender_id,
                } => {
                    info!(
                        %name,
                        key = sender_id.map(tracing::field::display),
                        peer = peer.and_then(Peer::log_address),
                        port = peer.and_then(Peer::log_port),
                        transport = peer.map(Peer::transport),
                        "registered"
                    );
                    // CHAT-RES-9. Without a chat to begin with, nothing is in memory.
                    let oldest_seq = log.oldest_seq();
                    let mut reader = open_reader(log, filter.as_ref(), presence, from_seq);
                    if let (Some(filter), Some(queue)) = (&filter, reader.due().map(Arc::clone)) {
                        // CHAT-COV-3
                        if from_seq.is_some()
                            && let Some(mark) = log.covered(&queue, room.seq())
                        {
                            reader.set_mark(mark);
                        }
                        if let Some(index) = index {
                            followers.insert(index, Arc::clone(filter), queue, presence);
                        }
                    }
                    let mut is_catching_up = false;
                    if let (Some(archive), Some(seq), Some(index)) =
                        (&self.archive, from_seq, index)
                        && seq < oldest_seq
                    {
                        let numbers = (seq, oldest_seq);
                        let position = if self.is_clustered() { log.end() } else { 0 };
                        archive.begin_catch_up(index, numbers, filter, position);
                        is_catching_up = true;
                    }
                    due(Due::Open {
                        reader,
                        is_opening: from_seq.is_some(),
                        is_catching_up,
                        has_files: files,
                    });
                }
                Effect::Follow(follow) => {
                    if let Some(index) = index {
                        let mark = follow_from_here(log, followers, index, *follow);
                        due(Due::Mark(Box::new(mark)));
                    }
                }
                Effect::Cover { seq } => {
                    if let Some(queue) = index.and_then(|index| followers.due(index))
                        && let Some(mark) = log.covered(queue, seq)
                    {
                        due(Due::Mark(Box::new(mark)));
                    }
                }
                Effect::FetchPage(request) => {
                    if let (Some(archive), Some(index)) = (&self.archive, index) {
                        let end = log.end();
                        let waits = end > self.kept_end(archive, log) && !sessions.is_store_full();
                        archive.request_page(index, request, waits.then_some(end));
                    }
                }
                Effect::Farewell => due(Due::Farewell),
                Effect::File(task) => {
                    if let Some(files) = &self.files {
                        files.push(task);
                    }
                }
                Effect::Download => due(Due::Download),
                Effect::Notify(index) => published.notify.push(index),
                Effect::Closed(closed) => {
                    report(&closed, peer);
                    if let Some(index) = index {
                        followers.remove(index);
                    }
                    due(Due::End(log.end()));
                }
            }
        }
        if self.archive.is_none() && log.oldest_seq() > room.oldest_seq() {
            room.apply(Command::Prune {
                oldest_seq: log.oldest_seq(),
            });
        }
        published
    }
}

/// Whether a reply tells the number of a chat. The Receipt for a Direct tells none.
fn tells_number(envelope: &ServerEnvelope) -> bool {
    match &envelope.message {
        Some(Message::Receipt(receipt)) => receipt.seq > 0,
        Some(Message::Registered(_)) => true,
        _ => false,
    }
}

/// The reader of a session that begins. `from_seq`: the first chat that it lacks, if it
/// resumes a line (CHAT-RES-9).
fn open_reader(
    log: &Log,
    filter: Option<&Arc<Filter>>,
    presence: bool,
    from_seq: Option<u64>,
) -> Reader {
    // Without a chat to begin with, nothing is in memory.
    let from_seq = from_seq.map(|seq| seq.max(log.oldest_seq()));
    match filter.map(Arc::clone) {
        None => from_seq
            .and_then(|seq| log.reader_from(seq, presence))
            .unwrap_or_else(|| log.reader(presence)),
        Some(filter) => from_seq
            .and_then(|seq| log.filtered_reader_from(seq, Arc::clone(&filter), presence))
            .unwrap_or_else(|| log.filtered_reader(filter, presence)),
    }
}

/// Changes the filter of a member at the present end of the log (CHAT-FOL-7).
fn follow_from_here(
    log: &Log,
    followers: &mut Followers,
    index: usize,
    follow: FilterChange,
) -> Mark {
    let before = followers.due(index).map(Arc::clone);
    let reader = match follow.filter {
        None => {
            followers.remove(index);
            log.reader(follow.presence)
        }
        Some(filter) => {
            let reader = log.filtered_reader(Arc::clone(&filter), follow.presence);
            if let Some(queue) = reader.due() {
                followers.insert(index, filter, Arc::clone(queue), follow.presence);
            }
            reader
        }
    };
    let numbers = (follow.id, follow.seq);
    log.following(before.as_deref(), numbers, follow.sent_unfiltered, reader)
}

/// Tells the operators that a session ended.
fn report(closed: &Closed, peer: Option<&Peer>) {
    let why = match closed.reason {
        CloseReason::Leave => "left",
        CloseReason::ConnectionLost => "connection lost",
        CloseReason::CutShort => "connection lost inside a frame",
        CloseReason::ServerClosing => "server closing",
        CloseReason::Error(code) => short_name(code),
    };
    let address = peer.and_then(Peer::log_address);
    let port = peer.and_then(Peer::log_port);
    let transport = peer.map(Peer::transport);
    match &closed.name {
        Some(name) => info!(
            %name, why, messages = closed.chats, peer = address, port, transport, "left"
        ),
        // A check of the server's health, a scan of the port, or a request for the page.
        None if closed.reason == CloseReason::ConnectionLost => {
            debug!(why, peer = address, port, transport, "refused");
        }
        None => info!(why, peer = address, port, transport, "refused"),
    }
}

/// Tells the operators that a connection was rejected with `answer`.
pub(in crate::server) fn report_rejected(answer: &ServerEnvelope, peer: &Peer) {
    let why = match &answer.message {
        Some(Message::Error(error)) => short_name(error.code()),
        _ => "server closing",
    };
    peer.report_refused(why);
}
