//! Framing: a length as a base-128 varint, then that many bytes. The suite has its own
//! implementation, since a mistake in shared code would hide itself.

/// The most bytes a length may take.
pub const VARINT_BYTES_MAX: usize = 10;

/// The longest envelope that the suite reads. The bounds of the schema are checked
/// where the messages are read.
pub const ENVELOPE_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A length in the fewest bytes that hold it.
pub fn length(n: u64) -> Vec<u8> {
    let mut n = n;
    let mut bytes = Vec::new();
    while n > 127 {
        bytes.push((n % 128) as u8 + 128);
        n /= 128;
    }
    bytes.push(n as u8);
    bytes
}

/// The same length written in `width` bytes: legal for a receiver to accept, but
/// no sender may write it. None when `width` is too few.
pub fn length_padded(n: u64, width: usize) -> Option<Vec<u8>> {
    let mut bytes = length(n);
    if bytes.len() > width {
        return None;
    }
    while bytes.len() < width {
        if let Some(last) = bytes.last_mut() {
            *last |= 0x80;
        }
        bytes.push(0);
    }
    Some(bytes)
}

/// A whole frame around an envelope.
pub fn frame(envelope: &[u8]) -> Vec<u8> {
    let mut bytes = length(envelope.len() as u64);
    bytes.extend_from_slice(envelope);
    bytes
}

/// The beginning of the bytes that were received so far.
#[derive(Debug, PartialEq, Eq)]
pub enum Head {
    /// Not yet a whole frame.
    Incomplete,
    /// A frame: its envelope is `bytes[from..to]`.
    Frame {
        /// Where the envelope begins, so how long the prefix is.
        from: usize,
        /// Where it ends.
        to: usize,
    },
    /// No frame can begin like this; the sentence says why.
    Malformed(&'static str),
}

/// Looks for a frame at the beginning of `bytes`.
pub fn head(bytes: &[u8]) -> Head {
    let mut value: u64 = 0;
    for (i, byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        let seven = u64::from(byte & 0x7f);
        if i == VARINT_BYTES_MAX - 1 && seven > 1 {
            return Head::Malformed("a length that does not fit in 64 bits");
        }
        value |= seven << (7 * i);
        if byte & 0x80 == 0 {
            if value > ENVELOPE_BYTES_MAX {
                return Head::Malformed("a length of more than 16 MiB");
            }
            let (from, to) = (i + 1, i + 1 + value as usize);
            return if bytes.len() < to {
                Head::Incomplete
            } else {
                Head::Frame { from, to }
            };
        }
    }
    if bytes.len() >= VARINT_BYTES_MAX {
        Head::Malformed("a length without a last byte among its first ten")
    } else {
        Head::Incomplete
    }
}

/// Bytes as people read them: `0a 05 68`.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for (i, byte) in bytes.iter().enumerate() {
        if i > 0 {
            text.push(' ');
        }
        text.push_str(&format!("{byte:02x}"));
    }
    text
}

/// Reads `0a 05 68`, with or without blanks.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).map(|d| d as u8))
        .collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| high * 16 + low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_the_schema_says() {
        assert_eq!(length(0), [0]);
        assert_eq!(length(127), [0x7f]);
        assert_eq!(length(300), [0xac, 0x02]);
        assert_eq!(length_padded(5, 3), Some(vec![0x85, 0x80, 0x00]));
        assert_eq!(length_padded(300, 1), None);
        assert_eq!(length(u64::MAX).len(), VARINT_BYTES_MAX);
    }

    #[test]
    fn a_length_prefix_is_complete_incomplete_or_malformed() {
        assert_eq!(head(&[]), Head::Incomplete);
        assert_eq!(head(&[2, 7]), Head::Incomplete);
        assert_eq!(head(&[2, 7, 8, 9]), Head::Frame { from: 1, to: 3 });
        assert_eq!(head(&[0x80, 0x00]), Head::Frame { from: 2, to: 2 });
        assert!(matches!(head(&[0xff; 10]), Head::Malformed(_)));
        assert_eq!(head(&[0xff; 9]), Head::Incomplete);
    }

    #[test]
    fn hex_is_written_and_read_back() {
        assert_eq!(unhex("0a 05FF"), Some(vec![10, 5, 255]));
        assert_eq!(unhex("0a 5"), None);
        assert_eq!(hex(&[10, 5]), "0a 05");
    }
}
