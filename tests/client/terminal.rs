//! Terminal mode: the screen while members type and chat.

use chat::wire::{Capability, ErrorCode, Joined, Left, LeftReason, Limits};

use crate::fake::{FromClient, Peer, Server, ToClient, limits};
use crate::screen::Screen;

const GREETING: &str = "* you are Alice, here with you: Bob; /help shows the commands\n";

/// Alice in the room with Bob, at her prompt.
fn joined() -> (Screen, Peer) {
    joined_with(limits())
}

fn joined_with(limits: Limits) -> (Screen, Peer) {
    let server = Server::new();
    let screen = Screen::start(&[&server.address(), "Alice"]);
    let (mut peer, register) = server.welcome_with(limits, None);
    let asked: Vec<Capability> = register.capabilities().collect();
    let expected = [
        Capability::Receipts,
        Capability::Keepalive,
        Capability::Presence,
    ];
    assert_eq!(asked, expected);
    peer.members(&["Alice", "Bob"]);
    screen.shows(&format!("{GREETING}>"));
    (screen, peer)
}

fn joined_and_left(peer: &mut Peer, name: &str, reason: LeftReason) {
    peer.send(ToClient::Joined(Joined {
        name: name.to_owned(),
    }));
    peer.send(ToClient::Left(Left {
        name: name.to_owned(),
        reason: reason.into(),
    }));
}

#[test]
fn a_half_typed_line_survives_incoming_chats() {
    let (mut screen, mut peer) = joined();
    let mut expected = GREETING.to_owned();
    let mut typed = String::new();
    for number in 0..15 {
        typed.push_str("ab");
        screen.type_keys("ab");
        screen.ends_with(&format!("> {typed}"));
        peer.say("Bob", &format!("line {number}"));
        expected += &format!("@Bob: line {number}\n");
        screen.shows(&format!("{expected}> {typed}"));
    }
    // The cursor has not moved, so editing continues.
    assert_eq!(screen.cursor(), (16, 2 + 30));
    screen.type_keys("\x7f!\r");
    let said = format!("{}!", &typed[..29]);
    assert_eq!(peer.accept_chat(), said);
    peer.say("Bob", "ok");
    // The user's own line is shown once, where it was typed.
    screen.shows(&format!("{expected}> {said}\n@Bob: ok\n>"));
}

#[test]
fn a_line_longer_than_the_screen_survives_too() {
    let (mut screen, mut peer) = joined();
    let typed = "0123456789".repeat(10);
    screen.type_keys(&typed);
    screen.ends_with("6789");
    peer.say("Bob", &"long ".repeat(30));
    peer.say("Bob", "é日本👍");
    screen.ends_with(&format!("@Bob: é日本👍\n> {typed}"));
    screen.type_keys("\r");
    assert_eq!(peer.accept_chat(), typed);
}

#[test]
fn notices_are_not_messages() {
    let (screen, mut peer) = joined();
    joined_and_left(&mut peer, "Carol", LeftReason::Leave);
    joined_and_left(&mut peer, "Dave", LeftReason::ConnectionLost);
    peer.say("Bob", "* Eve joined");
    screen.shows(&format!(
        "{GREETING}* Carol joined\n* Carol left\n* Dave joined\n* Dave left (connection lost)\n\
         @Bob: * Eve joined\n>"
    ));
}

#[test]
fn commands() {
    let (mut screen, mut peer) = joined();
    peer.send(ToClient::Joined(Joined {
        name: "carol".to_owned(),
    }));
    screen.ends_with("* carol joined\n>");
    screen.type_keys("/who\r");
    screen.ends_with("> /who\n* here with you: Bob, carol\n>");
    screen.type_keys("/help\r");
    screen.ends_with(
        "> /help\n* /who shows who is here\n* /quit leaves, and so do Ctrl-D and Ctrl-C\n\
         * //word sends a line that begins with /word\n\
         * everything else, and a paste of several lines, is sent to all who are here\n>",
    );
    screen.type_keys("/nick Bob\r");
    screen.ends_with("* unknown command /nick Bob; /help shows the commands, // sends a slash\n>");
    screen.type_keys("//shrug\r");
    assert_eq!(peer.accept_chat(), "/shrug");
    screen.type_keys("\x1b[A\r");
    // The history holds the line as it was typed.
    assert_eq!(peer.accept_chat(), "/shrug");
}

