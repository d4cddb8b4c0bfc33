//! The redis-server dialect over a stream, of which each member asks for what comes next.

use super::{Dialect, JoinAs, Message, ROOM, Split, Unit, decimal, line, shown};

/// How many messages a member asks for at a time.
const COUNT: usize = 1_000;

/// `None` while it is incomplete.
type Found<T> = Result<Option<T>, String>;

pub struct RedisStream;

impl Dialect for RedisStream {
    fn join(&self, _name: &str, join_as: JoinAs) -> Vec<u8> {
        let mut lines = "PING\r\n".to_owned();
        if join_as != JoinAs::Sender {
            lines += &read_after("0");
        }
        lines.into_bytes()
    }

    fn around_text(&self, text_bytes: usize) -> (Vec<u8>, Vec<u8>) {
        let head = format!(
            "*5\r\n$4\r\nXADD\r\n${}\r\n{ROOM}\r\n$1\r\n*\r\n$1\r\nt\r\n${text_bytes}\r\n",
            ROOM.len()
        );
        (head.into_bytes(), b"\r\n".to_vec())
    }

    fn leave(&self) -> &'static [u8] {
        b""
    }

    /// An answer has several messages: its head is a unit, which is answered with the next
    /// request, and each of them is one.
    fn split<'a>(&self, bytes: &'a [u8], _join_as: JoinAs) -> Result<Split<'a>, String> {
        let Some((used, first)) = line(bytes)? else {
            return Ok(None);
        };
        let unit = match first {
            b"+PONG" => Unit::Joined { interval_ms: 0 },
            b"*1" => return split_head(bytes),
            b"*2" => {
                let Some((entry_bytes, _, text)) = entry(bytes)? else {
                    return Ok(None);
                };
                return Ok(Some((entry_bytes, Message::of_text(text))));
            }
            // The id of what was added.
            line if line.starts_with(b"$") => {
                let Some((used, _)) = string(bytes)? else {
                    return Ok(None);
                };
                return Ok(Some((used, Unit::Other)));
            }
            line if line.starts_with(b"-") => Unit::Refused(shown(line)),
            line => return Err(format!("{:?} is no line of Redis", shown(line))),
        };
        Ok(Some((used, unit)))
    }
}

fn read_after(id: &str) -> String {
    format!("XREAD COUNT {COUNT} BLOCK 0 STREAMS {ROOM} {id}\r\n")
}

/// `*1 *2 name *N`, once all N are there.
fn split_head(bytes: &[u8]) -> Result<Split<'_>, String> {
    let mut used = 0;
    let mut lines = [&bytes[..0]; 5];
    for found in &mut lines {
        let Some((line_bytes, line)) = line(&bytes[used..])? else {
            return Ok(None);
        };
        used += line_bytes;
        *found = line;
    }
    let count = decimal(lines[4].strip_prefix(b"*").unwrap_or_default())?;
    let (head_bytes, mut last) = (used, &bytes[..0]);
    for _ in 0..count.min(COUNT) {
        let Some((entry_bytes, id, _)) = entry(&bytes[used..])? else {
            return Ok(None);
        };
        used += entry_bytes;
        last = id;
    }
    let next = read_after(&String::from_utf8_lossy(last));
    Ok(Some((head_bytes, Unit::Answer(next.into_bytes()))))
}

/// The length, the id and the text of a message: `*2 id *2 field text`.
fn entry(bytes: &[u8]) -> Found<(usize, &[u8], &[u8])> {
    let mut used = 0;
    let mut strings = [&bytes[..0]; 3];
    for (index, found) in strings.iter_mut().enumerate() {
        // Both arrays begin before a string.
        if index < 2 {
            let Some((line_bytes, _)) = line(&bytes[used..])? else {
                return Ok(None);
            };
            used += line_bytes;
        }
        let Some((string_bytes, string)) = string(&bytes[used..])? else {
            return Ok(None);
        };
        used += string_bytes;
        *found = string;
    }
    Ok(Some((used, strings[0], strings[2])))
}

/// A string with its length before it.
fn string(bytes: &[u8]) -> Found<(usize, &[u8])> {
    let Some((head_bytes, head)) = line(bytes)? else {
        return Ok(None);
    };
    let end = head_bytes + decimal(head.strip_prefix(b"$").unwrap_or_default())?;
    Ok(bytes
        .get(head_bytes..end + 2)
        .map(|string| (end + 2, &string[..end - head_bytes])))
}
