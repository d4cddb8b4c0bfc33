//! The two threads of a store: one commits what the room accepted, one reads pages of
//! the past.

use std::{
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tracing::{error, info, warn};

use crate::{
    filter::Filter,
    frame,
    room::{self, LineId, Place},
    server::{
        data::cut_text,
        hub::{Hub, unix_ms},
    },
    session::{Edge, PageRequest},
    store::{self, CommitError, ReadError, Store, StoreReader},
    wire::{self, ServerEnvelope, server_envelope::Message},
};

use super::{
    Archive, Delivery, Request, RequestKind,
    past::{Kept, Offered, Removals},
};

/// What everybody is told when the store cannot go on.
const CANNOT_KEEP: &str = "the server cannot keep messages any more";

/// How long the writer waits before it tries again on a full disk, in milliseconds.
const FULL_RETRY_MS: u64 = 1_000;

/// How often chats beyond the bounds are removed at least, in milliseconds; each commit
/// removes some too.
const PRUNE_INTERVAL_MS: u64 = 1_000;

/// How much of the past is sent to a resumed session at once, in bytes: less than what
/// stops the server reading from it.
const CATCH_UP_BYTES: usize = 24 * 1024;

/// The most chats of it.
const CATCH_UP_CHATS: usize = 1_000;

/// What a History takes beyond its chats at most, in bytes: three numbers of ten bytes,
/// tags and lengths.
const HISTORY_OVERHEAD_BYTES_MAX: usize = 64;

/// The threads of a store.
pub(in crate::server) struct Threads {
    writer: JoinHandle<()>,
    reader: JoinHandle<()>,
}

impl Threads {
    /// Starts them, for a hub that has an archive. The store has the order of a cluster up
    /// to `position`.
    ///
    /// # Errors
    ///
    /// The system starts no thread.
    pub(in crate::server) fn start(
        (store, reader): (Store, StoreReader),
        position: u64,
        hub: &Arc<Hub>,
        archive: &Arc<Archive>,
    ) -> std::io::Result<Self> {
        let writer = Writer {
            store,
            hub: Arc::clone(hub),
            archive: Arc::clone(archive),
            next_prune: Instant::now(),
            oldest_seq: 0,
            removals: Removals::new(position),
        };
        let reader = Reader {
            store: reader,
            hub: Arc::clone(hub),
            archive: Arc::clone(archive),
        };
        Ok(Self {
            writer: spawn("store", hub, move || writer.run())?,
            reader: spawn("past", hub, move || reader.run())?,
        })
    }

    /// Waits until both have done what is due, behind [`Archive::close`].
    pub(in crate::server) fn join(self) {
        for thread in [self.writer, self.reader] {
            if thread.join().is_err() {
                error!("a thread of the store has panicked");
            }
        }
    }
}

/// Starts a thread. If it panics, the server ends: nothing that waits for it would ever
/// come.
fn spawn(
    name: &str,
    hub: &Arc<Hub>,
    work: impl FnOnce() + Send + 'static,
) -> std::io::Result<JoinHandle<()>> {
    let guard = PanicGuard(Arc::clone(hub));
    thread::Builder::new().name(name.to_owned()).spawn(move || {
        let _guard = guard;
        work();
    })
}

/// Tells the hub when its thread panics.
struct PanicGuard(Arc<Hub>);

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if thread::panicking() {
            let name = thread::current().name().unwrap_or_default().to_owned();
            self.0.fail(CANNOT_KEEP, format!(
                "the thread \"{name}\" of the room on disk has panicked, which is a fault of this \
                 program: what was confirmed is on the disk, and the server ends"
            ));
        }
    }
}

struct Writer {
    store: Store,
    hub: Arc<Hub>,
    archive: Arc<Archive>,
    next_prune: Instant,
    /// What the hub was told.
    oldest_seq: u64,
    /// The newest removals of the order of a cluster.
    removals: Removals,
}

impl Writer {
    fn run(mut self) {
        loop {
            let pending = self.archive.next_changes();
            let changes: Vec<_> = pending.changes.into_iter().map(to_store).collect();
            if !changes.is_empty() && !self.commit(&changes) {
                return;
            }
            if pending.log_end > 0 || !changes.is_empty() {
                self.hub
                    .commit_up_to(pending.log_end, pending.audience, &pending.waiting);
            } else if pending.is_closing {
                break;
            }
            if let Some(offered) = pending.past
                && !self.take_past(offered)
            {
                return;
            }
            if Instant::now() >= self.next_prune && !self.prune() {
                return;
            }
        }
        if let Err(error) = self.store.close(unix_ms()) {
            warn!("{error}");
        }
    }

