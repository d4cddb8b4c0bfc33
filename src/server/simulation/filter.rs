//! Filter: which chats a member wants, word for word as the schema says it (CHAT-FOL-4).

use crate::wire::{self, Chat};

/// The filter of one member.
#[derive(Debug, Clone)]
pub(in crate::server) struct NaiveFilter {
    member: String,
    filter: wire::Filter,
}

impl NaiveFilter {
    /// The filter that a member has sent; `None` if every chat passes.
    pub(in crate::server) fn of(member: &str, filter: Option<&wire::Filter>) -> Option<Self> {
        let filter = filter.filter(|&filter| *filter != wire::Filter::default())?;
        Some(Self {
            member: member.to_owned(),
            filter: filter.clone(),
        })
    }

    pub(in crate::server) fn passes(&self, chat: &Chat) -> bool {
        let has = |list: &[String], word: &str| list.iter().any(|it| it.eq_ignore_ascii_case(word));
        let filter = &self.filter;
        let follows_nothing =
            filter.topics.is_empty() && filter.senders.is_empty() && !filter.without_topic;
        !has(&filter.ignore, &chat.sender)
            && (follows_nothing
                || has(&filter.topics, &chat.topic)
                || has(&filter.senders, &chat.sender)
                || (chat.topic.is_empty() && filter.without_topic)
                || has(&chat.mentions, &self.member))
    }
}
