//! Checkpoints in NATS: a second stream beside that of the records, so that nodes which
//! follow the records are not sent them, and only a newcomer reads one. A checkpoint may be
//! larger than a message of NATS, so it is kept in pieces, each under a subject of its own:
//!
//! ```text
//!   chat-checkpoint.ROOM.LIFE.POSITION.PIECES.WRITER.PIECE
//! ```
//!
//! It is whole when all of its pieces are there. Nothing is dropped but what a whole one
//! makes superfluous, so whoever writes, however often it is cut off, and even if two nodes
//! write at once, there is always a whole one from which the records are kept.

use std::collections::{BTreeMap, BTreeSet};

use async_nats::jetstream::{
    Context,
    stream::{self, StorageType},
};
use futures_util::StreamExt as _;

/// How long a piece is, in bytes: NATS takes messages of 1 MiB by default.
const PIECE_BYTES: usize = 256 * 1024;

/// How many pieces a checkpoint has at most: 256 MiB of them, a million members.
const PIECES_MAX: usize = 1_024;

/// The stream of the checkpoints of one room.
#[derive(Clone)]
pub(super) struct Checkpoints {
    context: Context,
    stream: stream::Stream,
    room: String,
    life: String,
    /// Names this node among those that write.
    writer: String,
}

/// A checkpoint in the engine.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Found {
    pub(super) position: u64,
    pieces: usize,
    writer: String,
}

/// What a stream of checkpoints has.
struct Listed {
    /// The whole ones of this life, by position.
    whole: Vec<Found>,
    /// Those that have not all their pieces.
    partial: Vec<Found>,
    /// The subjects of other lives.
    others: Vec<String>,
}

impl Checkpoints {
    /// Opens it, and makes it if it is not there yet.
    pub(super) async fn open(
        context: &Context,
        (room, life, writer): (&str, &str, String),
        replicas: usize,
    ) -> Result<Self, String> {
        let config = stream::Config {
            // No stream of records has this name, since theirs begin with `CHAT_`.
            name: format!("CHAT-CHECKPOINTS_{room}"),
            subjects: vec![format!("chat-checkpoint.{room}.>")],
            storage: StorageType::File,
            num_replicas: replicas,
            // A piece that is written twice counts once.
            max_messages_per_subject: 1,
            description: Some("where newcomers to a chat room begin".to_owned()),
            ..Default::default()
        };
        let stream = context.get_or_create_stream(config).await;
        Ok(Self {
            context: context.clone(),
            stream: stream.map_err(|error| error.to_string())?,
            room: room.to_owned(),
            life: life.to_owned(),
            writer,
        })
    }

    /// What is there.
    async fn list(&self) -> Result<Listed, String> {
        let all = self.stream.info_with_subjects(">");
        let mut all = all.await.map_err(|error| error.to_string())?;
        let mut pieces: BTreeMap<Found, BTreeSet<usize>> = BTreeMap::new();
        let mut others = Vec::new();
        while let Some(subject) = all.next().await {
            let (subject, _) = subject.map_err(|error| error.to_string())?;
            match self.parse(&subject) {
                Some((found, piece)) => drop(pieces.entry(found).or_default().insert(piece)),
                None => others.push(subject),
            }
        }
        let (whole, partial): (Vec<_>, Vec<_>) = pieces
            .into_iter()
            .partition(|(found, pieces)| pieces.len() == found.pieces);
        let found = |those: Vec<(Found, _)>| those.into_iter().map(|(found, _)| found).collect();
        Ok(Listed {
            whole: found(whole),
            partial: found(partial),
            others,
        })
    }

    /// The oldest one from which the stream keeps all records, which begin behind `kept`:
    /// with it comes the most of the past.
    pub(super) async fn find(&self, kept: u64) -> Result<Option<Found>, String> {
        let Listed { whole, .. } = self.list().await?;
        Ok(whole.into_iter().find(|found| found.position >= kept))
    }

    /// The bytes of one.
    pub(super) async fn read(&self, found: &Found) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        for piece in 0..found.pieces.min(PIECES_MAX) {
            let subject = self.subject(found, piece);
            let message = self.stream.get_last_raw_message_by_subject(&subject).await;
            bytes.extend_from_slice(&message.map_err(|error| error.to_string())?.payload);
        }
        Ok(bytes)
    }

    /// Writes one, and drops what no newcomer needs any more.
    pub(super) async fn keep(
        &self,
        records: &stream::Stream,
        position: u64,
        bytes: &[u8],
    ) -> Result<(), String> {
        let pieces: Vec<_> = bytes.chunks(PIECE_BYTES).collect();
        if pieces.len() > PIECES_MAX {
            return Err(format!("it has {} bytes, too many", bytes.len()));
        }
        let found = Found {
            position,
            pieces: pieces.len(),
            writer: self.writer.clone(),
        };
        for (piece, bytes) in pieces.into_iter().enumerate() {
            let subject = self.subject(&found, piece);
            let published = self.context.publish(subject, bytes.to_vec().into()).await;
            let published = published.map_err(|error| error.to_string())?;
            published.await.map_err(|error| error.to_string())?;
        }
        let Listed {
            whole,
            partial,
            others,
        } = self.list().await?;
        // Two are kept, so that a newcomer knows what was said between them, and one that
        // has just taken the older one is not overtaken.
        let Some(oldest) = whole.len().checked_sub(2).and_then(|it| whole.get(it)) else {
            return Ok(());
        };
        let purged = records.purge().sequence(oldest.position + 1).await;
        purged.map_err(|error| error.to_string())?;
        let earlier = whole.iter().filter(|it| it.position < oldest.position);
        // One that is being written by another node, for an earlier position than that of the
        // whole ones, is superfluous too; a later one is not.
        let not_later = partial.iter().filter(|it| it.position <= oldest.position);
        let superfluous = earlier.chain(not_later).map(|found| self.filter(found));
        for subject in superfluous.chain(others) {
            let purged = self.stream.purge().filter(subject).await;
            purged.map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn subject(&self, found: &Found, piece: usize) -> String {
        format!("{}.{piece}", self.base(found))
    }

    /// The subjects of all pieces.
    fn filter(&self, found: &Found) -> String {
        format!("{}.*", self.base(found))
    }

    fn base(&self, found: &Found) -> String {
        let Found {
            position,
            pieces,
            writer,
        } = found;
        let Self { room, life, .. } = self;
        format!("chat-checkpoint.{room}.{life}.{position}.{pieces}.{writer}")
    }

    /// The checkpoint of a subject, and which of its pieces. `None` for one of another
    /// life.
    fn parse(&self, subject: &str) -> Option<(Found, usize)> {
        parse(&self.life, subject)
    }
}

fn parse(life: &str, subject: &str) -> Option<(Found, usize)> {
    let mut parts = subject.split('.').skip(2);
    if parts.next()? != life {
        return None;
    }
    let found = Found {
        position: parts.next()?.parse().ok()?,
        pieces: parts.next()?.parse().ok()?,
        writer: parts.next()?.to_owned(),
    };
    let piece = parts.next()?.parse().ok()?;
    (piece < found.pieces.max(1)).then_some((found, piece))
}
