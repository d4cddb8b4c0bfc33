//! NATS: the stream of a cluster in NATS JetStream. One stream with one subject holds the
//! records of one room; a consumer pushes them in order.

mod checkpoints;

use std::{path::PathBuf, time::Duration};

use async_nats::{
    Client, ConnectOptions, ServerAddr, Subscriber,
    jetstream::{
        self, Context,
        consumer::{DeliverPolicy, push::OrderedConfig},
        stream::{self, StorageType},
    },
};
use futures_util::StreamExt as _;
use tokio::{sync::mpsc, time};
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug, warn};

use super::{Engine, Next, Stream, Taken, Trouble, passing};
use checkpoints::Checkpoints;

/// How long the engine may take to answer, in milliseconds.
const ANSWER_MS: u64 = 2_000;

/// How long the engine may take to say that it has a record, in milliseconds.
const ACK_MS: u64 = 1_000;

/// After how long without a record the consumer is made again, in milliseconds: this node
/// alone says something each second.
const SILENCE_MS: u64 = 2_500;

/// How long after a failure the consumer is made again, in milliseconds.
const AGAIN_MS: u64 = 200;

/// How long a checkpoint may take to be written, in milliseconds.
const KEEP_MS: u64 = 60_000;

/// How many records are read ahead.
const RECORDS_AHEAD_MAX: usize = 256;

/// Where the stream of a cluster is, and how to reach it.
#[derive(Debug, Clone)]
pub struct Nats {
    /// The addresses of the engine's servers.
    pub servers: Vec<ServerAddr>,
    /// The name of the room: letters, digits, `-` and `_`.
    pub room: String,
    /// On how many of its servers the engine keeps the stream.
    pub replicas: usize,
    /// The engine keeps what it has acknowledged, whatever happens.
    pub is_durable: bool,
    /// After how many bytes of records there is another checkpoint.
    pub checkpoint_bytes: u64,
    /// A file with credentials.
    pub credentials: Option<PathBuf>,
    /// A file with the certificates to trust.
    pub certificates: Option<PathBuf>,
}

/// The open stream.
pub(in crate::server) struct NatsStream {
    life: String,
    start: u64,
    last_position: u64,
    checkpoint: Option<Vec<u8>>,
    checkpoints: Checkpoints,
    records: stream::Stream,
    client: Client,
    context: Context,
    /// Where a node gets what is for it alone, without its name.
    node_subject: String,
    subject: String,
    /// Records from the consumer, refusals, and what became of checkpoints.
    incoming: mpsc::Receiver<Next>,
    refusals: mpsc::Sender<Next>,
    _pump: AbortOnDropHandle<()>,
    _mail: AbortOnDropHandle<()>,
}

/// The longest name of a room or a node, in bytes.
#[cfg(any(feature = "cli", feature = "store"))]
pub const NAME_BYTES_MAX: usize = 32;

/// Whether this can be a name, which is a part of a subject of NATS.
#[cfg(any(feature = "cli", feature = "store"))]
pub fn is_name(text: &str) -> bool {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.chars().all(is_allowed)
}

impl Nats {
    fn stream_name(&self) -> String {
        format!("CHAT_{}", self.room)
    }

    fn subject(&self) -> String {
        format!("chat.{}", self.room)
    }

    /// Where a node gets what is for it alone.
    fn node_subject(&self, node: &str) -> String {
        format!("chat-node.{}.{node}", self.room)
    }

    /// Where nodes ask for a file; with the name of a node behind a dot, that one.
    #[cfg(feature = "store")]
    pub(super) fn files_subject(&self) -> String {
        format!("chat-files.{}", self.room)
    }

    /// Where nodes ask for the past; with the name of a node behind a dot, that one.
    #[cfg(feature = "store")]
    pub(super) fn past_subject(&self) -> String {
        format!("chat-past.{}", self.room)
    }

    pub(super) async fn connect(&self) -> Result<Client, Trouble> {
        let mut options = ConnectOptions::new()
            .name("chat-server")
            .connection_timeout(Duration::from_millis(ANSWER_MS))
            .request_timeout(Some(Duration::from_millis(ANSWER_MS)))
            .event_callback(|event| async move { debug!("{event}") });
        if let Some(path) = &self.certificates {
            options = options.add_root_certificates(path.clone());
        }
        if let Some(path) = &self.credentials {
            options = options.credentials_file(path).await.map_err(|error| {
                Trouble::Lasting(format!(
                    "cannot read the credentials in {}: {error}",
                    path.display()
                ))
            })?;
        }
        // The library reads them from no address by itself.
        let named = self.servers.iter().find_map(|it| it.username());
        if let Some(user) = named {
            let password = self.servers.iter().find_map(|it| it.password());
            let password = password.unwrap_or_default().to_owned();
            options = options.user_and_password(user.to_owned(), password);
        }
        let connected = options.connect(&self.servers[..]).await;
        connected.map_err(|error| passing(format!("cannot reach NATS: {error}")))
    }
}

