//! Past between nodes: a node that was away for longer than NATS keeps what was said, or that
//! is new, gets the chats that it lacks from the others, from the newest to the oldest.
//!
//! ```text
//!   this node  ── who has them? ────────▶ chat-past.ROOM         nodes without them are silent
//!             ◀── I ────────────────────
//!              ── those before 4711 ────▶ chat-past.ROOM.NODE
//!             ◀── a piece of them ──────
//! ```
//!
//! One piece is on its way at a time, and the next one is asked for when it is on the disk
//! ([`Store::take_past`](crate::store::Store::take_past)). What a node gives is checked: one
//! that gives something else is passed over.

use std::{sync::Arc, time::Duration};

use async_nats::{Client, SubscribeError};
use futures_util::StreamExt as _;
use prost::Message;
use tokio::{
    sync::{Mutex, oneshot},
    task, time,
};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, info, warn};

mod given;

use given::{Answer, PIECE_BYTES_MAX, PIECE_CHATS_MAX, check};

use super::{
    Nats, Trouble,
    asking::{Troubles, answer, ask_node, listen},
    nats::is_name,
};
use crate::{
    server::{
        archive::{Archive, Kept, Offered},
        hub::{Gap, Hub},
    },
    store::{Piece, StoreReader, Taken},
};

/// How long a node may take to say that it has the chats, in milliseconds.
const FIND_MS: u64 = 2_000;

/// How many answers to that are looked at.
const ANSWERS_MAX: usize = 64;

/// How long a node that has them may take for a piece, in milliseconds: as for a file.
const PIECE_MS: u64 = 5_000;

/// How long a piece may take until it is on the disk, in milliseconds. A disk that takes
/// longer is slow or full.
const KEEP_MS: u64 = 30_000;

/// How often it is looked whether something is missing, in milliseconds, and the wait before
/// the first further try.
const LOOK_MS: u64 = 1_000;

/// The longest wait before a further try, in milliseconds: where all nodes keep as much, none
/// has more.
const AGAIN_MS_MAX: u64 = 600_000;

/// How many nodes are passed over at a time, since they gave something wrong.
const PASSED_OVER_MAX: usize = 16;

/// What a node asks another one.
#[derive(Clone, PartialEq, Eq, Message)]
struct Asked {
    #[prost(string, tag = "1")]
    epoch: String,
    /// The chats before this one.
    #[prost(uint64, tag = "2")]
    before_seq: u64,
    /// As they are at this position of the order, or behind it.
    #[prost(uint64, tag = "3")]
    position: u64,
    /// Only whether it has them.
    #[prost(bool, tag = "4")]
    is_search: bool,
    /// The nodes that gave something wrong.
    #[prost(string, repeated, tag = "5")]
    not: Vec<String>,
}

/// The past of this node for others, and theirs for it.
struct Past {
    nats: Nats,
    node: String,
    hub: Arc<Hub>,
    archive: Arc<Archive>,
    reader: Arc<Mutex<StoreReader>>,
}

/// Gives other nodes the past that they lack, and gets what this one lacks, until the handle
/// is dropped.
pub(in crate::server) fn share_past(
    hub: Arc<Hub>,
    archive: Arc<Archive>,
    reader: StoreReader,
    nats: &Nats,
    node: &str,
) -> AbortOnDropHandle<()> {
    let past = Past {
        nats: nats.clone(),
        node: node.to_owned(),
        hub,
        archive,
        reader: Arc::new(Mutex::new(reader)),
    };
    AbortOnDropHandle::new(tokio::spawn(past.run()))
}

/// What came of asking for a piece.
enum Got {
    Piece(String, Piece),
    /// A node gave something else.
    Wrong(String, &'static str),
    /// No node has it, as far as this one can see.
    Nothing,
}

impl Past {
    async fn run(self) {
        let mut troubles = Troubles::of("the past");
        loop {
            troubles.tell(match self.nats.connect().await {
                Ok(client) => {
                    let served = self.serve(&client).await;
                    served.map_err(|error| error.to_string())
                }
                Err(Trouble::Passing(sentence) | Trouble::Lasting(sentence)) => Err(sentence),
            });
            time::sleep(Duration::from_millis(LOOK_MS)).await;
        }
    }

    async fn serve(&self, client: &Client) -> Result<(), SubscribeError> {
        let subject = self.nats.past_subject();
        let asked = listen(client, &subject, &self.node).await?;
        tokio::select! {
            () = answer(client, asked, |asked| self.find(asked)) => {}
            () = self.fill(client, &subject) => {}
        }
        Ok(())
    }

