//! Read buffer: the bytes that have arrived on one connection and are not parsed yet.

use std::borrow::Cow;

/// Bytes that wait for the rest of their frame, or until the session takes them. Takes no
/// memory while empty, and otherwise exactly as much as it holds: every connection has
/// one, and few of them hold anything for long.
#[derive(Debug, Default)]
pub(super) struct ReadBuffer {
    bytes: Box<[u8]>,
}

impl ReadBuffer {
    /// Takes out the bytes that it holds, followed by `read`. [`ReadBuffer::restore`] puts
    /// back those that were not used.
    pub(super) fn take<'a>(&mut self, read: &'a [u8]) -> Cow<'a, [u8]> {
        if self.bytes.is_empty() {
            return Cow::Borrowed(read);
        }
        let mut bytes = std::mem::take(&mut self.bytes).into_vec();
        bytes.extend_from_slice(read);
        Cow::Owned(bytes)
    }

    /// Puts back the bytes taken, except for the first `used`.
    pub(super) fn restore(&mut self, taken: Cow<'_, [u8]>, used: usize) {
        self.bytes = match taken {
            Cow::Borrowed(bytes) => bytes.get(used..).unwrap_or_default().into(),
            Cow::Owned(mut bytes) => {
                bytes.drain(..used.min(bytes.len()));
                bytes.into_boxed_slice()
            }
        };
    }

    /// How much memory it takes, in bytes.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it holds nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_read_buffer_returns_unused_bytes_before_new_ones() {
        let mut buffer = ReadBuffer::default();
        let mut seen = Vec::new();
        let mut feed = |read: &str, used: usize| {
            let taken = buffer.take(read.as_bytes());
            seen.push(String::from_utf8_lossy(&taken).into_owned());
            buffer.restore(taken, used);
            (buffer.buffered_bytes(), buffer.is_empty())
        };
        assert_eq!(feed("abc", 3), (0, true));
        assert_eq!(feed("defg", 1), (3, false));
        assert_eq!(feed("h", 0), (4, false));
        assert_eq!(feed("", 2), (2, false));
        assert_eq!(feed("i", 3), (0, true));
        assert_eq!(seen, ["abc", "defg", "efgh", "efgh", "ghi"]);
    }
}
