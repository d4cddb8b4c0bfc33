//! Message log: what the screen shows, in order, bounded by lines and bytes. Pure.

use std::collections::VecDeque;

use jiff::civil::DateTime;

use crate::client::Printable;
use crate::client::app::known_names::KeyMark;

/// How many entries are kept.
pub(super) const ENTRIES_MAX: usize = 10_000;

/// How many bytes of texts and names are kept. A server may allow long texts.
const BYTES_MAX: usize = 16 << 20;

/// What an entry costs beside its texts, in bytes.
const ENTRY_BYTES: usize = 256;

/// How many names a folded notice lists; beyond that it counts.
const NAMES_LISTED_MAX: usize = 3;

/// Identifies an entry for as long as the program runs.
pub(super) type EntryId = u64;

/// Identifies a view for as long as the program runs.
pub(super) type ViewId = u64;

/// What became of a line of one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The session has not taken it: it waits for its turn, or for a connection.
    Waiting,
    /// Sent; the receipt is still to come.
    Sending,
    /// The server has confirmed it.
    Sent,
    /// The server has confirmed a direct; whether it arrives is still to come.
    Accepted,
    /// The recipient has the direct.
    Delivered,
    /// The recipient has left before it had the direct.
    Undelivered,
    /// The connection was lost before the server told what became of the direct.
    Unsettled,
    /// The server gives no receipts.
    Unconfirmable,
    /// It was not delivered, for this reason.
    NotSent(Printable),
    /// The connection was lost before the receipt came.
    Unknown,
}

impl Delivery {
    /// Whether its state may still change.
    pub(super) fn is_pending(&self) -> bool {
        matches!(self, Self::Waiting | Self::Sending)
    }
}

/// Joins and leaves in a row, folded into one notice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Presence {
    /// The sentences of the first few.
    listed: Vec<Printable>,
    joined: u64,
    left: u64,
}

impl Presence {
    /// "Bob joined", "Bob joined, Eve left" or "3 joined, 2 left".
    pub(super) fn sentence(&self) -> Printable {
        let parts = if self.joined + self.left > self.listed.len() as u64 {
            let counted = |count: u64, words| Printable::new().number(count).trusted(words);
            let mut parts = Vec::new();
            if self.joined > 0 {
                parts.push(counted(self.joined, " joined"));
            }
            if self.left > 0 {
                parts.push(counted(self.left, " left"));
            }
            parts
        } else {
            self.listed.clone()
        };
        let line = parts
            .into_iter()
            .reduce(|line, part| line.trusted(", ").append(&part));
        line.unwrap_or_default()
    }
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A message of another member.
    Message {
        sender: String,
        /// What is known of the sender's key.
        key: KeyMark,
        /// Empty without a topic.
        topic: String,
        text: String,
        is_mention: bool,
    },
    /// A line of another member to this one alone.
    Direct { sender: String, text: String },
    /// A line of one's own, under the name of that time.
    Own {
        name: String,
        /// Empty without a topic.
        topic: String,
        /// The member that it is for, if it is not for all.
        to: Option<String>,
        text: String,
        delivery: Delivery,
        /// When it was typed, in milliseconds of the program's clock.
        typed_ms: u64,
    },
    /// A notice of the program, in this view.
    Notice(Printable, ViewId),
    /// Joins and leaves.
    Presence(Presence),
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: EntryId,
    pub(super) at: DateTime,
    /// The chat's number, once it has one.
    pub(super) seq: Option<u64>,
    pub(super) kind: Kind,
}

impl Entry {
    fn bytes(&self) -> usize {
        ENTRY_BYTES
            + match &self.kind {
                Kind::Message { sender, text, .. } | Kind::Direct { sender, text } => {
                    sender.len() + text.len()
                }
                Kind::Own { name, text, .. } => name.len() + text.len(),
                Kind::Notice(line, _) => line.as_str().len(),
                Kind::Presence(_) => 0,
            }
    }

