//! Halves: the two directions of a stream, each for a thread of its own.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::ClientConnection;

/// How many bytes are read from the network at once.
const READ_BYTES: usize = 16 * 1024;

/// One direction of a stream.
pub enum Half {
    /// Plain TCP.
    Tcp(TcpStream),
    /// TLS over TCP. The lock is not held while the network is waited for.
    Tls(Arc<Mutex<ClientConnection>>, TcpStream),
}

fn locked(connection: &Mutex<ClientConnection>) -> MutexGuard<'_, ClientConnection> {
    connection.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Half {
    /// Ends this direction properly; it is the sending one.
    pub fn end(&mut self) {
        let socket = match self {
            Self::Tcp(socket) => socket,
            Self::Tls(connection, socket) => {
                let mut connection = locked(connection);
                connection.send_close_notify();
                while connection.wants_write() && connection.write_tls(socket).is_ok() {}
                socket
            }
        };
        let _ = socket.shutdown(Shutdown::Write);
    }
}

impl Read for Half {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (connection, socket) = match self {
            Self::Tcp(socket) => return socket.read(buffer),
            Self::Tls(connection, socket) => (connection, socket),
        };
        let mut chunk = [0; READ_BYTES];
        loop {
            match locked(connection).reader().read(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                read => return read,
            }
            let taken = socket.read(&mut chunk)?;
            let mut rest = &chunk[..taken];
            let mut connection = locked(connection);
            if taken == 0 {
                // The end, with or without close_notify: the reader says which.
                let _ = connection.read_tls(&mut rest)?;
            }
            while !rest.is_empty() {
                connection.read_tls(&mut rest)?;
                connection.process_new_packets().map_err(io::Error::other)?;
            }
        }
    }
}

impl Write for Half {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Tls(connection, socket) => {
                let mut connection = locked(connection);
                let taken = connection.writer().write(bytes)?;
                while connection.wants_write() {
                    connection.write_tls(socket)?;
                }
                Ok(taken)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
