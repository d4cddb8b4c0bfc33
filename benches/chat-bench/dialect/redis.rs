//! The redis-server dialect: arrays of strings with a length each.

use super::{Dialect, JoinAs, Message, ROOM, Split, Unit, decimal, line, shown, topic_name};

pub struct Redis;

impl Dialect for Redis {
    fn join(&self, _name: &str, join_as: JoinAs) -> Vec<u8> {
        match join_as {
            JoinAs::Sender => b"PING\r\n".to_vec(),
            JoinAs::Reader | JoinAs::Idle => format!("SUBSCRIBE {ROOM}\r\n").into_bytes(),
        }
    }

    fn around_text(&self, text_bytes: usize) -> (Vec<u8>, Vec<u8>) {
        around_text(ROOM, text_bytes)
    }

    fn join_topics(&self, _name: &str, topics: &[usize]) -> Option<Vec<u8>> {
        let channels: Vec<_> = topics.iter().map(|&topic| topic_name(topic)).collect();
        Some(match channels.is_empty() {
            true => b"PING\r\n".to_vec(),
            // They count together: none is confirmed before all are there.
            false => format!("SUBSCRIBE {}\r\n", channels.join(" ")).into_bytes(),
        })
    }

    fn around_text_about(&self, topic: usize, text_bytes: usize) -> (Vec<u8>, Vec<u8>) {
        around_text(&topic_name(topic), text_bytes)
    }

    fn leave(&self) -> &'static [u8] {
        b""
    }

    fn split<'a>(&self, bytes: &'a [u8], _join_as: JoinAs) -> Result<Split<'a>, String> {
        let Some((mut used, line_1)) = line(bytes)? else {
            return Ok(None);
        };
        let unit = match line_1 {
            b"+PONG" => Unit::Joined { interval_ms: 0 },
            b"*3" => {
                let mut roles = [&bytes[..0]; 3];
                for role in &mut roles {
                    let Some((head_bytes, head)) = line(&bytes[used..])? else {
                        return Ok(None);
                    };
                    used += head_bytes;
                    // A number, or the length of a string.
                    let Some(length) = head.strip_prefix(b"$") else {
                        continue;
                    };
                    let end = used + decimal(length)?;
                    if end + 2 > bytes.len() {
                        return Ok(None);
                    }
                    *role = &bytes[used..end];
                    used = end + 2;
                }
                match roles[0] {
                    b"message" => Message::of_text(roles[2]),
                    b"subscribe" => Unit::Joined { interval_ms: 0 },
                    _ => Unit::Other,
                }
            }
            // The number of receivers of a PUBLISH.
            line if line.starts_with(b":") => Unit::Other,
            line if line.starts_with(b"-") => Unit::Refused(shown(line)),
            line => return Err(format!("{:?} is no line of Redis", shown(line))),
        };
        Ok(Some((used, unit)))
    }
}

fn around_text(channel: &str, text_bytes: usize) -> (Vec<u8>, Vec<u8>) {
    let head = format!(
        "*3\r\n$7\r\nPUBLISH\r\n${}\r\n{channel}\r\n${text_bytes}\r\n",
        channel.len()
    );
    (head.into_bytes(), b"\r\n".to_vec())
}
