//! What came on one connection and has not been used yet.

/// Bytes that wait for the rest of their frame, or for their turn. Takes no
/// memory while empty, and otherwise as much as what came: there is one for each
/// connection, and few hold anything for long.
#[derive(Debug, Default)]
pub(super) struct ReadBuffer {
    held: Box<[u8]>,
}

impl ReadBuffer {
    /// Hands what is held, followed by `read`, to `consume`, which returns how
    /// many bytes of it it has used; holds the others.
    pub(super) fn feed(&mut self, read: &[u8], consume: impl FnOnce(&[u8]) -> usize) {
        if self.held.is_empty() {
            let used = consume(read);
            self.held = read.get(used..).unwrap_or_default().into();
        } else {
            let mut bytes = std::mem::take(&mut self.held).into_vec();
            bytes.extend_from_slice(read);
            let used = consume(&bytes);
            bytes.drain(..used);
            self.held = bytes.into_boxed_slice();
        }
    }

    /// How much memory it takes, in bytes.
    pub(super) fn buffered_bytes(&self) -> usize {
        self.held.len()
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_what_is_not_used() {
        let mut read_buffer = ReadBuffer::default();
        let mut seen = Vec::new();
        let mut feed = |read_buffer: &mut ReadBuffer, read: &str, used: usize| {
            read_buffer.feed(read.as_bytes(), |bytes| {
                seen.push(String::from_utf8_lossy(bytes).into_owned());
                used
            });
            read_buffer.held.len()
        };
        assert_eq!(feed(&mut read_buffer, "abc", 3), 0);
        assert_eq!(feed(&mut read_buffer, "defg", 1), 3);
        assert_eq!(feed(&mut read_buffer, "h", 0), 4);
        assert_eq!(feed(&mut read_buffer, "", 2), 2);
        assert_eq!(feed(&mut read_buffer, "i", 3), 0);
        assert_eq!(seen, ["abc", "defg", "efgh", "efgh", "ghi"]);
        assert_eq!(read_buffer.held.len(), 0);
    }
}
