//! Full-text search: an index in a file of its own, DIR/search.sqlite, which each search
//! first brings up to date. So commits do not wait for an index, and a lost or damaged
//! one is made again.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use rusqlite::{
    Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params,
};

use super::{PAGE_BYTES_MAX, PAGE_CHATS_MAX, print::Printer, sentence};
use crate::{
    store::{
        OpenError, StoreReader, connection,
        directory::{Directory, FILE_MODE},
        epoch::Mark,
        error,
    },
    wire,
};

/// The version of the index. One of another version is made anew.
const VERSION: i64 = 1;

/// The words of the chats without their texts, and which chats those are: from one
/// number to another, in one epoch, and the last of them to recognize it by.
const TABLES: &str = "
    CREATE TABLE indexed (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        epoch TEXT NOT NULL,
        from_seq INTEGER NOT NULL,
        to_seq INTEGER NOT NULL,
        last_time_unix_ms INTEGER NOT NULL,
        last_sender TEXT NOT NULL
    ) STRICT;
    CREATE VIRTUAL TABLE chat USING fts5(
        sender, text, content = '', contentless_delete = 1,
        tokenize = 'unicode61 remove_diacritics 2'
    );
";

/// How long a search waits for another one that extends the index.
const BUSY_MS_MAX: u64 = 60_000;

/// Prints the newest `limit` chats that match, by rising number.
pub(super) fn search(
    dir: &Path,
    words: &[String],
    limit: u32,
    is_expression: bool,
) -> Result<(), String> {
    let expression = match is_expression {
        true => words.join(" "),
        false => words
            .iter()
            .map(|word| quoted(word))
            .collect::<Vec<_>>()
            .join(" "),
    };
    let room = Room::open(dir)?;
    let path = dir.join("search.sqlite");
    let found = match find(&room, &path, &expression, limit) {
        Err(Fault::Index(error)) if is_damaged(&error) => {
            remove(&path).map_err(|error| sentence(OpenError::Io(path.clone(), error)))?;
            find(&room, &path, &expression, limit)
        }
        found => found,
    };
    let found = found.map_err(|fault| match fault {
        Fault::Sentence(sentence) => sentence,
        Fault::Index(error) => sentence(OpenError::Database(path, error)),
    })?;
    let mut printer = Printer::new();
    for seq in found.into_iter().rev() {
        // It may be gone by now.
        if let Some(chat) = room.chat(seq)? {
            printer.print(&chat)?;
        }
    }
    printer.end()
}

/// An argument as a phrase of FTS5, with its `*` for prefixes.
fn quoted(word: &str) -> String {
    let (word, star) = match word.strip_suffix('*') {
        Some(word) => (word, "*"),
        None => (word, ""),
    };
    format!("\"{}\"{star}", word.replace('"', "\"\""))
}

enum Fault {
    Sentence(String),
    Index(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        Self::Index(error)
    }
}

impl From<String> for Fault {
    fn from(sentence: String) -> Self {
        Self::Sentence(sentence)
    }
}

fn is_damaged(error: &rusqlite::Error) -> bool {
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase)
    )
}

fn remove(path: &Path) -> io::Result<()> {
    for suffix in ["", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        match fs::remove_file(PathBuf::from(name)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The room that is searched.
struct Room {
    reader: StoreReader,
    connection: Connection,
    path: PathBuf,
}

impl Room {
    fn open(dir: &Path) -> Result<Self, String> {
        let directory = Directory::new(dir);
        Ok(Self {
            reader: StoreReader::open(dir).map_err(sentence)?,
            connection: connection::connect_to_kept(&directory).map_err(sentence)?,
            path: directory.database(),
        })
    }

    fn mark(&self) -> Result<Mark, String> {
        let failed = |error| sentence(OpenError::Database(self.path.clone(), error));
        let mark = Mark::read(&self.connection).map_err(failed)?;
        mark.ok_or_else(|| sentence(OpenError::Missing(self.path.clone())))
    }

    fn chat(&self, seq: u64) -> Result<Option<wire::Chat>, String> {
        let page = self.reader.page_after(seq.saturating_sub(1), 1, 1);
        let chat = page.map_err(sentence)?.chats.pop();
        Ok(chat.filter(|chat| chat.seq == seq))
    }
}

fn find(room: &Room, path: &Path, expression: &str, limit: u32) -> Result<Vec<u64>, Fault> {
    let mut index = open_index(path)?;
    while extend(room, &mut index)? {}
    let sql = "SELECT rowid FROM chat WHERE chat MATCH ?1 ORDER BY rowid DESC LIMIT ?2";
    let mut statement = index.prepare(sql)?;
    let found = statement.query_map(params![expression, limit], |row| {
        Ok(row.get::<_, i64>(0)?.cast_unsigned())
    })?;
    found
        .collect::<rusqlite::Result<_>>()
        .map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::Unknown) => Fault::Sentence(format!(
                "this is no expression of FTS5: {}; without --expression, words are taken as \
                 they are",
                error::plain(&error)
            )),
            _ => error.into(),
        })
}

