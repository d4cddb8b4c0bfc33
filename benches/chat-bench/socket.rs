//! Non-blocking connects.

use std::{io, net::SocketAddr};

use mio::{Interest, Poll, Token, net::TcpStream};
use nix::errno::Errno;
use socket2::{Domain, Socket, Type};

/// The receive buffer of clients that do not read, in bytes.
const UNREAD_BYTES: usize = 4 * 1024;

/// Starts to connect to `address` and registers the socket with `poll` as `token`.
/// `reads`: whether the client is going to read. The second result is that of the
/// connect, as far as it is known yet.
pub fn connect(
    address: SocketAddr,
    reads: bool,
    poll: &Poll,
    token: Token,
) -> io::Result<(TcpStream, io::Result<()>)> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if !reads {
        // Before connecting, when the window is negotiated.
        socket.set_recv_buffer_size(UNREAD_BYTES)?;
    }
    let connected = match socket.connect(&address.into()) {
        Err(error) if is_under_way(&error) => Ok(()),
        result => result,
    };
    let mut stream = TcpStream::from_std(socket.into());
    let interest = Interest::READABLE | Interest::WRITABLE;
    poll.registry().register(&mut stream, token, interest)?;
    Ok((stream, connected))
}

fn is_under_way(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock
        || error.raw_os_error() == Some(Errno::EINPROGRESS as i32)
}
