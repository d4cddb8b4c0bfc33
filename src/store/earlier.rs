//! Earlier chats: what the database had when the order of a cluster began anew, or went on
//! behind chats that this node has missed. Their numbers are given again, or have a gap, so
//! no member can read them; the operator can. They are set aside as tables of their own.

use rusqlite::{Connection, params};

use super::{DAY_MS, Keep, Position};

/// How many tables there are at most.
const EARLIER_MAX: usize = 8;

/// Sets all chats aside, if there are any, and drops the oldest tables: those beyond
/// [`EARLIER_MAX`], and so many that together they are no more than `keep` says.
pub(super) fn set_aside(
    connection: &Connection,
    position: Position,
    keep: Keep,
) -> rusqlite::Result<()> {
    if position.oldest_seq > position.last_seq {
        return Ok(());
    }
    let chat = "SELECT sql FROM sqlite_schema WHERE name = 'chat'";
    let chat: String = connection.query_row(chat, [], |row| row.get(0))?;
    connection.execute(
        "INSERT INTO earlier (epoch, oldest_seq, last_seq, newest_unix_ms, bytes)
            SELECT epoch, ?1, ?2,
                (SELECT time_unix_ms FROM chat WHERE seq = ?2),
                ?3 - (SELECT start_bytes FROM chat WHERE seq = ?1)
            FROM room",
        params![
            position.oldest_seq.cast_signed(),
            position.last_seq.cast_signed(),
            position.end_bytes
        ],
    )?;
    let nth = connection.last_insert_rowid();
    connection.execute_batch(&format!("ALTER TABLE chat RENAME TO chat_{nth}; {chat};"))?;
    let (mut all_chats, mut all_bytes) = (0_u64, 0_u64);
    for (index, (nth, chats, bytes)) in newest_first(connection)?.into_iter().enumerate() {
        all_chats = all_chats.saturating_add(chats);
        all_bytes = all_bytes.saturating_add(bytes);
        let is_beyond = keep.messages.is_some_and(|max| all_chats > max)
            || keep.bytes.is_some_and(|max| all_bytes > max);
        if index >= EARLIER_MAX || is_beyond {
            drop_table(connection, nth)?;
        }
    }
    Ok(())
}

/// Drops the tables of which all chats are older than `keep` says.
pub(super) fn drop_old(
    connection: &Connection,
    keep: Keep,
    now_unix_ms: i64,
) -> rusqlite::Result<()> {
    let Some(days) = keep.days else {
        return Ok(());
    };
    let since = now_unix_ms.saturating_sub(i64::from(days) * DAY_MS);
    let mut statement = connection.prepare("SELECT nth FROM earlier WHERE newest_unix_ms < ?1")?;
    let old = statement.query_map([since], |row| row.get(0))?;
    let old = old.collect::<rusqlite::Result<Vec<i64>>>()?;
    drop(statement);
    old.into_iter()
        .try_for_each(|nth| drop_table(connection, nth))
}

/// Drops the tables of which the database has all chats again, from `oldest_seq` on.
pub(super) fn drop_doubled(
    connection: &Connection,
    epoch: &str,
    oldest_seq: u64,
) -> rusqlite::Result<()> {
    let sql = "SELECT nth FROM earlier WHERE epoch = ?1 AND oldest_seq >= ?2";
    let mut statement = connection.prepare(sql)?;
    let doubled =
        statement.query_map(params![epoch, oldest_seq.cast_signed()], |row| row.get(0))?;
    let doubled = doubled.collect::<rusqlite::Result<Vec<i64>>>()?;
    doubled
        .into_iter()
        .try_for_each(|nth| drop_table(connection, nth))
}

/// The tables, how many chats each has and their bytes.
fn newest_first(connection: &Connection) -> rusqlite::Result<Vec<(i64, u64, u64)>> {
    let sql = "SELECT nth, last_seq + 1 - oldest_seq, bytes FROM earlier ORDER BY nth DESC";
    let mut statement = connection.prepare(sql)?;
    let tables = statement.query_map([], |row| {
        let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
        Ok((row.get(0)?, number(1)?, number(2)?))
    })?;
    tables.collect()
}

fn drop_table(connection: &Connection, nth: i64) -> rusqlite::Result<()> {
    connection.execute_batch(&format!(
        "DROP TABLE IF EXISTS chat_{nth}; DELETE FROM earlier WHERE nth = {nth};"
    ))
}
