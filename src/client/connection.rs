//! Connection: one connection of a session. One loop reads it, one writes it
//! (`writing`), and neither blocks the other.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::io::AsyncRead;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::codec::FramedRead;

use super::codec::{ByteStream, Codec, Halves};
use super::event::{Ending, Event};
use super::files::{Answer, Transfers};
use super::follow::Follows;
use super::history::Pages;
use super::resume::Line;
use super::send_queue::SendQueue;
use super::writing::{Inputs, Shared, Written, now, write};
use crate::identity::SenderId;
use crate::wire::{
    Capability, Chat, Covered, Error, ErrorCode, Following, Ping, Pong, Registered,
    client_envelope, server_envelope,
};

/// How many pings and pongs may wait to be written. A server that sends more pings
/// without reading the answers is not read either.
const CONTROLS_QUEUED_MAX: usize = 16;

/// How long to wait for the server to close after Leave, in milliseconds.
const CLOSE_TIMEOUT_MS: u64 = 5_000;

/// How long to read on for the server's reason after a failed write, in milliseconds.
const REASON_TIMEOUT_MS: u64 = 1_000;

/// The shortest silence that is answered with a ping, in milliseconds, whatever the
/// server announces.
const KEEPALIVE_INTERVAL_MS_MIN: u32 = 50;

/// How long one connection may be silent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keepalive {
    interval: Duration,
    deadline: Duration,
}

impl Keepalive {
    /// As the server announced it; `None` without keepalive.
    pub(super) fn new(registered: &Registered) -> Option<Self> {
        let limits = registered.limits.unwrap_or_default();
        let interval_ms = limits.keepalive_interval_ms.max(KEEPALIVE_INTERVAL_MS_MIN);
        let is_granted = registered
            .capabilities
            .contains(&Capability::Keepalive.into());
        is_granted.then(|| Self {
            interval: Duration::from_millis(interval_ms.into()),
            // At least one more interval, so that the answer to a ping can arrive.
            deadline: Duration::from_millis(
                u64::from(limits.idle_deadline_ms).max(2 * u64::from(interval_ms)),
            ),
        })
    }
}

/// How a connection ended.
pub(super) struct Over {
    pub(super) ending: Ending,
    /// Leave was sent: there is nothing to continue.
    pub(super) has_left: bool,
    /// It was given up, since no receipt came for too long.
    pub(super) has_stalled: bool,
}

/// What the loops of a connection have in common, and what outlives it.
pub(super) struct Connection<'a> {
    pub(super) queue: &'a Mutex<SendQueue>,
    /// Notified when an answer may let the writer continue.
    pub(super) answered: &'a Notify,
    pub(super) keepalive: Option<Keepalive>,
    pub(super) line: &'a mut Line,
    pub(super) events: &'a mpsc::Sender<Event>,
    /// Events that the user has not been given yet.
    pub(super) undelivered: &'a mut VecDeque<Event>,
    pub(super) pages: &'a Mutex<Pages>,
    pub(super) follows: &'a Mutex<Follows>,
    pub(super) transfers: &'a Mutex<Transfers>,
    pub(super) inputs: Inputs<'a>,
    /// Whether to give up the connection when no receipt comes, and not to leave.
    pub(super) is_stall_lost: bool,
}

impl Connection<'_> {
    /// Runs until the session ends or the connection is lost.
    pub(super) async fn run(self, halves: Halves<ByteStream>) -> Over {
        let Halves { reader, writer } = halves;
        let (controls, controls_queued) = mpsc::channel(CONTROLS_QUEUED_MAX);
        let shared = Shared {
            queue: self.queue,
            answered: self.answered,
            pages: self.pages,
            follows: self.follows,
            transfers: self.transfers,
            is_stall_lost: self.is_stall_lost,
        };
        let mut received = Receiver {
            keepalive: self.keepalive,
            line: self.line,
            controls,
            events: self.events,
            undelivered: self.undelivered,
        };
        let reading = read(reader, &shared, &mut received);
        let writing = write(writer, &shared, controls_queued, self.inputs);
        tokio::pin!(reading, writing);
        let mut over = Over {
            ending: Ending::Left,
            has_left: false,
            has_stalled: false,
        };
        // The loop that is dropped here has nothing left to do.
        over.ending = tokio::select! {
            ending = &mut reading => ending,
            written = &mut writing => match written {
                Written::Left => {
                    over.has_left = true;
                    // The server first sends what is queued, then closes
                    // (CHAT-LEAVE-2).
                    let wait = Duration::from_millis(CLOSE_TIMEOUT_MS);
                    match timeout(wait, reading).await {
                        Ok(Ending::Lost { .. }) | Err(_) => Ending::Left,
                        Ok(ending) => ending,
                    }
                }
                Written::Stalled => {
                    over.has_stalled = true;
                    lost("the server confirmed nothing for too long")
                }
                Written::Failed(reason) => {
                    // The server may have sent its reason before it closed.
                    let wait = Duration::from_millis(REASON_TIMEOUT_MS);
                    timeout(wait, reading).await.unwrap_or(Ending::Lost { reason })
                }
            },
        };
        over
    }
}

