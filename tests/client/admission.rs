//! Servers with a password: where the client takes it from, and that it is never shown.

use chat::client::{ConnectError, Connector};
use chat::password::Password;
use chat::wire::{ErrorCode, Registered};

use crate::fake::{Peer, Server, ToClient, limits};
use crate::program::Program;
use crate::screen::Screen;
use crate::support::{TestServer, file};

const SECRET: &str = "open sesame é";

/// Environment variables: names and values.
type Variables<'a> = &'a [(&'a str, &'a str)];

/// Accepts a connection, refuses its password and returns it.
fn refuse_password(server: &Server) -> String {
    let mut peer = server.accept();
    let password = peer.register().password;
    peer.end(ErrorCode::PasswordWrong.into(), "the server's words");
    peer.close();
    password
}

/// Accepts and registers a connection; also returns its password.
fn accept(server: &Server) -> (Peer, String) {
    let mut peer = server.accept();
    let register = peer.register();
    peer.send(ToClient::Registered(Registered {
        name: register.name.clone(),
        epoch: "e".to_owned(),
        capabilities: register.capabilities.clone(),
        limits: Some(limits()),
        ..Registered::default()
    }));
    (peer, register.password)
}

/// CHAT-ADM-6.
#[test]
fn a_password_that_was_given_is_sent() {
    let file = file(format!("{SECRET}\n").as_bytes(), 0o600);
    let path = file.to_str().expect("UTF-8");
    let sources: [(&[&str], Variables<'_>, &str); 6] = [
        (&["--password-file", path], &[], SECRET),
        (&[], &[("CHAT_PASSWORD_FILE", path)], SECRET),
        (&[], &[("CHAT_PASSWORD", SECRET)], SECRET),
        (&[], &[("CHAT_PASSWORD", "")], ""),
        (&[], &[("CHAT_PASSWORD_FILE", "")], ""),
        (&[], &[], ""),
    ];
    for (options, variables, expected) in sources {
        let server = Server::new();
        let address = server.address();
        let arguments = [&[&*address, "Alice"], options].concat();
        let mut program = Program::start_with(&arguments, variables);
        let (peer, password) = accept(&server);
        assert_eq!(password, expected, "{options:?} {variables:?}");
        program.end_input();
        peer.leave();
        let outcome = program.outcome();
        assert_eq!((outcome.code, &*outcome.errors), (Some(0), ""));
    }
}

/// CHAT-ADM-7, CHAT-ADM-8, CHAT-ADM-9.
#[test]
fn a_pipe_is_told_and_fails() {
    for (variables, sentence) in [
        (
            &[][..],
            "the server asks for a password: put it into a file that only you can read and \
             say --password-file FILE, or set CHAT_PASSWORD",
        ),
        (
            &[("CHAT_PASSWORD", SECRET)][..],
            "the password is wrong, ask the server's operator for the right one",
        ),
    ] {
        let server = Server::new();
        let program = Program::start_with(&[&server.address(), "Alice"], variables);
        refuse_password(&server);
        // The program ends, so it does not retry.
        let outcome = program.outcome();
        assert_eq!((outcome.code, &*outcome.output), (Some(4), ""));
        assert_eq!(outcome.errors, format!("chat-client: {sentence}\n"));
    }
}

/// CHAT-ADM-9.
#[test]
fn a_name_that_is_not_allowed_is_told() {
    let server = Server::new();
    let program = Program::start(&[&server.address(), "Alice"]);
    let mut peer = server.accept();
    peer.register();
    peer.end(ErrorCode::NameNotAllowed.into(), "the server's words");
    peer.close();
    let outcome = program.outcome();
    assert_eq!(outcome.code, Some(4));
    assert_eq!(
        outcome.errors,
        "chat-client: the name Alice is not on this server's list, choose one that is or ask \
         its operator\n"
    );
}

#[test]
fn an_invalid_password_is_told() {
    let broken = file(b"open sesame\nclose sesame\n", 0o600);
    let broken = broken.to_str().expect("UTF-8");
    let whole = file(b"open sesame", 0o600);
    let whole = whole.to_str().expect("UTF-8");
    let refused: [(&str, Variables<'_>, &str); 4] = [
        (broken, &[], "holds a line break"),
        (
            "/nonexistent/secret",
            &[],
            "/nonexistent/secret: No such file",
        ),
        (whole, &[("CHAT_PASSWORD", "sesame")], "is given twice"),
        ("", &[], "a value is required"),
    ];
    for (path, variables, words) in refused {
        // No server listens there, and the user is not asked.
        let arguments = ["127.0.0.1:1", "Alice", "--password-file", path];
        let outcome = Program::start_with(&arguments, variables).outcome();
        assert_eq!(outcome.code, Some(2), "{outcome:?}");
        assert!(outcome.errors.contains(words), "{outcome:?}");
        assert!(!outcome.errors.contains("sesame"), "{outcome:?}");
    }
}

#[test]
fn a_world_readable_password_file_is_warned_of() {
    let file = file(SECRET.as_bytes(), 0o644);
    let path = file.to_str().expect("UTF-8");
    let server = Server::new();
    let program = Program::start(&[&server.address(), "Alice", "--password-file", path]);
    assert_eq!(refuse_password(&server), SECRET);
    let outcome = program.outcome();
    assert_eq!(
        outcome.errors,
        format!(
            "chat-client: everybody on this machine can read the password file {path}; chmod 600 \
             {path}\nchat-client: the password is wrong, ask the server's operator for the \
             right one\n"
        )
    );
}

#[tokio::test]
async fn a_bot_has_a_password() {
    let file = file(SECRET.as_bytes(), 0o600);
    let path = file.to_str().expect("UTF-8");
    let server = TestServer::start(&["--password-file", path]);
    let address = format!("chat://{}", server.address);
    let connector = |text| Connector::new().password(Password::parse(text).expect("it is one"));
    let error = Connector::new().connect(&address, "bot").await;
    assert!(error.is_err_and(|error| error.is_about_password()));
    let error = connector("guessed").connect(&address, "bot").await;
    assert!(error.is_err_and(|error| error.is_about_password()));
    let connector = connector(SECRET);
    assert!(!format!("{connector:?}").contains("sesame"));
    let session = connector.connect(&address, "bot").await;
    let session = session.expect("the password is right");
    let error = connector.connect(&address, "BOT").await;
    assert!(
        matches!(&error, Err(error @ ConnectError::Refused { .. }) if !error.is_about_password())
    );
    session.leave().await;
}

const PROMPT: &str = "the server asks for a password:";
const AGAIN: &str = "the password is wrong, try again:";

/// A terminal that shows the password prompt.
fn asked() -> (Server, Screen) {
    let server = Server::new();
    let screen = Screen::start(&[&server.address(), "Alice"]);
    assert_eq!(refuse_password(&server), "");
    screen.shows(PROMPT);
    (server, screen)
}

#[test]
fn a_terminal_asks_without_echo() {
    let (server, mut screen) = asked();
    screen.type_keys("wrong sesame\r");
    assert_eq!(refuse_password(&server), "wrong sesame");
    screen.shows(&format!("{PROMPT}\n{AGAIN}"));
    // Line editing keys work without echo.
    screen.type_keys("forgotten\x15open sesame x\x7fé\r");
    let (mut peer, password) = accept(&server);
    assert_eq!(password, SECRET);
    peer.members(&["Alice"]);
    let joined = "* you are Alice, nobody else is here; /help shows the commands";
    screen.shows_log(joined, ">");
    // Now the composer has the terminal, with echo.
    screen.type_keys("seen");
    screen.shows_log(joined, "> seen");
    screen.type_keys("\r");
    assert_eq!(peer.accept_chat(), "seen");
    // The password is not in the history.
    screen.type_keys("\x1b[A\x1b[A\x1b[A\r");
    assert_eq!(peer.accept_chat(), "seen");
    screen.type_keys("/quit\r");
    peer.leave();
    screen.ends_with("code 0, terminal as before");
    assert!(!screen.written().contains("sesame"));
}

/// CHAT-ADM-7.
#[test]
fn a_terminal_gives_up_after_three_wrong_ones() {
    let (server, mut screen) = asked();
    let mut shown = PROMPT.to_owned();
    for guess in ["one", "two", "three"] {
        // Keys typed before the second prompt are not taken for a password.
        screen.ends_with(&shown);
        screen.type_keys(&format!("{guess}\r"));
        assert_eq!(refuse_password(&server), guess);
        shown += "\n";
        shown += AGAIN;
    }
    screen.shows(&format!(
        "{PROMPT}\n{AGAIN}\n{AGAIN}\nchat-client: the password is wrong, ask the server's operator \
         for the right one\ncode 4, terminal as before"
    ));
}

#[test]
fn every_way_out_of_the_prompt_gives_the_terminal_back() {
    for (keys, code) in [("\x03", 0), ("half\x03", 0), ("\x04", 4), ("\r", 4)] {
        let (_server, mut screen) = asked();
        screen.type_keys(keys);
        screen.ends_with(&format!("\ncode {code}, terminal as before"));
        assert!(!screen.text().contains("half"));
    }
    for name in ["INT", "TERM", "HUP"] {
        let (_server, screen) = asked();
        screen.signal(name);
        screen.ends_with("\ncode 0, terminal as before");
    }
}

/// These keys would leave the terminal without echo.
#[test]
fn the_password_prompt_turns_off_the_stop_and_quit_keys() {
    let (server, mut screen) = asked();
    // Erases the characters that the keys produced.
    screen.type_keys("a\x1a\x1cb\x15open\r");
    assert_eq!(refuse_password(&server), "open");
}

/// With the real server.
#[test]
fn two_members_with_the_password_talk() {
    let file = file(SECRET.as_bytes(), 0o600);
    let path = file.to_str().expect("UTF-8");
    let server = TestServer::start(&["-vv", "--password-file", path]);
    let address = format!("chat://{}", server.address);
    let mut alice = Screen::start(&[&address, "Alice"]);
    alice.shows(PROMPT);
    alice.type_keys("mellon\r");
    alice.shows(&format!("{PROMPT}\n{AGAIN}"));
    alice.type_keys(&format!("{SECRET}\r"));
    alice.log_ends_with("/help shows the commands");
    let arguments = [&*address, "Bob", "--password-file", path];
    let mut bob = Program::start(&arguments);
    bob.write(b"friend\n");
    bob.end_input();
    assert_eq!(bob.outcome().code, Some(0));
    alice.has("Bob: friend");
    alice.type_keys("/quit\r");
    alice.ends_with("code 0, terminal as before");
    let shown = alice.written() + &server.log();
    assert!(shown.contains("PASSWORD_WRONG"));
    assert!(
        !shown.contains(SECRET) && !shown.contains("mellon"),
        "{shown}"
    );
}

/// Waits for the second question. The first one is there again as soon as the full screen
/// is left, and what is typed before the question is dropped.
#[track_caller]
fn asks_again(screen: &Screen) {
    screen.wait_until(|| screen.text().matches(PROMPT).count() == 2);
}

/// What was typed for a server goes there with another name, and to no other server.
#[test]
fn a_password_goes_along_with_nick_and_not_to_another_server() {
    let (server, mut screen) = asked();
    screen.type_keys(&format!("{SECRET}\r"));
    let (mut first, password) = accept(&server);
    assert_eq!(password, SECRET);
    first.members(&["Alice"]);
    screen.has("you are Alice");
    screen.type_keys("/nick Alicia\r");
    let (mut second, password) = accept(&server);
    assert_eq!(password, SECRET);
    second.members(&["Alicia"]);
    screen.status_has("Alicia · 1 here");
    first.leave();

    // The other one asks for a password of its own, and gets what is typed for it.
    let other = Server::new();
    screen.type_keys(&format!("/connect {}\r", other.address()));
    assert_eq!(refuse_password(&other), "");
    asks_again(&screen);
    screen.type_keys("mellon\r");
    let (mut third, password) = accept(&other);
    assert_eq!(password, "mellon");
    third.members(&["Alicia"]);
    second.leave();
    screen.has("you are Alicia");
    screen.type_keys("/quit\r");
    third.leave();
    screen.ends_with("code 0, terminal as before");
    let shown = screen.written();
    assert!(
        !shown.contains(SECRET) && !shown.contains("mellon"),
        "{shown}"
    );
}

/// The operator has changed the password since: the terminal asks for the new one.
#[test]
fn a_password_that_is_wrong_by_now_is_asked_for_again() {
    let (server, mut screen) = asked();
    screen.type_keys("old sesame\r");
    let (mut first, _) = accept(&server);
    first.members(&["Alice"]);
    screen.has("you are Alice");
    screen.type_keys("/nick Alicia\r");
    assert_eq!(refuse_password(&server), "old sesame");
    asks_again(&screen);
    screen.type_keys("new sesame\r");
    let (mut second, password) = accept(&server);
    assert_eq!(password, "new sesame");
    second.members(&["Alicia"]);
    screen.status_has("Alicia · 1 here");
    first.leave();
    assert!(!screen.written().contains("sesame"));
}
