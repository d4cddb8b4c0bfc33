//! Due queue: the pieces of the log that a member with a filter is due. The writer pushes
//! each frame that passes to the queues of those who follow it, so that the others are
//! neither woken nor hold anything for it; the reader takes the pieces out again. The
//! frames of a pass are pushed together ([`DueFrames`]), and what has gathered is taken
//! together, since a lock for each of them would cost more than all else.
//!
//! The queue is short. Beyond [`RANGES_MAX`] pieces it overflows: what follows is not
//! pushed any more, and the reader [scans](super::filtered) the log until it has caught up. A
//! session that resumes begins like that.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::segment::Segment;

/// How many pieces of the log can wait for a member before its reader scans: what one with
/// many topics is due of twice the sender window.
pub(super) const RANGES_MAX: usize = 1_024;

/// For how many pieces an empty queue keeps its memory.
const RANGES_KEPT_MAX: usize = 16;

/// A place in the log.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) segment: Arc<Segment>,
    pub(super) offset: u32,
}

impl Place {
    /// The same as a position.
    pub(super) fn position(&self) -> u64 {
        self.segment.base() + u64::from(self.offset)
    }
}

/// Pieces of one segment of the log, as offsets: whole frames, one behind the other, in
/// rising order.
pub(super) struct DuePieces {
    pub(super) segment: Arc<Segment>,
    pub(super) ranges: VecDeque<(u32, u32)>,
}

/// A frame that was appended.
pub struct Appended<'a> {
    pub(super) segment: &'a Arc<Segment>,
    pub(super) start: u32,
    pub(super) end: u32,
}

/// Frames that are due to one member, until they are pushed to its queue together.
#[derive(Default)]
pub struct DueFrames {
    segment: Option<Arc<Segment>>,
    ranges: VecDeque<(u32, u32)>,
    chats: u64,
    newest_seq: u64,
}

impl DueFrames {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.segment.is_none()
    }

    /// Adds the frame that was appended last, unless it lies in another segment than the
    /// others: these must be pushed first. `seq`: its number, if it is a chat.
    pub fn add(&mut self, frame: &Appended<'_>, seq: Option<u64>) -> bool {
        let segment = self
            .segment
            .get_or_insert_with(|| Arc::clone(frame.segment));
        if !Arc::ptr_eq(segment, frame.segment) {
            return false;
        }
        match self.ranges.back_mut() {
            Some((_, end)) if *end == frame.start => *end = frame.end,
            _ => self.ranges.push_back((frame.start, frame.end)),
        }
        if let Some(seq) = seq {
            self.chats += 1;
            self.newest_seq = seq;
        }
        true
    }
}

/// What is due to one member. Shared by those who append and the member's reader.
#[derive(Default)]
pub struct DueQueue {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    pieces: VecDeque<DuePieces>,
    /// How many ranges the reader has taken last.
    taken: usize,
    /// The first frame that was not pushed, once there were too many.
    overflow: Option<Place>,
    /// The position behind the last frame that is due, pushed or not.
    end: u64,
    /// How many chats were pushed.
    chats: u64,
    /// The number of the last one.
    newest_seq: u64,
}

impl Queue {
    /// How many ranges are in it.
    fn count(&self) -> usize {
        self.pieces.iter().map(|it| it.ranges.len()).sum()
    }
}

/// What a reader does next.
pub(super) enum Take {
    Send(DuePieces),
    Scan(Place),
    Nothing,
}

impl DueQueue {
    /// A queue whose reader scans the log from `place` to `end` first.
    pub(super) fn behind(place: Place, end: u64) -> Self {
        let queue = Queue {
            overflow: Some(place),
            end,
            ..Queue::default()
        };
        Self {
            queue: Mutex::new(queue),
        }
    }

    /// These frames are due, behind all others: all of them, or the reader scans.
    pub fn push(&self, frames: &mut DueFrames) {
        let Some(segment) = frames.segment.take() else {
            return;
        };
        let mut ranges = std::mem::take(&mut frames.ranges);
        let (chats, newest_seq) = (std::mem::take(&mut frames.chats), frames.newest_seq);
        let (Some(&(start, _)), Some(&(_, end))) = (ranges.front(), ranges.back()) else {
            return;
        };
        let mut queue = self.lock();
        queue.end = segment.base() + u64::from(end);
        if queue.overflow.is_some() {
            return;
        }
        if queue.count() + queue.taken + ranges.len() > RANGES_MAX {
            let offset = start;
            queue.overflow = Some(Place { segment, offset });
            return;
        }
        match queue.pieces.back_mut() {
            Some(last) if Arc::ptr_eq(&last.segment, &segment) => match last.ranges.back_mut() {
                Some((_, last_end)) if *last_end == start && ranges.len() == 1 => *last_end = end,
                _ => last.ranges.append(&mut ranges),
            },
            _ => queue.pieces.push_back(DuePieces { segment, ranges }),
        }
        if chats > 0 {
            queue.chats += chats;
            queue.newest_seq = newest_seq;
        }
    }

    /// How many chats were pushed so far, and the number of the last one.
    pub(super) fn pushed(&self) -> (u64, u64) {
        let queue = self.lock();
        (queue.chats, queue.newest_seq)
    }

    /// The next pieces that are committed, below the position `limit`, in one segment.
    pub(super) fn take(&self, limit: u64) -> Take {
        let mut queue = self.lock();
        queue.taken = 0;
        let Some(front) = queue.pieces.front_mut() else {
            if queue.pieces.capacity() > RANGES_KEPT_MAX {
                queue.pieces = VecDeque::new();
            }
            return queue.overflow.clone().map_or(Take::Nothing, Take::Scan);
        };
        let limit = limit.saturating_sub(front.segment.base());
        let committed = front.segment.committed().len() as u64;
        let Ok(limit) = u32::try_from(limit.min(committed)) else {
            return Take::Nothing; // A segment is smaller than 4 GiB.
        };
        let due = front.ranges.partition_point(|&(_, end)| end <= limit);
        let rest = front.ranges.split_off(due);
        let segment = Arc::clone(&front.segment);
        let mut ranges = std::mem::replace(&mut front.ranges, rest);
        // A commit may stand inside of frames that were pushed as one piece.
        match front.ranges.front_mut() {
            Some((start, _)) if *start < limit => {
                ranges.push_back((*start, limit));
                *start = limit;
            }
            Some(_) => {}
            None => _ = queue.pieces.pop_front(),
        }
        if ranges.is_empty() {
            return Take::Nothing;
        }
        queue.taken = ranges.len();
        Take::Send(DuePieces { segment, ranges })
    }

    /// A scan has reached `position`. Returns whether that was all, so that frames are
    /// pushed again.
    pub(super) fn end_overflow(&self, position: u64) -> bool {
        let mut queue = self.lock();
        let is_over = queue.overflow.is_some() && position >= queue.end;
        if is_over {
            queue.overflow = None;
        }
        is_over
    }

    /// The position of the next piece, if there is one.
    pub(super) fn next_position(&self) -> Option<u64> {
        let queue = self.lock();
        let front = queue.pieces.front().and_then(|pieces| {
            let &(start, _) = pieces.ranges.front()?;
            Some(pieces.segment.base() + u64::from(start))
        });
        front.or_else(|| queue.overflow.as_ref().map(Place::position))
    }

    /// The position behind everything that is due.
    pub(super) fn end(&self) -> u64 {
        self.lock().end
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
