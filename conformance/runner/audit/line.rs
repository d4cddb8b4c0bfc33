//! Line: what a client keeps over the sessions that continue one another, as far as the
//! captures show it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The sessions of one client.
#[derive(Debug, Default)]
pub struct Line {
    /// The epoch of the Registered that gave the token; empty: there is none.
    pub epoch: String,
    /// The highest Resume.attempt so far.
    pub attempt: u64,
    /// The numbers that it has.
    received: Received,
    /// Its chats with an id, by that: the text, and the number once it was told.
    pub sent: HashMap<u64, (String, Option<u64>)>,
    /// The ids of those that are not answered, in the order in which they were first sent.
    unanswered: BTreeMap<u64, u64>,
    order: HashMap<u64, u64>,
    sent_count: u64,
    /// Those that must be sent again before anything new.
    again: BTreeSet<u64>,
}

impl Line {
    /// A line whose first session has this number in Registered.
    pub fn new(seq: u64) -> Self {
        Self {
            received: Received {
                upto: seq,
                beyond: BTreeSet::new(),
            },
            ..Self::default()
        }
    }

    /// The number up to which it has every chat.
    pub fn upto(&self) -> u64 {
        self.received.upto
    }

    /// It has this number now.
    pub fn received(&mut self, seq: u64) {
        self.received.add(seq);
    }

    /// It was told that it has everything up to a number that it chose.
    pub fn advance(&mut self, seq: u64) {
        self.received.advance(seq);
    }

    /// A session resumed it, and is sent everything from a number on.
    pub fn resumed(&mut self, from: u64) {
        self.received.advance(from.saturating_sub(1));
        self.again = self.unanswered.keys().copied().collect();
    }

    /// How many of its chats are not answered.
    pub fn unanswered(&self) -> usize {
        self.unanswered.len()
    }

    /// It sends a chat. Returns what is wrong with that, and the rule.
    pub fn sends(&mut self, id: u64, text: &str) -> Option<(&'static str, String)> {
        let place = self.order.get(&id).copied();
        let mut wrong = None;
        if let Some((known, _)) = self.sent.get(&id)
            && known != text
        {
            wrong = Some((
                "CHAT-RES-14",
                format!("the id {id} was another chat's before"),
            ));
        }
        match place {
            // What was sent again already, after a refusal.
            Some(place) if !self.again.contains(&place) => {}
            Some(place) => {
                if self.again.first() != Some(&place) {
                    wrong = Some((
                        "CHAT-RES-16",
                        format!("the chat {id} is sent again before an earlier one"),
                    ));
                }
                self.again.remove(&place);
            }
            None if !self.again.is_empty() => {
                wrong = Some((
                    "CHAT-RES-16",
                    format!(
                        "the new chat {id} is sent before {} that were not answered",
                        self.again.len()
                    ),
                ));
                // Told once.
                self.again.clear();
            }
            None => {}
        }
        let place = *self.order.entry(id).or_insert_with(|| {
            self.sent_count += 1;
            self.sent_count
        });
        let sent = self.sent.entry(id).or_insert_with(|| (String::new(), None));
        sent.0 = text.to_owned();
        if sent.1.is_none() {
            self.unanswered.insert(place, id);
        }
        wrong
    }

    /// The server answered a chat: under a number, or it refused it. Returns the other
    /// number that the chat had before.
    pub fn answered(&mut self, id: u64, seq: Option<u64>) -> Option<u64> {
        if let Some(place) = self.order.get(&id) {
            self.unanswered.remove(place);
            self.again.remove(place);
        }
        let sent = self.sent.get_mut(&id)?;
        let before = sent.1;
        sent.1 = seq.or(before);
        before.filter(|_| seq.is_some_and(|seq| Some(seq) != before))
    }
}

/// Numbers: all up to one, and some beyond.
#[derive(Debug, Default)]
struct Received {
    upto: u64,
    beyond: BTreeSet<u64>,
}

impl Received {
    fn add(&mut self, seq: u64) {
        if seq > self.upto {
            self.beyond.insert(seq);
        }
        self.absorb();
    }

    fn advance(&mut self, upto: u64) {
        self.upto = self.upto.max(upto);
        self.beyond = self.beyond.split_off(&(self.upto + 1));
        self.absorb();
    }

    fn absorb(&mut self) {
        while self.beyond.first() == Some(&(self.upto + 1)) {
            self.beyond.pop_first();
            self.upto += 1;
        }
    }
}
