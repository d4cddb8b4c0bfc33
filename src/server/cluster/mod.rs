//! Cluster: the task by which this node takes part in the order of all nodes. It moves
//! commands from the hub to the stream and records from the stream to the hub, and tells
//! the hub when this node is cut off.
//!
//! ```text
//!   take a checkpoint ─▶ apply what is behind it ─▶ say hello ─▶ serve ─▶ goodbye
//!         ▲                                                        │
//!         └──── cut off, another life, declared gone, overtaken ◀──┘
//!               all sessions end, with CLUSTER_UNREACHABLE
//! ```
//!
//! There is one way back from any trouble: end the sessions, and begin again from the
//! stream as another incarnation.

#[cfg(feature = "store")]
mod asking;
#[cfg(feature = "store")]
mod files;
mod nats;
#[cfg(feature = "store")]
mod past;
mod serving;

use std::{
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{self, Instant},
};
use tracing::{debug, info, warn};

#[cfg(feature = "store")]
pub(super) use files::share_files;
pub use nats::Nats;
#[cfg(feature = "cli")]
pub(super) use nats::{NAME_BYTES_MAX, is_name};
#[cfg(feature = "store")]
pub(super) use past::share_past;
use serving::{Place, Serving, apply};

use super::hub::Hub;
use crate::{
    cluster::{
        checkpoint,
        record::{CarriedBans, Record},
        replica::{Own, Replica, epoch},
        sequencer::Sequencer,
    },
    session::Operation,
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

/// What a record takes in the stream beside its bytes, about.
const RECORD_OVERHEAD_BYTES: u64 = 64;

/// How long after a checkpoint that could not be written the next one is tried, in
/// milliseconds.
const CHECKPOINT_AGAIN_MS: u64 = 60_000;

/// What keeps the stream.
pub(super) trait Engine: Send + Sync + 'static {
    /// The stream of this engine.
    type Stream: Stream;

    /// Opens the stream for a node, behind one of its checkpoints; at its start, if it has
    /// none.
    fn open(&self, node: &str) -> impl Future<Output = Result<Self::Stream, Trouble>> + Send;
}

/// The stream, behind one of its checkpoints or from its start.
pub(super) trait Stream: Send {
    /// Names the run of the engine. In another life, what was acknowledged may be lost.
    fn life(&self) -> &str;

    /// The position before that of the first record that it gives.
    fn start(&self) -> u64;

    /// The checkpoint of this position and this life, if there is one. Taken once.
    fn take_checkpoint(&mut self) -> Option<Vec<u8>>;

    /// Sends something to a node, beside the stream. It may be lost.
    fn send(&mut self, node: &str, bytes: Vec<u8>);

    /// Keeps a checkpoint of a position, and drops what no newcomer needs any more: records
    /// up to the checkpoint before, and the checkpoints before that. Ends with
    /// [`Taken::Kept`].
    fn keep(&mut self, position: u64, checkpoint: Vec<u8>);

    /// The position of the last record that was in it when it was opened; 0 for none.
    fn last_position(&self) -> u64;

    /// Publishes bytes. That they are in the stream shows when they come back.
    fn publish(&mut self, bytes: Vec<u8>);

    /// The next record, of this life of the engine alone. May be dropped while it waits.
    fn next(&mut self) -> impl Future<Output = Next> + Send;
}

/// What comes next of the stream.
pub(super) type Next = Result<Taken, Trouble>;

/// What comes of the stream.
#[derive(Debug)]
pub(super) enum Taken {
    /// The next record, its position, and how many the engine has behind it.
    Record(u64, Vec<u8>, u64),
    /// A batch was refused.
    Refused,
    /// Another node has sent something to this one, beside the stream.
    Message(Vec<u8>),
    /// A checkpoint was kept, or not, in words.
    Kept(Result<u64, String>),
}

/// How a node takes part.
#[derive(Debug, Clone)]
pub(super) struct Part {
    /// The name of the node.
    pub(super) node: String,
    /// After how many bytes of records there is another checkpoint.
    pub(super) checkpoint_bytes: u64,
}

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

/// What a node keeps from one time that it takes part to the next.
#[derive(Default)]
struct Memory {
    /// The epoch of the room, its bans and mutes at its end, and how many changes of them
    /// were known.
    epoch: String,
    bans: Vec<Operation>,
    ban_changes: u64,
}

/// The store has what the stream does not.
fn has_lost() -> Trouble {
    Trouble::Lasting(
        "NATS lacks messages that it had acknowledged and that this node has on its disk, so that \
         their numbers would be given again: it was not as durable as --cluster-durable says, or \
         goes on from a backup. To begin anew, with other numbers, end all nodes and remove both \
         streams of the room"
            .to_owned(),
    )
}

