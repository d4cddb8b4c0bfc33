//! A proxy that does to a connection what networks do.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use fastrand::Rng;
use socket2::SockRef;

/// How long one direction may stand still before the proxy gives it up.
const STILL_MS_MAX: u64 = 20_000;

/// What the proxy does to the bytes of one direction.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    /// How many bytes it passes on at once, at the most.
    pub slice_bytes_max: usize,
    /// How long it holds each slice, at the most.
    pub delay_ms_max: u64,
    /// What it does after so many bytes.
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

/// Takes one connection and passes it on to `server`; where to connect to.
pub fn start(server: SocketAddr, up: Way, down: Way, mut rng: Rng) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = listener.local_addr().expect("it listens");
    thread::spawn(move || {
        let (client, _) = listener.accept().expect("the peer connects");
        let server = TcpStream::connect(server).expect("the server accepts");
        let rngs = [rng.fork(), rng.fork()];
        let clone = |stream: &TcpStream| stream.try_clone().expect("it is open");
        let ends = [(clone(&client), clone(&server)), (server, client)];
        for ((from, to), (way, rng)) in ends.into_iter().zip([up, down].into_iter().zip(rngs)) {
            thread::spawn(move || pump(from, to, way, rng));
        }
    });
    address
}

fn pump(mut from: TcpStream, mut to: TcpStream, way: Way, mut rng: Rng) {
    let still = Some(Duration::from_millis(STILL_MS_MAX));
    from.set_read_timeout(still).expect("not zero");
    to.set_write_timeout(still).expect("not zero");
    to.set_nodelay(true).expect("TCP has it");
    let mut buffer = vec![0; way.slice_bytes_max];
    let mut passed_bytes = 0;
    let mut fault = way.fault;
    loop {
        let slice_bytes = rng.usize(1..=buffer.len());
        let bytes = match from.read(&mut buffer[..slice_bytes]) {
            Ok(bytes) if bytes > 0 => bytes,
            _ => break,
        };
        thread::sleep(Duration::from_millis(rng.u64(0..=way.delay_ms_max)));
        if to.write_all(&buffer[..bytes]).is_err() {
            break;
        }
        passed_bytes += bytes;
        if let Some((_, kind)) = fault.take_if(|(after_bytes, _)| passed_bytes >= *after_bytes) {
            match kind {
                Fault::StallMs(ms) => thread::sleep(Duration::from_millis(ms)),
                Fault::HalfClose => break,
                Fault::Reset => {
                    for stream in [&from, &to] {
                        let socket = SockRef::from(stream);
                        socket.set_linger(Some(Duration::ZERO)).expect("TCP has it");
                        // The other direction holds it too: this ends both.
                        let _ = stream.shutdown(Shutdown::Both);
                    }
                    return;
                }
            }
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
