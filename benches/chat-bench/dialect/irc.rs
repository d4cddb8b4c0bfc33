//! The IRC dialect: lines, few of which are messages.

use super::{Dialect, JoinAs, Message, ROOM, Split, Unit, line, shown};

pub struct Irc;

impl Dialect for Irc {
    fn join(&self, name: &str, _join_as: JoinAs) -> Vec<u8> {
        format!("NICK {name}\r\nUSER {name} 0 * :{name}\r\n").into_bytes()
    }

    fn around_text(&self, _text_bytes: usize) -> (Vec<u8>, Vec<u8>) {
        let head = format!("PRIVMSG #{ROOM} :");
        (head.into_bytes(), b"\r\n".to_vec())
    }

    fn leave(&self) -> &'static [u8] {
        b"QUIT\r\n"
    }

    fn split<'a>(&self, bytes: &'a [u8], join_as: JoinAs) -> Result<Split<'a>, String> {
        let Some((used, line)) = line(bytes)? else {
            return Ok(None);
        };
        let mut words = line.splitn(4, |&byte| byte == b' ');
        let (first, second) = (words.next(), words.next());
        let last = words.nth(1);
        let unit = match (first, second) {
            (Some(b"PING"), Some(token)) => Unit::Answer([b"PONG ", token, b"\r\n"].concat()),
            (Some(b"ERROR"), _) => Unit::Refused(shown(line)),
            (Some(from), Some(command)) if from.starts_with(b":") => match command {
                b"PRIVMSG" => match last {
                    Some(text) => Message::of_text(text.strip_prefix(b":").unwrap_or(text)),
                    None => Unit::Other,
                },
                // RPL_WELCOME.
                b"001" if join_as == JoinAs::Idle => Unit::Joined { interval_ms: 0 },
                b"001" => Unit::Answer(format!("JOIN #{ROOM}\r\n").into_bytes()),
                // RPL_ENDOFNAMES.
                b"366" => Unit::Joined { interval_ms: 0 },
                // ERR_NOMOTD.
                b"422" => Unit::Other,
                [b'4' | b'5', _, _] => Unit::Refused(shown(line)),
                _ => Unit::Other,
            },
            _ if line.is_empty() => Unit::Other,
            _ => return Err(format!("{:?} is no line of IRC", shown(line))),
        };
        Ok(Some((used, unit)))
    }
}
