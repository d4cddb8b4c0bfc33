//! What a connection needs of its stream: to move much at once.

use std::{
    io,
    os::fd::BorrowedFd,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// A stream. What it can do in one step is its own matter.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin {
    /// Reads what has come, as far as `buffer` takes it; 0 bytes are the end.
    fn poll_read_all(
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
    fn poll_write_shared(
        &mut self,
        cx: &mut Context<'_>,
        bytes: &[u8],
        file: BorrowedFd<'_>,
        offset: u32,
    ) -> Poll<io::Result<usize>> {
        let _ = (file, offset);
        Pin::new(self).poll_write(cx, bytes)
    }
}

#[cfg(not(target_os = "linux"))]
impl Socket for TcpStream {}

#[cfg(target_os = "linux")]
impl Socket for TcpStream {
    /// Until nothing is left: a first read acknowledges, whereupon the peer's
    /// system sends what it had held back. Who takes that in too has larger batches
    /// to deliver.
    fn poll_read_all(
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
    fn poll_write_shared(
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

#[cfg(test)]
impl Socket for tokio::io::DuplexStream {}
