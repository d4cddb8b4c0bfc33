//! Full screen: connections that are lost and made again.

use std::time::{Duration, Instant};

use chat::wire::{Capability, ErrorCode, Limits, Receipt, Register, Registered};

use crate::fake::{Peer, Server, ToClient, limits};
use crate::screen::{Screen, Setup};
use crate::support::{TestServer, signal};

const RECONNECTS: Setup = Setup {
    rows: 24,
    columns: 80,
    term: "xterm",
    no_color: "1",
    is_job: false,
    state_folder: None,
    data_folder: None,
    options: &["--time", "off"],
};

const GREETING: &str = "* you are Alice, here with you: Bob; /help shows the commands";
const LOST: &str = "* the connection is lost: the server closed the connection without a reason;\n  connecting again within 1 s";

fn joined(server: &Server) -> (Screen, Peer) {
    let screen = Screen::start_in(&[&server.address(), "Alice"], &RECONNECTS);
    let peer = welcome(server, "e", 0);
    screen.shows_log(GREETING, ">");
    (screen, peer)
}

/// Registers the next connection in this epoch, after so many chats.
fn welcome(server: &Server, epoch: &str, seq: u64) -> Peer {
    let mut peer = server.accept();
    let register = peer.register();
    peer.send(ToClient::Registered(Registered {
        name: register.name.clone(),
        epoch: epoch.to_owned(),
        seq,
        capabilities: register
            .capabilities
            .iter()
            .copied()
            .filter(|&asked| asked != Capability::Resume as i32)
            .collect(),
        limits: Some(limits()),
        ..Registered::default()
    }));
    peer.members(&["Alice", "Bob"]);
    peer
}

#[test]
fn a_lost_connection_is_made_again_and_tells_what_was_missed() {
    let server = Server::new();
    let (mut screen, mut peer) = joined(&server);
    peer.say("Bob", "one");
    screen.type_keys("half");
    screen.shows_log(&format!("{GREETING}\nBob: one"), "> half");
    let lost_at = Instant::now();
    peer.close();
    // The first try comes within a second; the rest is for a busy machine.
    let mut peer = welcome(&server, "e", 4);
    assert!(lost_at.elapsed() < Duration::from_secs(5));
    let log = format!("{GREETING}\nBob: one\n{LOST}\n* connected again; you missed 3 messages");
    screen.shows_log(&log, "> half");
    screen.type_keys(" typed\r");
    assert_eq!(peer.accept_chat(), "half typed");
    peer.close();
    // A server that started anew cannot tell.
    let _peer = welcome(&server, "f", 0);
    screen.log_ends_with(
        "\n* connected again, but the server does not resume sessions: what was said\n  meanwhile is missed",
    );
}

/// CHAT-CLOSE-8: later than it would come back by itself.
#[test]
fn a_client_comes_back_when_the_closing_server_says() {
    let server = Server::new();
    let (screen, mut peer) = joined(&server);
    let closed_at = Instant::now();
    peer.closing_for("a restart", 3_000);
    peer.close();
    screen.log_ends_with("* the server closed (a restart); connecting again within 4 s");
    let _peer = welcome(&server, "f", 0);
    assert!(closed_at.elapsed() >= Duration::from_secs(3));
}

#[test]
fn an_unconfirmed_line_is_left_to_the_user_and_a_waiting_one_is_sent() {
    let server = Server::new();
    let (mut screen, mut peer) = joined(&server);
    screen.type_keys("unconfirmed\r");
    assert_eq!(peer.chat().text, "unconfirmed");
    peer.close();
    screen.status_has("connecting");
    screen.type_keys("waiting\r");
    let mut peer = welcome(&server, "e", 1);
    assert_eq!(peer.accept_chat(), "waiting");
    let log = format!(
        "{GREETING}\n{LOST}\n\
         * connected again; you missed 1 message, or your unknown lines are among them\n\
         Alice: unconfirmed (unknown: the connection was lost before it was confirmed)\n\
         Alice: waiting"
    );
    screen.shows_log(&log, ">");
    screen.type_keys("/quit\r");
    peer.leave();
    screen.ends_with(
        "chat-client: lines that may not have arrived: 1 sent but not confirmed\n\
         code 7, terminal as before",
    );
}

