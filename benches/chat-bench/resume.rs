//! The workload `resume`: many members lose their connections, miss messages, and all come
//! back at once, while two users chat at a steady pace. It reports how fast the members
//! have what they missed, whether one lacks a message or has one twice, and how much longer
//! a message of the pair takes meanwhile.

use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use chat::{
    frame::{self, Split},
    wire::{self, Capability, client_envelope::Message as Sent, server_envelope::Message},
};
use mio::{Events, Poll, Token, net::TcpStream};

use crate::{
    client_pool::SILENCE_MS_MAX,
    failure::Failure,
    hostile::{Pace, Run, User, chat, chat_until, join_pair},
    latency::Histogram,
    load::Spent,
    process::Process,
    progress::Progress,
    session::{FRAME_BYTES_MAX, Session, decode, framed},
    socket,
    text::blank,
};

/// The length of the texts that are missed, in bytes.
const TEXT_BYTES: usize = 64;

/// How many of them are on their way at a time: half of the ids that a server remembers at
/// least (CHAT-RES-14).
const IN_FLIGHT_MAX: u64 = 64;

/// How many bytes one read takes.
const READ_BYTES: usize = 256 * 1024;

/// How many bytes of one member are read before the others are.
const READ_BYTES_PER_PASS_MAX: usize = 4 * READ_BYTES;

const EVENTS_MAX: usize = 1_024;

/// Options of the workload.
pub struct Resume {
    pub members: usize,
    /// How many messages each member misses.
    pub missed: u64,
    /// How the pair chats: undisturbed for that long, and then until all members are back.
    pub pace: Pace,
}

/// Results of the workload.
pub struct Outcome {
    /// Messages of the pair, all of them delivered.
    pub messages: u64,
    pub quiet: Run,
    /// Until the last member had everything.
    pub elapsed_s: f64,
    /// Messages that members received again, each once and in order.
    pub resumed: u64,
    pub server_cpu_s: Option<f64>,
    /// The latency of the pair's messages meanwhile, and how late this program sent them.
    pub latency: Histogram,
    pub late: Histogram,
    pub resident_bytes: Option<u64>,
    pub peak_bytes: Option<u64>,
}

/// Runs the workload. Fails if a message is missing or comes twice.
pub fn run(
    resume: &Resume,
    address: SocketAddr,
    server: Option<Process>,
    progress: &mut Progress,
) -> Result<Outcome, Failure> {
    let start = Instant::now();
    let lines = leave_behind(address, resume.members, progress)?;
    speak(address, resume.missed)?;
    let pace = &resume.pace;
    let (mut pair, _) = join_pair(address, pace)?;
    let quiet = chat(&mut pair, pace, start, server, progress)?;
    let resident_bytes = server.and_then(Process::resident_bytes);
    let spent = Spent::begin(server);
    let (elapsed, resumed, latency, late) = thread::scope(|scope| {
        let crowd = scope.spawn(|| Crowd::come_back(address, lines));
        let is_over = || crowd.is_finished();
        let (latency, late) = chat_until(is_over, &mut pair, pace, start, server, progress)?;
        let (elapsed, resumed) = crowd.join().expect("it does not panic")?;
        Ok::<_, Failure>((elapsed, resumed, latency, late))
    })?;
    Ok(Outcome {
        messages: pair.iter().map(User::sent).sum(),
        quiet,
        elapsed_s: elapsed.as_secs_f64(),
        resumed,
        server_cpu_s: spent.end().0,
        latency,
        late,
        resident_bytes,
        peak_bytes: server.and_then(Process::peak_bytes),
    })
}

fn register(name: String, resume: Option<wire::Resume>) -> wire::Register {
    let asked = [Capability::Receipts, Capability::Resume];
    wire::Register {
        name,
        capabilities: asked.map(i32::from).to_vec(),
        resume,
        ..Default::default()
    }
}

/// Members join and lose their connections: what each resumes with.
fn leave_behind(
    address: SocketAddr,
    members: usize,
    progress: &mut Progress,
) -> Result<Vec<Line>, Failure> {
    let mut lines = Vec::new();
    for number in 0..members {
        let name = format!("member{number}");
        let (_, registered) = Session::join(address, register(name.clone(), None))?;
        if registered.resume_token.is_empty() {
            return Err(Failure::unusable("the server resumes no sessions"));
        }
        lines.push(Line {
            name,
            resume: wire::Resume {
                token: registered.resume_token,
                epoch: registered.epoch,
                seq: registered.seq,
                attempt: 1,
            },
        });
        progress.joining(number + 1, members);
    }
    Ok(lines)
}

/// Sends what is missed, and waits until all of it is accepted.
fn speak(address: SocketAddr, count: u64) -> Result<(), Failure> {
    let (mut speaker, _) = Session::join(address, register("speaker".to_owned(), None))?;
    let text = String::from_utf8(blank(TEXT_BYTES)).expect("it is ASCII");
    let (mut sent, mut accepted) = (0, 0);
    while accepted < count {
        while sent < count && sent - accepted < IN_FLIGHT_MAX {
            sent += 1;
            speaker.send(Sent::Chat(wire::Chat {
                text: text.clone(),
                id: sent,
                ..Default::default()
            }))?;
        }
        if let Message::Receipt(_) = speaker.receive()? {
            accepted += 1;
        }
    }
    speaker.send(Sent::Leave(wire::Leave {}))
}

