//! Files between nodes (CHAT-FILE). A file stays on the node that has it; another one fetches
//! the pieces that its members ask for, and keeps nothing of them.
//!
//! ```text
//!   this node  ── which node has it? ──▶ chat-files.ROOM         those without it are silent
//!             ◀── I ────────────────────
//!              ── a block of it ───────▶ chat-files.ROOM.NODE
//!             ◀── its bytes ────────────
//! ```
//!
//! They go through NATS on a connection of their own, so that no file delays the order.

mod ahead;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_nats::{Client, Message as Received, Subscriber};
use futures_util::{
    StreamExt as _,
    stream::{self, FuturesUnordered},
};
use prost::Message;
use tokio::{sync::mpsc, task, time};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::{Nats, Trouble};
use crate::{
    limits::DOWNLOADS_MAX,
    server::{
        files::{Folder, piece_frame},
        hub::{FileDone, Hub, NotRead, Wanted},
    },
    session::Hash,
};
use ahead::Ahead;

/// How much of a file is fetched at once, in bytes: several pieces, since each block is one
/// way there and back.
const BLOCK_BYTES: usize = 128 << 10;

/// How much may be fetched before its members have asked for it, in bytes. With more, each
/// piece is fetched by itself.
const AHEAD_BYTES_MAX: usize = 8 << 20;

/// Of how many files this node remembers who has them.
const HOLDERS_MAX: usize = 1_024;

/// How long after a failure the connection is made again, in milliseconds.
const AGAIN_MS: u64 = 1_000;

/// What a node asks another one.
#[derive(Clone, PartialEq, Eq, Message)]
struct Asked {
    #[prost(bytes = "vec", tag = "1")]
    sha256: Vec<u8>,
    #[prost(uint64, tag = "2")]
    offset: u64,
    /// 0: only whether it has the file.
    #[prost(uint32, tag = "3")]
    bytes: u32,
}

/// What it answers, if it has the file.
#[derive(Clone, PartialEq, Eq, Message)]
struct Answer {
    /// Its name.
    #[prost(string, tag = "1")]
    node: String,
    /// What was asked for, up to the end of the file.
    #[prost(bytes = "vec", tag = "2")]
    data: Vec<u8>,
}

/// The files of this node for others, and those of others for its members.
struct Files {
    nats: Nats,
    node: String,
    folder: Folder,
    hub: Arc<Hub>,
    /// What members of this node are to be sent and is not on its disk.
    wanted: mpsc::Receiver<Wanted>,
}

/// Gives other nodes the files in `folder`, and members those of other nodes, until the
/// handle is dropped.
pub(in crate::server) fn share_files(
    hub: Arc<Hub>,
    folder: Folder,
    nats: &Nats,
    node: &str,
) -> AbortOnDropHandle<()> {
    let (fetcher, wanted) = mpsc::channel(DOWNLOADS_MAX);
    hub.fetch_files(fetcher);
    let files = Files {
        nats: nats.clone(),
        node: node.to_owned(),
        folder,
        hub,
        wanted,
    };
    AbortOnDropHandle::new(tokio::spawn(files.run()))
}

impl Files {
    async fn run(mut self) {
        loop {
            match self.nats.connect().await {
                Ok(client) => {
                    if let Err(error) = self.serve(&client).await {
                        debug!("files cannot go between nodes: {error}");
                    }
                }
                Err(Trouble::Passing(sentence) | Trouble::Lasting(sentence)) => {
                    debug!("files cannot go between nodes: {sentence}");
                }
            }
            let again = time::sleep(Duration::from_millis(AGAIN_MS));
            tokio::pin!(again);
            loop {
                tokio::select! {
                    wanted = self.wanted.recv() => match wanted {
                        Some(wanted) => self.done(&wanted, None),
                        None => return,
                    },
                    () = &mut again => break,
                }
            }
        }
    }

    async fn serve(&mut self, client: &Client) -> Result<(), async_nats::SubscribeError> {
        let subject = self.nats.files_subject();
        let own = format!("{subject}.{}", self.node);
        let all = client.subscribe(subject.clone()).await?;
        let own = client.subscribe(own).await?;
        let (folder, node) = (self.folder.clone(), self.node.clone());
        tokio::select! {
            () = answer(client, folder, node, [all, own]) => {}
            () = self.fetch(client, &subject) => {}
        }
        Ok(())
    }

