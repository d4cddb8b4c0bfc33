//! Following: which chats a session receives (CHAT-FOL), and what it says beside the text.
//! Pure.

use std::collections::VecDeque;

use crate::wire;

/// How many changes of the filter may be without an answer.
const FOLLOWS_MAX: usize = 4;

/// Where the ids of changes begin, so that they are not those of chats: an error names
/// either.
const IDS_FROM: u64 = 1 << 62;

/// The longest filter that goes into a Register, in bytes: it leaves room for the longest
/// name, password and token. A longer one goes by Follow, right behind.
const REGISTER_FILTER_BYTES_MAX: usize = 512;

/// Which chats a session receives. Empty, as it begins: all of them.
///
/// A chat is received if something that is followed matches, or if it mentions this
/// client; never if its sender is ignored. Topics and names are written without `#` and
/// `@`, and the case of their letters means nothing.
///
/// ```
/// use chat::client::Filter;
///
/// let filter = Filter::default().topic("build").sender("bob").ignore("mallory");
/// assert_eq!(filter.topics, ["build"]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Follows chats with these topics.
    pub topics: Vec<String>,
    /// Follows chats by these senders.
    pub senders: Vec<String>,
    /// Never receives chats by these senders.
    pub ignore: Vec<String>,
    /// Follows chats without a topic.
    pub without_topic: bool,
}

impl Filter {
    /// Follows this topic too.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topics.push(topic.into());
        self
    }

    /// Follows this sender too.
    #[must_use]
    pub fn sender(mut self, name: impl Into<String>) -> Self {
        self.senders.push(name.into());
        self
    }

    /// Ignores this sender too.
    #[must_use]
    pub fn ignore(mut self, name: impl Into<String>) -> Self {
        self.ignore.push(name.into());
        self
    }

    /// Follows chats without a topic too.
    #[must_use]
    pub fn without_topic(mut self) -> Self {
        self.without_topic = true;
        self
    }

    /// Whether every chat passes.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn to_wire(&self) -> wire::Filter {
        wire::Filter {
            topics: self.topics.clone(),
            senders: self.senders.clone(),
            ignore: self.ignore.clone(),
            without_topic: self.without_topic,
        }
    }
}

/// One line to send: a text, and for programs what it is about and whom it is meant for
/// ([`Session::send`](super::Session::send)).
///
/// ```
/// use chat::client::NewChat;
///
/// let chat = NewChat::from("the build is green").topic("build").mention("bob");
/// assert_eq!(chat.topic, "build");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewChat {
    /// The text.
    pub text: String,
    /// Its topic, written as a name; empty without one.
    pub topic: String,
    /// The names of members that receive it whatever topics they follow.
    pub mentions: Vec<String>,
}

impl NewChat {
    /// Sets the topic.
    #[must_use]
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = topic.into();
        self
    }

    /// Mentions this member too.
    #[must_use]
    pub fn mention(mut self, name: impl Into<String>) -> Self {
        self.mentions.push(name.into());
        self
    }

    /// Whether it needs [`Capability::Follow`](wire::Capability::Follow).
    pub(crate) fn needs_follow(&self) -> bool {
        !(self.topic.is_empty() && self.mentions.is_empty())
    }
}

impl<T: Into<String>> From<T> for NewChat {
    fn from(text: T) -> Self {
        Self {
            text: text.into(),
            ..Self::default()
        }
    }
}

/// The filter of a session, and the changes of it that the server has not answered.
#[derive(Debug, Default)]
pub(crate) struct Follows {
    /// What the user wants last, for the next Register.
    wanted: Filter,
    /// What the server goes by.
    current: Filter,
    waiting: VecDeque<(u64, Filter)>,
    /// The wanted filter was too long for Register.
    is_due: bool,
}

/// A change that was settled without its answer: the connection was lost.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// It went into the next Register.
    Following(u64),
    /// The next server grants no follow.
    NotGranted(u64),
}

impl Follows {
    pub(crate) fn new(wanted: Filter) -> Self {
        Self {
            wanted,
            ..Self::default()
        }
    }

    /// The id of the change with this number.
    pub(crate) fn id(number: u64) -> u64 {
        IDS_FROM + number
    }

    /// The filter for the next Register.
    pub(crate) fn for_register(&self) -> Option<wire::Filter> {
        let filter = self.wanted.to_wire();
        let is_short = prost::Message::encoded_len(&filter) <= REGISTER_FILTER_BYTES_MAX;
        (is_short && !self.wanted.is_everything()).then_some(filter)
    }

