//! Mutation tests of the rules CHAT-WS: a proxy in front of the real server breaks each of
//! them, and the check of that rule must notice. Without the proxy, all checks hold.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    panic, thread,
};

use chat::wire::{Capability, LeftReason};

use crate::{
    support::{
        NOTHING, PATIENCE, Peer, TestServer, chat, frames, leave, register,
        websocket::{bridge, frame, next_frame, upgrade},
    },
    web::{get, start},
};

/// A rule, and what shows of a server at an address that it keeps it.
type Check = (&'static str, fn(SocketAddr));

const CHECKS: &[Check] = &[
    ("CHAT-WS-2", |web| {
        let mut stream = upgrade(web);
        let register = frames([&register("Ann", NOTHING)]);
        stream.write_all(&frame(0x82, &register)).expect("it reads");
        let (first, _registered) = next_frame(&mut stream).expect("Registered");
        assert_eq!(first, 0x82);
    }),
    ("CHAT-WS-3", |web| {
        is_closed_with(web, &frame(0x81, b"text"), 1003)
    }),
    ("CHAT-WS-4", |web| {
        is_closed_with(web, &[0x82, 1, 0], 1002);
        is_closed_with(web, &frame(0xc2, b"reserved"), 1002);
        is_closed_with(web, &frame(0x83, b"opcode"), 1002);
        is_closed_with(web, &frame(0x80, b"nothing before"), 1002);
    }),
    ("CHAT-WS-6", |web| {
        let mut stream = upgrade(web);
        let all = frames([&register("Bea", NOTHING), &leave()]);
        stream.write_all(&frame(0x82, &all)).expect("it reads");
        let last = std::iter::from_fn(|| next_frame(&mut stream)).last();
        assert_eq!(last.expect("something").0, 0x88);
    }),
    ("CHAT-WS-7", |web| {
        let mut watcher = Peer::from_stream(TcpStream::connect(bridge(web)).expect("a bridge"));
        watcher.register("Watcher", &[Capability::Presence]);
        watcher.sees_members();
        let mut stream = upgrade(web);
        let register = frames([&register("Cleo", NOTHING)]);
        stream.write_all(&frame(0x82, &register)).expect("it reads");
        next_frame(&mut stream).expect("Registered");
        watcher.sees_joined("Cleo");
        stream.shutdown(Shutdown::Write).expect("it is open");
        watcher.sees_left("Cleo", LeftReason::ConnectionLost);
    }),
    ("CHAT-WS-8", |web| {
        let answer = get(web, &asking(web, "Origin: http://evil.example\r\n"));
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    }),
    ("CHAT-WS-9", |web| {
        let offers =
            "Sec-WebSocket-Extensions: permessage-deflate\r\nSec-WebSocket-Protocol: x\r\n";
        let mut stream = TcpStream::connect(web).expect("it accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("not zero");
        let request = asking(web, offers);
        stream.write_all(request.as_bytes()).expect("it reads");
        let head = String::from_utf8(head(&mut stream)).expect("ASCII");
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let head = head.to_ascii_lowercase();
        assert!(!head.contains("sec-websocket-extensions"), "{head}");
        assert!(!head.contains("sec-websocket-protocol"), "{head}");
    }),
    ("CHAT-WS-10", |web| {
        let too_long = [&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 1][..], &[1, 2, 3, 4]].concat();
        is_closed_with(web, &too_long, 1009);
    }),
];

fn is_closed_with(web: SocketAddr, bytes: &[u8], code: u16) {
    let mut stream = upgrade(web);
    stream.write_all(bytes).expect("it reads");
    let closed = std::iter::from_fn(|| next_frame(&mut stream)).last();
    assert_eq!(closed, Some((0x88, code.to_be_bytes().to_vec())));
}

/// The request for a WebSocket with more lines.
fn asking(host: SocketAddr, more: &str) -> String {
    let request = crate::support::websocket::request(host);
    request.replacen("\r\n", &format!("\r\n{more}"), 1)
}

/// The head of a request or an answer.
fn head(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
        head.extend(byte);
    }
    head
}

/// The first byte of a frame, and its payload.
type Frame = (u8, Vec<u8>);

/// How a proxy breaks a rule.
#[derive(Clone, Copy)]
struct Mutant {
    rule: &'static str,
    /// Changes the head of the request.
    request: fn(String) -> String,
    /// Changes the head of the answer.
    answer: fn(String) -> String,
    /// Changes a frame of the server, or drops it.
    frame: fn(u8, Vec<u8>) -> Option<Frame>,
    /// What the proxy sends where the client's stream ends.
    end: fn() -> Vec<u8>,
}

const UNCHANGED: Mutant = Mutant {
    rule: "",
    request: |head| head,
    answer: |head| head,
    frame: |first, payload| Some((first, payload)),
    end: Vec::new,
};

