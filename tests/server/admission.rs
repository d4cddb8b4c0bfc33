//! Access policy, over sockets: the password, the name list, and wrong configurations.
//! No output shows a password.

use std::process::Command;

use chat::wire::ErrorCode;
use tempfile::TempPath;

use crate::support::{
    Peer, TestServer, command, file, frames, output, register, register_with_password,
};

const SECRET: &str = "open sesame é";

fn path(file: &TempPath) -> &str {
    file.to_str().expect("a path in UTF-8")
}

fn join(server: &TestServer, name: &str, password: &str) -> Peer {
    let mut peer = Peer::connect(server);
    peer.send(&register_with_password(name, password));
    peer.registered();
    peer
}

fn is_rejected(server: &TestServer, name: &str, password: &str, code: ErrorCode) {
    let mut peer = Peer::connect(server);
    peer.send(&register_with_password(name, password));
    let error = peer.is_ended(code);
    assert!(!error.detail.contains(SECRET), "CHAT-ADM-5");
    assert!(
        password.is_empty() || !error.detail.contains(password),
        "CHAT-ADM-5"
    );
}

/// CHAT-ADM-1, CHAT-ADM-2, CHAT-ADM-5.
#[test]
fn only_clients_with_the_password_can_register() {
    let file = file(format!("{SECRET}\n").as_bytes(), 0o600);
    let server = TestServer::start(&["-vv", "--password-file", path(&file)]);
    let mut alice = join(&server, "Alice", SECRET);
    let shorter = SECRET.trim_end_matches('é');
    for name in ["Bob", "alice", "server", "x y", ""] {
        for password in ["", shorter, &format!("{SECRET}\n"), "guessed-at", "\0"] {
            is_rejected(&server, name, password, ErrorCode::PasswordWrong);
        }
    }
    is_rejected(&server, "alice", SECRET, ErrorCode::NameInUse);
    let mut bob = join(&server, "Bob", SECRET);
    bob.say("hello");
    alice.hears("hello");
    server.wait_for_log("PASSWORD_WRONG");
    // Even the most verbose log holds no password, right or wrong.
    drop(bob);
    server.wait_for_log("Bob");
    let log = server.log();
    assert!(log.contains("not for everybody"), "{log}");
    for password in [SECRET, shorter.trim(), "guessed-at"] {
        assert!(!log.contains(password), "{log}");
    }
    assert!(!log.contains("everybody on this machine"), "{log}");
}

/// CHAT-ADM-1, CHAT-FRAME-7: byte by byte.
#[test]
fn a_password_may_arrive_in_pieces() {
    let mut command = command(&[]);
    command.env("CHAT_PASSWORD", SECRET);
    let server = TestServer::run(command);
    let mut peer = Peer::connect(&server);
    for byte in frames([&register_with_password("Alice", SECRET)]) {
        peer.send_bytes(&[byte]);
    }
    peer.registered();
    let mut peer = Peer::connect(&server);
    peer.send(&register("Bob", &[]));
    peer.is_ended(ErrorCode::PasswordWrong);
    assert!(!server.log().contains(SECRET));
}

/// CHAT-ADM-3.
#[test]
fn a_server_without_a_password_ignores_one() {
    let server = TestServer::start(&[]);
    join(&server, "Alice", SECRET);
    join(&server, "Bob", &"x".repeat(900));
}

/// CHAT-ADM-4.
#[test]
fn only_names_on_the_list_can_register() {
    let list = file(b"# the class\nAlice\n\n bob # left row\r\n", 0o644);
    let mut command = command(&[]);
    command.env("CHAT_ALLOW", path(&list));
    let server = TestServer::run(command);
    let mut alice = join(&server, "aLICE", "");
    is_rejected(&server, "Alice", "", ErrorCode::NameInUse);
    is_rejected(&server, "Carol", "", ErrorCode::NameNotAllowed);
    is_rejected(&server, "bob1", "", ErrorCode::NameNotAllowed);
    // The server checks the rules for names first.
    is_rejected(&server, "server", "", ErrorCode::NameReserved);
    is_rejected(&server, "-", "", ErrorCode::NameInvalid);
    let mut bob = join(&server, "BOB", "");
    bob.say("hello");
    assert_eq!(alice.hears("hello").sender, "BOB");
}

