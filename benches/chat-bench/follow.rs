//! The workload `follow`: many topics, of which each member follows a few and a sender
//! sends about all, some of them far more often than others (Zipf). It tells what a
//! delivery costs beside one to members that hear everything, and what a message costs
//! that no member follows.
//!
//! Which member follows what, and which message is about what, is the same in each run
//! with the same options, whatever the protocol.

use std::time::{Duration, Instant};

use crate::{
    client_pool::ClientPool,
    dialect::Protocol,
    digest::Digest,
    failure::Failure,
    link::Link,
    load::{self, BATCH_BYTES, FIRST_IN_FLIGHT, Load, POLL_MS_MAX, QUIET_MS, SETTLE_MS, settle},
    member::Role,
    process::Process,
    progress::Progress,
    text::{Stamp, blank},
};

/// The most topics.
pub const TOPICS_MAX: u16 = 10_000;

/// The most topics that a member follows: a filter has place for more, a Register of 1,024
/// bytes has not.
pub const FOLLOWS_MAX: u16 = 50;

/// How many times a topic is drawn that a member follows already, before the next one is
/// taken that it does not.
const DRAWS_MAX: usize = 100;

/// The most messages of a run.
const MESSAGES_MAX: usize = 50_000_000;

/// Parameters of the workload.
pub struct Follow {
    /// Without topics: as many members, texts and seconds.
    pub load: Load,
    pub topics: u16,
    /// How many topics each member follows.
    pub follows: u16,
}

/// Results of the workload.
pub struct Outcome {
    pub followed: load::Outcome,
    /// Messages that no member follows, and what each costs the server.
    pub unfollowed: u64,
    pub unfollowed_cpu_s: Option<f64>,
    /// The same members without a filter, where the protocol knows such.
    pub unfiltered: Option<load::Outcome>,
}

/// A member that follows some topics.
pub struct Follower {
    pub topics: Vec<usize>,
    /// The index of the message that it has received last.
    last: Option<u32>,
    received: u64,
}

impl Follower {
    /// It has received a message. `topics`: what each message is about.
    pub fn take(&mut self, stamp: Stamp, topics: &[u16]) -> Result<(), Failure> {
        let Stamp { index, .. } = stamp;
        let number = u64::from(index) + 1;
        let Some(&topic) = topics.get(index as usize) else {
            return Err(Failure::lost(format!(
                "message {number} arrived, which was not sent"
            )));
        };
        if !self.topics.contains(&topic.into()) {
            return Err(Failure::lost(format!(
                "a member received message {number}, which is about a topic that it does not follow"
            )));
        }
        if let Some(last) = self.last.filter(|&last| last >= index) {
            return Err(Failure::lost(format!(
                "message {} was followed by message {number}: it was repeated or out of order",
                u64::from(last) + 1
            )));
        }
        self.last = Some(index);
        self.received += 1;
        Ok(())
    }
}

/// Runs the workload. Fails if anything is lost, or comes to a member that does not follow
/// it.
pub fn run(
    follow: &Follow,
    link: &Link,
    protocol: Protocol,
    server: Option<Process>,
    progress: &mut Progress,
) -> Result<Outcome, Failure> {
    let unfiltered = match protocol {
        Protocol::Chat => Some(load::run(&follow.load, link, protocol, server, progress)?),
        _ => None,
    };
    let load = &follow.load;
    let mut pool = ClientPool::new(link, protocol.dialect(), 1, load.text_bytes)?;
    pool.has_topics = true;
    // The server may not have noticed yet that those before are gone.
    pool.names = load.members;
    let mut draw = Draw::new(follow.topics);
    let sender = Role::Sends {
        number: 0,
        received: Digest::new(),
    };
    let following = (1..load.members).map(|_| {
        Role::Follows(Follower {
            topics: draw.some(follow.follows.into()),
            last: None,
            received: 0,
        })
    });
    let following: Vec<_> = following.collect();
    pool.join_all(
        [sender].into_iter().chain(following),
        protocol.joining_max(),
        |joined| progress.joining(joined, load.members),
    )?;
    load::check_rate(load, pool.interval_ms)?;
    settle(&mut pool, Duration::from_millis(SETTLE_MS))?;

    let mut sending = Sending::new(follow, &pool, draw);
    let followed = sending.followed(&mut pool, server, progress)?;
    let (unfollowed, unfollowed_cpu_s) = sending.unfollowed(&mut pool, server, progress)?;
    settle(&mut pool, Duration::from_millis(QUIET_MS))?;
    sending.check(&pool)?;
    Ok(Outcome {
        followed,
        unfollowed,
        unfollowed_cpu_s,
        unfiltered,
    })
}

/// Draws topics: the n-th is as frequent as 1 in n (Zipf).
struct Draw {
    /// The sum of the weights up to each topic.
    sums: Vec<f64>,
    state: u64,
}

