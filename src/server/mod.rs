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
//! | [`configured`] | them from the command line, the environment and a file | yes |
//! | `check` | what `--check` looks at beside the files that the server reads | yes |
//! | `reach_options` | those of them about TLS | no |
//! | `names_file`, `owners_file` | read the files of `--allow` and `--owners` | yes |
//! | `ban_file` | reads the file of `--deny`, and writes such files | yes |
//! | `kept_bans` | keeps the operator's bans beside the room on disk | yes |
//! | `listening` | the methods of [`Server`] that make it listen | yes |
//! | `listener` | accepts streams of any transport, runs their handshakes | yes |
//! | `transport` | what a connection needs of a stream, and a server of a listener | yes |
//! | [`systemd`] | sockets from systemd, and what it is told | yes |
//! | `tcp` | the TCP transport | yes |
//! | `tls` | the TLS transport, over TCP | yes |
//! | [`Certificates`] | the server's certificate and key, read again while it runs | yes |
//! | `expiry` | until when a certificate is valid | no |
//! | `web` | the page, and the WebSocket transport over TCP or TLS | yes |
//! | `quic` | the QUIC transport | yes |
//! | `tcp_info` | what the system knows of a TCP stream's delivery | yes |
//! | `cluster` | takes part in the order of several nodes | yes |
//! | `archive`, `data` | hands the room's changes to the store and the past to connections | yes |
//! | `file_queue`, `files` | the files that members upload, on the disk | yes |
//! | `address_limiter` | how many connections one address may have and make | no |
//! | `connection` | the task of one connection | yes |
//! | `deadline` | a timer of one connection, and whether its client has got on | clock |
//! | `frames`, `read_buffer` | what has arrived: cut into frames, kept until used | no |
//! | `read_budget` | how much a connection may read now | no |
//! | `outbound`, `reply_buffer` | what one connection has to send, in which order | no |
//! | `hub` | the shared state behind one lock; carries out effects; reads the clock | clock |
//! | `peer` | where a connection comes from, for the log | no |
//! | `proxied` | streams from proxies, which say first for whom they are | yes |
//! | `proxy_header` | that header (PROXY protocol) | no |
//! | `registry` | handles and wakers of the connections | no |
//! | [`control`] | the operator's socket, and `chat-server ctl` | yes |
//! | `channel` | the log with its subscriptions, committed end and slow-consumer policy | no |
//! | `backpressure` | the read pause, and the small quota during one | no |
//! | `sender_window` | paces senders by the readers that keep up | no |
//! | `slow_consumer` | which members senders wait for, and for how long | no |
//! | `eviction` | which connections to close when all queues take too much | no |
//! | `health` | `chat-server health`, which asks whether a server works | yes |
//! | `metrics` | what is counted, and the endpoint that shows it | yes |
//! | `reload` | what changes while the server runs | no |
//! | `simulation` | all of it against a model, in seeded schedules (tests) | no |

mod address_limiter;
mod archive;
mod backpressure;
#[cfg(feature = "cli")]
mod ban_file;
mod certificates;
mod channel;
#[cfg(feature = "cli")]
mod check;
#[cfg(feature = "cluster")]
mod cluster;
#[cfg(all(feature = "cluster", feature = "cli"))]
mod cluster_options;
#[cfg(feature = "cli")]
pub mod configured;
mod connection;
#[cfg(feature = "cli")]
pub mod control;
#[cfg(feature = "store")]
mod data;
#[cfg(all(feature = "store", feature = "cli"))]
mod data_options;
mod deadline;
mod eviction;
mod expiry;
mod file_queue;
#[cfg(feature = "store")]
mod files;
mod followers;
mod frames;
#[cfg(feature = "cli")]
mod health;
mod hub;
#[cfg(feature = "cli")]
mod kept_bans;
mod listener;
mod listening;
mod metrics;
#[cfg(feature = "cli")]
mod names_file;
#[cfg(feature = "cli")]
pub mod options;
mod outbound;
#[cfg(feature = "cli")]
mod owners_file;
mod peer;
mod proxied;
mod proxy_header;
#[cfg(feature = "quic")]
mod quic;
#[cfg(feature = "cli")]
mod reach_options;
mod read_budget;
mod read_buffer;
mod registry;
#[cfg(feature = "cli")]
mod reload;
mod reply_buffer;
mod sender_window;
#[cfg(test)]
mod simulation;
mod slow_consumer;
#[cfg(feature = "cli")]
pub mod systemd;
mod tcp;
#[cfg(target_os = "linux")]
mod tcp_info;
#[cfg(test)]
mod tests;
mod tls;
mod transport;
mod web;