fn open_index(path: &Path) -> Result<Connection, Fault> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(FILE_MODE)
        .open(path);
    match made {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => {
            return Err(sentence(OpenError::Io(path.to_owned(), error)).into());
        }
        _ => {}
    }
    let mut index = Connection::open(path)?;
    index.busy_timeout(Duration::from_millis(BUSY_MS_MAX))?;
    let transaction = index.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let version: i64 = transaction.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version != VERSION {
        transaction.execute_batch("DROP TABLE IF EXISTS indexed; DROP TABLE IF EXISTS chat;")?;
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()?;
    Ok(index)
}

/// What is in the index.
struct Indexed {
    epoch: String,
    from_seq: u64,
    to_seq: u64,
    last_time_unix_ms: i64,
    last_sender: String,
}

/// Brings a piece of the index up to date, and answers whether there may be more.
fn extend(room: &Room, index: &mut Connection) -> Result<bool, Fault> {
    let transaction = index.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mark = room.mark()?;
    let indexed = match read_indexed(&transaction)? {
        Some(indexed) if is_current(room, &mark, &indexed)? => indexed,
        _ => {
            transaction.execute_batch("INSERT INTO chat (chat) VALUES ('delete-all')")?;
            Indexed {
                epoch: mark.epoch.clone(),
                from_seq: mark.oldest_seq,
                to_seq: 0,
                last_time_unix_ms: 0,
                last_sender: String::new(),
            }
        }
    };
    // Pruned texts must not be found by their words either.
    let mut remove = transaction.prepare_cached("DELETE FROM chat WHERE rowid = ?1")?;
    for seq in indexed.from_seq..mark.oldest_seq.min(indexed.to_seq + 1) {
        remove.execute([seq.cast_signed()])?;
    }
    drop(remove);
    let page = room
        .reader
        .page_after(indexed.to_seq, PAGE_CHATS_MAX, PAGE_BYTES_MAX);
    let page = page.map_err(sentence)?;
    let mut insert =
        transaction.prepare_cached("INSERT INTO chat (rowid, sender, text) VALUES (?1, ?2, ?3)")?;
    for chat in &page.chats {
        insert.execute(params![chat.seq.cast_signed(), chat.sender, chat.text])?;
    }
    drop(insert);
    let extended = match page.chats.last() {
        Some(last) => Indexed {
            to_seq: last.seq,
            last_time_unix_ms: last.time_unix_ms,
            last_sender: last.sender.clone(),
            ..indexed
        },
        None => indexed,
    };
    write_indexed(&transaction, mark.oldest_seq, &extended)?;
    transaction.commit()?;
    Ok(!page.chats.is_empty())
}

/// Whether what was indexed is still in the room: not if another database took its
/// place, or if the newest chats were lost in a power cut.
fn is_current(room: &Room, mark: &Mark, indexed: &Indexed) -> Result<bool, Fault> {
    if indexed.epoch != mark.epoch {
        return Ok(false);
    }
    if indexed.to_seq < mark.oldest_seq {
        return Ok(true);
    }
    let last = room.chat(indexed.to_seq)?;
    Ok(last.is_some_and(|last| {
        (last.time_unix_ms, last.sender) == (indexed.last_time_unix_ms, indexed.last_sender.clone())
    }))
}

fn read_indexed(index: &Transaction<'_>) -> rusqlite::Result<Option<Indexed>> {
    let sql = "SELECT epoch, from_seq, to_seq, last_time_unix_ms, last_sender FROM indexed";
    let indexed = index.query_row(sql, [], |row| {
        Ok(Indexed {
            epoch: row.get(0)?,
            from_seq: row.get::<_, i64>(1)?.cast_unsigned(),
            to_seq: row.get::<_, i64>(2)?.cast_unsigned(),
            last_time_unix_ms: row.get(3)?,
            last_sender: row.get(4)?,
        })
    });
    indexed.optional()
}

fn write_indexed(
    index: &Transaction<'_>,
    from_seq: u64,
    indexed: &Indexed,
) -> rusqlite::Result<()> {
    index.execute(
        "INSERT OR REPLACE INTO indexed
            (only, epoch, from_seq, to_seq, last_time_unix_ms, last_sender)
            VALUES (1, ?1, ?2, ?3, ?4, ?5)",
        params![
            indexed.epoch,
            from_seq.cast_signed(),
            indexed.to_seq.cast_signed(),
            indexed.last_time_unix_ms,
            indexed.last_sender
        ],
    )?;
    Ok(())
}
