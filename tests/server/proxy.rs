//! Connections through proxies (PROXY protocol): where they come from, wrong headers, and
//! Debian's haproxy and nginx where they are installed.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use chat::{
    address::Address,
    tls::{Trust, server_name},
    wire::ErrorCode,
};
use rustls::{ClientConnection, StreamOwned};

use crate::support::{NOTHING, PATIENCE, Peer, TestServer, frames, leave, register};

const FROM_HERE: [&str; 2] = ["--proxy-from", "127.0.0.0/8"];

fn v1(source: &str) -> Vec<u8> {
    format!("PROXY TCP4 {source} 198.51.100.9 40112 7227\r\n").into_bytes()
}

fn v2(source: [u8; 4]) -> Vec<u8> {
    let head = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c";
    [
        &head[..],
        &source,
        &[198, 51, 100, 9, 0x9c, 0xb0, 0x1c, 0x3b],
    ]
    .concat()
}

/// A connection that begins with these bytes.
fn connect(address: SocketAddr, start: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.write_all(start).expect("it reads");
    stream
}

fn peer(server: &TestServer, start: &[u8]) -> Peer {
    Peer::from_stream(connect(server.address, start))
}

#[test]
fn the_header_says_where_a_connection_comes_from() {
    let server =
        TestServer::start(&[&FROM_HERE[..], &["--connections-per-address-max", "1"]].concat());
    let mut alice = peer(&server, &v1("192.0.2.1"));
    alice.register("Alice", NOTHING);
    server.wait_for_log("registered name=Alice peer=192.0.2.1 port=40112 transport=\"tcp\"");
    let mut bob = peer(&server, &v2([192, 0, 2, 2]));
    bob.register("Bob", NOTHING);
    server.wait_for_log("registered name=Bob peer=192.0.2.2 port=40112 transport=\"tcp\"");
    // CHAT-REG-11: of the true address.
    peer(&server, &v2([192, 0, 2, 1])).is_ended(ErrorCode::TooManyConnections);
    server.wait_for_log("refused why=\"TOO_MANY_CONNECTIONS\" peer=192.0.2.1");
    // What follows the header in the same packet is not lost.
    let together = [v1("192.0.2.3"), frames([&register("Carol", NOTHING)])].concat();
    let mut carol = peer(&server, &together);
    carol.registered();
    alice.say("all three");
    bob.hears("all three");
    carol.hears("all three");
    // The proxy for itself.
    let mut check = peer(&server, b"PROXY UNKNOWN\r\n");
    check.register("Check", NOTHING);
    server.wait_for_log("registered name=Check peer=127.0.0.1");
    alice.send(&leave());
    alice.is_closed();
}

#[test]
fn a_header_may_come_byte_by_byte() {
    let server = TestServer::start(&FROM_HERE);
    for (name, header) in [("Alice", v1("192.0.2.1")), ("Bob", v2([192, 0, 2, 1]))] {
        let mut stream = connect(server.address, b"");
        stream.set_nodelay(true).expect("TCP has it");
        for byte in &header {
            stream.write_all(&[*byte]).expect("it reads");
        }
        let mut peer = Peer::from_stream(stream);
        peer.register(name, NOTHING);
    }
    server.wait_for_log("registered name=Bob peer=192.0.2.1");
}

