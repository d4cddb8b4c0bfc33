//! Serving: one time that this node takes part. It publishes what sessions and operators
//! have to say, applies what comes back, and writes checkpoints.

use std::time::Duration;

use prost::Message as _;
use tokio::time::{self, Instant};
use tracing::{debug, info, warn};

use super::{
    CHECKPOINT_AGAIN_MS, Closing, GOODBYE_MS, Part, RECORD_OVERHEAD_BYTES, Stream, TICK_MS, Taken,
    Trouble, check_disk, passing,
};
use crate::{
    cluster::{
        checkpoint,
        direct::{DirectAnswer, DirectAsked, DirectGivenUp, DirectSent, DirectSettled},
        operate::Operate,
        record::{CarriedBans, CheckedName, CheckpointWritten, Item, Kind, Record},
        replica::{Applied, Cut, Outcome, Replica, Rooms},
        sequencer::{Reach, Sequencer, WAITING_BYTES_MAX},
    },
    name::Name,
    room::{self, Command, Event, MemberId},
    server::hub::{Hub, InOrder, Outgoing},
    session::{DirectKey, DirectPlace, Operation, RemoteDirect},
};

/// How much of the Directs from nodes that are further in the stream may wait, in bytes.
const EARLY_BYTES_MAX: usize = 4 << 20;

/// How far a node is in the stream.
pub(super) struct Place {
    /// That of the last record that it has taken.
    pub(super) position: u64,
    /// What the records since the last checkpoint take, as far as this node knows.
    pub(super) record_bytes: u64,
}

impl Place {
    /// Takes the next record, which has the position behind that of the one before. `None`
    /// for bytes that are no record: they are none for every node.
    pub(super) fn step(&mut self, at: u64, bytes: &[u8]) -> Result<Option<Record>, Trouble> {
        let last = self.position;
        if at != last + 1 {
            return Err(passing(format!(
                "this node has the records up to {last}, and the stream goes on with {at}: it was \
                 overtaken by what the stream keeps, and begins again from a checkpoint"
            )));
        }
        self.position = at;
        self.record_bytes += bytes.len() as u64 + RECORD_OVERHEAD_BYTES;
        let record = Record::decode(bytes);
        if record.is_err() {
            warn!(
                "something in the stream is no record of a chat server: another program writes too"
            );
        }
        Ok(record.ok())
    }
}

/// A node that takes part.
pub(super) struct Serving<'a> {
    pub(super) hub: &'a Hub,
    pub(super) part: &'a Part,
    pub(super) incarnation: u64,
    pub(super) start: Instant,
    pub(super) sequencer: Sequencer,
    pub(super) replica: Replica,
    pub(super) place: Place,
    /// The first record of this incarnation was applied, and the bans that it has carried.
    pub(super) is_in: bool,
    /// The batch that is on its way, and since when.
    pub(super) published: Option<(u64, Instant)>,
    /// A checkpoint is being written.
    pub(super) is_keeping: bool,
    pub(super) keep_not_before_ms: u64,
    /// The bans and mutes of another life of the engine, of which this one knows nothing.
    pub(super) carried: Vec<CarriedBans>,
    /// Directs from nodes that were further in the stream than this one.
    pub(super) early: Vec<DirectSent>,
    pub(super) early_bytes: usize,
}

