//! Sender: gives chats, directs, filters, requests and files to the task of a session.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncSeek, AsyncWrite};
use tokio::sync::{Mutex, mpsc, oneshot, watch};

use super::driver::Announced;
use super::files::{FileError, Outgoing, Transfer};
use super::follow::{Filter, Follows, NewChat};
use super::history::{HistoryError, Request};
use super::send_queue::Unsent;
use super::writing::Leaving;
use crate::limits::NAME_BYTES_MAX;
use crate::wire::get_history::Edge;
use crate::wire::{self, File, History};

/// How many events [`Session::send`](super::Session::send) keeps while it waits.
pub(super) const BACKLOG_EVENTS_MAX: usize = 65_536;

/// Sends into a session; clones send into the same one.
#[derive(Debug, Clone)]
pub struct Sender {
    pub(super) sends: mpsc::Sender<Unsent>,
    pub(super) filters: mpsc::Sender<(u64, Filter)>,
    pub(super) leaving: watch::Sender<Leaving>,
    pub(super) last_id: Arc<AtomicU64>,
    pub(super) last_filter: Arc<AtomicU64>,
    pub(super) requests: mpsc::Sender<Request>,
    pub(super) transfers: mpsc::Sender<Outgoing>,
    /// One download at a time.
    pub(super) turn: Arc<Mutex<()>>,
    pub(super) announced: Arc<Announced>,
}

impl Sender {
    /// As [`Session::send`](super::Session::send), while another task takes the events.
    ///
    /// # Errors
    ///
    /// [`SendError`]: the text is too long, or the session is over.
    pub async fn send(&self, chat: impl Into<NewChat>) -> Result<u64, SendError> {
        self.send_files(chat, Vec::new()).await
    }

    /// As [`Session::direct`](super::Session::direct), while another task takes the events.
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
        self.direct_files(peer, text, Vec::new()).await
    }

    /// As [`Session::direct_files`](super::Session::direct_files), while another task takes
    /// the events.
    ///
    /// # Errors
    ///
    /// As [`direct`](Self::direct).
    pub async fn direct_files(
        &self,
        peer: impl Into<String>,
        text: impl Into<String>,
        files: Vec<File>,
    ) -> Result<u64, SendError> {
        if !self.announced.takes_directs.load(Ordering::Relaxed) {
            return Err(SendError::NotGranted); // CHAT-GROW-6
        }
        // No member has a longer name, and a longer frame would end the session.
        let peer = peer.into().chars().take(NAME_BYTES_MAX + 1).collect();
        self.queue(text.into().into(), Some(peer), files).await
    }

    /// As [`Session::send_files`](super::Session::send_files), while another task takes the events.
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

    /// As [`Session::attach`](super::Session::attach), while another task takes the events.
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

    /// As [`Session::fetch`](super::Session::fetch), while another task takes the events.
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

    /// As [`Session::follow`](super::Session::follow), while another task takes the events.
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

    /// As [`Session::history`](super::Session::history), while another task takes the events.
    ///
    /// # Errors
    ///
    /// [`HistoryError`]: the server does not give it, or the connection was lost.
    pub async fn history(&self, edge: Edge, limit: u32) -> Result<History, HistoryError> {
        self.page(edge, limit, None).await
    }

    /// As [`Session::filtered_history`](super::Session::filtered_history), while another task takes the events.
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

    /// Leaves without sending the chats that wait; [`Ended`](super::Ended) counts them.
    pub fn leave_now(&self) {
        self.leaving.send_replace(Leaving::Now);
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
        /// [`Limits::text_bytes_max`](crate::wire::Limits::text_bytes_max).
        text_bytes_max: usize,
    },
    /// The server has not granted directs, or was not asked to.
    NotGranted,
    /// The session is over or leaving; [`Session::next`](super::Session::next) says why.
    Ended,
    /// Too many events are waiting: call [`Session::next`](super::Session::next) between sends.
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
