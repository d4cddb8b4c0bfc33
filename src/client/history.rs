//! History: requests for pages of the past, and their answers (CHAT-HIST). Pure, but for
//! the channels to those who asked.

use std::collections::VecDeque;
use std::fmt;

use tokio::sync::oneshot;

use crate::wire::{Error, ErrorCode, Filter, GetHistory, History, get_history::Edge};

/// How many requests may be without an answer.
const REQUESTS_MAX: usize = 4;

/// Added to the ids of requests, so that they are not those of chats: an error names
/// either.
const IDS_FROM: u64 = 1 << 63;

/// A page that somebody wants.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) edge: Edge,
    pub(crate) limit: u32,
    pub(crate) filter: Option<Filter>,
    pub(crate) answer: oneshot::Sender<Result<History, HistoryError>>,
}

/// The requests that the server has not answered.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    asked: u64,
    waiting: VecDeque<(u64, oneshot::Sender<Result<History, HistoryError>>)>,
}

impl Pages {
    /// Whether another request may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < REQUESTS_MAX
    }

    /// The message for a request, which counts as sent.
    pub(crate) fn ask(&mut self, request: Request) -> GetHistory {
        let id = IDS_FROM + self.asked;
        self.asked += 1;
        self.waiting.push_back((id, request.answer));
        GetHistory {
            id,
            limit: request.limit,
            edge: Some(request.edge),
            filter: request.filter,
        }
    }

    /// A page arrived.
    pub(crate) fn arrived(&mut self, page: History) {
        if let Some(answer) = self.take(page.id) {
            // The one who asked may be gone.
            let _ = answer.send(Ok(page));
        }
    }

    /// Whether an error refuses a request, which is told then.
    pub(crate) fn refused(&mut self, error: &Error) -> bool {
        let answer = self.take(error.id).filter(|_| !error.ends_session);
        let is_refused = answer.is_some();
        if let Some(answer) = answer {
            let _ = answer.send(Err(HistoryError::Refused {
                code: error.code(),
                detail: error.detail.clone(),
            }));
        }
        is_refused
    }

    /// The connection is lost, and with it the answers.
    pub(crate) fn lost(&mut self) {
        self.waiting.clear();
    }

    fn take(&mut self, id: u64) -> Option<oneshot::Sender<Result<History, HistoryError>>> {
        let index = self
            .waiting
            .iter()
            .position(|&(waiting, _)| waiting == id)?;
        self.waiting.remove(index).map(|(_, answer)| answer)
    }
}

/// Why there is no page of the past.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HistoryError {
    /// The server has not granted history, or was not asked to.
    NotGranted,
    /// The server refused the request.
    Refused {
        /// Why; [`ErrorCode::Unspecified`] for a code that this library does not know.
        code: ErrorCode,
        /// The server's sentence about it; can be empty, and is not safe to print as it
        /// is.
        detail: String,
    },
    /// The connection was lost before the answer.
    Lost,
    /// Too many events are waiting: call [`Session::next`](super::Session::next) between.
    EventsWaiting,
}

impl fmt::Display for HistoryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotGranted => write!(f, "the server grants no history"),
            Self::Refused { code, detail } => {
                write!(f, "the server refused ({}): {detail:?}", code.as_str_name())
            }
            Self::Lost => write!(f, "the connection was lost before the answer"),
            Self::EventsWaiting => write!(f, "too many events are waiting to be taken"),
        }
    }
}

impl std::error::Error for HistoryError {}
