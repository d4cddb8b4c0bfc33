//! QUIC: a client whose address changes, a network that loses packets, and packets that
//! are no QUIC.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    thread,
};

use chat::{
    client::{Connector, Event, Session},
    quic,
    tls::Trust,
};

use crate::support::{PATIENCE, Peer, TestServer, udp::bridge};

/// How long a packet may be, in bytes.
const PACKET_BYTES_MAX: usize = 2_048;

/// How long the first packet of a client is at least, in bytes (RFC 9000).
const FIRST_PACKET_BYTES_MIN: usize = 1_200;

/// How much more memory a server may have taken after a thousand packets that lead to no
/// connection than after five hundred, in bytes: less than if it kept some of each.
const GROWN_BYTES_MAX: u64 = 512 << 10;

/// A server, the address of its QUIC listener, and the pin of its certificate.
fn start(folder: &std::path::Path) -> (TestServer, SocketAddr, String) {
    start_with(folder, &[])
}

fn start_with(folder: &std::path::Path, more: &[&str]) -> (TestServer, SocketAddr, String) {
    let options = [
        "--quic-listen",
        "127.0.0.1:0",
        "--tls-self-signed",
        folder.to_str().expect("UTF-8"),
        "--rate-limit",
        "off",
    ];
    let mut server = TestServer::start(&[&options, more].concat());
    let line = server.next_line();
    let address = line.strip_prefix("listening on chatq://").expect("QUIC");
    let (address, pin) = address.split_once('#').expect("a pin");
    (server, address.parse().expect("an address"), pin.to_owned())
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a place for files")
}

/// Passes packets on between one client and a server, loses some, and can change the
/// address from which the server sees them come.
struct Proxy {
    address: SocketAddr,
    server: SocketAddr,
    near: UdpSocket,
    far: Arc<Mutex<UdpSocket>>,
    client: Arc<Mutex<Option<SocketAddr>>>,
    /// Of a thousand packets, each way.
    lost: Arc<AtomicU32>,
    random: Arc<Mutex<fastrand::Rng>>,
    passed: Arc<AtomicUsize>,
}

impl Proxy {
    fn start(server: SocketAddr, lost_per_thousand: u32) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let proxy = Self {
            address: near.local_addr().expect("it is bound"),
            server,
            far: Arc::new(Mutex::new(new_far(server))),
            client: Arc::default(),
            lost: Arc::new(AtomicU32::new(lost_per_thousand)),
            random: Arc::new(Mutex::new(fastrand::Rng::with_seed(4_711))),
            passed: Arc::default(),
            near,
        };
        let (near, far) = (proxy.near.try_clone().expect("a socket"), proxy.far.clone());
        let (client, passes) = (proxy.client.clone(), proxy.passes());
        thread::spawn(move || {
            let mut packet = [0; PACKET_BYTES_MAX];
            while let Ok((bytes, from)) = near.recv_from(&mut packet) {
                *client.lock().expect("no panic") = Some(from);
                if passes() {
                    let far = far.lock().expect("no panic");
                    let _ = far.send(&packet[..bytes]);
                }
            }
        });
        proxy.pass_back();
        proxy
    }

    /// Says of each packet whether it arrives.
    fn passes(&self) -> impl Fn() -> bool + Send + 'static {
        let (lost, random) = (self.lost.clone(), self.random.clone());
        let passed = self.passed.clone();
        move || {
            let dice = random.lock().expect("no panic").u32(0..1_000);
            let passes = dice >= lost.load(Ordering::Relaxed);
            passed.fetch_add(usize::from(passes), Ordering::Relaxed);
            passes
        }
    }

    /// Passes what comes to the present far socket back, for as long as it is that.
    fn pass_back(&self) {
        let near = self.near.try_clone().expect("a socket");
        let far = self.far.lock().expect("no panic");
        let far = far.try_clone().expect("a socket");
        let (client, passes) = (self.client.clone(), self.passes());
        thread::spawn(move || {
            let mut packet = [0; PACKET_BYTES_MAX];
            while let Ok(bytes) = far.recv(&mut packet) {
                if let Some(client) = *client.lock().expect("no panic")
                    && passes()
                {
                    let _ = near.send_to(&packet[..bytes], client);
                }
            }
        });
    }

    /// The client moves: from now on its packets come from another address.
    fn change_address(&self) {
        let new = new_far(self.server);
        *self.far.lock().expect("no panic") = new;
        self.pass_back();
    }
}

