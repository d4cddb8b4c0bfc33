//! Deadline: a timer of one connection, and whether its client has taken anything since
//! it was set (CHAT-LIM-5).

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

use super::transport::{Delivery, Transport};

/// A timer that few connections have at a time, so it is kept apart.
pub(super) struct Deadline {
    sleep: Pin<Box<Sleep>>,
    /// How much the client had acknowledged when it was set.
    acked_bytes: u64,
}

impl Deadline {
    /// A deadline that passes after `duration`.
    pub(super) fn after(duration: Duration, delivery: Option<Delivery>) -> Box<Self> {
        Box::new(Self {
            sleep: Box::pin(sleep(duration)),
            acked_bytes: delivery.map_or(0, |delivery| delivery.progress.acked_bytes),
        })
    }

    /// `Ready` once it has passed.
    pub(super) fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.sleep.as_mut().poll(cx)
    }

    /// Whether the client has taken nothing since the deadline was set. `has_moved`:
    /// whether the transport has. A client that acknowledges takes something, and while
    /// the network does not deliver, the transport's own timeout counts.
    pub(super) fn is_stalled(&self, has_moved: bool, transport: &impl Transport) -> bool {
        let is_delivered = transport.delivery().is_some_and(|delivery| {
            delivery.is_retransmitting || delivery.progress.acked_bytes > self.acked_bytes
        });
        !(has_moved || is_delivered || transport.is_writable_now())
    }
}

#[cfg(test)]
mod tests {
    use std::{io, task::ready};

    use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

    use super::*;
    use crate::session::Progress;

    /// A transport that only tells what became of its bytes.
    #[derive(Clone, Copy)]
    struct Told {
        acked_bytes: u64,
        is_retransmitting: bool,
        is_writable: bool,
    }

    impl Transport for Told {
        fn delivery(&self) -> Option<Delivery> {
            Some(Delivery {
                progress: Progress {
                    written_bytes: 1_000,
                    acked_bytes: self.acked_bytes,
                },
                is_retransmitting: self.is_retransmitting,
            })
        }

        fn is_writable_now(&self) -> bool {
            self.is_writable
        }
    }

    impl AsyncRead for Told {
        fn poll_read(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for Told {
        fn poll_write(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            ready!(self.poll_flush(cx))?;
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test]
    async fn only_a_client_that_takes_nothing_is_stalled() {
        let stuck = Told {
            acked_bytes: 500,
            is_retransmitting: false,
            is_writable: false,
        };
        let deadline = Deadline::after(Duration::from_secs(1), stuck.delivery());
        assert!(deadline.is_stalled(false, &stuck));
        assert!(!deadline.is_stalled(true, &stuck));
        let acknowledges = Told {
            acked_bytes: 501,
            ..stuck
        };
        let is_cut_off = Told {
            is_retransmitting: true,
            ..stuck
        };
        let has_room = Told {
            is_writable: true,
            ..stuck
        };
        for transport in [acknowledges, is_cut_off, has_room] {
            assert!(!deadline.is_stalled(false, &transport));
        }
    }
}
