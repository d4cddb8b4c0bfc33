//! The web listener: the page, the WebSocket, and what is neither.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
};

use chat::{
    tls::{Trust, server_name},
    wire::{ErrorCode, ServerEnvelope, server_envelope::Message},
};
use prost::Message as _;
use rustls::{ClientConnection, StreamOwned};

use crate::support::{
    NOTHING, PATIENCE, Peer, TestServer, chat, frames, register,
    websocket::{bridge, frame, next_frame, request, upgrade},
};

/// A server for browsers, and the address of its page.
pub fn start(options: &[&str]) -> (TestServer, SocketAddr) {
    let web = ["--web-listen", "127.0.0.1:0"];
    let mut server = TestServer::start(&[&web, options].concat());
    let line = server.next_line();
    let address = line.strip_prefix("listening on http://").expect("a page");
    (server, address.parse().expect("an address"))
}

/// Joins over a WebSocket.
fn join(web: SocketAddr, name: &str) -> TcpStream {
    let mut stream = upgrade(web);
    let register = frames([&register(name, NOTHING)]);
    stream.write_all(&frame(0x82, &register)).expect("it reads");
    let (first, _registered) = next_frame(&mut stream).expect("Registered");
    assert_eq!(first, 0x82, "CHAT-WS-2");
    stream
}

pub fn get(web: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(web).expect("the server accepts");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    stream.write_all(request.as_bytes()).expect("it reads");
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn members_over_websocket_and_tcp_are_in_one_room() {
    let (mut server, web) = start(&[]);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::from_stream(TcpStream::connect(bridge(web)).expect("a bridge"));
    bob.register("Bob", NOTHING);
    alice.say("over TCP");
    bob.hears("over TCP");
    let long = "x".repeat(4_000);
    bob.say(&long);
    alice.hears(&long);
    // A message may be cut anywhere, and hold any number of frames.
    let mut carol = join(web, "Carol");
    let both = frames([&chat("one"), &chat("two")]);
    for byte in &both {
        carol.write_all(&frame(0x82, &[*byte])).expect("it reads");
    }
    carol.write_all(&frame(0x82, &both)).expect("it reads");
    for text in ["one", "two", "one", "two"] {
        alice.hears(text);
    }
    server.signal("TERM");
    alice.sees_closing();
    bob.hears("one");
    assert!(server.wait().success());
    // CHAT-WS-6: a Close at the end.
    let all: Vec<_> = std::iter::from_fn(|| next_frame(&mut carol)).collect();
    let (last, code) = all.last().expect("something came");
    assert_eq!((*last, &code[..]), (0x88, &1_000_u16.to_be_bytes()[..]));
}

#[test]
fn the_page_is_served_over_tls_where_there_is_a_certificate() {
    let folder = tempfile::tempdir().expect("a place for files");
    let folder = folder.path().to_str().expect("UTF-8");
    let web = ["--web-listen", "127.0.0.1:0", "--tls-self-signed", folder];
    let server = TestServer::start(&[&web[..], &["--listen", "none"]].concat());
    let page = server.address;
    let trust = |pin| Trust::pinned(pin).client_config().expect("a pin");
    let certificate = std::fs::read(format!("{folder}/cert.pem")).expect("it was made");
    let pin = {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let certificate = CertificateDer::from_pem_slice(&certificate).expect("PEM");
        chat::tls::pin(&certificate)
    };
    let mut config = trust(pin);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let name = server_name("localhost").expect("a name");
    let connection = ClientConnection::new(Arc::new(config), name).expect("it fits");
    let stream = TcpStream::connect(page).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
    let mut stream = StreamOwned::new(connection, stream);
    stream
        .write_all(format!("GET / HTTP/1.1\r\nHost: {page}\r\n\r\n").as_bytes())
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("close_notify");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    assert!(answer.ends_with("</html>\n"), "{answer}");
}

/// CHAT-WS-3, CHAT-WS-4, CHAT-WS-10: each wrong frame is answered with its code, and a
/// normal pair loses nothing meanwhile.
#[test]
fn frames_of_every_wrong_kind_are_closed_with_their_code() {
    let (server, web) = start(&[]);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = join(web, "Bob");
    let too_long = [&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 1][..], &[1, 2, 3, 4]].concat();
    let wrong = [
        (frame(0x81, b"text"), 1003),
        (vec![0x82, 1, 0], 1002),
        (frame(0xc2, b"reserved"), 1002),
        (frame(0x83, b"opcode"), 1002),
        (frame(0x8b, b"opcode"), 1002),
        (frame(0x09, b"a part of a ping"), 1002),
        (frame(0x89, &[0; 126]), 1002),
        (frame(0x80, b"nothing before"), 1002),
        ([frame(0x02, b"a"), frame(0x82, b"b")].concat(), 1002),
        (too_long, 1009),
        (frame(0x88, &1_001_u16.to_be_bytes()), 1000),
    ];
    for (bytes, code) in &wrong {
        for registers in [false, true] {
            let mut eve = match registers {
                true => join(web, "Eve"),
                false => upgrade(web),
            };
            eve.write_all(bytes).expect("it reads");
            let closed = std::iter::from_fn(|| next_frame(&mut eve)).last();
            let expected = (0x88, u16::to_be_bytes(*code).to_vec());
            assert_eq!(closed, Some(expected), "{bytes:?}");
        }
        let text = format!("after {code}");
        alice.say(&text);
        let (_, heard) = next_frame(&mut bob).expect("it goes on");
        assert!(heard.windows(text.len()).any(|it| it == text.as_bytes()));
    }
}