impl Draw {
    fn new(topics: u16) -> Self {
        let sums = (1..=topics).scan(0.0, |sum, rank| {
            *sum += 1.0 / f64::from(rank);
            Some(*sum)
        });
        Self {
            sums: sums.collect(),
            state: 1,
        }
    }

    /// The next pseudo-random number (SplitMix64), from 0 to 1.
    fn number(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as f64 / 2f64.powi(64)
    }

    fn one(&mut self) -> usize {
        let sum = self.sums.last().copied().unwrap_or_default();
        let drawn = self.number() * sum;
        let topic = self.sums.partition_point(|&sum| sum <= drawn);
        topic.min(self.sums.len() - 1)
    }

    /// Some that differ.
    fn some(&mut self, count: usize) -> Vec<usize> {
        let mut topics: Vec<usize> = Vec::new();
        while topics.len() < count.min(self.sums.len()) {
            let drawn = (0..DRAWS_MAX).map(|_| self.one()).collect::<Vec<_>>();
            let all = drawn.into_iter().chain(0..self.sums.len());
            let mut new = all.filter(|topic| !topics.contains(topic));
            topics.extend(new.next());
        }
        topics
    }
}

/// The sender's side of a run.
struct Sending<'a> {
    load: &'a Load,
    draw: Draw,
    /// A message about each topic, and behind them one about a topic that no member
    /// follows; and where the text is in it.
    frames: Vec<(Vec<u8>, usize)>,
    /// How many members follow each topic.
    followers: Vec<u64>,
    /// How many deliveries were caused so far.
    due: u64,
}

impl<'a> Sending<'a> {
    fn new(follow: &'a Follow, pool: &ClientPool, draw: Draw) -> Self {
        let load = &follow.load;
        let topics = usize::from(follow.topics);
        let frames = (0..=topics).map(|topic| {
            let (head, tail) = pool.dialect.around_text_about(topic, load.text_bytes);
            let text_at = head.len();
            ([head, blank(load.text_bytes), tail].concat(), text_at)
        });
        let mut followers = vec![0; topics + 1];
        for connection in &pool.connections {
            for &topic in connection.role.topics() {
                followers[topic] += 1;
            }
        }
        Self {
            load,
            draw,
            frames: frames.collect(),
            followers,
            due: 0,
        }
    }

    /// How many deliveries a message causes, on average.
    fn deliveries_each(&self) -> f64 {
        let (mut before, mut sum) = (0.0, 0.0);
        for (&until, &followers) in self.draw.sums.iter().zip(&self.followers) {
            sum += (until - before) * followers as f64;
            before = until;
        }
        sum / before
    }

    /// Sends messages, each about the topic that `next` gives for it.
    fn send(
        &mut self,
        pool: &mut ClientPool,
        count: u64,
        mut next: impl FnMut(&mut Draw) -> usize,
    ) -> Result<(), Failure> {
        let sent_ns = pool.tally.start.elapsed().as_nanos() as u64;
        for _ in 0..count {
            let topic = next(&mut self.draw);
            let (frame, text_at) = &mut self.frames[topic];
            let stamp = Stamp {
                sender: 0,
                // No more than MESSAGES_MAX.
                index: pool.tally.topics.len() as u32,
                sent_ns,
            };
            stamp.write(&mut frame[*text_at..]);
            pool.out(0).extend_from_slice(frame);
            pool.tally.topics.push(topic as u16);
            self.due += self.followers[topic];
        }
        pool.write(0)
    }

    /// How many messages fit into one batch, of `count` that may be sent.
    fn batch(&self, pool: &ClientPool, count: u64) -> u64 {
        let fit = (BATCH_BYTES / self.frames[0].0.len()).max(1) as u64;
        let left = MESSAGES_MAX.saturating_sub(pool.tally.topics.len());
        count.min(fit).min(left as u64)
    }

    /// Sends as fast as the server takes it, about the topics as they are drawn.
    fn followed(
        &mut self,
        pool: &mut ClientPool,
        server: Option<Process>,
        progress: &mut Progress,
    ) -> Result<load::Outcome, Failure> {
        let each = self.deliveries_each();
        let spent = load::Spent::begin(server);
        pool.tally.start = Instant::now();
        pool.active = pool.tally.start;
        let mut is_over = false;
        while !is_over || pool.tally.deliveries < self.due {
            let elapsed = pool.tally.start.elapsed();
            is_over |= elapsed >= self.load.duration;
            if !is_over && pool.is_flushed(0) {
                let delivered = (pool.tally.deliveries as f64 / each) as u64;
                let in_flight = (self.due as f64 / each) as u64 - delivered;
                let allowed = self.load.in_flight_max.min(FIRST_IN_FLIGHT + delivered);
                let left = self
                    .load
                    .messages_max
                    .saturating_sub(pool.tally.topics.len() as u64);
                let batch = self.batch(pool, allowed.saturating_sub(in_flight).min(left));
                is_over |= left == 0 || pool.tally.topics.len() >= MESSAGES_MAX;
                self.send(pool, batch, Draw::one)?;
            }
            self.wait(pool)?;
            progress.running(elapsed, self.load.duration, pool.tally.deliveries);
        }
        let elapsed_s = pool.tally.start.elapsed().as_secs_f64();
        let (server_cpu_s, own_cpu_s) = spent.end();
        Ok(load::Outcome {
            messages: pool.tally.topics.len() as u64,
            deliveries: pool.tally.deliveries,
            elapsed_s,
            server_cpu_s,
            own_cpu_s,
            bytes_per_connection: None,
            latency: pool.tally.latency.clone(),
            visits: 0,
        })
    }

