//! Followers: finds whom a frame is due among the members with a filter, by an index from
//! topics, senders and names. A chat that nobody here follows costs a few look-ups,
//! however many members there are, and wakes nobody.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    filter::{Filter, Follows, fold},
    log::{Appended, DueFrames, DueQueue},
    wire::{Chat, server_envelope::Message},
};

/// The members with a filter, by the index of their connection.
#[derive(Default)]
pub(super) struct Followers {
    members: Vec<Option<Follower>>,
    count: usize,
    topics: Index,
    senders: Index,
    mentions: Index,
    without_topic: BTreeSet<usize>,
    /// Those who follow nothing in particular and ignore some.
    everything: BTreeSet<usize>,
    presence: BTreeSet<usize>,
    /// Those who are due something of this pass.
    woken: Vec<usize>,
    /// Tells a frame from the others.
    frame: u64,
}

/// Topics or names, folded, and the members that follow each.
type Index = BTreeMap<Box<str>, Vec<usize>>;

struct Follower {
    filter: Arc<Filter>,
    queue: Arc<DueQueue>,
    /// What it is due of this pass, which is pushed when the pass is over.
    due: DueFrames,
    /// The last frame that was looked at for it.
    frame: u64,
    ignores_some: bool,
}

impl Followers {
    /// Whether a connection has a filter.
    pub(super) fn has(&self, index: usize) -> bool {
        self.count > 0 && matches!(self.members.get(index), Some(Some(_)))
    }

    /// What a connection is due by now, if it has a filter.
    pub(super) fn due(&mut self, index: usize) -> Option<&Arc<DueQueue>> {
        let follower = self.members.get_mut(index)?.as_mut()?;
        follower.queue.push(&mut follower.due);
        Some(&follower.queue)
    }

    /// A connection has a filter from now on; what passes goes to `queue`.
    pub(super) fn insert(
        &mut self,
        index: usize,
        filter: Arc<Filter>,
        queue: Arc<DueQueue>,
        wants_presence: bool,
    ) {
        self.remove(index);
        for follows in filter.follows() {
            match follows {
                Follows::Everything => _ = self.everything.insert(index),
                Follows::Topic(topic) => add(&mut self.topics, topic, index),
                Follows::Sender(sender) => add(&mut self.senders, sender, index),
                Follows::Mention(name) => add(&mut self.mentions, name, index),
                Follows::WithoutTopic => _ = self.without_topic.insert(index),
            }
        }
        if wants_presence {
            self.presence.insert(index);
        }
        if self.members.len() <= index {
            self.members.resize_with(index + 1, || None);
        }
        if let Some(member) = self.members.get_mut(index) {
            *member = Some(Follower {
                ignores_some: filter.ignores_some(),
                filter,
                queue,
                due: DueFrames::default(),
                frame: 0,
            });
            self.count += 1;
        }
    }

    /// A connection has no filter, or is gone.
    pub(super) fn remove(&mut self, index: usize) {
        let Some(mut follower) = self.members.get_mut(index).and_then(Option::take) else {
            return;
        };
        // It may go on with that, if it is not gone.
        follower.queue.push(&mut follower.due);
        self.count -= 1;
        for follows in follower.filter.follows() {
            match follows {
                Follows::Everything => _ = self.everything.remove(&index),
                Follows::Topic(topic) => take(&mut self.topics, topic, index),
                Follows::Sender(sender) => take(&mut self.senders, sender, index),
                Follows::Mention(name) => take(&mut self.mentions, name, index),
                Follows::WithoutTopic => _ = self.without_topic.remove(&index),
            }
        }
        self.presence.remove(&index);
    }

    /// Notes a frame for those whom it is due, except for the connection `by`. Returns from
    /// how many others a filter has kept it.
    pub(super) fn push(
        &mut self,
        message: &Message,
        frame: &Appended<'_>,
        by: Option<usize>,
    ) -> usize {
        if self.count == 0 {
            return 0;
        }
        let others = self.count - by.map_or(0, |by| usize::from(self.has(by)));
        self.frame += 1;
        let mut pushing = Pushing {
            members: &mut self.members,
            woken: &mut self.woken,
            frame: self.frame,
            by,
            count: 0,
        };
        match message {
            Message::Chat(chat) => {
                let sender = fold(&chat.sender);
                let mut push = |indices: &mut dyn Iterator<Item = usize>| {
                    for index in indices {
                        pushing.push(index, frame, Some((&sender, chat)));
                    }
                };
                push(&mut self.everything.iter().copied());
                push(&mut followers(&self.senders, &sender));
                match chat.topic.as_str() {
                    "" => push(&mut self.without_topic.iter().copied()),
                    topic => push(&mut followers(&self.topics, &fold(topic))),
                }
                for name in &chat.mentions {
                    push(&mut followers(&self.mentions, &fold(name)));
                }
            }
            Message::Joined(_) | Message::Left(_) => {
                for &index in &self.presence {
                    pushing.push(index, frame, None);
                }
            }
            _ => {
                for index in 0..pushing.members.len() {
                    pushing.push(index, frame, None);
                }
            }
        }
        others - pushing.count
    }

    /// A pass is over, and nothing of it is committed yet: pushes what it made due. Returns
    /// the connections that must be woken when that is committed.
    pub(super) fn end_pass(&mut self) -> Vec<usize> {
        let woken = std::mem::take(&mut self.woken);
        for &index in &woken {
            if let Some(Some(follower)) = self.members.get_mut(index) {
                follower.queue.push(&mut follower.due);
            }
        }
        woken
    }
}

/// One frame on its way to several members.
struct Pushing<'a> {
    members: &'a mut [Option<Follower>],
    woken: &'a mut Vec<usize>,
    frame: u64,
    by: Option<usize>,
    /// How many it was pushed to.
    count: usize,
}

impl Pushing<'_> {
    fn push(&mut self, index: usize, frame: &Appended<'_>, chat: Option<(&str, &Chat)>) {
        let Some(Some(follower)) = self.members.get_mut(index) else {
            return;
        };
        // A chat may be due for several reasons.
        if self.by == Some(index) || follower.frame == self.frame {
            return;
        }
        follower.frame = self.frame;
        if follower.ignores_some && chat.is_some_and(|(sender, _)| follower.filter.ignores(sender))
        {
            return;
        }
        self.count += 1;
        let seq = chat.map(|(_, chat)| chat.seq);
        if follower.due.is_empty() {
            self.woken.push(index);
        }
        if !follower.due.add(frame, seq) {
            follower.queue.push(&mut follower.due);
            follower.due.add(frame, seq);
        }
    }
}

fn add(index: &mut Index, word: &str, member: usize) {
    index.entry(word.into()).or_default().push(member);
}

fn take(index: &mut Index, word: &str, member: usize) {
    if let Some(members) = index.get_mut(word) {
        if let Some(at) = members.iter().position(|&it| it == member) {
            members.swap_remove(at);
        }
        if members.is_empty() {
            index.remove(word);
        }
    }
}

fn followers<'a>(index: &'a Index, word: &str) -> impl Iterator<Item = usize> + 'a {
    index.get(word).into_iter().flatten().copied()
}
