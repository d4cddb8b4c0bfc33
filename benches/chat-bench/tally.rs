//! Tally of the deliveries: whether each was due, how many there were and how long they
//! took.

use std::time::Instant;

use crate::{
    dialect::{Dialect, JoinAs, Unit},
    failure::Failure,
    latency::Histogram,
    member::{Connection, Role, refused},
    order::{Order, check_rest, stamp},
};

pub struct Tally {
    pub order: Order,
    /// Deliveries to the members that stay from the start, and to visitors.
    pub deliveries: u64,
    pub visitors_deliveries: u64,
    pub latency: Histogram,
    /// Whether every delivery is timed, or only the last of each read.
    pub times_all: bool,
    /// The start of the run.
    pub start: Instant,
    /// The topic of each message that was sent, in a run with topics.
    pub topics: Vec<u16>,
}

impl Tally {
    pub fn new(senders: usize, text_bytes: usize) -> Self {
        Self {
            order: Order::new(senders, text_bytes),
            deliveries: 0,
            visitors_deliveries: 0,
            latency: Histogram::new(),
            times_all: false,
            start: Instant::now(),
            topics: Vec::new(),
        }
    }

    /// Checks and counts `bytes` that a member received. Answers are appended to what
    /// it sends.
    pub fn take(
        &mut self,
        member: &mut Connection,
        bytes: &[u8],
        dialect: &dyn Dialect,
    ) -> Result<(), Failure> {
        let Connection {
            role,
            out,
            name,
            held,
            ..
        } = member;
        let mut on_other = |unit: Unit<'_>| match unit {
            Unit::Answer(answer) => {
                out.extend(answer);
                Ok(())
            }
            Unit::Refused(sentence) => Err(refused(name, &sentence)),
            _ => Ok(()),
        };
        match role {
            Role::Reads(cursor) => {
                let first = cursor.next();
                cursor.take(bytes, &mut self.order, dialect, &mut on_other)?;
                if let (Some(first), Some(end)) = (first, cursor.next()) {
                    self.delivered(first, end);
                }
            }
            Role::Visits(cursor) => {
                let first = cursor.next();
                cursor.take(bytes, &mut self.order, dialect, &mut on_other)?;
                if let Some(end) = cursor.next() {
                    // The first bytes count as one delivery, whatever they contain.
                    let first = first.unwrap_or(end.saturating_sub(1));
                    self.visitors_deliveries += (end - first) as u64;
                }
            }
            Role::Sends { number, received } => {
                held.extend_from_slice(bytes);
                let mut used = 0;
                while let Some((unit_bytes, unit)) = dialect
                    .split(&held[used..], JoinAs::Sender)
                    .map_err(Failure::protocol)?
                {
                    match unit {
                        Unit::Message(message) => {
                            if stamp(&message)?.sender == *number {
                                return Err(Failure::lost(format!(
                                    "{name} received its own message"
                                )));
                            }
                            received.add(&held[used..used + unit_bytes]);
                            self.deliveries += 1;
                        }
                        other => on_other(other)?,
                    }
                    used += unit_bytes;
                }
                held.drain(..used);
            }
            Role::Follows(follower) => {
                held.extend_from_slice(bytes);
                let mut used = 0;
                let mut last_sent_ns = None;
                while let Some((unit_bytes, unit)) = dialect
                    .split(&held[used..], JoinAs::Reader)
                    .map_err(Failure::protocol)?
                {
                    match unit {
                        Unit::Message(message) => {
                            check_rest(&message, self.order.blank())?;
                            let stamp = stamp(&message)?;
                            follower.take(stamp, &self.topics)?;
                            last_sent_ns = Some(stamp.sent_ns);
                            self.deliveries += 1;
                        }
                        other => on_other(other)?,
                    }
                    used += unit_bytes;
                }
                held.drain(..used);
                if let Some(sent_ns) = last_sent_ns {
                    let now_ns = self.start.elapsed().as_nanos() as u64;
                    self.latency.record(now_ns.saturating_sub(sent_ns));
                }
            }
            Role::Idles | Role::Stalls => {}
        }
        Ok(())
    }

    fn delivered(&mut self, first: usize, end: usize) {
        if first == end {
            return;
        }
        self.deliveries += (end - first) as u64;
        let now_ns = self.start.elapsed().as_nanos() as u64;
        let timed = if self.times_all { first } else { end - 1 };
        for index in timed..end {
            let sent_ns = self.order.sent_ns(index);
            self.latency.record(now_ns.saturating_sub(sent_ns));
        }
    }
}
