//! The end of a connection: what is still due is sent, then the peer closes too.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::ReadBuf;

use super::{Connection, Deadline, Phase, READ_BUFFER, Transport, writing::Flush};

/// How long a closed connection may still send, in milliseconds.
const LINGER_MS: u64 = 1_000;

/// How much a closed connection may still send, in bytes.
const LINGER_BYTES_MAX: u32 = 4 << 20;

impl<T: Transport> Connection<T> {
    /// Sends what is still due, then closes the sending side.
    pub(super) fn poll_draining(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flush = self.flush(cx)?;
        match flush {
            // Not told so any more: it has left already.
            _ if self.is_out_of_reach() || self.take_eviction() => {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            Flush::Yield => return Poll::Ready(Ok(())),
            Flush::AwaitingCommit => {
                ready!(self.poll_commit_deadline(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            Flush::Done if self.outbound.is_catching_up => {
                self.continue_catch_up();
                return match self.take_delivery() {
                    true => Poll::Ready(Ok(())),
                    false => Poll::Pending,
                };
            }
            Flush::Done if self.outbound.owes_farewell => {
                if let Some(mut guard) = self.enter() {
                    guard.farewell();
                }
                return Poll::Ready(Ok(()));
            }
            Flush::Blocked => {
                ready!(self.poll_write_deadline(cx, &flush));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            Flush::Done => ready!(Pin::new(&mut self.transport).poll_shutdown(cx))?,
        }
        // Nothing of the log is needed any more, however long this takes.
        self.outbound.reader = None;
        if let Some(handle) = self.handle() {
            handle.unsubscribe();
        }
        self.deadline = None;
        self.phase = Phase::Lingering { dropped_bytes: 0 };
        Poll::Ready(Ok(()))
    }

    /// Reads and drops until the peer has closed too.
    pub(super) fn poll_lingering(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let deadline = self
            .deadline
            .get_or_insert_with(|| Deadline::after(Duration::from_millis(LINGER_MS), None));
        if self.budget.is_at_end || deadline.poll_passed(cx).is_ready() {
            return Poll::Ready(Ok(()));
        }
        let Phase::Lingering { dropped_bytes } = &mut self.phase else {
            return Poll::Ready(Ok(()));
        };
        let transport = &mut self.transport;
        READ_BUFFER.with_borrow_mut(|buffer| {
            while *dropped_bytes < LINGER_BYTES_MAX {
                let mut read = ReadBuf::new(buffer);
                ready!(Pin::new(&mut *transport).poll_read(cx, &mut read))?;
                if read.filled().is_empty() {
                    break;
                }
                // A read is at most READ_BYTES.
                *dropped_bytes += read.filled().len() as u32;
            }
            Poll::Ready(Ok(()))
        })
    }
}
