//! Filtered reading: what a reader needs whose member has a filter. It sends the pieces of
//! its [`DueQueue`], and passes over the rest of the log without a look at it. Where the
//! queue has overflowed, it scans: it judges frame by frame, a bounded number at a time.
use std::{collections::VecDeque, sync::Arc};

use prost::Message as _;

use crate::{
    filter::Filter,
    frame::{self, Split},
    wire::{ServerEnvelope, server_envelope::Message},
};

use super::{
    due::{DuePieces, DueQueue, Place, Take},
    segment::{Segment, in_32_bits},
};

/// How many frames are judged before others get their turn.
const SCANNED_FRAMES_MAX: usize = 256;

/// The filtered part of a reader.
pub(super) struct Filtered {
    filter: Arc<Filter>,
    queue: Arc<DueQueue>,
    /// The pieces that come next.
    ahead: Option<DuePieces>,
    /// Where it scans, while it does.
    scan: Option<Place>,
    /// How many chats a scan has found.
    scanned: u64,
    /// Below this position lies what a resumed session missed: the member's own chats are
    /// due to it, and presence is not.
    resumed_until: u64,
}

/// What comes next for a filtered reader.
pub(super) enum NextRange {
    Send(Arc<Segment>, (u32, u32)),
    /// A scan has found nothing yet, and goes on.
    More,
    Nothing,
}

impl Filtered {
    pub(super) fn new(filter: Arc<Filter>, queue: Arc<DueQueue>, resumed_until: u64) -> Self {
        Self {
            filter,
            queue,
            ahead: None,
            scan: None,
            scanned: 0,
            resumed_until,
        }
    }

    pub(super) fn queue(&self) -> &Arc<DueQueue> {
        &self.queue
    }

    /// How many chats its scans have found.
    pub(super) fn scanned(&self) -> u64 {
        self.scanned
    }

    /// The position of what is due next, if something may be.
    pub(super) fn next_position(&self) -> Option<u64> {
        if let Some(pieces) = &self.ahead
            && let Some(&(start, _)) = pieces.ranges.front()
        {
            return Some(pieces.segment.base() + u64::from(start));
        }
        match &self.scan {
            Some(place) => Some(place.position()),
            None => self.queue.next_position(),
        }
    }

    /// The pieces behind the one that comes next, in the same segment.
    pub(super) fn ahead(&self) -> impl Iterator<Item = (u32, u32)> {
        let pieces = self.ahead.iter();
        pieces.flat_map(|pieces| pieces.ranges.iter().copied())
    }

    /// The next of them.
    pub(super) fn next_ahead(&mut self) -> Option<(u32, u32)> {
        self.ahead.as_mut()?.ranges.pop_front()
    }

    /// What to send next, below the position `limit`.
    pub(super) fn next(&mut self, limit: u64, wants_presence: bool) -> NextRange {
        // The loop ends: a scan that is over leaves an empty queue, or one with pieces.
        loop {
            if let Some(pieces) = &mut self.ahead
                && let Some(range) = pieces.ranges.pop_front()
            {
                return NextRange::Send(Arc::clone(&pieces.segment), range);
            }
            self.ahead = None;
            if let Some(place) = self.scan.take() {
                match self.scan_from(place, limit, wants_presence) {
                    Some(next) if self.ahead.is_none() => return next,
                    _ => continue,
                }
            }
            match self.queue.take(limit) {
                Take::Send(pieces) => self.ahead = Some(pieces),
                Take::Scan(place) => self.scan = Some(place),
                Take::Nothing => return NextRange::Nothing,
            }
        }
    }

    /// Judges frames from `place` on. What it finds in a segment comes next. `None` if the
    /// scan is over.
    fn scan_from(
        &mut self,
        mut place: Place,
        limit: u64,
        wants_presence: bool,
    ) -> Option<NextRange> {
        let mut found = VecDeque::<(u32, u32)>::new();
        let mut left = SCANNED_FRAMES_MAX;
        let next = loop {
            // Not after something was found, which is sent first.
            if found.is_empty() && self.queue.end_overflow(place.position()) {
                return None;
            }
            let committed = place.segment.committed();
            let unread = committed.get(place.offset as usize..).unwrap_or_default();
            if unread.is_empty() {
                let Some(next) = place.segment.next().filter(|_| found.is_empty()) else {
                    break NextRange::Nothing;
                };
                // It may have been committed a last time since.
                if place.segment.committed().len() == committed.len() {
                    let segment = Arc::clone(next);
                    place = Place { segment, offset: 0 };
                }
                continue;
            }
            if place.position() >= limit {
                break NextRange::Nothing;
            }
            if left == 0 {
                break NextRange::More;
            }
            left -= 1;
            let Ok(Split::Frame { body, rest }) = frame::split(unread, u32::MAX) else {
                break NextRange::Nothing; // The log holds whole frames.
            };
            let start = place.offset;
            let end = in_32_bits(committed.len() - rest.len());
            let is_due = self.is_due(body, place.position(), wants_presence);
            place.offset = end;
            match found.back_mut() {
                _ if !is_due => {}
                Some((_, last)) if *last == start => *last = end,
                _ => found.push_back((start, end)),
            }
        };
        if !found.is_empty() {
            let segment = Arc::clone(&place.segment);
            let ranges = found;
            self.ahead = Some(DuePieces { segment, ranges });
        }
        self.scan = Some(place);
        Some(next)
    }

    /// Whether a frame at `position` is due, which a scan has come to.
    fn is_due(&mut self, body: &[u8], position: u64, wants_presence: bool) -> bool {
        let Ok(envelope) = ServerEnvelope::decode(body) else {
            return false;
        };
        let is_resumed = position < self.resumed_until;
        match envelope.message {
            Some(Message::Chat(chat)) => {
                let is_own = self.filter.is_member(&chat.sender);
                // CHAT-CHAT-2, CHAT-RES-9
                let is_due = (is_resumed || !is_own) && self.filter.passes(&chat);
                self.scanned += u64::from(is_due);
                is_due
            }
            Some(Message::Joined(_) | Message::Left(_)) => wants_presence && !is_resumed,
            _ => true,
        }
    }
}
