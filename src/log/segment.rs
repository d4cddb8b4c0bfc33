//! Segment: a contiguous piece of the log. One writer fills it once, from the front,
//! while any number of readers read the committed part. This is the only module with
//! unsafe code, for the one thing that safe Rust cannot express: the committed part of a
//! buffer never changes while the rest of it still does.
#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "offsets are the log's own: no peer has a say in them"
)]
#![allow(unsafe_code)]

use std::{
    os::fd::BorrowedFd,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use super::memory::Memory;

/// The size of a segment, in bytes. Large enough that a frame always fits and that
/// readers seldom change segments, which cuts a write short. Small enough that retained
/// bytes can be counted in segments. Pages that are not filled are not resident.
pub(super) const SEGMENT_BYTES: usize = 512 * 1024;

/// How many separate runs of presence frames a segment can hold. Presence frames that
/// follow one another are one run. A segment with that many runs is closed early, which
/// bounds the runs that a reader without presence searches.
pub(super) const PRESENCE_RUNS_MAX: usize = 128;

// The longest frame with its length fits into an empty segment, and an offset fits into
// half of a packed run.
const _: () = assert!(SEGMENT_BYTES >= 2 * crate::limits::FRAME_BYTES_CEILING as usize);
const _: () = assert!(SEGMENT_BYTES <= u32::MAX as usize);

/// The readers' side of a segment.
pub(super) struct Segment {
    /// The position in the log of the first byte.
    base: u64,
    memory: Memory,
    /// How many bytes are committed. They never change again.
    committed: AtomicUsize,
    /// The runs of presence frames: `start << 32 | end`, in rising order.
    presence_runs: [AtomicU64; PRESENCE_RUNS_MAX],
    presence_runs_used: AtomicUsize,
    /// Set once, when this segment is full and committed.
    next: OnceLock<Arc<Segment>>,
    /// How many segments of the log are alive, this one included.
    live: Arc<AtomicUsize>,
}

// SAFETY: all fields but `memory` are Sync. It is written only through
// `SegmentWriter`, of which there is one a segment and whose `fill` takes `&mut self`,
// at offsets at or above `committed`; it is read only in `Segment::committed`, below
// `committed`. The writer's Release store of `committed` comes after its writes, and a
// reader's Acquire load before its reads, so no byte is read while it is written.
unsafe impl Sync for Segment {}
// SAFETY: a segment owns its bytes and has no ties to a thread.
unsafe impl Send for Segment {}

/// The one writer of a segment.
pub(super) struct SegmentWriter {
    segment: Arc<Segment>,
    /// How many bytes are filled, those that are not committed yet included.
    filled: usize,
}

impl Segment {
    /// The position in the log of the first byte.
    pub(super) fn base(&self) -> u64 {
        self.base
    }

    /// The committed bytes.
    pub(super) fn committed(&self) -> &[u8] {
        let committed = self.committed.load(Ordering::Acquire);
        // SAFETY: `committed` is at most the length of the memory, which lives as long
        // as `self`; the bytes below it were written before it was stored and are
        // never written again (see `Sync`).
        unsafe { std::slice::from_raw_parts(self.memory.as_mut_ptr(), committed) }
    }

    /// The file that holds the same bytes, if there is one.
    pub(super) fn file(&self) -> Option<BorrowedFd<'_>> {
        self.memory.file()
    }

    /// The next segment, once this one is full and committed.
    pub(super) fn next(&self) -> Option<&Arc<Segment>> {
        self.next.get()
    }

    /// The runs of presence frames, as offsets, in rising order: at least all those below
    /// a length that [`Segment::committed`] loaded before this call.
    pub(super) fn presence_runs(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        let used = self.presence_runs_used.load(Ordering::Acquire);
        self.presence_runs.iter().take(used).map(|run| {
            let run = run.load(Ordering::Relaxed);
            ((run >> 32) as usize, run as u32 as usize)
        })
    }
}

impl SegmentWriter {
    /// An empty segment whose first byte will be at `base` in the log.
    pub(super) fn new(base: u64, live: &Arc<AtomicUsize>) -> Self {
        live.fetch_add(1, Ordering::Relaxed);
        let segment = Segment {
            base,
            memory: Memory::new(SEGMENT_BYTES),
            committed: AtomicUsize::new(0),
            presence_runs: [const { AtomicU64::new(0) }; PRESENCE_RUNS_MAX],
            presence_runs_used: AtomicUsize::new(0),
            next: OnceLock::new(),
            live: Arc::clone(live),
        };
        Self {
            segment: Arc::new(segment),
            filled: 0,
        }
    }

