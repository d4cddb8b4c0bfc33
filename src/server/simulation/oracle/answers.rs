//! Answers: which message may answer which frame of a client (CHAT-ORD-8).

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use crate::{
    limits::Limits,
    wire::{Capability, Error, ErrorCode, Registered, server_envelope::Message},
};

use super::{super::sent::Sent, ConnectionRecord};

impl ConnectionRecord {
    /// Whether `message` can be the answer to frame `index`.
    pub(super) fn is_answer(&self, index: usize, message: &Message, limits: &Limits) -> bool {
        let is_first = index == 0;
        let sent = &self.frames[index].sent;
        let is = |error: &Error, code, ends_session, id| {
            error.code() == code
                && error.ends_session == ends_session
                && error.id == id
                && (error.retry_after_ms > 0) == (code == ErrorCode::RateLimited)
        };
        if let Some(code) = sent.fatal_error(is_first) {
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
                    rejection: Some(code),
                    ..
                },
                Message::Error(error),
            ) => is(error, *code, false, *id),
            (Sent::Chat { id, .. }, Message::Error(error)) => {
                let is_rejected = is(error, ErrorCode::RateLimited, false, *id);
                assert!(
                    !is_rejected || self.frames[index].seq.is_none(),
                    "CHAT-CHAT-8: {error:?}"
                );
                assert!(
                    !is_rejected || self.is_too_fast(index, limits),
                    "CHAT-LIM-2: {error:?}"
                );
                is_rejected
            }
            (Sent::Chat { id, .. }, Message::Receipt(receipt)) => {
                assert!(self.grants(Capability::Receipts), "CHAT-GROW-7");
                let frame = &self.frames[index];
                let received = (receipt.id, Some(receipt.seq), receipt.time_unix_ms);
                received == (*id, frame.seq, frame.unix_ms)
            }
            (Sent::Direct { .. }, message) => self.is_answer_to_direct(index, message),
            (Sent::DirectAck(_), Message::Error(error)) => {
                !self.grants(Capability::Direct) && is(error, ErrorCode::NotGranted, false, 0)
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

    /// Whether the server may leave frame `index` without an answer.
    pub(super) fn may_go_unanswered(&self, index: usize) -> bool {
        match &self.frames[index].sent {
            // Accepted, from a member without receipts.
            Sent::Chat {
                rejection: None, ..
            } => self.frames[index].seq.is_some() && !self.grants(Capability::Receipts),
            Sent::Pong(_) => self.grants(Capability::Keepalive),
            Sent::DirectAck(_) => self.grants(Capability::Direct),
            Sent::Leave => true,
            _ => false,
        }
    }

    fn check_registered(&self, registered: &Registered, limits: &Limits) {
        assert!(!self.is_registered, "a second Registered");
        assert_eq!(registered.name, self.name, "CHAT-REG-4");
        assert_eq!(registered.limits, Some(limits.announced()), "CHAT-LIM-1");
        let granted: BTreeSet<_> = registered.capabilities.iter().copied().collect();
        assert_eq!(granted, self.granted, "CHAT-REG-7");
    }

    /// Whether the chat rate left no token for frame `index` when the server read it,
    /// given the chats that were accepted before.
    fn is_too_fast(&self, index: usize, limits: &Limits) -> bool {
        let (Some(rate), Some(read)) = (limits.chat_rate(), self.frames[index].read) else {
            return false;
        };
        // A Direct takes a token too, and nothing tells when (CHAT-DM-5).
        let mut frames = self.frames[..index].iter();
        if frames.any(|frame| matches!(frame.sent, Sent::Direct { .. })) {
            return true;
        }
        let interval = Duration::from_millis(rate.interval_ms.into());
        let before = self.frames[..index]
            .iter()
            .filter(|frame| frame.seq.is_some())
            .count();
        // When the token bucket is full again.
        let mut full_at: Option<Instant> = None;
        for &accepted_at in &self.accepted_at[..before] {
            let from = full_at.map_or(accepted_at, |full_at| full_at.max(accepted_at));
            full_at = Some(from + interval);
        }
        let missing = full_at.map_or(Duration::ZERO, |full_at| {
            full_at.saturating_duration_since(read)
        });
        // The server truncates to milliseconds in two places.
        missing + interval + Duration::from_millis(2) > interval * rate.burst
    }
}