#[test]
fn refused_lines_are_told() {
    let (mut screen, mut peer) = joined();
    screen.type_keys("rude\r");
    let chat = peer.chat();
    peer.refuse(chat.id, ErrorCode::TextInvalid, 0);
    screen.ends_with(
        "> rude\n* not sent: rude - the server does not take this text, write it in another way\n>",
    );
    screen.type_keys("later\r");
    let chat = peer.chat();
    peer.refuse(chat.id, ErrorCode::Unspecified, 0);
    screen.ends_with("> later\n* not sent: later - as the server puts it\n>");
    // No chat is refused.
    peer.refuse(0, ErrorCode::Unspecified, 0);
    screen.ends_with("* refused: as the server puts it\n>");
    screen.type_keys("/quit\r");
    peer.leave();
    check_end(
        &screen,
        "chat-client: lines that may not have arrived: 2 refused",
        7,
    );
}

/// Checks the screen after a normal end.
#[track_caller]
fn check_end(screen: &Screen, last: &str, code: i32) {
    screen.ends_with(&format!("{last}\ncode {code}, terminal as before"));
}

#[test]
fn quit_ctrl_d_and_ctrl_c_leave() {
    for (keys, line) in [
        ("/quit\r", "> /quit"),
        ("\x04", ">"),
        ("\x03", ">"),
        ("half\x03", "> half"),
    ] {
        let (mut screen, peer) = joined();
        screen.type_keys(keys);
        peer.leave();
        check_end(&screen, line, 0);
    }
}

#[test]
fn ctrl_z_stops_and_fg_goes_on() {
    let server = Server::new();
    let mut screen = Screen::start_as_job(&[&server.address(), "Alice"]);
    let (mut peer, _) = server.welcome();
    peer.members(&["Alice", "Bob"]);
    screen.shows(&format!("{GREETING}>"));
    let mut typed = String::new();
    // Repeated, since the stop races with what follows it.
    for number in 0..10 {
        typed.push_str("ab");
        screen.type_keys("ab");
        screen.ends_with(&format!("\n> {typed}"));
        screen.type_keys("\x1a");
        screen.has_times("stopped", number + 1);
        // The prompt and the line are back, and the editor has the keys.
        screen.ends_with(&format!("\n> {typed}"));
    }
    screen.type_keys("\x7f!\r");
    assert_eq!(peer.accept_chat(), format!("{}!", &typed[..19]));
    screen.type_keys("\x04");
    peer.leave();
    screen.ends_with("\ncode 0");
}

#[test]
fn the_server_closing_ends_a_pending_prompt() {
    let (mut screen, mut peer) = joined();
    screen.type_keys("half ty");
    screen.ends_with("> half ty");
    for number in 0..5 {
        peer.say("Bob", &format!("bye {number}"));
    }
    peer.closing("moving house");
    assert_eq!(peer.receive(), None);
    // No earlier chat is missing.
    screen.shows(&format!(
        "{GREETING}@Bob: bye 0\n@Bob: bye 1\n@Bob: bye 2\n@Bob: bye 3\n@Bob: bye 4\n> half ty\n\
         chat-client: the server closed (moving house)\ncode 0, terminal as before"
    ));
}

#[test]
fn a_lost_connection_ends_a_pending_prompt() {
    let (screen, peer) = joined();
    peer.close();
    check_end(&screen, "without a reason; connect again", 5);
}