    pub(super) fn is_pending(&self) -> bool {
        matches!(&self.kind, Kind::Own { delivery, .. } if delivery.is_pending())
    }
}

/// The entries, oldest first. Lines of one's own that are not settled stand last.
#[derive(Debug, Default)]
pub(super) struct Log {
    entries: VecDeque<Entry>,
    bytes: usize,
    last_id: EntryId,
}

impl Log {
    pub(super) fn iter(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(super) fn get(&self, index: usize) -> Option<&Entry> {
        self.entries.get(index)
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Where an entry stands now; `None` once it was dropped.
    pub(super) fn position(&self, id: EntryId) -> Option<usize> {
        self.entries.iter().rposition(|entry| entry.id == id)
    }

    /// Forgets these entries.
    pub(super) fn clear(&mut self, is_meant: impl Fn(&Entry) -> bool) {
        // Unsettled lines must not be forgotten.
        self.entries
            .retain(|entry| entry.is_pending() || !is_meant(entry));
        self.bytes = self.entries.iter().map(Entry::bytes).sum();
    }

    /// Adds an entry: a line of one's own at the end, everything else before the lines
    /// of one's own that are not settled.
    pub(super) fn push(&mut self, at: DateTime, seq: Option<u64>, kind: Kind) -> EntryId {
        self.last_id += 1;
        let entry = Entry {
            id: self.last_id,
            at,
            seq,
            kind,
        };
        self.bytes += entry.bytes();
        let index = if entry.is_pending() {
            self.entries.len()
        } else {
            self.settled_end()
        };
        self.entries.insert(index, entry);
        while self.entries.len() > ENTRIES_MAX || self.bytes > BYTES_MAX {
            let Some(dropped) = self.entries.pop_front() else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(dropped.bytes());
        }
        self.last_id
    }

    /// Adds a join or a leave: to the notice before it if that is one of the same day.
    pub(super) fn presence(&mut self, at: DateTime, sentence: Printable, is_join: bool) {
        let index = self.settled_end().checked_sub(1);
        let last = index.and_then(|index| self.entries.get_mut(index));
        let mut first = Presence::default();
        let is_new = !matches!(
            &last,
            Some(Entry { kind: Kind::Presence(_), at: last_at, .. })
                if last_at.date() == at.date()
        );
        let folded = match last {
            Some(Entry {
                kind: Kind::Presence(folded),
                ..
            }) if !is_new => folded,
            _ => &mut first,
        };
        if is_join {
            folded.joined += 1;
        } else {
            folded.left += 1;
        }
        if folded.listed.len() < NAMES_LISTED_MAX {
            folded.listed.push(sentence);
        }
        if is_new {
            self.push(at, None, Kind::Presence(first));
        }
    }

    /// Changes the state of a line of one's own. With a number, the line moves to its
    /// place in the order.
    pub(super) fn settle(&mut self, id: EntryId, delivery: Delivery, seq: Option<u64>) {
        let Some(index) = self.position(id) else {
            return;
        };
        let Some(mut entry) = self.entries.remove(index) else {
            return;
        };
        if let Kind::Own {
            delivery: state, ..
        } = &mut entry.kind
        {
            *state = delivery;
        }
        entry.seq = seq;
        let mut place = if entry.is_pending() {
            index
        } else {
            self.settled_end().min(index)
        };
        if let Some(seq) = seq {
            while let Some(before) = place.checked_sub(1).and_then(|at| self.entries.get(at))
                && before.seq.is_some_and(|before| before > seq)
            {
                place -= 1;
            }
        }
        self.entries.insert(place, entry);
    }

    /// The numbers of an epoch end with its server: later ones start again.
    pub(super) fn forget_numbers(&mut self) {
        for entry in &mut self.entries {
            entry.seq = None;
        }
    }

    /// The index behind the last settled entry.
    fn settled_end(&self) -> usize {
        let settled = self.entries.iter().rposition(|entry| !entry.is_pending());
        settled.map_or(0, |index| index + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::civil::date;

    fn at() -> DateTime {
        date(2026, 5, 4).at(12, 0, 0, 0)
    }

    fn message(text: &str) -> Kind {
        Kind::Message {
            topic: String::new(),
            sender: "Bob".to_owned(),
            key: KeyMark::None,
            text: text.to_owned(),
            is_mention: false,
        }
    }

    fn own(text: &str) -> Kind {
        Kind::Own {
            topic: String::new(),
            name: "Alice".to_owned(),
            to: None,
            text: text.to_owned(),
            delivery: Delivery::Waiting,
            typed_ms: 0,
        }
    }

    fn texts(log: &Log) -> Vec<String> {
        log.iter()
            .map(|entry| match &entry.kind {
                Kind::Message { text, .. } | Kind::Direct { text, .. } | Kind::Own { text, .. } => {
                    text.clone()
                }
                Kind::Notice(line, _) => line.to_string(),
                Kind::Presence(folded) => folded.sentence().to_string(),
            })
            .collect()
    }

    #[test]
    fn a_confirmed_line_takes_its_place_in_the_order() {
        let mut log = Log::default();
        log.push(at(), Some(1), message("one"));
        let two = log.push(at(), None, own("two"));
        let four = log.push(at(), None, own("four"));
        // Others' messages stand before what is not settled.
        log.push(at(), Some(3), message("three"));
        assert_eq!(texts(&log), ["one", "three", "two", "four"]);
        log.settle(two, Delivery::Sending, None);
        log.settle(two, Delivery::Sent, Some(2));
        assert_eq!(texts(&log), ["one", "two", "three", "four"]);
        log.settle(four, Delivery::Sent, Some(4));
        log.push(at(), Some(5), message("five"));
        assert_eq!(texts(&log), ["one", "two", "three", "four", "five"]);
    }

    #[test]
    fn a_refused_line_stays_where_it_was() {
        let mut log = Log::default();
        let refused = log.push(at(), None, own("refused"));
        log.settle(
            refused,
            Delivery::NotSent(Printable::new().trusted("no")),
            None,
        );
        log.push(at(), Some(1), message("later"));
        assert_eq!(texts(&log), ["refused", "later"]);
    }

    #[test]
    fn presence_is_folded() {
        let mut log = Log::default();
        let joined = |name| Printable::new().name(name).trusted(" joined");
        let left = |name| Printable::new().name(name).trusted(" left");
        log.presence(at(), joined("Bob"), true);
        log.presence(at(), left("Eve"), false);
        assert_eq!(texts(&log), ["Bob joined, Eve left"]);
        log.presence(at(), joined("Carol"), true);
        log.presence(at(), joined("Dave"), true);
        assert_eq!(texts(&log), ["3 joined, 1 left"]);
        // A message between them ends a fold, and so does a new day.
        log.push(at(), Some(1), message("hi"));
        log.presence(at(), joined("Bob"), true);
        log.presence(date(2026, 5, 5).at(0, 0, 0, 0), left("Bob"), false);
        assert_eq!(
            texts(&log),
            ["3 joined, 1 left", "hi", "Bob joined", "Bob left"]
        );
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut log = Log::default();
        for number in 0..2 * ENTRIES_MAX {
            log.push(at(), None, message(&number.to_string()));
        }
        assert_eq!(log.len(), ENTRIES_MAX);
        let long = "x".repeat(1 << 20);
        for _ in 0..40 {
            log.push(at(), None, message(&long));
        }
        assert!(log.bytes <= BYTES_MAX && log.len() < 20, "{}", log.bytes);
        assert_eq!(log.bytes, log.iter().map(Entry::bytes).sum::<usize>());
        log.push(at(), None, own("pending"));
        log.clear(|_| true);
        assert_eq!(texts(&log), ["pending"]);
    }
}
