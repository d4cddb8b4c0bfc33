//! Driver: the task under a session, from one connection to the next.

use std::collections::VecDeque;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep_until};

use super::backoff::{Backoff, Failure, Outage, Retry, retry_after_ms};
use super::codec::{BODY_BYTES_CEILING, ByteStream, Halves};
use super::connection::{Connection, Keepalive, deliver, message_event};
use super::event::{Ended, Ending, Event};
use super::files::{Outgoing, Transfers};
use super::follow::{Follows, Settled};
use super::history::{Pages, Request};
use super::pacer::Pacer;
use super::resume::{Continued, Line, Missed};
use super::send_queue::{SendQueue, Unsent};
use super::writing::{Inputs, Leaving, now};
use crate::address::Address;
use crate::client;
use crate::wire::{Capability, ErrorCode, Filter, Registered, Resume};

/// A connection that has registered.
pub(crate) type Opened = (Halves<ByteStream>, Registered);

/// Opens one more connection for the same session.
pub(crate) trait Reopen: Send + Sync {
    /// Connects and registers.
    fn open(
        &self,
        resume: Option<Resume>,
        filter: Option<Filter>,
    ) -> Pin<Box<dyn Future<Output = Result<Opened, Failure>> + Send + '_>>;

    /// The server of the connection that was opened last.
    fn address(&self) -> Option<Address>;
}

/// What the session and its task are connected with.
pub(crate) struct Channels {
    pub(crate) sends: mpsc::Receiver<Unsent>,
    pub(crate) filters: mpsc::Receiver<(u64, client::Filter)>,
    pub(crate) events: mpsc::Sender<Event>,
    pub(crate) leaving: watch::Receiver<Leaving>,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) transfers: mpsc::Receiver<Outgoing>,
    pub(crate) announced: Arc<Announced>,
}

/// What the server of the present connection has announced.
#[derive(Debug, Default)]
pub(crate) struct Announced {
    /// The longest text that it takes, in bytes.
    pub(crate) text_bytes_max: AtomicUsize,
    /// The most chats in a page of the past; 0: it grants no history.
    pub(crate) history_page_max: AtomicU32,
    /// Whether it grants directs.
    pub(crate) takes_directs: AtomicBool,
    /// It takes filters, topics and mentions.
    pub(crate) has_follow: AtomicBool,
    /// The longest piece of a file, in bytes; 0: it grants no files.
    pub(crate) file_chunk_bytes_max: AtomicU32,
    /// Where it is; `None` for a stream that the caller has opened.
    pub(crate) address: Mutex<Option<Address>>,
}

impl Announced {
    pub(crate) fn address(&self) -> Option<Address> {
        let address = self.address.lock().unwrap_or_else(PoisonError::into_inner);
        address.clone()
    }

    pub(crate) fn set_address(&self, new: Option<Address>) {
        let mut address = self.address.lock().unwrap_or_else(PoisonError::into_inner);
        *address = new;
    }
}

/// The state of the task: what outlives a connection.
pub(crate) struct Driver {
    queue: Mutex<SendQueue>,
    answered: Notify,
    pages: Mutex<Pages>,
    follows: Mutex<Follows>,
    transfers: Mutex<Transfers>,
    line: Line,
    undelivered: VecDeque<Event>,
    channels: Channels,
    again: Option<(Box<dyn Reopen>, Backoff)>,
}

impl Driver {
    pub(crate) fn new(
        registered: &Registered,
        channels: Channels,
        again: Option<(Box<dyn Reopen>, Backoff)>,
        filter: client::Filter,
    ) -> Self {
        let (pacer, receipts, ids_max) = sending(registered);
        let mut driver = Self {
            queue: Mutex::new(SendQueue::new(pacer, receipts, ids_max, now())),
            answered: Notify::new(),
            pages: Mutex::default(),
            follows: Mutex::new(Follows::new(filter)),
            transfers: Mutex::default(),
            line: Line::new(registered),
            undelivered: VecDeque::new(),
            channels,
            again,
        };
        driver.announce(registered);
        driver.settle_follows(registered);
        driver
    }

