//! TLS: listeners, certificates, and handshakes that go wrong.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
};

use chat::{
    address::Address,
    tls::{Trust, server_name},
};
use rustls::{ClientConnection, StreamOwned};

use crate::support::{
    NOTHING, PATIENCE, Peer, TestServer, chat, command, frames, output, register,
};

/// The options of a server that listens for TCP and for TLS, with limits that a test of
/// many connections does not meet.
fn options(folder: &Path) -> Vec<&str> {
    vec![
        "--tls-listen",
        "127.0.0.1:0",
        "--tls-self-signed",
        folder.to_str().expect("a path in UTF-8"),
        "--rate-limit",
        "off",
    ]
}

/// A server with a self-signed certificate in `folder`, and its second address.
fn start(folder: &Path, more: &[&str]) -> (TestServer, Address) {
    let mut server = TestServer::start(&[&options(folder)[..], more].concat());
    let line = server.next_line();
    let address = line.strip_prefix("listening on ").expect("a second line");
    let address = address.parse().expect("an address");
    (server, address)
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a place for files")
}

fn socket_address(address: &Address) -> SocketAddr {
    format!("{}:{}", address.host(), address.port())
        .parse()
        .expect("an IP address")
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn hello(address: &Address) -> ClientConnection {
    let trust = Trust::pinned(address.pin().expect("it has a pin"));
    let config = Arc::new(trust.client_config().expect("a pin"));
    ClientConnection::new(config, server_name("localhost").expect("a name")).expect("it fits")
}

/// A connection after its handshake.
fn connect(address: &Address) -> Stream {
    let stream = TcpStream::connect(socket_address(address)).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.set_nodelay(true).expect("TCP has it");
    let mut stream = StreamOwned::new(hello(address), stream);
    while stream.conn.is_handshaking() {
        stream
            .conn
            .complete_io(&mut stream.sock)
            .expect("both agree");
    }
    stream
}

fn join(address: &Address, name: &str) -> Stream {
    let mut stream = connect(address);
    stream
        .write_all(&frames(&[register(name, NOTHING)]))
        .expect("it reads");
    // Registered is longer than this; its rest does not matter here.
    stream.read_exact(&mut [0; 16]).expect("it answers");
    stream
}

/// What comes until `text` has come.
fn hears(stream: &mut Stream, text: &str) {
    let mut heard: Vec<u8> = Vec::new();
    while !heard
        .windows(text.len())
        .any(|part| part == text.as_bytes())
    {
        let mut bytes = [0; 4_096];
        let read = stream.read(&mut bytes).expect("it goes on");
        assert_ne!(read, 0, "{text:?} should come");
        heard.extend(&bytes[..read]);
    }
}

#[test]
fn members_over_tls_and_tcp_are_in_one_room() {
    let folder = folder();
    let (mut server, address) = start(folder.path(), &[]);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = join(&address, "Bob");
    alice.say("over TCP");
    hears(&mut bob, "over TCP");
    bob.write_all(&frames(&[chat("over TLS")]))
        .expect("it reads");
    alice.hears("over TLS");
    server.signal("TERM");
    alice.sees_closing();
    assert!(server.wait().success());
    // Its end is told: no error.
    let mut rest = Vec::new();
    bob.read_to_end(&mut rest).expect("close_notify");
}

#[test]
fn tcp_can_be_off_and_the_first_line_is_then_the_first_listener() {
    let folder = folder();
    let more = ["--listen", "none"];
    let mut server = TestServer::start(&[&options(folder.path())[..], &more].concat());
    let stream = TcpStream::connect(server.address).expect("it listens");
    // TLS it is, and not the plain protocol.
    let mut peer = Peer::from_stream(stream);
    peer.send(&register("Alice", NOTHING));
    let mut alert = Vec::new();
    let _ = peer.stream.read_to_end(&mut alert);
    assert_eq!(alert.first(), Some(&21), "an alert: {alert:?}");
    server.signal("TERM");
    assert!(server.wait().success());
    assert_eq!(server.rest_of_stdout(), "");
}

#[test]
fn a_certificate_that_is_missing_or_wrong_is_told() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("empty"), "").expect("ours");
    let [empty, missing] = [path("empty"), path("missing")];
    for (options, words) in [
        (&["--tls-listen", "127.0.0.1:0"][..], "need a certificate"),
        (&["--tls-self-signed", &missing], "needs --tls-listen"),
        (&["--listen", "none"], "listens nowhere"),
        (&["--tls-cert", &empty], "needs --tls-listen"),
        (
            &["--tls-listen", "127.0.0.1:0", "--tls-cert", &empty],
            "--tls-key",
        ),
        (
            &[
                "--tls-listen",
                "127.0.0.1:0",
                "--tls-self-signed",
                "/nowhere/at/all",
            ],
            "cannot make a self-signed certificate in /nowhere/at/all",
        ),
        (
            &[
                "--tls-listen",
                "127.0.0.1:0",
                "--tls-cert",
                &empty,
                "--tls-key",
                &empty,
            ],
            "has no certificate",
        ),
        (
            &[
                "--tls-listen",
                "127.0.0.1:0",
                "--tls-cert",
                &missing,
                "--tls-key",
                &empty,
            ],
            "cannot read the certificates in",
        ),
    ] {
        let output = output(command(options));
        let stderr = String::from_utf8_lossy(&output.stderr);
        let unwrapped = stderr.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(output.status.code(), Some(2), "{options:?}: {stderr}");
        assert!(unwrapped.contains(words), "{options:?}: {stderr}");
    }
}

