//! WebSocket framing (RFC 6455), the server's side (CHAT-WS). Pure: bytes in, bytes out.
//!
//! The payload of binary messages is the stream of bytes; where messages begin and end
//! means nothing (CHAT-WS-2).

/// The longest message that a client may send, in bytes (CHAT-WS-5).
pub(super) const MESSAGE_BYTES_MAX: u64 = 64 * 1024;

/// The longest payload of a control frame, in bytes.
const CONTROL_BYTES_MAX: usize = 125;

/// The longest head of a client's frame: two bytes, a length of eight, a mask of four.
const HEAD_BYTES_MAX: usize = 14;

/// The longest head of a server's frame that is used, in bytes.
pub(super) const SENT_HEAD_BYTES_MAX: usize = 4;

/// The longest payload that such a head can announce, in bytes.
pub(super) const SENT_BYTES_MAX: usize = 0xffff;

const FINAL: u8 = 0x80;
const RESERVED: u8 = 0x70;
const OPCODE: u8 = 0x0f;
const MASKED: u8 = 0x80;
const LENGTH: u8 = 0x7f;
const LENGTH_IS_16_BITS: u8 = 126;
const LENGTH_IS_64_BITS: u8 = 127;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

impl Opcode {
    fn parse(byte: u8) -> Option<Self> {
        [
            Self::Continuation,
            Self::Text,
            Self::Binary,
            Self::Close,
            Self::Ping,
            Self::Pong,
        ]
        .into_iter()
        .find(|&opcode| opcode as u8 == byte)
    }

    fn is_control(self) -> bool {
        self as u8 >= Self::Close as u8
    }
}

/// Why a WebSocket is closed, as its Close frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CloseCode {
    Normal = 1000,
    Protocol = 1002,
    Text = 1003,
    TooLong = 1009,
}

/// What was found in some bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decoded {
    /// How many bytes of the stream stand at the front of the bytes now.
    pub(super) stream_bytes: usize,
    /// The client sends no more that counts: what to close with.
    pub(super) close: Option<CloseCode>,
}

/// Takes a client's frames apart.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    head: [u8; HEAD_BYTES_MAX],
    head_bytes: usize,
    /// The frame whose payload is being read.
    frame: Option<Frame>,
    /// How long the message is so far, while fragments of it may come.
    message_bytes: Option<u64>,
    /// The payload of a control frame so far.
    control: Vec<u8>,
}

#[derive(Debug)]
struct Frame {
    opcode: Opcode,
    bytes_left: u64,
    /// The next byte of the payload counts with the first byte of this.
    mask: [u8; 4],
}

impl Decoder {
    /// Takes `bytes` apart in place. The payload of a Ping is put into `ping`.
    pub(super) fn decode(&mut self, bytes: &mut [u8], ping: &mut Option<Vec<u8>>) -> Decoded {
        let mut decoded = Decoded::default();
        let mut from = 0;
        while from < bytes.len() || self.is_frame_over() {
            let Some(frame) = &mut self.frame else {
                let Some(&byte) = bytes.get(from) else { break };
                from += 1;
                if let Err(close) = self.take_head(byte) {
                    decoded.close = Some(close);
                    break;
                }
                continue;
            };
            let there = bytes.len() - from;
            // At most as many as are there.
            let count = frame.bytes_left.min(there as u64) as usize;
            let (opcode, end) = (frame.opcode, from + count);
            let payload = bytes.get_mut(from..end).unwrap_or_default();
            for (byte, mask) in payload.iter_mut().zip(frame.mask.iter().cycle()) {
                *byte ^= mask;
            }
            frame.mask.rotate_left(count % 4);
            frame.bytes_left -= count as u64;
            let is_over = frame.bytes_left == 0;
            if opcode.is_control() {
                self.control.extend_from_slice(payload);
            } else {
                bytes.copy_within(from..end, decoded.stream_bytes);
                decoded.stream_bytes += count;
            }
            from = end;
            if is_over {
                self.frame = None;
                let control = std::mem::take(&mut self.control);
                match opcode {
                    Opcode::Ping => *ping = Some(control),
                    Opcode::Close => {
                        decoded.close = Some(CloseCode::Normal);
                        break;
                    }
                    _ => {}
                }
            }
        }
        decoded
    }

