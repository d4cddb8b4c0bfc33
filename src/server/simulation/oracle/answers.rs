//! What a peer may be told in answer to what it has sent (CHAT-ORD-8).

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use crate::{
    limits::Limits,
    wire::{Capability, Error, ErrorCode, Registered, server_envelope::Message},
};

use super::{super::sent::Sent, View};

impl View {
    /// Whether `message` is what frame `index` is answered with.
    pub(super) fn is_answer(&self, index: usize, message: &Message, limits: &Limits) -> bool {
        let is_first = index == 0;
        let sent = &self.frames[index].sent;
        let is = |error: &Error, code, ends_session, id| {
            error.code() == code
                && error.ends_session == ends_session
                && error.id == id
                && (error.retry_after_ms > 0) == (code == ErrorCode::RateLimited)
        };
        if let Some(code) = sent.ending_error(is_first) {
            return matches!(message, Message::Error(error) if is(error, code, true, 0));
        }
        match (sent, message) {
            (Sent::Register { .. }, Message::Registered(registered)) if is_first => {
                self.check_registered(registered, limits);
                true
            }
            (Sent::Register { .. }, Message::Error(error)) if is_first => {
                is(error, ErrorCode::NameInUse, true, 0) && self.is_name_taken
            }
            (Sent::Register { .. }, Message::Error(error)) => {
                is(error, ErrorCode::AlreadyRegistered, false, 0)
            }
            (
                Sent::Chat {
                    id,
                    refusal: Some(code),
                    ..
                },
                Message::Error(error),
            ) => is(error, *code, false, *id),
            (Sent::Chat { id, .. }, Message::Error(error)) => {
                let is_refused = is(error, ErrorCode::RateLimited, false, *id);
                assert!(
                    !is_refused || self.frames[index].seq.is_none(),
                    "CHAT-CHAT-8: {error:?}"
                );
                assert!(
                    !is_refused || self.is_too_fast(index, limits),
                    "CHAT-LIM-2: {error:?}"
                );
                is_refused
            }
            (Sent::Chat { id, .. }, Message::Receipt(receipt)) => {
                assert!(self.grants(Capability::Receipts), "CHAT-GROW-7");
                let frame = &self.frames[index];
                let told = (receipt.id, Some(receipt.seq), receipt.time_unix_ms);
                told == (*id, frame.seq, frame.unix_ms)
            }
            (Sent::Ping(token), Message::Pong(pong)) => {
                self.grants(Capability::Keepalive) && pong.token == *token
            }
            (Sent::Ping(_) | Sent::Pong(_), Message::Error(error)) => {
                !self.grants(Capability::Keepalive) && is(error, ErrorCode::NotGranted, false, 0)
            }
            (Sent::Unknown(_), Message::Error(error)) => {
                is(error, ErrorCode::UnknownMessage, false, 0)
            }
            _ => false,
        }
    }

    /// Whether frame `index` needs no answer.
    pub(super) fn may_be_silent(&self, index: usize) -> bool {
        match &self.frames[index].sent {
            // In the order, without a receipt.
            Sent::Chat { refusal: None, .. } => {
                self.frames[index].seq.is_some() && !self.grants(Capability::Receipts)
            }
            Sent::Pong(_) => self.grants(Capability::Keepalive),
            Sent::Leave => true,
            _ => false,
        }
    }

    fn check_registered(&self, registered: &Registered, limits: &Limits) {
        assert!(!self.is_registered, "it is registered once");
        assert_eq!(registered.name, self.name, "CHAT-REG-4");
        assert_eq!(registered.limits, Some(limits.announced()), "CHAT-LIM-1");
        let granted: BTreeSet<_> = registered.capabilities.iter().copied().collect();
        assert_eq!(granted, self.granted, "CHAT-REG-7");
    }

    /// Whether the rate left no room for frame `index` when it was read: its
    /// tokens, reckoned from the chats that were accepted before.
    fn is_too_fast(&self, index: usize, limits: &Limits) -> bool {
        let (Some(rate), Some(read)) = (limits.chat_rate(), self.frames[index].read) else {
            return false;
        };
        let interval = Duration::from_millis(rate.interval_ms.into());
        let before = self.frames[..index]
            .iter()
            .filter(|frame| frame.seq.is_some())
            .count();
        // Full again at this moment.
        let mut full: Option<Instant> = None;
        for &accepted in &self.accepted[..before] {
            full = Some(full.map_or(accepted, |full| full.max(accepted)) + interval);
        }
        let due = full.map_or(Duration::ZERO, |full| full.saturating_duration_since(read));
        // Milliseconds are cut off in two places.
        due + interval + Duration::from_millis(2) > interval * rate.burst
    }
}
