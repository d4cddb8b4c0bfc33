//! Reader: the position of one connection in the log, and the frames that it skips.
#![expect(
    clippy::indexing_slicing,
    clippy::unreachable,
    reason = "offsets are the log's own: no peer has a say in them"
)]

mod skips;

use std::{ops::Range, os::fd::BorrowedFd, sync::Arc};

use crate::{
    filter::Filter,
    frame::{self, Split},
    wire::{self, server_envelope::Message},
};

pub use skips::Mark;
use skips::Skips;
pub(super) use skips::Then;

use super::{
    due::DueQueue,
    filtered::{Filtered, NextRange},
    segment::{Segment, in_32_bits},
};

/// How many bytes are put together of short pieces: as many as make the cost of a write
/// small beside that of the bytes.
const GATHERED_BYTES_MAX: usize = 64 * 1024;

/// Follows a log for one connection.
///
/// [`Reader::unsent`] returns the bytes to send next, and [`Reader::advance`] tells the
/// reader how many of them were sent. Both cost the same for any number of frames.
///
/// Every member has one, so it is small: offsets in the segment take 32 bits, and what few
/// members have at a time is boxed.
pub struct Reader {
    /// `None` while its filter leaves nothing to send, so that it holds nothing of the log.
    segment: Option<Arc<Segment>>,
    offset: u32,
    /// The end of the bytes that [`Reader::unsent`] returned last.
    unsent_end: u32,
    /// The last offset at which a frame is known to begin, at most `offset`.
    frame_start: u32,
    wants_presence: bool,
    /// How many of the bytes that [`Reader::unsent`] returned last the client was told of,
    /// and not sent.
    announced: u16,
    /// The frames that it must not send, if there are any ahead, and its filter.
    skips: Option<Box<Skips>>,
}

/// The bytes that a reader sends next.
#[derive(Debug, Clone, Copy)]
pub struct Unsent<'a> {
    /// The bytes. They never change again.
    pub bytes: &'a [u8],
    /// The file that holds the same bytes, and their offset in it, if there is one.
    pub file: Option<(BorrowedFd<'a>, u32)>,
    /// There are no bytes yet, and more of the log to look through.
    pub has_more: bool,
}

impl Reader {
    /// The position of a reader whose filter leaves nothing to send.
    pub const NOTHING_DUE: u64 = u64::MAX - 1;

    pub(super) fn new(segment: Arc<Segment>, offset: usize, wants_presence: bool) -> Self {
        let offset = in_32_bits(offset);
        Self {
            segment: Some(segment),
            offset,
            unsent_end: offset,
            frame_start: offset,
            wants_presence,
            announced: 0,
            skips: None,
        }
    }

    /// A reader with a filter. `resumed_until`: the position up to which lies what a
    /// resumed session missed.
    pub(super) fn with_filter(
        filter: Arc<Filter>,
        queue: Arc<DueQueue>,
        resumed_until: u64,
        wants_presence: bool,
    ) -> Self {
        let skips = Skips {
            filtered: Some(Filtered::new(filter, queue, resumed_until)),
            ..Skips::default()
        };
        Self {
            segment: None,
            offset: 0,
            unsent_end: 0,
            frame_start: 0,
            wants_presence,
            announced: 0,
            skips: Some(Box::new(skips)),
        }
    }

    /// The position in the log that is sent next; [`Reader::NOTHING_DUE`] if a filter leaves
    /// nothing.
    pub fn position(&self) -> u64 {
        if let Some(skips) = &self.skips
            && let Some(filtered) = &skips.filtered
            && (self.segment.is_none() || self.offset >= skips.range_end)
        {
            return filtered.next_position().unwrap_or(Self::NOTHING_DUE);
        }
        let base = self.segment.as_ref().map_or(0, |segment| segment.base());
        base + u64::from(self.offset)
    }

    /// What a member with a filter is due, if this one has a filter.
    pub fn due(&self) -> Option<&Arc<DueQueue>> {
        Some(self.skips.as_ref()?.filtered.as_ref()?.queue())
    }

    /// Says something when everything before `mark` is sent that its member is due. Of two
    /// such places the later one counts if it changes the filter, otherwise the earlier one.
    pub fn set_mark(&mut self, mark: Mark) {
        let skips = self.skips.get_or_insert_default();
        if skips.mark.is_none() || matches!(mark.then, Then::Following { .. }) {
            skips.mark = Some(mark);
        }
    }

    /// Whether there is a mark ahead.
    pub fn has_mark(&self) -> bool {
        self.skips
            .as_ref()
            .is_some_and(|skips| skips.mark.is_some())
    }