    /// Fetches what members ask for, until nobody can ask any more.
    async fn fetch(&mut self, client: &Client, subject: &str) {
        let mut ahead = Ahead::default();
        let mut holders: BTreeMap<Hash, String> = BTreeMap::new();
        let mut fetching = FuturesUnordered::new();
        loop {
            tokio::select! {
                wanted = self.wanted.recv(), if fetching.len() < DOWNLOADS_MAX => {
                    let Some(wanted) = wanted else {
                        return;
                    };
                    if let Some(data) = ahead.take(&wanted) {
                        self.done(&wanted, Some(data));
                        continue;
                    }
                    let reserved = (fetching.len() + 1) * BLOCK_BYTES + ahead.bytes();
                    let bytes = match reserved <= AHEAD_BYTES_MAX {
                        true => BLOCK_BYTES.max(wanted.bytes),
                        false => wanted.bytes,
                    };
                    let holder = holders.get(&wanted.hash).cloned();
                    fetching.push(fetch(client, subject, holder, wanted, bytes));
                }
                Some((wanted, fetched)) = fetching.next(), if !fetching.is_empty() => {
                    let Some((node, mut block)) = fetched else {
                        holders.remove(&wanted.hash);
                        self.done(&wanted, None);
                        continue;
                    };
                    if holders.len() >= HOLDERS_MAX {
                        holders.clear();
                    }
                    holders.insert(wanted.hash, node);
                    let rest = block.split_off(wanted.bytes);
                    ahead.put(&wanted, rest);
                    self.done(&wanted, Some(block));
                }
            }
        }
    }

    /// Gives a piece to the member that waits for it.
    fn done(&self, wanted: &Wanted, data: Option<Vec<u8>>) {
        let &Wanted {
            index,
            serial,
            hash,
            offset,
            ..
        } = wanted;
        let frame = data.map(|data| piece_frame(&hash, offset, data));
        let read = FileDone::Read {
            index,
            serial,
            hash,
            frame: frame.ok_or(NotRead::Elsewhere),
        };
        self.hub.files_done(&mut vec![read]);
    }
}

/// Fetches a block from the node that had the file, or else from one that says that it has.
/// Returns that node, and at least what is wanted.
async fn fetch(
    client: &Client,
    subject: &str,
    holder: Option<String>,
    wanted: Wanted,
    bytes: usize,
) -> (Wanted, Option<(String, Vec<u8>)>) {
    let asked = |bytes| Asked {
        sha256: wanted.hash.to_vec(),
        offset: wanted.offset,
        bytes,
    };
    let find = async || Some(ask(client, subject.to_owned(), &asked(0)).await?.node);
    // A block is less than a u32.
    let block = asked(bytes as u32);
    let get = async |node: String| {
        let answer = ask(client, format!("{subject}.{node}"), &block).await?;
        let is_whole = (wanted.bytes..=bytes).contains(&answer.data.len());
        is_whole.then_some((node, answer.data))
    };
    let mut fetched = None;
    if let Some(node) = holder {
        fetched = get(node).await;
    }
    if fetched.is_none()
        && let Some(node) = find().await
    {
        fetched = get(node).await;
    }
    (wanted, fetched)
}

/// The first answer, if one comes in time.
async fn ask(client: &Client, subject: String, asked: &Asked) -> Option<Answer> {
    let answer = client.request(subject, asked.encode_to_vec().into()).await;
    let answer = answer.inspect_err(|error| debug!("no node has answered for a file: {error}"));
    Answer::decode(answer.ok()?.payload).ok()
}

/// Answers other nodes, one after another, so that one block is in memory at a time.
async fn answer(client: &Client, folder: Folder, node: String, asked: [Subscriber; 2]) {
    let mut asked = stream::select_all(asked);
    while let Some(Received { reply, payload, .. }) = asked.next().await {
        let Some((reply, asked)) = reply.zip(Asked::decode(payload).ok()) else {
            warn!("another program writes to this node over NATS");
            continue;
        };
        let folder = folder.clone();
        let read = task::spawn_blocking(move || {
            let hash = Hash::try_from(&asked.sha256[..]).ok()?;
            let bytes = (asked.bytes as usize).min(BLOCK_BYTES);
            folder.read_up_to(&hash, asked.offset, bytes).ok()
        });
        // Another node may have it: silence.
        let Ok(Some(data)) = read.await else {
            continue;
        };
        let node = node.clone();
        let answer = Answer { node, data }.encode_to_vec();
        let published = client.publish(reply, answer.into()).await;
        if published.is_err() || client.flush().await.is_err() {
            debug!("NATS did not take a part of a file");
        }
    }
}
