//! Texts with a stamp: each says who sent it, which of the sender's messages it is and
//! when it was sent, so that deliveries can be checked and timed.

/// Hexadecimal digits of each field.
const SENDER_DIGITS: usize = 2;
const INDEX_DIGITS: usize = 8;
const STAMP_DIGITS: usize = 12;

/// The shortest text that holds all fields, in bytes.
pub const TEXT_BYTES_MIN: usize = SENDER_DIGITS + INDEX_DIGITS + STAMP_DIGITS;

/// A text of this length without a stamp.
pub fn blank(text_bytes: usize) -> Vec<u8> {
    vec![b'x'; text_bytes]
}

/// The stamp of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    pub sender: usize,
    pub index: u32,
    /// Nanoseconds since the start of the run.
    pub sent_ns: u64,
}

impl Stamp {
    /// Writes the stamp to the start of a text.
    pub fn write(self, text: &mut [u8]) {
        let (sender, rest) = text.split_at_mut(SENDER_DIGITS);
        let (index, rest) = rest.split_at_mut(INDEX_DIGITS);
        write_hex(sender, self.sender as u64);
        write_hex(index, self.index.into());
        write_hex(&mut rest[..STAMP_DIGITS], self.sent_ns);
    }

    /// Reads the stamp of a text, if it has one.
    pub fn read(text: &[u8]) -> Option<Self> {
        let (sender, rest) = text.split_at_checked(SENDER_DIGITS)?;
        let (index, rest) = rest.split_at_checked(INDEX_DIGITS)?;
        Some(Self {
            sender: read_hex(sender)? as usize,
            index: read_hex(index)? as u32,
            sent_ns: read_hex(rest.get(..STAMP_DIGITS)?)?,
        })
    }
}

fn write_hex(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[number as usize & 15];
        number >>= 4;
    }
}

fn read_hex(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0, |number, &digit| {
        let value = char::from(digit).to_digit(16)?;
        Some(number << 4 | u64::from(value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_wrote() {
        let stamp = Stamp {
            sender: 0xab,
            index: 0xdead_beef,
            sent_ns: 0x1234_5678_9abc,
        };
        let mut text = [b'x'; 64];
        stamp.write(&mut text);
        assert_eq!(Stamp::read(&text), Some(stamp));
        assert_eq!(Stamp::read(&text[8..]), None);
        assert_eq!(Stamp::read(&text[..20]), None);
    }
}