#[test]
fn a_paste_loses_nothing() {
    // 300 lines, from terminals with and without bracketed paste, to a server with a
    // rate limit.
    for (before, after) in [("\x1b[200~", "\x1b[201~\r"), ("", "\r")] {
        let rate = Limits {
            chat_burst: 10,
            chat_interval_ms: 2,
            ..limits()
        };
        let (mut screen, mut peer) = joined_with(rate);
        let lines: Vec<String> = (0..300).map(|number| format!("pasted {number}")).collect();
        screen.type_keys(&format!("{before}{}{after}", lines.join("\r")));
        for (number, line) in lines.iter().enumerate() {
            assert_eq!(&peer.accept_chat(), line);
            if number % 50 == 0 {
                peer.say("Bob", &format!("at {number}"));
            }
        }
        peer.say("Bob", "done");
        screen.ends_with("@Bob: done\n>");
        screen.type_keys("/quit\r");
        peer.leave();
        check_end(&screen, "> /quit", 0);
    }
}

#[test]
fn a_paste_of_several_lines_holds_no_commands() {
    let (mut screen, mut peer) = joined();
    let lines = ["// a comment", "/etc/passwd", "/quit", "after"];
    // With and without a line break at the end, and with a command there.
    for pasted in [&lines[..], &lines[..3]] {
        for end in ["", "\r"] {
            let pasted_text = pasted.join("\r");
            screen.type_keys(&format!("\x1b[200~{pasted_text}{end}\x1b[201~\r"));
            for line in pasted {
                assert_eq!(&peer.accept_chat(), line);
            }
        }
    }
    // A single pasted line is treated like a typed one.
    screen.type_keys("\x1b[200~//one\r\x1b[201~\r");
    assert_eq!(peer.accept_chat(), "/one");
    screen.type_keys("\x1b[200~/quit\r\x1b[201~\r");
    peer.leave();
    screen.ends_with("code 0, terminal as before");
}

/// The numbers in "… 3 not sent, 4 sent but not confirmed".
fn sum_of_numbers(text: &str) -> usize {
    text.split(|character: char| !character.is_ascii_digit())
        .filter_map(|digits| digits.parse::<usize>().ok())
        .sum()
}

#[test]
fn lines_cut_off_by_a_closing_server_are_counted() {
    let rate = Limits {
        chat_burst: 2,
        chat_interval_ms: 60_000,
        ..limits()
    };
    let (mut screen, mut peer) = joined_with(rate);
    let lines: Vec<String> = (0..300).map(|number| format!("pasted {number}")).collect();
    screen.type_keys(&format!("\x1b[200~{}\x1b[201~\r", lines.join("\r")));
    assert_eq!(peer.accept_chat(), "pasted 0");
    // So much output that the session is over long before its end is shown.
    for number in 0..2_000 {
        peer.say("Bob", &format!("message {number}"));
    }
    peer.closing("");
    screen.ends_with("code 7, terminal as before");
    let text = screen.text();
    let (_, told) = text.rsplit_once("arrived: ").expect("a count");
    let (told, _) = told.split_once("\ncode").expect("a code");
    assert_eq!(sum_of_numbers(told), 299, "{text}");
}

#[test]
fn a_line_that_the_limits_forbid_is_told() {
    let none = Limits {
        text_bytes_max: 0,
        ..limits()
    };
    let (mut screen, peer) = joined_with(none);
    screen.type_keys("x\r");
    screen.ends_with(
        "> x\n* not sent: a text of 1 bytes is longer than the 0 bytes the server takes\n>",
    );
    screen.type_keys("/quit\r");
    peer.leave();
    check_end(
        &screen,
        "chat-client: lines that may not have arrived: 1 not sent",
        7,
    );
}

#[test]
fn messages_between_prompts_are_neither_lost_nor_mixed() {
    let (mut screen, mut peer) = joined();
    // Each Enter ends a prompt while chats arrive.
    const LINES: usize = 200;
    let mut said = 0;
    for _ in 0..LINES {
        screen.type_keys("x\r");
        for _ in 0..10 {
            peer.say("Bob", &format!("message {said}"));
            said += 1;
        }
    }
    for _ in 0..LINES {
        assert_eq!(peer.accept_chat(), "x");
    }
    peer.say("Bob", &format!("message {said}"));
    said += 1;
    screen.ends_with(&format!("@Bob: message {}\n>", said - 1));
    let history = screen.whole();
    let messages: Vec<&str> = history.lines().filter(|line| line.contains('@')).collect();
    let expected: Vec<String> = (0..said).map(|n| format!("@Bob: message {n}")).collect();
    assert_eq!(messages, expected);
    assert_eq!(history.lines().filter(|line| *line == "> x").count(), LINES);
}