fn new_far(server: SocketAddr) -> UdpSocket {
    let far = UdpSocket::bind("127.0.0.1:0").expect("a port");
    far.connect(server).expect("an address");
    far
}

async fn join(address: SocketAddr, pin: &str, name: &str) -> Session {
    let address = format!("chatq://{address}#{pin}");
    let session = Connector::new().connect(&address, name).await;
    session.expect("it joins")
}

/// The next message, whatever else comes before it.
async fn next_text(session: &mut Session) -> String {
    let next = async {
        loop {
            match session.next().await.expect("it goes on") {
                Event::Message { text, .. } => return text,
                Event::Ended(ended) => panic!("{ended:?}"),
                _ => {}
            }
        }
    };
    let deadline = tokio::time::timeout(PATIENCE, next);
    deadline.await.expect("a message")
}

/// A message each way, the second behind the first.
async fn exchange(phone: &mut Session, other: &mut Peer, index: usize) {
    let there = format!("there {index}");
    phone.send(&there).await.expect("it goes on");
    other.hears(&there);
    let back = format!("back {index}");
    other.say(&back);
    assert_eq!(next_text(phone).await, back);
}

/// The address changes in the middle of a conversation: nothing is lost, the session goes
/// on.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_changes_its_address_stays_in_the_room() {
    const MESSAGES: usize = 60;
    let folder = folder();
    let (server, quic, pin) = start(folder.path());
    let proxy = Proxy::start(quic, 0);
    let mut phone = join(proxy.address, &pin, "Phone").await;
    let mut other = Peer::join(&server, "Other");
    for index in 0..MESSAGES {
        if index % 20 == 10 {
            proxy.change_address();
        }
        exchange(&mut phone, &mut other, index).await;
    }
    assert!(!server.log().contains("left name=Phone"));
    phone.leave().await;
    server.wait_for_log("left name=Phone why=\"left\"");
}

/// A fifth of all packets is lost, each way: everything arrives, once, in order.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_loses_packets_loses_no_message() {
    const MESSAGES: usize = 60;
    let folder = folder();
    let (server, quic, pin) = start(folder.path());
    let proxy = Proxy::start(quic, 200);
    let mut phone = join(proxy.address, &pin, "Phone").await;
    let mut other = Peer::join(&server, "Other");
    // One after the other, so that each has a packet of its own.
    for index in 0..MESSAGES {
        exchange(&mut phone, &mut other, index).await;
    }
    assert!(proxy.passed.load(Ordering::Relaxed) > MESSAGES);
}

/// Noise, and first packets of connections that nobody continues: a pair loses nothing,
/// and none of them counts as a connection.
#[tokio::test(flavor = "multi_thread")]
async fn packets_that_are_no_connection_disturb_nobody() {
    let folder = folder();
    let (server, quic, pin) = start(folder.path());
    let mut phone = join(quic, &pin, "Phone").await;
    let mut other = Peer::join(&server, "Other");
    let mut random = fastrand::Rng::with_seed(42);
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let mut peak_bytes = 0;
    for count in 0..1_000_u32 {
        let mut packet: Vec<u8> = (0..random.usize(1..1_300)).map(|_| random.u8(..)).collect();
        if count % 2 == 0 {
            // A first packet of version 1, of the least length, with other contents.
            packet.resize(1_200, 0);
            packet[..7].copy_from_slice(&[0xc3, 0, 0, 0, 1, 8, random.u8(..)]);
        }
        socket.send_to(&packet, quic).expect("it is sent");
        if count % 100 == 0 {
            let text = format!("after {count}");
            phone.send(&text).await.expect("it goes on");
            other.hears(&text);
        }
        if count == 500 {
            peak_bytes = server.peak_bytes();
        }
    }
    let grown_bytes = server.peak_bytes() - peak_bytes;
    assert!(grown_bytes <= GROWN_BYTES_MAX, "{grown_bytes}");
    other.say("undisturbed");
    assert_eq!(next_text(&mut phone).await, "undisturbed");
    assert!(!server.log().contains("refused"), "{}", server.log());
}

