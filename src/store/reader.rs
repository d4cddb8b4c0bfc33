//! Readers: pages of the past (CHAT-HIST-2 to CHAT-HIST-5), on a connection beside the
//! commits.

use std::path::Path;

use prost::{Message, encoding::encoded_len_varint};
use rusqlite::{Connection, params};

use super::{
    OpenError, ReadError, connection,
    directory::Directory,
    row::{self, COLUMNS},
};
use crate::wire;

/// The bytes of a repeated field's tag, for field numbers below 16.
const TAG_BYTES: usize = 1;

/// A piece of the past.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The first number that the page covers; 0 if nothing lies that way.
    pub from: u64,
    /// The last number that it covers; 0 if nothing lies that way.
    pub to: u64,
    /// All chats from `from` to `to`, by rising number.
    pub chats: Vec<wire::Chat>,
}

/// Reads chats that were committed. Each page is one look at the database, so a reader
/// never keeps the write-ahead log from beginning anew for long.
#[derive(Debug)]
pub struct StoreReader {
    connection: Connection,
}

impl StoreReader {
    /// Opens the database in `dir`, which a server may be using.
    ///
    /// # Errors
    ///
    /// A sentence that says what to do.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_in(&Directory::new(dir))
    }

    pub(super) fn open_in(directory: &Directory) -> Result<Self, OpenError> {
        let connection = connection::connect_to_kept(directory)?;
        Ok(Self { connection })
    }

    /// The page that ends right before the number `before`, at the last chat if that is
    /// smaller: the newest chats that way, at most `chats_max`, and at most `bytes_max`
    /// as a repeated field of a message takes them. It has one chat at least, however
    /// large, unless nothing lies that way.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn page_before(
        &self,
        before: u64,
        chats_max: usize,
        bytes_max: usize,
    ) -> Result<Page, ReadError> {
        let sql = format!("SELECT {COLUMNS} FROM chat WHERE seq < ?1 ORDER BY seq DESC LIMIT ?2");
        let mut chats = self.read(&sql, before, chats_max, bytes_max)?;
        chats.reverse();
        Ok(Page::of(chats))
    }

    /// The page that begins right behind the number `after`, at the oldest chat that is
    /// kept if that is larger: then `Page::from` shows which numbers were pruned. Bounds
    /// as for [`page_before`](Self::page_before).
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn page_after(
        &self,
        after: u64,
        chats_max: usize,
        bytes_max: usize,
    ) -> Result<Page, ReadError> {
        let sql = format!("SELECT {COLUMNS} FROM chat WHERE seq > ?1 ORDER BY seq LIMIT ?2");
        let chats = self.read(&sql, after, chats_max, bytes_max)?;
        Ok(Page::of(chats))
    }

    fn read(
        &self,
        sql: &str,
        edge: u64,
        chats_max: usize,
        bytes_max: usize,
    ) -> Result<Vec<wire::Chat>, ReadError> {
        let edge = edge.min(row::SEQ_MAX).cast_signed();
        let limit = i64::try_from(chats_max.max(1)).unwrap_or(i64::MAX);
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut rows = statement.query(params![edge, limit])?;
        let mut chats = Vec::new();
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            let chat = row::read(row)?;
            let chat_bytes = chat.encoded_len();
            bytes += TAG_BYTES + encoded_len_varint(chat_bytes as u64) + chat_bytes;
            if bytes > bytes_max && !chats.is_empty() {
                break;
            }
            chats.push(chat);
        }
        Ok(chats)
    }
}

impl Page {
    /// The page of chats that follow one another without a gap.
    fn of(chats: Vec<wire::Chat>) -> Self {
        let seq = |chat: Option<&wire::Chat>| chat.map_or(0, |chat| chat.seq);
        Self {
            from: seq(chats.first()),
            to: seq(chats.last()),
            chats,
        }
    }
}