/// Registers the next connection, which continues the line behind this number.
fn resume(server: &Server, seq: u64, resumed_from: u64) -> (Peer, Register) {
    let mut peer = server.accept();
    let register = peer.register();
    peer.send(ToClient::Registered(Registered {
        name: register.name.clone(),
        epoch: "e".to_owned(),
        seq,
        capabilities: register.capabilities.clone(),
        limits: Some(Limits {
            resend_ids_max: 100,
            ..limits()
        }),
        resume_token: b"token".to_vec(),
        resumed_from,
        ..Registered::default()
    }));
    (peer, register)
}

#[test]
fn a_resumed_session_misses_nothing_and_sends_again() {
    let server = Server::new();
    let screen = Screen::start_in(&[&server.address(), "Alice"], &RECONNECTS);
    let (mut screen, (mut peer, _)) = (screen, resume(&server, 0, 0));
    peer.members(&["Alice", "Bob"]);
    screen.shows_log(GREETING, ">");
    peer.say("Bob", "one");
    screen.type_keys("unconfirmed\r");
    let lost = peer.chat();
    screen.has("Bob: one");
    peer.close();
    let (mut peer, register) = resume(&server, 2, 2);
    assert_eq!(register.resume.expect("the session before").seq, 1);
    peer.members(&["Alice", "Bob"]);
    let again = peer.chat();
    assert_eq!(again, lost, "the same, under the same id");
    peer.send(ToClient::Chat(chat::wire::Chat {
        text: "missed".to_owned(),
        sender: "Bob".to_owned(),
        seq: 2,
        ..Default::default()
    }));
    peer.send(ToClient::Receipt(Receipt {
        id: again.id,
        seq: 3,
        ..Default::default()
    }));
    let log = format!(
        "{GREETING}\nBob: one\n{LOST}\n* connected again, nothing is missed\n\
         Bob: missed\nAlice: unconfirmed"
    );
    screen.shows_log(&log, ">");
    screen.type_keys("/quit\r");
    peer.leave();
    screen.ends_with("code 0, terminal as before");
}

#[test]
fn what_only_the_user_can_change_is_not_tried_again() {
    let server = Server::new();
    let (mut screen, mut peer) = joined(&server);
    peer.end(ErrorCode::NameReclaimed.into(), "");
    screen.status_has("not connected: /connect or /quit");
    peer.close();
    screen.type_keys("/connect\r");
    let mut peer = server.accept();
    peer.register();
    peer.end(ErrorCode::NameInUse.into(), "");
    peer.close();
    screen.log_ends_with("\n* the name Alice is taken on this server, choose another");
    screen.status_has("not connected");
    screen.type_keys("/nick Alicia\r");
    let mut peer = server.accept();
    assert_eq!(peer.register().name, "Alicia");
    peer.closing("later");
    peer.close();
    screen.log_ends_with("\n* the server is closing (later); try again later");
    screen.type_keys("/quit\r");
    screen.ends_with("code 0, terminal as before");
}

#[test]
fn another_name_is_another_session() {
    let server = Server::new();
    let (mut screen, peer) = joined(&server);
    screen.type_keys("/nick Alicia\r");
    let mut second = server.accept();
    assert_eq!(second.register().name, "Alicia");
    second.end(ErrorCode::NameInUse.into(), "");
    second.close();
    screen.log_ends_with("\n* the name Alicia is taken on this server, choose another");
    // The old session is still there, until there is a new one.
    screen.type_keys("/nick Alix\r");
    let mut second = welcome(&server, "e", 0);
    peer.leave();
    screen.status_has("Alix");
    screen.log_ends_with("\n* you are Alix now");
    screen.type_keys("hi\r");
    assert_eq!(second.accept_chat(), "hi");
    screen.log_ends_with("\nAlix: hi");
}

