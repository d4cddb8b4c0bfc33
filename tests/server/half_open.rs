//! Connections that never come to a session, two thousand of each kind at once: an honest
//! pair loses nothing, waits no longer, and memory stays within the documented bound.

use std::{
    collections::HashMap,
    io::Write,
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use chat::{
    limits::Limits,
    pin::Pin,
    quic,
    tls::{Trust, server_name},
};
use futures_util::{StreamExt, stream};
use rustls::{ClientConfig, ClientConnection};
use tokio::runtime::Builder;

use crate::support::{Peer, TestServer};

/// How many of a kind there are at once.
const HALF_OPEN: usize = 2_000;

/// How many connections the server takes.
const CONNECTIONS_MAX: u32 = 4_096;

/// What the honest pair says meanwhile.
const MESSAGES: u32 = 500;
const INTERVAL_MS: u64 = 5;

/// The latency that the issue allows on two cores, at the 99th percentile, in milliseconds.
const P99_MS_MAX: u128 = 10;

const SETTLE_MS: u64 = 3_000;

/// To how many slow connections a byte goes in a millisecond: each gets four in a second.
const SENT_PER_MS: usize = 8;

/// How many clients connect at a time over QUIC.
const CONNECTING: usize = 16;

/// What tells that all of them have come: one number.
const COUNTS_MAX: usize = 1;

/// How long each half-open connection is held at least, in milliseconds.
const HELD_MS: u64 = 30_000;

/// What a connection sends that never comes to a session.
enum Sent {
    AtOnce(Vec<u8>),
    /// A byte now and then.
    Slowly(Vec<u8>),
    /// Over TLS, after its handshake.
    Inside(Vec<u8>, Arc<ClientConfig>),
}

/// Opens a connection and leaves it so.
fn half_open(address: SocketAddr, sent: &Sent) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("the server accepts");
    // It may have refused the connection by now.
    let _ = match sent {
        Sent::AtOnce(bytes) => stream.write_all(bytes),
        Sent::Slowly(_) => Ok(()),
        Sent::Inside(bytes, config) => {
            let mut session = client(Arc::clone(config));
            rustls::Stream::new(&mut session, &mut stream).write_all(bytes)
        }
    };
    stream
}

/// Sends each of the connections a byte of `bytes`, then the next one, until it is over.
fn trickle(held: &[TcpStream], bytes: &[u8], is_over: &AtomicBool) {
    for byte in bytes {
        for some in held.chunks(SENT_PER_MS) {
            if is_over.load(Ordering::Relaxed) {
                return;
            }
            for mut stream in some {
                let _ = stream.write_all(&[*byte]);
            }
            thread::sleep(Duration::from_millis(1));
        }
    }
}

fn client(config: Arc<ClientConfig>) -> ClientConnection {
    let name = server_name("localhost").expect("a name");
    ClientConnection::new(config, name).expect("it fits")
}

/// The first message of a handshake.
fn hello(pin: Pin) -> Vec<u8> {
    let config = Trust::pinned(pin).client_config().expect("a pin");
    let mut hello = Vec::new();
    let mut session = client(Arc::new(config));
    session.write_tls(&mut hello).expect("a Vec grows");
    hello
}

/// Passes packets on to the server and no answers back, each client from an address of
/// its own.
fn one_way(server: SocketAddr) -> SocketAddr {
    let near = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = near.local_addr().expect("it is bound");
    thread::spawn(move || {
        let mut clients = HashMap::new();
        let mut packet = [0; 2_048];
        while let Ok((bytes, from)) = near.recv_from(&mut packet) {
            let far = clients
                .entry(from)
                .or_insert_with(|| UdpSocket::bind("127.0.0.1:0").expect("a port"));
            let _ = far.send_to(&packet[..bytes], server);
        }
    });
    address
}

/// Two thousand handshakes of QUIC whose answers never arrive.
fn half_open_quic(server: SocketAddr, pin: Pin) {
    let address = one_way(server);
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.expect("an event loop").block_on(async {
            for _ in 0..HALF_OPEN {
                let trust = Trust::pinned(pin);
                tokio::spawn(async move {
                    let _ = quic::connect(&trust, "localhost", address).await;
                });
            }
            tokio::time::sleep(Duration::from_millis(HELD_MS)).await;
        });
    });
}

/// Connects over QUIC two thousand times, and sends nothing.
fn hold_quic(server: SocketAddr, pin: Pin) {
    let (connected, all_connected) = mpsc::sync_channel(COUNTS_MAX);
    thread::spawn(move || {
        let runtime = Builder::new_current_thread().enable_all().build();
        runtime.expect("an event loop").block_on(async {
            let trust = Trust::pinned(pin);
            let held: Vec<_> = stream::iter(0..HALF_OPEN)
                .map(|_| quic::connect(&trust, "localhost", server))
                .buffer_unordered(CONNECTING)
                .collect()
                .await;
            let count = held.iter().filter(|held| held.is_ok()).count();
            connected.send(count).expect("the test waits");
            tokio::time::sleep(Duration::from_millis(HELD_MS)).await;
        });
    });
    assert_eq!(all_connected.recv(), Ok(HALF_OPEN));
}