/// Checks that the server does not start, with exit code 2 and a sentence that holds
/// `words` and no password.
#[track_caller]
fn does_not_start(command: Command, words: &str) {
    let output = output(command);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let unwrapped = stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(unwrapped.contains(words), "{words}: {stderr}");
    assert!(!stderr.contains("sesame"), "{stderr}");
    assert_eq!(output.stdout, b"");
}

#[test]
fn a_server_with_a_wrong_password_configuration_does_not_start() {
    let with_file = |content: &[u8], words: &str| {
        let file = file(content, 0o600);
        let words = words.replace("FILE", path(&file));
        does_not_start(command(&["--password-file", path(&file)]), &words);
    };
    with_file(b"", "the password in the file FILE is empty");
    with_file(b"\n", "the password in the file FILE is empty");
    with_file(
        b"open sesame\n\n",
        "FILE holds a line break or another control",
    );
    with_file(
        b"open\tsesame",
        "FILE holds a line break or another control",
    );
    with_file(&[b'x'; 257], "FILE is longer than 256 bytes");
    with_file(&[b'x'; 100_000], "FILE is longer than 256 bytes");
    with_file(b"sesame\xff", "FILE is not UTF-8");
    with_file(
        b"\xef\xbb\xbfopen sesame\n",
        "FILE begins with a byte order mark",
    );
    does_not_start(
        command(&["--password-file", "/nonexistent/secret"]),
        "cannot read the password file /nonexistent/secret: No such file",
    );
    does_not_start(
        command(&["--password-file", "/"]),
        "cannot read the password file /: ",
    );
    does_not_start(command(&["--password-file", ""]), "a value is required");
    does_not_start(
        command(&["--password", "open sesame"]),
        "unexpected argument",
    );

    let with_variable = |value: &str, words: &str| {
        let mut command = command(&[]);
        command.env("CHAT_PASSWORD", value);
        does_not_start(command, words);
    };
    with_variable("", "the password in CHAT_PASSWORD is empty");
    with_variable("open sesame\n", "CHAT_PASSWORD holds a line break");
    with_variable(&"x".repeat(257), "CHAT_PASSWORD is longer than 256 bytes");

    let file = file(b"open sesame", 0o600);
    for by in ["option", "variable"] {
        let mut command = match by {
            "option" => command(&["--password-file", path(&file)]),
            _ => command(&[]),
        };
        command.env("CHAT_PASSWORD", "open sesame");
        if by == "variable" {
            command.env("CHAT_PASSWORD_FILE", path(&file));
        }
        does_not_start(command, "the password is given twice");
    }
}

#[test]
fn a_server_with_a_wrong_name_list_does_not_start() {
    let with_list = |content: &[u8], words: &str| {
        let file = file(content, 0o644);
        let words = words.replace("FILE", path(&file));
        does_not_start(command(&["--allow", path(&file)]), &words);
    };
    with_list(b"Alice\n\nAlice and Bob\n", "FILE:3: this is no name");
    with_list(b"# nobody\nserver\n", "FILE:2: nobody may have this name");
    for line in ["Alice\n", "# the class\nAlice\n"] {
        let content = format!("\u{feff}{line}");
        with_list(
            content.as_bytes(),
            "FILE:1: the file begins with a byte order mark",
        );
    }
    with_list(b"# nobody\n\n", "FILE has no name, so nobody could join");
    with_list(b"\xff\n", "cannot read the list of names FILE");
    with_list(&b"# long\n".repeat(700_000), "longer than 4194304 bytes");
    does_not_start(
        command(&["--allow", "/nonexistent/names"]),
        "cannot read the list of names /nonexistent/names: No such file",
    );
}

#[test]
fn a_password_file_that_all_users_can_read_is_warned_of() {
    for (mode, is_exposed) in [(0o644, true), (0o604, true), (0o640, false), (0o400, false)] {
        let file = file(SECRET.as_bytes(), mode);
        let server = TestServer::start(&["--password-file", path(&file)]);
        server.wait_for_log("not for everybody");
        let log = server.log();
        let is_warned = log.contains("WARN everybody on this machine can read the password file");
        assert_eq!(is_warned, is_exposed, "{mode:o}: {log}");
        assert!(!log.contains(SECRET));
    }
}