impl Serving<'_> {
    pub(super) async fn run(
        &mut self,
        stream: &mut impl Stream,
        closing: &Closing,
    ) -> Result<(), Trouble> {
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
                // Else the disk would be behind without a bound.
                next = stream.next(), if !self.hub.is_store_behind() => {
                    match next? {
                        Taken::Record(at, bytes, behind) => {
                            self.take(at, &bytes)?;
                            self.take_early();
                            self.hub.metrics.cluster.applied(at, behind);
                            self.keep_checkpoint(stream);
                        }
                        Taken::Refused => self.sequencer.refused(self.now_ms()),
                        Taken::Kept(kept) => self.kept(kept),
                        Taken::Message(bytes) => match DirectSent::decode(&bytes[..]) {
                            Ok(sent) => self.receive_direct(sent, stream.life()),
                            Err(_) => warn!("another program writes to this node over NATS"),
                        },
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
        check_disk(self.hub)?;
        let now_ms = self.now_ms();
        self.take_outgoing(stream);
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
            let batch_no = self.sequencer.last_batch();
            // One that is published again counts from the first time.
            if self.published.is_none_or(|(last, _)| last != batch_no) {
                self.published = Some((batch_no, Instant::now()));
            }
            stream.publish(bytes);
        }
        Ok(())
    }

    /// Takes what this node has to say to the others.
    fn take_outgoing(&mut self, stream: &mut impl Stream) {
        let Outgoing {
            commands,
            names,
            operations,
            asked,
            directs,
            settled,
            overdue,
        } = self.hub.take_outgoing();
        for item in commands.into_iter().filter_map(Item::of) {
            self.sequencer.push(item);
        }
        for name in &names.asked {
            self.sequencer
                .push(Kind::NameAsked(CheckedName::of(name)).into());
        }
        for name in &names.answered {
            self.sequencer
                .push(Kind::NameAnswered(CheckedName::of(name)).into());
        }
        for (operation, ticket) in operations {
            self.operate(operation, ticket);
        }
        for ticket in asked {
            self.sequencer
                .push(Kind::DirectAsked(DirectAsked { ticket }).into());
        }
        for (key, delivered) in settled {
            let settled = DirectSettled {
                key: key.into(),
                delivered,
            };
            self.sequencer.push(Kind::DirectSettled(settled).into());
        }
        for ticket in overdue {
            let given_up = DirectGivenUp { ticket };
            self.sequencer.push(Kind::DirectGivenUp(given_up).into());
        }
        for direct in directs {
            self.send_direct(direct, stream);
        }
    }

    /// Sends a Direct to the node of its recipient.
    fn send_direct(&mut self, direct: RemoteDirect, stream: &mut impl Stream) {
        let ticket = direct.ticket;
        // Connections are fewer.
        let session = u32::try_from(direct.session).unwrap_or(u32::MAX);
        let join_no = self.replica.join_no(session);
        let node = self.replica.node_of(direct.recipient);
        let (Some((node, incarnation)), Some(join_no)) = (node, join_no) else {
            return self.hub.in_order(|in_order| {
                in_order.direct(|sessions, room, now, effects| {
                    sessions.direct_goes_on(room, now, ticket, effects)
                });
            });
        };
        self.hub.direct_goes_to(ticket, node);
        let own = (self.part.node.as_str(), self.incarnation);
        let place = (stream.life(), self.place.position);
        let sent = DirectSent::of(direct, (session, join_no), place, own, incarnation);
        match node == self.part.node {
            true => self.take_direct(sent),
            false => stream.send(node, sent.encode_to_vec()),
        }
    }

    /// A Direct has come to this node. It waits until the node is as far in the stream as
    /// the one that has sent it.
    fn receive_direct(&mut self, sent: DirectSent, life: &str) {
        if sent.life != life || sent.to_incarnation != self.incarnation {
            return;
        }
        if sent.position <= self.place.position {
            return self.take_direct(sent);
        }
        let bytes = self.early_bytes + sent.encoded_len();
        if bytes > EARLY_BYTES_MAX {
            // Its sender is told that it reached nobody.
            return debug!("this node is behind, and takes no more Directs");
        }
        self.early_bytes = bytes;
        self.early.push(sent);
    }

    /// Takes the Directs for which this node is far enough now.
    fn take_early(&mut self) {
        let position = self.place.position;
        let due = self.early.extract_if(.., |it| it.position <= position);
        for sent in due.collect::<Vec<_>>() {
            self.early_bytes -= sent.encoded_len();
            self.take_direct(sent);
        }
    }

    /// A Direct has come to the node of its recipient.
    fn take_direct(&mut self, sent: DirectSent) {
        let DirectSent { origin, direct, .. } = sent;
        if !(self.replica).is_there(&origin.key.node, origin.key.incarnation) {
            return;
        }
        let time_unix_ms = direct.time_unix_ms;
        let key = origin.key.clone().into();
        let answer = DirectAnswer {
            origin,
            time_unix_ms,
            is_accepted: self.hub.direct_arrived(key, &sent.name, direct),
        };
        self.sequencer.push(Kind::DirectAnswer(answer).into());
    }

    /// Applies the next record.
    fn take(&mut self, at: u64, bytes: &[u8]) -> Result<(), Trouble> {
        let Some(record) = self.place.step(at, bytes)? else {
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
                    self.part.node
                )));
            }
            None => {}
        }
        let checkpoint = self.replica.checkpoint();
        let applied = apply(self.hub, &mut self.replica, record, (at, bytes.len()));
        if self.replica.checkpoint() > checkpoint {
            self.place.record_bytes = 0;
            let checkpoint = self.replica.checkpoint();
            self.hub.metrics.cluster.checkpoint(checkpoint);
        }
        let nodes = self.replica.nodes().values();
        let nodes = nodes.filter(|node| !node.is_down).count();
        self.hub.metrics.cluster.nodes(nodes);
        match applied {
            Applied::Own { batch_no } => {
                self.sequencer.own_applied(batch_no, self.now_ms());
                if let Some(published) = self.published.take_if(|it| it.0 == batch_no) {
                    self.hub
                        .metrics
                        .cluster
                        .batches
                        .observe(published.1.elapsed());
                }
                if !self.is_in {
                    for carried in std::mem::take(&mut self.carried) {
                        self.sequencer.push(Kind::CarriedBans(carried).into());
                    }
                }
                // Nobody is let in before its bans are in the order.
                if !self.is_in && self.sequencer.is_idle() {
                    self.is_in = true;
                    self.hub.set_reachable();
                    info!(node = self.part.node, nodes, "in the cluster");
                }
            }
            Applied::Ignored | Applied::Other => {}
        }
        Ok(())
    }
}

