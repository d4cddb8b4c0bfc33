//! Directs: from one client to another through the real server, over cuts, and as the
//! program shows them.

use std::time::Duration;

use chat::client::{Backoff, Connector, Event, SendError, Session};
use chat::wire::{Capability, Direct, DirectState, ErrorCode, Receipt};

use crate::cutting::{Cut, NEVER, Proxy};
use crate::fake::{FromClient, Peer, Server, ToClient, WAIT_SECONDS, limits};
use crate::program::Program;
use crate::runtime::run;
use crate::screen::Screen;
use crate::support::TestServer;

/// How many directs one conversation has.
const DIRECTS: usize = 3;

/// More bytes than go in one direction of a conversation.
const BYTES_MAX: usize = 2_000;

fn connector() -> Connector {
    Connector::new().and(Capability::Direct)
}

/// The next event, which comes soon.
async fn next(session: &mut Session) -> Event {
    let wait = Duration::from_secs(WAIT_SECONDS);
    let event = tokio::time::timeout(wait, session.next()).await;
    event.expect("it comes").expect("an event")
}

#[test]
fn a_direct_is_delivered_or_its_sender_is_told_why_not() {
    let server = TestServer::start(&[]);
    let address = format!("chat://{}", server.address);
    run(async {
        let mut alice = connector()
            .connect(&address, "Alice")
            .await
            .expect("a session");
        let mut bob = connector()
            .connect(&address, "Bob")
            .await
            .expect("a session");
        let mut plain = Session::connect(&address, "Plain")
            .await
            .expect("a session");
        let id = alice.direct("bob", "hello").await.expect("sent");
        assert_eq!(next(&mut alice).await, Event::Receipt { id, seq: 0 });
        match next(&mut bob).await {
            Event::Direct {
                seq, sender, text, ..
            } => assert_eq!((seq, &*sender, &*text), (1, "Alice", "hello")),
            event => panic!("{event:?}"),
        }
        let delivered = Event::DirectState {
            id,
            is_delivered: true,
        };
        assert_eq!(next(&mut alice).await, delivered);
        for peer in ["Plain", "Nobody", "not a name", &"x".repeat(100_000)] {
            let sent = alice.direct(peer, "hello").await.expect("sent");
            match next(&mut alice).await {
                Event::Refused { id, code, .. } => {
                    assert_eq!((id, code), (sent, ErrorCode::NotReachable));
                }
                event => panic!("{event:?}"),
            }
        }
        assert_eq!(
            plain.direct("Alice", "hello").await,
            Err(SendError::NotGranted)
        );
        plain.leave().await;
        bob.leave().await;
        alice.leave().await;
    });
}

/// Alice sends through the proxy to Bob, who sits at the server. Returns how many
/// connections that took.
async fn talk(server: &TestServer, cut: Cut) -> usize {
    let proxy = Proxy::start(server.address, vec![cut]).await;
    let address = format!("chat://{}", server.address);
    let bob = connector().connect(&address, "Bob").await;
    let mut bob = bob.expect("a session");
    let again = connector().reconnecting(Backoff {
        first: Duration::from_millis(2),
        longest: Duration::from_millis(20),
        give_up_after: Duration::from_secs(WAIT_SECONDS),
    });
    let Ok(mut alice) = again.connect(&proxy.address, "Alice").await else {
        bob.leave().await;
        return 0;
    };
    for number in 0..DIRECTS {
        let text = format!("line {number}");
        alice.direct("Bob", text).await.expect("sent");
    }
    for number in 0..DIRECTS {
        match next(&mut bob).await {
            Event::Direct { seq, text, .. } => {
                assert_eq!((seq, text), (number as u64 + 1, format!("line {number}")));
            }
            event => panic!("{event:?} with {cut:?}"),
        }
    }
    let mut receipts = Vec::new();
    while receipts.len() < DIRECTS {
        match next(&mut alice).await {
            Event::Receipt { id, seq: 0 } => receipts.push(id),
            Event::DirectState {
                is_delivered: true, ..
            }
            | Event::Reconnecting { .. }
            | Event::Resumed { missed: 0, .. } => {}
            event => panic!("{event:?} with {cut:?}"),
        }
    }
    assert_eq!(
        receipts,
        (1..=DIRECTS as u64).collect::<Vec<_>>(),
        "{cut:?}"
    );
    alice.leave().await;
    // Nothing came twice.
    let more = tokio::time::timeout(Duration::from_millis(2), bob.next()).await;
    assert!(more.is_err(), "{more:?} with {cut:?}");
    bob.leave().await;
    proxy.accepted()
}

