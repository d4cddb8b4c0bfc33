//! Data: a room that is kept on disk, as the server finds it when it starts.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use tracing::{info, warn};

use crate::{
    identity::PublicKey,
    limits::{Limits, Unit},
    log::{Audience, Log},
    name::Name,
    room::{Line, LineId, Owner, Place, Room, Sent},
    session::{FileIndex, Hash, NamedBy},
    store::{self, Keep, NewEpochReason, OpenError, ReadError, Store, StoreReader, SyncMode},
    wire::{self, ServerEnvelope, server_envelope::Message},
};

use super::{
    archive::Archive,
    file_queue::FileQueue,
    files::Folder,
    hub::{Origin, unix_ms},
};

/// How many chats are read at once to fill the recent past.
const PAGE_CHATS: usize = 1_000;

/// Where and how the room is kept.
#[derive(Debug, Clone)]
pub struct Data {
    /// The folder of the database.
    pub dir: PathBuf,
    /// What is kept.
    pub keep: Keep,
    /// When commits are on the disk.
    pub sync: SyncMode,
    /// Whether members may read the past (CHAT-HIST). It is kept for resumed sessions
    /// in any case.
    pub is_open_to_members: bool,
    /// The server is a node of a cluster, which keeps the order of the room.
    pub follows_cluster: bool,
}

/// A room from the disk, and its store.
pub(super) struct Opened {
    pub(super) origin: Origin,
    pub(super) archive: Arc<Archive>,
    pub(super) store: Store,
    pub(super) reader: StoreReader,
    /// Up to where the room follows the order of a cluster.
    pub(super) place: Place,
    /// Where the files are, if members may upload any.
    pub(super) files: Option<(Folder, Arc<FileQueue>)>,
}

impl Data {
    /// Opens the store and restores the room. `epoch`: for a room that begins, or begins
    /// new numbers.
    ///
    /// # Errors
    ///
    /// A sentence that says what to do.
    pub(super) fn open(&self, limits: &Limits, epoch: String) -> Result<Opened, String> {
        let sentence = |error: OpenError| error.to_string();
        let (store, kept) = Store::open(&store::Options {
            dir: self.dir.clone(),
            keep: self.keep,
            sync: self.sync,
            sent_ids_max: limits.resend_ids_max,
            epoch_if_new: epoch,
            boot_id: store::boot_id(),
            now_unix_ms: unix_ms(),
            follows_cluster: self.follows_cluster,
        })
        .map_err(sentence)?;
        let reader = store.reader().map_err(sentence)?;
        match kept.new_epoch {
            None | Some(NewEpochReason::New) => {}
            Some(NewEpochReason::MayHaveLost) => warn!(
                "the machine was stopped without --sync always, so that the newest messages may be \
                 lost: nobody can resume"
            ),
            Some(NewEpochReason::Backup) => {
                warn!("this room is a backup: what came after it is lost, and nobody can resume");
            }
            Some(NewEpochReason::LeftCluster) => warn!(
                "this room was that of a cluster, which may have gone on without this server: \
                 nobody can resume"
            ),
        }
        info!(
            dir = %self.dir.display(),
            messages = kept.last_seq + 1 - kept.oldest_seq,
            keep = %self.keep_in_words(),
            sync = self.sync.as_str(),
            readers = if self.is_open_to_members { "all" } else { "none" },
            "keeps the room"
        );
        let now_unix_ms = unix_ms();
        let lines = kept.lines.into_iter();
        let lines = lines.filter_map(|line| restore_line(line, now_unix_ms));
        let bounds = (kept.oldest_seq, kept.last_seq);
        let owners = kept.owners.into_iter();
        let owners = owners.filter_map(|owner| restore_owner(owner, now_unix_ms));
        let room = Room::restored(kept.epoch, limits, bounds, lines, owners);
        let log = match self.follows_cluster {
            // The order has what comes into it.
            true => Log::new(kept.last_seq + 1, limits.history_memory_bytes),
            false => recent_past(&reader, limits, kept.last_seq).map_err(|it| it.to_string())?,
        };
        let archive = Arc::new(Archive::default());
        let (folder, files) = match self.files(limits, &reader, kept.oldest_seq)? {
            Some((folder, index)) => {
                let queue = Arc::<FileQueue>::default();
                (Some((folder, Arc::clone(&queue))), Some((queue, index)))
            }
            None => (None, None),
        };
        Ok(Opened {
            files: folder,
            origin: Origin {
                room,
                log,
                archive: Some(Arc::clone(&archive)),
                offers_history: self.is_open_to_members,
                files,
            },
            archive,
            store,
            reader,
            place: Place {
                position: kept.place.position,
                record: kept.place.record,
            },
        })
    }
}

