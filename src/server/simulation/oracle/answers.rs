//! Answers: which message may answer which frame of a client (CHAT-ORD-8).

use std::{collections::BTreeSet, time::Duration};

use tokio::time::Instant;

use crate::{
    limits::Limits,
    wire::{Capability, Error, ErrorCode, Registered, server_envelope::Message},
};

use super::{
    super::{lines::EPOCH, sent::Sent},
    ConnectionRecord, Frame,
};

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
        if let (Sent::Register { .. }, Message::Error(error)) = (sent, message)
            && is_first
            && error.code() == ErrorCode::Banned
        {
            // CHAT-MOD-3: of the other checks, only the filter comes later.
            let comes_first = matches!(
                sent.fatal_error(true),
                None | Some(ErrorCode::RequestInvalid)
            );
            return is(error, ErrorCode::Banned, true, 0) && self.is_banned && comes_first;
        }
        if let Some(code) = sent.fatal_error(is_first) {
            return matches!(message, Message::Error(error) if is(error, code, true, 0));
        }
        match (sent, message) {
            // CHAT-MOD-4: before any other check.
            (Sent::Chat { id, .. } | Sent::Direct { id, .. }, Message::Error(error))
                if error.code() == ErrorCode::Muted =>
            {
                is(error, ErrorCode::Muted, false, *id) && self.was_muted(index)
            }
            (Sent::Register { .. }, Message::Registered(registered)) if is_first => {
                self.check_registered(registered, limits);
                true
            }
            (Sent::Register { .. }, Message::Error(error)) if is_first => {
                // CHAT-RES-6
                is(error, ErrorCode::NameInUse, true, 0) && self.is_name_taken
                    || is(error, ErrorCode::Replaced, true, 0) && self.is_outdated
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
            (
                Sent::Follow {
                    id,
                    rejection: Some(code),
                    ..
                },
                Message::Error(error),
            ) => is(error, *code, false, *id),
            (Sent::Follow { .. }, Message::Error(error)) => {
                !self.grants(Capability::Follow) && is(error, ErrorCode::NotGranted, false, 0)
            }
            (
                Sent::Follow {
                    id,
                    rejection: None,
                    ..
                },
                Message::Following(following),
            ) => {
                assert!(self.grants(Capability::Follow), "CHAT-GROW-7");
                let seq = following.seq;
                let least = self.frames[index].seq_when_read;
                assert!(
                    seq >= least,
                    "CHAT-FOL-7: {following:?}, read behind {least}"
                );
                let own = |frames: &[Frame]| frames.iter().filter_map(|it| it.seq).collect();
                let before: Vec<u64> = own(&self.frames[..index]);
                let behind: Vec<u64> = own(&self.frames[index..]);
                assert!(
                    before.iter().all(|it| *it <= seq) && behind.iter().all(|it| *it > seq),
                    "CHAT-FOL-7: {following:?} among its own {before:?} and {behind:?}"
                );
                following.id == *id
            }
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
                // CHAT-RES-11: that of an earlier session.
                let before = self.accepted_before.get(id);
                let before = before.filter(|_| frame.seq.is_none());
                let (seq, unix_ms) = match before {
                    Some((seq, unix_ms)) => (Some(*seq), *unix_ms),
                    None => (frame.seq, frame.unix_ms),
                };
                received == (*id, seq, unix_ms)
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
        assert_eq!(registered.epoch, EPOCH, "CHAT-ORD-7");
        assert_eq!(
            registered.resume_token.is_empty(),
            !self.grants(Capability::Resume),
            "CHAT-RES-2"
        );
        // It keeps nothing on disk.
        let granted = |it| ![Capability::History, Capability::Files].contains(&it);
        let announced = limits.announced_with(granted);
        assert_eq!(registered.limits, Some(announced), "CHAT-LIM-1");
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
