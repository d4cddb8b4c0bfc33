//! Cluster: the task by which this node takes part in the order of all nodes. It moves
//! commands from the hub to the stream and records from the stream to the hub, and tells
//! the hub when this node is cut off.
//!
//! ```text
//!   open the stream ─▶ apply what is in it ─▶ say hello ─▶ serve ─▶ goodbye
//!         ▲                                                  │
//!         └──── cut off, another life, declared gone ◀───────┘
//!               all sessions end, with CLUSTER_UNREACHABLE
//! ```
//!
//! There is one way back from any trouble: end the sessions, and begin again from the
//! stream as another incarnation.

mod nats;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prost::Message as _;
use tokio::{
    sync::Notify,
    time::{self, Instant},
};
use tracing::{debug, info, warn};

pub use nats::Nats;

use super::hub::{Hub, InOrder};
use crate::{
    cluster::{
        record::{Item, Record},
        replica::{Applied, Cut, Outcome, Own, Replica, Rooms},
        sequencer::{Reach, Sequencer, WAITING_BYTES_MAX},
    },
    room::{Command, Event},
};

/// How long clients of a node that is cut off are told to wait, in milliseconds: other
/// nodes are there at once, this one when it has begun again.
pub(super) const RETRY_AFTER_MS: u32 = 1_000;

/// How long a server that starts waits for the others before it says that it listens, in
/// milliseconds.
pub(super) const FIRST_WAIT_MS: u64 = 5_000;

/// How often the time is looked at, in milliseconds.
const TICK_MS: u64 = 50;

/// How long after trouble the node begins again, in milliseconds.
const BEGIN_AGAIN_MS: u64 = 500;

/// How long the next record of those that are in the stream may take, in milliseconds.
const CATCH_UP_MS: u64 = 10_000;

/// How long the last words of a node that goes may take, in milliseconds.
const GOODBYE_MS: u64 = 1_000;

/// How long a server that closes waits for them, in milliseconds. With what connections
/// have, less than the 5 seconds of CHAT-CLOSE-3.
pub(super) const GOODBYE_MS_MAX: u64 = 1_200;

/// What keeps the stream.
pub(super) trait Engine: Send + Sync + 'static {
    /// The stream of this engine.
    type Stream: Stream;

    /// Opens the stream at its start.
    fn open(&self) -> impl Future<Output = Result<Self::Stream, Trouble>> + Send;
}

/// The stream, from its start.
pub(super) trait Stream: Send {
    /// Names the run of the engine. In another life, what was acknowledged may be lost.
    fn life(&self) -> &str;

    /// The position of the last record that was in it when it was opened; 0 for none.
    fn last_position(&self) -> u64;

    /// Publishes bytes. That they are in the stream shows when they come back.
    fn publish(&mut self, bytes: Vec<u8>);

    /// The next record, of this life of the engine alone. May be dropped while it waits.
    fn next(&mut self) -> impl Future<Output = Next> + Send;
}

/// The next record and its position; `None` for a batch that was refused.
pub(super) type Next = Result<Option<(u64, Vec<u8>)>, Trouble>;

/// Why a node must begin again, in words; or cannot.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It may go better the next time.
    Passing(String),
    /// It never will.
    Lasting(String),
}

fn passing(sentence: impl Into<String>) -> Trouble {
    Trouble::Passing(sentence.into())
}

/// How the server tells the task that it closes, and waits for its last words.
#[derive(Default)]
pub(super) struct Closing {
    is_closing: AtomicBool,
    begun: Notify,
}

impl Closing {
    /// The server has no members any more.
    pub(super) fn begin(&self) {
        self.is_closing.store(true, Ordering::Release);
        self.begun.notify_one();
    }

    fn has_begun(&self) -> bool {
        self.is_closing.load(Ordering::Acquire)
    }
}

/// Takes part until the server closes, or cannot go on.
pub(super) async fn take_part(
    hub: Arc<Hub>,
    engine: impl Engine,
    node: String,
    closing: Arc<Closing>,
) {
    let mut last_words = String::new();
    loop {
        let trouble = match serve(&hub, &engine, &node, &closing).await {
            Ok(()) => return,
            Err(trouble) => trouble,
        };
        if let Trouble::Passing(_) = trouble {
            hub.set_unreachable(RETRY_AFTER_MS);
        }
        match trouble {
            Trouble::Lasting(sentence) => {
                return hub.fail("the server cannot go on", sentence);
            }
            // The same words again and again would fill the log.
            Trouble::Passing(sentence) if sentence == last_words => debug!("{sentence}"),
            Trouble::Passing(sentence) => {
                warn!("cut off the cluster: {sentence}; no client is let in until that is over");
                last_words = sentence;
            }
        }
        tokio::select! {
            () = time::sleep(Duration::from_millis(BEGIN_AGAIN_MS)) => {}
            () = closing.begun.notified() => return,
        }
    }
}

