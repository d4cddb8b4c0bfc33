//! Session: send, receive events, leave.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite};
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::backoff::Backoff;
use super::codec::{ByteStream, Halves};
use super::driver::{Announced, Channels, Driver, Reopen};
use super::event::{Ended, Ending, Event};
use super::files::{FileError, Outgoing, Transfer};
use super::follow::{Filter, Follows, NewChat};
use super::history::{HistoryError, Request};
use super::send_queue::Unsent;
use super::writing::Leaving;
use crate::limits::NAME_BYTES_MAX;
use crate::wire::get_history::Edge;
use crate::wire::{self, Capability, File, History, Limits, Registered};

/// How many chats may wait between [`Session::send`] and the wire.
const SENDS_QUEUED_MAX: usize = 16;

/// How many requests for pages of the past may wait for the wire.
const REQUESTS_QUEUED_MAX: usize = 4;

/// How many changes of the filter may wait for the wire.
const FILTERS_QUEUED_MAX: usize = 4;
/// How many pieces of files may wait for the wire.
const PIECES_QUEUED_MAX: usize = 2;

/// How many events may wait between the wire and [`Session::next`]. While they are not
/// taken, the connection is not read, and the server slows down or gives up.
const EVENTS_QUEUED_MAX: usize = 64;

/// How many events [`Session::send`] keeps while it waits.
const BACKLOG_EVENTS_MAX: usize = 65_536;

/// A session: from Registered to its end.
///
/// A task reads and writes the connection; it answers pings, keeps to the server's rate
/// and sends again what was refused because of it. Dropping a session leaves.
#[derive(Debug)]
pub struct Session {
    registered: Registered,
    sender: Sender,
    events: Events,
}

impl Session {
    pub(crate) fn start(
        halves: Halves<ByteStream>,
        registered: Registered,
        again: Option<(Box<dyn Reopen>, Backoff)>,
        filter: Filter,
    ) -> Self {
        let (filters, filters_queued) = mpsc::channel(FILTERS_QUEUED_MAX);
        let (sends, sends_queued) = mpsc::channel(SENDS_QUEUED_MAX);
        let (events, events_queued) = mpsc::channel(EVENTS_QUEUED_MAX);
        let (leaving, leaving_seen) = watch::channel(Leaving::No);
        let (requests, requests_queued) = mpsc::channel(REQUESTS_QUEUED_MAX);
        let (transfers, transfers_queued) = mpsc::channel(PIECES_QUEUED_MAX);
        let announced = Arc::<Announced>::default();
        let channels = Channels {
            sends: sends_queued,
            filters: filters_queued,
            events,
            leaving: leaving_seen,
            requests: requests_queued,
            transfers: transfers_queued,
            announced: Arc::clone(&announced),
        };
        let driver = Driver::new(&registered, channels, again, filter);
        tokio::spawn(driver.run(halves, registered.clone()));
        Self {
            registered,
            sender: Sender {
                sends,
                filters,
                leaving,
                last_id: Arc::new(AtomicU64::new(0)),
                last_filter: Arc::new(AtomicU64::new(0)),
                requests,
                transfers,
                turn: Arc::default(),
                announced,
            },
            events: Events {
                queue: events_queued,
                backlog: VecDeque::new(),
                is_over: false,
            },
        }
    }

    /// The server's answer to Register: the name, the epoch, the number of the last
    /// chat before this session. A client that came back has another one as soon as
    /// [`next`](Self::next) has told so.
    pub fn registered(&self) -> &Registered {
        &self.registered
    }

    /// The limits that the server announced; zeros if it announced none.
    pub fn limits(&self) -> Limits {
        self.registered.limits.unwrap_or_default()
    }

    /// Whether the server granted this capability.
    pub fn has(&self, capability: Capability) -> bool {
        self.registered.capabilities.contains(&capability.into())
    }

