//! The WebSocket dialect: a text message is a chat, as in a room of Bun.serve.

use super::{Dialect, JoinAs, Message, Split, Unit, line, shown};

/// The first byte of a frame: the last of its message, and an opcode.
const TEXT: u8 = 0x81;
const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// In the second byte: the payload is masked with the four bytes before it.
const MASKED: u8 = 0x80;

/// A client must mask, which protects proxies; zeros leave the payload as it is.
const MASK: [u8; 4] = [0; 4];

/// In the second byte: the length follows in two or eight bytes.
const LENGTH_U16: u8 = 126;
const LENGTH_U64: u8 = 127;

/// The end of the head of an HTTP response.
const HEAD_END: &[u8] = b"\r\n\r\n";

/// The longest head of a response, in bytes.
const HEAD_BYTES_MAX: usize = 8 * 1024;

pub struct WebSocket;

impl Dialect for WebSocket {
    fn join(&self, _name: &str, _join_as: JoinAs) -> Vec<u8> {
        // The key is any 16 bytes in Base64.
        b"GET / HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
          Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            .to_vec()
    }

    fn around_text(&self, text_bytes: usize) -> (Vec<u8>, Vec<u8>) {
        (head(TEXT, text_bytes), Vec::new())
    }

    fn leave(&self) -> &'static [u8] {
        &[CLOSE, MASKED, 0, 0, 0, 0]
    }

    fn split<'a>(&self, bytes: &'a [u8], _join_as: JoinAs) -> Result<Split<'a>, String> {
        // No frame begins with this byte: it would be a control frame in parts.
        if bytes.first() == Some(&b'H') {
            return split_response(bytes);
        }
        let Some((kind, payload, used)) = split_frame(bytes)? else {
            return Ok(None);
        };
        let unit = match kind {
            TEXT | BINARY => Message::of_text(payload),
            PING => Unit::Answer([&head(PONG, payload.len())[..], payload].concat()),
            PONG => Unit::Other,
            CLOSE => Unit::Refused(format!("close frame {}", shown(payload))),
            kind => return Err(format!("a frame that begins with {kind:#x}")),
        };
        Ok(Some((used, unit)))
    }
}

/// The head of a masked frame.
fn head(kind: u8, payload_bytes: usize) -> Vec<u8> {
    let mut head = vec![kind];
    match u16::try_from(payload_bytes) {
        Ok(length) if length < LENGTH_U16.into() => head.push(MASKED | length as u8),
        Ok(length) => {
            head.push(MASKED | LENGTH_U16);
            head.extend(length.to_be_bytes());
        }
        Err(_) => {
            head.push(MASKED | LENGTH_U64);
            head.extend((payload_bytes as u64).to_be_bytes());
        }
    }
    head.extend(MASK);
    head
}

/// The first byte, the payload and the length of an unmasked frame.
type Frame<'a> = (u8, &'a [u8], usize);

/// Splits off an unmasked frame; `None` while it is
/// incomplete.
fn split_frame(bytes: &[u8]) -> Result<Option<Frame<'_>>, String> {
    let Some(&[kind, short]) = bytes.get(..2) else {
        return Ok(None);
    };
    let (length, length_bytes) = match short {
        LENGTH_U16 => match bytes.get(2..4) {
            Some(&[a, b]) => (u64::from(u16::from_be_bytes([a, b])), 2),
            _ => return Ok(None),
        },
        LENGTH_U64 => match bytes.get(2..10).map(<[u8; 8]>::try_from) {
            Some(Ok(length)) => (u64::from_be_bytes(length), 8),
            _ => return Ok(None),
        },
        short if short & MASKED == 0 => (short.into(), 0),
        _ => return Err("a masked frame from the server".to_owned()),
    };
    let start: usize = 2 + length_bytes;
    let end = usize::try_from(length)
        .ok()
        .and_then(|length| start.checked_add(length))
        .ok_or_else(|| format!("a frame of {length} bytes"))?;
    Ok(bytes.get(start..end).map(|payload| (kind, payload, end)))
}

fn split_response(bytes: &[u8]) -> Result<Split<'_>, String> {
    let end = bytes.windows(HEAD_END.len()).position(|it| it == HEAD_END);
    let Some(end) = end else {
        return match bytes.len() > HEAD_BYTES_MAX {
            true => Err("the head of a response does not end".to_owned()),
            false => Ok(None),
        };
    };
    let status = line(bytes)?.map_or(&b""[..], |(_, line)| line);
    let unit = match status.strip_prefix(b"HTTP/1.1 101") {
        Some(_) => Unit::Joined { interval_ms: 0 },
        None => Unit::Refused(shown(status)),
    };
    Ok(Some((end + HEAD_END.len(), unit)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a server would send for a frame of ours: without the mask.
    fn from_server(kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut head = head(kind, payload.len());
        head.truncate(head.len() - MASK.len());
        head[1] &= !MASKED;
        [&head[..], payload].concat()
    }

    fn split(bytes: &[u8]) -> Result<Split<'_>, String> {
        WebSocket.split(bytes, JoinAs::Reader)
    }

    #[test]
    fn frames_of_every_length_come_back_whole() {
        for length in [0, 1, 125, 126, 65_535, 65_536, 100_000] {
            let payload = vec![b'x'; length];
            let mut bytes = from_server(TEXT, &payload);
            let used = bytes.len();
            bytes.extend(b"rest");
            match split(&bytes) {
                Ok(Some((bytes, Unit::Message(message)))) => {
                    assert_eq!((bytes, message.text), (used, &payload[..]), "{length}");
                }
                _ => panic!("no message of {length} bytes"),
            }
            for cut in [0, 1, 2, 3, 9, used - 1] {
                if cut < used {
                    assert!(matches!(split(&bytes[..cut]), Ok(None)), "{length} {cut}");
                }
            }
        }
    }

    #[test]
    fn a_client_masks_with_zeros() {
        let (head, tail) = WebSocket.around_text(64);
        assert_eq!(
            (head, tail),
            (vec![TEXT, MASKED | 64, 0, 0, 0, 0], Vec::new())
        );
        let (head, _) = WebSocket.around_text(4_096);
        assert_eq!(head, [TEXT, MASKED | LENGTH_U16, 0x10, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn other_units() {
        let welcome = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\nrest";
        let joined = split(welcome);
        assert!(
            matches!(joined, Ok(Some((used, Unit::Joined { interval_ms: 0 }))) if used == welcome.len() - 4)
        );
        assert!(matches!(split(&welcome[..20]), Ok(None)));
        let refused = split(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        assert!(
            matches!(refused, Ok(Some((_, Unit::Refused(line)))) if line == "HTTP/1.1 400 Bad Request")
        );
        let ping = from_server(PING, b"hi");
        assert!(
            matches!(split(&ping), Ok(Some((4, Unit::Answer(answer)))) if answer == [PONG, MASKED | 2, 0, 0, 0, 0, b'h', b'i'])
        );
        assert!(matches!(
            split(&from_server(CLOSE, b"")),
            Ok(Some((2, Unit::Refused(_))))
        ));
        assert!(split(&[TEXT, MASKED | 1, 0, 0, 0, 0, b'x']).is_err());
        assert!(split(&[0x01, 1, b'x']).is_err());
    }
}