impl Engine for Nats {
    type Stream = NatsStream;

    async fn open(&self, node: &str) -> Result<NatsStream, Trouble> {
        let client = self.connect().await?;
        let context = jetstream::context::ContextBuilder::new()
            .timeout(Duration::from_millis(ANSWER_MS))
            .ack_timeout(Duration::from_millis(ACK_MS))
            .build(client.clone());
        let config = stream::Config {
            name: self.stream_name(),
            subjects: vec![self.subject()],
            storage: StorageType::File,
            num_replicas: self.replicas,
            description: Some("the order of a chat room".to_owned()),
            ..Default::default()
        };
        let stream = context.get_or_create_stream(config).await;
        let mut stream = stream.map_err(|error| {
            passing(format!(
                "NATS gives no stream (does it run with JetStream?): {error}"
            ))
        })?;
        let info = stream.info().await;
        let info = info.map_err(|error| passing(format!("NATS does not answer: {error}")))?;
        let server_id = client.server_info().server_id;
        let created = info.created.unix_timestamp_nanos() / 1_000_000;
        let life = match self.is_durable {
            true => format!("{created:x}"),
            false => format!("{created:x}-{}", server_id.get(..24).unwrap_or(&server_id)),
        };
        let last_position = info.state.last_sequence;
        // The records behind this one are kept.
        let kept = info
            .state
            .first_sequence
            .saturating_sub(1)
            .min(last_position);
        // Letters and digits that nobody else has.
        let writer = client.new_inbox().replace("_INBOX.", "");
        let of = (self.room.as_str(), life.as_str(), writer);
        let checkpoints = Checkpoints::open(&context, of, self.replicas).await;
        let checkpoints = checkpoints
            .map_err(|error| passing(format!("NATS gives no stream for checkpoints: {error}")))?;
        let unread = |error| passing(format!("NATS does not give the checkpoint: {error}"));
        let found = checkpoints.find(kept).await.map_err(unread)?;
        let (start, checkpoint) = match &found {
            Some(found) => {
                let bytes = checkpoints.read(found).await.map_err(unread)?;
                (found.position, Some(bytes))
            }
            // In a life that has no checkpoint yet, what is gone is of the lives before.
            None if kept > 0 && self.is_durable => {
                return Err(Trouble::Lasting(format!(
                    "NATS has the records of the room from {} on only, and no checkpoint: if they \
                     were purged by hand, remove the stream {}, and the room begins anew",
                    kept + 1,
                    self.stream_name()
                )));
            }
            None => (kept, None),
        };
        let (sender, incoming) = mpsc::channel(RECORDS_AHEAD_MAX);
        let messages = client.subscribe(self.node_subject(node)).await;
        let messages =
            messages.map_err(|error| passing(format!("NATS does not answer: {error}")))?;
        let mail = tokio::spawn(take_messages(messages, sender.clone()));
        let pump = Pump {
            context: context.clone(),
            client: client.clone(),
            stream_name: self.stream_name(),
            server_id: (!self.is_durable).then_some(server_id),
            position: start,
            sender: sender.clone(),
        };
        Ok(NatsStream {
            life,
            start,
            last_position,
            checkpoint,
            checkpoints,
            records: stream,
            client,
            context,
            node_subject: self.node_subject(""),
            subject: self.subject(),
            incoming,
            refusals: sender,
            _pump: AbortOnDropHandle::new(tokio::spawn(pump.run())),
            _mail: AbortOnDropHandle::new(mail),
        })
    }
}

impl Stream for NatsStream {
    fn life(&self) -> &str {
        &self.life
    }

    fn start(&self) -> u64 {
        self.start
    }

    fn take_checkpoint(&mut self) -> Option<Vec<u8>> {
        self.checkpoint.take()
    }

    fn last_position(&self) -> u64 {
        self.last_position
    }

    fn send(&mut self, node: &str, bytes: Vec<u8>) {
        let (client, subject) = (self.client.clone(), format!("{}{node}", self.node_subject));
        // At most one for each session that waits for an answer.
        tokio::spawn(async move {
            if let Err(error) = client.publish(subject, bytes.into()).await {
                debug!("NATS did not take a message to a node: {error}");
            }
        });
    }