/// Whether the server has closed a connection without a word.
fn is_closed(stream: &mut TcpStream) -> bool {
    let mut byte = [0];
    match stream.read(&mut byte) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn wrong_headers_are_refused_and_disturb_nobody() {
    let server = TestServer::start(&[&FROM_HERE[..], &["--register-deadline-ms", "400"]].concat());
    let mut alice = peer(&server, &v1("192.0.2.1"));
    alice.register("Alice", NOTHING);
    let mut bob = peer(&server, &v1("192.0.2.2"));
    bob.register("Bob", NOTHING);
    let endless = [b"PROXY ".to_vec(), vec![b'x'; 5_000]].concat();
    let too_long = [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff".to_vec(),
        vec![0; 5_000],
    ]
    .concat();
    let no_header = frames([&register("Eve", NOTHING)]);
    let wrong: [&[u8]; 7] = [
        b"PROXY TCP4 192.0.2.1 198.51.100.9 40112\r\n",
        b"PROXY TCP4 192.0.2.1 198.51.100.9 70000 7227\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\x00\x0c",
        &endless,
        &too_long,
        &no_header,
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    ];
    for bytes in wrong {
        assert!(
            is_closed(&mut connect(server.address, bytes)),
            "{}",
            bytes.escape_ascii()
        );
    }
    server.wait_for_log(
        "refused why=\"bad PROXY header: it is longer than 4096 bytes\" peer=127.0.0.1",
    );
    server.wait_for_log("refused why=\"there is no PROXY header");
    // Cut at each byte: at once, and held until the deadline.
    let mut held = Vec::new();
    for header in [v1("192.0.2.3"), v2([192, 0, 2, 3])] {
        for cut in 0..header.len() {
            drop(connect(server.address, &header[..cut]));
            held.push(connect(server.address, &header[..cut]));
        }
    }
    alice.say("undisturbed");
    bob.hears("undisturbed");
    let begun = Instant::now();
    assert!(held.iter_mut().all(is_closed));
    assert!(begun.elapsed() < Duration::from_secs(5));
    bob.say("still");
    alice.hears("still");
    assert!(!server.log().contains("192.0.2.3"), "{}", server.log());
}

/// Each listener has its own way to say it.
#[test]
fn tls_and_the_page_take_a_header_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificate = folder.path().to_str().expect("a path");
    let more = [
        "--tls-listen",
        "127.0.0.1:0",
        "--tls-self-signed",
        certificate,
    ];
    let mut server = TestServer::start(&[&FROM_HERE[..], &more].concat());
    let line = server.next_line();
    let address = line.strip_prefix("listening on ").expect("a second line");
    let address: Address = address.parse().expect("an address");
    let at = SocketAddr::from(([127, 0, 0, 1], address.port()));
    let mut tls = tls(connect(at, &v2([192, 0, 2, 1])), &address);
    tls.write_all(&frames([&register("Alice", NOTHING)]))
        .expect("it reads");
    server.wait_for_log("registered name=Alice peer=192.0.2.1 port=40112 transport=\"tls\"");

    let mut server =
        TestServer::start(&[&FROM_HERE[..], &["--web-listen", "127.0.0.1:0"]].concat());
    let line = server.next_line();
    let at: SocketAddr = line
        .trim_start_matches("listening on http://")
        .parse()
        .expect("an address");
    let request = "GET / HTTP/1.1\r\nHost: chat.example\r\nConnection: close\r\n\r\n";
    let mut stream = connect(at, &[&v1("192.0.2.1")[..], request.as_bytes()].concat());
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

fn tls(stream: TcpStream, address: &Address) -> StreamOwned<ClientConnection, TcpStream> {
    let trust = Trust::pinned(address.pin().expect("it has a pin"));
    let config = Arc::new(trust.client_config().expect("a pin"));
    let name = server_name("localhost").expect("a name");
    StreamOwned::new(
        ClientConnection::new(config, name).expect("it fits"),
        stream,
    )
}

/// A proxy that was told to send headers, and a server that was not told of it.
#[test]
fn an_unexpected_header_is_told_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificate = folder.path().to_str().expect("a path");
    let mut server = TestServer::start(&[
        "--tls-listen",
        "127.0.0.1:0",
        "--tls-self-signed",
        certificate,
        "--proxy-from",
        "10.0.0.0/8,fd00::/8",
    ]);
    let line = server.next_line();
    let address: Address = line
        .trim_start_matches("listening on ")
        .parse()
        .expect("an address");
    let tls = SocketAddr::from(([127, 0, 0, 1], address.port()));
    for (transport, at) in [("tcp", server.address), ("tls", tls)] {
        let _v1 = connect(at, &v1("192.0.2.1"));
        let _v2 = connect(at, &v2([192, 0, 2, 1]));
        let words = "unexpected PROXY header: --proxy-from does not name this address";
        for _ in 0..200 {
            let log = server.log();
            let told = log
                .lines()
                .filter(|line| line.contains(words) && line.contains(transport));
            if told.count() == 2 {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = server.log();
        let told = log
            .lines()
            .filter(|line| line.contains(words) && line.contains(transport));
        assert_eq!(told.count(), 2, "{transport}: {log}");
    }
    assert!(!server.log().contains("192.0.2.1"));
    Peer::join(&server, "Alice");
}

#[test]
fn wrong_networks_are_refused() {
    let output = crate::support::output(crate::support::command(&["--proxy-from", "10.0.0.0/33"]));
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.contains("such as 127.0.0.1 or 10.0.0.0/8"),
        "{stderr}"
    );
}

/// A process that ends with its test.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that is free at the moment.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}

/// Runs a proxy, which is to listen on `port`. `None` if it is not installed.
fn run(command: &mut Command, port: u16) -> Option<Proxy> {
    let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
    let Ok(child) = spawned else {
        eprintln!("{command:?} is not installed");
        return None;
    };
    let proxy = Proxy(child);
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(proxy);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{command:?} does not listen");
}

/// Two members talk through a proxy, and the server knows where they come from.
fn talks(server: &TestServer, port: u16, version: &str) {
    let join = |name: &str| {
        // From another address than the proxy's.
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
        let socket = socket.expect("a socket");
        let from = SocketAddr::from(([127, 0, 0, 77], 0));
        socket.bind(&from.into()).expect("it is this machine's");
        let proxy = SocketAddr::from(([127, 0, 0, 1], port));
        socket.connect(&proxy.into()).expect("it listens");
        let mut peer = Peer::from_stream(socket.into());
        peer.register(name, NOTHING);
        peer
    };
    let (alice, bob) = (format!("Alice{version}"), format!("Bob{version}"));
    let mut sender = join(&alice);
    let mut receiver = join(&bob);
    server.wait_for_log(&format!("registered name={alice} peer=127.0.0.77 "));
    sender.say("through a proxy");
    receiver.hears("through a proxy");
}

#[test]
fn members_talk_through_haproxy() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(&["--proxy-from", "127.0.0.1"]);
    for (version, send) in [
        ("1", "send-proxy check"),
        ("2", "send-proxy-v2 check-send-proxy check"),
    ] {
        let port = free_port();
        let config = folder.path().join("haproxy.cfg");
        let text = format!(
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n\
             listen chat\n  bind 127.0.0.1:{port}\n  server one {} {send}\n",
            server.address
        );
        fs::write(&config, text).expect("ours");
        let mut haproxy = Command::new("haproxy");
        haproxy.arg("-db").arg("-f").arg(&config);
        let Some(_proxy) = run(&mut haproxy, port) else {
            return;
        };
        talks(&server, port, version);
    }
}

#[test]
fn members_talk_through_nginx() {
    const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
    if !Path::new(MODULE).exists() {
        eprintln!("nginx with its stream module is not installed");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let server = TestServer::start(&["--proxy-from", "127.0.0.1"]);
    let port = free_port();
    let config = folder.path().join("nginx.conf");
    let text = format!(
        "load_module {MODULE};\ndaemon off;\npid {0}/pid;\nerror_log {0}/error;\n\
         events {{}}\nstream {{\n  server {{\n    listen 127.0.0.1:{port};\n    \
         proxy_pass {1};\n    proxy_protocol on;\n    proxy_timeout 1h;\n  }}\n}}\n",
        folder.path().display(),
        server.address
    );
    fs::write(&config, text).expect("ours");
    let mut nginx = Command::new("nginx");
    nginx.arg("-c").arg(&config);
    let Some(_proxy) = run(&mut nginx, port) else {
        return;
    };
    talks(&server, port, "n");
}
