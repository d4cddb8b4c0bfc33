//! The server: listeners, a task for each connection, and the hub that they share.
//!
//! ```text
//!  Listener ──accepts──▶ Connection (one task each) ◀─────── waker ───────────┐
//!                          │ frames in       ▲ bytes out                      │
//!                          ▼                 │                                │
//!                        Hub: lock { Sessions ──commands──▶ Room              │
//!                          ▲            │           └──events──▶ Log } append, commit
//!                          │            └──replies──▶ Outbound of the connection
//!                        tick: deadlines, slow consumers, the read pause
//! ```
//!
//! A connection's task does all there is to do for it: it reads, has its session judge
//! what arrived, and writes its replies and what is ahead of it in the log. It never
//! waits for another connection, and nobody waits for it.
//!
//! | module | what it is | knows IO? |
//! |---|---|---|
//! | [`options`] | the options of `chat-server` | no |
//! | `names_file` | reads the file of `--allow` | yes |
//! | `listener` | accepts streams of any transport, runs their handshakes | yes |
//! | `transport` | what a connection needs of a stream, and a server of a listener | yes |
//! | `tcp` | the TCP transport | yes |
//! | `tcp_info` | what the system knows of a TCP stream's delivery | yes |
//! | `address_limiter` | how many connections one address may have and make | no |
//! | `connection` | the task of one connection | yes |
//! | `deadline` | a timer of one connection, and whether its client has got on | clock |
//! | `frames`, `read_buffer` | what has arrived: cut into frames, kept until used | no |
//! | `read_budget` | how much a connection may read now | no |
//! | `outbound`, `reply_buffer` | what one connection has to send, in which order | no |
//! | `hub` | the shared state behind one lock; carries out effects; reads the clock | clock |
//! | `registry` | handles and wakers of the connections | no |
//! | `channel` | the log with its subscriptions, committed end and slow-consumer policy | no |
//! | `backpressure` | the read pause, and the small quota during one | no |
//! | `sender_window` | paces senders by the readers that keep up | no |
//! | `slow_consumer` | which members senders wait for, and for how long | no |
//! | `eviction` | which connections to close when all queues take too much | no |
//! | `simulation` | all of it against a model, in seeded schedules (tests) | no |

mod address_limiter;
mod backpressure;
mod channel;
mod connection;
mod deadline;
mod eviction;
mod frames;
mod hub;
mod listener;
#[cfg(feature = "cli")]
mod names_file;
#[cfg(feature = "cli")]
pub mod options;
mod outbound;
mod read_budget;
mod read_buffer;
mod registry;
mod reply_buffer;
mod sender_window;
#[cfg(test)]
mod simulation;
mod slow_consumer;
mod tcp;
#[cfg(target_os = "linux")]
mod tcp_info;
#[cfg(test)]
mod tests;
mod transport;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{task::JoinError, time};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::warn;

use crate::{limits::Limits, session::AccessPolicy};
use hub::Hub;
use tcp::Tcp;

/// How long connections have to take their last messages when the server closes,
/// in milliseconds. With [`ABORT_MS`], less than the 5 seconds of CHAT-CLOSE-3.
const CLOSING_GRACE_MS: u64 = 3_000;

/// How long they have to end after that, in milliseconds.
const ABORT_MS: u64 = 500;

/// A server that listens. [`Server::run`] makes it serve.
pub struct Server {
    listener: Tcp,
    hub: Arc<Hub>,
}

impl Server {
    /// Listens on the first of the addresses of `listen` (`HOST[:PORT]`, port 0 for
    /// a free one) that can be had.
    ///
    /// # Errors
    ///
    /// When `limits` do not fit together, or no address can be had.
    pub async fn bind(listen: &str, limits: Limits) -> io::Result<Self> {
        Self::bind_with_access(listen, limits, AccessPolicy::default()).await
    }

    /// As [`Server::bind`], for those alone whom `access` lets in (CHAT-ADM).
    ///
    /// # Errors
    ///
    /// As [`Server::bind`].
    pub async fn bind_with_access(
        listen: &str,
        limits: Limits,
        access: AccessPolicy,
    ) -> io::Result<Self> {
        limits
            .check()
            .map_err(|sentence| io::Error::new(io::ErrorKind::InvalidInput, sentence))?;
        let epoch = getrandom::u64().map_err(io::Error::other)?;
        Ok(Self {
            listener: Tcp::bind(listen, limits.write_deadline_ms).await?,
            hub: Arc::new(Hub::new(limits, access, format!("{epoch:016x}"))),
        })
    }

    /// The address it listens on, with the port it has.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` is done; then tells everybody with ServerClosing
    /// and ends within 5 seconds, whatever the clients do (CHAT-CLOSE-3).
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, hub } = self;
        let listener = Arc::new(listener);
        let connections = TaskTracker::new();
        let _ticking = AbortOnDropHandle::new(tokio::spawn(tick(Arc::clone(&hub))));
        // A task as the connections are, so that it takes turns with them.
        let mut accepting = AbortOnDropHandle::new(tokio::spawn(listener::accept(
            Arc::clone(&listener),
            Arc::clone(&hub),
            connections.clone(),
        )));
        tokio::select! {
            () = shutdown => {
                accepting.abort();
                let _ = accepting.await;
            }
            // It goes on for ever, or ends with a panic.
            ended = &mut accepting => {
                if let Err(Ok(panic)) = ended.map_err(JoinError::try_into_panic) {
                    std::panic::resume_unwind(panic);
                }
            }
        }
        hub.begin_closing("the server is shutting down".to_owned());
        // CHAT-CLOSE-1: also those who are connected and wait to be accepted.
        listener::accept_waiting(&*listener, &hub, &connections);
        drop(listener);
        connections.close();
        let grace = Duration::from_millis(CLOSING_GRACE_MS);
        if time::timeout(grace, connections.wait()).await.is_err() {
            warn!(
                connections = connections.len(),
                "closed without waiting for the clients that do not read or close"
            );
            hub.abort();
            let _ = time::timeout(Duration::from_millis(ABORT_MS), connections.wait()).await;
        }
    }
}

async fn tick(hub: Arc<Hub>) {
    let mut interval = time::interval(Duration::from_millis(slow_consumer::TICK_MS));
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        hub.tick();
    }
}
