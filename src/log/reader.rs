//! Reader: the position of one connection in the log, and the frames that it skips.
#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::unreachable,
    reason = "offsets are the log's own: no peer has a say in them"
)]

use std::{collections::VecDeque, ops::Range, os::fd::BorrowedFd, sync::Arc};

use crate::frame::{self, Split};

use super::segment::Segment;

/// Follows a log for one connection.
///
/// [`Reader::unsent`] returns the bytes to send next, and [`Reader::advance`] tells the
/// reader how many of them were sent. Both cost the same for any number of frames.
///
/// Every member has one, so it is small: offsets in the segment take 32 bits, and the
/// skips, which few members have at a time, are boxed.
pub struct Reader {
    segment: Arc<Segment>,
    offset: u32,
    /// The end of the bytes that [`Reader::unsent`] returned last.
    unsent_end: u32,
    /// The last offset at which a frame is known to begin, at most `offset`.
    frame_start: u32,
    wants_presence: bool,
    /// The frames that it must not send, if there are any ahead.
    skips: Option<Box<Skips>>,
}

/// The bytes that a reader sends next.
#[derive(Debug, Clone, Copy)]
pub struct Unsent<'a> {
    /// The bytes. They never change again.
    pub bytes: &'a [u8],
    /// The file that holds the same bytes, and their offset in it, if there is one.
    pub file: Option<(BorrowedFd<'a>, u32)>,
}

/// The frames ahead of a reader that it must not send.
struct Skips {
    /// The frames that this connection published itself, in rising order.
    own: VecDeque<Range<u64>>,
    /// The position at which it stops for good.
    until: u64,
    /// The position up to which it skips presence, whatever its member wants.
    presence_until: u64,
}

impl Default for Skips {
    fn default() -> Self {
        Self {
            own: VecDeque::new(),
            until: u64::MAX,
            presence_until: 0,
        }
    }
}

impl Skips {
    /// Whether a reader at `position` has passed all of them.
    fn are_passed(&self, position: u64) -> bool {
        self.own.is_empty() && self.until == u64::MAX && self.presence_until <= position
    }
}

impl Reader {
    pub(super) fn new(segment: Arc<Segment>, offset: usize, wants_presence: bool) -> Self {
        let offset = in_32_bits(offset);
        Self {
            segment,
            offset,
            unsent_end: offset,
            frame_start: offset,
            wants_presence,
            skips: None,
        }
    }

    /// The position in the log that is sent next.
    pub fn position(&self) -> u64 {
        self.segment.base() + u64::from(self.offset)
    }

    /// Whether it sends presence.
    pub fn wants_presence(&self) -> bool {
        self.wants_presence
    }

