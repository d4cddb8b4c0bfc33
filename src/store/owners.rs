//! Owners: the names that keys own.

use rusqlite::{CachedStatement, Connection, params};

use super::{KEY_BYTES, Owner};

pub(super) const UPSERT: &str = "INSERT INTO owner (name, key, used_unix_ms) VALUES (?1, ?2, ?3)
    ON CONFLICT (name) DO UPDATE SET key = excluded.key, used_unix_ms = excluded.used_unix_ms";
pub(super) const FORGET: &str = "DELETE FROM owner WHERE name = ?1";

/// Records the owner of a name.
pub(super) fn record(
    statement: &mut CachedStatement<'_>,
    owner: &Owner,
) -> rusqlite::Result<usize> {
    statement.execute(params![owner.name, owner.key, owner.used_unix_ms])
}

/// All owners, in the order of their names.
pub(super) fn load(connection: &Connection) -> rusqlite::Result<Vec<Owner>> {
    let mut statement =
        connection.prepare("SELECT name, key, used_unix_ms FROM owner ORDER BY name")?;
    let owners = statement.query_map([], |row| {
        Ok(Owner {
            name: row.get(0)?,
            key: row.get::<_, [u8; KEY_BYTES]>(1)?,
            used_unix_ms: row.get(2)?,
        })
    })?;
    owners.collect()
}
