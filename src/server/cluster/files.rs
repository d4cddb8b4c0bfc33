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
        files::{Folder, was_read},
        hub::{FileDone, Hub, NotRead},
    },
    session::{FileRead, Hash},
};

/// How much of a file another node may ask for at once, in bytes: more than a piece and those
/// that are read along ([`FileRead`]).
const BLOCK_BYTES_MAX: usize = 256 << 10;

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
    /// What was asked for.
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
    wanted: mpsc::Receiver<FileRead>,
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
                        Some(read) => self.fails(read),
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
        let mut holders: BTreeMap<Hash, String> = BTreeMap::new();
        let mut fetching = FuturesUnordered::new();
        loop {
            tokio::select! {
                read = self.wanted.recv(), if fetching.len() < DOWNLOADS_MAX => {
                    let Some(read) = read else {
                        return;
                    };
                    let holder = holders.get(&read.hash).cloned();
                    fetching.push(fetch(client, subject, holder, read));
                }
                Some((read, fetched)) = fetching.next(), if !fetching.is_empty() => {
                    match fetched {
                        Some((node, data)) => {
                            if holders.len() >= HOLDERS_MAX {
                                holders.clear();
                            }
                            holders.insert(read.hash, node);
                            let mut done = Vec::new();
                            was_read(read, &data, &mut done);
                            self.hub.files_done(&mut done);
                        }
                        None => {
                            holders.remove(&read.hash);
                            self.fails(read);
                        }
                    }
                }
            }
        }
    }

    /// No node has a piece, or can be reached.
    fn fails(&self, read: FileRead) {
        let failed = FileDone::Read(read, Err(NotRead::Elsewhere));
        self.hub.files_done(&mut vec![failed]);
    }
}

/// Fetches a piece and those behind it from the node that had the file, or else from one that
/// says that it has. Returns that node, and the bytes.
async fn fetch(
    client: &Client,
    subject: &str,
    holder: Option<String>,
    read: FileRead,
) -> (FileRead, Option<(String, Vec<u8>)>) {
    let bytes = read.bytes + read.ahead_bytes;
    let asked = |bytes| Asked {
        sha256: read.hash.to_vec(),
        offset: read.offset,
        bytes,
    };
    let find = async || Some(ask(client, subject.to_owned(), &asked(0)).await?.node);
    // Some pieces are less than a u32.
    let block = asked(bytes as u32);
    let get = async |node: String| {
        let answer = ask(client, format!("{subject}.{node}"), &block).await?;
        (answer.data.len() == bytes).then_some((node, answer.data))
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
    (read, fetched)
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
            let bytes = (asked.bytes as usize).min(BLOCK_BYTES_MAX);
            folder.read(&hash, asked.offset, bytes).ok()
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
