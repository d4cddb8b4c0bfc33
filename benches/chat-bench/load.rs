//! The workloads with messages: `burst`, `paced`, `slow` and `churn` are one loop with
//! different parameters.

use std::time::{Duration, Instant};

use crate::{
    client_pool::ClientPool,
    dialect::Protocol,
    digest::Digest,
    failure::Failure,
    latency::Histogram,
    link::Link,
    member::Role,
    order::Cursor,
    process::Process,
    progress::Progress,
    text::{Stamp, blank},
};

/// How many bytes a sender queues at once.
pub const BATCH_BYTES: usize = 64 * 1024;

/// The most memory that the messages of a run may take, in bytes. A burst ends there.
const ORDER_BYTES_MAX: usize = 1 << 30;

/// How many messages a burst starts with; more are sent as these are delivered.
pub const FIRST_IN_FLIGHT: u64 = 256;

/// How long nothing may arrive at the end, so that no message came twice, in
/// milliseconds.
pub const QUIET_MS: u64 = 200;

/// How long to wait before memory is measured, in milliseconds.
pub const SETTLE_MS: u64 = 300;

/// The longest poll while there may be something to send, in milliseconds.
pub const POLL_MS_MAX: u64 = 10;

/// How many messages a visitor stays for.
const VISIT_MESSAGES: u64 = 10;

/// The longest stay of a visitor, in milliseconds.
const VISIT_MS_MAX: u64 = 1_000;

/// Parameters of a workload.
#[derive(Debug, Clone)]
pub struct Load {
    pub members: usize,
    pub senders: usize,
    pub text_bytes: usize,
    pub duration: Duration,
    pub messages_max: u64,
    /// Messages a second of all senders together; `None`: as fast as the server takes
    /// them.
    pub rate: Option<f64>,
    /// How many messages may be sent and not yet delivered, on average over the
    /// members.
    pub in_flight_max: u64,
    /// How many additional members never read.
    pub stalling: usize,
    /// How many additional members come and go.
    pub visiting: usize,
}

/// Results of a workload.
pub struct Outcome {
    pub messages: u64,
    pub deliveries: u64,
    pub elapsed_s: f64,
    pub server_cpu_s: Option<f64>,
    pub own_cpu_s: Option<f64>,
    pub bytes_per_connection: Option<f64>,
    pub latency: Histogram,
    pub visits: u64,
}

/// Runs a workload. Fails if anything is lost.
pub fn run(
    load: &Load,
    link: &Link,
    protocol: Protocol,
    server: Option<Process>,
    progress: &mut Progress,
) -> Result<Outcome, Failure> {
    let mut pool = ClientPool::new(link, protocol.dialect(), load.senders, load.text_bytes)?;
    pool.tally.times_all = load.rate.is_some();
    let resident = |server: Option<Process>| server.and_then(Process::resident_bytes);
    let resident_before = resident(server);
    let sending = (0..load.senders).map(|number| Role::Sends {
        number,
        received: Digest::new(),
    });
    let reading = (load.senders..load.members).map(|_| Role::Reads(Cursor::from_start()));
    let stalling = (0..load.stalling).map(|_| Role::Stalls);
    let visiting = (0..load.visiting).map(|_| Role::Visits(Cursor::from_anywhere()));
    let count = load.members + load.stalling + load.visiting;
    pool.join_all(
        sending.chain(reading).chain(stalling).chain(visiting),
        protocol.joining_max(),
        |joined| progress.joining(joined, count),
    )?;
    check_rate(load, pool.interval_ms)?;
    settle(&mut pool, Duration::from_millis(SETTLE_MS))?;
    let grown_bytes = resident(server)
        .zip(resident_before)
        .map(|(after, before)| after as f64 - before as f64);

    let spent = Spent::begin(server);
    pool.tally.start = Instant::now();
    pool.active = pool.tally.start;
    let mut senders = Senders::new(load, &pool, protocol);
    let mut visits = Visits::default();
    while !senders.is_delivered(&pool) {
        senders.send_due(&mut pool)?;
        pool.poll(Some(senders.wait(&pool)))?;
        if load.visiting > 0 {
            visits.replace_due(load, &mut pool, senders.is_over)?;
        }
        pool.check_silence().map_err(|silence| {
            Failure::lost(format!(
                "{silence}, and members still miss messages: they were lost"
            ))
        })?;
        progress.running(
            pool.tally.start.elapsed(),
            load.duration,
            pool.tally.deliveries,
        );
    }
    let elapsed_s = pool.tally.start.elapsed().as_secs_f64();
    let (server_cpu_s, own_cpu_s) = spent.end();

    settle(&mut pool, Duration::from_millis(QUIET_MS))?;
    check_senders(&pool, protocol)?;
    Ok(Outcome {
        messages: senders.sent,
        deliveries: pool.tally.deliveries + pool.tally.visitors_deliveries,
        elapsed_s,
        server_cpu_s,
        own_cpu_s,
        bytes_per_connection: grown_bytes.map(|bytes| bytes / count as f64),
        latency: pool.tally.latency.clone(),
        visits: visits.count,
    })
}

