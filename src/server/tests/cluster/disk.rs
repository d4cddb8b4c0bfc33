//! The disk of a node, as a list. A kill takes what was handed over and is not committed.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard},
};

use super::*;
use crate::{
    log::Log,
    room::{Change, Place, Room},
    server::archive::{Archive, Delivery, RequestKind},
};

/// How long a commit takes, in milliseconds.
const COMMIT_MS: u64 = 7;

#[derive(Clone, Default)]
pub(super) struct Disk(Arc<Mutex<OnDisk>>);

pub(super) struct OnDisk {
    pub(super) epoch: String,
    pub(super) place: Place,
    pub(super) oldest_seq: u64,
    pub(super) seq: u64,
    /// The sender and the text of each chat.
    pub(super) chats: BTreeMap<u64, (String, String)>,
}

impl Default for OnDisk {
    fn default() -> Self {
        Self {
            epoch: "none".to_owned(),
            place: Place::default(),
            oldest_seq: 1,
            seq: 0,
            chats: BTreeMap::new(),
        }
    }
}

impl Disk {
    pub(super) fn on_disk(&self) -> MutexGuard<'_, OnDisk> {
        self.0.lock().expect("no test panics under it")
    }

    /// The room of a node that starts.
    pub(super) fn origin(&self, limits: &Limits) -> Origin {
        let kept = self.on_disk();
        let numbers = (kept.oldest_seq, kept.seq);
        Origin {
            room: Room::restored(kept.epoch.clone(), limits, numbers, [], []),
            log: Log::new(kept.seq + 1, limits.history_memory_bytes),
            archive: Some(Arc::default()),
            offers_history: true,
            files: None,
        }
    }

    /// Does what the threads of the store do.
    pub(super) async fn serve(self, hub: Arc<Hub>, archive: Arc<Archive>) {
        loop {
            tokio::time::sleep(Duration::from_millis(COMMIT_MS)).await;
            if let Some(pending) = archive.take_pending() {
                self.on_disk().commit(pending.changes);
                hub.commit_up_to(pending.log_end, pending.audience, &pending.waiting);
            }
            while let Some(request) = archive.take_request() {
                let RequestKind::Chats {
                    from_seq,
                    until_seq,
                    ..
                } = request.kind
                else {
                    panic!("nobody asks for a page");
                };
                let (delivery, behind_seq) = self.on_disk().chats(from_seq, until_seq);
                let index = request.index;
                archive.deliver(request, delivery, behind_seq);
                hub.registry.notify(&[index]);
            }
        }
    }
}

impl OnDisk {
    fn commit(&mut self, changes: Vec<Change>) {
        for change in changes {
            match change {
                Change::Chat { chat, sent_by } => {
                    assert_eq!((chat.seq, sent_by), (self.seq + 1, None));
                    self.seq = chat.seq;
                    self.chats.insert(chat.seq, (chat.sender, chat.text));
                }
                Change::Began { epoch, seq } => {
                    self.chats.clear();
                    (self.epoch, self.seq, self.oldest_seq) = (epoch, seq, seq + 1);
                }
                Change::Placed(place) => self.place = place,
                change => panic!("checkpoints have {change:?}"),
            }
        }
    }

    fn chats(&self, from_seq: u64, until_seq: u64) -> (Delivery, u64) {
        let mut frames = Vec::new();
        let chats = self.chats.range(from_seq..until_seq);
        for (&seq, (sender, text)) in chats {
            let chat = wire::Chat {
                seq,
                sender: sender.clone(),
                text: text.clone(),
                ..Default::default()
            };
            let message = Some(Message::Chat(chat));
            frame::encode(&ServerEnvelope { message }, &mut frames);
        }
        let chats = self.chats.range(from_seq..until_seq).count() as u64;
        if chats < until_seq - from_seq {
            // It has begun anew meanwhile.
            return (Delivery::Removed, from_seq);
        }
        let delivery = Delivery::Chats {
            frames,
            chats,
            is_last: true,
        };
        (delivery, until_seq)
    }
}
