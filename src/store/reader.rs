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

/// How many chats are looked at for a page with a filter.
const LOOKED_AT_MAX: usize = 5_000;

/// The conditions of both directions, with the edge as a parameter.
const BEFORE: &str = "< ?1 ORDER BY seq DESC";
const AFTER: &str = "> ?1 ORDER BY seq";

/// A piece of the past.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Page {
    /// The first number that the page covers; 0 if nothing lies that way.
    pub from: u64,
    /// The last number that it covers; 0 if nothing lies that way.
    pub to: u64,
    /// The chats from `from` to `to`, by rising number: all, or those that a filter wants.
    pub chats: Vec<wire::Chat>,
}

/// Reads chats that were committed. Each page is one look at the database, so a reader
/// never keeps the write-ahead log from beginning anew for long.
#[derive(Debug)]
pub struct StoreReader {
    pub(super) connection: Connection,
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
        self.page(BEFORE, before, (chats_max, bytes_max, chats_max), |_| true)
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
        self.page(AFTER, after, (chats_max, bytes_max, chats_max), |_| true)
    }

    /// Shows the chats from `from_seq` on that have more than a text, by rising number.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn chats_with_more(
        &self,
        from_seq: u64,
        mut show: impl FnMut(&wire::Chat),
    ) -> Result<(), ReadError> {
        let sql =
            format!("SELECT {COLUMNS} FROM chat WHERE seq >= ?1 AND more IS NOT NULL ORDER BY seq");
        let mut statement = self.connection.prepare(&sql)?;
        let mut rows = statement.query([from_seq.min(row::SEQ_MAX).cast_signed()])?;
        while let Some(row) = rows.next()? {
            show(&row::read(row)?);
        }
        Ok(())
    }

    /// As [`page_before`](Self::page_before), with only those chats that `is_wanted`. It
    /// covers more numbers than it has chats, at most `LOOKED_AT_MAX`.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn filtered_page_before(
        &self,
        before: u64,
        chats_max: usize,
        bytes_max: usize,
        is_wanted: impl Fn(&wire::Chat) -> bool,
    ) -> Result<Page, ReadError> {
        let bounds = (chats_max, bytes_max, LOOKED_AT_MAX);
        self.page(BEFORE, before, bounds, is_wanted)
    }

    /// As [`page_after`](Self::page_after), with only those chats that `is_wanted`.
    ///
    /// # Errors
    ///
    /// The database cannot be read.
    pub fn filtered_page_after(
        &self,
        after: u64,
        chats_max: usize,
        bytes_max: usize,
        is_wanted: impl Fn(&wire::Chat) -> bool,
    ) -> Result<Page, ReadError> {
        let bounds = (chats_max, bytes_max, LOOKED_AT_MAX);
        self.page(AFTER, after, bounds, is_wanted)
    }

    fn page(
        &self,
        direction: &str,
        edge: u64,
        (chats_max, bytes_max, looked_at_max): (usize, usize, usize),
        is_wanted: impl Fn(&wire::Chat) -> bool,
    ) -> Result<Page, ReadError> {
        let sql = format!("SELECT {COLUMNS} FROM chat WHERE seq {direction} LIMIT ?2");
        let edge = edge.min(row::SEQ_MAX).cast_signed();
        let limit = i64::try_from(looked_at_max.max(1)).unwrap_or(i64::MAX);
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![edge, limit])?;
        let mut page = Page::default();
        let mut bytes = 0;
        while let Some(row) = rows.next()? {
            let chat = row::read(row)?;
            let seq = chat.seq;
            if is_wanted(&chat) {
                let chat_bytes = chat.encoded_len();
                bytes += TAG_BYTES + encoded_len_varint(chat_bytes as u64) + chat_bytes;
                let is_full = bytes > bytes_max || page.chats.len() >= chats_max;
                if is_full && !page.chats.is_empty() {
                    break;
                }
                page.chats.push(chat);
            }
            page.from = if page.from == 0 {
                seq
            } else {
                page.from.min(seq)
            };
            page.to = page.to.max(seq);
        }
        if direction == BEFORE {
            page.chats.reverse();
        }
        Ok(page)
    }
}
