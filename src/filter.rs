//! Filters: which chats a member wants to receive (CHAT-FOL-4). Pure: the server asks a
//! filter about each chat, and its [entries](Filter::follows) for an index.

use std::collections::BTreeSet;

use crate::{
    name,
    wire::{self, Chat},
};

/// Topics and names, folded to lower case.
type Words = BTreeSet<Box<str>>;

/// The filter of one member. A member that wants everything has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    member: Box<str>,
    topics: Words,
    senders: Words,
    ignored: Words,
    without_topic: bool,
}

/// Why a filter is refused (CHAT-FOL-5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterError {
    /// An entry is neither a topic nor a name.
    Invalid,
    /// It has too many entries.
    TooLong,
}

/// What a filter follows: a chat that passes it has one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Follows<'a> {
    /// Nothing, so that every chat passes which is not ignored.
    Everything,
    /// Chats with this topic.
    Topic(&'a str),
    /// Chats by this sender.
    Sender(&'a str),
    /// Chats that mention this member.
    Mention(&'a str),
    /// Chats without a topic.
    WithoutTopic,
}

impl Filter {
    /// The filter of `member` as it sent it; `None` if it wants everything.
    ///
    /// # Errors
    ///
    /// [`FilterError`] with what is wrong.
    pub fn parse(
        member: &str,
        filter: &wire::Filter,
        entries_max: u32,
    ) -> Result<Option<Self>, FilterError> {
        let lists = [&filter.topics, &filter.senders, &filter.ignore];
        let entries: usize = lists.iter().map(|list| list.len()).sum();
        if entries > entries_max as usize {
            return Err(FilterError::TooLong);
        }
        if !lists
            .iter()
            .all(|list| list.iter().all(|it| name::is_word(it)))
        {
            return Err(FilterError::Invalid);
        }
        let [topics, senders, ignored] = lists.map(|list| list.iter().map(|it| fold(it)).collect());
        let filter = Self {
            member: fold(member),
            topics,
            senders,
            ignored,
            without_topic: filter.without_topic,
        };
        Ok(Some(filter).filter(|it| !(it.follows_everything() && it.ignored.is_empty())))
    }

    /// Whether its member receives `chat`, which another member sent.
    pub fn passes(&self, chat: &Chat) -> bool {
        if self.ignores(&fold(&chat.sender)) {
            return false;
        }
        let has_topic = !chat.topic.is_empty();
        self.follows_everything()
            || (has_topic && self.topics.contains(&fold(&chat.topic)))
            || (!has_topic && self.without_topic)
            || self.senders.contains(&fold(&chat.sender))
            || chat.mentions.iter().any(|name| fold(name) == self.member)
    }

    /// Whether a sender, folded, is ignored.
    pub fn ignores(&self, sender: &str) -> bool {
        self.ignored.contains(sender)
    }

    /// Whether any sender is ignored.
    pub fn ignores_some(&self) -> bool {
        !self.ignored.is_empty()
    }

    /// Whether this is the name of its member.
    pub fn is_member(&self, name: &str) -> bool {
        self.member.eq_ignore_ascii_case(name)
    }

    /// What it follows, folded.
    pub fn follows(&self) -> Vec<Follows<'_>> {
        if self.follows_everything() {
            return vec![Follows::Everything];
        }
        let topics = self.topics.iter().map(|it| Follows::Topic(it));
        let senders = self.senders.iter().map(|it| Follows::Sender(it));
        let mention = Follows::Mention(&self.member);
        let without_topic = self.without_topic.then_some(Follows::WithoutTopic);
        topics
            .chain(senders)
            .chain([mention])
            .chain(without_topic)
            .collect()
    }

    fn follows_everything(&self) -> bool {
        self.topics.is_empty() && self.senders.is_empty() && !self.without_topic
    }
}

/// A topic or a name in lower case, by which they are equal (CHAT-NAME-3).
pub fn fold(word: &str) -> Box<str> {
    word.to_ascii_lowercase().into_boxed_str()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRIES_MAX: u32 = 4;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn filter(topics: &[&str], senders: &[&str], ignore: &[&str]) -> wire::Filter {
        wire::Filter {
            topics: words(topics),
            senders: words(senders),
            ignore: words(ignore),
            without_topic: false,
        }
    }

    fn parse(filter: &wire::Filter) -> Result<Option<Filter>, FilterError> {
        Filter::parse("Alice", filter, ENTRIES_MAX)
    }

    #[track_caller]
    fn check(filter: &wire::Filter, chat: (&str, &str, &[&str]), expected: bool) {
        let (sender, topic, mentions) = chat;
        let chat = Chat {
            sender: sender.to_owned(),
            topic: topic.to_owned(),
            mentions: words(mentions),
            ..Chat::default()
        };
        let filter = parse(filter).expect("a good filter").expect("a filter");
        assert_eq!(filter.passes(&chat), expected, "{chat:?}");
        // The index finds what passes, and may find what is ignored.
        let is_found = filter.follows().into_iter().any(|follows| match follows {
            Follows::Everything => true,
            Follows::Topic(topic) => *topic == *fold(&chat.topic),
            Follows::Sender(sender) => *sender == *fold(&chat.sender),
            Follows::Mention(name) => chat.mentions.iter().any(|it| *name == *fold(it)),
            Follows::WithoutTopic => chat.topic.is_empty(),
        });
        let is_ignored = filter.ignores(&fold(&chat.sender));
        assert_eq!(is_found && !is_ignored, expected, "{chat:?}");
    }

    #[test]
    fn topics_senders_and_mentions_pass_regardless_of_case() {
        let follows = filter(&["Build"], &["bob"], &[]);
        check(&follows, ("carol", "bUILD", &[]), true);
        check(&follows, ("BOB", "other", &[]), true);
        check(&follows, ("carol", "other", &["dave", "ALICE"]), true);
        check(&follows, ("carol", "other", &["dave"]), false);
        check(&follows, ("carol", "", &[]), false);
        check(&follows, ("carol", "builds", &[]), false);
    }

    #[test]
    fn chats_without_a_topic_pass_if_they_are_followed() {
        let mut follows = filter(&["build"], &[], &[]);
        follows.without_topic = true;
        check(&follows, ("carol", "", &[]), true);
        check(&follows, ("carol", "other", &[]), false);
        let alone = wire::Filter {
            without_topic: true,
            ..wire::Filter::default()
        };
        check(&alone, ("carol", "", &[]), true);
        check(&alone, ("carol", "build", &[]), false);
    }

    #[test]
    fn an_ignored_sender_does_not_pass_whatever_it_says() {
        let ignores = filter(&[], &[], &["Mallory"]);
        check(&ignores, ("mallory", "build", &["alice"]), false);
        check(&ignores, ("carol", "", &[]), true);
        let both = filter(&["build"], &["mallory"], &["mallory"]);
        check(&both, ("mallory", "build", &["alice"]), false);
        check(&both, ("carol", "build", &[]), true);
    }

    #[test]
    fn bad_filters_are_refused_and_empty_ones_are_none() {
        assert_eq!(parse(&wire::Filter::default()), Ok(None));
        let longest = "x".repeat(32);
        let good = filter(&["all", &longest], &["b"], &["c"]);
        assert!(parse(&good).is_ok_and(|it| it.is_some()));
        let long = filter(&["a", "b"], &["c", "d"], &["e"]);
        assert_eq!(parse(&long), Err(FilterError::TooLong));
        for bad in ["", "#build", "a b", "ü", &"x".repeat(33)] {
            assert_eq!(parse(&filter(&[bad], &[], &[])), Err(FilterError::Invalid));
            assert_eq!(parse(&filter(&[], &[bad], &[])), Err(FilterError::Invalid));
            assert_eq!(parse(&filter(&[], &[], &[bad])), Err(FilterError::Invalid));
        }
    }
}
