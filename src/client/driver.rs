//! Driver: the task under a session. One loop reads the connection, one writes it, and
//! neither blocks the other.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_util::codec::{FramedRead, FramedWrite};

use super::codec::{Codec, Halves};
use super::event::{Ended, Ending, Event};
use super::pacer::Pacer;
use super::send_queue::{SendQueue, Step};
use crate::wire::{
    Capability, Chat, ClientEnvelope, Error, ErrorCode, Leave, Ping, Pong, Registered,
    ServerEnvelope, client_envelope, server_envelope,
};

/// How many pings and pongs may wait to be written. A server that sends more pings
/// without reading the answers is not read either.
const CONTROLS_QUEUED_MAX: usize = 16;

/// How long one write may block, in milliseconds. A server may pause a fast sender for
/// a while (CHAT-LIM-6).
const WRITE_TIMEOUT_MS: u64 = 60_000;

/// How long to wait for the next receipt before Leave, in milliseconds.
const RECEIPT_TIMEOUT_MS: u64 = 10_000;

/// How long to wait for the server to close after Leave, in milliseconds.
const CLOSE_TIMEOUT_MS: u64 = 5_000;

/// How long to read on for the server's reason after a failed write, in milliseconds.
const REASON_TIMEOUT_MS: u64 = 1_000;

/// The shortest silence that is answered with a ping, in milliseconds, whatever the
/// server announces.
const KEEPALIVE_INTERVAL_MS_MIN: u32 = 50;

/// Whether the user of the session wants to leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    No,
    /// Everything still to be sent exists already, though the session has not been
    /// given all of it.
    Soon,
    /// Once everything is sent and answered.
    WhenSent,
    /// Immediately.
    Now,
}

/// Why the write loop ended.
enum Written {
    /// Leave has been sent.
    Left,
    /// Writing failed.
    Failed(String),
}

/// The state of the task: what both loops share, and its channels.
pub(crate) struct Driver {
    queue: Mutex<SendQueue>,
    /// Notified when an answer may let the writer continue.
    answered: Notify,
    keepalive: Option<Keepalive>,
    sends: mpsc::Receiver<(u64, String)>,
    events: mpsc::Sender<Event>,
    leaving: watch::Receiver<Leaving>,
}

#[derive(Clone, Copy)]
struct Keepalive {
    interval: Duration,
    deadline: Duration,
}

impl Driver {
    pub(crate) fn new(
        registered: &Registered,
        sends: mpsc::Receiver<(u64, String)>,
        events: mpsc::Sender<Event>,
        leaving: watch::Receiver<Leaving>,
    ) -> Self {
        let limits = registered.limits.unwrap_or_default();
        let has = |capability: Capability| registered.capabilities.contains(&capability.into());
        let now = now();
        let pacer = Pacer::new(limits.chat_burst, limits.chat_interval_ms, now);
        let interval_ms = limits.keepalive_interval_ms.max(KEEPALIVE_INTERVAL_MS_MIN);
        Self {
            queue: Mutex::new(SendQueue::new(pacer, has(Capability::Receipts), now)),
            answered: Notify::new(),
            keepalive: has(Capability::Keepalive).then(|| Keepalive {
                interval: Duration::from_millis(interval_ms.into()),
                // At least one more interval, so that the answer to a ping can arrive.
                deadline: Duration::from_millis(
                    u64::from(limits.idle_deadline_ms).max(2 * u64::from(interval_ms)),
                ),
            }),
            sends,
            events,
            leaving,
        }
    }

    /// Runs the session to its end and reports how it ended.
    pub(crate) async fn run<S>(mut self, halves: Halves<S>)
    where
        S: AsyncRead + AsyncWrite,
    {
        let Halves { reader, writer } = halves;
        let (controls, controls_queued) = mpsc::channel(CONTROLS_QUEUED_MAX);
        let shared = Shared {
            queue: &self.queue,
            answered: &self.answered,
        };
        let ending = {
            let reading = read(reader, &shared, self.keepalive, controls, &self.events);
            let writing = write(
                writer,
                &shared,
                controls_queued,
                &mut self.sends,
                &mut self.leaving,
            );
            tokio::pin!(reading, writing);
            // The loop that is dropped here has nothing left to do.
            tokio::select! {
                ending = &mut reading => ending,
                written = &mut writing => match written {
                    Written::Left => {
                        // The server first sends what is queued, then closes
                        // (CHAT-LEAVE-2).
                        let wait = Duration::from_millis(CLOSE_TIMEOUT_MS);
                        match timeout(wait, reading).await {
                            Ok(Ending::Lost { .. }) | Err(_) => Ending::Left,
                            Ok(ending) => ending,
                        }
                    }
                    Written::Failed(reason) => {
                        // The server may have sent its reason before it closed.
                        let wait = Duration::from_millis(REASON_TIMEOUT_MS);
                        timeout(wait, reading).await.unwrap_or(Ending::Lost { reason })
                    }
                },
            }
        };
        self.sends.close();
        let mut unsent = self.queue.get_mut().map_or(0, |queue| queue.unsent());
        while self.sends.try_recv().is_ok() {
            unsent += 1;
        }
        let unconfirmed = self.queue.get_mut().map_or(0, |queue| queue.unconfirmed());
        // The session may have been dropped.
        let _ = self
            .events
            .send(Event::Ended(Ended {
                ending,
                unsent,
                unconfirmed,
            }))
            .await;
    }
}