    fn is_frame_over(&self) -> bool {
        self.frame
            .as_ref()
            .is_some_and(|frame| frame.bytes_left == 0)
    }

    /// Takes a byte of a frame's head; checks the head when it is complete.
    fn take_head(&mut self, byte: u8) -> Result<(), CloseCode> {
        if let Some(place) = self.head.get_mut(self.head_bytes) {
            *place = byte;
        }
        self.head_bytes += 1;
        let [first, second, ..] = self.head;
        // As early as it can be known.
        let opcode = Opcode::parse(first & OPCODE);
        let opcode = opcode.filter(|_| first & RESERVED == 0);
        let opcode = opcode.ok_or(CloseCode::Protocol)?; // CHAT-WS-4
        if self.head_bytes < 2 {
            return Ok(());
        }
        let length_bytes = match second & LENGTH {
            LENGTH_IS_16_BITS => 2,
            LENGTH_IS_64_BITS => 8,
            _ => 0,
        };
        let length_end = 2 + length_bytes;
        if second & MASKED == 0 {
            return Err(CloseCode::Protocol); // CHAT-WS-4
        }
        if self.head_bytes < length_end + 4 {
            return Ok(());
        }
        let bytes = match length_bytes {
            0 => u64::from(second & LENGTH),
            _ => {
                let long = self.head.get(2..length_end).unwrap_or_default();
                long.iter()
                    .fold(0, |number, &byte| number << 8 | u64::from(byte))
            }
        };
        self.check(opcode, first & FINAL != 0, bytes)?;
        let mut mask = [0; 4];
        let masked = self.head.iter().skip(length_end);
        for (to, from) in mask.iter_mut().zip(masked) {
            *to = *from;
        }
        self.head_bytes = 0;
        self.frame = Some(Frame {
            opcode,
            bytes_left: bytes,
            mask,
        });
        Ok(())
    }

    /// Whether a frame may come here, and may be so long.
    fn check(&mut self, opcode: Opcode, is_final: bool, bytes: u64) -> Result<(), CloseCode> {
        let before = match (opcode, self.message_bytes) {
            (Opcode::Text, _) => return Err(CloseCode::Text), // CHAT-WS-3
            (Opcode::Continuation, Some(before)) => before,
            (Opcode::Binary, None) => 0,
            (Opcode::Continuation | Opcode::Binary, _) => return Err(CloseCode::Protocol),
            (Opcode::Close | Opcode::Ping | Opcode::Pong, _) => {
                let is_allowed = is_final && bytes <= CONTROL_BYTES_MAX as u64;
                return is_allowed.then_some(()).ok_or(CloseCode::Protocol);
            }
        };
        match before.checked_add(bytes) {
            Some(bytes) if bytes <= MESSAGE_BYTES_MAX => {
                self.message_bytes = (!is_final).then_some(bytes);
                Ok(())
            }
            _ => Err(CloseCode::TooLong), // CHAT-WS-10
        }
    }
}

/// The head of a server's frame with a payload of so many bytes, at most
/// [`SENT_BYTES_MAX`]; and how many bytes of it count.
pub(super) fn head(opcode: Opcode, payload_bytes: u16) -> ([u8; SENT_HEAD_BYTES_MAX], usize) {
    let first = FINAL | opcode as u8;
    let [high, low] = payload_bytes.to_be_bytes();
    match low {
        _ if high == 0 && low < LENGTH_IS_16_BITS => ([first, low, 0, 0], 2),
        _ => ([first, LENGTH_IS_16_BITS, high, low], 4),
    }
}

