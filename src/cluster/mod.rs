//! Cluster: several nodes that serve one room. Each is the same state machine: it applies
//! the same commands in the one order that a stream gives them, so that all give the same
//! names, numbers and frames. The stream is kept by an engine beside them (NATS JetStream).
//!
//! ```text
//!   sessions ── commands ──▶ Sequencer ── records ──▶ the stream ──┐
//!                                                                  │ the one order
//!   room ◀── commands ── Replica ◀────────── records ◀─────────────┘
//! ```
//!
//! Pure; `src/server/cluster` moves the bytes.

pub(crate) mod checkpoint;
pub(crate) mod direct;
pub(crate) mod operate;
pub(crate) mod record;
pub(crate) mod replica;
pub(crate) mod sequencer;
