//! Ahead: the rest of each block that was fetched, for the pieces that come next.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::{server::hub::Wanted, session::Hash};

/// How long a block waits for the next piece to be asked for, in milliseconds: a member
/// that does not read takes no memory for longer.
const WAIT_MS: u64 = 5_000;

/// What was fetched ahead, by connection.
#[derive(Default)]
pub(super) struct Ahead {
    blocks: BTreeMap<usize, Block>,
    bytes: usize,
}

struct Block {
    serial: u64,
    hash: Hash,
    offset: u64,
    data: Vec<u8>,
    fetched: Instant,
}

impl Ahead {
    /// How many bytes there are.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The rest of a block, behind the piece that it was fetched for.
    pub(super) fn put(&mut self, wanted: &Wanted, rest: Vec<u8>) {
        let now = Instant::now();
        let wait = Duration::from_millis(WAIT_MS);
        self.blocks.retain(|_, block| now - block.fetched < wait);
        if !rest.is_empty() {
            let block = Block {
                serial: wanted.serial,
                hash: wanted.hash,
                offset: wanted.offset + wanted.bytes as u64,
                data: rest,
                fetched: now,
            };
            self.blocks.insert(wanted.index, block);
        }
        self.bytes = self.blocks.values().map(|block| block.data.len()).sum();
    }

    /// A piece, if it follows those that its connection had.
    pub(super) fn take(&mut self, wanted: &Wanted) -> Option<Vec<u8>> {
        let mut block = self.blocks.remove(&wanted.index)?;
        self.bytes -= block.data.len();
        let follows = block.serial == wanted.serial
            && block.hash == wanted.hash
            && block.offset == wanted.offset
            && block.data.len() >= wanted.bytes;
        if !follows {
            return None;
        }
        let rest = block.data.split_off(wanted.bytes);
        let piece = std::mem::replace(&mut block.data, rest);
        if !block.data.is_empty() {
            block.offset += wanted.bytes as u64;
            self.bytes += block.data.len();
            self.blocks.insert(wanted.index, block);
        }
        Some(piece)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(index: usize, offset: u64, bytes: usize) -> Wanted {
        Wanted {
            index,
            serial: 1,
            hash: [7; 32],
            offset,
            bytes,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_block_gives_the_pieces_behind_the_first_in_their_order_alone() {
        let mut ahead = Ahead::default();
        ahead.put(&wanted(3, 0, 2), b"cdefg".to_vec());
        assert_eq!(ahead.bytes(), 5);
        assert_eq!(ahead.take(&wanted(4, 2, 2)), None, "another connection");
        assert_eq!(ahead.take(&wanted(3, 2, 2)), Some(b"cd".to_vec()));
        assert_eq!(ahead.take(&wanted(3, 4, 3)), Some(b"efg".to_vec()));
        assert_eq!((ahead.bytes(), ahead.blocks.len()), (0, 0));
        let others = [
            wanted(3, 3, 2),
            wanted(3, 2, 6),
            Wanted {
                serial: 2,
                ..wanted(3, 2, 2)
            },
            Wanted {
                hash: [8; 32],
                ..wanted(3, 2, 2)
            },
        ];
        for other in others {
            ahead.put(&wanted(3, 0, 2), b"cdefg".to_vec());
            assert_eq!(ahead.take(&other), None);
            assert_eq!(ahead.bytes(), 0, "it asks for something else now");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_asks_for_goes() {
        let mut ahead = Ahead::default();
        ahead.put(&wanted(1, 0, 2), b"cd".to_vec());
        tokio::time::advance(Duration::from_millis(WAIT_MS)).await;
        ahead.put(&wanted(2, 0, 2), b"cdef".to_vec());
        assert_eq!(ahead.bytes(), 4);
        assert_eq!(ahead.take(&wanted(1, 2, 2)), None);
        assert_eq!(ahead.take(&wanted(2, 2, 4)), Some(b"cdef".to_vec()));
    }
}