/// A control frame.
pub(super) fn control(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    let payload = payload.get(..CONTROL_BYTES_MAX).unwrap_or(payload);
    let (head, head_bytes) = head(opcode, payload.len() as u16);
    [head.get(..head_bytes).unwrap_or_default(), payload].concat()
}

/// A Close frame.
pub(super) fn close(code: CloseCode) -> Vec<u8> {
    control(Opcode::Close, &(code as u16).to_be_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tungstenite::{
        Message,
        protocol::{Role, WebSocket, WebSocketConfig},
    };

    use super::*;

    /// Decodes all of it, cut into pieces of `cut` bytes: the stream, the Pings, the end.
    fn decode(bytes: &[u8], cut: usize) -> (Vec<u8>, Vec<Vec<u8>>, Option<CloseCode>) {
        let (mut decoder, mut stream, mut pings) = (Decoder::default(), Vec::new(), Vec::new());
        for piece in bytes.chunks(cut) {
            let (mut piece, mut ping) = (piece.to_vec(), None);
            let decoded = decoder.decode(&mut piece, &mut ping);
            stream.extend_from_slice(&piece[..decoded.stream_bytes]);
            pings.extend(ping);
            if decoded.close.is_some() {
                return (stream, pings, decoded.close);
            }
        }
        (stream, pings, None)
    }

    /// A client's frame with the mask of RFC 6455's example.
    fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
        const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
        let mut frame = vec![first];
        match payload.len() {
            length @ 0..126 => frame.push(MASKED | length as u8),
            length @ 126..=0xffff => {
                frame.push(MASKED | LENGTH_IS_16_BITS);
                frame.extend((length as u16).to_be_bytes());
            }
            length => {
                frame.push(MASKED | LENGTH_IS_64_BITS);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(MASK);
        let mask = MASK.iter().cycle();
        frame.extend(payload.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        frame
    }

    #[test]
    fn frames_that_break_the_rules_end_the_stream_with_their_code() {
        let long = vec![0; MESSAGE_BYTES_MAX as usize];
        let too_long = [&long[..], &[0]].concat();
        let ends = |frames: &[Vec<u8>], expected| {
            let bytes = frames.concat();
            for cut in [1, 3, bytes.len()] {
                assert_eq!(decode(&bytes, cut).2, expected, "{:?}", &bytes[..4]);
            }
        };
        ends(&[masked(0x82, b"whole")], None);
        ends(&[masked(0x82, &long)], None);
        ends(&[masked(0x88, b"")], Some(CloseCode::Normal));
        // CHAT-WS-3
        ends(&[masked(0x81, b"text")], Some(CloseCode::Text));
        // CHAT-WS-4
        ends(&[vec![0x82, 1, 0]], Some(CloseCode::Protocol));
        for reserved in [0xc2, 0xa2, 0x92] {
            ends(&[masked(reserved, b"x")], Some(CloseCode::Protocol));
        }
        for opcode in [3, 7, 11, 15] {
            ends(&[masked(0x80 | opcode, b"x")], Some(CloseCode::Protocol));
        }
        ends(&[masked(0x09, b"part")], Some(CloseCode::Protocol));
        ends(&[masked(0x89, &[0; 126])], Some(CloseCode::Protocol));
        ends(
            &[masked(0x80, b"nothing before")],
            Some(CloseCode::Protocol),
        );
        let (begun, binary) = (masked(0x02, b"a"), masked(0x82, b"b"));
        ends(&[begun.clone(), binary], Some(CloseCode::Protocol));
        // CHAT-WS-5
        ends(&[masked(0x82, &too_long)], Some(CloseCode::TooLong));
        ends(&[begun, masked(0x80, &long)], Some(CloseCode::TooLong));
        let huge = [&[0x82, 0xff][..], &[0xff; 12]].concat();
        ends(&[huge], Some(CloseCode::TooLong));
    }

    #[test]
    fn control_frames_may_come_between_fragments() {
        let frames = [
            masked(0x02, b"one "),
            masked(0x89, b"ping"),
            masked(0x00, b""),
            masked(0x8a, b"pong"),
            masked(0x80, b"two"),
            masked(0x82, b""),
            masked(0x88, b""),
        ];
        let bytes = frames.concat();
        for cut in 1..=bytes.len() {
            let (stream, pings, close) = decode(&bytes, cut);
            assert_eq!(stream, b"one two");
            assert_eq!(pings.last().map(Vec::as_slice), Some(&b"ping"[..]));
            assert_eq!(close, Some(CloseCode::Normal));
        }
    }

    /// What a client wrote, and where a server's frames come from.
    #[derive(Default)]
    struct Wire {
        written: Vec<u8>,
        read: std::io::Cursor<Vec<u8>>,
    }

    impl std::io::Read for Wire {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.read.read(buffer)
        }
    }

    impl std::io::Write for Wire {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.written.write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn client(read: Vec<u8>) -> WebSocket<Wire> {
        let wire = Wire {
            read: std::io::Cursor::new(read),
            ..Wire::default()
        };
        let config = WebSocketConfig::default();
        WebSocket::from_raw_socket(wire, Role::Client, Some(config))
    }

    proptest! {
        /// Another implementation's messages are the stream that it was given, however
        /// they are cut.
        #[test]
        fn what_tungstenite_writes_is_read(
            messages in prop::collection::vec(
                (prop::collection::vec(any::<u8>(), 0..70_000), any::<bool>()), 0..6,
            ),
            cut in 1_usize..5_000,
        ) {
            let mut client = client(Vec::new());
            let (mut stream, mut pings, mut end) = (Vec::new(), Vec::new(), None);
            for (payload, is_ping) in messages {
                if is_ping {
                    let payload = payload[..payload.len().min(125)].to_vec();
                    client.send(Message::Ping(payload.clone().into())).expect("it fits");
                    pings.push(payload);
                } else {
                    if payload.len() as u64 > MESSAGE_BYTES_MAX {
                        end = Some(CloseCode::TooLong);
                    } else {
                        stream.extend_from_slice(&payload);
                    }
                    client.send(Message::Binary(payload.into())).expect("it fits");
                    if end.is_some() {
                        break;
                    }
                }
            }
            let written = std::mem::take(&mut client.get_mut().written);
            let (read, read_pings, close) = decode(&written, cut);
            prop_assert_eq!(read, stream);
            prop_assert_eq!(close, end);
            // Of several in one piece, the last one is answered.
            prop_assert!(read_pings.iter().all(|ping| pings.contains(ping)));
            prop_assert_eq!(read_pings.last(), pings.last());
        }

        #[test]
        fn tungstenite_reads_what_is_written(
            payloads in prop::collection::vec(
                prop::collection::vec(any::<u8>(), 0..SENT_BYTES_MAX), 0..4,
            ),
        ) {
            let mut written = Vec::new();
            for payload in &payloads {
                let (head, head_bytes) = head(Opcode::Binary, payload.len() as u16);
                written.extend_from_slice(&head[..head_bytes]);
                written.extend_from_slice(payload);
            }
            written.extend(close(CloseCode::Text));
            let mut client = client(written);
            for payload in payloads {
                let read = client.read().expect("a message");
                prop_assert_eq!(read, Message::Binary(payload.into()));
            }
            let Ok(Message::Close(Some(frame))) = client.read() else {
                panic!("no Close");
            };
            prop_assert_eq!(u16::from(frame.code), CloseCode::Text as u16);
        }

        /// Whatever comes, nothing panics, and cutting changes nothing.
        #[test]
        fn any_bytes_mean_the_same_however_they_are_cut(
            bytes in prop::collection::vec(any::<u8>(), 1..300),
            cut in 1_usize..40,
        ) {
            let (whole, cut) = (decode(&bytes, bytes.len()), decode(&bytes, cut));
            prop_assert_eq!(whole.0, cut.0);
            prop_assert_eq!(whole.2, cut.2);
        }
    }
}
