//! WebSocket (RFC 6455), the client's side: just what carries a stream of bytes.

use std::io;

/// The longest message that a client may send, in bytes (CHAT-WS-5).
const MESSAGE_BYTES_MAX: usize = 65_536;

/// The longest answer to the request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// The mask of all frames: what the server undoes costs the same for any.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

const FINAL_BINARY: u8 = 0x82;
const MASKED: u8 = 0x80;
const OPCODE: u8 = 0x0f;
const CLOSE: u8 = 8;
const LENGTH_IS_16_BITS: u8 = 126;
const LENGTH_IS_64_BITS: u8 = 127;

/// One WebSocket.
pub struct WebSocket {
    /// The request, until it is sent.
    request: Option<Vec<u8>>,
    is_open: bool,
    /// A head that is not complete: of the answer, then of a frame.
    head: Vec<u8>,
    /// How many bytes of the frame's payload are still to come.
    left: usize,
    /// Whether they are part of the stream.
    is_stream: bool,
}

impl WebSocket {
    /// One that is asked for at `host`.
    pub fn new(host: &str) -> Self {
        let request = format!(
            "GET /chat HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        Self {
            request: Some(request.into_bytes()),
            is_open: false,
            head: Vec::new(),
            left: 0,
            is_stream: false,
        }
    }

    /// Whether the server has agreed.
    pub fn is_open(&self) -> bool {
        self.is_open
    }

    /// The request, once.
    pub fn request(&mut self) -> Option<Vec<u8>> {
        self.request.take()
    }

    /// Appends a frame with as many of the bytes as one may have, and returns how many.
    pub fn frame(&self, bytes: &[u8], out: &mut Vec<u8>) -> usize {
        let payload = &bytes[..bytes.len().min(MESSAGE_BYTES_MAX)];
        out.push(FINAL_BINARY);
        match payload.len() {
            short @ ..126 => out.push(MASKED | short as u8),
            long if long <= usize::from(u16::MAX) => {
                out.push(MASKED | LENGTH_IS_16_BITS);
                out.extend((long as u16).to_be_bytes());
            }
            long => {
                out.push(MASKED | LENGTH_IS_64_BITS);
                out.extend((long as u64).to_be_bytes());
            }
        }
        out.extend(MASK);
        let begin = out.len();
        out.extend_from_slice(payload);
        for four in out[begin..].chunks_mut(MASK.len()) {
            for (byte, mask) in four.iter_mut().zip(MASK) {
                *byte ^= mask;
            }
        }
        payload.len()
    }

    /// Takes bytes of the server, leaves those of the stream at their front, and returns
    /// how many these are.
    pub fn take(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let (mut at, mut kept) = (0, 0);
        while at < bytes.len() {
            if self.left > 0 {
                let taken = self.left.min(bytes.len() - at);
                if self.is_stream {
                    bytes.copy_within(at..at + taken, kept);
                    kept += taken;
                }
                self.left -= taken;
                at += taken;
                continue;
            }
            self.head.push(bytes[at]);
            at += 1;
            if !self.is_open {
                self.take_answer()?;
            } else if let Some((first, length)) = head(&self.head) {
                self.head.clear();
                if first & OPCODE == CLOSE {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                self.is_stream = first & OPCODE < CLOSE;
                self.left = length;
            }
        }
        Ok(kept)
    }

    fn take_answer(&mut self) -> io::Result<()> {
        if self.head.ends_with(b"\r\n\r\n") {
            if !self.head.starts_with(b"HTTP/1.1 101 ") {
                let line = self.head.split(|&byte| byte == b'\r').next();
                let line = String::from_utf8_lossy(line.unwrap_or_default());
                return Err(io::Error::other(format!("no WebSocket there: {line}")));
            }
            self.is_open = true;
            self.head.clear();
        } else if self.head.len() > HEAD_BYTES_MAX {
            return Err(io::Error::other("no WebSocket there"));
        }
        Ok(())
    }
}

/// The first byte of a frame and the length of its payload, once its head is complete.
fn head(head: &[u8]) -> Option<(u8, usize)> {
    let [first, length, rest @ ..] = head else {
        return None;
    };
    let length = match *length {
        LENGTH_IS_16_BITS => usize::from(u16::from_be_bytes(rest.try_into().ok()?)),
        LENGTH_IS_64_BITS => u64::from_be_bytes(rest.try_into().ok()?).try_into().ok()?,
        short => usize::from(short),
    };
    Some((*first, length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_comes_out_however_the_bytes_are_cut() {
        let mut sent = b"HTTP/1.1 101 Switching\r\nA: b\r\n\r\n".to_vec();
        // An own frame, a ping between, one with a longer head, one with the longest.
        sent.extend([0x82, 3, b'a', b'b', b'c', 0x89, 2, b'x', b'y']);
        sent.extend([0x82, 126, 1, 0]);
        sent.extend([b'd'; 256]);
        sent.extend([0x82, 127, 0, 0, 0, 0, 0, 0, 0, 2, b'e', b'f']);
        for step in [1, 2, 7, 1_000] {
            let mut socket = WebSocket::new("host");
            let mut stream: Vec<u8> = Vec::new();
            for piece in sent.chunks(step) {
                let mut piece = piece.to_vec();
                let kept = socket.take(&mut piece).expect("a WebSocket");
                stream.extend(&piece[..kept]);
            }
            assert!(socket.is_open());
            let due = [b"abc".to_vec(), vec![b'd'; 256], b"ef".to_vec()].concat();
            assert_eq!(stream, due, "{step}");
        }
        let mut refused = *b"HTTP/1.1 404 Not Found\r\n\r\n";
        let error = WebSocket::new("host").take(&mut refused);
        let error = error.expect_err("it is refused").to_string();
        assert_eq!(error, "no WebSocket there: HTTP/1.1 404 Not Found");
    }

    #[test]
    fn a_frame_is_masked_and_bounded() {
        let socket = WebSocket::new("host");
        let mut out = Vec::new();
        assert_eq!(socket.frame(b"hello", &mut out), 5);
        let undone: Vec<u8> = out[6..]
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(a, b)| a ^ b)
            .collect();
        assert_eq!((&out[..2], &undone[..]), (&[0x82, 0x85][..], &b"hello"[..]));
        for (length, taken, head) in [(300, 300, 8), (70_000, 65_536, 14)] {
            out.clear();
            assert_eq!(socket.frame(&vec![0; length], &mut out), taken);
            assert_eq!(out.len(), head + taken);
        }
    }
}
