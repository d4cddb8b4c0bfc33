//! Pipe mode: lines in, lines out.

use std::thread;
use std::time::{Duration, Instant};

use chat::wire::{Capability, ErrorCode, Limits};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fake::{FromClient, Peer, Server, ToClient, limits};
use crate::program::{Outcome, Program};

/// A client that has joined.
fn joined(limits: Limits, grants: Option<&[Capability]>) -> (Program, Peer) {
    let server = Server::new();
    let program = Program::start(&[&server.address(), "Alice"]);
    let (peer, _) = server.welcome_with(limits, grants);
    (program, peer)
}

#[track_caller]
fn check(program: Program, code: i32, output: &str, errors: &str) {
    let expected = Outcome {
        code: Some(code),
        output: output.to_owned(),
        errors: errors.to_owned(),
    };
    assert_eq!(program.outcome(), expected);
}

#[test]
fn lines_go_out_and_come_in() {
    let (mut program, mut peer) = joined(limits(), None);
    program.write(b"one\n\ntwo\r\nthr\tee");
    program.end_input();
    assert_eq!(peer.accept_chat(), "one");
    peer.say("Bob", "hello");
    assert_eq!(peer.accept_chat(), "two");
    assert_eq!(peer.accept_chat(), "thr    ee");
    peer.say("Carol", "grüß dich 👋");
    peer.leave();
    check(program, 0, "@Bob: hello\n@Carol: grüß dich 👋\n", "");
}

#[test]
fn leaving_waits_for_the_receipts() {
    let (mut program, mut peer) = joined(limits(), None);
    program.write(b"last words\n");
    program.end_input();
    let chat = peer.chat();
    peer.say("Bob", "not yet");
    // Without the wait, Leave would arrive before the pong.
    peer.ping(7);
    assert!(matches!(peer.receive(), Some(FromClient::Pong(pong)) if pong.token == 7));
    peer.receipt(chat.id);
    peer.leave();
    check(program, 0, "@Bob: not yet\n", "");
}

#[test]
fn without_receipts_leave_is_enough() {
    let (mut program, mut peer) = joined(limits(), Some(&[]));
    program.write(b"a\nb\n");
    program.end_input();
    assert_eq!(peer.chat().text, "a");
    assert_eq!(peer.chat().text, "b");
    peer.leave();
    check(program, 0, "", "");
}

#[test]
fn a_thousand_lines_keep_their_order_whatever_the_rate() {
    // One chat a millisecond: slower than the pipe.
    let limits = Limits {
        chat_burst: 4,
        chat_interval_ms: 1,
        ..limits()
    };
    let (mut program, mut peer) = joined(limits, None);
    let lines: String = (0..1_000)
        .map(|number| format!("line {number}\n"))
        .collect();
    program.write(lines.as_bytes());
    program.end_input();
    let start = Instant::now();
    for number in 0..1_000 {
        assert_eq!(peer.accept_chat(), format!("line {number}"));
    }
    // A faster client would exceed the announced rate.
    assert!(start.elapsed() > Duration::from_millis(900));
    peer.leave();
    check(program, 0, "", "");
}

#[test]
fn a_rate_limited_chat_is_sent_again() {
    let (mut program, mut peer) = joined(limits(), None);
    program.write(b"one\n");
    let chat = peer.chat();
    peer.refuse(chat.id, ErrorCode::RateLimited, 30);
    let again = peer.chat();
    assert_eq!((again.id, &*again.text), (chat.id, "one"));
    peer.refuse(chat.id, ErrorCode::RateLimited, 30);
    assert_eq!(peer.accept_chat(), "one");
    program.write(b"two\n");
    assert_eq!(peer.accept_chat(), "two");
    program.end_input();
    peer.leave();
    check(program, 0, "", "");
}

/// Runs the client with this many lines in a pipe that has ended; the server answers
/// each chat with `answer`. Returns the client's errors.
#[track_caller]
fn undelivered(lines: usize, mut answer: impl FnMut(&mut Peer, u64) + Send + 'static) -> String {
    let (mut program, mut peer) = joined(limits(), None);
    let text: String = (0..lines)
        .map(|number| format!("line {number}\n"))
        .collect();
    let start = Instant::now();
    let serving = thread::spawn(move || {
        loop {
            match peer.receive() {
                Some(FromClient::Chat(chat)) => answer(&mut peer, chat.id),
                Some(FromClient::Leave(_)) => return peer.close(),
                other => panic!("not expected: {other:?}"),
            }
        }
    });
    program.write(text.as_bytes());
    program.end_input();
    serving.join().expect("the server's part");
    let outcome = program.outcome();
    let waited_s = start.elapsed().as_secs_f64();
    // Ten seconds, with tolerance for a busy machine.
    assert!((9.0..14.0).contains(&waited_s), "{waited_s} s");
    assert_eq!((outcome.code, &*outcome.output), (Some(7), ""));
    outcome.errors
}

