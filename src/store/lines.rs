//! Lines: what is kept about clients that may resume.

use rusqlite::Connection;

use super::{Line, TOKEN_BYTES, sent::SentIds};

/// All lines, by rising id, with the newest ids of each.
pub(super) fn load(
    connection: &Connection,
    sent_ids_max: u32,
) -> rusqlite::Result<(Vec<Line>, SentIds)> {
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
    let sent = SentIds::load(connection, &mut lines, sent_ids_max)?;
    Ok((lines, sent))
}