    /// A connection has registered with [`Follows::for_register`].
    pub(crate) fn registered(&mut self, is_granted: bool) -> Vec<Settled> {
        let is_in_register = self.for_register().is_some() || self.wanted.is_everything();
        self.current = match is_granted && is_in_register {
            true => self.wanted.clone(),
            false => Filter::default(),
        };
        self.is_due = is_granted && !is_in_register;
        let settled = self.waiting.drain(..).map(|(id, _)| match is_granted {
            true => Settled::Following(id),
            false => Settled::NotGranted(id),
        });
        settled.collect()
    }

    /// Whether another change may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < FOLLOWS_MAX
    }

    /// The message for a filter that was too long for Register, once.
    pub(crate) fn take_due(&mut self) -> Option<wire::Follow> {
        let is_due = std::mem::take(&mut self.is_due);
        is_due.then(|| self.ask(0, self.wanted.clone()))
    }

    /// The message for a change, which counts as sent.
    pub(crate) fn ask(&mut self, id: u64, filter: Filter) -> wire::Follow {
        self.wanted = filter.clone();
        let follow = wire::Follow {
            id,
            filter: (!filter.is_everything()).then(|| filter.to_wire()),
        };
        self.waiting.push_back((id, filter));
        follow
    }

    /// The server goes by a change from here on. Returns whether it was asked for.
    pub(crate) fn following(&mut self, id: u64) -> bool {
        let taken = self.take(id);
        let is_known = taken.is_some();
        if let Some(filter) = taken {
            self.current = filter;
        }
        is_known
    }

    /// The server has refused something; perhaps a change.
    pub(crate) fn refused(&mut self, id: u64) {
        if self.take(id).is_some() && self.waiting.is_empty() {
            self.wanted = self.current.clone();
        }
    }

    /// Whether chats are kept out.
    pub(crate) fn is_filtered(&self) -> bool {
        !self.current.is_everything()
    }

    fn take(&mut self, id: u64) -> Option<Filter> {
        let index = self
            .waiting
            .iter()
            .position(|&(waiting, _)| waiting == id)?;
        self.waiting.remove(index).map(|(_, filter)| filter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(topic: &str) -> Filter {
        Filter::default().topic(topic)
    }

    #[test]
    fn a_change_counts_once_the_server_says_so() {
        let mut follows = Follows::new(topic("a"));
        assert_eq!(follows.registered(true), []);
        assert!(follows.is_filtered());
        let follow = follows.ask(7, Filter::default());
        assert_eq!((follow.id, follow.filter), (7, None));
        assert!(follows.is_filtered());
        assert!(!follows.following(8));
        assert!(follows.following(7) && !follows.is_filtered());
        assert_eq!(follows.for_register(), None);
    }

    #[test]
    fn a_refused_change_is_not_wanted_any_more() {
        let mut follows = Follows::new(topic("a"));
        follows.registered(true);
        follows.ask(1, topic("b"));
        follows.ask(2, topic("c"));
        follows.refused(1);
        assert_eq!(follows.for_register(), Some(topic("c").to_wire()));
        follows.refused(2);
        assert_eq!(follows.for_register(), Some(topic("a").to_wire()));
    }

    #[test]
    fn a_lost_change_goes_into_the_next_register() {
        let mut follows = Follows::new(Filter::default());
        follows.registered(true);
        follows.ask(1, topic("a"));
        assert_eq!(follows.for_register(), Some(topic("a").to_wire()));
        assert_eq!(follows.registered(true), [Settled::Following(1)]);
        assert!(follows.is_filtered());
        follows.ask(2, topic("b"));
        assert_eq!(follows.registered(false), [Settled::NotGranted(2)]);
        assert!(!follows.is_filtered());
    }

    #[test]
    fn a_filter_that_is_too_long_for_register_follows_it() {
        let long = (0..40).fold(Filter::default(), |it, n| {
            it.topic(format!("a-long-topic-{n}"))
        });
        let mut follows = Follows::new(long.clone());
        assert_eq!(follows.for_register(), None);
        follows.registered(true);
        assert!(!follows.is_filtered());
        let follow = follows.take_due().expect("a filter to send");
        assert_eq!(follow.filter, Some(long.to_wire()));
        assert_eq!(follows.take_due(), None);
        assert!(follows.following(0) && follows.is_filtered());
    }

    #[test]
    fn few_changes_wait() {
        let mut follows = Follows::default();
        for id in 0..FOLLOWS_MAX as u64 {
            assert!(follows.has_room());
            follows.ask(id, Filter::default());
        }
        assert!(!follows.has_room());
    }
}