#[test]
fn the_end_of_the_input_waits_ten_seconds_while_nothing_is_confirmed() {
    let refuse = |retry_after_ms| {
        move |peer: &mut Peer, id| peer.refuse(id, ErrorCode::RateLimited, retry_after_ms)
    };
    let first = "chat-client: lines that may not have arrived: ";
    thread::scope(|scope| {
        // Whatever time to retry the server names, once or repeatedly, and however many
        // lines follow the refused one.
        scope.spawn(|| {
            assert_eq!(
                undelivered(1, refuse(u32::MAX)),
                format!("{first}1 not sent\n")
            )
        });
        scope.spawn(|| assert_eq!(undelivered(1, refuse(300)), format!("{first}1 not sent\n")));
        scope.spawn(|| {
            let errors = undelivered(5_000, refuse(u32::MAX));
            assert!(
                errors.ends_with(" not sent, those that were not read yet\n"),
                "{errors}"
            );
        });
        // A server that sends no receipts.
        scope.spawn(|| {
            let errors = undelivered(5_000, |_, _| {});
            assert!(errors.starts_with(first), "{errors}");
            assert!(errors.contains(" 256 sent but not confirmed"), "{errors}");
        });
    });
}

#[test]
fn refused_lines_have_their_own_code() {
    let (mut program, mut peer) = joined(limits(), None);
    program.write(b"one\ntwo\n");
    program.end_input();
    let chat = peer.chat();
    peer.refuse(chat.id, ErrorCode::TextInvalid, 0);
    assert_eq!(peer.accept_chat(), "two");
    peer.leave();
    check(
        program,
        7,
        "",
        "chat-client: not sent: one - the server does not take this text, write it in another way\n\
         chat-client: lines that may not have arrived: 1 refused\n",
    );
}

#[test]
fn long_lines_become_several_chats() {
    let limits = Limits {
        text_bytes_max: 10,
        frame_bytes_max: 266,
        ..limits()
    };
    let (mut program, mut peer) = joined(limits, None);
    program.write("0123456789aé€€€\n".as_bytes());
    program.end_input();
    for expected in ["0123456789", "aé€€", "€"] {
        assert_eq!(peer.accept_chat(), expected);
    }
    peer.leave();
    check(program, 0, "", "");
}

#[test]
fn the_server_closing_ends_it_well() {
    let (program, mut peer) = joined(limits(), None);
    peer.say("Bob", "last");
    peer.closing("moving house");
    // CHAT-CLOSE-4: the client closes, the server does not have to.
    assert_eq!(peer.receive(), None);
    check(
        program,
        0,
        "@Bob: last\n",
        "chat-client: the server closed (moving house)\n",
    );
}

#[test]
fn lines_cut_off_by_a_closing_server_are_told() {
    let (mut program, mut peer) = joined(limits(), None);
    program.write(b"one\n");
    peer.chat();
    peer.closing("");
    check(
        program,
        7,
        "",
        "chat-client: the server closed\n\
         chat-client: lines that may not have arrived: 1 sent but not confirmed\n",
    );
}

#[test]
fn a_lost_connection_has_its_own_code() {
    let (program, peer) = joined(limits(), None);
    peer.close();
    check(
        program,
        5,
        "",
        "chat-client: the connection is lost: the server closed the connection without a reason; \
         connect again\n",
    );
}

#[test]
fn an_error_that_ends_the_session_has_its_own_code() {
    let (program, mut peer) = joined(limits(), None);
    peer.end(ErrorCode::SlowConsumer.into(), "");
    peer.close();
    check(
        program,
        6,
        "",
        "chat-client: this client read too slowly and the server ended the session, connect \
         again\n",
    );
}

#[test]
fn malformed_frames_close_the_connection() {
    // No length, no envelope, a frame above the bound (CHAT-FRAME-11).
    for junk in [&[0xff; 10][..], &[1, 0x0f], &[0x81, 0x22]] {
        let (program, mut peer) = joined(limits(), None);
        peer.send_bytes(junk);
        assert_eq!(peer.receive(), None);
        let outcome = program.outcome();
        assert_eq!((outcome.code, &*outcome.output), (Some(5), ""), "{junk:?}");
        assert!(
            outcome.errors.contains("the connection is lost"),
            "{outcome:?}"
        );
    }
}

