//! The operator: what it does, and what must come of it (CHAT-MOD).

use crate::wire::{ErrorCode, LeftReason, server_envelope::Message};

use super::{super::model::OPERATOR, Oracle};

impl Oracle {
    /// The operator has thrown out a member, or banned a name, and the server has published
    /// something.
    pub(in crate::server::simulation) fn expelled(
        &mut self,
        name: &str,
        code: ErrorCode,
        published: Vec<Message>,
        unix_ms: i64,
    ) {
        if code == ErrorCode::Banned {
            self.banned.insert(name.to_ascii_lowercase());
        }
        let holder = self.model.holder(name).filter(|_| !self.is_closing());
        assert_eq!(
            published.len(),
            usize::from(holder.is_some()),
            "CHAT-MOD-1, CHAT-MOD-2: {published:?} for {name}"
        );
        for message in published {
            let (Message::Left(left), Some(holder)) = (&message, holder) else {
                panic!("CHAT-MOD-1: {message:?} for {name}");
            };
            let reason = match code {
                ErrorCode::Kicked => LeftReason::Kicked,
                _ => LeftReason::Banned,
            };
            assert_eq!(left.reason(), reason, "CHAT-PRES-5");
            self.end_by_other(holder, code, left.clone(), unix_ms);
        }
    }

    /// The operator has lifted a ban.
    pub(in crate::server::simulation) fn unbanned(&mut self, name: &str) {
        self.banned.remove(&name.to_ascii_lowercase());
    }

    pub(super) fn is_banned(&self, name: &str) -> bool {
        self.banned.contains(&name.to_ascii_lowercase())
    }

    /// The operator has muted a name, or lifted that.
    pub(in crate::server::simulation) fn muted(&mut self, name: &str, is_muted: bool) {
        let turn = self.turn;
        let has_changed = match is_muted {
            true => self.muted.insert(name.to_ascii_lowercase()),
            false => self.muted.remove(&name.to_ascii_lowercase()),
        };
        if !has_changed {
            return;
        }
        let records = self.records.iter_mut();
        for record in records.filter(|record| record.name.eq_ignore_ascii_case(name)) {
            match (is_muted, record.mutes.last_mut()) {
                (true, _) => record.mutes.push((turn, None)),
                (false, Some((_, until))) => *until = Some(turn),
                (false, None) => {}
            }
        }
    }

    /// The operator has removed the text of a chat.
    pub(in crate::server::simulation) fn removed(&mut self, seq: u64) {
        self.model.remove_text(seq);
    }

    /// The operator has spoken (CHAT-MOD-7).
    pub(in crate::server::simulation) fn said(
        &mut self,
        text: &str,
        published: Vec<Message>,
        unix_ms: i64,
    ) {
        let [message] = &published[..] else {
            panic!("CHAT-MOD-7: {published:?} for {text:?}");
        };
        let Message::Chat(chat) = message else {
            panic!("CHAT-MOD-7: {message:?} for {text:?}");
        };
        assert_eq!(
            (chat.text.as_str(), chat.sender.as_str(), chat.time_unix_ms),
            (text, "server", unix_ms),
            "CHAT-MOD-7"
        );
        self.note_accepted(chat);
        self.model.publish(OPERATOR, message.clone());
    }
}