use std::{io, sync::Arc, time::Duration};

#[cfg(feature = "cli")]
use tokio::sync::Mutex;
use tokio::{
    task::{JoinError, JoinSet},
    time,
};
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::warn;

use crate::{
    limits::Limits,
    session::{AccessPolicy, Closing},
};
pub use certificates::Certificates;
#[cfg(feature = "cluster")]
pub use cluster::Nats;
#[cfg(feature = "store")]
pub use data::Data;
use hub::{Hub, Origin};
#[cfg(feature = "cli")]
use kept_bans::KeptBans;
use listener::AnyListener;
use proxied::Proxies;
#[cfg(feature = "cli")]
pub use reload::{Live, Reloader};

/// How long connections have to take their last messages when the server closes,
/// in milliseconds. With [`ABORT_MS`], less than the 5 seconds of CHAT-CLOSE-3.
const CLOSING_GRACE_MS: u64 = 3_000;

/// How long they have to end after that, in milliseconds.
const ABORT_MS: u64 = 500;

/// A server. [`Server::listen`] and its likes make it listen, in as many ways as they
/// are called; [`Server::run`] makes it serve.
pub struct Server {
    listeners: Vec<Arc<dyn AnyListener>>,
    metrics: Option<metrics::Endpoint>,
    proxies: Proxies,
    hub: Arc<Hub>,
    #[cfg(feature = "cli")]
    control: Option<control::Serving>,
    /// Sockets that take the place of addresses.
    #[cfg(feature = "cli")]
    handed: systemd::Handed,
    /// Where the operator's bans are kept, if they are.
    #[cfg(feature = "cli")]
    kept_bans: Arc<Mutex<Option<KeptBans>>>,
    /// Keeps what the operators of a cluster ban.
    #[cfg(all(feature = "cluster", feature = "cli", feature = "store"))]
    following_bans: Option<AbortOnDropHandle<()>>,
    #[cfg(feature = "cluster")]
    cluster: Option<(AbortOnDropHandle<()>, Arc<cluster::Closing>)>,
    /// What fetches files from other nodes, and gives them those of this one.
    #[cfg(all(feature = "cluster", feature = "store"))]
    cluster_files: Option<AbortOnDropHandle<()>>,
    /// The same for the past.
    #[cfg(all(feature = "cluster", feature = "store"))]
    cluster_past: Option<AbortOnDropHandle<()>>,
    #[cfg(feature = "store")]
    store: Option<RunningStore>,
}

/// The threads of the store, and what they are told through.
#[cfg(feature = "store")]
struct RunningStore {
    archive: Arc<archive::Archive>,
    threads: archive::Threads,
    /// The files, if members may upload any.
    files: Option<RunningFiles>,
    /// Reads the past for other nodes.
    #[cfg(feature = "cluster")]
    past: Option<crate::store::StoreReader>,
}

/// The thread of the files, and what it is told through.
#[cfg(feature = "store")]
struct RunningFiles {
    queue: Arc<file_queue::FileQueue>,
    thread: files::FileThread,
    #[cfg_attr(
        not(feature = "cluster"),
        expect(dead_code, reason = "for other nodes")
    )]
    folder: files::Folder,
}

impl Server {
    /// A server that does not listen yet, for those alone whom `access` lets in
    /// (CHAT-ADM).
    ///
    /// # Errors
    ///
    /// When `limits` do not fit together.
    pub fn new(limits: Limits, access: AccessPolicy) -> io::Result<Self> {
        check(&limits)?;
        let origin = Origin::empty(&limits, fresh_epoch()?);
        Ok(Self::of(Arc::new(Hub::new(limits, access, origin))))
    }

