//! Framing, over sockets: frames in any pieces, malformed frames, unknown fields and
//! messages, and other protocols.

use std::io::Write;

use chat::wire::{Capability, ErrorCode, LeftReason};
use prost::Message as _;

use crate::support::{
    NOTHING, PATIENCE, Peer, Received, TestServer, chat, chat_with_id, frame, frames, register,
};

/// The bound before Register and the default one after it (CHAT-FRAME-6).
const UNREGISTERED_BYTES_MAX: usize = 1_024;
const MEMBER_BYTES_MAX: usize = 8_192;

/// A length in exactly `bytes` bytes.
fn length_in(length: u64, bytes: usize) -> Vec<u8> {
    let mut out: Vec<_> = (0..bytes)
        .map(|index| length.unbounded_shr(7 * index as u32) as u8 & 0x7f | 0x80)
        .collect();
    if let Some(last) = out.last_mut() {
        *last &= 0x7f;
    }
    out
}

/// `body`, padded to `bytes` bytes with an unknown field.
fn padded(mut body: Vec<u8>, bytes: usize) -> Vec<u8> {
    // Field 1000, length-delimited: a tag of two bytes, a length of two.
    let padding = bytes - body.len() - 4;
    body.extend([0xc2, 0x3e]);
    body.extend(length_in(padding as u64, 2));
    body.resize(bytes, 0);
    body
}

