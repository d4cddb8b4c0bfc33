//! Following: filters, and how far a member with one was told that it has everything
//! (CHAT-FOL, CHAT-COV).

use std::sync::Arc;

use crate::{
    filter::{Filter, FilterError},
    name,
    room::Room,
    wire,
};

use super::{
    Context, Effect, FilterChange, Sessions,
    granted::Granted,
    rejection::{self, Rejection},
    state::{Coverage, Session},
};

/// Coverage is told this many times in the time within which it must be told, so that the
/// wait for a tick and a task does not make it late.
const ROUNDS_PER_INTERVAL: u64 = 2;

/// Spreads the members over a round, in milliseconds: a prime, so that neighbours are apart.
const ROUND_STRIDE_MS: u64 = 7_919;

impl Sessions {
    /// The filter that a client sent; `None` if every chat passes.
    ///
    /// # Errors
    ///
    /// What is wrong with it (CHAT-FOL-5).
    pub(super) fn parse_filter(
        &self,
        granted: Granted,
        member: &str,
        filter: Option<&wire::Filter>,
    ) -> Result<Option<Arc<Filter>>, Rejection> {
        // CHAT-FOL-11
        let Some(filter) = filter.filter(|_| granted.follow) else {
            return Ok(None);
        };
        let entries_max = self.limits.filter_entries_max;
        match Filter::parse(member, filter, entries_max) {
            Ok(filter) => Ok(filter.map(Arc::new)),
            Err(FilterError::Invalid) => Err(rejection::filter_invalid()),
            Err(FilterError::TooLong) => Err(rejection::filter_too_long(entries_max)),
        }
    }

    /// Checks the topic and the mentions of a chat.
    ///
    /// # Errors
    ///
    /// What is wrong with them (CHAT-FOL-1).
    pub(super) fn check_topic(&self, chat: &wire::Chat) -> Result<(), Rejection> {
        let mentions_max = self.limits.mentions();
        if !chat.topic.is_empty() && !name::is_word(&chat.topic) {
            return Err(rejection::topic());
        }
        if chat.mentions.len() > mentions_max as usize {
            return Err(rejection::too_many_mentions(mentions_max));
        }
        match chat.mentions.iter().all(|name| name::is_word(name)) {
            true => Ok(()),
            false => Err(rejection::mention()),
        }
    }

    /// Changes the filter of a member from here on, at this place in the order (CHAT-FOL-7).
    /// The reader says so when it has come to this place (CHAT-FOL-6).
    pub(super) fn handle_follow(&mut self, context: &mut Context<'_>, follow: &wire::Follow) {
        let member = context.id.member();
        let granted = self.session(context.id).granted;
        let name = context.room.name(member).map_or("", |name| name.as_str());
        let filter = match self.parse_filter(granted, name, follow.filter.as_ref()) {
            Ok(filter) => filter,
            Err(rejection) => {
                return self.reject_message(context, rejection.for_request(follow.id));
            }
        };
        let seq = context.room.seq();
        let own_now = context.room.chats(member);
        let session = self.session(context.id);
        let sent_unfiltered = match session.coverage {
            Coverage::Everything { since_seq, own } => {
                seq.saturating_sub(since_seq).saturating_sub(own_now - own)
            }
            Coverage::Filtered { .. } => 0,
        };
        session.coverage = match filter {
            Some(_) => Coverage::Filtered { seq },
            None => Coverage::Everything {
                since_seq: seq,
                own: own_now,
            },
        };
        session.filter.clone_from(&filter);
        session.awaits_following = true;
        context.effects.push(Effect::Follow(Box::new(FilterChange {
            id: follow.id,
            seq,
            presence: granted.presence,
            filter,
            sent_unfiltered,
        })));
    }

    /// Tells a member with a filter up to where it has everything, if that is further than
    /// it knows (CHAT-COV-2).
    pub(super) fn cover(&mut self, context: &mut Context<'_>) {
        let room_seq = context.room.seq();
        if let Coverage::Filtered { seq } = &mut self.session(context.id).coverage
            && *seq < room_seq
        {
            *seq = room_seq;
            context.effects.push(Effect::Cover { seq: room_seq });
        }
    }

    /// Whether a round of coverage has begun for a member since the last tick, and there is
    /// something to tell.
    pub(super) fn is_coverage_due(
        &self,
        room: &Room,
        now_ms: u64,
        index: usize,
        session: &Session,
    ) -> bool {
        let Coverage::Filtered { seq } = session.coverage else {
            return false;
        };
        let round_ms = u64::from(self.limits.covered_interval_ms) / ROUNDS_PER_INTERVAL;
        let offset_ms = index as u64 * ROUND_STRIDE_MS % round_ms.max(1);
        let round = |at_ms: u64| (at_ms + offset_ms) / round_ms.max(1);
        seq < room.seq() && round(now_ms) != round(self.looked_ms)
    }
}
