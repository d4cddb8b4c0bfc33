//! The options of `chat-server` about serving a room together with other servers.

use std::{
    io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use clap::Args;

use super::cluster::{NAME_BYTES_MAX, Nats, is_name};
use crate::{
    input_file,
    limits::{Limits, Unit},
};

/// The longest text, in bytes: NATS takes messages of 1 MiB.
const TEXT_BYTES_MAX: u32 = 512 * 1024;

/// The cluster that the server is a node of.
#[derive(Debug, Args)]
#[command(next_help_heading = "Several servers")]
pub struct ClusterOptions {
    /// Serve one room together with other servers, in the order that this NATS server with
    /// JetStream keeps; see docs/cluster.md. Several addresses are those of its cluster
    #[arg(
        long,
        env = "CHAT_CLUSTER",
        value_name = "nats://HOST[:PORT],...",
        value_delimiter = ',',
        hide_env_values = true,
        value_parser = parse_address
    )]
    cluster: Vec<async_nats::ServerAddr>,

    /// The room: each has a stream of its own
    #[arg(
        long,
        env = "CHAT_ROOM",
        value_name = "NAME",
        default_value = "main",
        requires = "cluster",
        value_parser = parse_name
    )]
    room: String,

    /// The name of this server in the cluster, other than those of the others and the same
    /// after a restart [default: the host's name and the port]
    #[arg(
        long,
        env = "CHAT_NODE",
        value_name = "NAME",
        requires = "cluster",
        value_parser = parse_name
    )]
    pub node: Option<String>,

    /// On how many servers NATS keeps the stream, if this server makes it
    #[arg(
        long,
        env = "CHAT_CLUSTER_REPLICAS",
        value_name = "COUNT",
        default_value = "1",
        requires = "cluster"
    )]
    cluster_replicas: NonZeroUsize,

    /// NATS keeps what it has acknowledged, whatever happens: three servers that sync each
    /// write. Without this, each restart of NATS begins the numbers again
    #[arg(long, env = "CHAT_CLUSTER_DURABLE", requires = "cluster")]
    cluster_durable: bool,

    /// After how much that nodes have said there is another checkpoint: NATS keeps what was
    /// said since the one before, and a server that starts reads that
    #[arg(
        long,
        env = "CHAT_CLUSTER_CHECKPOINT",
        value_name = "SIZE",
        default_value = "32MiB",
        requires = "cluster",
        value_parser = |text: &str| Unit::Bytes.parse(text)
    )]
    cluster_checkpoint: u64,

    /// A file with credentials for NATS
    #[arg(
        long,
        env = "CHAT_CLUSTER_CREDENTIALS",
        value_name = "FILE",
        requires = "cluster"
    )]
    cluster_credentials: Option<PathBuf>,

    /// A file with the certificates to trust for `tls://` addresses of NATS
    #[arg(
        long,
        env = "CHAT_CLUSTER_CA",
        value_name = "FILE",
        requires = "cluster"
    )]
    cluster_ca: Option<PathBuf>,
}

impl ClusterOptions {
    /// Whether the server is a node of a cluster.
    #[cfg(feature = "store")]
    pub fn is_node(&self) -> bool {
        !self.cluster.is_empty()
    }

    /// The stream of the cluster; `None` for a server that serves its room alone.
    ///
    /// # Errors
    ///
    /// A sentence that says which options do not go together.
    pub fn nats(&self, limits: &Limits) -> Result<Option<Nats>, String> {
        if self.cluster.is_empty() {
            return Ok(None);
        }
        if limits.text_bytes_max > TEXT_BYTES_MAX {
            return Err(format!(
                "with --cluster a text has {TEXT_BYTES_MAX} bytes at most, since a message of NATS \
                 has a limit too: lower --text-bytes-max"
            ));
        }
        if self.cluster.len() > 1 && !self.cluster_durable {
            return Err(
                "several addresses in --cluster need --cluster-durable: when the server of NATS \
                 that has the stream is another one, it may lack the newest records"
                    .to_owned(),
            );
        }
        let files = [&self.cluster_credentials, &self.cluster_ca];
        files.into_iter().flatten().try_for_each(|it| check(it))?;
        Ok(Some(Nats {
            servers: self.cluster.clone(),
            room: self.room.clone(),
            replicas: self.cluster_replicas.get(),
            is_durable: self.cluster_durable,
            checkpoint_bytes: self.cluster_checkpoint,
            credentials: self.cluster_credentials.clone(),
            certificates: self.cluster_ca.clone(),
        }))
    }
}

/// Checks a file that is read each time that the server connects to NATS: a pipe could be
/// read once, and without a writer it would hold up the start.
fn check(path: &Path) -> Result<(), String> {
    let (_, metadata) = input_file::read_start(path, 1)
        .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    match metadata.is_file() {
        true => Ok(()),
        false => Err(format!(
            "{} is no regular file, which it has to be: it is read more than once",
            path.display()
        )),
    }
}

/// An address of NATS. Its own parser takes any text for a host.
fn parse_address(text: &str) -> Result<async_nats::ServerAddr, String> {
    let is_address = ["nats://", "tls://"].iter().any(|it| text.starts_with(it));
    if !is_address {
        return Err("write nats://HOST, nats://HOST:PORT or tls://HOST:PORT".to_owned());
    }
    text.parse().map_err(|error: io::Error| error.to_string())
}

/// A name that can be a part of a subject of NATS.
fn parse_name(text: &str) -> Result<String, String> {
    match is_name(text) {
        true => Ok(text.to_owned()),
        false => Err(format!("1 to {NAME_BYTES_MAX} letters, digits, '-' or '_'")),
    }
}