    /// Whether there is a mark behind `position`.
    pub fn has_mark_behind(&self, position: u64) -> bool {
        let mark = self.skips.as_ref().and_then(|skips| skips.mark.as_ref());
        mark.is_some_and(|mark| mark.position > position)
    }

    /// So many more chats were sent to its session, in another way.
    pub fn note_sent(&mut self, chats: u64) {
        self.skips.get_or_insert_default().sent_before += chats;
    }

    /// What its mark says, if [`Reader::unsent`] has nothing more before it and the log is
    /// committed up to there.
    pub fn take_mark(&mut self, committed_end: u64) -> Option<Message> {
        let skips = self.skips.as_mut()?;
        let mark = skips.mark.take_if(|mark| mark.position <= committed_end)?;
        let scanned = skips.filtered.as_ref().map_or(0, Filtered::scanned);
        let sent = skips.sent_before + scanned + mark.sent;
        match mark.then {
            Then::Covered => Some(Message::Covered(wire::Covered {
                seq: mark.seq,
                sent,
            })),
            Then::Following { id, reader } => {
                let until = skips.until;
                *self = *reader;
                self.note_sent(sent);
                if until != u64::MAX {
                    self.stop_at(until);
                }
                Some(Message::Following(wire::Following { id, seq: mark.seq }))
            }
        }
    }

    /// Whether it sends presence.
    pub fn wants_presence(&self) -> bool {
        self.wants_presence
    }

    /// Skips `range`, which this connection published itself (CHAT-CHAT-2, CHAT-PRES-6).
    /// Ranges must come in rising order, before the reader has passed them.
    pub fn skip(&mut self, range: Range<u64>) {
        let skips = self.skips.get_or_insert_default();
        if skips.filtered.is_some() {
            return; // It is not pushed.
        }
        let own = &mut skips.own;
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
        let Some(skips) = &self.skips else {
            return false;
        };
        let end = match &skips.filtered {
            Some(filtered) => skips.until.min(filtered.queue().end()),
            None if skips.until == u64::MAX => 0,
            None => skips.until,
        };
        end > position
    }