impl Data {
    /// The files that are kept; `None` if they do not fit into frames.
    fn files(
        &self,
        limits: &Limits,
        reader: &StoreReader,
        oldest_seq: u64,
    ) -> Result<Option<(Folder, FileIndex)>, String> {
        if !limits.fit_files() {
            warn!("members cannot send files: --frame-bytes-max leaves no room for their names");
            return Ok(None);
        }
        let named = named_files(reader, oldest_seq).map_err(|it| it.to_string())?;
        let sentence = |error| {
            format!(
                "the files in {} cannot be used: {error}",
                self.dir.display()
            )
        };
        let folder = Folder::open(&self.dir).map_err(sentence)?;
        let index = match self.follows_cluster {
            true => FileIndex::of_node(limits),
            false => FileIndex::default(),
        };
        let index = folder.load(index, named, limits.file_orphan_ms.into(), unix_ms());
        Ok(Some((folder, index.map_err(sentence)?)))
    }

    /// The bounds of what is kept, for the operator.
    fn keep_in_words(&self) -> String {
        let messages = self.keep.messages.map(|count| format!("{count} messages"));
        let days = self.keep.days.map(|count| format!("{count} days"));
        let bytes = self.keep.bytes.map(|bytes| Unit::Bytes.show(bytes));
        let bounds: Vec<_> = [messages, days, bytes].into_iter().flatten().collect();
        bounds.join(", ")
    }
}

/// A line from the store; `None` if its name is none any more. A session that was open
/// when the server crashed, or that ended in the future by a clock that was wrong, counts
/// as lost now.
fn restore_line(line: store::Line, now_unix_ms: i64) -> Option<(LineId, Line)> {
    let sent = line.sent.iter().map(|sent| Sent {
        id: sent.id,
        seq: sent.seq,
        time_unix_ms: sent.time_unix_ms,
    });
    let restored = Line::restored(
        Name::parse(&line.name).ok()?,
        line.tokens.into(),
        line.attempt,
        line.began_seq,
        line.seen_unix_ms.min(now_unix_ms),
        sent.collect(),
    );
    Some((LineId(line.id), restored))
}

/// An owner from the store; `None` if its name is none any more. A name that was in use
/// when the server crashed counts as used now, as for a line.
fn restore_owner(owner: store::Owner, now_unix_ms: i64) -> Option<(Name, Owner)> {
    let restored = Owner {
        key: PublicKey::from_bytes(&owner.key)?,
        used_unix_ms: owner.used_unix_ms.min(now_unix_ms),
    };
    Some((Name::parse(&owner.name).ok()?, restored))
}

/// Cuts a text that was accepted when texts might be longer, so that its frame is within
/// the bound that clients know (CHAT-FRAME-12). The disk keeps it whole.
pub(super) fn cut_text(chat: &mut wire::Chat, limits: &Limits) {
    let text_bytes_max = limits.text_bytes_max as usize;
    if chat.text.len() > text_bytes_max {
        // A character has at most four bytes.
        let mut ends = (0..=text_bytes_max).rev();
        let end = ends.find(|&end| chat.text.is_char_boundary(end));
        chat.text.truncate(end.unwrap_or(0));
    }
}

