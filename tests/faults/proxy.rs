//! A proxy that does to a connection what networks do.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use fastrand::Rng;
use socket2::{Domain, SockRef, Socket, Type};

/// How long one direction may stand still before the proxy gives it up: longer than
/// any test waits, so that it is the server that ends what is to end.
const STILL_MS_MAX: u64 = 60_000;

/// What the system takes from the server before the proxy does, in bytes: little, so
/// that the server has to wait, and writes in pieces.
const WINDOW_BYTES: usize = 4_096;

/// What the proxy does to the bytes of one direction.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// How many bytes it passes on at once, at the most.
    pub slice_bytes_max: usize,
    /// How long it holds each slice, at the most.
    pub delay_ms_max: u64,
    /// What it does after so many bytes, at least one.
    pub fault: Option<(usize, Fault)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Both ends find the connection reset.
    Reset,
    /// Nothing passes for this many milliseconds.
    StallMs(u64),
    /// This direction ends; the other goes on.
    HalfClose,
}

impl Way {
    /// Whether something is lost on it.
    pub fn breaks(&self) -> bool {
        self.resets() || matches!(self.fault, Some((_, Fault::HalfClose)))
    }

    /// Whether it breaks the other direction too.
    pub fn resets(&self) -> bool {
        matches!(self.fault, Some((_, Fault::Reset)))
    }
}

/// Takes one connection and passes it on to `server`; where to connect to.
pub fn start(server: SocketAddr, up: Way, down: Way, mut rng: Rng) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it listens");
    thread::spawn(move || {
        let (client, _) = listener.accept().expect("the peer connects");
        let server = connect(server);
        let rngs = [rng.fork(), rng.fork()];
        let is_reset = Arc::new(AtomicBool::new(false));
        let clone = |stream: &TcpStream| stream.try_clone().expect("it is open");
        let ends = [(clone(&client), clone(&server)), (server, client)];
        for ((from, to), (way, rng)) in ends.into_iter().zip([up, down].into_iter().zip(rngs)) {
            let is_reset = Arc::clone(&is_reset);
            thread::spawn(move || pump(from, to, way, rng, &is_reset));
        }
    });
    address
}

fn connect(server: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::for_address(server), Type::STREAM, None);
    let socket = socket.expect("sockets can be made");
    // Before connecting: the window is agreed upon then.
    let narrowed = socket.set_recv_buffer_size(WINDOW_BYTES);
    narrowed.expect("any size is allowed");
    let connected = socket.connect(&server.into());
    connected.expect("the server accepts");
    socket.into()
}

fn pump(mut from: TcpStream, mut to: TcpStream, way: Way, mut rng: Rng, is_reset: &AtomicBool) {
    let still = Some(Duration::from_millis(STILL_MS_MAX));
    from.set_read_timeout(still).expect("not zero");
    to.set_write_timeout(still).expect("not zero");
    to.set_nodelay(true).expect("TCP has it");
    let mut buffer = vec![0; way.slice_bytes_max];
    let mut passed_bytes = 0;
    let mut fault = way.fault;
    loop {
        let mut slice_bytes = rng.usize(1..=buffer.len());
        if let Some((after_bytes, _)) = fault {
            // To the byte: most places are inside a frame.
            slice_bytes = slice_bytes.min(after_bytes - passed_bytes);
        }
        let bytes = match from.read(&mut buffer[..slice_bytes]) {
            Ok(bytes) if bytes > 0 => bytes,
            _ => break,
        };
        thread::sleep(Duration::from_millis(rng.u64(0..=way.delay_ms_max)));
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
        passed_bytes += bytes;
        if let Some((_, kind)) = fault.take_if(|(after_bytes, _)| passed_bytes == *after_bytes) {
            match kind {
                Fault::StallMs(ms) => thread::sleep(Duration::from_millis(ms)),
                Fault::HalfClose => break,
                Fault::Reset => {
                    for stream in [&from, &to] {
                        let socket = SockRef::from(stream);
                        socket.set_linger(Some(Duration::ZERO)).expect("TCP has it");
                    }
                    is_reset.store(true, Ordering::Relaxed);
                    for stream in [&from, &to] {
                        // Tells nobody, but has the other direction stop reading.
                        let _ = stream.shutdown(Shutdown::Read);
                    }
                    break;
                }
            }
        }
    }
    if is_reset.load(Ordering::Relaxed) {
        // It is, once both directions have let go of it, without another word before.
        return;
    }
    let _ = to.shutdown(Shutdown::Write);
    // What still comes passes no more. Left unread, it would reset the connection.
    while from.read(&mut buffer).is_ok_and(|bytes| bytes > 0) {}
}