/// Gives the user what waits. Cancel safe.
pub(super) async fn deliver(events: &mpsc::Sender<Event>, undelivered: &mut VecDeque<Event>) {
    while !undelivered.is_empty() {
        // A dropped session needs no events.
        let Ok(place) = events.reserve().await else {
            return undelivered.clear();
        };
        if let Some(event) = undelivered.pop_front() {
            place.send(event);
        }
    }
}

/// What the read loop works on.
struct Receiver<'a> {
    keepalive: Option<Keepalive>,
    line: &'a mut Line,
    controls: mpsc::Sender<client_envelope::Message>,
    events: &'a mpsc::Sender<Event>,
    undelivered: &'a mut VecDeque<Event>,
}

/// Reads until the session ends, and returns how it ended.
async fn read<R: AsyncRead + Unpin>(
    mut reader: FramedRead<R, Codec>,
    shared: &Shared<'_>,
    this: &mut Receiver<'_>,
) -> Ending {
    let mut heard_at = Instant::now();
    let mut pinged_at = None;
    loop {
        let read = match this.keepalive {
            None => reader.next().await,
            Some(keepalive) => {
                let until = match pinged_at {
                    None => heard_at + keepalive.interval,
                    // A client that was stopped for a while pings late, and still gives
                    // the server time to answer.
                    Some(at) => (heard_at + keepalive.deadline).max(at + keepalive.interval),
                };
                // `next` is cancel safe: bytes that it read stay in its buffer.
                match timeout_at(until, reader.next()).await {
                    Ok(read) => read,
                    Err(_) if pinged_at.is_some() => {
                        return lost("the server was silent for too long");
                    }
                    Err(_) => {
                        pinged_at = Some(Instant::now());
                        // A full queue already holds messages that keep the session
                        // alive.
                        let _ = this
                            .controls
                            .try_send(client_envelope::Message::Ping(Ping::default()));
                        continue;
                    }
                }
            }
        };
        let received = match read {
            None => return lost("the server closed the connection without a reason"),
            // CHAT-FRAME-11: dropping the reader closes the connection.
            Some(Err(error)) => return lost(&error.to_string()),
            Some(Ok(received)) => received,
        };
        let mut has_direct = None;
        match received.message {
            // CHAT-KEEP-2. Without keepalive no answer is due.
            Some(server_envelope::Message::Ping(Ping { token })) if this.keepalive.is_some() => {
                let pong = client_envelope::Message::Pong(Pong { token });
                if this.controls.send(pong).await.is_err() {
                    // The writer has ended, and with it the session.
                }
            }
            // CHAT-GROW-2: an empty or unknown message.
            None => {}
            Some(server_envelope::Message::FileState(state)) => {
                let sha256 = state.sha256.clone();
                shared.transfers().arrived(&sha256, Answer::State(state));
            }
            Some(server_envelope::Message::FileData(data)) => {
                let sha256 = data.sha256.clone();
                shared.transfers().arrived(&sha256, Answer::Data(data));
            }
            Some(server_envelope::Message::Error(error))
                if !error.sha256.is_empty() && !error.ends_session =>
            {
                let sha256 = error.sha256.clone();
                shared.transfers().arrived(&sha256, Answer::Error(error));
            }
            Some(server_envelope::Message::History(page)) => shared.pages().arrived(page),
            // CHAT-HIST-7. Its id is not that of a chat.
            Some(server_envelope::Message::Error(error)) if shared.pages().refused(&error) => {}
            Some(server_envelope::Message::Direct(direct)) => {
                has_direct = Some(direct.seq);
                this.tell(Event::Direct {
                    seq: direct.seq,
                    sender: direct.peer,
                    text: direct.text,
                    files: direct.files,
                    time_unix_ms: direct.time_unix_ms,
                });
            }
            Some(message) => {
                if let Some(ending) =
                    this.judge(message, &mut shared.queue(), &mut shared.follows())
                {
                    return ending;
                }
            }
        }
        shared.answered.notify_one();
        deliver(this.events, this.undelivered).await;
        // CHAT-DM-13: the user has it, or will.
        if let Some(seq) = has_direct {
            shared.queue().acknowledge(seq);
            shared.answered.notify_one();
        }
        // Only now: a user who takes events slowly is not a silent server.
        heard_at = Instant::now();
        pinged_at = None;
    }
}