    /// What this node has of what another one asks for.
    async fn find(&self, asked: Asked) -> Option<Answer> {
        if asked.is_search && asked.not.contains(&self.node) {
            return None;
        }
        let Asked {
            before_seq,
            is_search,
            ..
        } = asked;
        let (chats_max, bytes_max) = match is_search {
            true => (1, 1),
            false => (PIECE_CHATS_MAX, PIECE_BYTES_MAX),
        };
        let reader = Arc::clone(&self.reader).lock_owned().await;
        let read =
            task::spawn_blocking(move || reader.piece_before(before_seq, chats_max, bytes_max));
        let piece = read.await.ok()?.ok()?;
        if piece.epoch != asked.epoch || piece.chats.is_empty() {
            return None;
        }
        if piece.position < asked.position {
            // In a quiet room the disk does not say how far it is. The next time it does.
            self.hub.keep_place();
            return None;
        }
        Some(Answer {
            node: self.node.clone(),
            epoch: piece.epoch,
            position: piece.position,
            chats: match is_search {
                true => Vec::new(),
                false => piece.chats,
            },
        })
    }

    /// Gets what is missing, as long as something is.
    async fn fill(&self, client: &Client, subject: &str) {
        let mut filling = Filling::default();
        loop {
            let gap = self.hub.gap().and_then(|gap| filling.look_at(gap));
            let wait_ms = match gap {
                // To take part comes first.
                Some(gap) if !self.hub.is_unreachable() => {
                    self.fill_once(client, subject, &gap, &mut filling).await
                }
                _ => LOOK_MS,
            };
            time::sleep(Duration::from_millis(wait_ms)).await;
        }
    }

    /// Gets one piece. Returns how long to wait before the next one, in milliseconds.
    async fn fill_once(
        &self,
        client: &Client,
        subject: &str,
        gap: &Gap,
        filling: &mut Filling,
    ) -> u64 {
        let got = self.get(client, subject, gap, filling).await;
        let (node, piece) = match got {
            Got::Piece(node, piece) => (node, piece),
            Got::Wrong(node, what) => {
                warn!(
                    node,
                    "passed over, since the past that it gives is wrong: {what}"
                );
                filling.pass_over(node);
                return 0;
            }
            Got::Nothing => {
                if std::mem::take(&mut filling.is_running) {
                    info!(
                        from = gap.before_seq,
                        "no other node gives more of the past now"
                    );
                }
                return filling.wait_ms();
            }
        };
        let chats = piece.chats.len();
        match self.keep(piece).await {
            Some(Kept::Taken(Taken {
                oldest_seq,
                is_enough,
            })) => {
                let taken = gap.before_seq.saturating_sub(oldest_seq);
                self.hub.metrics.cluster.past(taken);
                if taken > 0 && !std::mem::replace(&mut filling.is_running, true) {
                    info!(node, before = gap.before_seq, "gets the past that it lacks");
                }
                if oldest_seq <= 1 || is_enough {
                    filling.is_over = true;
                    // A node that has pruned its past asks too, and lacks nothing.
                    if filling.is_running {
                        info!(from = oldest_seq, "has the past that it keeps");
                    }
                }
                filling.tries = 0;
                0
            }
            kept => {
                if kept == Some(Kept::Old) {
                    filling.position = None;
                }
                debug!(chats, "a piece of the past was not kept: {kept:?}");
                filling.wait_ms()
            }
        }
    }

    /// Asks for the piece before the oldest chat.
    async fn get(&self, client: &Client, subject: &str, gap: &Gap, filling: &mut Filling) -> Got {
        let mut asked = Asked {
            epoch: gap.epoch.clone(),
            before_seq: gap.before_seq,
            position: gap.position,
            is_search: false,
            not: filling.passed_over.clone(),
        };
        asked.not.push(self.node.clone());
        let node = match filling.giver.take() {
            Some(node) => node,
            None => {
                let search = Asked {
                    is_search: true,
                    ..asked.clone()
                };
                match search_in(client, subject, &search).await {
                    Some(node) => node,
                    None => {
                        // Each of them may have been mended.
                        filling.passed_over.clear();
                        return Got::Nothing;
                    }
                }
            }
        };
        match ask_node::<Answer>(client, subject, &node, &asked, PIECE_MS).await {
            None => Got::Nothing,
            Some(answer) => match check(answer, gap) {
                Ok(piece) => {
                    filling.giver = Some(node.clone());
                    Got::Piece(node, piece)
                }
                Err(what) => Got::Wrong(node, what),
            },
        }
    }

