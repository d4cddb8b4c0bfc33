//! What was said before a client came.

use chat::client::{Connector, Event, HistoryError};
use chat::wire::get_history::Edge;
use chat::wire::{Capability, Chat, ErrorCode, GetHistory, History, Limits, Registered};

use crate::fake::{FromClient, Peer, Server, ToClient, limits};
use crate::program::Program;
use crate::runtime::run;

/// Registers the next connection of a room in which so many chats were said.
fn admit(server: &Server, seq: u64) -> Peer {
    let mut peer = server.accept();
    let register = peer.register();
    peer.send(ToClient::Registered(Registered {
        name: register.name,
        epoch: "e".to_owned(),
        seq,
        capabilities: register.capabilities,
        limits: Some(Limits {
            history_page_max: 3,
            ..limits()
        }),
        oldest_seq: 1,
        ..Registered::default()
    }));
    peer.has_sent(seq);
    peer
}

fn asked(peer: &mut Peer) -> GetHistory {
    match peer.receive() {
        Some(FromClient::GetHistory(request)) => request,
        other => panic!("expected GetHistory, got {other:?}"),
    }
}

fn page(id: u64, from: u64, to: u64) -> ToClient {
    let chats = (from..=to).filter(|&seq| seq > 0).map(|seq| Chat {
        text: format!("chat {seq}"),
        sender: "Bob".to_owned(),
        seq,
        time_unix_ms: 1,
        ..Chat::default()
    });
    ToClient::History(History {
        id,
        from,
        to,
        chats: chats.collect(),
    })
}

/// Answers one request with a page, which must be for these edges.
fn answer(peer: &mut Peer, before: u64, limit: u32, from: u64, to: u64) {
    let request = asked(peer);
    assert_eq!(
        (request.edge, request.limit),
        (Some(Edge::Before(before)), limit)
    );
    peer.send(page(request.id, from, to));
}

#[test]
fn a_pipe_begins_with_the_last_messages() {
    let server = Server::new();
    let mut program = Program::start(&["--last", "5", &server.address(), "Alice"]);
    let mut peer = admit(&server, 9);
    peer.say("Bob", "live");
    // Pages may be shorter than asked for, and the last one is not taken whole.
    answer(&mut peer, 10, 3, 8, 9);
    answer(&mut peer, 8, 3, 6, 7);
    answer(&mut peer, 6, 1, 4, 5);
    program.end_input();
    peer.leave();
    let outcome = program.outcome();
    assert_eq!((outcome.code, &*outcome.errors), (Some(0), ""));
    let expected: Vec<_> = (5..=9).map(|seq| format!("@Bob: chat {seq}")).collect();
    let expected = format!("{}\n@Bob: live\n", expected.join("\n"));
    assert_eq!(outcome.output, expected);
}

#[test]
fn a_room_with_a_shorter_past_shows_it_whole() {
    let server = Server::new();
    let mut program = Program::start(&["--last", "50", "--json", &server.address(), "Alice"]);
    let mut peer = admit(&server, 2);
    answer(&mut peer, 3, 3, 1, 2);
    answer(&mut peer, 1, 3, 0, 0);
    program.end_input();
    peer.leave();
    let outcome = program.outcome();
    let seqs = outcome.output.matches("{\"chat\":").count();
    assert_eq!((outcome.code, seqs), (Some(0), 2), "{}", outcome.output);
}

/// CHAT-MOD-9.
#[test]
fn a_removed_message_is_shown_as_one() {
    for (option, expected) in [
        ("--events", "@Bob: (removed by the server's operator)\n"),
        (
            "--json",
            r#"{"chat":{"sender":"Bob","seq":"1","timeUnixMs":"1","removed":true}}"#,
        ),
    ] {
        let server = Server::new();
        let mut program = Program::start(&["--last", "5", option, &server.address(), "Alice"]);
        let mut peer = admit(&server, 1);
        let request = asked(&mut peer);
        peer.send(ToClient::History(History {
            id: request.id,
            from: 1,
            to: 1,
            chats: vec![Chat {
                sender: "Bob".to_owned(),
                seq: 1,
                time_unix_ms: 1,
                removed: true,
                ..Chat::default()
            }],
        }));
        answer(&mut peer, 1, 3, 0, 0);
        program.end_input();
        peer.leave();
        let outcome = program.outcome();
        assert!(outcome.output.contains(expected), "{}", outcome.output);
    }
}

#[test]
fn a_server_that_goes_nowhere_is_not_followed() {
    let server = Server::new();
    let mut program = Program::start(&["--last", "50", &server.address(), "Alice"]);
    let mut peer = admit(&server, 2);
    answer(&mut peer, 3, 3, 3, 4);
    program.end_input();
    peer.leave();
    assert_eq!(program.outcome().output, "");
}

#[test]
fn no_past_is_told() {
    let server = Server::new();
    let mut program = Program::start(&["--last", "5", &server.address(), "Alice"]);
    let (peer, register) = server.welcome_with(limits(), Some(&[]));
    assert!(register.capabilities.contains(&Capability::History.into()));
    program.end_input();
    peer.leave();
    let outcome = program.outcome();
    assert_eq!(outcome.code, Some(0));
    let told = "chat-client: this server does not show what was said before\n";
    assert_eq!(outcome.errors, told);
}

/// The answers are told apart, whatever their order, from one another and from those to
/// chats; and a lost connection answers all.
#[test]
fn each_request_has_its_answer() {
    let server = Server::new();
    let address = server.address();
    let serving = std::thread::spawn(move || {
        let mut peer = admit(&server, 9);
        let requests = [asked(&mut peer), asked(&mut peer), asked(&mut peer)];
        let chat = peer.chat();
        assert!(requests.iter().all(|request| request.id > chat.id));
        peer.send(page(77, 1, 1));
        peer.send(page(requests[1].id, 4, 5));
        peer.refuse(requests[0].id, ErrorCode::RequestInvalid, 0);
        peer.refuse(chat.id, ErrorCode::TextInvalid, 0);
    });
    run(async {
        let connector = Connector::new().and(Capability::History);
        let mut session = connector
            .connect(&address, "Alice")
            .await
            .expect("a session");
        let sender = session.sender();
        let ask = |edge| sender.history(edge, 100);
        let edges = [Edge::Before(10), Edge::After(3), Edge::Before(4)];
        let asking = async {
            let [a, b, c] = edges.map(ask);
            tokio::join!(a, b, c, async {
                // Behind the requests.
                tokio::task::yield_now().await;
                sender.send("text").await.expect("sent");
            })
        };
        let (refused, second, lost, ()) = asking.await;
        let Err(HistoryError::Refused { code, .. }) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(code, ErrorCode::RequestInvalid);
        let page = second.expect("a page");
        assert_eq!((page.from, page.to, page.chats.len()), (4, 5, 2));
        assert_eq!(lost, Err(HistoryError::Lost));
        let event = session.next().await;
        assert!(
            matches!(event, Some(Event::Refused { id: 1, .. })),
            "{event:?}"
        );
    });
    serving.join().expect("the server's part");
}
