//! Writes replies, then log, and knows for how long the client has taken nothing of it.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use super::{Connection, ConnectionHandle, Deadline, Hub, Next, Source, Transport};

/// How many writes of log a connection makes before it reads: enough to send
/// what gathers during a burst, few enough to stay fair.
const WRITES_PER_PASS_MAX: usize = 4;

/// From how many bytes of log on it pays to have the system send them without
/// copying them, which costs something for each page instead. Few in tests, which send
/// little.
const SEND_FILE_BYTES_MIN: usize = if cfg!(test) { 64 } else { 16 * 1024 };

thread_local! {
    /// Short pieces of the log are put together here.
    static GATHERED: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// How a flush ended.
#[derive(PartialEq)]
pub(super) enum Flush {
    /// All that is due is sent.
    Done,
    /// All is sent but replies that wait for a commit.
    AwaitingCommit,
    /// The transport takes no more for now.
    Blocked,
    /// There is more, but the others get their turn first.
    Yield,
}

impl<T: Transport> Connection<T> {
    /// Writes replies, then log, until nothing is due or the transport takes no more.
    pub(super) fn flush(&mut self, cx: &mut Context<'_>) -> io::Result<Flush> {
        let committed_end = self.hub.channel.committed_end();
        // What was committed before was noted for this connection before that.
        if self.handle().is_some_and(ConnectionHandle::has_mail) {
            drop(self.enter());
        }
        let visible_end = self.hub.visible_end(committed_end);
        GATHERED.with_borrow_mut(|gathered| {
            self.flush_up_to(cx, (committed_end, visible_end), gathered)
        })
    }

    /// As [`Connection::flush`], of a log that is committed and visible so far.
    fn flush_up_to(
        &mut self,
        cx: &mut Context<'_>,
        (committed_end, visible_end): (u64, u64),
        gathered: &mut Vec<u8>,
    ) -> io::Result<Flush> {
        for _ in 0..WRITES_PER_PASS_MAX {
            let next = self.outbound.next(committed_end, visible_end, gathered);
            let (written, source) = match next {
                Next::Bytes {
                    bytes,
                    file,
                    source,
                } => {
                    let written = match file {
                        Some((file, offset)) if bytes.len() >= SEND_FILE_BYTES_MIN => {
                            self.transport.poll_send_file(cx, bytes, file, offset)
                        }
                        _ => Pin::new(&mut self.transport).poll_write(cx, bytes),
                    };
                    (written, source)
                }
                Next::Nothing => {
                    self.note_position();
                    return self.flush_transport(cx, Flush::Done);
                }
                Next::More => {
                    self.note_position();
                    return Ok(Flush::Yield);
                }
                Next::AwaitingCommit => return self.flush_transport(cx, Flush::AwaitingCommit),
            };
            let sent = match written {
                Poll::Pending => {
                    self.outbound.announce(self.transport.announced_bytes());
                    self.note_position();
                    return Ok(Flush::Blocked);
                }
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Poll::Ready(Ok(sent)) => sent,
            };
            self.hub.metrics.sent(sent);
            self.outbound.advance(source, sent);
            self.outbound.announce(self.transport.announced_bytes());
            if let (Some((from, to)), Source::Log) = (self.note_position(), source) {
                self.hub.metrics.deliveries.passed(from, to);
            }
        }
        Ok(Flush::Yield)
    }

    /// Goes on with what the transport has buffered, such as ciphertext; `written` is how
    /// the flush ends if nothing is left of it.
    fn flush_transport(&mut self, cx: &mut Context<'_>, written: Flush) -> io::Result<Flush> {
        match Pin::new(&mut self.transport).poll_flush(cx) {
            Poll::Pending => Ok(Flush::Blocked),
            Poll::Ready(flushed) => flushed.map(|()| written),
        }
    }

    /// Tells the channel how far the reader is. Returns where it was and is.
    fn note_position(&self) -> Option<(u64, u64)> {
        let (handle, position) = (self.handle()?, self.outbound.position()?);
        let Hub {
            channel, registry, ..
        } = &*self.hub;
        let from = channel.reader_moved(registry, handle, position);
        Some((from, position))
    }

    /// `Ready` when something has been due for the write deadline and the client has
    /// taken nothing of it (CHAT-LIM-5).
    pub(super) fn poll_write_deadline(&mut self, cx: &mut Context<'_>, flush: &Flush) -> Poll<()> {
        let is_blocked = *flush == Flush::Blocked;
        if is_blocked && self.deadline.is_none() {
            self.set_write_deadline();
        }
        // A deadline that is no longer needed is left to pass: in a stream that stops
        // and goes, setting it each time would cost more than it is worth.
        while let Some(deadline) = &mut self.deadline {
            ready!(deadline.poll_passed(cx));
            // Asks the system only where it matters.
            let is_stalled =
                is_blocked && deadline.is_stalled(self.outbound.has_moved, &self.transport);
            self.deadline = None;
            if is_stalled {
                return Poll::Ready(());
            }
            if is_blocked {
                self.set_write_deadline();
            }
        }
        Poll::Pending
    }

    /// `Ready` when a client that leaves has waited for a commit as long as for a write:
    /// a full disk may stay full.
    pub(super) fn poll_commit_deadline(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.deadline.is_none() {
                self.set_write_deadline();
            }
            if let Some(deadline) = &mut self.deadline {
                ready!(deadline.poll_passed(cx));
            }
            self.deadline = None;
            // The deadline may have been set for a write that was made since.
            if !self.outbound.has_moved {
                return Poll::Ready(());
            }
        }
    }

    fn set_write_deadline(&mut self) {
        let duration = Duration::from_millis(self.hub.limits().write_deadline_ms.into());
        self.outbound.has_moved = false;
        self.deadline = Some(Deadline::after(duration, self.transport.delivery()));
    }
}