impl Serving<'_> {
    /// Writes a checkpoint, if it is time for one and for this node to write it.
    fn keep_checkpoint(&mut self, stream: &mut impl Stream) {
        let is_due = self.place.record_bytes >= self.part.checkpoint_bytes
            && self.is_in
            && !self.is_keeping
            && self.now_ms() >= self.keep_not_before_ms;
        if is_due && self.replica.writes_checkpoints() {
            let bytes = checkpoint::encode(&self.replica, self.hub.snapshot(), self.hub.bans());
            debug!(
                position = self.place.position,
                bytes = bytes.len(),
                "writes a checkpoint"
            );
            self.is_keeping = true;
            stream.keep(self.place.position, bytes);
        }
    }

    /// Has an operation carried out by all nodes.
    fn operate(&mut self, operation: Operation, ticket: u64) {
        let operate = Operate::of(operation, ticket);
        self.sequencer.push(Kind::Operate(operate).into());
    }

    fn kept(&mut self, kept: Result<u64, String>) {
        self.is_keeping = false;
        match kept {
            Ok(position) => {
                let written = CheckpointWritten { position };
                self.sequencer.push(Kind::Checkpoint(written).into());
            }
            Err(sentence) => {
                self.keep_not_before_ms = self.now_ms() + CHECKPOINT_AGAIN_MS;
                warn!("no checkpoint could be written, the stream grows: {sentence}");
            }
        }
    }
}

/// Applies the record at a position, of so many bytes, to the room.
pub(super) fn apply(
    hub: &Hub,
    replica: &mut Replica,
    record: Record,
    (position, bytes): (u64, usize),
) -> Applied {
    hub.in_order(|in_order| {
        let place = room::Place {
            position,
            record: record.to_string(),
        };
        in_order.stands_at(place, bytes);
        replica.apply(record, in_order)
    })
}

impl Rooms for InOrder<'_> {
    fn apply(&mut self, command: Command, connection: Option<usize>) -> Outcome {
        InOrder::apply(self, command, connection, |event| match event {
            Event::Joined { replaced, .. } => Outcome::Joined {
                replaced: replaced.as_ref().map(|replaced| replaced.member),
            },
            Event::Left { .. } => Outcome::Left,
            _ => Outcome::Other,
        })
    }

    fn operate(
        &mut self,
        operation: Operation,
        time_unix_ms: i64,
        ticket: Option<u64>,
    ) -> Vec<MemberId> {
        InOrder::operate(self, operation, time_unix_ms, ticket)
    }

    fn name_asked(&mut self, name: Name, is_from_here: bool) {
        InOrder::name_asked(self, name, is_from_here);
    }

    fn bans_changed(&mut self, changes: u64) {
        InOrder::bans_changed(self, changes);
    }

    fn name_answered(&mut self, name: &Name) {
        InOrder::name_answered(self, name);
    }

    fn direct_asked(&mut self, ticket: u64) {
        self.direct(|sessions, room, now, effects| {
            sessions.direct_goes_on(room, now, ticket, effects)
        });
    }

    fn direct_placed(&mut self, place: DirectPlace) {
        self.direct(|sessions, room, now, effects| {
            sessions.direct_placed(room, now, &place, effects)
        });
    }

    fn direct_given_up(&mut self, key: DirectKey, is_from_here: bool) {
        self.direct(|sessions, room, now, effects| {
            sessions.direct_given_up(room, now, key, is_from_here, effects)
        });
    }

    fn direct_settled(&mut self, ticket: u64, delivered: bool) {
        self.direct(|sessions, _, _, effects| {
            sessions.direct_settled(ticket, delivered, effects);
            None
        });
    }

    fn node_ended(&mut self, node: &str, is_down: bool) {
        InOrder::node_ended(self, node, is_down);
    }
}
