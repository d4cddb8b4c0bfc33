//! Checks a database: its pages, its numbers and its lines.

use std::{io::Write, path::Path, process::ExitCode};

use rusqlite::Connection;

use super::{println_quietly, sentence};
use crate::store::{
    OpenError, TOKEN_BYTES, TOKENS_MAX, connection,
    directory::Directory,
    epoch::Mark,
    error,
    row::{self, COLUMNS},
};

/// How many faults are listed.
const FAULTS_MAX: usize = 20;

/// Checks the database in `dir` as it is at one moment.
pub(super) fn check(dir: &Path) -> Result<ExitCode, String> {
    let directory = Directory::new(dir);
    let path = directory.database();
    let connection = connection::connect_to_kept(&directory).map_err(sentence)?;
    let mut faults = Vec::new();
    let found = inspect(&connection, &mut faults).unwrap_or_else(|error| {
        faults.push(error::plain(&error));
        String::new()
    });
    if faults.is_empty() {
        println_quietly(&format!("{}: no fault found; {found}", path.display()));
        return Ok(ExitCode::SUCCESS);
    }
    faults.truncate(FAULTS_MAX);
    let damaged = OpenError::Damaged(path, faults.join("; "));
    let _ = writeln!(std::io::stderr(), "chat-server: {damaged}");
    Ok(ExitCode::FAILURE)
}

/// Notes the faults, and answers what is there.
fn inspect(connection: &Connection, faults: &mut Vec<String>) -> rusqlite::Result<String> {
    // One look for all queries, also while a server commits.
    let snapshot = connection.unchecked_transaction()?;
    let mut statement = snapshot.prepare(&format!("PRAGMA integrity_check({FAULTS_MAX})"))?;
    for fault in statement.query_map([], |row| row.get::<_, String>(0))? {
        let fault = fault?;
        if fault != "ok" {
            faults.push(fault.replace('\n', " "));
        }
    }
    let Some(mark) = Mark::read(&snapshot)? else {
        faults.push("it has no epoch".to_owned());
        return Ok(String::new());
    };
    let last_seq = inspect_chats(&snapshot, mark.oldest_seq, faults)?;
    let lines = inspect_lines(&snapshot, last_seq, faults)?;
    let chats = (last_seq + 1).saturating_sub(mark.oldest_seq);
    Ok(format!(
        "{chats} messages, numbers {} to {last_seq}, {lines} clients that may resume",
        mark.oldest_seq
    ))
}

/// Every number from the oldest on has one chat, and their sizes add up. Answers the
/// last one.
fn inspect_chats(
    connection: &Connection,
    oldest_seq: u64,
    faults: &mut Vec<String>,
) -> rusqlite::Result<u64> {
    let sql = format!("SELECT {COLUMNS}, start_bytes FROM chat ORDER BY seq");
    let mut statement = connection.prepare(&sql)?;
    let mut rows = statement.query([])?;
    let mut next_seq = oldest_seq;
    let mut next_bytes = None;
    while let Some(row) = rows.next()? {
        let chat = match row::read(row) {
            Ok(chat) => chat,
            Err(error) => {
                let seq: i64 = row.get(0)?;
                faults.push(format!("message {seq} cannot be read: {error}"));
                continue;
            }
        };
        if chat.seq > next_seq {
            faults.push(format!(
                "messages {next_seq} to {} are missing",
                chat.seq - 1
            ));
        } else if chat.seq < next_seq {
            faults.push(format!("message {} should have been removed", chat.seq));
        }
        let start_bytes = row.get::<_, i64>("start_bytes")?.cast_unsigned();
        if next_bytes.is_some_and(|next| next != start_bytes) {
            faults.push(format!("the size before message {} is wrong", chat.seq));
        }
        next_seq = chat.seq + 1;
        // What a removed text took still counts for the later ones.
        next_bytes =
            (!chat.removed).then(|| start_bytes + row::bytes(&chat, row::more(&chat).as_deref()));
        if faults.len() > FAULTS_MAX {
            break;
        }
    }
    Ok(next_seq - 1)
}

/// Lines have whole tokens, and sent chats that there were. Answers how many lines.
fn inspect_lines(
    connection: &Connection,
    last_seq: u64,
    faults: &mut Vec<String>,
) -> rusqlite::Result<u64> {
    let count = |sql: &str| {
        let count = connection.query_row(sql, [], |row| row.get::<_, i64>(0))?;
        rusqlite::Result::Ok(count.cast_unsigned())
    };
    let bytes_max = TOKEN_BYTES * TOKENS_MAX;
    let wrong_tokens = count(&format!(
        "SELECT count(*) FROM line
         WHERE length(tokens) % {TOKEN_BYTES} != 0 OR length(tokens) > {bytes_max}"
    ))?;
    if wrong_tokens > 0 {
        faults.push(format!("{wrong_tokens} lines have broken tokens"));
    }
    let astray = count(&format!("SELECT count(*) FROM sent WHERE seq > {last_seq}"))?;
    if astray > 0 {
        faults.push(format!("{astray} ids belong to no message"));
    }
    count("SELECT count(*) FROM line")
}
