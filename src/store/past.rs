//! Past: the chats before the oldest one, which a node of a cluster has missed and another one
//! has. They are given and taken in pieces, from the newest to the oldest, so that what is kept
//! never has a gap (CHAT-HIST-2). Each piece is one transaction with the number from which on
//! the chats are kept, which is that of the oldest row.

use rusqlite::{TransactionBehavior, params};

use super::{CommitError, DAY_MS, ReadError, Store, StoreReader, earlier, row};
use crate::wire;

/// Chats as one node gives them to another, with what holds at the same moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// The epoch of their numbers.
    pub epoch: String,
    /// All texts are removed whose removal stands in the order up to here.
    pub position: u64,
    /// Chats by rising number, without a gap, without ids.
    pub chats: Vec<wire::Chat>,
}

/// What was taken of a piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// The number from which on chats are kept now.
    pub oldest_seq: u64,
    /// The bounds allow no more.
    pub is_enough: bool,
}

const INSERT: &str = "INSERT INTO chat (seq, time_unix_ms, start_bytes, sender, text, more)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6)";

impl StoreReader {
    /// The chats right before the number `before`, with what holds at the same moment: at
    /// least one if there is one, and otherwise at most `chats_max`, of `bytes_max`.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn piece_before(
        &self,
        before: u64,
        chats_max: usize,
        bytes_max: usize,
    ) -> Result<Piece, ReadError> {
        let moment = self.connection.unchecked_transaction()?;
        let sql = "SELECT epoch, stream_position FROM room";
        let (epoch, position) = moment.query_row(sql, [], |row| {
            Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
        })?;
        let page = self.page_before(before, chats_max, bytes_max)?;
        Ok(Piece {
            epoch,
            position,
            chats: match page.to.checked_add(1) == Some(before) {
                true => page.chats,
                false => Vec::new(),
            },
        })
    }
}

impl Store {
    /// Keeps chats that stand right before the oldest one, as far as `Options::keep` allows.
    /// `None`: they stand elsewhere, or are of another epoch, and nothing was changed.
    ///
    /// # Errors
    ///
    /// As [`Store::commit`].
    pub fn take_past(
        &mut self,
        piece: &Piece,
        now_unix_ms: i64,
    ) -> Result<Option<Taken>, CommitError> {
        self.check_usable()?;
        let written = self.write_past(piece, now_unix_ms);
        let taken = self.keep_failure(written)?;
        let checkpointed = self.background.committed(&self.connection);
        self.keep_failure(checkpointed)?;
        Ok(taken)
    }

    fn write_past(
        &mut self,
        piece: &Piece,
        now_unix_ms: i64,
    ) -> Result<Option<Taken>, CommitError> {
        let mut position = self.position;
        if piece.epoch != self.epoch || piece.chats.is_empty() {
            return Ok(None);
        }
        let keep = self.keep;
        let since = keep.days.map_or(i64::MIN, |days| {
            now_unix_ms.saturating_sub(i64::from(days) * DAY_MS)
        });
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let sql = "SELECT start_bytes FROM chat WHERE seq = ?1";
        let mut start_bytes = match position.oldest_seq > position.last_seq {
            true => position.end_bytes,
            false => {
                transaction.query_row(sql, [position.oldest_seq.cast_signed()], |row| row.get(0))?
            }
        };
        let mut insert = transaction.prepare_cached(INSERT)?;
        let mut is_enough = false;
        for chat in piece.chats.iter().rev() {
            if chat.seq == 0 || chat.seq.checked_add(1) != Some(position.oldest_seq) {
                return Ok(None);
            }
            let more = row::more(chat);
            start_bytes -= row::bytes(chat, more.as_deref()).cast_signed();
            let chats = position.last_seq + 1 - chat.seq;
            let bytes = position.end_bytes.abs_diff(start_bytes);
            let is_beyond = keep.messages.is_some_and(|max| chats > max)
                || keep.bytes.is_some_and(|max| bytes > max)
                || chat.time_unix_ms < since;
            if is_beyond {
                is_enough = true;
                break;
            }
            insert.execute(params![
                chat.seq.cast_signed(),
                chat.time_unix_ms,
                start_bytes,
                chat.sender,
                chat.text,
                more
            ])?;
            position.oldest_seq = chat.seq;
        }
        drop(insert);
        let mut statement = transaction.prepare_cached("UPDATE room SET oldest_seq = ?1")?;
        statement.execute([position.oldest_seq.cast_signed()])?;
        drop(statement);
        earlier::drop_doubled(&transaction, &self.epoch, position.oldest_seq)?;
        transaction.commit()?;
        self.position = position;
        Ok(Some(Taken {
            oldest_seq: position.oldest_seq,
            is_enough,
        }))
    }
}
