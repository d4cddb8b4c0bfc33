//! Session: send, receive events, leave.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite};
use tokio::sync::{mpsc, watch};

use super::backoff::Backoff;
use super::codec::{ByteStream, Halves};
use super::driver::{Announced, Channels, Driver, Reopen};
use super::event::{Ended, Ending, Event};
use super::files::FileError;
use super::follow::{Filter, NewChat};
use super::history::HistoryError;
use super::sender::{BACKLOG_EVENTS_MAX, SendError, Sender};
use super::writing::Leaving;
use crate::address::Address;
use crate::wire::get_history::Edge;
use crate::wire::{Capability, File, History, Limits, Registered};

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
        address: Option<Address>,
    ) -> Self {
        let (filters, filters_queued) = mpsc::channel(FILTERS_QUEUED_MAX);
        let (sends, sends_queued) = mpsc::channel(SENDS_QUEUED_MAX);
        let (events, events_queued) = mpsc::channel(EVENTS_QUEUED_MAX);
        let (leaving, leaving_seen) = watch::channel(Leaving::No);
        let (requests, requests_queued) = mpsc::channel(REQUESTS_QUEUED_MAX);
        let (transfers, transfers_queued) = mpsc::channel(PIECES_QUEUED_MAX);
        let announced = Arc::<Announced>::default();
        announced.set_address(address);
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

    /// The server of the present connection: of several that were given, the one that the
    /// session is at. `None` on a stream that the caller has opened
    /// ([`Connector::register`](super::Connector::register)).
    pub fn address(&self) -> Option<Address> {
        self.sender.announced.address()
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

    /// Sends one line that names files to one member alone: nobody else may fetch them
    /// (CHAT-FILE-4). The text says so as well, as with [`send_files`](Self::send_files).
    ///
    /// # Errors
    ///
    /// As [`direct`](Self::direct).
    pub async fn direct_files(
        &mut self,
        peer: impl Into<String>,
        text: impl Into<String>,
        files: Vec<File>,
    ) -> Result<u64, SendError> {
        let Self { sender, events, .. } = self;
        let sending = sender.direct_files(peer, text, files);
        let sent = events.keep_while(sending).await;
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
