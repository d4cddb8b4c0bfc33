//! A place in the log, and what lies ahead of it.
#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::unreachable,
    reason = "offsets are the log's own: no peer has a say in them"
)]

use std::{collections::VecDeque, ops::Range, os::fd::BorrowedFd, sync::Arc};

use crate::frame::{self, Split};

use super::segment::Segment;

/// Follows a log on behalf of one connection.
///
/// [`Reader::unsent`] gives the bytes to send next; [`Reader::advance`] says how
/// many of them were sent. Both cost nothing but arithmetic, whatever the number
/// of frames.
///
/// Small, since there is one for each member: offsets in the segment take 32 bits, and
/// what few have at a time is kept apart.
pub struct Reader {
    segment: Arc<Segment>,
    offset: u32,
    /// Where what [`Reader::unsent`] gave last ends.
    unsent_end: u32,
    /// The last place at which a frame is known to begin, at most `offset`.
    frame_start: u32,
    wants_presence: bool,
    /// What it must not send, where there is anything.
    skips: Option<Box<Skips>>,
}

/// What a reader has to send next.
#[derive(Debug, Clone, Copy)]
pub struct Unsent<'a> {
    /// The bytes. They do not change any more.
    pub bytes: &'a [u8],
    /// The file in which they stand too, and where in it, where there is one.
    pub file: Option<(BorrowedFd<'a>, u32)>,
}

/// What lies ahead of a reader that it must not send.
struct Skips {
    /// Where the frames stand that this connection published itself and that are
    /// still ahead, in rising order.
    own: VecDeque<Range<u64>>,
    /// Where to stop for good.
    until: u64,
}

impl Default for Skips {
    fn default() -> Self {
        Self {
            own: VecDeque::new(),
            until: u64::MAX,
        }
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

    /// The position in the log of what is sent next.
    pub fn position(&self) -> u64 {
        self.segment.base() + u64::from(self.offset)
    }

    /// Whether it is given presence.
    pub fn wants_presence(&self) -> bool {
        self.wants_presence
    }

    /// Leaves out `range`, which this connection published itself (CHAT-CHAT-2,
    /// CHAT-PRES-6). Ranges come in rising order and none is passed yet.
    pub fn skip(&mut self, range: Range<u64>) {
        let own = &mut self.skips.get_or_insert_default().own;
        match own.back_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => own.push_back(range),
        }
    }

    /// How many separate ranges to leave out are still ahead.
    pub fn skip_count(&self) -> usize {
        self.skips.as_ref().map_or(0, |skips| skips.own.len())
    }

    /// Goes no further than `position`, the end of a frame.
    pub fn stop_at(&mut self, position: u64) {
        let skips = self.skips.get_or_insert_default();
        skips.until = skips.until.min(position);
    }

    /// The bytes to send next: from here to the next thing to leave out, the end
    /// of a segment or the end of the log. Empty when there is nothing.
    pub fn unsent(&mut self) -> Unsent<'_> {
        self.unsent_end = in_32_bits(self.locate());
        let unsent = self.offset as usize..self.unsent_end as usize;
        Unsent {
            // A reader that begins behind the committed end has nothing to send yet.
            bytes: self.segment.committed().get(unsent).unwrap_or_default(),
            file: self.segment.file().map(|file| (file, self.offset)),
        }
    }

    /// The first `bytes` of what [`Reader::unsent`] gave were sent.
    pub fn advance(&mut self, bytes: usize) {
        assert!(
            bytes <= (self.unsent_end - self.offset) as usize,
            "no more is sent than was ahead"
        );
        self.offset += in_32_bits(bytes);
        if self.offset == self.unsent_end {
            // What is ahead always ends with a frame.
            self.frame_start = self.offset;
        }
    }

    /// Whether a frame was sent in part.
    pub fn is_inside_frame(&self) -> bool {
        !self.rest_of_frame().is_empty()
    }

    /// The rest of a frame that was sent in part, empty if none was.
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
        assert!(bytes <= rest, "no more is sent than the rest of the frame");
        self.offset += in_32_bits(bytes);
        if bytes == rest {
            self.frame_start = self.offset;
        }
    }

    /// Moves over what is to be left out, and returns the offset in the segment up
    /// to which bytes are to be sent.
    fn locate(&mut self) -> usize {
        // Ends: each turn moves to a later segment or past something left out.
        loop {
            let committed = self.segment.committed().len();
            let offset = self.offset as usize;
            if offset >= committed {
                let Some(next) = self.segment.next() else {
                    return offset;
                };
                // Committed a last time between the two looks?
                if self.segment.committed().len() == committed {
                    self.segment = Arc::clone(next);
                    self.offset = 0;
                    self.frame_start = 0;
                }
                continue;
            }
            let mut end = committed;
            if let Some(skips) = &mut self.skips {
                let base = self.segment.base();
                let in_segment = |position: u64| {
                    let offset = position.saturating_sub(base);
                    committed.min(usize::try_from(offset).unwrap_or(usize::MAX))
                };
                end = in_segment(skips.until);
                if end <= offset {
                    return offset;
                }
                if let Some(own) = skips.own.front() {
                    let (own_start, own_end) = (in_segment(own.start), in_segment(own.end));
                    if own_start <= offset {
                        if own.end <= base + own_end as u64 {
                            skips.own.pop_front();
                        }
                        if skips.own.is_empty() && skips.until == u64::MAX {
                            self.skips = None;
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

    /// The next run of presence to leave out that ends beyond here.
    fn presence_ahead(&self) -> Option<(usize, usize)> {
        if self.wants_presence {
            return None;
        }
        let mut runs = self.segment.presence_runs();
        runs.find(|&(_, end)| end > self.offset as usize)
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