/// Another status in each Close.
fn close_normally(first: u8, payload: Vec<u8>) -> Option<Frame> {
    match first {
        0x88 => Some((first, 1_000_u16.to_be_bytes().to_vec())),
        _ => Some((first, payload)),
    }
}

const MUTANTS: &[Mutant] = &[
    Mutant {
        rule: "CHAT-WS-2",
        frame: |first, payload| Some((if first == 0x82 { 0x81 } else { first }, payload)),
        ..UNCHANGED
    },
    Mutant {
        rule: "CHAT-WS-3",
        frame: close_normally,
        ..UNCHANGED
    },
    Mutant {
        rule: "CHAT-WS-4",
        frame: close_normally,
        ..UNCHANGED
    },
    Mutant {
        rule: "CHAT-WS-6",
        frame: |first, payload| (first != 0x88).then_some((first, payload)),
        ..UNCHANGED
    },
    Mutant {
        rule: "CHAT-WS-7",
        end: || frame(0x82, &frames([&leave()])),
        ..UNCHANGED
    },
    Mutant {
        rule: "CHAT-WS-8",
        request: |head| head.replace("Origin: http://evil.example\r\n", ""),
        ..UNCHANGED
    },
    Mutant {
        rule: "CHAT-WS-9",
        answer: |head| {
            let agreed = "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";
            head.replacen("\r\n", agreed, 1)
        },
        ..UNCHANGED
    },
    Mutant {
        rule: "CHAT-WS-9",
        answer: |head| head.replacen("\r\n", "\r\nSec-WebSocket-Protocol: x\r\n", 1),
        ..UNCHANGED
    },
    Mutant {
        rule: "CHAT-WS-10",
        frame: close_normally,
        ..UNCHANGED
    },
];

/// A proxy in front of the server, as long as the test runs.
fn proxy(web: SocketAddr, mutant: Mutant) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    thread::spawn(move || {
        for near in listener.incoming().flatten() {
            thread::spawn(move || pass_on(near, web, mutant));
        }
    });
    address
}

fn pass_on(mut near: TcpStream, web: SocketAddr, mutant: Mutant) {
    let mut far = TcpStream::connect(web).expect("it accepts");
    let request = String::from_utf8(head(&mut near)).expect("ASCII");
    let request = (mutant.request)(request);
    far.write_all(request.as_bytes()).expect("it reads");
    let (mut near_out, mut far_in) = (
        near.try_clone().expect("a socket"),
        far.try_clone().expect("a socket"),
    );
    thread::spawn(move || {
        let answer = String::from_utf8(head(&mut far_in)).expect("ASCII");
        let is_upgraded = answer.starts_with("HTTP/1.1 101 ");
        let answer = (mutant.answer)(answer);
        let _ = near_out.write_all(answer.as_bytes());
        if is_upgraded {
            while let Some((first, payload)) = next_frame(&mut far_in) {
                if let Some((first, payload)) = (mutant.frame)(first, payload) {
                    let _ = near_out.write_all(&server_frame(first, &payload));
                }
            }
        } else {
            let _ = std::io::copy(&mut far_in, &mut near_out);
        }
        let _ = near_out.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut near, &mut far);
    let _ = far.write_all(&(mutant.end)());
    let _ = far.shutdown(Shutdown::Write);
}

/// A frame without a mask.
fn server_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let head = match payload.len() {
        short @ 0..126 => vec![first, short as u8],
        long => {
            let [high, low] = (long as u16).to_be_bytes();
            vec![first, 126, high, low]
        }
    };
    [&head, payload].concat()
}

fn server() -> (TestServer, SocketAddr) {
    start(&["--rate-limit", "off"])
}

#[test]
fn the_server_keeps_each_rule_of_websocket() {
    let (_server, web) = server();
    for (_, check) in CHECKS {
        check(web);
    }
}

#[test]
fn a_websocket_proxy_that_changes_nothing_is_not_noticed() {
    let (_server, web) = server();
    let address = proxy(web, UNCHANGED);
    for (_, check) in CHECKS {
        check(address);
    }
    // It carries chats, too.
    let mut ann = Peer::from_stream(TcpStream::connect(bridge(address)).expect("a bridge"));
    ann.register("Ann2", NOTHING);
    ann.send(&chat("hello"));
}

#[test]
fn each_mutant_of_the_websocket_proxy_is_caught_by_the_check_of_its_rule() {
    let (_server, web) = server();
    let mut missed = Vec::new();
    for mutant in MUTANTS {
        let address = proxy(web, *mutant);
        let check = CHECKS.iter().find(|(rule, _)| *rule == mutant.rule);
        let (rule, check) = check.expect("a check of its rule");
        if panic::catch_unwind(|| check(address)).is_ok() {
            missed.push(rule);
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
    let mut rules: Vec<_> = CHECKS.iter().map(|(rule, _)| rule).collect();
    rules.retain(|rule| !MUTANTS.iter().any(|mutant| mutant.rule == **rule));
    assert!(rules.is_empty(), "without a mutant: {rules:?}");
}
