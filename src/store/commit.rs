//! Commits: one batch of changes, one transaction.

use rusqlite::{CachedStatement, OptionalExtension, Transaction, TransactionBehavior, params};

use super::{
    Change, CommitError, Keep, Line, Position, Store, TOKENS_MAX, earlier, epoch, error, lines,
    owners, prune,
    row::{self, COLUMNS},
    sent::{self, SentIds},
};
use crate::wire;

const INSERT_CHATS: &str =
    "INSERT INTO chat (seq, time_unix_ms, start_bytes, sender, text, more) VALUES ";
const CHAT_VALUES: &str = "(?, ?, ?, ?, ?, ?)";

/// How many chats one statement inserts, where there are so many: to begin and end one costs
/// as much as to insert a few rows.
const CHATS_AT_ONCE: usize = 16;

const REMOVE_TEXT: &str = "UPDATE chat SET text = '', more = ?2 WHERE seq = ?1";
const PLACE: &str = "UPDATE room SET stream_position = ?1, stream_record = ?2";
const FORGET_LINE: &str = "DELETE FROM line WHERE id = ?1";
const UPSERT_LINE: &str = "INSERT INTO line (id, name, tokens, attempt, began_seq, seen_unix_ms)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (id) DO UPDATE SET name = excluded.name,
    tokens = excluded.tokens, attempt = excluded.attempt, began_seq = excluded.began_seq,
    seen_unix_ms = excluded.seen_unix_ms";

impl Store {
    /// Records `changes` in their order, all or none of them. Chats carry the numbers
    /// that follow the last one without a gap (CHAT-ORD-1). When this returns, no end of
    /// the process takes them back, and with [`SyncMode::Always`](super::SyncMode) no
    /// power cut.
    ///
    /// # Errors
    ///
    /// [`CommitError::Full`]: nothing was recorded, and the store can be used on.
    /// [`CommitError::Failed`]: the server must end.
    pub fn commit(&mut self, changes: &[Change]) -> Result<(), CommitError> {
        self.commit_with(changes, None)
    }

    /// Records `changes` as [`commit`](Self::commit) does, and removes the oldest chats
    /// beyond `Options::keep` in the same transaction: at most 2,000, so that it keeps up
    /// with any burst. Answers the number of the oldest chat that is left, or the number
    /// after the last one. With nothing to remove it costs two look-ups more.
    ///
    /// # Errors
    ///
    /// As [`commit`](Self::commit).
    pub fn commit_and_prune(
        &mut self,
        changes: &[Change],
        now_unix_ms: i64,
    ) -> Result<u64, CommitError> {
        self.commit_with(changes, Some(now_unix_ms))?;
        Ok(self.position.oldest_seq)
    }

    fn commit_with(
        &mut self,
        changes: &[Change],
        prune_at_unix_ms: Option<i64>,
    ) -> Result<(), CommitError> {
        self.check_usable()?;
        let removes = changes.iter().any(|it| matches!(it, Change::Removed(_)));
        if removes {
            let prepared = self.begin_erasing();
            self.keep_failure(prepared)?;
        }
        let written = self.write(changes, prune_at_unix_ms);
        self.position = self.keep_failure(written)?;
        let erased = self.erase(removes);
        self.keep_failure(erased)?;
        let checkpointed = self.background.committed(&self.connection);
        self.keep_failure(checkpointed)
    }

