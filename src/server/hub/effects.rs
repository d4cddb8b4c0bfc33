//! Effects: carries out what the sessions decide.

use tracing::{debug, info};

use crate::{
    log::Audience,
    room::{Command, Publication},
    session::{CloseReason, Closed, ConnectionId, Effect},
    wire::{ServerEnvelope, server_envelope::Message},
};

use super::{Hub, State};
use crate::server::{metrics::short_name, outbound::Due, peer::Peer};

/// What a pass has published so far.
#[derive(Debug, Clone, Default)]
pub(super) struct Published {
    /// The largest of the audiences.
    pub(super) audience: Option<Audience>,
    /// The connections whose sessions others have ended (CHAT-RES-5, CHAT-MOD).
    pub(super) notify: Vec<usize>,
}

impl Hub {
    /// Carries out effects, in order; returns what the pass has published by then. `id`
    /// is the connection, unless it is gone, and `peer` where it came from. What is due to
    /// it goes to `due`.
    pub(super) fn carry_out(
        &self,
        state: &mut State,
        mut due: impl FnMut(Due),
        id: Option<&ConnectionId>,
        peer: Option<&Peer>,
        mut published: Published,
    ) -> Published {
        let is_deferred = self.archive.is_some() || !state.commits_at_once;
        let State {
            sessions,
            room,
            log,
            effects,
            counts,
            mail,
            ..
        } = state;
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
                    if let Some(Message::Chat(_)) = envelope.message {
                        counts.messages += 1;
                        // CHAT-CHAT-2: not for its sender.
                        let others = room.member_count().saturating_sub(1);
                        counts.deliveries += others as u64;
                    }
                    due(Due::Skip(log.append(audience, &envelope)));
                }
                Effect::Subscribe {
                    name,
                    presence,
                    from_seq,
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
                    let past =
                        from_seq.and_then(|seq| log.reader_from(seq.max(oldest_seq), presence));
                    let mut is_catching_up = false;
                    if let (Some(archive), Some(seq), Some(id)) = (&self.archive, from_seq, id)
                        && seq < oldest_seq
                    {
                        archive.begin_catch_up(id.index(), seq, oldest_seq);
                        is_catching_up = true;
                    }
                    due(Due::Open {
                        reader: past.unwrap_or_else(|| log.reader(presence)),
                        is_opening: from_seq.is_some(),
                        is_catching_up,
                    });
                }
                Effect::FetchPage(request) => {
                    if let (Some(archive), Some(id)) = (&self.archive, id) {
                        let end = log.end();
                        let waits = end > log.committed_end() && !sessions.is_store_full();
                        archive.request_page(id.index(), request, waits.then_some(end));
                    }
                }
                Effect::Notify(index) => published.notify.push(index),
                Effect::Closed(closed) => {
                    report(&closed, peer);
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
    info!(
        why,
        peer = peer.log_address(),
        port = peer.log_port(),
        transport = peer.transport(),
        "refused"
    );
}
