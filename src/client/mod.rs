//! The client: a library that anyone can write a bot with, and `chat-client` on
//! top of it.
//!
//! A bot that answers everybody:
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
//! | `address` | `chat://name@host:port` |
//! | `connect` | [`Connector`]: from an address to a session |
//! | `session` | [`Session`]: send, next, leave |
//! | `event` | [`Event`], and how a session ends |
//! | `driver` | the task under a session: reads, writes, answers pings |
//! | `send_queue`, `pacer` | what to send when (pure) |
//! | `codec` | frames on a byte stream |
//! | `outgoing` | [`Outgoing`]: makes any line sendable (pure) |
//! | `sanitize` | [`Printable`]: makes what others wrote safe to print (pure) |
//! | `wrap` | [`Line`]: cuts lines into the rows of a terminal (pure) |
//! | `app` | the program: options, terminal, pipes, sentences, exit codes |
//!
//! # What holds
//!
//! - What a server sends never panics this code, and never takes more memory
//!   than a few named bounds allow.
//! - Reading never waits for writing, nor writing for reading; only events that
//!   nobody takes stop the reading.
//! - Nothing that a peer wrote reaches a terminal except through [`Printable`], nor
//!   the left edge of a row except through [`Line`].

mod address;
#[cfg(feature = "cli")]
pub mod app;
mod codec;
mod connect;
mod driver;
mod event;
mod outgoing;
mod pacer;
mod sanitize;
mod send_queue;
mod session;
mod wrap;

pub use address::{Address, AddressError, SCHEME};
pub use connect::{ADDRESSES_MAX, CONNECT_TIMEOUT_MS, ConnectError, Connector};
pub use event::{Ended, Ending, Event};
pub use outgoing::Outgoing;
pub use pacer::Pacer;
pub use sanitize::{MARKS_MAX, NAME_CHARS_MAX, Printable};
pub use session::{SendError, Sender, Session};
pub use wrap::{COLUMNS_MIN, INDENT, Line};