    /// Runs the session to its end and reports how it ended.
    pub(crate) async fn run(mut self, halves: Halves<ByteStream>, registered: Registered) {
        let (mut halves, mut registered) = (halves, registered);
        let mut outage = Outage::default();
        let mut has_stalled = false;
        let ending = loop {
            let opened_at = Instant::now();
            let connection = Connection {
                queue: &self.queue,
                answered: &self.answered,
                keepalive: Keepalive::new(&registered),
                line: &mut self.line,
                events: &self.channels.events,
                undelivered: &mut self.undelivered,
                pages: &self.pages,
                follows: &self.follows,
                transfers: &self.transfers,
                inputs: Inputs {
                    sends: &mut self.channels.sends,
                    filters: &mut self.channels.filters,
                    requests: &mut self.channels.requests,
                    transfers: &mut self.channels.transfers,
                    leaving: &mut self.channels.leaving,
                },
                // Once: the server of the next connection is no better.
                is_stall_lost: self.again.is_some() && !has_stalled,
            };
            let over = connection.run(halves).await;
            let pages = self.pages.get_mut();
            pages.unwrap_or_else(PoisonError::into_inner).lost();
            let transfers = self.transfers.get_mut();
            transfers.unwrap_or_else(PoisonError::into_inner).lost();
            deliver(&self.channels.events, &mut self.undelivered).await;
            if over.has_left {
                break over.ending;
            }
            has_stalled = over.has_stalled;
            outage.session_ended(opened_at.elapsed());
            (halves, registered) = match self.open_again(over.ending, &mut outage).await {
                Ok(opened) => opened,
                Err(ending) => break ending,
            };
            self.continue_line(&registered);
            deliver(&self.channels.events, &mut self.undelivered).await;
        };
        self.end(ending).await;
    }

    /// Connects until it succeeds.
    ///
    /// # Errors
    ///
    /// How the session ends, when nothing can be continued or nothing is left to do.
    async fn open_again(
        &mut self,
        mut ending: Ending,
        outage: &mut Outage,
    ) -> Result<Opened, Ending> {
        let mut retry = (Retry::after(&ending), retry_after_ms(&ending));
        loop {
            let Some((target, backoff)) = &self.again else {
                return Err(ending);
            };
            let wait = outage.next_wait(backoff, retry, random(), now());
            let Some(after) = wait else {
                return Err(ending);
            };
            let until = Instant::now() + after;
            if is_done(&mut self.channels, &self.queue) {
                return Err(Ending::Left);
            }
            let reason = ending;
            self.undelivered
                .push_back(Event::Reconnecting { after, reason });
            deliver(&self.channels.events, &mut self.undelivered).await;
            if !is_time(until, &mut self.channels, &self.queue).await {
                return Err(Ending::Left);
            }
            let resume = self.line.resume();
            let follows = self.follows.get_mut();
            let filter = follows
                .unwrap_or_else(PoisonError::into_inner)
                .for_register();
            let opened = tokio::select! {
                opened = target.open(resume, filter) => opened,
                _ = self.channels.leaving.wait_for(|leaving| *leaving == Leaving::Now) => {
                    return Err(Ending::Left);
                }
            };
            let failure = match opened {
                Ok(opened) => {
                    self.channels.announced.set_address(target.address());
                    return Ok(opened);
                }
                Err(failure) => failure,
            };
            retry = (failure.retry, failure.retry_after_ms);
            ending = failure.ending;
        }
    }

    /// A new connection is open: continues the line where the server has resumed it.
    fn continue_line(&mut self, registered: &Registered) {
        let (pacer, receipts, ids_max) = sending(registered);
        let queue = self.queue.get_mut().unwrap_or_else(PoisonError::into_inner);
        let mut shown = Vec::new();
        let unanswered = queue.unanswered_chats();
        let is_filtered = self.line.is_filtered();
        let continued = self.line.registered(registered, unanswered, &mut shown);
        let events = &mut self.undelivered;
        events.extend(shown.into_iter().map(message_event));
        let mut tell_missed = |missed: Vec<Missed>| {
            let mut count: u64 = 0;
            for Missed { from, to } in missed {
                count = count.saturating_add(to - from + 1);
                events.push_back(Event::Gap {
                    from,
                    to,
                    is_filtered,
                });
            }
            count
        };
        let registered_box = Box::new(registered.clone());
        match continued {
            Continued::Resumed(missed) => {
                queue.resumed(pacer, ids_max, now());
                let missed = tell_missed(missed);
                events.push_back(Event::Resumed {
                    missed,
                    is_filtered,
                    registered: registered_box,
                });
            }
            Continued::Fresh(reason, missed) => {
                // CHAT-RES-17
                let unknown = queue.restarted(pacer, receipts, ids_max, now());
                tell_missed(missed);
                events.push_back(Event::NotResumed {
                    reason,
                    registered: registered_box,
                });
                let unknown = unknown.into_iter();
                events.extend(unknown.map(|(id, text)| Event::Unknown { id, text }));
            }
        }
        self.announce(registered);
        self.settle_follows(registered);
    }