/// CHAT-LIM-5, CHAT-ORD-4, CHAT-WS-6: a member that does not read loses the rest of the log
/// in the middle of a message. It reads whole messages all the same, the Pong between them,
/// the error and the Close.
#[test]
fn a_member_that_falls_behind_is_told_behind_a_whole_message() {
    const CHATS: usize = 5_000;
    let (server, web) = start(&[
        "--rate-limit",
        "off",
        "--lag-bytes-max",
        "2097152",
        "--write-deadline-ms",
        "60000",
    ]);
    let mut stuck = join(web, "Stuck");
    let mut sender = Peer::join(&server, "Sender");
    let text = "x".repeat(4_000);
    let chats = frames(&vec![chat(&text); CHATS]);
    let sending = std::thread::spawn(move || {
        sender.send_bytes(&chats);
        sender
    });
    server.wait_for_log("name=Stuck why=\"SLOW_CONSUMER\"");
    stuck.write_all(&frame(0x89, b"there?")).expect("it reads");
    let (mut stream, mut control) = (Vec::new(), Vec::new());
    while let Some((first, payload)) = next_frame(&mut stuck) {
        match first {
            0x82 => stream.extend(payload),
            first => control.push((first, payload)),
        }
    }
    let closed = (0x88, 1_000_u16.to_be_bytes().to_vec());
    assert_eq!(control.last(), Some(&closed));
    let mut rest = &stream[..];
    for seq in 1.. {
        let envelope = ServerEnvelope::decode_length_delimited(&mut rest).expect("whole frames");
        match envelope.message.expect("a message") {
            Message::Chat(chat) => assert_eq!(chat.seq, seq),
            Message::Error(error) => {
                assert_eq!(error.code(), ErrorCode::SlowConsumer);
                assert!(seq > 1 && (seq as usize) < CHATS && rest.is_empty());
                break;
            }
            other => panic!("{other:?}"),
        }
    }
    drop(sending.join().expect("the server reads again"));
}

/// CHAT-WS-7, and a Ping is answered.
#[test]
fn a_stream_that_ends_without_a_close_is_lost() {
    let (server, web) = start(&[]);
    let mut cut = join(web, "Cut");
    cut.write_all(&frame(0x89, b"there?")).expect("it reads");
    assert_eq!(next_frame(&mut cut), Some((0x8a, b"there?".to_vec())));
    let whole = frame(0x82, &frames([&chat("never said")]));
    cut.write_all(&whole[..whole.len() - 1]).expect("it reads");
    cut.shutdown(Shutdown::Write).expect("it is open");
    server.wait_for_log("left name=Cut why=\"connection lost\"");
}

/// Requests cut at each byte, others than for the page, and ones without an end.
#[test]
fn requests_that_go_wrong_disturb_nobody() {
    let (server, web) = start(&["--register-deadline-ms", "1500"]);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = join(web, "Bob");
    let whole = request(web);
    for end in 0..whole.len() {
        let mut stream = TcpStream::connect(web).expect("the server accepts");
        stream
            .write_all(&whole.as_bytes()[..end])
            .expect("it reads");
    }
    let host = format!("Host: {web}\r\n");
    for (request, status) in [
        (format!("GET / HTTP/1.1\r\n{host}\r\n"), "200"),
        (format!("HEAD / HTTP/1.1\r\n{host}\r\n"), "200"),
        (format!("GET / HTTP/1.0\r\n{host}\r\n"), "200"),
        (format!("GET /chat HTTP/1.1\r\n{host}\r\n"), "426"),
        (
            format!("POST / HTTP/1.1\r\n{host}Content-Length: 1\r\n\r\nx"),
            "405",
        ),
        (format!("GET /../etc HTTP/1.1\r\n{host}\r\n"), "404"),
        (
            "GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n".to_owned(),
            "421",
        ),
        ("no HTTP\r\n\r\n".to_owned(), "400"),
        (
            format!("GET / HTTP/1.1\r\n{host}X: {}\r\n\r\n", "x".repeat(20_000)),
            "431",
        ),
        (
            format!("GET / HTTP/1.1\r\n{host}{}\r\n", "X: x\r\n".repeat(100)),
            "431",
        ),
    ] {
        let answer = get(web, &request);
        let shown = &request[..request.len().min(60)];
        assert_eq!(answer.get(9..12), Some(status), "{shown}: {answer:.80}");
    }
    // A request that trickles in is held for the register deadline only.
    let mut slow: Vec<_> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(web).expect("the server accepts");
            stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
            stream.write_all(b"GET / HTTP/1.1\r\nX:").expect("it reads");
            stream
        })
        .collect();
    alice.say("undisturbed");
    let (_, heard) = next_frame(&mut bob).expect("it goes on");
    assert!(heard.windows(11).any(|it| it == b"undisturbed"));
    for stream in &mut slow {
        let _ = stream.read_to_end(&mut Vec::new());
    }
}
