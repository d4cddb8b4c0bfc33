//! Sequencer: gives what this node has to say its place in the stream. Pure: the time comes
//! in, and what to publish goes out.
//!
//! One batch is on its way at a time, until this node has applied it; meanwhile the next
//! one gathers. A batch that does not come back is published again, the same bytes under
//! the same number, so that it counts once.

use std::collections::{BTreeMap, VecDeque};

use prost::Message as _;

use super::{
    record::{Goodbye, Item, Kind, NodeDown, Record},
    replica::{Node, Replica},
};

/// How much a batch takes at most, in bytes, unless one item takes more.
pub(crate) const BATCH_BYTES_MAX: usize = 256 * 1024;

/// How much may wait for the next batches before the node reads nothing more from its
/// members, in bytes.
pub(crate) const WAITING_BYTES_MAX: usize = 4 << 20;

/// When a batch that did not come back is published again, in milliseconds.
pub(crate) const RESEND_MS: u64 = 1_000;

/// When a batch that the engine has refused is published again, in milliseconds.
const REFUSED_RESEND_MS: u64 = 100;

/// How long a node says nothing before it says that it is there, in milliseconds.
pub(crate) const HEARTBEAT_MS: u64 = 1_000;

/// After how long without a record of its own a node stops reading from its members, in
/// milliseconds.
pub(crate) const DOUBT_MS: u64 = 3_000;

/// After how long without a record of its own a node ends its sessions, and without one of
/// another node declares that one gone, in milliseconds.
pub(crate) const GONE_MS: u64 = 6_000;

/// How far this node can reach the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// What it says comes back.
    Good,
    /// Not lately: it reads nothing more from its members.
    Doubtful,
    /// Not for long: its sessions end.
    Lost,
}

/// A batch that was published and did not come back yet.
#[derive(Debug)]
struct InFlight {
    bytes: Vec<u8>,
    resend_at_ms: u64,
}

/// When another node was heard last: its incarnation and batch then.
#[derive(Debug, Clone, Copy)]
struct Heard {
    incarnation: u64,
    last_batch: u64,
    at_ms: u64,
}

/// What this node has to say.
#[derive(Debug)]
pub(crate) struct Sequencer {
    life: String,
    node: String,
    incarnation: u64,
    last_batch: u64,
    in_flight: Option<InFlight>,
    waiting: VecDeque<(usize, Item)>,
    waiting_bytes: usize,
    said_at_ms: u64,
    /// When this node has applied a record of its own last.
    own_at_ms: u64,
    others: BTreeMap<String, Heard>,
}

impl Sequencer {
    /// Of a new incarnation of a node.
    pub(crate) fn new(life: &str, node: &str, incarnation: u64, now_ms: u64) -> Self {
        Self {
            life: life.to_owned(),
            node: node.to_owned(),
            incarnation,
            last_batch: 0,
            in_flight: None,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            said_at_ms: now_ms,
            own_at_ms: now_ms,
            others: BTreeMap::new(),
        }
    }

    /// Adds an item behind the others.
    pub(crate) fn push(&mut self, item: Item) {
        let bytes = item.encoded_len();
        self.waiting_bytes += bytes;
        self.waiting.push_back((bytes, item));
    }

    /// The node goes: nothing of it counts behind what was said so far.
    pub(crate) fn say_goodbye(&mut self) {
        self.push(Kind::Goodbye(Goodbye {}).into());
    }

    /// The number of the last batch that was published.
    pub(crate) fn last_batch(&self) -> u64 {
        self.last_batch
    }

    /// How much waits for the next batches, in bytes.
    pub(crate) fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// What to publish now, if anything.
    pub(crate) fn next_publish(&mut self, now_ms: u64, now_unix_ms: i64) -> Option<Vec<u8>> {
        if let Some(in_flight) = &mut self.in_flight {
            if now_ms < in_flight.resend_at_ms {
                return None;
            }
            in_flight.resend_at_ms = now_ms + RESEND_MS;
            return Some(in_flight.bytes.clone());
        }
        let is_first = self.last_batch == 0;
        let is_heartbeat_due = now_ms.saturating_sub(self.said_at_ms) >= HEARTBEAT_MS;
        if self.waiting.is_empty() && !is_first && !is_heartbeat_due {
            return None;
        }
        self.last_batch += 1;
        let mut items = Vec::new();
        let mut batch_bytes = 0;
        while let Some((bytes, _)) = self.waiting.front()
            && !is_first
            && (items.is_empty() || batch_bytes + bytes <= BATCH_BYTES_MAX)
        {
            if let Some((bytes, item)) = self.waiting.pop_front() {
                batch_bytes += bytes;
                self.waiting_bytes -= bytes;
                items.push(item);
            }
        }
        let record = Record {
            life: self.life.clone(),
            node: self.node.clone(),
            incarnation: self.incarnation,
            batch_no: self.last_batch,
            time_unix_ms: now_unix_ms,
            items,
        };
        let bytes = record.encode_to_vec();
        self.said_at_ms = now_ms;
        self.in_flight = Some(InFlight {
            bytes: bytes.clone(),
            resend_at_ms: now_ms + RESEND_MS,
        });
        Some(bytes)
    }

    /// The engine has refused a batch.
    pub(crate) fn refused(&mut self, now_ms: u64) {
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.resend_at_ms = in_flight.resend_at_ms.min(now_ms + REFUSED_RESEND_MS);
        }
    }

    /// This node has applied a record of its own.
    pub(crate) fn own_applied(&mut self, batch_no: u64, now_ms: u64) {
        self.own_at_ms = now_ms;
        if batch_no == self.last_batch {
            self.in_flight = None;
        }
    }

    /// Whether all that was said has come back.
    pub(crate) fn is_idle(&self) -> bool {
        self.in_flight.is_none() && self.waiting.is_empty()
    }

    /// How far this node can reach the others.
    pub(crate) fn reach(&self, now_ms: u64) -> Reach {
        match now_ms.saturating_sub(self.own_at_ms) {
            GONE_MS.. => Reach::Lost,
            DOUBT_MS.. => Reach::Doubtful,
            _ => Reach::Good,
        }
    }

    /// Looks for nodes of which nothing was heard for long, and says so. Each is named with
    /// the last batch of it that was applied here, so that this does not count if there is
    /// a later one.
    pub(crate) fn look_for_gone(&mut self, replica: &Replica, now_ms: u64) {
        if self.reach(now_ms) != Reach::Good {
            return; // This node may be the one that hears nothing.
        }
        let nodes = replica.nodes();
        let mut gone = Vec::new();
        self.others.retain(|name, _| nodes.contains_key(name));
        for (name, node) in nodes {
            if *name == self.node || node.is_down {
                continue;
            }
            let heard = self.others.entry(name.clone()).or_insert(Heard {
                incarnation: node.incarnation,
                last_batch: node.last_batch,
                at_ms: now_ms,
            });
            if heard.is_older_than(node) {
                *heard = Heard {
                    incarnation: node.incarnation,
                    last_batch: node.last_batch,
                    at_ms: now_ms,
                };
            } else if now_ms.saturating_sub(heard.at_ms) >= GONE_MS {
                // Says it again only after as long.
                heard.at_ms = now_ms;
                gone.push(NodeDown {
                    node: name.clone(),
                    incarnation: node.incarnation,
                    last_batch: node.last_batch,
                });
            }
        }
        for down in gone {
            self.push(Kind::NodeDown(down).into());
        }
    }
}

impl Heard {
    fn is_older_than(&self, node: &Node) -> bool {
        (self.incarnation, self.last_batch) != (node.incarnation, node.last_batch)
    }
}
