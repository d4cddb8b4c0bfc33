//! Registration, and every way in which it fails.

use chat::wire::{Capability, ErrorCode, Registered};
use insta::assert_snapshot;

use crate::fake::{Server, ToClient, limits};
use crate::program::{Outcome, Program};

fn refused(code: i32, detail: &str) -> Outcome {
    let server = Server::new();
    let program = Program::start(&[&server.address(), "Alice"]);
    let mut peer = server.accept();
    assert_eq!(peer.register().name, "Alice");
    peer.end(code, detail);
    peer.close();
    program.outcome()
}

#[test]
fn every_refusal_has_its_sentence() {
    let codes = [
        ErrorCode::MalformedFrame,
        ErrorCode::FrameTooLong,
        ErrorCode::RegisterTimeout,
        ErrorCode::ServerFull,
        ErrorCode::NameInvalid,
        ErrorCode::NameReserved,
        ErrorCode::NameInUse,
    ];
    let mut said = String::new();
    for code in codes {
        let outcome = refused(code.into(), "the server's words");
        assert_eq!(outcome.code, Some(4), "{code:?}");
        assert_eq!(outcome.output, "");
        said += &outcome.errors;
    }
    assert_snapshot!(said);
}

#[test]
fn an_unknown_refusal_shows_the_sanitized_detail() {
    let outcome = refused(9_999, "go\x1b[2J away\n");
    assert_eq!(outcome.code, Some(4));
    assert_eq!(
        outcome.errors,
        "chat-client: the server refused the registration: go\\u{1b}[2J away\\u{a}\n"
    );
}