    /// The bytes to send next: up to the next skipped frame, the end of the segment or
    /// the end of the log. Empty if there is nothing to send.
    pub fn unsent(&mut self) -> Unsent<'_> {
        self.unsent_before(u64::MAX)
    }

    /// As [`Reader::unsent`], and nothing behind `position`, which is the end of a frame.
    pub fn unsent_before(&mut self, position: u64) -> Unsent<'_> {
        let has_more = self.find_unsent(position);
        self.found(has_more)
    }

    /// Finds the bytes to send next. Returns whether there is more to look through.
    fn find_unsent(&mut self, position: u64) -> bool {
        let (end, has_more) = match self.is_filtered() {
            true => self.locate_due(position),
            false => (self.locate(position), false),
        };
        self.unsent_end = in_32_bits(end);
        has_more
    }

    fn is_filtered(&self) -> bool {
        self.skips.as_ref().is_some_and(|it| it.filtered.is_some())
    }

    fn found(&self, has_more: bool) -> Unsent<'_> {
        let unsent = self.offset as usize..self.unsent_end as usize;
        let Some(segment) = &self.segment else {
            return Unsent {
                bytes: &[],
                file: None,
                has_more,
            };
        };
        Unsent {
            // Empty also for a reader that begins behind the committed end.
            bytes: segment.committed().get(unsent).unwrap_or_default(),
            file: segment.file().map(|file| (file, self.offset)),
            has_more,
        }
    }

    /// As [`Reader::unsent_before`]. Where a filter leaves several short pieces, they are put
    /// together in `buffer`, since a write for each would cost more than to copy them.
    pub fn unsent_gathered<'a>(&'a mut self, position: u64, buffer: &'a mut Vec<u8>) -> Unsent<'a> {
        let has_more = self.find_unsent(position);
        match self.gather(buffer) {
            true => Unsent {
                bytes: buffer,
                file: None,
                has_more: false,
            },
            false => self.found(has_more),
        }
    }

    fn gather(&mut self, buffer: &mut Vec<u8>) -> bool {
        let (Some(skips), Some(segment)) = (&mut self.skips, &self.segment) else {
            return false;
        };
        let mut ahead = skips.filtered.iter().flat_map(Filtered::ahead).peekable();
        if ahead.peek().is_none() {
            return false;
        }
        buffer.clear();
        let committed = segment.committed();
        for (start, end) in [(self.offset, self.unsent_end)].into_iter().chain(ahead) {
            let piece = &committed[start as usize..end as usize];
            if !buffer.is_empty() && buffer.len() + piece.len() > GATHERED_BYTES_MAX {
                break;
            }
            // A long one alone need not be copied.
            if piece.len() > GATHERED_BYTES_MAX {
                return false;
            }
            buffer.extend_from_slice(piece);
        }
        skips.gathered_bytes = buffer.len();
        true
    }

    /// The first `bytes` of [`Reader::unsent`] were sent.
    pub fn advance(&mut self, bytes: usize) {
        let gathered_bytes = self.skips.as_mut().map_or(0, |skips| {
            std::mem::take(&mut skips.gathered_bytes) // Not for the next time.
        });
        let unsent_bytes = (self.unsent_end - self.offset) as usize;
        assert!(
            bytes <= unsent_bytes.max(gathered_bytes),
            "no more bytes are sent than were unsent"
        );
        let mut left = in_32_bits(bytes);
        while left > self.unsent_end - self.offset {
            left -= self.unsent_end - self.offset;
            let filtered = self.skips.as_mut().and_then(|it| it.filtered.as_mut());
            let Some((start, end)) = filtered.and_then(Filtered::next_ahead) else {
                unreachable!("the pieces that were gathered are ahead");
            };
            (self.offset, self.frame_start, self.unsent_end) = (start, start, end);
            if let Some(skips) = &mut self.skips {
                skips.range_end = end;
            }
        }
        self.offset += left;
        if self.offset == self.unsent_end {
            // The unsent bytes always end with a frame.
            self.frame_start = self.offset;
        }
    }

    /// The client was told that at least so many more bytes come, of those that
    /// [`Reader::unsent`] returned last.
    pub fn announce(&mut self, bytes: u16) {
        self.announced = bytes;
    }

    /// Whether a frame was sent or announced in part.
    pub fn is_inside_frame(&self) -> bool {
        !self.rest_of_frame().is_empty()
    }

    /// The rest of a frame that was sent in part, and what was announced up to the end of
    /// a frame; empty if nothing was.
    pub fn rest_of_frame(&self) -> &[u8] {
        let Some(segment) = &self.segment else {
            return &[];
        };
        let committed = segment.committed();
        let offset = self.offset as usize;
        let announced_end = offset + usize::from(self.announced);
        let mut start = self.frame_start as usize;
        if start >= announced_end {
            return &[];
        }
        while start < announced_end {
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
            let Some(segment) = &self.segment else {
                return 0;
            };
            let committed = segment.committed().len();
            let offset = self.offset as usize;
            if position >= before {
                return offset;
            }
            if offset >= committed {
                let Some(next) = segment.next() else {
                    return offset;
                };
                // The segment may have been committed a last time since `committed` was
                // loaded.
                if segment.committed().len() == committed {
                    self.segment = Some(Arc::clone(next));
                    self.offset = 0;
                    self.frame_start = 0;
                }
                continue;
            }
            let before = before.saturating_sub(segment.base());
            let mut end = committed.min(usize::try_from(before).unwrap_or(usize::MAX));
            if let Some(skips) = &mut self.skips {
                let base = segment.base();
                let in_segment = |position: u64| {
                    let offset = position.saturating_sub(base);
                    committed.min(usize::try_from(offset).unwrap_or(usize::MAX))
                };
                end = end.min(in_segment(skips.limit()));
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

    /// Takes the next piece that a filter leaves, if the last one is sent. Returns the
    /// offset in the segment up to which bytes can be sent, and whether there is more to
    /// look through.
    fn locate_due(&mut self, before: u64) -> (usize, bool) {
        let Some(skips) = &mut self.skips else {
            return (0, false);
        };
        if self.segment.is_some() && self.offset < skips.range_end {
            return (skips.range_end as usize, false);
        }
        let limit = skips.limit().min(before);
        let filtered = skips.filtered.as_mut();
        let next = filtered.map(|it| it.next(limit, self.wants_presence));
        let has_more = matches!(next, Some(NextRange::More));
        let (segment, start, end) = match next {
            Some(NextRange::Send(segment, (start, end))) => (Some(segment), start, end),
            _ => (None, 0, 0),
        };
        self.segment = segment;
        self.offset = start;
        self.frame_start = start;
        skips.range_end = end;
        (end as usize, has_more)
    }

    /// The next run of presence frames that the reader skips and has not passed.
    fn presence_ahead(&self) -> Option<(usize, usize)> {
        let segment = self.segment.as_ref()?;
        let until = match (self.wants_presence, &self.skips) {
            (false, _) => usize::MAX,
            (true, None) => return None,
            (true, Some(skips)) => {
                let until = skips.presence_until.saturating_sub(segment.base());
                usize::try_from(until).unwrap_or(usize::MAX)
            }
        };
        // A run may go on behind the position up to which presence is skipped.
        let mut runs = segment.presence_runs();
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