/// CHAT-FRAME-8, CHAT-REG-2: the first bytes of other protocols.
#[test]
fn other_protocols_are_rejected_with_an_error() {
    let http = b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: a browser of some kind\r\nAccept: */*\r\n\r\n";
    // A handshake record of TLS 1.0 to 1.3 that holds a ClientHello.
    let mut tls = vec![
        0x16, 0x03, 0x01, 0x02, 0x00, 0x01, 0x00, 0x01, 0xfc, 0x03, 0x03,
    ];
    tls.extend([0x5a; 512]);
    let ssh =
        b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3 and a comment that makes it long enough for S\r\n";
    let server = TestServer::start(&[]);
    for bytes in [http.as_slice(), &tls, ssh] {
        let mut peer = Peer::connect(&server);
        peer.send_bytes(bytes);
        let Received::Error(error) = peer.recv() else {
            panic!("an error comes first");
        };
        let expected = [ErrorCode::MalformedFrame, ErrorCode::NotRegistered];
        assert!(expected.contains(&error.code()), "{error:?}");
        assert!(error.ends_session);
        peer.is_closed();
    }
    Peer::join(&server, "Alice");
}

/// CHAT-FRAME-5, CHAT-FRAME-6: the server judges the length as soon as it has arrived.
#[test]
fn a_length_above_the_bound_is_rejected_before_its_body_arrives() {
    let server = TestServer::start(&[]);
    for is_member in [false, true] {
        let bytes_max = if is_member {
            MEMBER_BYTES_MAX
        } else {
            UNREGISTERED_BYTES_MAX
        };
        for length in [bytes_max as u64 + 1, 1 << 31, 1 << 32, 1 << 63, u64::MAX] {
            let mut peer = if is_member {
                Peer::join(&server, "Alice")
            } else {
                Peer::connect(&server)
            };
            let mut bytes = Vec::new();
            prost::encoding::encode_varint(length, &mut bytes);
            peer.send_bytes(&bytes);
            peer.is_ended(ErrorCode::FrameTooLong);
        }
    }
}

/// CHAT-FRAME-6: the bound itself is allowed.
#[test]
fn a_frame_as_long_as_the_bound_is_read() {
    let server = TestServer::start(&[]);
    let mut bob = Peer::join(&server, "Bob");
    let mut alice = Peer::connect(&server);
    let body = padded(
        register("Alice", NOTHING).encode_to_vec(),
        UNREGISTERED_BYTES_MAX,
    );
    alice.send_bytes(&frame(&body));
    alice.registered();
    let body = padded(chat("padded").encode_to_vec(), MEMBER_BYTES_MAX);
    alice.send_bytes(&frame(&body));
    bob.hears("padded");
}

/// CHAT-FRAME-4.
#[test]
fn a_length_that_does_not_end_or_fit_is_malformed() {
    let server = TestServer::start(&[]);
    let eleven = length_in(1, 11);
    let mut tenth_above_one = vec![0x80; 9];
    tenth_above_one.push(2);
    let ten_without_end = [0xff; 10];
    for bytes in [&eleven[..], &tenth_above_one, &ten_without_end] {
        let mut peer = Peer::connect(&server);
        peer.send_bytes(bytes);
        peer.is_ended(ErrorCode::MalformedFrame);
        let mut peer = Peer::join(&server, "Alice");
        peer.send_bytes(bytes);
        peer.is_ended(ErrorCode::MalformedFrame);
    }
}

/// CHAT-FRAME-3 is a MAY. This server accepts such lengths, as most protobuf libraries do.
#[test]
fn a_length_may_take_up_to_ten_bytes() {
    let server = TestServer::start(&[]);
    let mut bob = Peer::join(&server, "Bob");
    for length_bytes in 1..=10 {
        let with_long_length = |body: Vec<u8>| {
            let mut bytes = length_in(body.len() as u64, length_bytes);
            bytes.extend(body);
            bytes
        };
        let mut alice = Peer::connect(&server);
        alice.send_bytes(&with_long_length(
            register("Alice", NOTHING).encode_to_vec(),
        ));
        alice.registered();
        alice.send_bytes(&with_long_length(chat("hello").encode_to_vec()));
        bob.hears("hello");
        alice.half_close();
        alice.is_closed();
    }
}

/// CHAT-FRAME-9, CHAT-FRAME-10, CHAT-PRES-5.
#[test]
fn a_frame_that_the_end_of_the_stream_cuts_is_ignored() {
    let server = TestServer::start(&[]);
    let (mut bob, _) = Peer::join_with(&server, "Bob", &[Capability::Presence]);
    bob.sees_members();
    let text = "x".repeat(200);
    let whole = frames(&[chat(&text)]);
    // Inside the length, which takes two bytes; before, in and at the end of the
    // body.
    for cut in [1, 2, 3, whole.len() - 1] {
        let mut alice = Peer::join(&server, "Alice");
        bob.sees_joined("Alice");
        alice.say("a whole one");
        alice.send_bytes(&whole[..cut]);
        alice.half_close();
        alice.is_ended(ErrorCode::MalformedFrame);
        bob.hears("a whole one");
        bob.sees_left("Alice", LeftReason::ConnectionLost);
    }
    // The same before Register.
    let mut peer = Peer::connect(&server);
    let whole = frames(&[register("Alice", NOTHING)]);
    peer.send_bytes(&whole[..whole.len() - 1]);
    peer.half_close();
    peer.is_ended(ErrorCode::MalformedFrame);
}

/// CHAT-ERR-1: also if many chats are still due to the client.
#[test]
fn nothing_follows_the_error_for_a_cut_frame() {
    let server = TestServer::start(&["--rate-limit", "off"]);
    let mut alice = Peer::join(&server, "Alice");
    let (mut carol, _) = Peer::join_with(&server, "Carol", &[Capability::Presence]);
    carol.sees_members();
    let mut bob = Peer::join_narrow(&server, "Bob", NOTHING);
    carol.sees_joined("Bob");
    let text = "x".repeat(4_000);
    let chats: Vec<_> = (0..1_000).map(|_| chat(&text)).collect();
    alice.send_bytes(&frames(&chats));
    for _ in 0..1_000 {
        carol.hears(&text);
    }
    bob.send_bytes(&frames(&[chat("cut short")])[..5]);
    bob.half_close();
    carol.sees_left("Bob", LeftReason::ConnectionLost);
    let got = bob.rest();
    let (last, before) = got.split_last().expect("something was sent");
    assert!(
        matches!(last, Received::Error(error) if error.ends_session
            && error.code() == ErrorCode::MalformedFrame),
        "{last:?}"
    );
    // CHAT-ORD-4: what was sent has no gap.
    for (index, message) in before.iter().enumerate() {
        assert!(matches!(message, Received::Chat(chat) if chat.seq == index as u64 + 1));
    }
}

/// CHAT-FRAME-7.
#[test]
fn frames_are_the_same_in_pieces_of_any_size() {
    let server = TestServer::start(&[]);
    let mut bob = Peer::join(&server, "Bob");
    let texts: Vec<_> = (1..=20).map(|count| "é".repeat(count * 7)).collect();
    let mut bytes = frames(&[register("Alice", &[Capability::Receipts])]);
    bytes.extend(frames(
        &texts.iter().map(|text| chat(text)).collect::<Vec<_>>(),
    ));
    for pieces_of in [1, 2, 3, bytes.len()] {
        let mut alice = Peer::connect(&server);
        for piece in bytes.chunks(pieces_of) {
            // Without Nagle's algorithm each write is a TCP segment of its own, unless the
            // server is slow, and then frames arrive in other pieces.
            alice.send_bytes(piece);
        }
        alice.registered();
        for text in &texts {
            bob.hears(text);
            assert!(matches!(alice.recv(), Received::Receipt(_)));
        }
        alice.half_close();
        alice.is_closed();
    }
}

/// CHAT-FRAME-8.
#[test]
fn bodies_that_do_not_parse_are_malformed_frames() {
    let server = TestServer::start(&[]);
    let invalid_utf8: &[&[u8]] = &[b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"ab\xe2\x82"];
    let text_of = |text: &[u8]| {
        // chat = 1 { text = 1 }
        let mut chat = vec![0x0a, text.len() as u8];
        chat.extend(text);
        let mut body = vec![0x0a, chat.len() as u8];
        body.extend(chat);
        body
    };
    let mut bodies: Vec<Vec<u8>> = invalid_utf8.iter().map(|text| text_of(text)).collect();
    bodies.extend([
        vec![0x0a, 0x05, 0x0a],                   // a Chat that ends too early
        vec![0x0f],                               // wire type 7
        vec![0x0e],                               // wire type 6
        vec![0x00, 0x00],                         // field 0
        vec![0xc4, 0x3e],                         // the end of a group that never began
        vec![0xc3, 0x3e],                         // the start of one that never ends
        vec![0x0a, 0xff, 0xff, 0xff],             // a length without an end
        vec![0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f], // a length far beyond the body
    ]);
    for body in bodies {
        let mut peer = Peer::join(&server, "Alice");
        peer.send_bytes(&frame(&body));
        peer.is_ended(ErrorCode::MalformedFrame);
    }
    let mut peer = Peer::connect(&server);
    peer.send_bytes(&frame(b"\x12\x03\x0a\x01\xff")); // a name
    peer.is_ended(ErrorCode::MalformedFrame);
}

/// CHAT-GROW-3, CHAT-CHAT-4, CHAT-CHAT-5.
#[test]
fn unknown_fields_are_ignored() {
    let server = TestServer::start(&[]);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    let unknown: [&[u8]; 5] = [
        &[0xc0, 0x3e, 0x05],                   // a varint
        &[0xc1, 0x3e, 1, 2, 3, 4, 5, 6, 7, 8], // eight bytes
        &[0xc2, 0x3e, 0x02, 0xff, 0xff],       // bytes, not text
        &[0xc3, 0x3e, 0x08, 0x01, 0xc4, 0x3e], // a group
        &[0xc5, 0x3e, 1, 2, 3, 4],             // four bytes
    ];
    for fields in unknown {
        let mut body = chat("hello").encode_to_vec();
        body.extend(fields);
        alice.send_bytes(&frame(&body));
        bob.hears("hello");
    }
    // Of several messages in a oneof the last one counts, as protobuf says.
    let mut body = frames(&[]);
    body.extend(register("Carol", NOTHING).encode_to_vec());
    body.extend(chat("the last message").encode_to_vec());
    alice.send_bytes(&frame(&body));
    bob.hears("the last message");
}

/// Deeply nested groups can overflow the stack of a parser. Either error is right; the
/// test checks that the server survives.
#[test]
fn deeply_nested_groups_do_no_harm() {
    let server = TestServer::start(&["--frame-bytes-max", "65536"]);
    let mut bob = Peer::join(&server, "Bob");
    for (start, end) in [([0xc3, 0x3e], [0xc4, 0x3e]), ([0x0b, 0x0b], [0x0c, 0x0c])] {
        for depth in [40, 16_000] {
            let mut alice = Peer::join(&server, "Alice");
            let mut body = start.repeat(depth);
            body.extend(end.repeat(depth));
            alice.send_bytes(&frame(&body));
            let Received::Error(error) = alice.recv() else {
                panic!("either way an error is sent");
            };
            let expected = [ErrorCode::MalformedFrame, ErrorCode::UnknownMessage];
            assert!(expected.contains(&error.code()), "{error:?}");
            alice.half_close();
            alice.is_closed();
        }
    }
    let mut alice = Peer::join(&server, "Alice");
    alice.say("all is well");
    bob.hears("all is well");
}

/// CHAT-GROW-1, CHAT-ERR-4.
#[test]
fn unknown_messages_are_rejected_and_the_session_continues() {
    let server = TestServer::start(&[]);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    let mut bytes = vec![0];
    bytes.extend(frame(&[0xfa, 0x07, 1, 42]));
    bytes.extend(frames(&[chat_with_id("hello", 7)]));
    alice.send_bytes(&bytes);
    for _ in 0..2 {
        assert_eq!(alice.is_refused(ErrorCode::UnknownMessage).id, 0);
    }
    bob.hears("hello");
}

/// A client sends junk for as long as the server lets it. The others do not notice
/// (CHAT-LIM-4), and the server closes the connection.
#[test]
fn endless_junk_is_cut_off_and_disturbs_no_member() {
    let server = TestServer::start(&[]);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    for byte in [0x00, 0x01, 0x7f, 0x80, 0xff] {
        let mut peer = Peer::connect(&server);
        peer.stream
            .set_write_timeout(Some(PATIENCE))
            .expect("not zero");
        let junk = [byte; 64 * 1024];
        // Bounded: a closed connection lingers for at most 4 MiB.
        let is_cut = (0..1_000).any(|_| peer.stream.write_all(&junk).is_err());
        assert!(is_cut, "{byte:#04x}");
    }
    alice.say("did you hear anything?");
    assert_eq!(bob.hears("did you hear anything?").seq, 1);
}