/// CHAT-REG-15.
#[test]
fn the_welcome_is_shown_sanitized() {
    let welcome = "be kind\nno \u{1b}[2Jspam";
    let run = |options: &[&str]| {
        let server = Server::new();
        let address = server.address();
        let mut program = Program::start(&[options, &[&address, "Alice"]].concat());
        let mut peer = server.accept();
        let register = peer.register();
        peer.send(ToClient::Registered(Registered {
            name: register.name,
            epoch: "e".to_owned(),
            capabilities: register.capabilities,
            limits: Some(limits()),
            welcome: welcome.to_owned(),
            ..Registered::default()
        }));
        program.end_input();
        peer.leave();
        program.outcome()
    };
    let said = "chat-client: the server says: be kind\n\
                chat-client: the server says: no \\u{1b}[2Jspam\n";
    assert_eq!(run(&[]).errors, said);
    let outcome = run(&["--json"]);
    assert_eq!(outcome.errors, "");
    assert!(
        outcome
            .output
            .contains(r#""welcome":"be kind\nno \u001b[2Jspam""#)
    );
}

#[test]
fn a_pipe_asks_for_no_presence() {
    let server = Server::new();
    let address = server.address();
    let mut program = Program::start(&[&address.replace("chat://", "chat://Bob@")]);
    let (peer, register) = server.welcome();
    assert_eq!(register.name, "Bob");
    let asked: Vec<Capability> = register.capabilities().collect();
    assert_eq!(
        asked,
        [
            Capability::Receipts,
            Capability::Keepalive,
            Capability::Direct,
            Capability::Files,
        ]
    );
    program.end_input();
    peer.leave();
    let outcome = program.outcome();
    assert_eq!((outcome.code, &*outcome.errors), (Some(0), ""));
}

/// Runs the client against a server that sends `bytes` and closes.
fn against(bytes: &[u8]) -> (Option<i32>, String) {
    let server = Server::new();
    let program = Program::start(&[&server.address(), "Alice"]);
    let mut peer = server.accept();
    peer.register();
    peer.send_bytes(bytes);
    peer.close();
    let outcome = program.outcome();
    let address = server.address();
    (outcome.code, outcome.errors.replace(&address, "ADDRESS"))
}

#[test]
fn another_protocol_is_told() {
    let expected = (
        Some(3),
        "chat-client: the server at ADDRESS is not a chat server, it speaks another protocol; \
         check the address\n"
            .to_owned(),
    );
    let http = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\nContent-Length: 0\r\n\r\nand so on and so on";
    assert_eq!(against(http), expected);
    assert_eq!(against(&[0xff; 10]), expected);
    // 1,025 bytes: above the limit before Registered (CHAT-FRAME-12).
    assert_eq!(against(&[0x81, 0x08]), expected);
}

#[test]
fn no_answer_is_told() {
    let (code, errors) = against(b"");
    assert_eq!(code, Some(3));
    assert_snapshot!(errors);
    // A frame that is cut short is no answer (CHAT-FRAME-9).
    assert_eq!(against(b"\x05abc"), (code, errors));
}

#[test]
fn silence_is_bounded() {
    let server = Server::new();
    let arguments = [&*server.address(), "Alice", "--connect-timeout", "1"];
    let program = Program::start(&arguments);
    let mut peer = server.accept();
    peer.register();
    let outcome = program.outcome();
    assert_eq!(outcome.code, Some(3));
    assert!(outcome.errors.contains(" does not answer; "), "{outcome:?}");
}

#[test]
fn unknown_messages_before_registered_are_ignored() {
    let server = Server::new();
    let mut program = Program::start(&[&server.address(), "Alice"]);
    // Field 1000 of an envelope, and an empty envelope (CHAT-GROW-2).
    let mut peer = server.accept();
    peer.register();
    peer.send_bytes(&[3, 0xc2, 0x3e, 0, 0]);
    peer.closing("for the night");
    peer.close();
    program.end_input();
    let outcome = program.outcome();
    assert_eq!(outcome.code, Some(3));
    assert_eq!(
        outcome.errors,
        "chat-client: the server is closing (for the night); try again later\n"
    );
}

#[test]
fn a_refused_connection_is_told() {
    let address = Server::new().address();
    let outcome = Program::start(&[&address, "Alice"]).outcome();
    assert_eq!(outcome.code, Some(3));
    assert_eq!(
        outcome.errors.replace(&address, "ADDRESS"),
        "chat-client: cannot connect to ADDRESS: Connection refused; check the address and that \
         the server runs\n"
    );
    // Of several, the reason is that of the one that is named.
    let outcome = Program::start(&[&format!("{address},localhost:1"), "Alice"]).outcome();
    assert_eq!(
        outcome.errors,
        "chat-client: cannot connect to chat://localhost:1: Connection refused; check the address \
         and that the server runs; none of the 2 addresses works\n"
    );
}

#[test]
fn wrong_usage_is_told() {
    let outcome = Program::start(&["127.0.0.1:1"]).outcome();
    assert_eq!(outcome.code, Some(2));
    assert!(
        outcome
            .errors
            .contains("there is no name to go by: write it after the address")
            && outcome.errors.contains("Usage: chat-client "),
        "{outcome:?}"
    );
    let outcome = Program::start(&["http://127.0.0.1:1", "Alice"]).outcome();
    assert_eq!(outcome.code, Some(2));
    assert!(
        outcome.errors.contains("an address begins with chat://"),
        "{outcome:?}"
    );
}

#[test]
fn the_help_says_it_all() {
    let outcome = Program::start(&["--help"]).outcome();
    assert_eq!(outcome.code, Some(0));
    assert_snapshot!(outcome.output);
}

#[test]
fn a_server_has_a_short_name_in_a_file() {
    let server = Server::new();
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("client.toml");
    let start = |text: &str| {
        std::fs::write(&file, text).expect("a file");
        let path = file.to_str().expect("UTF-8");
        let mut program = Program::start(&["work", "--config", path]);
        program.end_input();
        program
    };
    let address = server.address();
    let program = start(&format!(
        "[servers.work]\naddress = \"{address}\"\nname = \"Alice\""
    ));
    let (peer, register) = server.welcome();
    assert_eq!(register.name, "Alice");
    peer.leave();
    assert_eq!(program.outcome().code, Some(0));
    let refused = start("[servers.work]\nadress = \"h\"").outcome();
    assert_eq!(refused.code, Some(2));
    assert!(
        refused
            .errors
            .contains("client.toml: servers.work: unknown key adress: did you mean address?"),
        "{}",
        refused.errors
    );
}
