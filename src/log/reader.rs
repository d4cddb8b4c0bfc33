//! A place in the log, and what lies ahead of it.

use std::{collections::VecDeque, ops::Range, sync::Arc};

use crate::frame::{self, Split};

use super::chunk::Chunk;

/// Follows a log on behalf of one connection.
///
/// [`Reader::ahead`] gives the bytes to send next; [`Reader::advance`] says how
/// many of them were sent. Both cost nothing but arithmetic, whatever the number
/// of frames.
pub struct Reader {
    chunk: Arc<Chunk>,
    offset: usize,
    /// Where what [`Reader::ahead`] gave last ends, as an offset in the chunk.
    ahead_end: usize,
    /// The last position at which a frame is known to begin, at most `position`
    /// and in the same chunk.
    frame_start: u64,
    follows_notices: bool,
    /// Where the frames stand that this connection published itself and that are
    /// still ahead, in rising order.
    own: VecDeque<Range<u64>>,
    /// Where to stop for good.
    until: u64,
}

impl Reader {
    pub(super) fn new(chunk: Arc<Chunk>, offset: usize, follows_notices: bool) -> Self {
        let frame_start = chunk.base() + offset as u64;
        Self {
            chunk,
            offset,
            ahead_end: offset,
            frame_start,
            follows_notices,
            own: VecDeque::new(),
            until: u64::MAX,
        }
    }

    /// The position in the log of what is sent next.
    pub fn position(&self) -> u64 {
        self.chunk.base() + self.offset as u64
    }

    /// Leaves out `range`, which this connection published itself (CHAT-CHAT-2,
    /// CHAT-PRES-6). Ranges come in rising order and none is passed yet.
    pub fn leave_out(&mut self, range: Range<u64>) {
        match self.own.back_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => self.own.push_back(range),
        }
    }

    /// How many separate ranges to leave out are still ahead.
    pub fn left_out_runs(&self) -> usize {
        self.own.len()
    }

    /// Goes no further than `position`, the end of a frame.
    pub fn stop_at(&mut self, position: u64) {
        self.until = self.until.min(position);
    }

    /// The bytes to send next: from here to the next thing to leave out, the end
    /// of a chunk or the end of the log. Empty when there is nothing.
    pub fn ahead(&mut self) -> &[u8] {
        self.ahead_end = self.locate();
        &self.chunk.filled()[self.offset..self.ahead_end]
    }

    /// The first `bytes` of what [`Reader::ahead`] gave were sent.
    pub fn advance(&mut self, bytes: usize) {
        self.offset += bytes;
        assert!(
            self.offset <= self.ahead_end,
            "no more is sent than was ahead"
        );
        if self.offset == self.ahead_end {
            // What is ahead always ends with a frame.
            self.frame_start = self.position();
        }
    }

    /// The rest of a frame that was sent in part, empty if none was.
    pub fn rest_of_frame(&self) -> &[u8] {
        let filled = self.chunk.filled();
        let mut start = (self.frame_start - self.chunk.base()) as usize;
        while start < self.offset {
            let Ok(Split::Frame { rest, .. }) = frame::split(&filled[start..], u32::MAX) else {
                unreachable!("the log holds whole frames");
            };
            start = filled.len() - rest.len();
        }
        &filled[self.offset..start]
    }

    /// The first `bytes` of [`Reader::rest_of_frame`] were sent.
    pub fn advance_in_frame(&mut self, bytes: usize) {
        let rest = self.rest_of_frame().len();
        assert!(bytes <= rest, "no more is sent than the rest of the frame");
        self.offset += bytes;
        if bytes == rest {
            self.frame_start = self.position();
        }
    }

    /// Moves over what is to be left out, and returns the offset in the chunk up
    /// to which bytes are to be sent.
    fn locate(&mut self) -> usize {
        // Ends: each turn moves to a later chunk or past something left out.
        loop {
            let filled = self.chunk.filled().len();
            if self.offset == filled {
                let Some(next) = self.chunk.next() else {
                    return filled;
                };
                // Filled a last time between the two looks?
                if self.chunk.filled().len() == filled {
                    self.chunk = Arc::clone(next);
                    self.offset = 0;
                    self.frame_start = self.position();
                }
                continue;
            }
            let in_chunk = |position: u64| {
                let offset = position.saturating_sub(self.chunk.base());
                filled.min(usize::try_from(offset).unwrap_or(usize::MAX))
            };
            let mut end = in_chunk(self.until);
            if end <= self.offset {
                return self.offset;
            }
            if let Some(own) = self.own.front() {
                let (own_start, own_end) = (in_chunk(own.start), in_chunk(own.end));
                if own_start <= self.offset {
                    let is_passed = own.end <= self.chunk.base() + own_end as u64;
                    self.skip_to(own_end);
                    if is_passed {
                        self.own.pop_front();
                    }
                    continue;
                }
                end = end.min(own_start);
            }
            if let Some((run_start, run_end)) = self.notices_ahead() {
                if run_start <= self.offset {
                    self.skip_to(run_end.min(end));
                    continue;
                }
                end = end.min(run_start);
            }
            return end;
        }
    }

    /// The next run of notices to leave out that ends beyond here.
    fn notices_ahead(&self) -> Option<(usize, usize)> {
        if self.follows_notices {
            return None;
        }
        let mut runs = self.chunk.notice_runs();
        runs.find(|&(_, end)| end > self.offset)
    }

    fn skip_to(&mut self, offset: usize) {
        if offset > self.offset {
            self.offset = offset;
            self.frame_start = self.position();
        }
    }
}