/// The first packets of so many clients, each with connection ids and a hello of its own.
async fn first_packets(count: usize, pin: &str) -> Vec<Vec<u8>> {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_nonblocking(true).expect("a socket");
    let address = socket.local_addr().expect("it is bound");
    let socket = tokio::net::UdpSocket::from_std(socket).expect("a socket");
    let trust = Trust::pinned(pin.parse().expect("a pin"));
    let mut packets = Vec::new();
    while packets.len() < count {
        let mut packet = [0; PACKET_BYTES_MAX];
        tokio::select! {
            _ = quic::connect(&trust, "localhost", address) => panic!("nobody answers"),
            received = socket.recv(&mut packet) => {
                // What a client sends at its end is shorter.
                let bytes = received.expect("a packet");
                packets.extend((bytes >= FIRST_PACKET_BYTES_MIN).then(|| packet[..bytes].to_vec()));
            }
        }
    }
    packets
}

/// First packets as real clients send them, from addresses that are not theirs: each is
/// answered with less than it is, nothing is kept of it, and a pair loses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn first_packets_from_a_thousand_forged_addresses_leave_nothing_behind() {
    const CLIENTS: usize = 50;
    const ADDRESSES: usize = 1_000;
    let folder = folder();
    let (server, quic, pin) = start_with(folder.path(), &["--quic-connections-max", "3"]);
    let mut phone = join(quic, &pin, "Phone").await;
    let mut other = Peer::join(&server, "Other");
    let packets = first_packets(CLIENTS, &pin).await;
    let (mut forged, mut peak_bytes) = (Vec::new(), 0);
    for (count, packet) in packets.iter().cycle().take(ADDRESSES).enumerate() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(PATIENCE)).expect("not zero");
        socket.send_to(packet, quic).expect("it is sent");
        let mut answer = [0; PACKET_BYTES_MAX];
        let bytes = socket.recv(&mut answer).expect("an answer");
        assert_eq!(answer[0] & 0xf0, 0xf0, "a Retry");
        assert!(bytes < FIRST_PACKET_BYTES_MIN / 3, "{bytes}");
        // No port comes twice.
        forged.push(socket);
        if count % 100 == 0 {
            exchange(&mut phone, &mut other, count).await;
        }
        if count == ADDRESSES / 2 {
            peak_bytes = server.peak_bytes();
        }
    }
    let grown_bytes = server.peak_bytes() - peak_bytes;
    assert!(grown_bytes <= GROWN_BYTES_MAX, "{grown_bytes}");
    // None of them counts.
    let mut late = join(quic, &pin, "Late").await;
    exchange(&mut late, &mut other, ADDRESSES).await;
    assert!(!server.log().contains("refused"), "{}", server.log());
}

/// Through a bridge from TCP: what a server says last arrives.
#[test]
fn the_end_of_a_session_arrives() {
    let folder = folder();
    let (mut server, quic, pin) = start(folder.path());
    let bridge = bridge(quic, &pin);
    let stream = TcpStream::connect(bridge).expect("a bridge");
    let mut alice = Peer::from_stream(stream);
    alice.register("Alice", crate::support::NOTHING);
    let mut bob = Peer::join(&server, "Bob");
    bob.say("before the end");
    alice.hears("before the end");
    // No frame at all: the error arrives, then the end.
    let mut eve = TcpStream::connect(bridge).expect("a bridge");
    eve.write_all(&[0xff; 20]).expect("it reads");
    let mut told = Vec::new();
    eve.read_to_end(&mut told).expect("the end");
    assert!(!told.is_empty());
    server.signal("TERM");
    alice.sees_closing();
    assert!(server.wait().success());
}