#[test]
fn unknown_messages_are_ignored() {
    let (mut program, mut peer) = joined(limits(), None);
    // An unknown message, an empty envelope, an unknown reason and an unknown code, a
    // second Registered (CHAT-GROW-2, CHAT-GROW-5, CHAT-GROW-8).
    peer.send_bytes(&[3, 0xc2, 0x3e, 0, 0]);
    peer.send(ToClient::Left(chat::wire::Left {
        name: "Bob".to_owned(),
        reason: 77,
    }));
    peer.send(ToClient::Registered(Default::default()));
    peer.send(ToClient::Error(chat::wire::Error {
        code: 999,
        detail: "from the future".to_owned(),
        ..Default::default()
    }));
    peer.say("Bob", "still here");
    program.end_input();
    peer.leave();
    check(
        program,
        0,
        "@Bob: still here\n",
        "chat-client: refused: from the future\n",
    );
}

#[test]
fn received_text_is_sanitized() {
    let (mut program, mut peer) = joined(limits(), None);
    peer.say("Bob", "\x1b]0;title\x07 a\u{202e}b\r\n@Carol: forged");
    peer.say("x: hi\n@Dave", "\u{9b}31m");
    program.end_input();
    peer.leave();
    check(
        program,
        0,
        concat!(
            r"@Bob: \u{1b}]0;title\u{7} a\u{202e}b\u{d}\u{a}@Carol: forged",
            "\n",
            r"@x\u{3a}\u{20}hi\u{a}\u{40}Dave: \u{9b}31m",
            "\n"
        ),
        "",
    );
}

#[test]
fn pings_are_answered() {
    let (mut program, mut peer) = joined(limits(), None);
    for token in [0, 1, u64::MAX] {
        peer.ping(token);
        assert!(matches!(peer.receive(), Some(FromClient::Pong(pong)) if pong.token == token));
    }
    program.end_input();
    peer.leave();
    check(program, 0, "", "");
}

#[test]
fn a_silent_server_is_pinged_and_then_given_up() {
    let limits = Limits {
        keepalive_interval_ms: 100,
        idle_deadline_ms: 300,
        ..limits()
    };
    let (program, mut peer) = joined(limits, None);
    assert!(matches!(peer.receive(), Some(FromClient::Ping(_))));
    assert_eq!(peer.receive(), None);
    check(
        program,
        5,
        "",
        "chat-client: the connection is lost: the server was silent for too long; \
         connect again\n",
    );
}

#[test]
fn listening_goes_on_after_the_input() {
    let server = Server::new();
    let mut program = Program::start(&["--listen", &server.address(), "log"]);
    program.end_input();
    let (mut peer, _) = server.welcome();
    // The pong shows that the client did not leave.
    peer.ping(1);
    assert!(matches!(peer.receive(), Some(FromClient::Pong(_))));
    peer.say("Bob", "anyone?");
    peer.closing("");
    peer.close();
    check(
        program,
        0,
        "@Bob: anyone?\n",
        "chat-client: the server closed\n",
    );
}

#[test]
fn signals_leave() {
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let (program, mut peer) = joined(limits(), None);
        // What it shows tells that it has joined: before that there is nothing to leave.
        peer.say("Bob", "hello");
        program.shows("@Bob: hello");
        let id = Pid::from_raw(program.id().try_into().expect("an id"));
        kill(id, signal).expect("a process");
        peer.leave();
        check(program, 0, "@Bob: hello\n", "");
    }
}

#[test]
fn a_closed_output_ends_quietly() {
    let (server, shell) = (Server::new(), "\"$0\" \"$1\" Alice | head -1");
    let mut child = std::process::Command::new("sh")
        .args(["-c", shell, crate::program::PROGRAM, &server.address()])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("a shell");
    let input = child.stdin.take();
    let (mut peer, _) = server.welcome();
    peer.say("Bob", "one");
    // The first line without a reader makes the client leave; head decides when that
    // is.
    let left = loop {
        peer.say("Bob", "more");
        peer.ping(1);
        match peer.receive() {
            Some(FromClient::Pong(_)) => {}
            other => break other,
        }
    };
    assert_eq!(left, Some(FromClient::Leave(Default::default())));
    peer.close();
    drop(input);
    let outcome = child.wait_with_output().expect("a child");
    assert_eq!(String::from_utf8_lossy(&outcome.stdout), "@Bob: one\n");
    assert_eq!(String::from_utf8_lossy(&outcome.stderr), "");
}