/// The honest pair talks. Returns the 99th percentile of the time that a message takes.
fn talk(alice: &mut Peer, bob: &mut Peer, kind: &str) -> Duration {
    let mut latencies = Vec::new();
    let mut due = Instant::now();
    for number in 0..MESSAGES {
        let text = format!("{kind} {number}");
        let (from, to) = match number % 2 {
            0 => (&mut *alice, &mut *bob),
            _ => (&mut *bob, &mut *alice),
        };
        let said = Instant::now();
        from.say(&text);
        to.hears(&text);
        latencies.push(said.elapsed());
        due += Duration::from_millis(INTERVAL_MS);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    latencies.sort();
    latencies[latencies.len() * 99 / 100]
}

/// The pair and the server's bounds while connections of a kind are held.
fn check(server: &TestServer, pair: &mut [Peer; 2], kind: &str) {
    let [alice, bob] = pair;
    let p99 = talk(alice, bob, kind);
    let peak = server.peak_bytes();
    println!("{kind}: p99 {p99:?}, {peak} bytes");
    let limits = Limits {
        connections_max: CONNECTIONS_MAX,
        ..Limits::default()
    };
    assert!(p99.as_millis() <= P99_MS_MAX, "{kind}: {p99:?}");
    assert!(peak <= limits.memory_bytes_max(), "{kind}: {peak}");
}

/// As [`check`], with two thousand connections that send this.
fn check_held(
    server: &TestServer,
    pair: &mut [Peer; 2],
    (kind, address, sent): (&str, SocketAddr, Sent),
) {
    let held: Vec<_> = (0..HALF_OPEN).map(|_| half_open(address, &sent)).collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        if let Sent::Slowly(bytes) = &sent {
            scope.spawn(|| trickle(&held, bytes, &is_over));
        }
        check(server, pair, kind);
        is_over.store(true, Ordering::Relaxed);
    });
}

fn start(options: &[&str]) -> TestServer {
    rlimit::increase_nofile_limit(u64::MAX).expect("descriptors");
    let connections_max = CONNECTIONS_MAX.to_string();
    let limits = [
        "--rate-limit",
        "off",
        "--connections-max",
        &connections_max,
        "--register-deadline-ms",
        "60000",
        "--web-listen",
        "127.0.0.1:0",
    ];
    TestServer::start(&[&limits, options].concat())
}

fn pair(server: &TestServer) -> [Peer; 2] {
    let mut pair = ["Alice", "Bob"].map(|name| Peer::join(server, name));
    check(server, &mut pair, "alone");
    pair
}

/// The start of a request, however long it gets.
fn half_head() -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(1_000)).into_bytes()
}

#[test]
#[ignore = "two thousand connections of each kind, for a quiet machine: see CONTRIBUTING.md"]
fn two_thousand_half_open_connections_of_each_kind_disturb_nobody() {
    let folder = tempfile::tempdir().expect("a place for files");
    let folder = folder.path().to_str().expect("UTF-8");
    let connections_max = CONNECTIONS_MAX.to_string();
    let mut server = start(&[
        "--quic-connections-max",
        &connections_max,
        "--tls-listen",
        "127.0.0.1:0",
        "--quic-listen",
        "127.0.0.1:0",
        "--tls-self-signed",
        folder,
    ]);
    let mut addresses = HashMap::new();
    let mut pin = None;
    for _ in 0..3 {
        let line = server.next_line();
        let line = line
            .strip_prefix("listening on ")
            .expect("an address")
            .to_owned();
        let (scheme, rest) = line.split_once("://").expect("a scheme");
        let (address, with_pin) = rest.split_once('#').unwrap_or((rest, ""));
        addresses.insert(scheme.to_owned(), address.parse().expect("an address"));
        pin = pin.or_else(|| with_pin.parse::<Pin>().ok());
    }
    let pin = pin.expect("a pin");
    let [tls, web, quic] = ["chats", "https", "chatq"].map(|scheme| addresses[scheme]);
    let mut pair = pair(&server);
    let hello = hello(pin);
    let (half, _) = hello.split_at(hello.len() / 2);
    let mut http = Trust::pinned(pin).client_config().expect("a pin");
    http.alpn_protocols = vec![b"http/1.1".to_vec()];
    let nothing = || Sent::AtOnce(Vec::new());
    for kind in [
        ("TCP without a byte", server.address, nothing()),
        (
            "TCP with half a frame",
            server.address,
            Sent::AtOnce(vec![20, 0x12, 18]),
        ),
        ("TLS without a byte", tls, nothing()),
        ("TLS with half a hello", tls, Sent::AtOnce(half.to_vec())),
        ("TLS with a slow hello", tls, Sent::Slowly(hello.clone())),
        ("TLS with a hello only", tls, Sent::AtOnce(hello.clone())),
        ("web without a byte", web, nothing()),
        ("web with half a hello", web, Sent::AtOnce(half.to_vec())),
        (
            "web with half a request inside",
            web,
            Sent::Inside(half_head(), Arc::new(http)),
        ),
    ] {
        check_held(&server, &mut pair, kind);
    }
    half_open_quic(quic, pin);
    // The clients of this test have computed their first packets by then.
    thread::sleep(Duration::from_millis(SETTLE_MS));
    check(&server, &mut pair, "QUIC without answers");
    hold_quic(quic, pin);
    check(&server, &mut pair, "QUIC without a stream");
}

/// Slowloris: requests that come a byte at a time.
#[test]
#[ignore = "two thousand connections, for a quiet machine: see CONTRIBUTING.md"]
fn two_thousand_half_open_requests_that_trickle_in_disturb_nobody() {
    let mut server = start(&[]);
    let line = server.next_line();
    let web = line.strip_prefix("listening on http://").expect("a page");
    let web = web.parse().expect("an address");
    let mut pair = pair(&server);
    for kind in [
        ("web without a byte", web, Sent::AtOnce(Vec::new())),
        ("web with half a request", web, Sent::AtOnce(half_head())),
        ("web with a slow request", web, Sent::Slowly(half_head())),
    ] {
        check_held(&server, &mut pair, kind);
    }
}