/// CPU time of the server and of this program since some moment.
pub struct Spent {
    server: Option<Process>,
    before_s: [Option<f64>; 2],
}

impl Spent {
    pub fn begin(server: Option<Process>) -> Self {
        Self {
            server,
            before_s: Self::now_s(server),
        }
    }

    /// What the server and this program have spent, in seconds.
    pub fn end(self) -> (Option<f64>, Option<f64>) {
        let [server_s, own_s] = Self::now_s(self.server);
        let [server_before_s, own_before_s] = self.before_s;
        let spent = |after: Option<f64>, before: Option<f64>| Some(after? - before?);
        (spent(server_s, server_before_s), spent(own_s, own_before_s))
    }

    fn now_s(server: Option<Process>) -> [Option<f64>; 2] {
        [server, Some(Process::this())].map(|it| it.and_then(Process::cpu_s))
    }
}

/// Refuses to measure the server's rate limit in place of the server.
pub fn check_rate(load: &Load, interval_ms: u32) -> Result<(), Failure> {
    let each_per_s = load.rate.map(|rate| rate / load.senders as f64);
    let is_within = each_per_s.is_some_and(|rate| rate * f64::from(interval_ms) <= 1_000.0);
    if interval_ms == 0 || is_within {
        return Ok(());
    }
    Err(Failure::unusable(format!(
        "the server limits a member to one message every {interval_ms} ms: \
         start it with `--rate-limit off` to see how fast it is"
    )))
}

/// Handles events for `time`.
pub fn settle(pool: &mut ClientPool, time: Duration) -> Result<(), Failure> {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()) {
        pool.poll(Some(left))?;
    }
    Ok(())
}

/// Checks that senders that are also members received the others' messages, in the same
/// order.
fn check_senders(pool: &ClientPool, protocol: Protocol) -> Result<(), Failure> {
    for connection in &pool.connections {
        if let Role::Sends { number, received } = &connection.role {
            let due = if protocol.senders_are_members() {
                pool.tally.order.without(*number)
            } else {
                Digest::new()
            };
            if !received.is_same(&due) {
                return Err(Failure::lost(format!(
                    "sender {number} did not receive what the others received: {} bytes instead of {}",
                    received.bytes, due.bytes
                )));
            }
        }
    }
    Ok(())
}

/// The senders' side of a run.
struct Senders<'a> {
    load: &'a Load,
    /// A message as it is sent, and the position of its text.
    frame: Vec<u8>,
    text_at: usize,
    /// How many deliveries one message causes.
    receivers: u64,
    sent: u64,
    sent_each: Vec<u32>,
    is_over: bool,
}

impl<'a> Senders<'a> {
    fn new(load: &'a Load, pool: &ClientPool, protocol: Protocol) -> Self {
        let (head, tail) = pool.dialect.around_text(load.text_bytes);
        let text_at = head.len();
        let frame = [head, blank(load.text_bytes), tail].concat();
        let reading = load.members - load.senders;
        let also_sending = if protocol.senders_are_members() {
            load.senders - 1
        } else {
            0
        };
        Self {
            load,
            frame,
            text_at,
            receivers: (reading + also_sending) as u64,
            sent: 0,
            sent_each: vec![0; load.senders],
            is_over: false,
        }
    }