/// Also in a silent room.
#[test]
fn a_closed_output_ends_a_listening_client() {
    let (_, errors) = in_shell("\"$0\" --listen \"$1\" Alice | head -1", |mut peer| {
        peer.say("Bob", "one");
        let left = peer.receive();
        assert_eq!(left, Some(FromClient::Leave(Default::default())));
        peer.close();
    });
    assert_eq!(errors, "");
}

/// Runs `script` in a shell, with the client as `$0` and the address as `$1`; `serve`
/// is the server's part. Returns the exit code and the errors.
fn in_shell(script: &str, serve: impl FnOnce(Peer)) -> (Option<i32>, String) {
    let server = Server::new();
    let child = std::process::Command::new("sh")
        .args(["-c", script, crate::program::PROGRAM, &server.address()])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("a shell");
    let (peer, _) = server.welcome();
    serve(peer);
    let outcome = child.wait_with_output().expect("a child");
    let errors = String::from_utf8_lossy(&outcome.stderr).into_owned();
    (outcome.status.code(), errors)
}

#[test]
fn an_output_that_cannot_be_written_is_a_failure() {
    // While it listens, and at the very end.
    for option in ["--listen", ""] {
        let script = format!("exec \"$0\" {option} \"$1\" Alice >/dev/full");
        let (code, errors) = in_shell(&script, |mut peer| {
            peer.say("Bob", "to be kept");
            peer.leave();
        });
        assert_eq!(code, Some(1), "{option}");
        assert!(
            errors.starts_with("chat-client: cannot write the output: "),
            "{errors}"
        );
    }
}

#[test]
fn an_output_beyond_the_file_size_limit_is_a_failure() {
    let file = crate::support::file(b"", 0o600);
    let path = file.to_str().expect("plain");
    let script = format!("ulimit -f 1; exec \"$0\" --listen \"$1\" Alice >{path}");
    let (code, errors) = in_shell(&script, |mut peer| {
        for _ in 0..20 {
            peer.say("Bob", &"x".repeat(100));
        }
        peer.leave();
    });
    assert_eq!(code, Some(1), "{errors}");
    assert!(
        errors.starts_with("chat-client: cannot write the output: "),
        "{errors}"
    );
}

#[test]
fn an_input_that_cannot_be_read_is_a_failure() {
    let (code, errors) = in_shell("exec \"$0\" \"$1\" Alice </", Peer::leave);
    assert_eq!(code, Some(1));
    assert!(
        errors.starts_with("chat-client: cannot read the input: "),
        "{errors}"
    );
}

#[test]
fn lines_that_a_closed_output_cut_off_are_told() {
    // The exit code leaves the pipeline on the error output.
    let script = "(yes | \"$0\" \"$1\" Alice; echo \"code $?\" >&2) | head -1";
    let (_, errors) = in_shell(script, |mut peer| {
        // Without receipts, lines are always waiting.
        while matches!(peer.receive(), Some(FromClient::Chat(_))) {
            peer.say("Bob", "more");
        }
        peer.close();
    });
    assert!(
        errors.starts_with("chat-client: lines that may not have arrived: "),
        "{errors}"
    );
    assert!(errors.ends_with("\ncode 7\n"), "{errors}");
}

#[test]
fn no_limit_that_is_announced_makes_a_line_too_long() {
    let limits = Limits {
        text_bytes_max: u32::MAX,
        frame_bytes_max: u32::MAX,
        ..limits()
    };
    let (mut program, mut peer) = joined(limits, None);
    program.write(&[b'x'; 3 << 20]);
    program.end_input();
    for _ in 0..3 {
        assert_eq!(peer.accept_chat().len(), 1 << 20);
    }
    peer.leave();
    check(program, 0, "", "");
}

/// Too few descriptors are reported in a sentence, or at least with the exit code.
#[test]
fn a_lack_of_descriptors_is_said_in_a_sentence() {
    for descriptors in 4..10 {
        let script = format!("ulimit -n {descriptors}; exec \"$0\" chat://127.0.0.1:1 Alice");
        let outcome = std::process::Command::new("sh")
            .args(["-c", &script, crate::program::PROGRAM])
            .stdin(std::process::Stdio::null())
            .output()
            .expect("a shell");
        let errors = String::from_utf8_lossy(&outcome.stderr);
        assert!(
            matches!(outcome.status.code(), Some(1 | 3)),
            "{descriptors}: {errors}"
        );
        assert!(
            errors.starts_with("chat-client: "),
            "{descriptors}: {errors}"
        );
        assert_eq!(errors.lines().count(), 1, "{descriptors}: {errors}");
    }
}
