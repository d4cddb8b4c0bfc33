//! The session as its holder sees it: send, next, leave.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, watch};

use super::codec::{BODY_BYTES_CEILING, Halves};
use super::driver::{Driver, Leaving};
use super::event::{Ended, Ending, Event};
use crate::wire::{Capability, Limits, Registered};

/// How many chats may wait between [`Session::send`] and the wire.
const SENDS_QUEUED_MAX: usize = 16;

/// How many events may wait between the wire and [`Session::next`]. When they are
/// not taken, the connection is not read, and the server slows down or gives up.
const EVENTS_QUEUED_MAX: usize = 64;

/// How many events [`Session::send`] keeps while it waits and nobody takes them.
const BACKLOG_EVENTS_MAX: usize = 65_536;

/// A member's place in the room, from Registered to the end.
///
/// A task of its own reads and writes the connection; it answers pings, sends no
/// faster than the server takes chats, and sends again what was refused for its
/// rate. A session that is dropped leaves.
#[derive(Debug)]
pub struct Session {
    registered: Registered,
    sender: Sender,
    events: Events,
}

impl Session {
    pub(crate) fn start<S>(mut halves: Halves<S>, registered: Registered) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let limits = registered.limits.unwrap_or_default();
        halves
            .reader
            .decoder_mut()
            .registered(limits.frame_bytes_max);
        let (sends, sends_queued) = mpsc::channel(SENDS_QUEUED_MAX);
        let (events, events_queued) = mpsc::channel(EVENTS_QUEUED_MAX);
        let (leaving, leaving_seen) = watch::channel(Leaving::No);
        let driver = Driver::new(&registered, sends_queued, events, leaving_seen);
        tokio::spawn(driver.run(halves));
        Self {
            registered,
            sender: Sender {
                sends,
                leaving,
                last_id: Arc::new(AtomicU64::new(0)),
                text_bytes_max: limits.text_bytes_max.min(BODY_BYTES_CEILING) as usize,
            },
            events: Events {
                queue: events_queued,
                backlog: VecDeque::new(),
                is_over: false,
            },
        }
    }

    /// What the server answered to Register: the name, the epoch, the number of
    /// the last chat before this session.
    pub fn registered(&self) -> &Registered {
        &self.registered
    }

    /// The bounds that the server announced. A server that announced none gets
    /// zeros.
    pub fn limits(&self) -> Limits {
        self.registered.limits.unwrap_or_default()
    }

    /// Whether the server granted this capability.
    pub fn has(&self, capability: Capability) -> bool {
        self.registered.capabilities.contains(&capability.into())
    }

    /// Sends one line: 1 byte to [`Limits::text_bytes_max`], no control character
    /// ([`Outgoing`](super::Outgoing) makes such lines of anything). Waits while
    /// the server takes no more; events that come meanwhile are kept for
    /// [`next`](Self::next). Gives the id that a receipt or a refusal will carry.
    ///
    /// # Errors
    ///
    /// [`SendError`]: the text is too long, the session is over, or too many
    /// events are waiting to be taken.
    pub async fn send(&mut self, text: impl Into<String>) -> Result<u64, SendError> {
        let Self { sender, events, .. } = self;
        let sending = sender.send(text);
        tokio::pin!(sending);
        loop {
            if events.backlog.len() >= BACKLOG_EVENTS_MAX {
                return Err(SendError::EventsWaiting);
            }
            // Both are cancel safe: the send is the same one until it is done.
            tokio::select! {
                biased;
                sent = &mut sending => return sent,
                Some(event) = events.queue.recv() => events.backlog.push_back(event),
            }
        }
    }

    /// The next event, in the order of the wire; the last is [`Event::Ended`],
    /// after it `None`. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        self.events.next().await
    }

    /// Leaves: sends what was given to [`send`](Self::send), waits for its
    /// receipts, says Leave (CHAT-LEAVE-1) and waits for the close. What others
    /// say meanwhile is dropped; [`Sender::leave`] with [`next`](Self::next) keeps
    /// it.
    pub async fn leave(mut self) -> Ended {
        self.sender.leave();
        loop {
            match self.next().await {
                Some(Event::Ended(ended)) => return ended,
                Some(_) => {}
                // The end was taken before.
                None => {
                    return Ended {
                        ending: Ending::Left,
                        unsent: 0,
                        unconfirmed: 0,
                    };
                }
            }
        }
    }

    /// A handle to send with from somewhere else. Whoever uses it sees that
    /// [`next`](Self::next) is called meanwhile: a connection whose events nobody
    /// takes stands still.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }
}

