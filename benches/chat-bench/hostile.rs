//! The workload `hostile`: two users chat at a steady pace, first undisturbed, then
//! under attack. It reports whether the pair loses a message, how much longer a message
//! takes, how much memory the server uses, and what the server tells the attackers.
//!
//! The attackers run in a thread of their own ([`attack`]), so that they disturb the
//! measurement as little as the machine allows.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    attack::{self, Ends},
    client_pool::SILENCE_MS_MAX,
    dialect::{JoinAs, Protocol, Unit},
    failure::Failure,
    latency::Histogram,
    options::Attackers,
    order::{check_rest, stamp},
    process::Process,
    progress::Progress,
    text::{Stamp, blank},
};

/// The length of the pair's texts, in bytes.
const TEXT_BYTES: usize = 64;

/// The length of a round of [`chat_until`], in seconds.
const ROUND_SECONDS: u32 = 1;

/// How long one wait for bytes takes, in milliseconds.
const LOOK_MS: u64 = 100;

/// How many bytes one read takes.
const READ_BYTES: usize = 64 * 1024;

/// Options of the workload.
pub struct Hostile {
    pub pace: Pace,
    pub attackers: Attackers,
}

/// How the pair chats in one run.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Messages a second that each of the two users sends.
    pub rate: u32,
    /// The length of the run, in seconds.
    pub seconds: u32,
}

/// Results of the workload.
pub struct Outcome {
    /// Messages of the pair in both runs, all of them delivered.
    pub messages: u64,
    pub quiet: Run,
    pub attacked: Run,
    /// The server's peak memory since its start, in bytes.
    pub peak_bytes: Option<u64>,
    pub ends: Ends,
}

/// One of the two runs.
pub struct Run {
    /// The latency of the messages.
    pub latency: Histogram,
    /// How late this program sent them: the delay that the machine imposes on every
    /// process, the server included.
    pub late: Histogram,
    /// The server's CPU time as a share of one core.
    pub server_cpu_share: Option<f64>,
}

/// Runs the workload. Fails if the pair loses a message.
pub fn run(
    hostile: &Hostile,
    address: SocketAddr,
    server: Option<Process>,
    progress: &mut Progress,
) -> Result<Outcome, Failure> {
    let start = Instant::now();
    let pace = hostile.pace;
    let (mut pair, interval_ms) = join_pair(address, &pace)?;
    let member_rate = match interval_ms {
        0 => f64::from(pace.rate),
        interval_ms => 1_000.0 / f64::from(interval_ms),
    };

    let quiet = chat(&mut pair, &pace, start, server, progress)?;
    let is_over = Arc::new(AtomicBool::new(false));
    let attack = {
        let is_over = Arc::clone(&is_over);
        let attackers = hostile.attackers;
        let time = Duration::from_secs(pace.seconds.into());
        thread::spawn(move || attack::run(address, attackers, member_rate, time, &is_over))
    };
    let attacked = chat(&mut pair, &pace, start, server, progress);
    is_over.store(true, Ordering::Relaxed);
    let ends = attack.join().expect("the attackers do not panic");
    Ok(Outcome {
        attacked: attacked?,
        quiet,
        messages: pair.iter().map(User::sent).sum(),
        peak_bytes: server.and_then(Process::peak_bytes),
        ends: ends?,
    })
}

/// Both users join, to chat at this pace; also returns the announced interval between
/// messages, in milliseconds.
pub fn join_pair(address: SocketAddr, pace: &Pace) -> Result<([User; 2], u32), Failure> {
    let (first, interval_ms) = User::join(address, 0)?;
    let (second, _) = User::join(address, 1)?;
    check_pace(pace, interval_ms)?;
    Ok(([first, second], interval_ms))
}

/// Both users chat in rounds until `is_over`. Returns the latency of their messages, and how
/// late they were sent.
pub fn chat_until(
    is_over: impl Fn() -> bool,
    pair: &mut [User; 2],
    pace: &Pace,
    start: Instant,
    server: Option<Process>,
    progress: &mut Progress,
) -> Result<(Histogram, Histogram), Failure> {
    let (mut latency, mut late) = (Histogram::new(), Histogram::new());
    let round = Pace {
        seconds: ROUND_SECONDS,
        ..*pace
    };
    while !is_over() {
        let run = chat(pair, &round, start, server, progress)?;
        latency.add(&run.latency);
        late.add(&run.late);
    }
    Ok((latency, late))
}