    /// Skips `range`, which this connection published itself (CHAT-CHAT-2, CHAT-PRES-6).
    /// Ranges must come in rising order, before the reader has passed them.
    pub fn skip(&mut self, range: Range<u64>) {
        let own = &mut self.skips.get_or_insert_default().own;
        match own.back_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => own.push_back(range),
        }
    }

    /// Skips presence up to `position`: it tells what the member knows from Members.
    pub(super) fn skip_presence_until(&mut self, position: u64) {
        self.skips.get_or_insert_default().presence_until = position;
    }

    /// How many separate ranges ahead are skipped.
    pub fn skip_count(&self) -> usize {
        self.skips.as_ref().map_or(0, |skips| skips.own.len())
    }

    /// Stops at `position`, which is the end of a frame.
    pub fn stop_at(&mut self, position: u64) {
        let skips = self.skips.get_or_insert_default();
        skips.until = skips.until.min(position);
    }

    /// Whether it stops behind `position`, so that there is more to come for it.
    pub fn stops_behind(&self, position: u64) -> bool {
        let until = self.skips.as_ref().map_or(u64::MAX, |skips| skips.until);
        until != u64::MAX && until > position
    }

    /// The bytes to send next: up to the next skipped frame, the end of the segment or
    /// the end of the log. Empty if there is nothing to send.
    pub fn unsent(&mut self) -> Unsent<'_> {
        self.unsent_before(u64::MAX)
    }

    /// As [`Reader::unsent`], and nothing behind `position`, which is the end of a frame.
    pub fn unsent_before(&mut self, position: u64) -> Unsent<'_> {
        self.unsent_end = in_32_bits(self.locate(position));
        let unsent = self.offset as usize..self.unsent_end as usize;
        Unsent {
            // Empty also for a reader that begins behind the committed end.
            bytes: self.segment.committed().get(unsent).unwrap_or_default(),
            file: self.segment.file().map(|file| (file, self.offset)),
        }
    }

    /// The first `bytes` of [`Reader::unsent`] were sent.
    pub fn advance(&mut self, bytes: usize) {
        assert!(
            bytes <= (self.unsent_end - self.offset) as usize,
            "no more bytes are sent than were unsent"
        );
        self.offset += in_32_bits(bytes);
        if self.offset == self.unsent_end {
            // The unsent bytes always end with a frame.
            self.frame_start = self.offset;
        }
    }

    /// Whether a frame was sent in part.
    pub fn is_inside_frame(&self) -> bool {
        !self.rest_of_frame().is_empty()
    }

    /// The rest of a frame that was sent in part; empty if none was.
    pub fn rest_of_frame(&self) -> &[u8] {
        let committed = self.segment.committed();
        let offset = self.offset as usize;
        let mut start = self.frame_start as usize;
        if start >= offset {
            return &[];
        }
        while start < offset {
            let Ok(Split::Frame { rest, .. }) = frame::split(&committed[start..], u32::MAX) else {
                unreachable!("the log holds whole frames");
            };
            start = committed.len() - rest.len();
        }
        &committed[offset..start]
    }

    /// The first `bytes` of [`Reader::rest_of_frame`] were sent.
    pub fn advance_in_frame(&mut self, bytes: usize) {
        let rest = self.rest_of_frame().len();
        assert!(
            bytes <= rest,
            "no more bytes are sent than the frame has left"
        );
        self.offset += in_32_bits(bytes);
        if bytes == rest {
            self.frame_start = self.offset;
        }
    }

    /// Moves past skipped frames, and returns the offset in the segment up to which bytes
    /// can be sent.
    fn locate(&mut self, before: u64) -> usize {
        // The loop ends: each turn moves to a later segment or past a skipped frame.
        loop {
            let position = self.position();
            if let Some(skips) = &self.skips
                && skips.are_passed(position)
            {
                self.skips = None;
            }
            let committed = self.segment.committed().len();
            let offset = self.offset as usize;
            if position >= before {
                return offset;
            }
            if offset >= committed {
                let Some(next) = self.segment.next() else {
                    return offset;
                };
                // The segment may have been committed a last time since `committed` was
                // loaded.
                if self.segment.committed().len() == committed {
                    self.segment = Arc::clone(next);
                    self.offset = 0;
                    self.frame_start = 0;
                }
                continue;
            }
            let before = before.saturating_sub(self.segment.base());
            let mut end = committed.min(usize::try_from(before).unwrap_or(usize::MAX));
            if let Some(skips) = &mut self.skips {
                let base = self.segment.base();
                let in_segment = |position: u64| {
                    let offset = position.saturating_sub(base);
                    committed.min(usize::try_from(offset).unwrap_or(usize::MAX))
                };
                end = end.min(in_segment(skips.until));
                if end <= offset {
                    return offset;
                }
                if let Some(own) = skips.own.front() {
                    let (own_start, own_end) = (in_segment(own.start), in_segment(own.end));
                    if own_start <= offset {
                        if own.end <= base + own_end as u64 {
                            skips.own.pop_front();
                        }
                        self.skip_to(own_end);
                        continue;
                    }
                    end = end.min(own_start);
                }
            }
            if let Some((run_start, run_end)) = self.presence_ahead() {
                if run_start <= offset {
                    self.skip_to(run_end.min(end));
                    continue;
                }
                end = end.min(run_start);
            }
            return end;
        }
    }

    /// The next run of presence frames that the reader skips and has not passed.
    fn presence_ahead(&self) -> Option<(usize, usize)> {
        let until = match (self.wants_presence, &self.skips) {
            (false, _) => usize::MAX,
            (true, None) => return None,
            (true, Some(skips)) => {
                let until = skips.presence_until.saturating_sub(self.segment.base());
                usize::try_from(until).unwrap_or(usize::MAX)
            }
        };
        // A run may go on behind the position up to which presence is skipped.
        let mut runs = self.segment.presence_runs();
        let (start, end) = runs.find(|&(_, end)| end > self.offset as usize)?;
        (start < until && until > self.offset as usize).then_some((start, end.min(until)))
    }

    fn skip_to(&mut self, offset: usize) {
        let offset = in_32_bits(offset);
        if offset > self.offset {
            self.offset = offset;
            self.frame_start = offset;
        }
    }
}

/// An offset in a segment, or a length of a part of it.
fn in_32_bits(offset: usize) -> u32 {
    u32::try_from(offset).expect("a segment is smaller than 4 GiB")
}
