//! Sent ids: which chats each line sent, kept after the chats themselves are pruned.
//!
//! The rows lie in the order of the chats, so that a burst of many lines fills a few
//! pages and not one page for each line. Rows that no line needs any more are found by a
//! sweep through the table, two rows for each new one: so it holds about twice what the
//! lines keep, and no commit does more than its share.

use std::collections::{HashMap, VecDeque};

use rusqlite::{Connection, Statement, params};

use super::{Line, Sent};
use crate::wire;

/// The statement that [`SentIds::add`] takes.
pub(super) const INSERT: &str =
    "INSERT INTO sent (seq, line, id, nth, time_unix_ms) VALUES (?1, ?2, ?3, ?4, ?5)";
const NEXT: &str = "SELECT seq, line, nth FROM sent WHERE seq > ?1 ORDER BY seq LIMIT ?2";
const DELETE: &str = "DELETE FROM sent WHERE seq = ?1";

/// How many rows the sweep looks at for each one that was added.
const SWEPT_PER_ADDED: u64 = 2;

/// The table of sent ids, as far as memory has to know it.
#[derive(Debug)]
pub(super) struct SentIds {
    /// How many ids each line keeps.
    ids_max: u32,
    lines: HashMap<u64, Counter>,
    /// How many rows the table has.
    rows: u64,
    /// Up to where the sweep has come.
    swept_seq: i64,
}

#[derive(Debug)]
struct Counter {
    /// Older rows are those of an earlier line with the same number.
    began_seq: u64,
    /// How many ids the line has had.
    count: u64,
}

impl Counter {
    fn keeps(&self, seq: i64, nth: u64, ids_max: u32) -> bool {
        seq.cast_unsigned() > self.began_seq && nth + u64::from(ids_max) > self.count
    }
}

impl SentIds {
    /// Reads the table, and fills in what each of `lines` keeps.
    pub(super) fn load(
        connection: &Connection,
        lines: &mut [Line],
        ids_max: u32,
    ) -> rusqlite::Result<Self> {
        let mut found: HashMap<u64, (u64, VecDeque<Sent>)> = HashMap::new();
        let began: HashMap<_, _> = lines.iter().map(|line| (line.id, line.began_seq)).collect();
        let sql = "SELECT seq, line, id, nth, time_unix_ms FROM sent ORDER BY seq";
        let mut statement = connection.prepare(sql)?;
        let mut table = statement.query([])?;
        let mut rows = 0;
        while let Some(row) = table.next()? {
            rows += 1;
            let number = |column| row.get::<_, i64>(column).map(i64::cast_unsigned);
            let (seq, line) = (number(0)?, number(1)?);
            if began.get(&line).is_none_or(|&began_seq| seq <= began_seq) {
                continue;
            }
            let (count, sent) = found.entry(line).or_default();
            *count = number(3)?;
            if sent.len() >= ids_max as usize {
                sent.pop_front();
            }
            sent.push_back(Sent {
                id: number(2)?,
                seq,
                time_unix_ms: row.get(4)?,
            });
        }
        let mut ids = Self {
            ids_max,
            lines: HashMap::new(),
            rows,
            swept_seq: 0,
        };
        for line in lines {
            ids.begin_line(line);
            if let Some((count, sent)) = found.remove(&line.id) {
                line.sent = sent.into();
                if let Some(counter) = ids.lines.get_mut(&line.id) {
                    counter.count = count;
                }
            }
        }
        Ok(ids)
    }

    /// Counts what `line` sends, from now on if it is new.
    pub(super) fn begin_line(&mut self, line: &Line) {
        self.lines.entry(line.id).or_insert(Counter {
            began_seq: line.began_seq,
            count: 0,
        });
    }

    /// The sweep finds what it has sent.
    pub(super) fn end_line(&mut self, id: u64) {
        self.lines.remove(&id);
    }

    /// All lines have ended, and the table is empty.
    pub(super) fn clear(&mut self) {
        self.lines.clear();
        (self.rows, self.swept_seq) = (0, 0);
    }

    /// Records that `line` sent `chat` under `id`. A line that has ended sends nothing
    /// again.
    pub(super) fn add(
        &mut self,
        insert: &mut Statement<'_>,
        line: u64,
        id: u64,
        chat: &wire::Chat,
    ) -> rusqlite::Result<()> {
        let Some(counter) = self.lines.get_mut(&line) else {
            return Ok(());
        };
        counter.count += 1;
        self.rows += 1;
        insert.execute(params![
            chat.seq.cast_signed(),
            line.cast_signed(),
            id.cast_signed(),
            counter.count.cast_signed(),
            chat.time_unix_ms
        ])?;
        Ok(())
    }

    /// How many rows the table has.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    /// Removes some of what no line keeps, if that may be half of the table. `added` is
    /// how many rows this transaction has added.
    pub(super) fn sweep(&mut self, connection: &Connection, added: u64) -> rusqlite::Result<()> {
        let kept_max = self.lines.len() as u64 * u64::from(self.ids_max);
        if added == 0 || self.rows <= 2 * kept_max {
            return Ok(());
        }
        let limit = added * SWEPT_PER_ADDED;
        let mut next = connection.prepare_cached(NEXT)?;
        let mut delete = connection.prepare_cached(DELETE)?;
        let mut rows = next.query(params![self.swept_seq, limit.cast_signed()])?;
        let mut looked_at = 0;
        while let Some(row) = rows.next()? {
            looked_at += 1;
            let (seq, line, nth): (i64, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
            let counter = self.lines.get(&line.cast_unsigned());
            if !counter.is_some_and(|it| it.keeps(seq, nth.cast_unsigned(), self.ids_max)) {
                delete.execute([seq])?;
                self.rows -= 1;
            }
            self.swept_seq = seq;
        }
        if looked_at < limit {
            self.swept_seq = 0;
        }
        Ok(())
    }
}