/// Sends into a session; clones send into the same one.
#[derive(Debug, Clone)]
pub struct Sender {
    sends: mpsc::Sender<(u64, String)>,
    leaving: watch::Sender<Leaving>,
    last_id: Arc<AtomicU64>,
    text_bytes_max: usize,
}

impl Sender {
    /// As [`Session::send`], and somebody else takes the events.
    ///
    /// # Errors
    ///
    /// [`SendError`]: the text is too long, or the session is over.
    pub async fn send(&self, text: impl Into<String>) -> Result<u64, SendError> {
        let text = text.into();
        // A frame above the bound would end the session (CHAT-FRAME-5).
        if text.len() > self.text_bytes_max {
            return Err(SendError::TooLong {
                text_bytes: text.len(),
                text_bytes_max: self.text_bytes_max,
            });
        }
        let place = self.sends.reserve().await;
        let place = place.map_err(|_| SendError::Ended)?;
        // From 1: an id of 0 says that the sender does not care.
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        place.send((id, text));
        Ok(id)
    }

    /// Prepares to leave: all that is going to be sent is there already, and
    /// [`leave`](Self::leave) follows when it has been given to `send`. When no chat is
    /// confirmed for ten seconds meanwhile, the session leaves without the rest.
    pub fn leave_soon(&self) {
        self.leaving.send_if_modified(|leaving| {
            let begins = *leaving == Leaving::No;
            if begins {
                *leaving = Leaving::Soon;
            }
            begins
        });
    }

    /// Begins to leave: what was given to `send` before is sent, and its receipts
    /// are waited for, ten seconds at the most while none comes. Nothing can be sent
    /// after it.
    pub fn leave(&self) {
        self.leaving.send_if_modified(|leaving| {
            let begins = matches!(leaving, Leaving::No | Leaving::Soon);
            if begins {
                *leaving = Leaving::WhenSent;
            }
            begins
        });
    }

    /// Leaves without sending what is still waiting; [`Ended`] counts it.
    pub fn leave_now(&self) {
        self.leaving.send_replace(Leaving::Now);
    }
}

/// What came and was not taken yet.
#[derive(Debug)]
struct Events {
    queue: mpsc::Receiver<Event>,
    /// Older than what is in the queue.
    backlog: VecDeque<Event>,
    is_over: bool,
}

impl Events {
    async fn next(&mut self) -> Option<Event> {
        if self.is_over {
            return None;
        }
        let event = match self.backlog.pop_front() {
            Some(event) => Some(event),
            None => self.queue.recv().await,
        };
        // Without a last word only if the runtime dropped the task.
        let event = event.unwrap_or_else(|| {
            Event::Ended(Ended {
                ending: Ending::Lost {
                    reason: "the program is ending".to_owned(),
                },
                unsent: 0,
                unconfirmed: 0,
            })
        });
        self.is_over = matches!(event, Event::Ended(_));
        Some(event)
    }
}

/// Why a text was not sent.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError {
    /// The text is longer than the server takes.
    TooLong {
        /// Its length in bytes.
        text_bytes: usize,
        /// [`Limits::text_bytes_max`].
        text_bytes_max: usize,
    },
    /// The session is over or leaving; [`Session::next`] says why.
    Ended,
    /// So many events are waiting that the session cannot go on: call
    /// [`Session::next`] between sends.
    EventsWaiting,
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong {
                text_bytes,
                text_bytes_max,
            } => write!(
                f,
                "a text of {text_bytes} bytes is longer than the {text_bytes_max} bytes the server takes"
            ),
            Self::Ended => write!(f, "the session is over"),
            Self::EventsWaiting => write!(
                f,
                "{BACKLOG_EVENTS_MAX} events are waiting, take them between sends"
            ),
        }
    }
}

impl std::error::Error for SendError {}