/// A session that can be resumed.
struct Line {
    name: String,
    resume: wire::Resume,
}

/// A member that comes back.
struct Member {
    stream: TcpStream,
    name: String,
    /// The rest of its Register, which is not sent yet.
    out: Vec<u8>,
    /// The start of a frame that has not arrived completely.
    held: Vec<u8>,
    /// The number of the next message.
    next: u64,
    /// The number of the last one that it missed, once it is told.
    last: Option<u64>,
}

/// All of them, driven by one thread.
struct Crowd {
    poll: Poll,
    members: Vec<Member>,
    /// Those that have more to read than one pass takes.
    unfinished: Vec<usize>,
    buffer: Vec<u8>,
    resumed: u64,
    back: usize,
}

impl Crowd {
    /// All come back at once. Returns how long it took, and how many messages came.
    fn come_back(address: SocketAddr, lines: Vec<Line>) -> Result<(Duration, u64), Failure> {
        let begun = Instant::now();
        let mut crowd = Self {
            poll: Poll::new()?,
            members: Vec::new(),
            unfinished: Vec::new(),
            buffer: vec![0; READ_BYTES],
            resumed: 0,
            back: 0,
        };
        for (index, Line { name, resume }) in lines.into_iter().enumerate() {
            let (stream, connected) = socket::connect(address, true, &crowd.poll, Token(index))?;
            connected?;
            let next = resume.seq + 1;
            crowd.members.push(Member {
                stream,
                out: framed(Sent::Register(register(name.clone(), Some(resume)))),
                name,
                held: Vec::new(),
                next,
                last: None,
            });
        }
        let mut events = Events::with_capacity(EVENTS_MAX);
        let silence = Duration::from_millis(SILENCE_MS_MAX);
        while crowd.back < crowd.members.len() {
            let wait = match crowd.unfinished.is_empty() {
                true => silence,
                false => Duration::ZERO,
            };
            crowd.poll.poll(&mut events, Some(wait)).or_else(|error| {
                let is_passing = error.kind() == ErrorKind::Interrupted;
                is_passing.then_some(()).ok_or(error)
            })?;
            let unfinished = std::mem::take(&mut crowd.unfinished);
            if events.is_empty() && unfinished.is_empty() {
                let away = crowd.members.len() - crowd.back;
                let sentence = format!("{away} members do not have what they missed");
                return Err(Failure::lost(sentence));
            }
            for event in &events {
                crowd.write(event.token().0)?;
            }
            let ready = events.iter().map(|event| event.token().0);
            for index in ready.chain(unfinished).collect::<Vec<_>>() {
                crowd.read(index)?;
            }
        }
        Ok((begun.elapsed(), crowd.resumed))
    }

    fn write(&mut self, index: usize) -> Result<(), Failure> {
        let member = &mut self.members[index];
        while !member.out.is_empty() {
            match member.stream.write(&member.out) {
                Ok(bytes) => _ = member.out.drain(..bytes),
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::NotConnected => break,
                    _ => return Err(error.into()),
                },
            }
        }
        Ok(())
    }

    fn read(&mut self, index: usize) -> Result<(), Failure> {
        let mut bytes_read = 0;
        loop {
            let member = &mut self.members[index];
            match member.stream.read(&mut self.buffer) {
                Ok(0) => {
                    let sentence = format!("the server closed the connection of {}", member.name);
                    return Err(Failure::lost(sentence));
                }
                Ok(bytes) => {
                    let was_away = member.is_away();
                    member.held.extend_from_slice(&self.buffer[..bytes]);
                    self.resumed += member.take()?;
                    self.back += usize::from(was_away && !member.is_away());
                    bytes_read += bytes;
                    if bytes_read >= READ_BYTES_PER_PASS_MAX {
                        self.unfinished.push(index);
                        return Ok(());
                    }
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock | ErrorKind::NotConnected => return Ok(()),
                    _ => return Err(error.into()),
                },
            }
        }
    }
}

impl Member {
    /// Whether it lacks something of what it missed.
    fn is_away(&self) -> bool {
        self.last.is_none_or(|last| self.next <= last)
    }

    /// Takes the frames that are complete. Returns how many messages that were missed are
    /// among them.
    fn take(&mut self) -> Result<u64, Failure> {
        let mut resumed = 0;
        let mut used = 0;
        loop {
            let (body, rest) = match frame::split(&self.held[used..], FRAME_BYTES_MAX) {
                Ok(Split::Frame { body, rest }) => (body, rest),
                Ok(Split::Partial) => break,
                Err(error) => return Err(Failure::protocol(error.to_string())),
            };
            match decode(body)? {
                Some(Message::Registered(registered)) => {
                    if registered.resumed_from != self.next {
                        return Err(Failure::unusable(format!(
                            "the server does not have all that {} missed: it needs more memory \
                             for that (--history-memory), or --data",
                            self.name
                        )));
                    }
                    self.last = Some(registered.seq);
                }
                Some(Message::Chat(chat)) => {
                    if chat.seq != self.next {
                        return Err(Failure::lost(format!(
                            "{} has message {} where {} is due",
                            self.name, chat.seq, self.next
                        )));
                    }
                    resumed += u64::from(self.last.is_some_and(|last| self.next <= last));
                    self.next += 1;
                }
                _ => {}
            }
            used = self.held.len() - rest.len();
        }
        self.held.drain(..used);
        Ok(resumed)
    }
}