/// A node with a full disk would only fall behind: its clients go on at another one.
fn check_disk(hub: &Hub) -> Result<(), Trouble> {
    match hub.is_store_full() {
        true => Err(passing("the disk of this node is full")),
        false => Ok(()),
    }
}

/// Takes part until the server closes, or cannot go on.
pub(super) async fn take_part(
    hub: Arc<Hub>,
    engine: impl Engine,
    part: Part,
    closing: Arc<Closing>,
) {
    let mut last_words = String::new();
    // The bans that were kept are those of the epoch that was.
    let mut memory = Memory {
        epoch: hub.epoch(),
        bans: hub.bans(),
        ban_changes: hub.ban_changes(),
    };
    loop {
        let trouble = match serve(&hub, &engine, &part, &closing, &mut memory).await {
            Ok(()) => return,
            Err(trouble) => trouble,
        };
        if let Trouble::Passing(_) = trouble {
            // Not each time that it tries in vain.
            if !hub.is_unreachable() {
                hub.metrics.cluster.cut();
            }
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
    part: &Part,
    closing: &Closing,
    memory: &mut Memory,
) -> Result<(), Trouble> {
    check_disk(hub)?;
    let mut stream = engine.open(&part.node).await?;
    let life = stream.life().to_owned();
    let mut kept = match hub.kept_of(&epoch(&life)) {
        Some((place, _)) if place.position > stream.last_position() => return Err(has_lost()),
        kept => kept,
    };
    let mut replica = match stream.take_checkpoint() {
        None => {
            hub.begin_room(epoch(&life), stream.start());
            Replica::new(&life)
        }
        Some(bytes) => {
            let checkpoint = checkpoint::decode(&life, &bytes);
            let (replica, room, operations) = checkpoint.ok_or_else(|| {
                passing("the checkpoint cannot be read: all nodes need the same version")
            })?;
            info!(
                position = stream.start(),
                seq = room.seq,
                members = room.members.len(),
                "goes on from a checkpoint"
            );
            hub.restore_room(room, operations, stream.start());
            replica
        }
    };
    hub.set_ban_changes(replica.ban_changes());
    match &kept {
        Some((place, seq)) if place.position < stream.start() => warn!(
            behind = seq,
            from = hub.room_seq() + 1,
            "the disk is behind what NATS keeps: this node was away for long, and its members \
             find the past from there on only, until another node gives what is missing; what it \
             had is set aside"
        ),
        Some((place, seq)) if place.position == stream.start() && hub.room_seq() != *seq => {
            return Err(has_lost());
        }
        _ => {}
    }
    let mut place = Place {
        position: stream.start(),
        record_bytes: 0,
    };
    while place.position < stream.last_position() {
        check_disk(hub)?;
        if hub.is_store_behind() {
            time::sleep(Duration::from_millis(TICK_MS)).await;
            continue;
        }
        let next = time::timeout(Duration::from_millis(CATCH_UP_MS), stream.next());
        let next = next.await;
        let next = next.map_err(|_| passing("the stream does not tell what it has"))??;
        if let Taken::Record(at, bytes, behind) = next {
            hub.metrics.cluster.applied(at, behind);
            let record = place.step(at, &bytes)?;
            let which = record.as_ref().map(Record::to_string).unwrap_or_default();
            if let Some(record) = record {
                apply(hub, &mut replica, record, (at, bytes.len()));
            }
            if let Some((place, seq)) = kept.take_if(|it| it.0.position == at) {
                let is_same = place.record.is_empty() || place.record == which;
                if !is_same || hub.room_seq() != seq {
                    return Err(has_lost());
                }
            }
        }
    }
    let known = replica.nodes().get(&part.node);
    let incarnation = u64::try_from(hub.wall_unix_ms())
        .unwrap_or(0)
        .max(known.map_or(0, |node| node.incarnation) + 1);
    replica.take_part(Own {
        node: part.node.clone(),
        incarnation,
    });
    let mut serving = Serving {
        hub,
        part,
        incarnation,
        start: Instant::now(),
        sequencer: Sequencer::new(&life, &part.node, incarnation, 0),
        replica,
        place,
        is_in: false,
        published: None,
        is_keeping: false,
        keep_not_before_ms: 0,
        early: Vec::new(),
        early_bytes: 0,
        carried: match memory.epoch == epoch(&life) {
            true => Vec::new(),
            false => CarriedBans::parts(memory.ban_changes, memory.bans.clone()),
        },
    };
    let served = serving.run(&mut stream, closing).await;
    hub.set_order_behind(false);
    if serving.is_in {
        *memory = Memory {
            epoch: epoch(&life),
            bans: hub.bans(),
            ban_changes: hub.ban_changes(),
        };
    }
    served
}
