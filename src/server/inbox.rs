//! What came on one connection and has not been used yet.

/// Bytes that wait for the rest of their frame, or for their turn. Takes no
/// memory while empty, and otherwise in proportion to what came.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    held: Vec<u8>,
}

impl Inbox {
    /// Hands what is held, followed by `read`, to `consume`, which returns how
    /// many bytes of it it has used; holds the others.
    pub(super) fn feed(&mut self, read: &[u8], consume: impl FnOnce(&[u8]) -> usize) {
        if self.held.is_empty() {
            let used = consume(read);
            self.held = read[used..].to_vec();
        } else {
            self.held.extend_from_slice(read);
            let used = consume(&self.held);
            // Bytes that trickle in are appended in place; once a frame is
            // complete, what is left is small and moves to memory of its size.
            if used > 0 {
                self.held = self.held[used..].to_vec();
            }
        }
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
        let mut inbox = Inbox::default();
        let mut seen = Vec::new();
        let mut feed = |inbox: &mut Inbox, read: &str, used: usize| {
            inbox.feed(read.as_bytes(), |bytes| {
                seen.push(String::from_utf8_lossy(bytes).into_owned());
                used
            });
            inbox.held.len()
        };
        assert_eq!(feed(&mut inbox, "abc", 3), 0);
        assert_eq!(feed(&mut inbox, "defg", 1), 3);
        assert_eq!(feed(&mut inbox, "h", 0), 4);
        assert_eq!(feed(&mut inbox, "", 2), 2);
        assert_eq!(feed(&mut inbox, "i", 3), 0);
        assert_eq!(seen, ["abc", "defg", "efgh", "efgh", "ghi"]);
        assert_eq!(inbox.held.capacity(), 0);
    }
}
