//! Opening: from a folder to a store and what it had kept.

use rusqlite::{Connection, OptionalExtension};

use super::{
    Kept, Options, Position, Store, SyncMode,
    background::Background,
    connection::{self, Access},
    directory::Directory,
    earlier, epoch,
    error::OpenError,
    lines, owners,
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
        let (mark, new_epoch) =
            epoch::begin_run(&mut connection, options, directory.has_failed()).map_err(failed)?;
        directory.forget_failure();
        let position = find_position(&connection, mark.oldest_seq).map_err(failed)?;
        let sent_ids_max = options.sent_ids_max.max(1);
        let (lines, sent) = lines::load(&connection, sent_ids_max).map_err(failed)?;
        let database = directory.database_id()?;
        let owners = owners::load(&connection).map_err(failed)?;
        let background = Background::start(&mut connection, &directory, options.sync)?;
        // Without the sync of each commit, SQLite still syncs in the order that keeps the
        // database whole.
        if options.sync != SyncMode::Always {
            let relaxed = connection.pragma_update(None, "synchronous", "NORMAL");
            relaxed.map_err(failed)?;
        }
        earlier::drop_old(&connection, options.keep, options.now_unix_ms).map_err(failed)?;
        let kept = Kept {
            epoch: mark.epoch.clone(),
            new_epoch,
            oldest_seq: position.oldest_seq,
            last_seq: position.last_seq,
            lines,
            owners,
            place: mark.place,
        };
        let store = Self {
            connection,
            background,
            directory,
            database,
            keep: options.keep,
            sent_ids_max,
            epoch: mark.epoch,
            is_unerased: false,
            position,
            sent,
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
        Ok((chat.seq, start_bytes + bytes.cast_signed()))
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