    /// Whether all messages are sent and delivered to every member.
    fn is_delivered(&self, pool: &ClientPool) -> bool {
        let is_complete = |role: &Role| match role {
            Role::Reads(cursor) => cursor.next() == Some(self.sent as usize),
            Role::Visits(cursor) => cursor.next().is_none_or(|next| next == self.sent as usize),
            _ => true,
        };
        self.is_over
            && pool.tally.deliveries >= self.sent * self.receivers
            && pool.connections.iter().all(|it| is_complete(&it.role))
    }

    /// Sends the messages that are due.
    fn send_due(&mut self, pool: &mut ClientPool) -> Result<(), Failure> {
        let elapsed = pool.tally.start.elapsed();
        self.is_over |= elapsed >= self.load.duration
            || self.sent >= self.load.messages_max
            || self.sent as usize * self.frame.len() >= ORDER_BYTES_MAX;
        if self.is_over {
            return Ok(());
        }
        for sender in 0..self.load.senders {
            if !pool.is_flushed(sender) {
                continue;
            }
            let batch = self
                .may_send(pool, elapsed)
                .min((BATCH_BYTES / self.frame.len()).max(1) as u64);
            if batch == 0 {
                return Ok(());
            }
            let sent_ns = pool.tally.start.elapsed().as_nanos() as u64;
            for _ in 0..batch {
                let stamp = Stamp {
                    sender,
                    index: self.sent_each[sender],
                    sent_ns,
                };
                stamp.write(&mut self.frame[self.text_at..]);
                pool.out(sender).extend_from_slice(&self.frame);
                self.sent_each[sender] += 1;
            }
            self.sent += batch;
            pool.write(sender)?;
        }
        Ok(())
    }

    fn may_send(&self, pool: &ClientPool, elapsed: Duration) -> u64 {
        let left = self.load.messages_max - self.sent;
        match self.load.rate {
            Some(rate) => {
                // The first is due at once.
                let due = (elapsed.as_secs_f64() * rate) as u64 + 1;
                due.saturating_sub(self.sent).min(left)
            }
            None => {
                let delivered = pool.tally.deliveries / self.receivers;
                let in_flight = self.sent - delivered;
                // No more than has been delivered so far: what a slow server owes at
                // the end then takes no longer than the run until here.
                let allowed = self.load.in_flight_max.min(FIRST_IN_FLIGHT + delivered);
                allowed.saturating_sub(in_flight).min(left)
            }
        }
    }

    /// How long the next poll may take.
    fn wait(&self, pool: &ClientPool) -> Duration {
        let longest = Duration::from_millis(POLL_MS_MAX);
        match self.load.rate {
            Some(rate) if !self.is_over => {
                let due = Duration::from_secs_f64(self.sent as f64 / rate);
                due.saturating_sub(pool.tally.start.elapsed()).min(longest)
            }
            _ => longest,
        }
    }
}

/// The members that come and go.
#[derive(Default)]
struct Visits {
    count: u64,
    since: Vec<Option<(Instant, u64)>>,
}

impl Visits {
    fn replace_due(
        &mut self,
        load: &Load,
        pool: &mut ClientPool,
        is_over: bool,
    ) -> Result<(), Failure> {
        self.since.resize(load.visiting, None);
        let first = load.members + load.stalling;
        for (offset, since) in self.since.iter_mut().enumerate() {
            let index = first + offset;
            if is_over || !pool.is_joined(index) {
                continue;
            }
            let heard = pool.tally.order.len() as u64;
            let (came, heard_at_first) = *since.get_or_insert((Instant::now(), heard));
            if heard - heard_at_first >= VISIT_MESSAGES
                || came.elapsed() >= Duration::from_millis(VISIT_MS_MAX)
            {
                pool.replace(index, Role::Visits(Cursor::from_anywhere()))?;
                *since = None;
                self.count += 1;
            }
        }
        Ok(())
    }
}