    /// Waits until a piece is on the disk. `None`: the disk takes too long.
    async fn keep(&self, piece: Piece) -> Option<Kept> {
        let (done, kept) = oneshot::channel();
        self.archive.offer_past(Offered { piece, done });
        let kept = time::timeout(Duration::from_millis(KEEP_MS), kept).await;
        kept.ok()?.ok()
    }
}

/// The first node to say that it has what is asked for, of those that were not passed over: one
/// of these may go on saying so.
async fn search_in(client: &Client, subject: &str, asked: &Asked) -> Option<String> {
    let inbox = client.new_inbox();
    let answers = client.subscribe(inbox.clone()).await.ok()?;
    let payload = asked.encode_to_vec().into();
    let sent = client.publish_with_reply(subject.to_owned(), inbox, payload);
    sent.await.ok()?;
    let mut answers = answers.take(ANSWERS_MAX);
    let found = async {
        while let Some(message) = answers.next().await {
            let answer = Answer::decode(message.payload);
            let node = answer.unwrap_or_default().node;
            if is_name(&node) && !asked.not.contains(&node) {
                return Some(node);
            }
        }
        None
    };
    let found = time::timeout(Duration::from_millis(FIND_MS), found).await;
    found.ok().flatten()
}

/// How far a node is in getting what it lacks.
#[derive(Default)]
struct Filling {
    /// Which gap it is: the epoch, and how often the store has begun anew.
    of: (String, u64),
    /// Where in the order a giver has to be at the least: not where this node is by now, since
    /// no disk but that of a room in which members talk says so soon how far it is.
    position: Option<u64>,
    /// There is nothing left that this node would keep.
    is_over: bool,
    /// A piece was taken, and more are to come.
    is_running: bool,
    /// The node that gave the last piece.
    giver: Option<String>,
    /// The nodes that gave something wrong.
    passed_over: Vec<String>,
    /// How often nothing came, one time after the other.
    tries: u32,
}

impl Filling {
    /// This is the gap now. Returns what is to be got, if anything is.
    fn look_at(&mut self, mut gap: Gap) -> Option<Gap> {
        let of = (gap.epoch.clone(), gap.begun);
        if self.of != of {
            *self = Self {
                of,
                ..Self::default()
            };
        }
        gap.position = *self.position.get_or_insert(gap.position);
        (!self.is_over).then_some(gap)
    }

    fn pass_over(&mut self, node: String) {
        if self.passed_over.len() >= PASSED_OVER_MAX {
            self.passed_over.clear();
        }
        self.passed_over.push(node);
    }

    /// How long to wait before the next try, in milliseconds: twice as long each time.
    fn wait_ms(&mut self) -> u64 {
        let wait_ms = LOOK_MS.saturating_mul(1_u64.checked_shl(self.tries).unwrap_or(u64::MAX));
        self.tries = self.tries.saturating_add(1);
        wait_ms.min(AGAIN_MS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gap() -> Gap {
        Gap {
            epoch: "life".to_owned(),
            before_seq: 10,
            position: 50,
            begun: 1,
        }
    }

    #[test]
    fn waits_grow_up_to_a_bound_and_a_new_gap_begins_anew() {
        let mut filling = Filling::default();
        let mut gap = gap();
        assert_eq!(filling.look_at(gap.clone()), Some(gap.clone()));
        gap.position += 1;
        let looked = filling.look_at(gap.clone()).map(|gap| gap.position);
        assert_eq!(looked, Some(50), "the giver need not be further");
        let waits: Vec<_> = (0..100).map(|_| filling.wait_ms()).collect();
        assert_eq!(waits[..3], [1_000, 2_000, 4_000]);
        assert_eq!(waits[99], AGAIN_MS_MAX);
        filling.is_over = true;
        assert_eq!(filling.look_at(gap.clone()), None);
        gap.begun += 1;
        assert_eq!(filling.look_at(gap.clone()), Some(gap));
        assert_eq!(filling.wait_ms(), 1_000);
        for node in 0..=PASSED_OVER_MAX {
            filling.pass_over(node.to_string());
        }
        assert_eq!(filling.passed_over, [PASSED_OVER_MAX.to_string()]);
    }
}