#[test]
fn a_hangup_makes_it_read_its_certificate_again() {
    let (folder, other) = (folder(), folder());
    let (server, address) = start(folder.path(), &[]);
    let (_other_server, other_address) = start(other.path(), &[]);
    let mut before = join(&address, "Before");
    let cert = folder.path().join("cert.pem");
    let good = fs::read(&cert).expect("ours");
    fs::write(&cert, "no certificate").expect("ours");
    server.signal("HUP");
    server.wait_for_log("SIGHUP: nothing has changed: ");
    join(&address, "Meanwhile");
    fs::write(&cert, good).expect("ours");
    for file in ["cert.pem", "key.pem"] {
        fs::copy(other.path().join(file), folder.path().join(file)).expect("ours");
    }
    server.signal("HUP");
    server.wait_for_log("the certificate was read again");
    let renewed = format!("{address}#{}", other_address.pin().expect("a pin"));
    let renewed = renewed.parse().expect("an address");
    let mut after = join(&renewed, "After");
    after
        .write_all(&frames(&[chat("renewed")]))
        .expect("it reads");
    hears(&mut before, "renewed");
}

/// A first flight cut at each byte, with each byte changed, and other bytes altogether:
/// a normal pair loses nothing meanwhile.
#[test]
fn handshakes_that_go_wrong_disturb_nobody() {
    let folder = folder();
    let (server, address) = start(folder.path(), &["--connections-per-minute-max", "off"]);
    let mut alice = join(&address, "Alice");
    let mut bob = join(&address, "Bob");
    let mut first_flight = Vec::new();
    hello(&address)
        .write_tls(&mut first_flight)
        .expect("a Vec grows");
    let cut = (0..first_flight.len()).map(|end| first_flight[..end].to_vec());
    let changed = (0..first_flight.len()).map(|index| {
        let mut bytes = first_flight.clone();
        bytes[index] ^= 0x55;
        bytes
    });
    let others = [
        // A fatal alert, close_notify, application data, a record of the largest length.
        vec![21, 3, 3, 0, 2, 2, 40],
        vec![21, 3, 3, 0, 2, 1, 0],
        vec![23, 3, 3, 0, 1, 0],
        [&[22, 3, 1, 0xff, 0xff][..], &[0; 70_000]].concat(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        frames(&[register("Eve", NOTHING)]),
    ];
    let broken: Vec<_> = cut.chain(changed).chain(others).collect();
    assert!(broken.len() > 300, "a first flight is longer");
    for (count, bytes) in broken.iter().enumerate() {
        let mut stream = TcpStream::connect(socket_address(&address)).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        // The server may have closed before all of it is written.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        if let Err(error) = stream.read_to_end(&mut Vec::new()) {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}");
        }
        if count % 50 == 0 {
            let text = format!("number {count}.");
            alice.write_all(&frames(&[chat(&text)])).expect("it reads");
            hears(&mut bob, &text);
        }
    }
    Peer::join(&server, "Carol");
}

/// Handshakes that are begun and left count against the register deadline (CHAT-REG-5).
#[test]
fn half_handshakes_are_held_for_the_register_deadline_only() {
    const HELD: usize = 100;
    let folder = folder();
    let more = ["--register-deadline-ms", "1500"];
    let (_server, address) = start(folder.path(), &more);
    let mut alice = join(&address, "Alice");
    let mut bob = join(&address, "Bob");
    let mut first_flight = Vec::new();
    hello(&address)
        .write_tls(&mut first_flight)
        .expect("a Vec grows");
    let half = &first_flight[..first_flight.len() / 2];
    let held: Vec<_> = (0..HELD)
        .map(|_| {
            let mut stream = TcpStream::connect(socket_address(&address)).expect("it listens");
            stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
            stream.write_all(half).expect("it reads");
            stream
        })
        .collect();
    alice
        .write_all(&frames(&[chat("undisturbed")]))
        .expect("it reads");
    hears(&mut bob, "undisturbed");
    for mut stream in held {
        // Closed, by either means, within the patience of the test.
        match stream.read_to_end(&mut Vec::new()) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{error}"),
        }
    }
}

/// Records cut at each byte, after the handshake: a connection that is lost.
#[test]
fn records_that_are_cut_lose_that_connection_only() {
    let folder = folder();
    let (server, address) = start(folder.path(), &[]);
    let mut alice = join(&address, "Alice");
    for end in 0..30 {
        let mut cut = join(&address, "Cut");
        cut.conn
            .writer()
            .write_all(&frames(&[chat("whole")]))
            .expect("it fits");
        let mut record = Vec::new();
        cut.conn.write_tls(&mut record).expect("a Vec grows");
        assert!(end < record.len(), "a record is longer");
        cut.sock.write_all(&record[..end]).expect("it reads");
        cut.sock.shutdown(Shutdown::Write).expect("it is open");
        let _ = cut.sock.read_to_end(&mut Vec::new());
    }
    server.wait_for_log("left name=Cut why=\"connection lost\"");
    let mut bob = Peer::join(&server, "Bob");
    alice
        .write_all(&frames(&[chat("still here")]))
        .expect("it reads");
    bob.hears("still here");
}