fn lost(reason: &str) -> Ending {
    Ending::Lost {
        reason: reason.to_owned(),
    }
}

impl Receiver<'_> {
    /// Takes a message in. Returns how the session ends, if it does.
    fn judge(
        &mut self,
        message: server_envelope::Message,
        queue: &mut SendQueue,
        follows: &mut Follows,
    ) -> Option<Ending> {
        use server_envelope::Message;
        let mut released = Vec::new();
        match message {
            Message::Chat(chat) => released.extend(self.line.chat(chat)),
            Message::Members(members) => self.tell(Event::Members {
                names: members.names,
                more: members.more,
            }),
            Message::Joined(joined) => self.tell(Event::Joined { name: joined.name }),
            Message::Left(left) => self.tell(Event::Left {
                // CHAT-GROW-8: an unknown reason reads as Unspecified.
                reason: left.reason(),
                name: left.name,
            }),
            Message::Receipt(receipt) => {
                queue.receipt(receipt.id, now());
                self.line.receipt(receipt.id, receipt.seq, &mut released);
                self.tell(Event::Receipt {
                    id: receipt.id,
                    seq: receipt.seq,
                });
            }
            Message::Following(Following { id, seq }) => {
                if follows.following(id) {
                    self.line.covered(seq);
                    self.line.set_filtered(follows.is_filtered());
                    self.tell(Event::Following { id, seq });
                }
            }
            Message::Covered(Covered { seq, sent }) => {
                if self.line.is_filtered() {
                    self.line.covered(seq);
                }
                self.tell(Event::Covered { seq, sent });
            }
            // CHAT-ERR-7, CHAT-GROW-5: the flag decides, whatever the code is.
            Message::Error(error) if error.ends_session => {
                return Some(Ending::Error {
                    code: error.code(),
                    detail: error.detail,
                });
            }
            Message::Error(error) => {
                self.line.refused(error.id, &mut released);
                follows.refused(error.id);
                self.refused(error, queue);
            }
            // CHAT-CLOSE-4: the end of the session closes the connection.
            Message::ServerClosing(closing) => {
                return Some(Ending::ServerClosed {
                    detail: closing.detail,
                    retry_after_ms: closing.retry_after_ms,
                });
            }
            Message::DirectState(state) => self.tell(Event::DirectState {
                id: state.id,
                is_delivered: state.delivered,
            }),
            Message::Registered(_)
            | Message::Challenge(_)
            | Message::Ping(_)
            | Message::Pong(_)
            | Message::History(_)
            | Message::Direct(_)
            | Message::FileState(_)
            | Message::FileData(_) => {}
        }
        self.undelivered
            .extend(released.into_iter().map(message_event));
        None
    }

    fn refused(&mut self, error: Error, queue: &mut SendQueue) {
        let text = match error.code() {
            // CHAT-LIM-3: the queue sends it again.
            ErrorCode::RateLimited => {
                match queue.rate_limited(error.id, error.retry_after_ms, now()) {
                    Ok(()) => return,
                    Err(text) => text,
                }
            }
            _ => queue.refused(error.id, now()),
        };
        self.tell(Event::Refused {
            id: error.id,
            text,
            code: error.code(),
            retry_after_ms: error.retry_after_ms,
            detail: error.detail,
        });
    }

    fn tell(&mut self, event: Event) {
        self.undelivered.push_back(event);
    }
}

/// A chat as the user sees it.
pub(super) fn message_event(chat: Chat) -> Event {
    if chat.removed {
        return Event::Removed {
            seq: chat.seq,
            sender: chat.sender,
            time_unix_ms: chat.time_unix_ms,
        };
    }
    Event::Message {
        seq: chat.seq,
        sender: chat.sender,
        text: chat.text,
        time_unix_ms: chat.time_unix_ms,
        topic: chat.topic,
        mentions: chat.mentions,
        sender_id: SenderId::from_bytes(&chat.sender_id),
        files: chat.files,
    }
}