    /// Sends one line: 1 to [`Limits::text_bytes_max`] bytes, without control
    /// characters ([`Outgoing`](super::Outgoing) makes such lines of any bytes). Waits
    /// while the server takes no more; events that arrive meanwhile are kept for
    /// [`next`](Self::next). Returns the id that a receipt or refusal will carry.
    ///
    /// A text, or with a topic and mentions a [`NewChat`], which needs
    /// [`Capability::Follow`]:
    ///
    /// ```no_run
    /// # async fn example(session: &mut chat::client::Session) -> Result<(), chat::client::SendError> {
    /// use chat::client::NewChat;
    ///
    /// session.send("hello").await?;
    /// session.send(NewChat::from("it works").topic("build").mention("bob")).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SendError`]: the text is too long, the session is over, or too many
    /// events are waiting to be taken.
    pub async fn send(&mut self, chat: impl Into<NewChat>) -> Result<u64, SendError> {
        let Self { sender, events, .. } = self;
        let sent = events.keep_while(sender.send(chat)).await;
        sent.unwrap_or(Err(SendError::EventsWaiting))
    }

    /// Chooses which chats come from now on; an empty filter: all of them.
    /// [`Event::Following`] says where it counts, with the id that this returns, or
    /// [`Event::Refused`] that the server does not take it. Needs [`Capability::Follow`].
    /// A client that [comes back](super::Connector::reconnecting) keeps its filter.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use chat::{client::{Connector, Event, Filter}, wire::Capability};
    ///
    /// let connector = Connector::new().and(Capability::Follow);
    /// let mut session = connector.connect("chat://127.0.0.1:5000", "bot").await?;
    /// session.follow(Filter::default().topic("build").sender("bob")).await?;
    /// while let Some(event) = session.next().await {
    ///     match event {
    ///         Event::Message { topic, text, .. } => println!("#{topic}: {text}"),
    ///         Event::Covered { seq, .. } => println!("nothing is missing up to {seq}"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SendError`]: the server grants no filters, the session is over, or too many events
    /// are waiting to be taken.
    pub async fn follow(&mut self, filter: Filter) -> Result<u64, SendError> {
        let Self { sender, events, .. } = self;
        let sent = events.keep_while(sender.follow(filter)).await;
        sent.unwrap_or(Err(SendError::EventsWaiting))
    }

