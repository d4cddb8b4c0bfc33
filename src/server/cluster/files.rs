//! Files between nodes (CHAT-FILE). A file stays on the node that has it; another one fetches
//! the pieces that its members ask for, and keeps nothing of them.
//!
//! ```text
//!   this node  ── which node has it? ──▶ chat-files.ROOM         those that lack it are silent
//!             ◀── I ────────────────────
//!              ── a block of it ───────▶ chat-files.ROOM.NODE
//!             ◀── its bytes ────────────
//! ```
//!
//! They go through NATS on a connection of their own, so that no file delays the order.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_nats::Client;
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use prost::Message;
use tokio::{
    sync::{Semaphore, mpsc},
    task, time,
};
use tokio_util::task::AbortOnDropHandle;

use super::{
    Nats, Trouble,
    asking::{Troubles, answer, ask, ask_node, listen},
};
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

/// How many blocks are on their way to this node at a time, so that they share a slow way
/// between few; further ones wait for their turn.
const BLOCKS_AT_ONCE_MAX: usize = 8;

/// How long a node may take to say that it has a file, in milliseconds.
const FIND_MS: u64 = 2_000;

/// How long a node that has a file may take for a block, in milliseconds: all that may be on
/// their way need 210 kB a second.
const BLOCK_MS: u64 = 5_000;

/// How many nodes are asked for a block, one after the other.
const NODES_ASKED_MAX: usize = 3;

/// How many files have a holder that this node remembers.
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
    #[prost(uint32, tag = "3")]
    bytes: u32,
    /// Only whether it has that.
    #[prost(bool, tag = "4")]
    is_search: bool,
    /// The nodes that did not give it.
    #[prost(string, repeated, tag = "5")]
    not: Vec<String>,
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
        let mut troubles = Troubles::of("files");
        loop {
            troubles.tell(match self.nats.connect().await {
                Ok(client) => {
                    let served = self.serve(&client).await;
                    served.map_err(|error| error.to_string())
                }
                Err(Trouble::Passing(sentence) | Trouble::Lasting(sentence)) => Err(sentence),
            });
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
        let asked = listen(client, &subject, &self.node).await?;
        let (folder, node) = (self.folder.clone(), self.node.clone());
        tokio::select! {
            () = answer(client, asked, |asked| find(folder.clone(), node.clone(), asked)) => {}
            () = self.fetch(client, &subject) => {}
        }
        Ok(())
    }

    /// Fetches what members ask for, until nobody can ask any more.
    async fn fetch(&mut self, client: &Client, subject: &str) {
        let fetcher = Fetcher {
            client,
            subject,
            blocks: Semaphore::new(BLOCKS_AT_ONCE_MAX),
        };
        let mut holders: BTreeMap<Hash, String> = BTreeMap::new();
        // Who has a file is looked for once at a time, and the others who want it wait, so that
        // a file that nobody has holds up no other one. Each session wants one piece.
        let mut searched: BTreeMap<Hash, Vec<FileRead>> = BTreeMap::new();
        let mut fetching = FuturesUnordered::new();
        loop {
            tokio::select! {
                read = self.wanted.recv(), if fetching.len() < DOWNLOADS_MAX => {
                    let Some(read) = read else {
                        return;
                    };
                    if let Some(waiting) = searched.get_mut(&read.hash) {
                        waiting.push(read);
                        continue;
                    }
                    let holder = holders.get(&read.hash).cloned();
                    if holder.is_none() {
                        searched.insert(read.hash, Vec::new());
                    }
                    fetching.push(fetcher.fetch(holder, read));
                }
                Some((read, fetched)) = fetching.next(), if !fetching.is_empty() => {
                    let waiting = searched.remove(&read.hash).unwrap_or_default();
                    match fetched {
                        Some((node, data)) => {
                            for read in waiting {
                                fetching.push(fetcher.fetch(Some(node.clone()), read));
                            }
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
                            for read in waiting.into_iter().chain([read]) {
                                self.fails(read);
                            }
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

/// What all fetches share.
struct Fetcher<'a> {
    client: &'a Client,
    subject: &'a str,
    blocks: Semaphore,
}

impl Fetcher<'_> {
    /// Fetches a piece and those behind it from the node that had the file, or else from
    /// those that say that they have it. Returns the node, and the bytes.
    async fn fetch(
        &self,
        mut holder: Option<String>,
        read: FileRead,
    ) -> (FileRead, Option<(String, Vec<u8>)>) {
        let bytes = read.bytes + read.ahead_bytes;
        let mut asked = Asked {
            sha256: read.hash.to_vec(),
            offset: read.offset,
            // Some pieces are less than a u32.
            bytes: bytes as u32,
            is_search: false,
            not: Vec::new(),
        };
        for _ in 0..NODES_ASKED_MAX {
            let node = match holder.take() {
                Some(node) => node,
                None => {
                    let search = Asked {
                        is_search: true,
                        ..asked.clone()
                    };
                    match ask::<Answer>(self.client, self.subject.to_owned(), &search, FIND_MS)
                        .await
                    {
                        Some(answer) => answer.node,
                        None => break,
                    }
                }
            };
            if let Ok(_turn) = self.blocks.acquire().await
                && let Some(answer) =
                    ask_node::<Answer>(self.client, self.subject, &node, &asked, BLOCK_MS).await
                && answer.data.len() == bytes
            {
                return (read, Some((node, answer.data)));
            }
            asked.not.push(node);
        }
        (read, None)
    }
}

/// What this node has of what another one asks for.
async fn find(folder: Folder, node: String, asked: Asked) -> Option<Answer> {
    if asked.is_search && asked.not.contains(&node) {
        return None;
    }
    let read = task::spawn_blocking(move || {
        let hash = Hash::try_from(&asked.sha256[..]).ok()?;
        let bytes = (asked.bytes as usize).min(BLOCK_BYTES_MAX);
        match asked.is_search {
            true => folder.has(&hash, asked.offset, bytes).then(Vec::new),
            false => folder.read(&hash, asked.offset, bytes).ok(),
        }
    });
    let data = read.await.ok()??;
    Some(Answer { node, data })
}