/// CHAT-DM-11, CHAT-DM-14
#[test]
fn a_cut_behind_any_byte_delivers_each_direct_once() {
    let options = ["--connections-per-minute-max", "off", "--rate-limit", "off"];
    let server = TestServer::start(&options);
    for is_sent in [true, false] {
        let mut resumed = 0;
        let is_over = (0..BYTES_MAX).any(|bytes| {
            let cut = match is_sent {
                true => Cut {
                    sent_bytes: bytes,
                    leaves_ghost: bytes % 2 == 0,
                    ..NEVER
                },
                false => Cut {
                    received_bytes: bytes,
                    ..NEVER
                },
            };
            let connections = run(talk(&server, cut));
            resumed += usize::from(connections > 1);
            connections == 1
        });
        assert!(is_over, "the conversation has no end");
        assert!(resumed > 30, "only {resumed} cuts were within it");
    }
}

/// Takes what a client of a fake server sends next for a Direct.
fn direct(peer: &mut Peer) -> Direct {
    match peer.receive() {
        Some(FromClient::Direct(direct)) => direct,
        other => panic!("expected Direct, got {other:?}"),
    }
}

fn welcome(server: &Server) -> Peer {
    let granted = [Capability::Receipts, Capability::Direct];
    let (peer, register) = server.welcome_with(limits(), Some(&granted));
    let asked: Vec<_> = register.capabilities().collect();
    assert!(asked.contains(&Capability::Direct), "{asked:?}");
    peer
}

fn settles(peer: &mut Peer, id: u64, delivered: bool) {
    peer.send(ToClient::DirectState(DirectState { id, delivered }));
}

fn receipt(peer: &mut Peer, id: u64) {
    peer.send(ToClient::Receipt(Receipt {
        id,
        seq: 0,
        time_unix_ms: 1,
    }));
}

#[test]
fn a_pipe_shows_directs_apart() {
    let server = Server::new();
    let mut program = Program::start(&[&*server.address(), "Alice"]);
    let mut peer = welcome(&server);
    peer.say_direct("Bob", 1, "for\u{1b}you");
    peer.say("Bob", "for all");
    program.end_input();
    peer.leave();
    let outcome = program.outcome();
    assert_eq!(
        outcome.output,
        "@Bob (direct): for\\u{1b}you\n@Bob: for all\n"
    );
    assert_eq!(outcome.code, Some(0));
}

#[test]
fn json_sends_and_tells_directs() {
    let server = Server::new();
    let mut program = Program::start(&[&*server.address(), "Alice", "--json"]);
    let mut peer = welcome(&server);
    peer.say_direct("Bob", 1, "hi");
    program.write(b"{\"direct\":{\"peer\":\"Bob\",\"text\":\"hello\",\"id\":\"41\"}}\n");
    let sent = direct(&mut peer);
    assert_eq!((&*sent.peer, &*sent.text), ("Bob", "hello"));
    receipt(&mut peer, sent.id);
    settles(&mut peer, sent.id, true);
    program.end_input();
    peer.leave();
    let outcome = program.outcome();
    let lines: Vec<_> = outcome.output.lines().skip(1).take(3).collect();
    assert_eq!(
        lines,
        [
            r#"{"direct":{"peer":"Bob","text":"hi","seq":"1","timeUnixMs":"5"}}"#,
            r#"{"receipt":{"id":"41","seq":"0"}}"#,
            r#"{"directState":{"id":"41","delivered":true}}"#,
        ]
    );
    assert_eq!(outcome.code, Some(0));
}

#[test]
fn a_terminal_shows_a_direct_with_its_state() {
    let server = Server::new();
    let mut screen = Screen::start(&[&server.address(), "Alice"]);
    let mut peer = welcome(&server);
    peer.say_direct("Bob", 1, "psst");
    screen.log_ends_with("\nBob to you alone: psst");
    screen.type_keys("/msg @bob  two  words\r");
    let sent = direct(&mut peer);
    assert_eq!((&*sent.peer, &*sent.text), ("bob", "two  words"));
    receipt(&mut peer, sent.id);
    screen.log_ends_with("\nAlice to bob alone: two  words (not yet delivered)");
    settles(&mut peer, sent.id, true);
    screen.log_ends_with("\nAlice to bob alone: two  words (delivered)");
    screen.type_keys("/msg Nobody hello\r");
    let sent = direct(&mut peer);
    peer.refuse(sent.id, ErrorCode::NotReachable, 0);
    screen.log_ends_with(
        "\nAlice to Nobody alone: hello (not sent: nobody of this name takes direct\n  messages here now)",
    );
    screen.type_keys("/quit\r");
    peer.leave();
}
