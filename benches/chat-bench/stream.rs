//! Stream: the bytes of a connection of the pool, over TCP alone or in TLS, in a
//! WebSocket, or in both. Non-blocking, on readiness events that come once.

use std::{
    cell::RefCell,
    io::{self, ErrorKind, Read, Write},
    net::Shutdown,
    sync::Arc,
};

use mio::net::TcpStream;
use rustls::ClientConnection;

use crate::{link::Link, websocket::WebSocket};

/// How much ciphertext one read takes, in bytes.
const CIPHER_BYTES: usize = 64 * 1024;

thread_local! {
    /// One buffer for all connections: most of them have nothing to read.
    static CIPHER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A connected stream.
pub enum Stream {
    /// TCP alone.
    Tcp(TcpStream),
    /// Something over TCP.
    Layered(Box<Layered>),
}

impl Stream {
    /// The stream of `link` over a TCP connection that is being made.
    pub fn new(socket: TcpStream, link: &Link) -> io::Result<Self> {
        if link.tls.is_none() && link.websocket_host.is_none() {
            return Ok(Self::Tcp(socket));
        }
        let tls = link.tls.as_ref().map(|(config, name)| {
            let connection = ClientConnection::new(Arc::clone(config), name.clone());
            let mut connection = connection.map_err(io::Error::other)?;
            // A frame of a WebSocket is taken whole.
            connection.set_buffer_limit(None);
            Ok::<_, io::Error>(Tls {
                connection,
                rest: Vec::new(),
                is_greeted: !link.has_greeting,
                is_ended: false,
            })
        });
        let websocket = link.websocket_host.as_deref().map(WebSocket::new);
        Ok(Self::Layered(Box::new(Layered {
            socket,
            tls: tls.transpose()?,
            websocket,
            out: Vec::new(),
            out_sent: 0,
        })))
    }

    /// The TCP connection under it.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Self::Tcp(socket) => socket,
            Self::Layered(layered) => &layered.socket,
        }
    }

    /// Whether bytes that were taken wait to be sent, or cannot be taken yet.
    pub fn is_waiting(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            Self::Layered(layered) => layered.is_waiting(),
        }
    }

    /// Closes it.
    pub fn close(&self) {
        let _ = self.socket().shutdown(Shutdown::Both);
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.read(buffer),
            Self::Layered(layered) => layered.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(socket) => socket.write(bytes),
            Self::Layered(layered) => layered.write(bytes),
        }
    }

    /// Sends what waits, as far as the network takes it.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Tcp(_) => Ok(()),
            Self::Layered(layered) => layered.flush(),
        }
    }
}

/// Layers over TCP.
pub struct Layered {
    socket: TcpStream,
    tls: Option<Tls>,
    websocket: Option<WebSocket>,
    /// Frames of WebSocket that wait to be sent; those of TLS are in the buffer of rustls.
    out: Vec<u8>,
    out_sent: usize,
}

struct Tls {
    connection: ClientConnection,
    /// Ciphertext that there was no room for.
    rest: Vec<u8>,
    /// Whether the line that comes before the handshake has been read.
    is_greeted: bool,
    is_ended: bool,
}

impl Layered {
    fn is_waiting(&self) -> bool {
        let tls = self.tls.as_ref();
        self.out_sent < self.out.len()
            || tls.is_some_and(|tls| tls.connection.wants_write())
            || self.websocket.as_ref().is_some_and(|it| !it.is_open())
    }