    fn write(
        &mut self,
        changes: &[Change],
        prune_at_unix_ms: Option<i64>,
    ) -> Result<Position, CommitError> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut batch = Batch {
            chat: transaction.prepare_cached(&insert_chats(1))?,
            chats: transaction.prepare_cached(&insert_chats(CHATS_AT_ONCE))?,
            rows: Vec::with_capacity(CHATS_AT_ONCE),
            line: transaction.prepare_cached(UPSERT_LINE)?,
            forget_line: transaction.prepare_cached(FORGET_LINE)?,
            insert_sent: transaction.prepare_cached(sent::INSERT)?,
            transaction: &transaction,
            owner: transaction.prepare_cached(owners::UPSERT)?,
            forget_owner: transaction.prepare_cached(owners::FORGET)?,
            sent: &mut self.sent,
            position: self.position,
            keep: self.keep,
            epoch: None,
        };
        let sent_rows = batch.sent.rows();
        for change in changes {
            batch.record(change)?;
        }
        batch.insert_chats()?;
        // They are fewer where an epoch began.
        let sent_added = batch.sent.rows().saturating_sub(sent_rows);
        batch.sent.sweep(&transaction, sent_added)?;
        let mut position = batch.position;
        let epoch = batch.epoch.take();
        drop(batch);
        if let Some(now_unix_ms) = prune_at_unix_ms {
            let kept = prune::first_kept(&transaction, self.keep, position, now_unix_ms)?;
            if kept > position.oldest_seq {
                prune::remove_before(&transaction, kept)?;
                position.oldest_seq = kept;
            }
        }
        transaction.commit()?;
        if let Some(epoch) = epoch {
            self.epoch = epoch;
        }
        Ok(position)
    }

    /// Remembers a failure after which no commit may follow.
    pub(super) fn keep_failure<T>(
        &mut self,
        result: Result<T, CommitError>,
    ) -> Result<T, CommitError> {
        match &result {
            Err(CommitError::Failed(reason)) => {
                self.failed = Some(reason.clone());
                self.directory.note_failure();
            }
            // The ids that the transaction added are gone with it.
            Err(CommitError::Full) => match lines::load(&self.connection, self.sent_ids_max) {
                Ok((_, sent)) => self.sent = sent,
                Err(error) => self.failed = Some(error::plain(&error)),
            },
            Ok(_) => {}
        }
        result
    }
}

/// The statements of a transaction, and what it changes in memory.
struct Batch<'a> {
    chat: CachedStatement<'a>,
    chats: CachedStatement<'a>,
    /// The chats that are not inserted yet.
    rows: Vec<ChatRow<'a>>,
    line: CachedStatement<'a>,
    forget_line: CachedStatement<'a>,
    insert_sent: CachedStatement<'a>,
    /// For what is seldom done.
    transaction: &'a Transaction<'a>,
    owner: CachedStatement<'a>,
    forget_owner: CachedStatement<'a>,
    sent: &'a mut SentIds,
    position: Position,
    keep: Keep,
    /// The one that begins.
    epoch: Option<String>,
}

/// A chat with what its row has beside it.
struct ChatRow<'a> {
    chat: &'a wire::Chat,
    start_bytes: i64,
    more: Option<Vec<u8>>,
}

impl ChatRow<'_> {
    /// Binds its values behind those of `before` other rows.
    fn bind(&self, statement: &mut CachedStatement<'_>, before: usize) -> rusqlite::Result<()> {
        let first = before * 6 + 1;
        let chat = self.chat;
        statement.raw_bind_parameter(first, chat.seq.cast_signed())?;
        statement.raw_bind_parameter(first + 1, chat.time_unix_ms)?;
        statement.raw_bind_parameter(first + 2, self.start_bytes)?;
        statement.raw_bind_parameter(first + 3, chat.sender.as_str())?;
        statement.raw_bind_parameter(first + 4, chat.text.as_str())?;
        statement.raw_bind_parameter(first + 5, self.more.as_deref())
    }
}

/// The statement that inserts so many chats.
fn insert_chats(count: usize) -> String {
    format!("{INSERT_CHATS}{}", [CHAT_VALUES].repeat(count).join(", "))
}

