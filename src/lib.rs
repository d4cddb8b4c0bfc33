//! A chat whose contract is a schema: `proto/chat.proto` holds the messages and
//! every rule of the protocol, each with a permanent id that the code cites where
//! it enforces it. This crate is the reference server, the reference client and
//! the library under both.
//!
//! # The flow
//!
//! ```text
//!   client                                  server
//!  ┌───────────────┐   frames over TCP   ┌──────────────────────────────────────┐
//!  │ terminal      │ ──────────────────▶ │ connection: one small task each      │
//!  │ pipe      ──▶ │  Register Chat      │   frame ─▶ session ─▶ command ─▶ room  │
//!  │ your bot      │  Leave Ping Pong    │              │  (one short lock) │    │
//!  │               │                     │      replies │         published │    │
//!  │ client::…     │ ◀────────────────── │ outbound ◀───┘                   ▼    │
//!  └───────────────┘  Registered Chat    │   reader ◀───────── log, shared by   │
//!                     Error Receipt …    │   = a place in it   all connections  │
//!                                        └──────────────────────────────────────┘
//! ```
//!
//! # The map
//!
//! | module | what it is | knows IO? |
//! |---|---|---|
//! | [`wire`] | the types that the schema defines, generated | no |
//! | [`frame`] | bytes in, frames out | no |
//! | [`limits`] | the bounds, with their reasons | no |
//! | [`session`] | the rules of one connection: events and the time in, effects and commands out | no |
//! | [`room`] | what all agree on: applies commands in one order | no |
//! | [`password`] | a secret that nothing shows, and where programs have it from | to read it |
//! | [`log`] | the room's log of ready frames, and readers of it | no |
//! | [`store`] | the room on disk | yes |
//! | [`server`] | listeners, tasks and deadlines around sessions, room and log | yes |
//! | [`client`] | a library for clients and bots, and the terminal on it | yes |
//! | [`runtime`] | the event loop that the programs run on | yes |
//! | [`address`] | how an address of a server is written | no |
//! | [`pin`] | the fingerprint of a certificate, as an address names it | no |
//! | `quic` | QUIC connections, for client and server | yes |
//! | `tls` | which servers a client trusts, and the one provider of ciphers | yes |
//! | [`cli`] | what the command lines of all programs have in common | yes |
//! | [`files`] | writes the files that options name | yes |
//! | `capture` | writes what connections carried into a file | yes |
//!
//! # What holds it together
//!
//! - The rules are pure. Sessions, room, log, framing and the rendering of what peers sent
//!   mention no socket, no clock, no chance (`tests/tidy.rs` sees to it).
//! - A message is encoded once and appended to the log; a connection is a place in
//!   it. Nothing is done for each message and each receiver.
//! - Nobody waits for anybody: nothing is awaited under the hub's lock, and no
//!   connection's task waits for another's.
//! - Whatever grows has a bound, a named constant or a limit, and whoever exceeds
//!   it is told by a code.
//! - Nothing that comes from a peer can panic: it is refused with an error, and
//!   what passes becomes a type that cannot be wrong again ([`name::Name`],
//!   [`text::Text`]).

// Nothing that comes from a peer can panic: what could is not written, or stands
// with the reason why it cannot happen. Tests may.
#![cfg_attr(
    not(test),
    deny(
        clippy::indexing_slicing,
        clippy::string_slice,
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::todo,
        clippy::unimplemented
    )
)]

pub mod address;
#[cfg(any(feature = "client", feature = "suite"))]
pub mod capture;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "cluster")]
mod cluster;
#[cfg(feature = "cli")]
mod config_file;
#[cfg(any(feature = "cli", feature = "suite", feature = "bench"))]
pub mod files;
#[cfg(feature = "server")]
pub mod filter;
pub mod frame;
#[cfg(any(feature = "client", feature = "server"))]
pub mod identity;
#[cfg(any(feature = "cli", feature = "server"))]
mod input_file;
pub mod limits;
#[cfg(feature = "server")]
pub mod log;
#[cfg(any(feature = "client", feature = "server"))]
pub mod name;
#[cfg(feature = "cli")]
mod nearest;
#[cfg(any(feature = "client", feature = "server"))]
pub mod password;
pub mod pin;
#[cfg(feature = "quic")]
pub mod quic;
#[cfg(feature = "server")]
pub mod room;
#[cfg(feature = "cli")]
pub mod runtime;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
pub mod session;
#[cfg(feature = "store")]
pub mod store;
#[cfg(any(feature = "client", feature = "server"))]
pub mod text;
#[cfg(feature = "tls")]
pub mod tls;
#[cfg(any(feature = "client", feature = "server"))]
pub mod token_bucket;
pub mod wire;

/// Compiles the Rust code of the README with the tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