    /// Fills the buffer, or reads all that there is: fewer bytes mean that the network
    /// has no more.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            let (room, is_drained);
            match self.read_carried(&mut buffer[filled..]) {
                Ok(0) => return Ok(filled),
                Ok(bytes) => {
                    room = buffer.len() - filled;
                    is_drained = bytes < room;
                    filled += match &mut self.websocket {
                        None => bytes,
                        Some(websocket) => websocket.take(&mut buffer[filled..filled + bytes])?,
                    };
                }
                Err(error) if filled > 0 && error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
            // An end that came with these bytes is read the next time.
            if is_drained && filled > 0 {
                break;
            }
        }
        Ok(filled)
    }

    /// The same under the WebSocket.
    fn read_carried(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.socket.read(buffer),
            Some(tls) => tls.read(&mut self.socket, buffer),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.flush()?;
        let taken = match &mut self.websocket {
            None => bytes.len(),
            Some(websocket) => {
                // Nothing may be sent before the server has agreed.
                if !websocket.is_open() {
                    return Err(ErrorKind::WouldBlock.into());
                }
                websocket.frame(bytes, &mut self.out)
            }
        };
        if let Some(tls) = &mut self.tls {
            let plain = match &self.websocket {
                None => bytes,
                Some(_) => &self.out,
            };
            tls.connection.writer().write_all(plain)?;
            self.out.clear();
        } else if self.websocket.is_none() {
            self.out.extend_from_slice(bytes);
        }
        match self.flush() {
            // They are taken, and go out later.
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(taken),
            flushed => flushed.map(|()| taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        if let Some(websocket) = &mut self.websocket
            && let Some(request) = websocket.request()
        {
            match &mut self.tls {
                None => self.out.extend_from_slice(&request),
                Some(tls) => tls.connection.writer().write_all(&request)?,
            }
        }
        while self.out_sent < self.out.len() {
            self.out_sent += self.socket.write(&self.out[self.out_sent..])?;
        }
        self.out.clear();
        self.out_sent = 0;
        if let Some(tls) = &mut self.tls {
            tls.flush(&mut self.socket)?;
        }
        Ok(())
    }
}

impl Tls {
    fn flush(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        while self.is_greeted && self.connection.wants_write() {
            self.connection.write_tls(socket)?;
        }
        Ok(())
    }

    /// Fills the buffer, or reads all that there is.
    fn read(&mut self, socket: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.is_greeted {
            self.read_greeting(socket)?;
        }
        let mut filled = self.plain(buffer)?;
        if !self.rest.is_empty() {
            let rest = std::mem::take(&mut self.rest);
            filled += self.decrypt(&rest, &mut buffer[filled..])?;
        }
        while filled < buffer.len() && !self.is_ended {
            let mut cipher = CIPHER.take();
            cipher.resize(CIPHER_BYTES, 0);
            let read = socket.read(&mut cipher);
            let decrypted = match read {
                Ok(0) => {
                    self.is_ended = true;
                    Ok(0)
                }
                Ok(bytes) => self.decrypt(&cipher[..bytes], &mut buffer[filled..]),
                Err(error) => Err(error),
            };
            CIPHER.set(cipher);
            match decrypted {
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock && filled > 0 => break,
                Err(error) => return Err(error),
            }
            // What the handshake answers.
            match self.flush(socket) {
                Err(error) if error.kind() != ErrorKind::WouldBlock => return Err(error),
                _ => {}
            }
        }
        Ok(filled)
    }

    /// Reads one byte after the other: the bytes behind the line are for TLS.
    fn read_greeting(&mut self, socket: &mut TcpStream) -> io::Result<()> {
        let mut byte = [0];
        while !self.is_greeted {
            match socket.read(&mut byte)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                _ => self.is_greeted = byte == *b"\n",
            }
        }
        match self.flush(socket) {
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Decrypts into the buffer, and keeps what there is no room for.
    fn decrypt(&mut self, mut cipher: &[u8], buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while !cipher.is_empty() {
            if filled == buffer.len() {
                self.rest = cipher.to_vec();
                break;
            }
            self.connection.read_tls(&mut cipher)?;
            self.connection
                .process_new_packets()
                .map_err(io::Error::other)?;
            filled += self.plain(&mut buffer[filled..])?;
        }
        Ok(filled)
    }

    /// The plaintext that is there.
    fn plain(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.connection.reader().read(&mut buffer[filled..]) {
                Ok(0) => {
                    self.is_ended = true;
                    break;
                }
                Ok(bytes) => filled += bytes,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}
