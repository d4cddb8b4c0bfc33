//! The nats-server dialect: lines, and payloads whose length a line announces.

use super::{Dialect, JoinAs, Message, ROOM, Split, Unit, decimal, line, shown, topic_name};

pub struct Nats;

impl Dialect for Nats {
    fn join(&self, name: &str, join_as: JoinAs) -> Vec<u8> {
        join(
            name,
            match join_as {
                JoinAs::Sender => &[],
                JoinAs::Reader | JoinAs::Idle => &[ROOM],
            },
        )
    }

    fn join_topics(&self, name: &str, topics: &[usize]) -> Option<Vec<u8>> {
        let subjects: Vec<_> = topics.iter().map(|&topic| topic_name(topic)).collect();
        Some(join(name, &subjects))
    }

    fn around_text_about(&self, topic: usize, text_bytes: usize) -> (Vec<u8>, Vec<u8>) {
        let head = format!("PUB {} {text_bytes}\r\n", topic_name(topic));
        (head.into_bytes(), b"\r\n".to_vec())
    }

    fn around_text(&self, text_bytes: usize) -> (Vec<u8>, Vec<u8>) {
        let head = format!("PUB {ROOM} {text_bytes}\r\n");
        (head.into_bytes(), b"\r\n".to_vec())
    }

    fn leave(&self) -> &'static [u8] {
        b""
    }

    fn split<'a>(&self, bytes: &'a [u8], _join_as: JoinAs) -> Result<Split<'a>, String> {
        let Some((line_bytes, line)) = line(bytes)? else {
            return Ok(None);
        };
        if line.starts_with(b"MSG ") {
            let length = line.rsplit(|&byte| byte == b' ').next().unwrap_or_default();
            let text_bytes = decimal(length)?;
            let used = line_bytes + text_bytes + 2;
            return Ok(bytes
                .get(line_bytes..used)
                .map(|payload| (used, Message::of_text(&payload[..text_bytes]))));
        }
        let unit = match line {
            b"PONG" => Unit::Joined { interval_ms: 0 },
            b"PING" => Unit::Answer(b"PONG\r\n".to_vec()),
            b"+OK" => Unit::Other,
            line if line.starts_with(b"INFO ") => Unit::Other,
            line if line.starts_with(b"-ERR") => Unit::Refused(shown(line)),
            line => return Err(format!("{:?} is no line of NATS", shown(line))),
        };
        Ok(Some((line_bytes, unit)))
    }
}

fn join(name: &str, subjects: &[impl std::fmt::Display]) -> Vec<u8> {
    let mut lines = format!(
        "CONNECT {{\"verbose\":false,\"pedantic\":false,\"echo\":false,\"name\":\"{name}\"}}\r\n"
    );
    for (number, subject) in subjects.iter().enumerate() {
        lines += &format!("SUB {subject} {}\r\n", number + 1);
    }
    // The PONG confirms everything before it.
    lines += "PING\r\n";
    lines.into_bytes()
}