/// The chats that name each file, and its size.
fn named_files(
    reader: &StoreReader,
    oldest_seq: u64,
) -> Result<BTreeMap<Hash, (u64, NamedBy)>, ReadError> {
    let mut named = BTreeMap::<_, (u64, NamedBy)>::new();
    reader.chats_with_more(oldest_seq, |chat| {
        for file in &chat.files {
            if let Ok(hash) = Hash::try_from(file.sha256.as_slice()) {
                let (size, named_by) = named.entry(hash).or_default();
                *size = file.size;
                named_by.add(chat.seq);
            }
        }
    })?;
    Ok(named)
}

/// A log that has the newest chats already, as many as are kept in memory, so that many
/// sessions that resume after a restart need no disk.
fn recent_past(reader: &StoreReader, limits: &Limits, last_seq: u64) -> Result<Log, ReadError> {
    let past_bytes = limits.history_memory_bytes;
    let mut newest = Vec::new();
    let mut bytes = 0;
    let mut before_seq = last_seq + 1;
    while bytes < past_bytes {
        let left = usize::try_from(past_bytes - bytes).unwrap_or(usize::MAX);
        let page = reader.page_before(before_seq, PAGE_CHATS, left)?;
        if page.chats.is_empty() {
            break;
        }
        before_seq = page.from;
        for mut chat in page.chats.into_iter().rev() {
            cut_text(&mut chat, limits);
            bytes += prost::Message::encoded_len(&chat) as u64;
            newest.push(chat);
        }
    }
    let mut log = Log::new(before_seq, past_bytes);
    for chat in newest.into_iter().rev() {
        let message = Some(Message::Chat(chat));
        log.append(Audience::Everyone, &ServerEnvelope { message });
    }
    log.commit();
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::{Change, Command, JoinLine, MemberId, Token};
    use crate::wire::LeftReason;

    /// What the store keeps of the only line, after `command`.
    fn kept_seen(room: &mut Room, command: Command) -> i64 {
        room.apply(command);
        match &room.take_changes()[..] {
            [Change::Line(_, line)] => line.seen_unix_ms,
            changes => panic!("not one line but {changes:?}"),
        }
    }

    fn restored_seen(seen_unix_ms: i64, now_unix_ms: i64) -> i64 {
        let line = store::Line {
            id: 1,
            name: "Alice".to_owned(),
            tokens: Vec::new(),
            attempt: 0,
            began_seq: 0,
            seen_unix_ms,
            sent: Vec::new(),
        };
        let (_, line) = restore_line(line, now_unix_ms).expect("a good name");
        line.seen_unix_ms
    }

    /// CHAT-RES-4: a session that is longer than `resume_ms` when the server crashes can be
    /// resumed.
    #[test]
    fn a_session_that_was_open_at_a_crash_counts_as_lost_at_the_restart() {
        let limits = Limits::default();
        let mut room = Room::restored("epoch".to_owned(), &limits, (1, 0), [], []);
        let member = MemberId(0);
        let join = Command::Join {
            member,
            name: Name::parse("Alice").expect("a good name"),
            time_unix_ms: 1_000,
            resume: Some(Box::new(JoinLine {
                token: Token::default(),
                claim: None,
            })),
            key: None,
        };
        let open = kept_seen(&mut room, join);
        assert_eq!(restored_seen(open, 9_000_000), 9_000_000);
        let leave = Command::Leave {
            member,
            reason: LeftReason::ConnectionLost,
            time_unix_ms: 2_000,
        };
        let lost = kept_seen(&mut room, leave);
        assert_eq!(restored_seen(lost, 9_000_000), 2_000);
        // A clock that went back does not make it last longer.
        assert_eq!(restored_seen(lost, 1_500), 1_500);
    }
}