    /// A connection has registered with the filter that is wanted: changes that were not
    /// answered are settled by that.
    fn settle_follows(&mut self, registered: &Registered) {
        let follows = self.follows.get_mut();
        let follows = follows.unwrap_or_else(PoisonError::into_inner);
        let settled = follows.registered(has(registered, Capability::Follow));
        self.line.set_filtered(follows.is_filtered());
        let seq = match registered.resumed_from {
            0 => registered.seq,
            from => from - 1,
        };
        let settled = settled.into_iter();
        self.undelivered
            .extend(settled.map(|settled| match settled {
                Settled::Following(id) => Event::Following { id, seq },
                Settled::NotGranted(id) => Event::Refused {
                    id,
                    text: None,
                    code: ErrorCode::NotGranted,
                    detail: String::new(),
                    retry_after_ms: 0,
                },
            }));
    }

    /// Tells the session what the server has announced.
    fn announce(&self, registered: &Registered) {
        let limits = registered.limits.unwrap_or_default();
        let text_bytes_max = limits.text_bytes_max.min(BODY_BYTES_CEILING) as usize;
        let page_max = match has(registered, Capability::History) {
            true => limits.history_page_max,
            false => 0,
        };
        let announced = &self.channels.announced;
        announced
            .text_bytes_max
            .store(text_bytes_max, Ordering::Relaxed);
        announced
            .history_page_max
            .store(page_max, Ordering::Relaxed);
        announced
            .takes_directs
            .store(has(registered, Capability::Direct), Ordering::Relaxed);
        let has_follow = has(registered, Capability::Follow);
        announced.has_follow.store(has_follow, Ordering::Relaxed);
        let piece_bytes = match has(registered, Capability::Files) {
            true => limits.file_chunk_bytes_max.min(BODY_BYTES_CEILING / 2),
            false => 0,
        };
        announced
            .file_chunk_bytes_max
            .store(piece_bytes, Ordering::Relaxed);
    }

    /// Reports the end.
    async fn end(mut self, ending: Ending) {
        self.channels.sends.close();
        let queue = self.queue.get_mut().unwrap_or_else(PoisonError::into_inner);
        let (mut unsent, unconfirmed) = (queue.unsent(), queue.unconfirmed());
        while self.channels.sends.try_recv().is_ok() {
            unsent += 1;
        }
        // The session may have been dropped.
        let _ = self
            .channels
            .events
            .send(Event::Ended(Ended {
                ending,
                unsent,
                unconfirmed,
            }))
            .await;
    }
}

fn has(registered: &Registered, capability: Capability) -> bool {
    registered.capabilities.contains(&capability.into())
}

/// How to send in this session: how fast, whether with receipts, and how many ids the
/// server remembers.
fn sending(registered: &Registered) -> (Pacer, bool, u32) {
    let limits = registered.limits.unwrap_or_default();
    let pacer = Pacer::new(limits.chat_burst, limits.chat_interval_ms, now());
    let ids_max = match has(registered, Capability::Resume) {
        true => limits.resend_ids_max,
        false => 0,
    };
    (pacer, has(registered, Capability::Receipts), ids_max)
}

/// Whether a client without a connection has nothing to come back for.
fn is_done(channels: &mut Channels, queue: &Mutex<SendQueue>) -> bool {
    let leaving = *channels.leaving.borrow_and_update();
    if leaving == Leaving::WhenSent {
        channels.sends.close();
    }
    let is_leaving = leaving == Leaving::WhenSent
        // Dropped, with all its senders.
        || channels.events.is_closed() && channels.sends.is_closed();
    let queue = queue.lock().unwrap_or_else(PoisonError::into_inner);
    let is_settled = queue.unsent() == 0 && queue.unconfirmed() == 0 && channels.sends.is_empty();
    leaving == Leaving::Now || is_leaving && is_settled
}

/// Waits for the time; `false`: there is nothing to wait for any more.
async fn is_time(until: Instant, channels: &mut Channels, queue: &Mutex<SendQueue>) -> bool {
    loop {
        if is_done(channels, queue) {
            return false;
        }
        let is_dropped = channels.events.is_closed();
        tokio::select! {
            () = sleep_until(until) => return !is_done(channels, queue),
            Ok(()) = channels.leaving.changed() => {}
            () = channels.events.closed(), if !is_dropped => {}
        }
    }
}

/// Any number.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests;
