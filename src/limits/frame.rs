//! What fits into a frame beside the longest text.

use super::{FRAME_OVERHEAD_BYTES_MAX, Limits};

/// What a mention takes in a frame at most, in bytes, and a chat without its text and its
/// mentions.
const MENTION_BYTES: u32 = 34;
const CHAT_OVERHEAD_BYTES: u32 = 150;

impl Limits {
    /// The longest envelope of a member with files, either way, in bytes (CHAT-FRAME-6).
    pub fn file_frame_bytes_max(&self) -> u32 {
        let piece_bytes = self.file_chunk_bytes_max + FRAME_OVERHEAD_BYTES_MAX;
        piece_bytes.max(self.frame_bytes_max)
    }

    /// Whether a text fits into a frame with the mentions and the files that go with it
    /// (CHAT-LIM-7).
    pub fn fit_files(&self) -> bool {
        let files_bytes = FRAME_OVERHEAD_BYTES_MAX * self.files_per_chat_max;
        let bytes = u64::from(self.text_bytes_max)
            + u64::from(FRAME_OVERHEAD_BYTES_MAX)
            + u64::from(files_bytes)
            + u64::from(MENTION_BYTES * self.mentions());
        bytes <= self.frame_bytes_max.into()
    }

    /// How many mentions a message may have: no more than a frame has room for beside the
    /// longest text.
    pub fn mentions(&self) -> u32 {
        let spare_bytes = self.frame_bytes_max.saturating_sub(self.text_bytes_max);
        let room = spare_bytes.saturating_sub(CHAT_OVERHEAD_BYTES) / MENTION_BYTES;
        self.mentions_max.min(room)
    }
}
