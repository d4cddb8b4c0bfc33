//! Limits against hostile clients, over sockets: connections of one address, floods,
//! errors, and names of dead connections.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use chat::wire::{Capability, ErrorCode, LeftReason};
use socket2::{Domain, Socket, Type};

use crate::support::{NOTHING, Peer, Received, TestServer, frames, leave, ping, pong, register};

/// Connects from a loopback address, of which a machine has a whole network.
fn connect_from(server: &TestServer, address: &str) -> Peer {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let local: std::net::SocketAddr = format!("{address}:0").parse().expect("an address");
    socket.bind(&local.into()).expect("a loopback address");
    socket
        .connect(&server.address.into())
        .expect("the server accepts");
    Peer::from_stream(TcpStream::from(socket))
}

/// CHAT-REG-11.
#[test]
fn connections_from_one_address_are_limited_and_others_are_not() {
    let server = TestServer::start(&["--limit-loopback", "--connections-per-address-max", "2"]);
    let mut alice = connect_from(&server, "127.0.0.1");
    alice.register("Alice", NOTHING);
    // An unregistered connection counts too.
    let silent = connect_from(&server, "127.0.0.1");
    for _ in 0..100 {
        connect_from(&server, "127.0.0.1").is_ended(ErrorCode::TooManyConnections);
    }
    let mut bob = connect_from(&server, "127.0.0.2");
    bob.register("Bob", NOTHING);
    bob.say("I live elsewhere");
    alice.hears("I live elsewhere");
    // A place is free once the server has seen a connection close.
    alice.send(&leave());
    alice.is_closed();
    drop((alice, silent));
    loop {
        let mut carol = connect_from(&server, "127.0.0.1");
        carol.send(&register("Carol", NOTHING));
        match carol.recv() {
            Received::Registered(_) => break,
            Received::Error(error) => {
                assert_eq!(error.code(), ErrorCode::TooManyConnections);
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The server lingers for at most 64 rejected connections, also for those that are
/// rejected for their address, since the others need the descriptors.
#[test]
fn connections_rejected_for_their_address_leave_descriptors_for_others() {
    let server = TestServer::start(&[
        "--limit-loopback",
        "--connections-per-address-max",
        "1",
        "--connections-per-minute-max",
        "off",
    ]);
    let _first = connect_from(&server, "127.0.0.1");
    let before = server.descriptors();
    // They stay open, so the server lingers for as many as it may.
    let many: Vec<_> = (0..300)
        .map(|_| connect_from(&server, "127.0.0.1"))
        .collect();
    let mut bob = connect_from(&server, "127.0.0.2");
    bob.register("Bob", NOTHING);
    // 64 at a time, and Bob; the first of all may not have been accepted before.
    let grown = server.descriptors() - before;
    assert!(grown <= 66, "{grown}");
    for mut peer in many {
        peer.is_ended(ErrorCode::TooManyConnections);
    }
}

/// CHAT-REG-12.
#[test]
fn new_connections_from_one_address_are_limited_per_minute() {
    let server = TestServer::start(&["--limit-loopback", "--connections-per-minute-max", "5"]);
    let mut first = connect_from(&server, "127.0.0.1");
    first.register("Alice", NOTHING);
    for _ in 1..5 {
        drop(connect_from(&server, "127.0.0.1"));
    }
    for _ in 0..10 {
        let error = connect_from(&server, "127.0.0.1").is_ended(ErrorCode::ConnectingTooFast);
        assert!((1..=12_000).contains(&error.retry_after_ms), "{error:?}");
    }
    // Members stay, and other addresses are not limited.
    let mut bob = connect_from(&server, "127.0.0.3");
    bob.register("Bob", NOTHING);
    bob.say("I live elsewhere");
    first.hears("I live elsewhere");
}

/// A proxy or a tunnel on this machine connects all clients from one address.
#[test]
fn loopback_addresses_are_limited_only_on_request() {
    let server = TestServer::start(&[
        "--connections-per-address-max",
        "1",
        "--connections-per-minute-max",
        "1",
    ]);
    let mut peers: Vec<_> = (0..5)
        .map(|index| Peer::join(&server, &format!("peer{index}")))
        .collect();
    peers[0].say("all of us");
    peers[4].hears("all of us");
}

/// CHAT-LIM-9.
#[test]
fn a_flood_waits_and_the_others_chat_on() {
    let options = ["--rate-limit", "off", "--frames-per-second-max", "2000"];
    let server = TestServer::start(&options);
    let (mut flooder, _) = Peer::join_with(&server, "Flooder", &[Capability::Keepalive]);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    let start = Instant::now();
    flooder.send_bytes(&frames([&ping(1)]).repeat(24_000));
    for _ in 0..100 {
        alice.say("calm");
        bob.hears("calm");
    }
    let mut pongs = 0;
    while pongs < 24_000 {
        match flooder.recv() {
            Received::Pong(_) => pongs += 1,
            Received::Chat(chat) => assert_eq!(chat.text, "calm"),
            other => panic!("{other:?}"),
        }
    }
    // The server reads ten seconds' worth at once, and one pass on credit; the rest takes
    // a second and a half.
    assert!(start.elapsed() >= Duration::from_secs(1));
}

/// CHAT-NAME-7, CHAT-NAME-8, CHAT-NAME-9.
#[test]
fn a_name_is_reclaimed_from_a_dead_connection() {
    let server = TestServer::start(&["--name-check-deadline-ms", "500"]);
    let (mut alive, _) = Peer::join_with(&server, "Alive", &[Capability::Keepalive]);
    // It stays connected and sends nothing any more.
    let (mut dead, _) = Peer::join_with(&server, "Dead", &[Capability::Keepalive]);
    let (mut witness, _) = Peer::join_with(&server, "Witness", &[Capability::Presence]);
    witness.sees_members();

    let mut newcomer = Peer::connect(&server);
    newcomer.send(&register("ALIVE", NOTHING));
    match alive.recv() {
        Received::Ping(asked) => alive.send(&pong(asked.token)),
        other => panic!("{other:?}"),
    }
    newcomer.is_ended(ErrorCode::NameInUse);

    let start = Instant::now();
    let mut back = Peer::connect(&server);
    let registered = back.register("DEAD", NOTHING);
    assert_eq!(registered.name, "DEAD");
    assert!(start.elapsed() >= Duration::from_millis(500));
    witness.sees_left("Dead", LeftReason::IdleTimeout);
    witness.sees_joined("DEAD");
    back.say("here again");
    alive.hears("here again");
    assert!(matches!(dead.recv(), Received::Ping(_)));
    dead.is_ended(ErrorCode::NameReclaimed);
}

/// CHAT-ERR-8, CHAT-ERR-9.
#[test]
fn a_member_that_causes_too_many_errors_is_closed_with_an_error() {
    let server = TestServer::start(&["--errors-max", "50"]);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    alice.send_bytes(&[0; 2_000]);
    let mut errors = 0;
    loop {
        match alice.recv() {
            Received::Error(error) if error.ends_session => {
                assert_eq!(error.code(), ErrorCode::TooManyErrors);
                break;
            }
            Received::Error(error) => assert_eq!(error.code(), ErrorCode::UnknownMessage),
            other => panic!("{other:?}"),
        }
        errors += 1;
    }
    alice.is_closed();
    // The server forgets some meanwhile.
    assert!((50..1_000).contains(&errors), "{errors}");
    // With fewer errors the session continues; the name of the closed one is free.
    bob.send_bytes(&[0; 50]);
    for _ in 0..50 {
        bob.is_refused(ErrorCode::UnknownMessage);
    }
    let mut carol = Peer::join(&server, "Alice");
    carol.say("all is well");
    bob.hears("all is well");
}