#[derive(Clone, Copy)]
struct Shared<'a> {
    queue: &'a Mutex<SendQueue>,
    answered: &'a Notify,
}

impl Shared<'_> {
    /// Locks the queue; the guard is never held across an await.
    fn queue(&self) -> MutexGuard<'_, SendQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The current time, for the modules that take it as an argument.
fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn envelope(message: client_envelope::Message) -> ClientEnvelope {
    ClientEnvelope {
        message: Some(message),
    }
}

/// Reads until the session ends, and returns how it ended.
async fn read<R: AsyncRead + Unpin>(
    mut reader: FramedRead<R, Codec>,
    shared: &Shared<'_>,
    keepalive: Option<Keepalive>,
    controls: mpsc::Sender<client_envelope::Message>,
    events: &mpsc::Sender<Event>,
) -> Ending {
    let mut heard_at = Instant::now();
    let mut has_pinged = false;
    loop {
        let read = match keepalive {
            None => reader.next().await,
            Some(keepalive) => {
                let wait = if has_pinged {
                    keepalive.deadline
                } else {
                    keepalive.interval
                };
                // `next` is cancel safe: bytes that it read stay in its buffer.
                match timeout_at(heard_at + wait, reader.next()).await {
                    Ok(read) => read,
                    Err(_) if has_pinged => {
                        return lost("the server was silent for too long");
                    }
                    Err(_) => {
                        has_pinged = true;
                        // A full queue already holds messages that keep the session
                        // alive.
                        let _ = controls.try_send(client_envelope::Message::Ping(Ping::default()));
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
        let event = match received.message {
            // CHAT-KEEP-2. Without keepalive no answer is due.
            Some(server_envelope::Message::Ping(Ping { token })) if keepalive.is_some() => {
                let pong = client_envelope::Message::Pong(Pong { token });
                if controls.send(pong).await.is_err() {
                    // The writer has ended, and with it the session.
                }
                None
            }
            _ => match judge(received, &mut shared.queue()) {
                Judged::Nothing => None,
                Judged::Event(event) => Some(event),
                Judged::End(ending) => return ending,
            },
        };
        shared.answered.notify_one();
        if let Some(event) = event {
            // A dropped session needs no events.
            let _ = events.send(event).await;
        }
        // Only now: a user who takes events slowly is not a silent server.
        heard_at = Instant::now();
        has_pinged = false;
    }
}

fn lost(reason: &str) -> Ending {
    Ending::Lost {
        reason: reason.to_owned(),
    }
}

/// What a received message means for the session.
enum Judged {
    Nothing,
    Event(Event),
    End(Ending),
}

fn judge(received: ServerEnvelope, queue: &mut SendQueue) -> Judged {
    use server_envelope::Message;
    // CHAT-GROW-2: an empty or unknown message.
    let Some(message) = received.message else {
        return Judged::Nothing;
    };
    Judged::Event(match message {
        Message::Chat(chat) => Event::Message {
            seq: chat.seq,
            sender: chat.sender,
            text: chat.text,
            time_unix_ms: chat.time_unix_ms,
        },
        Message::Members(members) => Event::Members {
            names: members.names,
            more: members.more,
        },
        Message::Joined(joined) => Event::Joined { name: joined.name },
        Message::Left(left) => Event::Left {
            // CHAT-GROW-8: an unknown reason reads as Unspecified.
            reason: left.reason(),
            name: left.name,
        },
        Message::Receipt(receipt) => {
            queue.receipt(receipt.id, now());
            Event::Receipt {
                id: receipt.id,
                seq: receipt.seq,
            }
        }
        // CHAT-ERR-7, CHAT-GROW-5: the flag decides, whatever the code is.
        Message::Error(error) if error.ends_session => {
            return Judged::End(Ending::Error {
                code: error.code(),
                detail: error.detail,
            });
        }
        Message::Error(error) => return refused(error, queue),
        // CHAT-CLOSE-4: the end of the session closes the connection.
        Message::ServerClosing(closing) => {
            return Judged::End(Ending::ServerClosed {
                detail: closing.detail,
            });
        }
        Message::Registered(_) | Message::Ping(_) | Message::Pong(_) | Message::History(_) => {
            return Judged::Nothing;
        }
    })
}

fn refused(error: Error, queue: &mut SendQueue) -> Judged {
    let text = match error.code() {
        // CHAT-LIM-3: the queue sends it again.
        ErrorCode::RateLimited => match queue.rate_limited(error.id, error.retry_after_ms, now()) {
            Ok(()) => return Judged::Nothing,
            Err(text) => text,
        },
        _ => queue.refused(error.id, now()),
    };
    Judged::Event(Event::Refused {
        id: error.id,
        text,
        code: error.code(),
        retry_after_ms: error.retry_after_ms,
        detail: error.detail,
    })
}

/// Writes until Leave is sent or a write fails.
async fn write<W: AsyncWrite + Unpin>(
    mut writer: FramedWrite<W, Codec>,
    shared: &Shared<'_>,
    mut controls: mpsc::Receiver<client_envelope::Message>,
    sends: &mut mpsc::Receiver<(u64, String)>,
    leaving: &mut watch::Receiver<Leaving>,
) -> Written {
    let mut has_more = true;
    let mut leaving_since = None;
    loop {
        let wish = *leaving.borrow_and_update();
        match wish {
            Leaving::No | Leaving::Soon => {}
            Leaving::WhenSent => sends.close(),
            Leaving::Now => return leave(&mut writer).await,
        }
        // Everything that may be sent now goes out in one write.
        let mut wait_until = None;
        // Whether the announced rate alone delays the next chat.
        let mut is_paced = false;
        let message = match controls.try_recv() {
            Ok(message) => Some(message),
            Err(_) => match shared.queue().step(now()) {
                Step::Send(draft) => Some(client_envelope::Message::Chat(Chat {
                    text: draft.text,
                    id: draft.id,
                    ..Chat::default()
                })),
                Step::Wait(until) => {
                    wait_until = Some(Instant::from_std(until));
                    is_paced = true;
                    None
                }
                Step::Paused(until) => {
                    wait_until = Some(Instant::from_std(until));
                    None
                }
                Step::Idle => None,
            },
        };
        if let Some(message) = message {
            if let Err(failed) = within(writer.feed(envelope(message))).await {
                return failed;
            }
            // Take the next chat before the flush.
            if let Some((id, text)) = next_send(sends, shared) {
                shared.queue().push(id, text);
            }
            continue;
        }
        if let Err(failed) = within(writer.flush()).await {
            return failed;
        }
        let mut give_up_at = None;
        if wish != Leaving::No || !has_more {
            let since = *leaving_since.get_or_insert_with(now);
            let (is_settled, progressed_at) = {
                let queue = shared.queue();
                let is_settled = queue.unsent() == 0 && queue.unconfirmed() == 0;
                (is_settled, queue.progressed_at().max(since))
            };
            if is_settled && !has_more {
                return leave(&mut writer).await;
            }
            // While receipts arrive, the session waits for more. A server that refuses
            // a chat for its rate and names a time to retry does not stretch that.
            if !is_settled && !is_paced {
                let timeout = Duration::from_millis(RECEIPT_TIMEOUT_MS);
                let until = Instant::from_std(progressed_at) + timeout;
                if until <= Instant::now() {
                    return leave(&mut writer).await;
                }
                give_up_at = Some(until);
            }
        }
        let has_room = shared.queue().has_room();
        // Every branch is cancel safe.
        tokio::select! {
            Some(message) = controls.recv() => {
                if let Err(failed) = within(writer.feed(envelope(message))).await {
                    return failed;
                }
            }
            send = sends.recv(), if has_more && has_room => match send {
                Some((id, text)) => shared.queue().push(id, text),
                // Leaving, or every sender was dropped.
                None => has_more = false,
            },
            Ok(()) = leaving.changed() => {}
            () = shared.answered.notified() => {}
            () = sleep_until(wait_until.unwrap_or_else(Instant::now)), if wait_until.is_some() => {}
            () = sleep_until(give_up_at.unwrap_or_else(Instant::now)), if give_up_at.is_some() => {}
        }
    }
}

/// Sends Leave (CHAT-LEAVE-1), behind everything else.
async fn leave<W: AsyncWrite + Unpin>(writer: &mut FramedWrite<W, Codec>) -> Written {
    let leave = envelope(client_envelope::Message::Leave(Leave {}));
    match within(writer.send(leave)).await {
        Ok(()) => Written::Left,
        Err(failed) => failed,
    }
}

/// The next chat of the session, if there is one and the queue has room.
fn next_send(
    sends: &mut mpsc::Receiver<(u64, String)>,
    shared: &Shared<'_>,
) -> Option<(u64, String)> {
    if shared.queue().has_room() {
        sends.try_recv().ok()
    } else {
        None
    }
}

/// Bounds a write. After a failure nothing can be written any more.
async fn within<E: ToString>(write: impl Future<Output = Result<(), E>>) -> Result<(), Written> {
    match timeout(Duration::from_millis(WRITE_TIMEOUT_MS), write).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Written::Failed(error.to_string())),
        Err(_) => Err(Written::Failed(
            "the server accepted no bytes for too long".to_owned(),
        )),
    }
}
