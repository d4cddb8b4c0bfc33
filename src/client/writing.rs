//! Writing: the loop that writes one connection, and what it shares with the reading one.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::SinkExt;
use tokio::io::AsyncWrite;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::codec::FramedWrite;

use super::codec::Codec;
use super::files::{Outgoing, Transfers};
use super::follow::{Filter, Follows};
use super::history::{Pages, Request};
use super::send_queue::{Draft, SendQueue, Step, Unsent};
use crate::wire::{Chat, ClientEnvelope, Direct, DirectAck, Follow, Leave, client_envelope};

/// How long one write may block, in milliseconds. A server may pause a fast sender for
/// a while (CHAT-LIM-6).
const WRITE_TIMEOUT_MS: u64 = 60_000;

/// How long to wait for the next receipt before Leave, in milliseconds.
const RECEIPT_TIMEOUT_MS: u64 = 10_000;

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
pub(super) enum Written {
    /// Leave has been sent.
    Left,
    /// No receipt came for too long.
    Stalled,
    /// Writing failed.
    Failed(String),
}

#[derive(Clone, Copy)]
pub(super) struct Shared<'a> {
    pub(super) queue: &'a Mutex<SendQueue>,
    pub(super) answered: &'a Notify,
    pub(super) pages: &'a Mutex<Pages>,
    pub(super) follows: &'a Mutex<Follows>,
    pub(super) transfers: &'a Mutex<Transfers>,
    pub(super) is_stall_lost: bool,
}

impl Shared<'_> {
    /// Locks the queue; the guard is never held across an await.
    pub(super) fn queue(&self) -> MutexGuard<'_, SendQueue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the filter; the guard is never held across an await.
    pub(super) fn follows(&self) -> MutexGuard<'_, Follows> {
        self.follows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the transfers; the guard is never held across an await.
    pub(super) fn transfers(&self) -> MutexGuard<'_, Transfers> {
        self.transfers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Locks the requests for pages; the guard is never held across an await.
    pub(super) fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The current time, for the modules that take it as an argument.
pub(super) fn now() -> std::time::Instant {
    Instant::now().into_std()
}

fn envelope(message: client_envelope::Message) -> ClientEnvelope {
    ClientEnvelope {
        message: Some(message),
    }
}

/// What the user of the session wants.
pub(super) struct Inputs<'a> {
    pub(super) sends: &'a mut mpsc::Receiver<Unsent>,
    pub(super) filters: &'a mut mpsc::Receiver<(u64, Filter)>,
    pub(super) requests: &'a mut mpsc::Receiver<Request>,
    pub(super) transfers: &'a mut mpsc::Receiver<Outgoing>,
    pub(super) leaving: &'a mut watch::Receiver<Leaving>,
}

/// Writes until Leave is sent or a write fails.
pub(super) async fn write<W: AsyncWrite + Unpin>(
    mut writer: FramedWrite<W, Codec>,
    shared: &Shared<'_>,
    mut controls: mpsc::Receiver<client_envelope::Message>,
    Inputs {
        sends,
        filters,
        requests,
        transfers,
        leaving,
    }: Inputs<'_>,
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
            Err(_) if let Some(seq) = shared.queue().take_ack() => {
                Some(client_envelope::Message::DirectAck(DirectAck { seq }))
            }
            Err(_)
                if shared.pages().has_room()
                    && let Ok(request) = requests.try_recv() =>
            {
                Some(client_envelope::Message::GetHistory(
                    shared.pages().ask(request),
                ))
            }
            Err(_) if let Some(follow) = next_follow(filters, shared) => {
                Some(client_envelope::Message::Follow(follow))
            }
            Err(_) => match shared.queue().step(now()) {
                Step::Send(draft) => Some(to_wire(draft)),
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
        // A piece of a file goes when there is nothing else to send.
        let message = message.or_else(|| {
            let outgoing = transfers.try_recv().ok()?;
            Some(shared.transfers().sends(outgoing))
        });
        if let Some(message) = message {
            if let Err(failed) = within(writer.feed(envelope(message))).await {
                return failed;
            }
            // Take the next chat before the flush.
            if let Some(unsent) = next_send(sends, shared) {
                shared.queue().push(unsent);
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
                    return match shared.is_stall_lost {
                        true => Written::Stalled,
                        false => leave(&mut writer).await,
                    };
                }
                give_up_at = Some(until);
            }
        }
        let has_room = shared.queue().has_room();
        let has_page_room = shared.pages().has_room();
        let has_follow_room = shared.follows().has_room();
        // Every branch is cancel safe.
        tokio::select! {
            Some(message) = controls.recv() => {
                if let Err(failed) = within(writer.feed(envelope(message))).await {
                    return failed;
                }
            }
            Some(request) = requests.recv(), if has_page_room => {
                let request = shared.pages().ask(request);
                let message = client_envelope::Message::GetHistory(request);
                if let Err(failed) = within(writer.feed(envelope(message))).await {
                    return failed;
                }
            }
            Some((id, filter)) = filters.recv(), if has_follow_room => {
                let follow = shared.follows().ask(id, filter);
                let message = client_envelope::Message::Follow(follow);
                if let Err(failed) = within(writer.feed(envelope(message))).await {
                    return failed;
                }
            }
            Some(outgoing) = transfers.recv() => {
                let message = shared.transfers().sends(outgoing);
                if let Err(failed) = within(writer.feed(envelope(message))).await {
                    return failed;
                }
            }
            send = sends.recv(), if has_more && has_room => match send {
                Some(unsent) => shared.queue().push(unsent),
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

/// The message for a chat or a direct.
fn to_wire(draft: Draft) -> client_envelope::Message {
    match draft.peer {
        None => client_envelope::Message::Chat(Chat {
            text: draft.chat.text,
            topic: draft.chat.topic,
            mentions: draft.chat.mentions,
            id: draft.id,
            files: draft.files,
            ..Chat::default()
        }),
        Some(peer) => client_envelope::Message::Direct(Direct {
            peer,
            text: draft.chat.text,
            id: draft.id,
            files: draft.files,
            ..Direct::default()
        }),
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
fn next_send(sends: &mut mpsc::Receiver<Unsent>, shared: &Shared<'_>) -> Option<Unsent> {
    if shared.queue().has_room() {
        sends.try_recv().ok()
    } else {
        None
    }
}

/// The next change of the filter, if there is one and not too many are unanswered.
fn next_follow(filters: &mut mpsc::Receiver<(u64, Filter)>, shared: &Shared<'_>) -> Option<Follow> {
    let mut follows = shared.follows();
    if let Some(follow) = follows.take_due() {
        return Some(follow);
    }
    let (id, filter) = follows.has_room().then(|| filters.try_recv().ok())??;
    Some(follows.ask(id, filter))
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