    /// As [`Server::new`], for a room that is kept on disk.
    ///
    /// # Errors
    ///
    /// As [`Server::new`], and when the room cannot be opened.
    #[cfg(feature = "store")]
    pub fn with_data(limits: Limits, access: AccessPolicy, data: &Data) -> io::Result<Self> {
        check(&limits)?;
        let opened = data
            .open(&limits, fresh_epoch()?)
            .map_err(io::Error::other)?;
        let archive = opened.archive;
        let hub = Arc::new(Hub::new(limits, access, opened.origin));
        let place = opened.place;
        if data.follows_cluster {
            hub.set_kept(place.clone());
        }
        #[cfg(feature = "cli")]
        let kept_bans = {
            let opened = KeptBans::open(&data.dir).map_err(io::Error::other)?;
            let (kept, bans, mutes) = opened;
            hub.restore_bans(bans, mutes, kept.changes());
            kept
        };
        #[cfg(feature = "cluster")]
        let past = match data.follows_cluster {
            true => Some(opened.store.reader().map_err(io::Error::other)?),
            false => None,
        };
        let kept = (opened.store, opened.reader);
        let threads = archive::Threads::start(kept, place.position, &hub, &archive)?;
        let files = match opened.files {
            Some((folder, queue)) => {
                let thread = files::FileThread::start(folder.clone(), &hub, &queue)?;
                Some(RunningFiles {
                    queue,
                    thread,
                    folder,
                })
            }
            None => None,
        };
        let mut server = Self::of(hub);
        server.store = Some(RunningStore {
            archive,
            threads,
            files,
            #[cfg(feature = "cluster")]
            past,
        });
        #[cfg(feature = "cli")]
        {
            server.kept_bans = Arc::new(Mutex::new(Some(kept_bans)));
        }
        Ok(server)
    }

    fn of(hub: Arc<Hub>) -> Self {
        Self {
            listeners: Vec::new(),
            metrics: None,
            proxies: Proxies::default(),
            hub,
            #[cfg(feature = "cli")]
            control: None,
            #[cfg(feature = "cli")]
            handed: systemd::Handed::default(),
            #[cfg(feature = "cli")]
            kept_bans: Arc::default(),
            #[cfg(all(feature = "cluster", feature = "cli", feature = "store"))]
            following_bans: None,
            #[cfg(feature = "cluster")]
            cluster: None,
            #[cfg(all(feature = "cluster", feature = "store"))]
            cluster_files: None,
            #[cfg(all(feature = "cluster", feature = "store"))]
            cluster_past: None,
            #[cfg(feature = "store")]
            store: None,
        }
    }

    /// Serves its room together with other servers, as `node`: a name that no other one
    /// has. Clients are let in once it knows the room: returns then, or after a while, since
    /// the others may be out of reach. A room that is kept on disk must have been opened
    /// for that ([`Data::follows_cluster`]).
    #[cfg(feature = "cluster")]
    pub async fn join_cluster(&mut self, nats: Nats, node: String) {
        self.hub.order_elsewhere(cluster::RETRY_AFTER_MS);
        #[cfg(feature = "store")]
        if let Some(files) = self.store.as_ref().and_then(|it| it.files.as_ref()) {
            let (hub, folder) = (Arc::clone(&self.hub), files.folder.clone());
            self.cluster_files = Some(cluster::share_files(hub, folder, &nats, &node));
        }
        #[cfg(feature = "store")]
        if let Some(RunningStore { archive, past, .. }) = &mut self.store
            && let Some(reader) = past.take()
        {
            let (hub, archive) = (Arc::clone(&self.hub), Arc::clone(archive));
            self.cluster_past = Some(cluster::share_past(hub, archive, reader, &nats, &node));
        }
        #[cfg(all(feature = "cli", feature = "store"))]
        {
            let kept = Arc::clone(&self.kept_bans);
            let following = kept_bans::follower::follow(Arc::clone(&self.hub), kept);
            self.following_bans = Some(AbortOnDropHandle::new(tokio::spawn(following)));
        }
        let closing = Arc::<cluster::Closing>::default();
        let part = cluster::Part {
            node,
            checkpoint_bytes: nats.checkpoint_bytes,
        };
        let part = cluster::take_part(Arc::clone(&self.hub), nats, part, Arc::clone(&closing));
        self.cluster = Some((AbortOnDropHandle::new(tokio::spawn(part)), closing));
        let wait = Duration::from_millis(cluster::FIRST_WAIT_MS);
        let _ = time::timeout(wait, self.hub.became_reachable()).await;
    }

