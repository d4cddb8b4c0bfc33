//! File queue: what the hub gives the thread of the files to do (CHAT-FILE).

#![cfg_attr(
    not(feature = "store"),
    expect(dead_code, reason = "the thread that uses it comes with the feature")
)]

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use crate::session::FileTask;

/// The meeting place of a hub and the thread of the files.
#[derive(Debug, Default)]
pub(super) struct FileQueue {
    queued: Mutex<Queued>,
    /// Rung for the thread.
    changed: Condvar,
}

/// What the thread has not taken. A session has one piece to write and one to read in it
/// at a time.
#[derive(Debug, Default)]
struct Queued {
    tasks: VecDeque<FileTask>,
    is_closing: bool,
}

impl FileQueue {
    /// Gives the thread something to do.
    pub(super) fn push(&self, task: FileTask) {
        self.lock().tasks.push_back(task);
        self.changed.notify_one();
    }

    /// The thread ends when it has done what is due.
    pub(super) fn close(&self) {
        self.lock().is_closing = true;
        self.changed.notify_one();
    }

    pub(super) fn next(&self) -> Option<FileTask> {
        let is_idle = |it: &mut Queued| it.tasks.is_empty() && !it.is_closing;
        let queued = self.changed.wait_while(self.lock(), is_idle);
        let mut queued = queued.unwrap_or_else(PoisonError::into_inner);
        queued.tasks.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Queued> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
