//! File queue: what the hub gives the thread of the files to do (CHAT-FILE).

#![cfg_attr(
    not(feature = "store"),
    expect(dead_code, reason = "the thread that uses it comes with the feature")
)]

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::session::FileTask;

/// How many tasks the thread takes at once, and answers under one lock.
const TASKS_AT_ONCE_MAX: usize = 16;

/// The meeting place of a hub and the thread of the files.
#[derive(Debug, Default)]
pub(super) struct FileQueue {
    queued: Mutex<Queued>,
    /// Rung for the thread.
    changed: Condvar,
}

/// What the thread has not taken. A session has a few pieces to write and one to read in it
/// at a time.
#[derive(Debug, Default)]
struct Queued {
    tasks: VecDeque<FileTask>,
    /// The connections that are gone, by index: each once, however long the disk takes.
    forgotten: BTreeSet<usize>,
    is_closing: bool,
}

impl FileQueue {
    /// Gives the thread something to do.
    pub(super) fn push(&self, task: FileTask) {
        let mut queued = self.lock();
        match task {
            FileTask::Forget { index } => _ = queued.forgotten.insert(index),
            task => queued.tasks.push_back(task),
        }
        drop(queued);
        self.changed.notify_one();
    }

    /// The thread ends when it has done what is due.
    pub(super) fn close(&self) {
        self.lock().is_closing = true;
        self.changed.notify_one();
    }

    /// What is to be done next, at most [`TASKS_AT_ONCE_MAX`] and all connections that are
    /// gone; nothing once it is closed.
    pub(super) fn next(&self) -> Vec<FileTask> {
        let is_idle =
            |it: &mut Queued| it.tasks.is_empty() && it.forgotten.is_empty() && !it.is_closing;
        let queued = self.changed.wait_while(self.lock(), is_idle);
        let mut queued = queued.unwrap_or_else(PoisonError::into_inner);
        let count = queued.tasks.len().min(TASKS_AT_ONCE_MAX);
        let mut tasks: Vec<_> = queued.tasks.drain(..count).collect();
        // Behind their last pieces, mostly.
        let forgotten = std::mem::take(&mut queued.forgotten);
        tasks.extend(
            forgotten
                .into_iter()
                .map(|index| FileTask::Forget { index }),
        );
        tasks
    }

    /// What is to be done next, if there is something.
    #[cfg(test)]
    pub(super) fn take(&self) -> Option<FileTask> {
        self.lock().tasks.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
