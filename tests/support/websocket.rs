//! WebSocket, the client's side: just what tests of the server's side need.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
};

use super::PATIENCE;

/// What is read at once, in bytes.
const READ_BYTES: usize = 16 * 1024;

/// The mask of all frames: any will do.
const MASK: [u8; 4] = [0x12, 0x34, 0x56, 0x78];

/// Sends the request for a WebSocket and reads the answer. Returns it without a head
/// that is no 101.
pub fn upgrade(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.set_nodelay(true).expect("TCP has it");
    let request = request(address);
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer");
        head.extend(byte);
    }
    assert!(head.starts_with(b"HTTP/1.1 101 "), "{head:?}");
    stream
}

pub fn request(host: SocketAddr) -> String {
    format!(
        "GET /chat HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A client's frame: its first byte, and a payload of at most 65,535 bytes.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        short @ 0..126 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            frame.extend((long as u16).to_be_bytes());
        }
    }
    frame.extend(MASK);
    let masks = MASK.iter().cycle();
    frame.extend(payload.iter().zip(masks).map(|(byte, mask)| byte ^ mask));
    frame
}

/// The next frame of the server: its first byte and its payload; `None` at the end.
pub fn next_frame(stream: &mut impl Read) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let [first, length] = head;
    let length = match length {
        126 => {
            let mut long = [0; 2];
            stream.read_exact(&mut long).ok()?;
            u16::from_be_bytes(long).into()
        }
        short @ 0..126 => usize::from(short),
        _ => panic!("a server masks nothing and sends no longer frames"),
    };
    let mut payload = vec![0; length];
    stream.read_exact(&mut payload).ok()?;
    Some((first, payload))
}

/// Listens for TCP, and passes each connection on over WebSocket, as long as the test
/// runs.
pub fn bridge(web: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            thread::spawn(move || pass_on(near, upgrade(web)));
        }
    });
    address
}

fn pass_on(mut near: TcpStream, mut far: TcpStream) {
    near.set_nodelay(true).expect("TCP has it");
    far.set_read_timeout(None).expect("a socket");
    let (mut near_out, mut far_in) = (
        near.try_clone().expect("a socket"),
        far.try_clone().expect("a socket"),
    );
    thread::spawn(move || {
        loop {
            match next_frame(&mut far_in) {
                Some((0x82, payload)) => {
                    if near_out.write_all(&payload).is_err() {
                        let _ = far_in.shutdown(Shutdown::Both);
                        return;
                    }
                }
                Some((0x8a, _)) => {}
                // A Close, or the end.
                _ => break,
            }
        }
        let _ = near_out.shutdown(Shutdown::Write);
    });
    let mut bytes = [0; READ_BYTES];
    loop {
        match near.read(&mut bytes) {
            Ok(0) => {
                let _ = far.write_all(&frame(0x88, &1_000_u16.to_be_bytes()));
                return;
            }
            Ok(count) => {
                if far.write_all(&frame(0x82, &bytes[..count])).is_err() {
                    return;
                }
            }
            Err(_) => {
                let _ = far.shutdown(Shutdown::Both);
                return;
            }
        }
    }
}