    /// Tells systemd every `interval` that the server is alive, for as long as the hub
    /// answers.
    #[cfg(feature = "cli")]
    pub fn watch(
        &self,
        interval: Duration,
        notifier: Arc<systemd::Notifier>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let hub = Arc::clone(&self.hub);
        async move {
            let mut interval = time::interval(interval);
            loop {
                interval.tick().await;
                // It takes the lock that every connection needs.
                hub.connection_count();
                notifier.alive();
            }
        }
    }

    /// Serves until `shutdown` is done, or the operator drains the server; then tells
    /// everybody with ServerClosing and ends within 5 seconds, whatever the clients do
    /// (CHAT-CLOSE-3).
    ///
    /// # Errors
    ///
    /// The room cannot be kept on disk any more. Everybody was told.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let Self {
            listeners,
            metrics,
            hub,
            ..
        } = self;
        let answering = metrics.map(|endpoint| endpoint.serve(Arc::clone(&hub)));
        let _answering = answering.map(|serve| AbortOnDropHandle::new(tokio::spawn(serve)));
        #[cfg(feature = "cluster")]
        let cluster = self.cluster;
        // Until the end.
        #[cfg(all(feature = "cluster", feature = "cli", feature = "store"))]
        let _following_bans = self.following_bans;
        let connections = TaskTracker::new();
        let _ticking = AbortOnDropHandle::new(tokio::spawn(tick(Arc::clone(&hub))));
        // Tasks as the connections are, so that they take turns with them.
        let mut accepting = JoinSet::new();
        for listener in &listeners {
            let (hub, connections) = (Arc::clone(&hub), connections.clone());
            accepting.spawn(Arc::clone(listener).accept_always(hub, connections));
        }
        let accepting_ended = async {
            match accepting.join_next().await {
                Some(ended) => ended,
                // Nothing listens.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shutdown => accepting.shutdown().await,
            () = hub.close_requested() => accepting.shutdown().await,
            () = hub.failed() => accepting.shutdown().await,
            // They go on for ever, or end with a panic.
            ended = accepting_ended => {
                if let Err(Ok(panic)) = ended.map_err(JoinError::try_into_panic) {
                    std::panic::resume_unwind(panic);
                }
            }
        }
        hub.begin_closing(Closing {
            detail: "the server is shutting down".to_owned(),
            retry_after_ms: hub.back_in_ms(),
        });
        // CHAT-CLOSE-1: also those who are connected and wait to be accepted. Those at a
        // socket of the service manager wait for the next server.
        for listener in &listeners {
            listener.accept_waiting(&hub, &connections);
        }
        drop(listeners);
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
        #[cfg(feature = "cluster")]
        if let Some((part, closing)) = cluster {
            closing.begin();
            let _ = time::timeout(Duration::from_millis(cluster::GOODBYE_MS_MAX), part).await;
        }
        #[cfg(feature = "store")]
        if let Some(RunningStore {
            archive,
            threads,
            files,
            ..
        }) = self.store
        {
            if hub.is_clustered() {
                hub.keep_place();
            }
            archive.close();
            if let Some(RunningFiles { queue, thread, .. }) = files {
                queue.close();
                let _ = tokio::task::spawn_blocking(|| thread.join()).await;
            }
            // What was accepted is kept, however long the disk takes.
            let _ = tokio::task::spawn_blocking(|| threads.join()).await;
        }
        match hub.failure() {
            None => Ok(()),
            Some(reason) => Err(io::Error::other(reason.to_owned())),
        }
    }
}

fn check(limits: &Limits) -> io::Result<()> {
    let checked = limits.check();
    checked.map_err(|sentence| io::Error::new(io::ErrorKind::InvalidInput, sentence))
}

/// An epoch that no earlier run of the numbers had (CHAT-ORD-7).
fn fresh_epoch() -> io::Result<String> {
    let epoch = getrandom::u64().map_err(io::Error::other)?;
    Ok(format!("{epoch:016x}"))
}

async fn tick(hub: Arc<Hub>) {
    let mut interval = time::interval(Duration::from_millis(slow_consumer::TICK_MS));
    interval.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        hub.tick();
    }
}