/// Refuses a pace at which the server would refuse messages.
fn check_pace(pace: &Pace, interval_ms: u32) -> Result<(), Failure> {
    if pace.rate.saturating_mul(interval_ms) > 1_000 {
        return Err(Failure::unusable(format!(
            "the server lets a member send one message every {interval_ms} ms: \
             lower --rate"
        )));
    }
    Ok(())
}

/// One of the two users.
pub struct User {
    number: usize,
    stream: TcpStream,
    sent: u32,
    /// How many messages of the other user it has received.
    received: u32,
    /// The start of a unit that has not arrived completely.
    held: Vec<u8>,
}

fn name(number: usize) -> String {
    format!("pair{number}")
}

/// Both users send the messages of one run and receive each other's.
pub fn chat(
    pair: &mut [User; 2],
    pace: &Pace,
    start: Instant,
    server: Option<Process>,
    progress: &mut Progress,
) -> Result<Run, Failure> {
    let cpu_s = || server.and_then(Process::cpu_s);
    let (run_start, cpu_before_s) = (Instant::now(), cpu_s());
    let count = pace.rate * pace.seconds;
    let mut senders = Vec::new();
    for user in pair.iter_mut() {
        let first = user.sent;
        user.sent += count;
        senders.push((user.number, user.stream.try_clone()?, first));
    }
    thread::scope(|scope| {
        let receiving: Vec<_> = pair
            .iter_mut()
            .map(|user| scope.spawn(move || user.receive(count, start)))
            .collect();
        let sent = send_all(&mut senders, pace, start, progress);
        let mut latency = Histogram::new();
        for receiver in receiving {
            latency.add(&receiver.join().expect("nobody panics")?);
        }
        let elapsed_s = run_start.elapsed().as_secs_f64();
        let used_s = cpu_s().zip(cpu_before_s);
        Ok(Run {
            latency,
            late: sent?,
            server_cpu_share: used_s.map(|(after, before)| (after - before) / elapsed_s),
        })
    })
}

/// Sends the messages of one run, the users in turn, each message at its time; returns
/// how late they were.
fn send_all(
    senders: &mut [(usize, TcpStream, u32)],
    pace: &Pace,
    start: Instant,
    progress: &mut Progress,
) -> Result<Histogram, Failure> {
    let (head, tail) = Protocol::Chat.dialect().around_text(TEXT_BYTES);
    let text_at = head.len();
    let mut frame = [head, blank(TEXT_BYTES), tail].concat();
    let run_start = Instant::now();
    let time = Duration::from_secs(pace.seconds.into());
    let messages = pace.rate * pace.seconds * 2;
    let mut late = Histogram::new();
    for count in 0..messages {
        let due = time.mul_f64(f64::from(count) / f64::from(messages));
        thread::sleep(due.saturating_sub(run_start.elapsed()));
        late.record(run_start.elapsed().saturating_sub(due).as_nanos() as u64);
        let (number, stream, first) = &mut senders[count as usize % 2];
        let stamp = Stamp {
            sender: *number,
            index: *first + count / 2,
            sent_ns: start.elapsed().as_nanos() as u64,
        };
        stamp.write(&mut frame[text_at..]);
        let name = name(*number);
        stream
            .write_all(&frame)
            .map_err(|error| Failure::lost(format!("{name} cannot send: {error}")))?;
        progress.running(run_start.elapsed(), time, count.into());
    }
    Ok(late)
}

