//! The client: a library for bots and clients, and the program `chat-client`.
//!
//! A bot that answers every message:
//!
//! ```no_run
//! use chat::client::{Event, Session};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut session = Session::connect("chat://127.0.0.1:5000", "echo").await?;
//!     while let Some(event) = session.next().await {
//!         if let Event::Message { sender, text, .. } = event {
//!             if text == "bye" {
//!                 break;
//!             }
//!             session.send(format!("{sender} said: {text}")).await?;
//!         }
//!     }
//!     session.leave().await;
//!     Ok(())
//! }
//! ```
//!
//! # The map
//!
//! | module | what it holds |
//! |---|---|
//! | `connect` | [`Connector`]: from an address to a session |
//! | `dial`, `register` | from an address to a connection; the first messages on it |
//! | `reopen` | the same again, for a session that was lost |
//! | `connect_error` | [`ConnectError`]: every way in which that can fail |
//! | `eyeballs` | which address of a host answers first |
//! | `session`, `sender` | [`Session`]: send, next, leave; [`Sender`], for other tasks |
//! | `event` | [`Event`], and how a session ends |
//! | `driver` | the task under a session, from one connection to the next |
//! | `connection`, `writing` | one connection: reads, writes, answers pings |
//! | `files` | uploads and downloads |
//! | `follow` | [`Filter`]: which chats come (pure) |
//! | `history` | requests for pages of the past |
//! | `key` | [`Key`]: proves that a name is one's own |
//! | `resume` | what a client keeps to continue its line (pure) |
//! | `backoff` | [`Backoff`]: when to connect again (pure) |
//! | `send_queue`, `pacer` | what to send when (pure) |
//! | `tap` | copies the frames of a connection into a capture |
//! | `tls` | the handshake of an encrypted connection |
//! | `codec` | frames on a byte stream |
//! | `outgoing` | [`Outgoing`]: makes any line sendable (pure) |
//! | `sanitize` | [`Printable`]: makes what others wrote safe to print (pure) |
//! | `wrap` | [`wrap()`]: cuts lines into the rows of a terminal (pure) |
//! | `app` | the program: options, terminal, pipes, sentences, exit codes |
//!
//! # What holds
//!
//! - No bytes from a server make this code panic, or take more memory than a few named
//!   constants allow.
//! - Reading never waits for writing, nor writing for reading; only untaken events stop
//!   the reading.
//! - Text of a peer reaches a terminal only through [`Printable`], and the left edge of
//!   a row only through [`wrap()`].

#[cfg(feature = "cli")]
pub mod app;
mod backoff;
mod codec;
mod connect;
mod connect_error;
mod connection;
mod dial;
mod driver;
mod event;
mod eyeballs;
mod files;
mod follow;
mod history;
#[cfg(feature = "keys")]
mod key;
mod outgoing;
mod pacer;
mod register;
mod reopen;
mod resume;
mod sanitize;
mod send_queue;
mod sender;
mod session;
mod tap;
#[cfg(feature = "tls")]
mod tls;
mod wrap;
mod writing;

pub use crate::address::{Address, AddressError, DEFAULT_PORT, Scheme};
pub use crate::identity::{PublicKey, SenderId};
pub use crate::pin::{Pin, PinError};
#[cfg(feature = "tls")]
pub use crate::tls::{Distrust, Trust, Untrusted};
pub use backoff::Backoff;
pub use connect::{ADDRESSES_MAX, CONNECT_TIMEOUT_MS, Connector};
pub use connect_error::ConnectError;
pub use event::{Ended, Ending, Event};
pub use files::FileError;
pub use follow::{Filter, NewChat};
pub use history::HistoryError;
#[cfg(feature = "keys")]
pub use key::Key;
pub use outgoing::Outgoing;
pub use pacer::Pacer;
pub use sanitize::{MARKS_MAX, NAME_CHARS_MAX, Printable};
pub use sender::{SendError, Sender};
pub use session::Session;
pub use wrap::{COLUMNS_MIN, INDENT_COLUMNS_MIN, Row, width, wrap};
#[cfg(feature = "cli")]
use wrap::{drawn_width, wrap_by};