    /// The readers' side.
    pub(super) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    /// How many bytes are filled, those that are not committed yet included.
    pub(super) fn filled_bytes(&self) -> usize {
        self.filled
    }

    /// Whether a frame of `length_bytes` fits, and its run if it is a presence frame.
    pub(super) fn has_room(&self, length_bytes: usize, is_presence: bool) -> bool {
        length_bytes <= SEGMENT_BYTES - self.filled
            && (!is_presence
                || self.last_run_ends_at(self.filled)
                || self.segment.presence_runs_used.load(Ordering::Relaxed) < PRESENCE_RUNS_MAX)
    }

    /// Lets `fill` write the next `length_bytes` bytes, which are zero. Readers see them
    /// once they are committed.
    ///
    /// # Panics
    ///
    /// If they do not fit ([`SegmentWriter::has_room`]).
    pub(super) fn fill(
        &mut self,
        length_bytes: usize,
        is_presence: bool,
        fill: impl FnOnce(&mut [u8]),
    ) {
        assert!(
            self.has_room(length_bytes, is_presence),
            "a frame is appended only where it fits"
        );
        let start = self.filled;
        let end = start + length_bytes;
        assert!(
            end <= self.segment.memory.len(),
            "a segment has SEGMENT_BYTES bytes"
        );
        // SAFETY: these bytes are within the memory, and at or above `committed`, so no
        // reader looks at them; `&mut self` makes this the only writer (see `Sync`).
        let bytes = unsafe {
            std::slice::from_raw_parts_mut(
                self.segment.memory.as_mut_ptr().add(start),
                length_bytes,
            )
        };
        fill(bytes);
        if is_presence {
            self.note_run(start, end);
        }
        self.filled = end;
    }

    /// The position in the log behind what is filled.
    pub(super) fn end(&self) -> u64 {
        self.segment.base + self.filled as u64
    }

    /// Commits what is filled below `position`, the end of a frame: readers see it from
    /// now on. Commits nothing if the segment begins there or later.
    pub(super) fn commit_up_to(&self, position: u64) {
        let offset = position.min(self.end()).saturating_sub(self.segment.base);
        self.segment
            .committed
            .store(offset as usize, Ordering::Release);
    }

    /// Closes this segment: its readers continue in `next`.
    pub(super) fn link(&self, next: &SegmentWriter) {
        self.link_to(&next.segment);
    }

    /// As [`SegmentWriter::link`], to a segment that others fill or have filled.
    pub(super) fn link_to(&self, next: &Arc<Segment>) {
        let linked = self.segment.next.set(Arc::clone(next));
        assert!(linked.is_ok(), "a segment is closed once");
    }

    fn note_run(&mut self, start: usize, end: usize) {
        let used = self.segment.presence_runs_used.load(Ordering::Relaxed);
        let pack = |start: usize, end: usize| (start as u64) << 32 | end as u64;
        if self.last_run_ends_at(start) {
            // A reader may see the run grow beyond the bytes that it knows, which changes
            // nothing about the bytes that it knows.
            let last = &self.segment.presence_runs[used - 1];
            let run_start = (last.load(Ordering::Relaxed) >> 32) as usize;
            last.store(pack(run_start, end), Ordering::Relaxed);
        } else {
            self.segment.presence_runs[used].store(pack(start, end), Ordering::Relaxed);
            self.segment
                .presence_runs_used
                .store(used + 1, Ordering::Release);
        }
    }

    fn last_run_ends_at(&self, offset: usize) -> bool {
        let used = self.segment.presence_runs_used.load(Ordering::Relaxed);
        let last = used
            .checked_sub(1)
            .map(|last| &self.segment.presence_runs[last]);
        last.is_some_and(|run| run.load(Ordering::Relaxed) as u32 as usize == offset)
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        self.live.fetch_sub(1, Ordering::Relaxed);
        // A reader far behind may hold a long chain alone. A loop drops it segment by
        // segment, since a recursive drop would use stack for each of them.
        let mut next = self.next.take();
        while let Some(mut segment) = next.and_then(Arc::into_inner) {
            next = segment.next.take();
        }
    }
}

/// An offset in a segment, or a length of a part of it.
pub(super) fn in_32_bits(offset: usize) -> u32 {
    u32::try_from(offset).expect("a segment is smaller than 4 GiB")
}