    /// Commits, so that no number is given twice (CHAT-HIST-10), and waits for space if the
    /// disk is full. Returns whether the server may go on.
    fn commit(&mut self, changes: &[store::Change]) -> bool {
        let mut was_full = false;
        loop {
            let begun = Instant::now();
            match self.store.commit_and_prune(changes, unix_ms()) {
                Ok(oldest_seq) => {
                    self.removals.note(changes);
                    self.hub.metrics.commits.observe(begun.elapsed());
                    self.note_oldest(oldest_seq);
                    if was_full {
                        info!("the disk has space again");
                        self.hub.set_store_full(false);
                    }
                    return true;
                }
                Err(error @ CommitError::Failed(_)) => {
                    self.hub.fail(CANNOT_KEEP, error.to_string());
                    return false;
                }
                Err(error @ CommitError::Full) => {
                    if !was_full {
                        let so = match self.hub.is_clustered() {
                            true => {
                                "clients are sent to other servers of the cluster (CHAT-CLUS-1)"
                            }
                            false => "members are told that nothing is accepted (CHAT-HIST-9)",
                        };
                        error!("{error}; {so}");
                        self.hub.set_store_full(true);
                        was_full = true;
                    }
                    if self
                        .archive
                        .wait_for_close(Duration::from_millis(FULL_RETRY_MS))
                    {
                        self.hub.fail(CANNOT_KEEP, error.to_string());
                        return false;
                    }
                    // The oldest chats may make room; whether they did, the commit tells.
                    self.prune();
                }
            }
        }
    }

    /// Tells the hub which chat is the oldest now, if it is another one.
    fn note_oldest(&mut self, oldest_seq: u64) {
        if oldest_seq != self.oldest_seq {
            self.oldest_seq = oldest_seq;
            self.hub.prune(self.store.epoch(), oldest_seq);
        }
    }

    /// Keeps chats from another node, and says what has become of them. Returns whether the
    /// server may go on.
    fn take_past(&mut self, mut offered: Offered) -> bool {
        let kept = match self.removals.apply_to(&mut offered.piece) {
            false => Kept::Old,
            true => match self.store.take_past(&offered.piece, unix_ms()) {
                Ok(None) => Kept::Unfit,
                Ok(Some(taken)) => {
                    self.oldest_seq = taken.oldest_seq;
                    self.hub.past_taken(&offered.piece, taken.oldest_seq);
                    Kept::Taken(taken)
                }
                Err(CommitError::Full) => Kept::NoSpace,
                Err(error @ CommitError::Failed(_)) => {
                    self.hub.fail(CANNOT_KEEP, error.to_string());
                    return false;
                }
            },
        };
        // Its task may have ended.
        let _ = offered.done.send(kept);
        true
    }

    /// Removes chats beyond the bounds where no commit does. Returns whether the server
    /// may go on.
    fn prune(&mut self) -> bool {
        self.next_prune = Instant::now() + Duration::from_millis(PRUNE_INTERVAL_MS);
        match self.store.prune(unix_ms()) {
            Ok(oldest_seq) => self.note_oldest(oldest_seq),
            Err(CommitError::Full) => {}
            Err(error) => {
                self.hub.fail(CANNOT_KEEP, error.to_string());
                return false;
            }
        }
        true
    }
}

/// A change of the room as the store records it.
fn to_store(change: room::Change) -> store::Change {
    match change {
        room::Change::Chat { chat, sent_by } => store::Change::Chat {
            chat,
            sent_by: sent_by.map(|(line, id)| (line.0, id)),
        },
        room::Change::Removed(seq) => store::Change::Removed(seq),
        room::Change::Line(id, line) => store::Change::Line(store::Line {
            id: id.0,
            name: line.name.as_str().to_owned(),
            tokens: line.tokens.into(),
            attempt: line.attempt,
            began_seq: line.began_seq,
            seen_unix_ms: line.seen_unix_ms,
            sent: Vec::new(),
        }),
        room::Change::LineEnded(LineId(id)) => store::Change::LineEnded(id),
        room::Change::Owned(name, owner) => store::Change::Owned(store::Owner {
            name: name.as_str().to_owned(),
            key: *owner.key.as_bytes(),
            used_unix_ms: owner.used_unix_ms,
        }),
        room::Change::Disowned(name) => store::Change::Disowned(name.as_str().to_owned()),
        room::Change::Began { epoch, seq } => store::Change::Began { epoch, seq },
        room::Change::Placed(Place { position, record }) => {
            store::Change::Placed(store::Place { position, record })
        }
    }
}