impl<'a> Batch<'a> {
    fn record(&mut self, change: &'a Change) -> Result<(), CommitError> {
        match change {
            Change::Chat { chat, sent_by } => {
                self.record_chat(chat)?;
                if let &Some((line, id)) = sent_by {
                    self.sent.add(&mut self.insert_sent, line, id, chat)?;
                }
                Ok(())
            }
            Change::Removed(seq) => self.remove_text(*seq),
            Change::Line(line) => self.record_line(line),
            Change::LineEnded(id) => self.end_line(*id),
            Change::Owned(owner) => {
                owners::record(&mut self.owner, owner)?;
                Ok(())
            }
            Change::Disowned(name) => {
                self.forget_owner.execute([name])?;
                Ok(())
            }
            Change::Began { epoch, seq } => self.begin(epoch, *seq),
            Change::Placed(place) => {
                let position = place.position.cast_signed();
                let mut statement = self.transaction.prepare_cached(PLACE)?;
                statement.execute(params![position, place.record])?;
                Ok(())
            }
        }
    }

    /// Begins an epoch, or goes on behind chats that are missing: pages have no gap
    /// (CHAT-HIST-2), so what is before them is set aside.
    fn begin(&mut self, epoch: &str, seq: u64) -> Result<(), CommitError> {
        self.insert_chats()?;
        earlier::set_aside(self.transaction, self.position, self.keep)?;
        epoch::begin(self.transaction, epoch, seq)?;
        self.sent.clear();
        self.position = Position {
            oldest_seq: seq + 1,
            last_seq: seq,
            end_bytes: 0,
        };
        self.epoch = Some(epoch.to_owned());
        Ok(())
    }

    fn record_chat(&mut self, chat: &'a wire::Chat) -> Result<(), CommitError> {
        let expected = self.position.last_seq + 1;
        if chat.seq != expected || expected > row::SEQ_MAX {
            let fault = format!("chat {} was given where {expected} follows", chat.seq);
            return Err(CommitError::Failed(fault));
        }
        let more = row::more(chat);
        let start_bytes = self.position.end_bytes;
        self.position.last_seq = chat.seq;
        self.position.end_bytes += row::bytes(chat, more.as_deref()).cast_signed();
        self.rows.push(ChatRow {
            chat,
            start_bytes,
            more,
        });
        if self.rows.len() < CHATS_AT_ONCE {
            return Ok(());
        }
        for (before, row) in self.rows.drain(..).enumerate() {
            row.bind(&mut self.chats, before)?;
        }
        self.chats.raw_execute()?;
        Ok(())
    }

    /// Inserts the chats that are not inserted yet.
    fn insert_chats(&mut self) -> Result<(), CommitError> {
        for row in self.rows.drain(..) {
            row.bind(&mut self.chat, 0)?;
            self.chat.raw_execute()?;
        }
        Ok(())
    }

    /// CHAT-MOD-8: number, sender and time stay.
    fn remove_text(&mut self, seq: u64) -> Result<(), CommitError> {
        self.insert_chats()?;
        let seq = seq.cast_signed();
        let sql = format!("SELECT {COLUMNS} FROM chat WHERE seq = ?1");
        let found = self.transaction.query_row(&sql, [seq], row::read);
        let Some(mut chat) = found.optional()? else {
            return Ok(());
        };
        chat.removed = true;
        chat.files.clear();
        let more = row::more(&chat);
        self.transaction.execute(REMOVE_TEXT, params![seq, more])?;
        Ok(())
    }

    fn record_line(&mut self, line: &Line) -> Result<(), CommitError> {
        if line.tokens.len() > TOKENS_MAX {
            let fault = format!("line {} has more than {TOKENS_MAX} tokens", line.id);
            return Err(CommitError::Failed(fault));
        }
        self.line.execute(params![
            line.id.cast_signed(),
            line.name,
            line.tokens.as_flattened(),
            line.attempt,
            line.began_seq.cast_signed(),
            line.seen_unix_ms
        ])?;
        self.sent.begin_line(line);
        Ok(())
    }

    fn end_line(&mut self, id: u64) -> Result<(), CommitError> {
        self.forget_line.execute([id.cast_signed()])?;
        self.sent.end_line(id);
        Ok(())
    }
}
