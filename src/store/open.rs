//! Opening: from a folder to a store and what it had kept.

use rusqlite::{Connection, OptionalExtension, params};

use super::{
    Kept, Line, Options, Position, Sent, Store, SyncMode, TOKEN_BYTES,
    background::Background,
    commit,
    connection::{self, Access},
    directory::Directory,
    epoch,
    error::OpenError,
    row::{self, COLUMNS},
    schema,
};

impl Store {
    /// Opens the database in `options.dir`, makes it if it is absent, and marks it as
    /// running before it returns. One process has it open at a time.
    ///
    /// # Errors
    ///
    /// A sentence that says what to do: the folder cannot be used, another server has
    /// it, or the database is none of ours, newer or damaged.
    pub fn open(options: &Options) -> Result<(Self, Kept), OpenError> {
        let directory = Directory::new(&options.dir);
        directory.make()?;
        let lock = directory.lock()?;
        directory.make_database()?;
        directory.remove_stale_wal()?;
        let path = directory.database();
        let mut connection = connection::connect(&directory, Access::Write)?;
        let found = schema::identify(&connection, &path, schema::STEPS)?;
        let failed = |error| OpenError::Database(path.clone(), error);
        // The mark, and all that earlier runs left, is synced in every mode.
        connection::begin_wal(&connection, "FULL").map_err(failed)?;
        schema::update(&mut connection, found, schema::STEPS).map_err(failed)?;
        let (mark, new_epoch) = epoch::begin_run(&mut connection, options).map_err(failed)?;
        let position = find_position(&connection, mark.oldest_seq).map_err(failed)?;
        let sent_ids_max = options.sent_ids_max.max(1);
        let lines = lines(&connection, sent_ids_max).map_err(failed)?;
        let sent_rows = commit::count_sent(&connection).map_err(failed)?;
        let background = Background::start(&mut connection, &directory, options.sync)?;
        // Without the sync of each commit, SQLite still syncs in the order that keeps the
        // database whole.
        if options.sync != SyncMode::Always {
            let relaxed = connection.pragma_update(None, "synchronous", "NORMAL");
            relaxed.map_err(failed)?;
        }
        let kept = Kept {
            epoch: mark.epoch,
            new_epoch,
            oldest_seq: position.oldest_seq,
            last_seq: position.last_seq,
            lines,
        };
        let store = Self {
            connection,
            background,
            directory,
            keep: options.keep,
            sent_ids_max,
            position,
            sent_rows,
            failed: None,
            _lock: lock,
        };
        Ok((store, kept))
    }
}

/// Where the chats begin and end. Only pruned numbers may be without a chat.
pub(super) fn find_position(
    connection: &Connection,
    marked_oldest_seq: u64,
) -> rusqlite::Result<Position> {
    let oldest = connection.query_row("SELECT min(seq) FROM chat", [], |row| {
        row.get::<_, Option<i64>>(0)
    })?;
    let end = format!("SELECT {COLUMNS}, start_bytes FROM chat ORDER BY seq DESC LIMIT 1");
    let last = connection.query_row(&end, [], |row| {
        let chat = row::read(row)?;
        let start_bytes: i64 = row.get("start_bytes")?;
        let bytes = row::bytes(&chat, row::more(&chat).as_deref());
        Ok((chat.seq, start_bytes.cast_unsigned() + bytes))
    });
    Ok(match (oldest, last.optional()?) {
        (Some(oldest_seq), Some((last_seq, end_bytes))) => Position {
            oldest_seq: oldest_seq.cast_unsigned(),
            last_seq,
            end_bytes,
        },
        _ => Position {
            oldest_seq: marked_oldest_seq,
            last_seq: marked_oldest_seq.saturating_sub(1),
            end_bytes: 0,
        },
    })
}

/// All lines with the newest ids of each.
fn lines(connection: &Connection, sent_ids_max: u32) -> rusqlite::Result<Vec<Line>> {
    let mut statement = connection.prepare(
        "SELECT id, name, tokens, attempt, began_seq, seen_unix_ms FROM line ORDER BY id",
    )?;
    let lines = statement.query_map([], |row| {
        let tokens: Vec<u8> = row.get(2)?;
        Ok(Line {
            id: row.get::<_, i64>(0)?.cast_unsigned(),
            name: row.get(1)?,
            tokens: tokens.as_chunks::<TOKEN_BYTES>().0.to_vec(),
            attempt: row.get(3)?,
            began_seq: row.get::<_, i64>(4)?.cast_unsigned(),
            seen_unix_ms: row.get(5)?,
            sent: Vec::new(),
        })
    })?;
    let mut lines = lines.collect::<rusqlite::Result<Vec<_>>>()?;
    let mut statement = connection.prepare(
        "SELECT id, seq, time_unix_ms FROM sent WHERE line = ?1 ORDER BY seq DESC LIMIT ?2",
    )?;
    for line in &mut lines {
        let sent = statement.query_map(params![line.id.cast_signed(), sent_ids_max], |row| {
            Ok(Sent {
                id: row.get::<_, i64>(0)?.cast_unsigned(),
                seq: row.get::<_, i64>(1)?.cast_unsigned(),
                time_unix_ms: row.get(2)?,
            })
        })?;
        line.sent = sent.collect::<rusqlite::Result<_>>()?;
        line.sent.reverse();
    }
    Ok(lines)
}