/// One incarnation of this node.
async fn serve(
    hub: &Hub,
    engine: &impl Engine,
    node: &str,
    closing: &Closing,
) -> Result<(), Trouble> {
    let mut stream = engine.open().await?;
    let mut replica = Replica::default();
    let mut position = 0;
    hub.begin_room("none".to_owned());
    while position < stream.last_position() {
        let next = time::timeout(Duration::from_millis(CATCH_UP_MS), stream.next());
        let next = next.await;
        let next = next.map_err(|_| passing("the stream does not tell what it has"))??;
        if let Some((at, bytes)) = next {
            position = at;
            if let Some(record) = decode(&bytes) {
                apply(hub, &mut replica, record);
            }
        }
    }
    let known = replica.nodes().get(node).map_or(0, |node| node.incarnation);
    let incarnation = u64::try_from(hub.wall_unix_ms())
        .unwrap_or(0)
        .max(known + 1);
    let life = stream.life().to_owned();
    replica.take_part(Own {
        node: node.to_owned(),
        incarnation,
        life: life.clone(),
    });
    let mut serving = Serving {
        hub,
        node,
        start: Instant::now(),
        sequencer: Sequencer::new(&life, node, incarnation, 0),
        replica,
        position,
        is_in: false,
    };
    let served = serving.run(&mut stream, closing).await;
    hub.set_order_behind(false);
    served
}

/// A node that takes part.
struct Serving<'a> {
    hub: &'a Hub,
    node: &'a str,
    start: Instant,
    sequencer: Sequencer,
    replica: Replica,
    /// That of the last record that was applied.
    position: u64,
    /// The first record of this incarnation was applied.
    is_in: bool,
}

impl Serving<'_> {
    async fn run(&mut self, stream: &mut impl Stream, closing: &Closing) -> Result<(), Trouble> {
        let mut tick = time::interval(Duration::from_millis(TICK_MS));
        tick.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
        let mut goodbye_until = None;
        loop {
            self.say(stream)?;
            if closing.has_begun() && goodbye_until.is_none() {
                self.sequencer.say_goodbye();
                goodbye_until = Some(Instant::now() + Duration::from_millis(GOODBYE_MS));
                continue;
            }
            if goodbye_until.is_some_and(|until| Instant::now() >= until) {
                return Ok(());
            }
            tokio::select! {
                next = stream.next() => {
                    if let Some((at, bytes)) = next? {
                        self.take(at, &bytes)?;
                    } else {
                        self.sequencer.refused(self.now_ms());
                    }
                    if goodbye_until.is_some() && self.sequencer.is_idle() {
                        return Ok(());
                    }
                }
                () = self.hub.commands_made() => {}
                _ = tick.tick() => {}
                () = closing.begun.notified() => {}
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Publishes what is due, and judges how far this node reaches.
    fn say(&mut self, stream: &mut impl Stream) -> Result<(), Trouble> {
        let now_ms = self.now_ms();
        for item in self.hub.take_commands().into_iter().filter_map(Item::of) {
            self.sequencer.push(item);
        }
        let reach = self.sequencer.reach(now_ms);
        let is_behind = self.sequencer.waiting_bytes() > WAITING_BYTES_MAX;
        self.hub.set_order_behind(is_behind || reach != Reach::Good);
        if reach == Reach::Lost {
            return Err(passing("nothing that this node says comes back"));
        }
        if self.is_in {
            self.sequencer.look_for_gone(&self.replica, now_ms);
        }
        if let Some(bytes) = self.sequencer.next_publish(now_ms, self.hub.wall_unix_ms()) {
            stream.publish(bytes);
        }
        Ok(())
    }

    /// Applies the next record.
    fn take(&mut self, at: u64, bytes: &[u8]) -> Result<(), Trouble> {
        if at != self.position + 1 && self.position > 0 {
            return Err(passing(format!(
                "the stream went from record {} to {at}",
                self.position
            )));
        }
        self.position = at;
        let Some(record) = decode(bytes) else {
            return Ok(());
        };
        match self.replica.cut(&record) {
            Some(Cut::Gone) => {
                return Err(passing(
                    "the other nodes heard nothing of this one for long",
                ));
            }
            Some(Cut::NewLife) => {
                return Err(passing("the engine of the cluster was started again"));
            }
            Some(Cut::Usurped) => {
                return Err(Trouble::Lasting(format!(
                    "another server calls itself {} in this cluster: give each its own --node",
                    self.node
                )));
            }
            None => {}
        }
        match apply(self.hub, &mut self.replica, record) {
            Applied::Own { batch_no } => {
                self.sequencer.own_applied(batch_no, self.now_ms());
                if !self.is_in {
                    self.is_in = true;
                    self.hub.set_reachable();
                    let nodes = self.replica.nodes().values().filter(|node| !node.is_down);
                    info!(node = self.node, nodes = nodes.count(), "in the cluster");
                }
            }
            Applied::Ignored | Applied::Other => {}
        }
        Ok(())
    }
}

/// The record of these bytes. What is none is of no concern: it is none for every node.
fn decode(bytes: &[u8]) -> Option<Record> {
    let record = Record::decode(bytes);
    if record.is_err() {
        warn!("something in the stream is no record of a chat server: another program writes too");
    }
    record.ok()
}

/// Applies one record to the room.
fn apply(hub: &Hub, replica: &mut Replica, record: Record) -> Applied {
    hub.in_order(|in_order| replica.apply(record, in_order))
}

impl Rooms for InOrder<'_> {
    fn begin_room(&mut self, epoch: String) {
        InOrder::begin_room(self, epoch);
    }

    fn apply(&mut self, command: Command, connection: Option<usize>) -> Outcome {
        InOrder::apply(self, command, connection, |event| match event {
            Event::Joined { replaced, .. } => Outcome::Joined {
                replaced: replaced.as_ref().map(|replaced| replaced.member),
            },
            Event::Left { .. } => Outcome::Left,
            _ => Outcome::Other,
        })
    }
}