    /// Sends one line to one member alone, as [`send`](Self::send) sends one to all. The
    /// server confirms it with [`Event::Receipt`] when it is on its way, refuses it with
    /// [`Event::Refused`] where the member cannot be reached, and tells with
    /// [`Event::DirectState`] whether it has arrived. Needs [`Capability::Direct`].
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use chat::client::{Connector, Event};
    /// use chat::wire::Capability;
    ///
    /// let connector = Connector::default().and(Capability::Direct);
    /// let mut session = connector.connect("chat://127.0.0.1:5000", "Alice").await?;
    /// let sent = session.direct("Bob", "for you alone").await?;
    /// while let Some(event) = session.next().await {
    ///     if let Event::DirectState { id, is_delivered } = event
    ///         && id == sent
    ///     {
    ///         println!("delivered: {is_delivered}");
    ///         break;
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SendError`], as for [`send`](Self::send), and [`SendError::NotGranted`].
    pub async fn direct(
        &mut self,
        peer: impl Into<String>,
        text: impl Into<String>,
    ) -> Result<u64, SendError> {
        let Self { sender, events, .. } = self;
        let sent = events.keep_while(sender.direct(peer, text)).await;
        sent.unwrap_or(Err(SendError::EventsWaiting))
    }

    /// Uploads a file: what [`send_files`](Self::send_files) needs to name it to the others.
    /// `progress` is told how many bytes of how many the server has. The upload goes on
    /// where a lost connection has cut it, also when it is called again within
    /// [`Limits::file_orphan_ms`]. Needs [`Capability::Files`].
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use chat::client::{Connector, Event};
    /// use chat::wire::Capability;
    ///
    /// let connector = Connector::default().and(Capability::Files);
    /// let mut session = connector.connect("chat://127.0.0.1:5000", "Alice").await?;
    /// let file = session.attach("report.pdf", |_, _| {}).await?;
    /// session.send_files("report.pdf (12 KB)", vec![file]).await?;
    /// session.leave().await;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`FileError`]: why it was not uploaded.
    pub async fn attach(
        &mut self,
        path: impl AsRef<Path>,
        progress: impl FnMut(u64, u64),
    ) -> Result<File, FileError> {
        let Self { sender, events, .. } = self;
        let attached = events.keep_while(sender.attach(path, progress)).await;
        attached.unwrap_or(Err(FileError::Ended))
    }

    /// Sends one line that names files. The text says so as well, for those whose client
    /// knows no files (CHAT-FILE-21).
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn send_files(
        &mut self,
        text: impl Into<String>,
        files: Vec<File>,
    ) -> Result<u64, SendError> {
        let Self { sender, events, .. } = self;
        let sent = events.keep_while(sender.send_files(text, files)).await;
        sent.unwrap_or(Err(SendError::EventsWaiting))
    }

    /// Fetches a file that a chat or a direct named, into `target`, which has its first
    /// `have` bytes already: what an earlier call has left there is continued. Checks the
    /// hash. `progress` is told how many bytes of how many are there. The name of a file is
    /// its sender's: use it as no path. Needs [`Capability::Files`].
    ///
    /// # Errors
    ///
    /// [`FileError`]: why it was not fetched.
    pub async fn fetch<T: AsyncRead + AsyncWrite + AsyncSeek + Unpin>(
        &mut self,
        file: &File,
        target: &mut T,
        have: u64,
        progress: impl FnMut(u64, u64),
    ) -> Result<(), FileError> {
        let Self { sender, events, .. } = self;
        let fetching = sender.fetch(file, target, have, progress);
        let fetched = events.keep_while(fetching).await;
        fetched.unwrap_or(Err(FileError::Ended))
    }

    /// Asks for a page of the past: at most `limit` chats, fewer if the server gives
    /// fewer, on one side of a number. Own chats are among them. The newest page is that
    /// before [`Registered::seq`] + 1; what follows it comes as events, without a gap.
    /// Needs [`Capability::History`]. Events that arrive meanwhile are kept for
    /// [`next`](Self::next).
    ///
    /// # Errors
    ///
    /// [`HistoryError`]: the server does not give it, or the connection was lost.
    pub async fn history(&mut self, edge: Edge, limit: u32) -> Result<History, HistoryError> {
        let Self { sender, events, .. } = self;
        let page = events.keep_while(sender.history(edge, limit)).await;
        page.unwrap_or(Err(HistoryError::EventsWaiting))
    }

    /// As [`history`](Self::history), with those chats alone that pass a filter. The page
    /// covers the numbers from [`History::from`] to [`History::to`] all the same. Needs
    /// [`Capability::Follow`] too; without it the page has all chats.
    ///
    /// # Errors
    ///
    /// [`HistoryError`]: the server does not give it, or the connection was lost.
    pub async fn filtered_history(
        &mut self,
        edge: Edge,
        limit: u32,
        filter: &Filter,
    ) -> Result<History, HistoryError> {
        let Self { sender, events, .. } = self;
        let page = sender.filtered_history(edge, limit, filter);
        let page = events.keep_while(page).await;
        page.unwrap_or(Err(HistoryError::EventsWaiting))
    }

    /// The next event, in the order of the wire; [`Event::Ended`] is the last, followed
    /// by `None`. Cancel safe.
    pub async fn next(&mut self) -> Option<Event> {
        let event = self.events.next().await;
        if let Some(Event::Resumed { registered, .. } | Event::NotResumed { registered, .. }) =
            &event
        {
            self.registered.clone_from(registered);
        }
        event
    }

    /// Leaves: sends everything given to [`send`](Self::send), waits for the receipts,
    /// sends Leave (CHAT-LEAVE-1) and waits for the close. Chats that arrive meanwhile
    /// are dropped; [`Sender::leave`] with [`next`](Self::next) keeps them.
    pub async fn leave(mut self) -> Ended {
        self.sender.leave();
        loop {
            match self.next().await {
                Some(Event::Ended(ended)) => return ended,
                Some(_) => {}
                // The end was reported before.
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

    /// A handle that sends from another task. [`next`](Self::next) must still be called
    /// meanwhile: while no events are taken, the connection stands still.
    pub fn sender(&self) -> Sender {
        self.sender.clone()
    }
}

/// Sends into a session; clones send into the same one.
#[derive(Debug, Clone)]
pub struct Sender {
    sends: mpsc::Sender<Unsent>,
    filters: mpsc::Sender<(u64, Filter)>,
    leaving: watch::Sender<Leaving>,
    last_id: Arc<AtomicU64>,
    last_filter: Arc<AtomicU64>,
    requests: mpsc::Sender<Request>,
    transfers: mpsc::Sender<Outgoing>,
    /// One download at a time.
    turn: Arc<Mutex<()>>,
    announced: Arc<Announced>,
}

impl Sender {
    /// As [`Session::send`], while another task takes the events.
    ///
    /// # Errors
    ///
    /// [`SendError`]: the text is too long, or the session is over.
    pub async fn send(&self, chat: impl Into<NewChat>) -> Result<u64, SendError> {
        self.send_files(chat, Vec::new()).await
    }

    /// As [`Session::direct`], while another task takes the events.
    ///
    /// # Errors
    ///
    /// [`SendError`]: the text is too long, directs are not granted, or the session is
    /// over.
    pub async fn direct(
        &self,
        peer: impl Into<String>,
        text: impl Into<String>,
    ) -> Result<u64, SendError> {
        if !self.announced.takes_directs.load(Ordering::Relaxed) {
            return Err(SendError::NotGranted); // CHAT-GROW-6
        }
        // No member has a longer name, and a longer frame would end the session.
        let peer = peer.into().chars().take(NAME_BYTES_MAX + 1).collect();
        self.queue(text.into().into(), Some(peer), Vec::new()).await
    }

    /// As [`Session::send_files`], while another task takes the events.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub async fn send_files(
        &self,
        chat: impl Into<NewChat>,
        files: Vec<File>,
    ) -> Result<u64, SendError> {
        let chat = chat.into();
        // It would leave them out (CHAT-FOL-2).
        if chat.needs_follow() && !self.announced.has_follow.load(Ordering::Relaxed) {
            return Err(SendError::FollowNotGranted);
        }
        self.queue(chat, None, files).await
    }

    /// As [`Session::attach`], while another task takes the events.
    ///
    /// # Errors
    ///
    /// [`FileError`]: why it was not uploaded.
    pub async fn attach(
        &self,
        path: impl AsRef<Path>,
        progress: impl FnMut(u64, u64),
    ) -> Result<File, FileError> {
        self.transfer()?.attach(path.as_ref(), progress).await
    }

    /// As [`Session::fetch`], while another task takes the events.
    ///
    /// # Errors
    ///
    /// [`FileError`]: why it was not fetched.
    pub async fn fetch<T: AsyncRead + AsyncWrite + AsyncSeek + Unpin>(
        &self,
        file: &File,
        target: &mut T,
        have: u64,
        progress: impl FnMut(u64, u64),
    ) -> Result<(), FileError> {
        let transfer = self.transfer()?;
        transfer.fetch(file, target, have, progress).await
    }

    fn transfer(&self) -> Result<Transfer, FileError> {
        let piece_bytes = self.announced.file_chunk_bytes_max.load(Ordering::Relaxed);
        match piece_bytes {
            0 => Err(FileError::NotGranted), // CHAT-GROW-6
            _ => Ok(Transfer {
                outgoing: self.transfers.clone(),
                piece_bytes: piece_bytes.into(),
                turn: Arc::clone(&self.turn),
            }),
        }
    }

    /// Gives a chat or a direct to the session.
    async fn queue(
        &self,
        chat: NewChat,
        peer: Option<String>,
        files: Vec<File>,
    ) -> Result<u64, SendError> {
        let text = &chat.text;
        // A longer frame would end the session (CHAT-FRAME-5).
        let text_bytes_max = self.announced.text_bytes_max.load(Ordering::Relaxed);
        if text.len() > text_bytes_max {
            return Err(SendError::TooLong {
                text_bytes: text.len(),
                text_bytes_max,
            });
        }
        let place = self.sends.reserve().await;
        let place = place.map_err(|_| SendError::Ended)?;
        // CHAT-RES-14: from 1, and on over all sessions of the line.
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        place.send(Unsent {
            id,
            chat,
            peer,
            files,
        });
        Ok(id)
    }

    /// As [`Session::follow`], while another task takes the events.
    ///
    /// # Errors
    ///
    /// [`SendError`]: the server grants no filters, or the session is over.
    pub async fn follow(&self, filter: Filter) -> Result<u64, SendError> {
        if !self.announced.has_follow.load(Ordering::Relaxed) {
            return Err(SendError::FollowNotGranted); // CHAT-GROW-6
        }
        let place = self.filters.reserve().await;
        let place = place.map_err(|_| SendError::Ended)?;
        let id = Follows::id(self.last_filter.fetch_add(1, Ordering::Relaxed) + 1);
        place.send((id, filter));
        Ok(id)
    }

    /// As [`Session::history`], while another task takes the events.
    ///
    /// # Errors
    ///
    /// [`HistoryError`]: the server does not give it, or the connection was lost.
    pub async fn history(&self, edge: Edge, limit: u32) -> Result<History, HistoryError> {
        self.page(edge, limit, None).await
    }

    /// As [`Session::filtered_history`], while another task takes the events.
    ///
    /// # Errors
    ///
    /// [`HistoryError`]: the server does not give it, or the connection was lost.
    pub async fn filtered_history(
        &self,
        edge: Edge,
        limit: u32,
        filter: &Filter,
    ) -> Result<History, HistoryError> {
        let filter = (!filter.is_everything()).then(|| filter.to_wire());
        self.page(edge, limit, filter).await
    }

    async fn page(
        &self,
        edge: Edge,
        limit: u32,
        filter: Option<wire::Filter>,
    ) -> Result<History, HistoryError> {
        let page_max = self.announced.history_page_max.load(Ordering::Relaxed);
        if page_max == 0 {
            return Err(HistoryError::NotGranted); // CHAT-GROW-6
        }
        let (answer, answered) = oneshot::channel();
        let request = Request {
            edge,
            // CHAT-HIST-7
            limit: limit.clamp(1, page_max),
            filter,
            answer,
        };
        let sent = self.requests.send(request).await;
        sent.map_err(|_| HistoryError::Lost)?;
        answered.await.unwrap_or(Err(HistoryError::Lost))
    }

    /// Prepares to leave: everything still to be sent exists already, and
    /// [`leave`](Self::leave) follows when `send` has taken it. If no chat is confirmed
    /// for ten seconds meanwhile, the session leaves without the rest.
    pub fn leave_soon(&self) {
        self.leaving.send_if_modified(|leaving| {
            let begins = *leaving == Leaving::No;
            if begins {
                *leaving = Leaving::Soon;
            }
            begins
        });
    }

    /// Starts to leave: sends everything given to `send` and waits for the receipts, at
    /// most ten seconds while none arrives. Nothing can be sent after it.
    pub fn leave(&self) {
        self.leaving.send_if_modified(|leaving| {
            let begins = matches!(leaving, Leaving::No | Leaving::Soon);
            if begins {
                *leaving = Leaving::WhenSent;
            }
            begins
        });
    }

    /// Leaves without sending the chats that wait; [`Ended`] counts them.
    pub fn leave_now(&self) {
        self.leaving.send_replace(Leaving::Now);
    }
}

/// Events that have arrived and are not taken yet.
#[derive(Debug)]
struct Events {
    queue: mpsc::Receiver<Event>,
    /// Older than the events in the queue.
    backlog: VecDeque<Event>,
    is_over: bool,
}

impl Events {
    /// Waits for something, and keeps the events that arrive meanwhile; `None` if they
    /// are too many.
    async fn keep_while<T>(&mut self, wanted: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(wanted);
        loop {
            if self.backlog.len() >= BACKLOG_EVENTS_MAX {
                return None;
            }
            // Both are cancel safe: `wanted` lives until it is done.
            tokio::select! {
                biased;
                done = &mut wanted => return Some(done),
                Some(event) = self.queue.recv() => self.backlog.push_back(event),
            }
        }
    }

    async fn next(&mut self) -> Option<Event> {
        if self.is_over {
            return None;
        }
        let event = match self.backlog.pop_front() {
            Some(event) => Some(event),
            None => self.queue.recv().await,
        };
        // Without a last event only if the runtime dropped the task.
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
    /// The text is longer than the server accepts.
    TooLong {
        /// Its length in bytes.
        text_bytes: usize,
        /// [`Limits::text_bytes_max`].
        text_bytes_max: usize,
    },
    /// The server has not granted directs, or was not asked to.
    NotGranted,
    /// The session is over or leaving; [`Session::next`] says why.
    Ended,
    /// Too many events are waiting: call [`Session::next`] between sends.
    EventsWaiting,
    /// The server has granted no follow, or was not asked to: it would leave out topic and
    /// mentions, and takes no filter.
    FollowNotGranted,
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
            Self::NotGranted => write!(f, "the server takes no direct messages"),
            Self::Ended => write!(f, "the session is over"),
            Self::FollowNotGranted => write!(f, "the server grants no topics and filters"),
            Self::EventsWaiting => write!(
                f,
                "{BACKLOG_EVENTS_MAX} events are waiting, take them between sends"
            ),
        }
    }
}

impl std::error::Error for SendError {}