    fn keep(&mut self, position: u64, checkpoint: Vec<u8>) {
        let (checkpoints, records) = (self.checkpoints.clone(), self.records.clone());
        let sender = self.refusals.clone();
        // One at a time: the caller waits for its end.
        tokio::spawn(async move {
            let keep = checkpoints.keep(&records, position, &checkpoint);
            let kept = match time::timeout(Duration::from_millis(KEEP_MS), keep).await {
                Ok(kept) => kept.map(|()| position),
                Err(_) => Err("NATS takes too long".to_owned()),
            };
            let _ = sender.send(Ok(Taken::Kept(kept))).await;
        });
    }

    fn publish(&mut self, bytes: Vec<u8>) {
        let (context, subject) = (self.context.clone(), self.subject.clone());
        let refusals = self.refusals.clone();
        // At most a few at a time: one batch is on its way, and comes again each second.
        tokio::spawn(async move {
            let published = match context.publish(subject, bytes.into()).await {
                Ok(acknowledged) => acknowledged.await,
                Err(error) => Err(error),
            };
            if let Err(error) = published {
                debug!("NATS did not take a batch: {error}");
                // Where there is no room there are records, which come first.
                let _ = refusals.try_send(Ok(Taken::Refused));
            }
        });
    }

    async fn next(&mut self) -> Next {
        match self.incoming.recv().await {
            Some(next) => next,
            None => Err(passing("NATS gives no more records")),
        }
    }
}

/// Takes what other nodes send to this one.
async fn take_messages(mut messages: Subscriber, sender: mpsc::Sender<Next>) {
    while let Some(message) = messages.next().await {
        let message = Taken::Message(message.payload.to_vec());
        if sender.send(Ok(message)).await.is_err() {
            return;
        }
    }
}

/// Takes records from the consumer.
struct Pump {
    context: Context,
    client: Client,
    stream_name: String,
    /// The server to which this life belongs, unless it is durable.
    server_id: Option<String>,
    position: u64,
    sender: mpsc::Sender<Next>,
}

impl Pump {
    async fn run(mut self) {
        loop {
            if !self.is_same_life() {
                let trouble = passing("the engine of the cluster was started again");
                let _ = self.sender.send(Err(trouble)).await;
                return;
            }
            match self.consume().await {
                Ok(()) => return,
                Err(sentence) => warn!("the consumer is made again: {sentence}"),
            }
            time::sleep(Duration::from_millis(AGAIN_MS)).await;
        }
    }

    /// Whether the client is still connected to the same run of the engine.
    fn is_same_life(&self) -> bool {
        let server_id = self.server_id.as_ref();
        server_id.is_none_or(|id| *id == self.client.server_info().server_id)
    }

    /// Takes records until the consumer fails, or nobody wants them.
    async fn consume(&mut self) -> Result<(), String> {
        let config = OrderedConfig {
            deliver_subject: self.client.new_inbox(),
            deliver_policy: match self.position {
                0 => DeliverPolicy::All,
                position => DeliverPolicy::ByStartSequence {
                    start_sequence: position + 1,
                },
            },
            ..Default::default()
        };
        let consumer = self
            .context
            .create_consumer_on_stream(config, self.stream_name.as_str());
        let consumer = consumer.await.map_err(|error| error.to_string())?;
        let messages = consumer.messages();
        let mut messages = messages.await.map_err(|error| error.to_string())?;
        loop {
            let next = time::timeout(Duration::from_millis(SILENCE_MS), messages.next());
            let message = match next.await {
                Err(_) => return Err("nothing came for a while".to_owned()),
                Ok(None) => return Err("it ended".to_owned()),
                Ok(Some(Err(error))) => return Err(error.to_string()),
                Ok(Some(Ok(message))) => message,
            };
            if !self.is_same_life() {
                return Err("NATS was started again".to_owned());
            }
            let info = message.info().map_err(|error| error.to_string())?;
            let (position, behind) = (info.stream_sequence, info.pending);
            if position <= self.position {
                continue;
            }
            self.position = position;
            let record = Ok(Taken::Record(position, message.payload.to_vec(), behind));
            if self.sender.send(record).await.is_err() {
                return Ok(());
            }
        }
    }
}

#[cfg(all(test, feature = "store"))]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_subject() {
        for name in ["", "a b", "a.b", ">", "a\r\nPUB x", &"x".repeat(33)] {
            assert!(!is_name(name), "{name:?}");
        }
        assert!(is_name("east-1_b"));
    }
}
