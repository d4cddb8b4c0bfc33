//! What a connection needs of its stream: to move much at once.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    pin::Pin,
    task::{Context, Poll, ready},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A stream. What it can do in one step is its own matter.
pub(super) trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// Reads what has come, as far as `buffer` takes it; 0 bytes are the end.
    fn poll_read_available(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(Pin::new(self).poll_read(cx, &mut buffer))?;
        Poll::Ready(Ok(buffer.filled().len()))
    }

    /// Sends some of `bytes`, which also stand in `file` from `offset` on and do
    /// not change any more.
    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        file: BorrowedFd<'_>,
        offset: u32,
    ) -> Poll<io::Result<usize>> {
        let _ = (file, offset);
        Pin::new(self).poll_write(cx, bytes)
    }

    /// Whether something has come of which the runtime has not heard yet. After this
    /// machine has slept its timers come first.
    fn is_readable_now(&self) -> bool {
        false
    }

    /// Whether it takes more, of which the runtime has not heard yet.
    fn is_writable_now(&self) -> bool {
        false
    }
}

impl Transport for TcpStream {
    fn is_readable_now(&self) -> bool {
        is_ready(self, PollFlags::POLLIN)
    }

    fn is_writable_now(&self) -> bool {
        is_ready(self, PollFlags::POLLOUT)
    }

    /// Until nothing is left: a first read acknowledges, whereupon the peer's
    /// system sends what it had held back. Who takes that in too has larger batches
    /// to deliver.
    #[cfg(target_os = "linux")]
    fn poll_read_available(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        use std::io::Read;

        loop {
            ready!(self.poll_read_ready(cx))?;
            let mut filled = 0;
            let read = self.try_io(tokio::io::Interest::READABLE, || {
                while let Some(rest) = buffer.get_mut(filled..) {
                    // That nothing is left is for the runtime to know, too.
                    match (&*socket2::SockRef::from(&*self)).read(rest)? {
                        // The end, or the buffer is full.
                        0 => break,
                        bytes => filled += bytes,
                    }
                }
                Ok(())
            });
            match read {
                Err(_) if filled > 0 => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                result => result?,
            }
            return Poll::Ready(Ok(filled));
        }
    }

    /// From the file, which copies nothing.
    #[cfg(target_os = "linux")]
    fn poll_send_file(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        file: BorrowedFd<'_>,
        offset: u32,
    ) -> Poll<io::Result<usize>> {
        use nix::sys::sendfile::sendfile64;

        loop {
            ready!(self.poll_write_ready(cx))?;
            let mut offset = i64::from(offset);
            let sent = self.try_io(tokio::io::Interest::WRITABLE, || {
                Ok(sendfile64(&*self, file, Some(&mut offset), bytes.len())?)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => return Poll::Ready(sent),
            }
        }
    }
}

/// What the system says at this moment.
fn is_ready(stream: &TcpStream, flags: PollFlags) -> bool {
    let mut polled = [PollFd::new(stream.as_fd(), flags)];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
impl Transport for tokio::io::DuplexStream {}