    /// Sends as fast as the server takes it, about a topic that no member follows. Returns
    /// how many, and what they cost the server.
    fn unfollowed(
        &mut self,
        pool: &mut ClientPool,
        server: Option<Process>,
        progress: &mut Progress,
    ) -> Result<(u64, Option<f64>), Failure> {
        let topic = self.followers.len() - 1;
        let before = pool.tally.topics.len();
        let start = Instant::now();
        let spent = load::Spent::begin(server);
        while start.elapsed() < self.load.duration {
            let sent = (pool.tally.topics.len() - before) as u64;
            let left = self.load.messages_max.saturating_sub(sent);
            let batch = self.batch(pool, left);
            if batch == 0 {
                break;
            }
            if pool.is_flushed(0) {
                self.send(pool, batch, |_| topic)?;
            }
            pool.poll(Some(Duration::from_millis(POLL_MS_MAX)))?;
            progress.running(start.elapsed(), self.load.duration, pool.tally.deliveries);
        }
        let sent = (pool.tally.topics.len() - before) as u64;
        // The server has dealt with them when it has with the one behind them, which few
        // members follow.
        let few = self.followers.iter().enumerate();
        let few = few.filter(|&(_, &count)| count > 0);
        let (few, _) = few
            .min_by_key(|&(_, &count)| count)
            .ok_or_else(|| Failure::unusable("no member follows anything"))?;
        self.send(pool, 1, |_| few)?;
        pool.active = Instant::now();
        while pool.tally.deliveries < self.due {
            self.wait(pool)?;
        }
        Ok((sent, spent.end().0))
    }

    fn wait(&self, pool: &mut ClientPool) -> Result<(), Failure> {
        pool.poll(Some(Duration::from_millis(POLL_MS_MAX)))?;
        pool.check_silence().map_err(|silence| {
            Failure::lost(format!(
                "{silence}, and members still miss messages: they were lost"
            ))
        })
    }

    /// Checks that each member has received all that it follows. What it received was in
    /// order, and nothing else.
    fn check(&self, pool: &ClientPool) -> Result<(), Failure> {
        let mut sent = vec![0; self.followers.len()];
        for &topic in &pool.tally.topics {
            sent[usize::from(topic)] += 1;
        }
        for connection in &pool.connections {
            let Role::Follows(follower) = &connection.role else {
                continue;
            };
            let due: u64 = follower.topics.iter().map(|&topic| sent[topic]).sum();
            if follower.received != due {
                return Err(Failure::lost(format!(
                    "{} received {} messages of {due}: some are missing",
                    connection.name, follower.received
                )));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_topics_are_drawn_most_often() {
        let mut draw = Draw::new(1_000);
        let mut counts = vec![0_u32; 1_000];
        for _ in 0..100_000 {
            counts[draw.one()] += 1;
        }
        // 1 / 7.485, the sum of the first thousand weights.
        assert!((13_000..13_800).contains(&counts[0]), "{}", counts[0]);
        assert!((6_300..7_100).contains(&counts[1]), "{}", counts[1]);
        assert!(counts[999] < 50);
    }

    #[test]
    fn topics_of_a_member_differ() {
        let mut draw = Draw::new(5);
        let mut topics = draw.some(5);
        topics.sort_unstable();
        assert_eq!(topics, [0, 1, 2, 3, 4]);
    }

    #[test]
    fn only_what_is_followed_may_come_and_in_order() {
        let topics = [0, 7, 1, 0];
        let stamp = |index| Stamp {
            sender: 0,
            index,
            sent_ns: 0,
        };
        let follower = || Follower {
            topics: vec![0, 1],
            last: None,
            received: 0,
        };
        let mut good = follower();
        for index in [0, 2, 3] {
            assert!(good.take(stamp(index), &topics).is_ok());
        }
        assert_eq!(good.received, 3);
        for (indices, sentence) in [
            (&[1][..], "does not follow"),
            (&[0, 0], "repeated"),
            (&[2, 0], "out of order"),
            (&[4], "not sent"),
        ] {
            let mut follower = follower();
            let taken = indices
                .iter()
                .try_for_each(|&index| follower.take(stamp(index), &topics));
            let failure = taken.expect_err("it is wrong").to_string();
            assert!(failure.contains(sentence), "{failure}");
        }
    }
}
