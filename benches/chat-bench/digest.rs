//! Digest of a sequence of messages: tells whether two sequences are equal without
//! keeping them.

use std::hash::{DefaultHasher, Hasher};

pub struct Digest {
    hasher: DefaultHasher,
    /// The length of the sequence, in bytes.
    pub bytes: u64,
}

impl Digest {
    pub fn new() -> Self {
        Self {
            hasher: DefaultHasher::new(),
            bytes: 0,
        }
    }

    /// Adds the next message.
    pub fn add(&mut self, message: &[u8]) {
        self.hasher.write(message);
        self.bytes += message.len() as u64;
    }

    /// Whether the same messages were added to both, in the same order.
    pub fn is_same(&self, other: &Self) -> bool {
        self.bytes == other.bytes && self.hasher.finish() == other.hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(messages: &[&[u8]]) -> Digest {
        let mut digest = Digest::new();
        for message in messages {
            digest.add(message);
        }
        digest
    }

    #[test]
    fn tells_runs_apart() {
        let run = digest(&[b"one", b"two"]);
        assert!(run.is_same(&digest(&[b"one", b"two"])));
        for other in [
            digest(&[b"two", b"one"]),
            digest(&[b"one", b"twO"]),
            digest(&[b"one"]),
            digest(&[b"one", b"two", b"two"]),
        ] {
            assert!(!run.is_same(&other));
        }
    }
}
