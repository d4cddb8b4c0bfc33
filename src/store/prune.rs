//! Pruning: removes the oldest chats beyond the bounds (CHAT-HIST-8).

use rusqlite::{Connection, OptionalExtension, TransactionBehavior, params};

use super::{CommitError, DAY_MS, Keep, Position, Store, earlier};

/// How many chats one call removes at most: some milliseconds' work, since commits wait
/// for it.
const PRUNED_CHATS_MAX: u64 = 2_000;

impl Store {
    /// Removes the oldest chats beyond `Options::keep`, at most 2,000, and answers the
    /// number of the oldest one that is left, or the number after the last one. What
    /// lines had sent stays known.
    ///
    /// For a room in which nobody speaks: beside commits,
    /// [`commit_and_prune`](Self::commit_and_prune) does the same without a sync of its
    /// own.
    ///
    /// # Errors
    ///
    /// As [`Store::commit`].
    pub fn prune(&mut self, now_unix_ms: i64) -> Result<u64, CommitError> {
        self.check_usable()?;
        let dropped = earlier::drop_old(&self.connection, self.keep, now_unix_ms);
        self.keep_failure(dropped.map_err(CommitError::from))?;
        let pruned = prune(&mut self.connection, self.keep, self.position, now_unix_ms);
        self.position.oldest_seq = self.keep_failure(pruned.map_err(CommitError::from))?;
        let checkpointed = self.background.committed(&self.connection);
        self.keep_failure(checkpointed)?;
        Ok(self.position.oldest_seq)
    }
}

/// One step of pruning, in a transaction of its own if there is anything to remove;
/// answers the oldest number that is left.
pub(super) fn prune(
    connection: &mut Connection,
    keep: Keep,
    position: Position,
    now_unix_ms: i64,
) -> rusqlite::Result<u64> {
    let oldest_seq = first_kept(connection, keep, position, now_unix_ms)?;
    if oldest_seq > position.oldest_seq {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        remove_before(&transaction, oldest_seq)?;
        transaction.commit()?;
    }
    Ok(oldest_seq)
}

/// Removes all chats before a number.
pub(super) fn remove_before(connection: &Connection, oldest_seq: u64) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM chat WHERE seq < ?1",
        "UPDATE room SET oldest_seq = ?1",
    ] {
        let mut statement = connection.prepare_cached(sql)?;
        statement.execute([oldest_seq.cast_signed()])?;
    }
    Ok(())
}

/// The oldest number that one step of pruning leaves.
pub(super) fn first_kept(
    connection: &Connection,
    keep: Keep,
    position: Position,
    now_unix_ms: i64,
) -> rusqlite::Result<u64> {
    let beyond = position.last_seq + 1;
    let step = Step {
        connection,
        stop: beyond.min(position.oldest_seq + PRUNED_CHATS_MAX),
    };
    let mut oldest_seq = position.oldest_seq;
    if let Some(messages) = keep.messages {
        oldest_seq = oldest_seq.max(beyond.saturating_sub(messages).min(step.stop));
    }
    if let Some(bytes) = keep.bytes {
        let surplus = position.end_bytes.saturating_sub_unsigned(bytes);
        oldest_seq = oldest_seq.max(step.first_after_bytes(surplus)?);
    }
    if let Some(days) = keep.days {
        let since = now_unix_ms.saturating_sub(i64::from(days) * DAY_MS);
        oldest_seq = oldest_seq.max(step.first_since(since, now_unix_ms)?);
    }
    Ok(oldest_seq)
}

/// The oldest chats, as far as one step looks.
struct Step<'a> {
    connection: &'a Connection,
    /// The first number that it leaves alone.
    stop: u64,
}

impl Step<'_> {
    /// The first chat that is left if `surplus` bytes of all there ever were must go.
    fn first_after_bytes(&self, surplus: i64) -> rusqlite::Result<u64> {
        let first = self.find(
            "SELECT seq FROM chat WHERE seq < ?1 AND start_bytes >= ?2 ORDER BY seq LIMIT 1",
            params![self.stop.cast_signed(), surplus],
        )?;
        Ok(first.unwrap_or(self.stop))
    }

    /// The first chat that is left if those before `since` must go: the one behind the
    /// last old chat before the first that is known to be young. A time in the future
    /// comes from a clock that was wrong and tells nothing: such a chat goes with the
    /// next old one.
    fn first_since(&self, since: i64, now: i64) -> rusqlite::Result<u64> {
        let young = self.find(
            "SELECT seq FROM chat WHERE seq < ?1 AND time_unix_ms BETWEEN ?2 AND ?3
             ORDER BY seq LIMIT 1",
            params![self.stop.cast_signed(), since, now],
        )?;
        let before = young.unwrap_or(self.stop);
        let old = self.find(
            "SELECT seq FROM chat WHERE seq < ?1 AND time_unix_ms < ?2
             ORDER BY seq DESC LIMIT 1",
            params![before.cast_signed(), since],
        )?;
        Ok(old.map_or(0, |seq| seq + 1))
    }

    fn find(&self, sql: &str, params: impl rusqlite::Params) -> rusqlite::Result<Option<u64>> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let found = statement.query_row(params, |row| row.get::<_, i64>(0));
        Ok(found.optional()?.map(i64::cast_unsigned))
    }
}