#[test]
fn going_elsewhere_ends_with_ctrl_c_and_with_a_signal() {
    let (server, silent) = (Server::new(), Server::new());
    let (mut screen, peer) = joined(&server);
    let line = format!("/connect {}\r", silent.address());
    let told = format!(
        "chat-client: connecting to {}, Ctrl-C goes back",
        silent.address()
    );
    screen.type_keys(&line);
    screen.ends_with(&told);
    screen.type_keys("\x03");
    screen.shows_log(GREETING, ">");
    let gone = Server::new().address();
    screen.type_keys(&format!("/connect {gone}\r"));
    screen.ends_with("Enter goes back:");
    screen.type_keys("\x03");
    screen.shows_log(GREETING, ">");
    // The question takes nothing of what is typed after it.
    screen.type_keys("abc");
    screen.drafts("> abc");
    screen.type_keys("\x03");
    screen.drafts(">");
    screen.type_keys(&line);
    screen.ends_with(&told);
    screen.signal("TERM");
    peer.leave();
    screen.ends_with("\ncode 0, terminal as before");
}

/// With the real server, which restarts and which is stopped for a while.
#[test]
fn a_restarted_server_has_its_members_back() {
    let server = TestServer::start(&[]);
    let listen = server.address.to_string();
    let address = format!("chat://{listen}");
    let mut alice = Screen::start_in(&[&address, "Alice"], &RECONNECTS);
    alice.status_has("1 here");
    let mut bob = Screen::start_in(&[&address, "Bob"], &RECONNECTS);
    alice.log_ends_with("\n* Bob joined");
    bob.status_has("2 here");
    server.signal("STOP");
    alice.type_keys("are you there?\r");
    alice.log_ends_with("\nAlice: are you there? (not confirmed)");
    server.signal("CONT");
    alice.log_ends_with("\nAlice: are you there?");
    bob.log_ends_with("\nAlice: are you there?");
    server.signal("TERM");
    alice.status_has("connecting");
    alice.type_keys("half");
    drop(server);
    let server = TestServer::start(&["--listen", &listen]);
    for screen in [&alice, &bob] {
        screen.status_has("2 here");
        screen.has("* connected again, but the server has begun anew");
    }
    alice.drafts("> half");
    alice.type_keys(" said\r");
    bob.log_ends_with("\nAlice: half said");
    // A client that was stopped goes on.
    signal(bob.process_id(), "STOP");
    alice.type_keys("while Bob was stopped\r");
    alice.log_ends_with("\nAlice: while Bob was stopped");
    signal(bob.process_id(), "CONT");
    bob.log_ends_with("\nAlice: while Bob was stopped");
    bob.type_keys("back\r");
    alice.log_ends_with("\nBob: back");
    drop(server);
}

#[test]
fn the_status_line_names_the_server_that_the_session_is_at() {
    let (first, second) = (Server::new(), Server::new());
    let addresses = format!("{},{}", first.address(), second.address());
    let name = |server: &Server| server.address().replace("chat://", "");
    let screen = Screen::start_in(&[&addresses, "Alice"], &RECONNECTS);
    let peer = welcome(&first, "e", 0);
    screen.status_has(&name(&first));
    let at_first = name(&first);
    drop(first);
    peer.close();
    let _peer = welcome(&second, "e", 0);
    screen.status_has(&name(&second));
    assert!(!screen.status().contains(&at_first));
    screen.has(&format!("\n* this is the server {}", second.address()));
}

#[test]
fn the_status_line_names_the_server_that_answered_first() {
    let (gone, there) = (Server::new(), Server::new());
    let addresses = format!("{},{}", gone.address(), there.address());
    drop(gone);
    let screen = Screen::start_in(&[&addresses, "Alice"], &RECONNECTS);
    let _peer = welcome(&there, "e", 0);
    screen.status_has(&there.address().replace("chat://", ""));
}
