//! The recent past: the last segments of the log, which are kept though every reader has
//! passed them, and where each chat begins in them. A resumed session is a reader that
//! begins there (CHAT-RES-9).

use std::{collections::VecDeque, sync::Arc};

use super::segment::{SEGMENT_BYTES, Segment};

/// The kept segments, in order. The last one is the one that is being filled.
pub(super) struct Past {
    kept: VecDeque<Kept>,
    /// How many segments are kept beside the one that is being filled.
    full_segments_max: usize,
}

/// Where a chat is.
pub(super) struct Place<'a> {
    /// The index of its segment among those that are kept.
    pub(super) index: usize,
    pub(super) segment: &'a Arc<Segment>,
    /// Where it begins in the segment.
    pub(super) offset: usize,
}

/// One segment and its chats.
struct Kept {
    segment: Arc<Segment>,
    /// The number of its first chat, which its later ones follow without a gap.
    first_seq: u64,
    /// Where each of its chats begins, as offsets: 4 bytes a chat.
    offsets: Vec<u32>,
}

impl Kept {
    fn of(segment: &Arc<Segment>, first_seq: u64) -> Self {
        Self {
            segment: Arc::clone(segment),
            first_seq,
            offsets: Vec::new(),
        }
    }
}

impl Past {
    /// Keeps `bytes_max` of full segments behind `tail`, whose first chat will be
    /// `first_seq`.
    pub(super) fn new(bytes_max: u64, tail: &Arc<Segment>, first_seq: u64) -> Self {
        let full_segments_max = bytes_max / SEGMENT_BYTES as u64;
        Self {
            kept: VecDeque::from([Kept::of(tail, first_seq)]),
            full_segments_max: usize::try_from(full_segments_max).unwrap_or(usize::MAX),
        }
    }

    /// A chat was appended at `offset` of the segment that is being filled.
    pub(super) fn note_chat(&mut self, offset: usize) {
        if let (Some(tail), Ok(offset)) = (self.kept.back_mut(), u32::try_from(offset)) {
            tail.offsets.push(offset);
        }
    }

    /// `tail` is the segment that is being filled from now on.
    pub(super) fn begin(&mut self, tail: &Arc<Segment>) {
        self.kept.push_back(Kept::of(tail, self.next_seq()));
        while self.kept.len() > self.full_segments_max.saturating_add(1) {
            self.kept.pop_front();
        }
    }

    /// The number of the oldest chat that is kept; that of the next one if none is.
    pub(super) fn oldest_seq(&self) -> u64 {
        self.kept.front().map_or(1, |oldest| oldest.first_seq)
    }

    /// Where the chat `seq` begins: its segment and the offset in it. `None` if it is not
    /// kept, or not there yet.
    pub(super) fn find(&self, seq: u64) -> Option<(&Arc<Segment>, usize)> {
        let behind = self.kept.partition_point(|kept| kept.first_seq <= seq);
        // Segments without a chat have the first number of the next one.
        let kept = self.kept.get(behind.checked_sub(1)?)?;
        let index = usize::try_from(seq - kept.first_seq).ok()?;
        Some((&kept.segment, *kept.offsets.get(index)? as usize))
    }

    /// Where a chat is, among the kept segments. `None` as for [`Past::find`].
    pub(super) fn place(&self, seq: u64) -> Option<Place<'_>> {
        let behind = self.kept.partition_point(|kept| kept.first_seq <= seq);
        let index = behind.checked_sub(1)?;
        let (segment, offset) = self.find(seq)?;
        Some(Place {
            index,
            segment,
            offset,
        })
    }

    /// The kept segments, in order.
    pub(super) fn segments(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.kept.iter().map(|kept| &kept.segment)
    }

    /// Puts other segments in the place of the first ones.
    pub(super) fn put<'a>(&mut self, segments: impl Iterator<Item = &'a Arc<Segment>>) {
        for (kept, segment) in self.kept.iter_mut().zip(segments) {
            kept.segment = Arc::clone(segment);
        }
    }

    /// The frame at `offset` of a segment has become shorter: what is behind it begins
    /// earlier.
    pub(super) fn shift(&mut self, index: usize, offset: usize, saved_bytes: usize) {
        if let Some(kept) = self.kept.get_mut(index) {
            for later in &mut kept.offsets {
                if *later as usize > offset {
                    // Both are offsets in one segment.
                    *later -= saved_bytes as u32;
                }
            }
        }
    }

    fn next_seq(&self) -> u64 {
        let tail = self.kept.back();
        tail.map_or(1, |tail| tail.first_seq + tail.offsets.len() as u64)
    }
}
