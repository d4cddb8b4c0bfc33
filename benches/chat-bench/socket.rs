//! Sockets that begin to connect and do not wait for it.

use std::{io, net::SocketAddr};

use mio::{Interest, Poll, Token, net::TcpStream};
use nix::errno::Errno;
use socket2::{Domain, Socket, Type};

/// What those who do not read let the system take in, in bytes.
const UNREAD_BYTES: usize = 4 * 1024;

/// Begins to connect to `address`; `poll` gives notice of it as `token`. `reads`: it
/// is going to read what comes. The second result is of the connecting, as far as it
/// is known by now.
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
        // Before connecting: the window is agreed upon then.
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