struct Reader {
    store: StoreReader,
    hub: Arc<Hub>,
    archive: Arc<Archive>,
}

impl Reader {
    fn run(self) {
        while let Some(request) = self.archive.next_request() {
            let answered = match &request.kind {
                RequestKind::Page(page) => {
                    let page = self.page(page);
                    page.map(|frames| (Delivery::Page(frames), 0))
                }
                RequestKind::Chats {
                    from_seq,
                    until_seq,
                    filter,
                } => self.chats(*from_seq, *until_seq, filter.as_deref()),
            };
            match answered {
                Ok((delivery, behind_seq)) => self.deliver(request, delivery, behind_seq),
                Err(error) => return self.hub.fail(CANNOT_KEEP, error.to_string()),
            }
        }
    }

    fn deliver(&self, request: Request, delivery: Delivery, behind_seq: u64) {
        let index = request.index;
        self.archive.deliver(request, delivery, behind_seq);
        self.hub.registry.notify(&[index]);
    }

    /// The frame that answers a GetHistory (CHAT-HIST-1).
    fn page(&self, request: &PageRequest) -> Result<Vec<u8>, ReadError> {
        let frame_bytes_max = self.hub.limits().frame_bytes_max as usize;
        let bytes_max = frame_bytes_max.saturating_sub(HISTORY_OVERHEAD_BYTES_MAX);
        let chats_max = request.chats_max as usize; // CHAT-HIST-6
        let store = &self.store;
        // CHAT-HIST-3, CHAT-HIST-4, CHAT-HIST-5
        let mut page = match (request.edge, &request.filter) {
            (Edge::Before(seq), None) => store.page_before(seq, chats_max, bytes_max)?,
            (Edge::After(seq), None) => store.page_after(seq, chats_max, bytes_max)?,
            // CHAT-FOL-10
            (Edge::Before(seq), Some(filter)) => {
                store.filtered_page_before(seq, chats_max, bytes_max, |it| filter.passes(it))?
            }
            (Edge::After(seq), Some(filter)) => {
                store.filtered_page_after(seq, chats_max, bytes_max, |it| filter.passes(it))?
            }
        };
        for chat in &mut page.chats {
            cut_text(chat, self.hub.limits());
        }
        let mut frames = Vec::new();
        let envelope = envelope(Message::History(wire::History {
            id: request.id,
            from: page.from,
            to: page.to,
            chats: page.chats, // CHAT-HIST-2
        }));
        frame::encode(&envelope, &mut frames);
        Ok(frames)
    }

    /// Chats that a resumed session lacks, and the number behind them.
    fn chats(
        &self,
        from_seq: u64,
        until_seq: u64,
        filter: Option<&Filter>,
    ) -> Result<(Delivery, u64), ReadError> {
        let after_seq = from_seq.saturating_sub(1);
        let page = self
            .store
            .page_after(after_seq, CATCH_UP_CHATS, CATCH_UP_BYTES)?;
        let mut frames = Vec::new();
        let mut chats = 0;
        let mut next_seq = from_seq;
        for mut chat in page.chats {
            // They were removed since: what follows would come behind a gap (CHAT-RES-9).
            if chat.seq != next_seq || next_seq >= until_seq {
                break;
            }
            next_seq += 1;
            if filter.is_none_or(|filter| filter.passes(&chat)) {
                chats += 1;
                cut_text(&mut chat, self.hub.limits());
                frame::encode(&envelope(Message::Chat(chat)), &mut frames);
            }
        }
        let delivery = match next_seq == from_seq {
            true => Delivery::Removed,
            false => Delivery::Chats {
                frames,
                chats,
                is_last: next_seq >= until_seq,
            },
        };
        Ok((delivery, next_seq))
    }
}

fn envelope(message: Message) -> ServerEnvelope {
    ServerEnvelope {
        message: Some(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{limits::Limits, session::AccessPolicy};

    /// Nobody would commit any more, and the server would go on without receipts.
    #[test]
    fn a_thread_that_panics_ends_the_server() {
        let hub = Arc::new(Hub::in_memory(Limits::default(), AccessPolicy::default()));
        let calm = spawn("calm", &hub, || {}).expect("a thread");
        assert!(calm.join().is_ok());
        assert_eq!(hub.failure(), None);
        let wild = spawn("wild", &hub, || panic!("on purpose")).expect("a thread");
        assert!(wild.join().is_err());
        let failure = hub.failure().unwrap_or_default();
        assert!(failure.starts_with("the thread \"wild\""), "{failure}");
    }
}
