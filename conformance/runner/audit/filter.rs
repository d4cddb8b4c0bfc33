//! Filter: which chats a session asked for (CHAT-FOL-4).

use serde_json::Value;

use super::{agreement::Known, session::text};

/// A filter that a client sent, and its name.
#[derive(Debug, Clone)]
pub struct Filter {
    member: String,
    topics: Vec<String>,
    senders: Vec<String>,
    ignored: Vec<String>,
    without_topic: bool,
}

impl Filter {
    /// The filter that a member sent; `None` if every chat passes.
    pub fn of(member: &str, sent: &Value) -> Option<Self> {
        let filter = Self {
            member: member.to_owned(),
            topics: texts(&sent["topics"]),
            senders: texts(&sent["senders"]),
            ignored: texts(&sent["ignore"]),
            without_topic: sent["withoutTopic"] == true,
        };
        let is_none = filter.follows_all() && filter.ignored.is_empty();
        (!is_none).then_some(filter)
    }

    /// Whether its member is due a chat by another.
    pub fn passes(&self, chat: &Known) -> bool {
        let has = |all: &[String], it: &str| all.iter().any(|one| one.eq_ignore_ascii_case(it));
        let has_topic = !chat.topic.is_empty();
        !has(&self.ignored, &chat.sender)
            && (self.follows_all()
                || has(&self.senders, &chat.sender)
                || (has_topic && has(&self.topics, &chat.topic))
                || (!has_topic && self.without_topic)
                || has(&chat.mentions, &self.member))
    }

    fn follows_all(&self) -> bool {
        self.topics.is_empty() && self.senders.is_empty() && !self.without_topic
    }
}

/// A list of texts; absent: none.
pub fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(text).collect()
}