impl User {
    /// Connects and registers; also returns the announced interval between messages, in
    /// milliseconds.
    fn join(address: SocketAddr, number: usize) -> Result<(Self, u32), Failure> {
        let mut stream = TcpStream::connect(address).map_err(|error| {
            Failure::unusable(format!("no server answers at {address}: {error}"))
        })?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_millis(LOOK_MS)))?;
        stream.set_write_timeout(Some(Duration::from_millis(SILENCE_MS_MAX)))?;
        let register = Protocol::Chat.dialect().join(&name(number), JoinAs::Reader);
        stream.write_all(&register)?;
        let mut user = Self {
            number,
            stream,
            sent: 0,
            received: 0,
            held: Vec::new(),
        };
        let mut joined = None;
        let mut waited = Duration::ZERO;
        while joined.is_none() {
            waited += user.read()?;
            if waited > Duration::from_millis(SILENCE_MS_MAX) {
                return Err(Failure::unusable(
                    "the server does not answer: is it a server of this protocol?",
                ));
            }
            user.units(|_, unit| match unit {
                Unit::Joined { interval_ms } => {
                    joined = Some(interval_ms);
                    Ok(())
                }
                Unit::Refused(sentence) => Err(Failure::unusable(format!(
                    "the server refused {}: {sentence}",
                    name(number)
                ))),
                _ => Ok(()),
            })?;
        }
        Ok((user, joined.unwrap_or_default()))
    }

    /// How many messages it has sent.
    pub fn sent(&self) -> u64 {
        self.sent.into()
    }

    /// Receives `count` more messages of the other user, complete and in order, among
    /// whatever else arrives.
    fn receive(&mut self, count: u32, start: Instant) -> Result<Histogram, Failure> {
        let other = 1 - self.number;
        let end = self.received + count;
        let mut latency = Histogram::new();
        let mut waited = Duration::ZERO;
        let blank = blank(TEXT_BYTES);
        while self.received < end {
            let received_before = self.received;
            waited += self.read()?;
            let now_ns = start.elapsed().as_nanos() as u64;
            self.units(|received, unit| match unit {
                Unit::Message(message) if message.sender == Some(name(other).as_bytes()) => {
                    let stamp = stamp(&message)?;
                    check_rest(&message, &blank)?;
                    if stamp.index != *received {
                        return Err(Failure::lost(format!(
                            "message {received} of {} was followed by its message {}: \
                             one is missing or was repeated",
                            name(other),
                            u64::from(stamp.index) + 1
                        )));
                    }
                    *received += 1;
                    latency.record(now_ns.saturating_sub(stamp.sent_ns));
                    Ok(())
                }
                Unit::Refused(sentence) => Err(Failure::lost(format!(
                    "the server refused a message of the pair: {sentence}"
                ))),
                _ => Ok(()),
            })?;
            if self.received > received_before {
                waited = Duration::ZERO;
            } else if waited > Duration::from_millis(SILENCE_MS_MAX) {
                return Err(Failure::lost(format!(
                    "{} did not receive message {} of {}",
                    name(self.number),
                    self.received + 1,
                    name(other)
                )));
            }
        }
        Ok(latency)
    }

    /// Waits a moment for more bytes; returns how long, without the time in which this
    /// program was not scheduled.
    fn read(&mut self) -> Result<Duration, Failure> {
        let asked = Instant::now();
        let held_bytes = self.held.len();
        self.held.resize(held_bytes + READ_BYTES, 0);
        let read = self.stream.read(&mut self.held[held_bytes..]);
        let is_pause = |error: &io::Error| {
            matches!(
                error.kind(),
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
            )
        };
        let bytes = match read {
            Ok(bytes @ 1..) => bytes,
            Err(error) if is_pause(&error) => 0,
            Ok(0) | Err(_) => {
                return Err(Failure::lost(format!(
                    "the server closed the connection of {}",
                    name(self.number)
                )));
            }
        };
        self.held.truncate(held_bytes + bytes);
        Ok(asked.elapsed().min(Duration::from_millis(LOOK_MS)))
    }

    /// Handles the received units. `on_unit` also gets [`User::received`].
    fn units(
        &mut self,
        mut on_unit: impl FnMut(&mut u32, Unit<'_>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let dialect = Protocol::Chat.dialect();
        let mut used = 0;
        while let Some((bytes, unit)) = dialect
            .split(&self.held[used..], JoinAs::Reader)
            .map_err(Failure::protocol)?
        {
            used += bytes;
            on_unit(&mut self.received, unit)?;
        }
        self.held.drain(..used);
        Ok(())
    }
}