#[test]
fn received_text_is_sanitized() {
    let (screen, mut peer) = joined();
    peer.say("Bob", "\x1b[2J\x1b[H\u{202e}\n@Carol: forged");
    peer.say("a\x1b[1m", "x");
    peer.closing("\x1b[31m");
    peer.close();
    screen.shows(&format!(
        "{GREETING}@Bob: \\u{{1b}}[2J\\u{{1b}}[H\\u{{202e}}\\u{{a}}@Carol: forged\n\
         @a\\u{{1b}}\\u{{5b}}1m: x\n>\nchat-client: the server closed (\\u{{1b}}[31m)\n\
         code 0, terminal as before"
    ));
}

/// Bob's text imitates Carol: a terminal that wrapped it would begin a row with her
/// name.
fn forged(columns: u16) -> String {
    format!("x{}@Carol: yes", " ".repeat(usize::from(columns) - 7))
}

/// No row begins with Carol's name, and Bob's text is complete.
#[track_caller]
fn check_no_forgery(screen: &Screen) {
    let history = screen.whole();
    assert!(
        !history.lines().any(|row| row.starts_with("@Carol")),
        "{history}"
    );
    assert!(
        history
            .lines()
            .any(|row| row.starts_with("  ") && row.contains("@Carol: yes"))
    );
}

#[test]
fn no_text_can_forge_a_row_of_another_member() {
    for columns in [20, 33, 80, 132] {
        let server = Server::new();
        let screen = Screen::start_at(&[&server.address(), "Alice"], columns);
        let (mut peer, _) = server.welcome();
        peer.members(&["Alice"]);
        peer.say("Bob", &forged(columns));
        // After wide, combining and joined characters.
        let wide = "日e\u{301}👩\u{200d}🔬";
        for padding in usize::from(columns) - 18..=usize::from(columns) - 8 {
            peer.say("Bob", &format!("{wide}{}@Carol: yes", " ".repeat(padding)));
        }
        peer.say("Bob", "done");
        screen.ends_with("@Bob: done\n>");
        check_no_forgery(&screen);
    }
}

#[test]
fn lines_wrap_at_the_new_width_of_a_resized_terminal() {
    let (mut screen, mut peer) = joined();
    for columns in [40, 30, 70] {
        screen.resize(columns);
        peer.say("Bob", &forged(columns));
        peer.say("Bob", &format!("at {columns}"));
        screen.ends_with(&format!("@Bob: at {columns}\n>"));
        check_no_forgery(&screen);
    }
}

#[test]
fn colours_obey_no_color_and_term() {
    for (no_color, is_bold) in [("", true), ("1", false)] {
        let server = Server::new();
        let screen = Screen::start_with(&[&server.address(), "Alice"], no_color, "xterm");
        let (mut peer, _) = server.welcome();
        peer.members(&["Alice"]);
        peer.say("Bob", "hi");
        screen.shows("* you are Alice, nobody else is here; /help shows the commands\n@Bob: hi\n>");
        assert_eq!(screen.is_bold(1, 1), is_bold);
        assert!(!screen.is_bold(1, 6));
    }
}

#[test]
fn a_dumb_terminal_is_used_like_a_pipe() {
    let server = Server::new();
    let mut screen = Screen::start_with(&[&server.address(), "Alice"], "1", "dumb");
    let (mut peer, register) = server.welcome();
    assert!(
        register
            .capabilities()
            .all(|asked| asked != Capability::Presence)
    );
    peer.say("Bob", "hi");
    screen.ends_with("@Bob: hi");
    screen.type_keys("hello\n");
    assert_eq!(peer.accept_chat(), "hello");
    screen.type_keys("\x04");
    assert_eq!(peer.receive(), Some(FromClient::Leave(Default::default())));
    peer.close();
    screen.ends_with("code 0, terminal as before");
}
