//! Due queue: the pieces of the log that a member with a filter is due. The writer pushes
//! each frame that passes to the queues of those who follow it, so that the others are
//! neither woken nor hold anything for it; the reader takes the pieces out again.
//!
//! The queue is short. Beyond [`RANGES_MAX`] pieces it overflows: what follows is not
//! pushed any more, and the reader [scans](super::filtered) the log until it has caught up. A
//! session that resumes begins like that.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use super::segment::Segment;

/// How many pieces of the log can wait for a member before its reader scans.
pub(super) const RANGES_MAX: usize = 256;

/// From how many pieces on an empty queue gives its memory back.
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

/// A piece of the log: whole frames, one behind the other.
pub(super) struct DueRange {
    pub(super) segment: Arc<Segment>,
    pub(super) start: u32,
    pub(super) end: u32,
}

/// A frame that was appended.
pub struct Appended<'a> {
    pub(super) segment: &'a Arc<Segment>,
    pub(super) start: u32,
    pub(super) end: u32,
}

/// What is due to one member. Shared by those who append and the member's reader.
#[derive(Default)]
pub struct DueQueue {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    ranges: VecDeque<DueRange>,
    /// The first frame that was not pushed, once there were too many.
    overflow: Option<Place>,
    /// The position behind the last frame that is due, pushed or not.
    end: u64,
    /// How many chats were pushed.
    chats: u64,
    /// The number of the last one.
    newest_seq: u64,
}

/// What a reader does next.
pub(super) enum Take {
    Send(DueRange),
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

    /// The frame that was appended last is due. `seq`: its number, if it is a chat.
    pub fn push(&self, frame: &Appended<'_>, seq: Option<u64>) {
        let mut queue = self.lock();
        queue.end = frame.segment.base() + u64::from(frame.end);
        if queue.overflow.is_some() {
            return;
        }
        let is_full = queue.ranges.len() >= RANGES_MAX;
        match queue.ranges.back_mut() {
            Some(last) if last.end == frame.start && Arc::ptr_eq(&last.segment, frame.segment) => {
                last.end = frame.end;
            }
            Some(_) if is_full => {
                queue.overflow = Some(Place {
                    segment: Arc::clone(frame.segment),
                    offset: frame.start,
                });
                return;
            }
            _ => queue.ranges.push_back(DueRange {
                segment: Arc::clone(frame.segment),
                start: frame.start,
                end: frame.end,
            }),
        }
        if let Some(seq) = seq {
            queue.chats += 1;
            queue.newest_seq = seq;
        }
    }

    /// How many chats were pushed so far, and the number of the last one.
    pub(super) fn pushed(&self) -> (u64, u64) {
        let queue = self.lock();
        (queue.chats, queue.newest_seq)
    }

    /// The next piece that is committed, below the position `limit`.
    pub(super) fn take(&self, limit: u64) -> Take {
        let mut queue = self.lock();
        let Some(front) = queue.ranges.front_mut() else {
            if queue.ranges.capacity() > RANGES_KEPT_MAX {
                queue.ranges = VecDeque::new();
            }
            return queue.overflow.clone().map_or(Take::Nothing, Take::Scan);
        };
        let base = front.segment.base();
        let limit = u32::try_from(limit.saturating_sub(base)).unwrap_or(u32::MAX);
        // A commit may stand inside of frames that were pushed as one piece.
        let committed = u32::try_from(front.segment.committed().len()).unwrap_or(u32::MAX);
        let end = front.end.min(committed).min(limit);
        if end <= front.start {
            return Take::Nothing;
        }
        let range = DueRange {
            segment: Arc::clone(&front.segment),
            start: front.start,
            end,
        };
        front.start = end;
        if front.start == front.end {
            queue.ranges.pop_front();
        }
        Take::Send(range)
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
        let front = queue.ranges.front();
        let front = front.map(|range| range.segment.base() + u64::from(range.start));
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
