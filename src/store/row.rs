//! Rows: a chat as it is stored, and back.

use prost::Message;
use rusqlite::{Row, types::Type};

use crate::wire;

/// The columns that [`read`] takes, in its order.
pub(super) const COLUMNS: &str = "seq, time_unix_ms, sender, text, more";

/// What a chat takes beside its text, sender and further fields: number, time and the
/// borders of the row.
const ROW_BYTES: u64 = 32;

/// The largest number that a row can have.
pub(super) const SEQ_MAX: u64 = i64::MAX as u64;

/// The fields of a chat that have no column, encoded; `None` if there are none. Every
/// chat that is stored comes here, so what has a column is not copied.
pub(super) fn more(chat: &wire::Chat) -> Option<Vec<u8>> {
    // No field is left out: a new one has to say where it is stored.
    let wire::Chat {
        text: _,
        sender: _,
        seq: _,
        time_unix_ms: _,
        id: _,
        topic,
        mentions,
        files,
        sender_id,
        removed,
    } = chat;
    let rest = wire::Chat {
        topic: topic.clone(),
        mentions: mentions.clone(),
        files: files.clone(),
        sender_id: sender_id.clone(),
        removed: *removed,
        ..wire::Chat::default()
    };
    let encoded = rest.encode_to_vec();
    (!encoded.is_empty()).then_some(encoded)
}

/// What a chat counts against a bound of bytes.
pub(super) fn bytes(chat: &wire::Chat, more: Option<&[u8]>) -> u64 {
    let content = chat.text.len() + chat.sender.len() + more.map_or(0, <[u8]>::len);
    ROW_BYTES + content as u64
}

/// The chat of a row of [`COLUMNS`].
pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<wire::Chat> {
    let mut chat = match row.get_ref(4)?.as_blob_or_null() {
        Ok(None) => wire::Chat::default(),
        Ok(Some(more)) => wire::Chat::decode(more).map_err(|error| unreadable(error.into()))?,
        Err(error) => return Err(unreadable(error.into())),
    };
    chat.seq = row.get::<_, i64>(0)?.cast_unsigned();
    chat.time_unix_ms = row.get(1)?;
    chat.sender = row.get(2)?;
    chat.text = row.get(3)?;
    Ok(chat)
}

fn unreadable(error: Box<dyn std::error::Error + Send + Sync>) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(4, Type::Blob, error)
}
