//! Full screen: what members see and type while others chat.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant};

use chat::wire::{Capability, ErrorCode, Joined, Left, LeftReason, Limits};

use crate::fake::{FromClient, LOOK_MS, Peer, Server, ToClient, limits};
use crate::screen::{Screen, Setup};

const GREETING: &str = "* you are Alice, here with you: Bob; /help shows the commands";

/// Alice in the room with Bob, with an empty draft.
fn joined() -> (Screen, Peer) {
    joined_with(limits())
}

fn joined_with(limits: Limits) -> (Screen, Peer) {
    joined_in(&Setup::default(), limits)
}

fn joined_in(setup: &Setup, limits: Limits) -> (Screen, Peer) {
    let server = Server::new();
    let screen = Screen::start_in(&[&server.address(), "Alice"], setup);
    let (mut peer, register) = server.welcome_with(limits, None);
    let asked: Vec<Capability> = register.capabilities().collect();
    let expected = [
        Capability::Receipts,
        Capability::Keepalive,
        Capability::Direct,
        Capability::Files,
        Capability::Presence,
        Capability::History,
        Capability::Follow,
    ];
    assert_eq!(asked, expected);
    peer.members(&["Alice", "Bob"]);
    screen.status_has("2 here");
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

/// Checks the screen after a normal end.
#[track_caller]
fn check_end(screen: &Screen, last: &str, code: i32) {
    screen.ends_with(&format!("{last}code {code}, terminal as before"));
}

#[test]
fn a_half_typed_line_survives_incoming_chats() {
    let (mut screen, mut peer) = joined();
    let mut expected = GREETING.to_owned();
    let mut typed = String::new();
    for number in 0..15 {
        typed.push_str("ab");
        screen.type_keys("ab");
        screen.drafts(&format!("> {typed}"));
        peer.say("Bob", &format!("line {number}"));
        expected += &format!("\nBob: line {number}");
        screen.shows_log(&expected, &format!("> {typed}"));
    }
    // The cursor has not moved, so editing continues.
    screen.type_keys("\x7f!\r");
    let said = format!("{}!", &typed[..29]);
    assert_eq!(peer.accept_chat(), said);
    peer.say("Bob", "ok");
    screen.shows_log(&format!("{expected}\nAlice: {said}\nBob: ok"), ">");
}

#[test]
fn a_line_longer_than_the_screen_survives_too() {
    let (mut screen, mut peer) = joined();
    let typed = "0123456789".repeat(10);
    screen.type_keys(&typed);
    let draft = format!("> {}\n  {}", &typed[..77], &typed[77..]);
    screen.drafts(&draft);
    peer.say("Bob", &"long ".repeat(30));
    peer.say("Bob", "é日本👍");
    screen.log_ends_with("\nBob: é日本👍");
    screen.drafts(&draft);
    screen.type_keys("\r");
    assert_eq!(peer.accept_chat(), typed);
}

#[test]
fn notices_are_not_messages() {
    let (screen, mut peer) = joined();
    joined_and_left(&mut peer, "Carol", LeftReason::Leave);
    peer.say("Bob", "* Eve joined");
    joined_and_left(&mut peer, "Dave", LeftReason::ConnectionLost);
    peer.say("Bob", "/me waves");
    joined_and_left(&mut peer, "Dave", LeftReason::Leave);
    joined_and_left(&mut peer, "Eve", LeftReason::Leave);
    screen.shows_log(
        &format!(
            "{GREETING}\n* Carol joined, Carol left\nBob: * Eve joined\n\
             * Dave joined, Dave left (connection lost)\nBob waves\n* 2 joined, 2 left"
        ),
        ">",
    );
}

#[test]
fn commands() {
    let (mut screen, mut peer) = joined();
    peer.send(ToClient::Joined(Joined {
        name: "carol".to_owned(),
    }));
    screen.log_ends_with("* carol joined");
    screen.type_keys("/who\r");
    screen.log_ends_with("\n* here with you: Bob, carol");
    screen.type_keys("/help\r");
    screen.log_ends_with(
        "\n* //word sends a line that begins with /word, ##word one that begins with #word",
    );
    screen.type_keys("/clear\r\x1bOP");
    screen.log_ends_with(
        "\n* //word sends a line that begins with /word, ##word one that begins with #word",
    );
    screen.wait_until(|| screen.log().starts_with("* /msg NAME TEXT says"));
    screen.type_keys("/nikc Bob\r");
    screen.log_ends_with(
        "* unknown command /nikc: did you mean /nick? A second slash sends the line:\n  //nikc",
    );
    screen.type_keys("//shrug\r");
    assert_eq!(peer.accept_chat(), "/shrug");
    screen.type_keys("\x1b[A\r");
    // The history holds the line as it was typed.
    assert_eq!(peer.accept_chat(), "/shrug");
    screen.type_keys("/m\t waves\r");
    assert_eq!(peer.accept_chat(), "/me waves");
    screen.log_ends_with("\nAlice waves");
    screen.type_keys("c\t");
    screen.drafts("> carol:");
    screen.type_keys("hi\r");
    assert_eq!(peer.accept_chat(), "carol: hi");
    screen.log_ends_with("\nAlice: carol: hi");
    screen.type_keys("/ignore bob\r");
    screen.log_ends_with("* you ignore bob from now on; the same again ends it");
    peer.say("Bob", "unheard");
    peer.say("carol", "see https://a.example/b?c=d.");
    screen.log_ends_with("ends it\ncarol: see https://a.example/b?c=d.");
    screen.type_keys("/url\r");
    screen.log_ends_with("\n* copied: https://a.example/b?c=d");
    let written = screen.written();
    assert!(written.contains("\x1b]52;c;aHR0cHM6Ly9hLmV4YW1wbGUvYj9jPWQ=\x07"));
    assert!(written.contains(";https://a.example/b?c=d\x1b\\"), "a link");
    screen.type_keys("/set bell off\r");
    screen.log_ends_with("\n* bell off, history on, mouse on, notify on, time off");
}

#[test]
fn a_line_of_ones_own_tells_its_state() {
    let (mut screen, mut peer) = joined();
    screen.type_keys("first\r");
    let chat = peer.chat();
    // Others' chats stand before what is not confirmed.
    peer.say("Bob", "hi");
    screen.log_ends_with("\nBob: hi\nAlice: first (not confirmed)");
    peer.receipt(chat.id);
    screen.log_ends_with("\nBob: hi\nAlice: first");
    screen.type_keys("rude\r");
    let chat = peer.chat();
    peer.refuse(chat.id, ErrorCode::TextInvalid, 0);
    screen.log_ends_with(
        "\nAlice: rude (not sent: the server does not take this text, write it in another\n  way)",
    );
    screen.type_keys("later\r");
    let chat = peer.chat();
    peer.refuse(chat.id, ErrorCode::Unspecified, 0);
    screen.log_ends_with("\nAlice: later (not sent: as the server puts it)");
    // No chat is refused.
    peer.refuse(0, ErrorCode::Unspecified, 0);
    screen.log_ends_with("\n* refused: as the server puts it");
    screen.type_keys("/quit\r");
    peer.leave();
    check_end(
        &screen,
        "chat-client: lines that may not have arrived: 2 refused\n",
        7,
    );
}

#[test]
fn quit_ctrl_d_and_ctrl_c_leave() {
    for keys in ["/quit\r", "\x04", "\x03\x03", "half\x03\x03\x03"] {
        let (mut screen, peer) = joined();
        screen.type_keys(keys);
        peer.leave();
        check_end(&screen, "", 0);
    }
}

#[test]
fn ctrl_c_empties_the_draft_and_asks() {
    let (mut screen, mut peer) = joined();
    screen.type_keys("half\x03");
    screen.drafts(">");
    screen.type_keys("\x03");
    screen.status_has("Ctrl-C again leaves");
    // Another key means to stay, and undo brings the draft back.
    screen.type_keys("\x1f");
    screen.drafts("> half");
    screen.type_keys("\r");
    assert_eq!(peer.accept_chat(), "half");
}

#[test]
fn signals_leave_in_order() {
    for name in ["TERM", "HUP", "INT"] {
        for keys in ["", "half", "\x1b", "\u{c3}", "\x1b[200~paste"] {
            let (mut screen, peer) = joined();
            screen.type_keys(keys);
            screen.signal(name);
            peer.leave();
            check_end(&screen, "", 0);
        }
    }
}

#[test]
fn ctrl_z_stops_and_fg_goes_on() {
    let setup = Setup {
        is_job: true,
        ..Setup::default()
    };
    let (mut screen, mut peer) = joined_in(&setup, limits());
    let mut typed = String::new();
    // Repeated, since the stop races with what follows it.
    for number in 0..10 {
        typed.push_str("ab");
        screen.type_keys("ab");
        screen.drafts(&format!("> {typed}"));
        screen.type_keys("\x1a");
        // The draft is back, and the client has the keys.
        screen.wait_until(|| screen.written().matches("stopped").count() == number + 1);
        screen.drafts(&format!("> {typed}"));
    }
    screen.type_keys("\x7f!\r");
    assert_eq!(peer.accept_chat(), format!("{}!", &typed[..19]));
    screen.type_keys("\x04");
    peer.leave();
    screen.ends_with("\ncode 0");
}

#[test]
fn the_server_closing_ends_a_pending_draft() {
    let (mut screen, mut peer) = joined();
    screen.type_keys("half ty");
    screen.drafts("> half ty");
    peer.closing("moving house");
    assert_eq!(peer.receive(), None);
    check_end(
        &screen,
        "chat-client: the server closed (moving house)\n",
        0,
    );
}

#[test]
fn a_lost_connection_ends_a_pending_draft() {
    let (screen, peer) = joined();
    peer.close();
    check_end(&screen, "without a reason; connect again\n", 5);
}

/// `text` as terminals with bracketed paste send it.
fn paste(text: &str) -> String {
    format!("\x1b[200~{text}\x1b[201~")
}

#[test]
fn a_paste_loses_nothing() {
    // 300 lines, from terminals with and without bracketed paste, to a server with a
    // rate limit.
    for is_bracketed in [true, false] {
        let rate = Limits {
            chat_burst: 10,
            chat_interval_ms: 2,
            ..limits()
        };
        let (mut screen, mut peer) = joined_with(rate);
        let lines: Vec<String> = (0..300).map(|number| format!("pasted {number}")).collect();
        let text = lines.join("\r");
        if is_bracketed {
            screen.type_keys(&paste(&text));
            screen.type_keys("\r");
            screen.status_has("send 300 lines? Enter sends, Esc does not");
            screen.type_keys("\r");
        } else {
            screen.type_keys(&(text + "\r"));
        }
        for (number, line) in lines.iter().enumerate() {
            assert_eq!(&peer.accept_chat(), line);
            if number % 50 == 0 {
                peer.say("Bob", &format!("at {number}"));
            }
        }
        peer.say("Bob", "done");
        screen.log_ends_with("\nBob: done");
        screen.type_keys("/quit\r");
        peer.leave();
        check_end(&screen, "", 0);
    }
}

#[test]
fn a_paste_of_several_lines_holds_no_commands() {
    let (mut screen, mut peer) = joined();
    let lines = ["// a comment", "/etc/passwd", "/quit"];
    // With and without a line break at the end, and with a command there.
    for pasted in [&lines[..], &lines[..2]] {
        for end in ["", "\r"] {
            let text = pasted.join("\r") + end;
            screen.type_keys(&(paste(&text) + "\r"));
            for line in pasted {
                assert_eq!(&peer.accept_chat(), line);
            }
        }
    }
    // A single pasted line is treated like a typed one.
    screen.type_keys(&(paste("//one\r") + "\r"));
    assert_eq!(peer.accept_chat(), "/one");
    screen.type_keys(&(paste("/quit\r") + "\r"));
    peer.leave();
    check_end(&screen, "", 0);
}

#[test]
fn a_paste_that_is_not_sent_stays() {
    let (mut screen, mut peer) = joined();
    screen.type_keys(&(paste("1\r2\r3\r4") + "\r"));
    screen.status_has("send 4 lines?");
    screen.type_keys("\x1b");
    screen.drafts("> 1\n  2\n  3\n  4");
    // Undo takes the paste back as a whole.
    screen.type_keys("\x1f");
    screen.drafts(">");
    screen.type_keys("after\r");
    assert_eq!(peer.accept_chat(), "after");
}

#[test]
fn a_draft_may_have_several_lines() {
    let (mut screen, mut peer) = joined();
    screen.type_keys("one\x1b\rtwo\nthree");
    screen.drafts("> one\n  two\n  three");
    // Up and Down move within it.
    screen.type_keys("\x1b[A\x1b[A\x01>\x05\x17\x19\r");
    for line in [">one", "two", "three"] {
        assert_eq!(peer.accept_chat(), line);
    }
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
    screen.type_keys(&paste(&lines.join("\r")));
    screen.type_keys("\r");
    screen.status_has("send 300 lines?");
    screen.type_keys("\r");
    assert_eq!(peer.accept_chat(), "pasted 0");
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
    screen.log_ends_with(
        "\nAlice: x (not sent: a text of 1 bytes is longer than the 0 bytes the server\n  takes)",
    );
    screen.type_keys("/quit\r");
    peer.leave();
    check_end(
        &screen,
        "chat-client: lines that may not have arrived: 1 not sent\n",
        7,
    );
}

#[test]
fn messages_while_lines_are_sent_are_neither_lost_nor_mixed() {
    // High enough for everything.
    let setup = Setup {
        rows: 500,
        ..Setup::default()
    };
    let (mut screen, mut peer) = joined_in(&setup, limits());
    const LINES: usize = 40;
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
    screen.log_ends_with(&format!("Bob: message {}", said - 1));
    let log = screen.log();
    let messages: Vec<&str> = log.lines().filter(|line| line.contains("Bob: ")).collect();
    let expected: Vec<String> = (0..said).map(|n| format!("Bob: message {n}")).collect();
    assert_eq!(messages, expected);
    let own = log.lines().filter(|line| *line == "Alice: x").count();
    assert_eq!(own, LINES);
}

#[test]
fn received_text_is_sanitized() {
    let (screen, mut peer) = joined();
    peer.say("Bob", "\x1b[2J\x1b[H\u{202e}\n@Carol: forged");
    peer.say("a\x1b[1m", "x");
    screen.shows_log(
        &format!(
            "{GREETING}\nBob: \\u{{1b}}[2J\\u{{1b}}[H\\u{{202e}}\\u{{a}}@Carol: forged\n\
             a\\u{{1b}}\\u{{5b}}1m: x"
        ),
        ">",
    );
    peer.closing("\x1b[31m");
    peer.close();
    check_end(&screen, "chat-client: the server closed (\\u{1b}[31m)\n", 0);
}

/// Bob's text imitates Carol: a terminal that wrapped it would begin a row with her
/// name.
fn forged(columns: u16) -> String {
    format!("x{}Carol: yes", " ".repeat(usize::from(columns) - 6))
}

/// No row begins with Carol's name, and Bob's text is complete.
#[track_caller]
fn check_no_forgery(screen: &Screen) {
    let log = screen.log();
    assert!(!log.lines().any(|row| row.starts_with("Carol")), "{log}");
    assert!(
        log.lines()
            .any(|row| row.starts_with("  ") && row.contains("Carol: yes")),
        "{log}"
    );
}

#[test]
fn no_text_can_forge_a_row_of_another_member() {
    for columns in [20, 33, 80, 132] {
        let setup = Setup {
            columns,
            rows: 100,
            ..Setup::default()
        };
        let (screen, mut peer) = joined_in(&setup, limits());
        peer.say("Bob", &forged(columns));
        // After wide, combining and joined characters.
        let wide = "日e\u{301}👩\u{200d}🔬";
        for padding in usize::from(columns) - 18..=usize::from(columns) - 8 {
            peer.say("Bob", &format!("{wide}{}Carol: yes", " ".repeat(padding)));
        }
        peer.say("Bob", "done");
        screen.log_ends_with("\nBob: done");
        check_no_forgery(&screen);
    }
}

#[test]
fn lines_wrap_at_the_new_width_of_a_resized_terminal() {
    let (mut screen, mut peer) = joined();
    for columns in [40, 30, 70] {
        screen.resize(24, columns);
        peer.say("Bob", &forged(columns));
        peer.say("Bob", &format!("at {columns}"));
        screen.log_ends_with(&format!("\nBob: at {columns}"));
        check_no_forgery(&screen);
    }
}

#[test]
fn a_storm_of_resizes_leaves_a_whole_screen() {
    let (mut screen, mut peer) = joined();
    screen.type_keys("half typed");
    for number in 0..60_u16 {
        screen.resize(4 + number % 30, 10 + number * 7 % 100);
        peer.say("Bob", &format!("number {number} {}", "word ".repeat(20)));
    }
    screen.resize(1, 1);
    screen.resize(24, 80);
    peer.say("Bob", "done");
    screen.log_ends_with("\nBob: done");
    screen.drafts("> half typed");
    let rows = screen.rows();
    assert!(rows[22].contains("Alice"), "{rows:?}");
}

#[test]
fn colours_obey_no_color_and_term() {
    for (no_color, term, is_coloured) in [
        ("", "xterm-256color", true),
        ("", "xterm", true),
        ("1", "xterm-256color", false),
    ] {
        let setup = Setup {
            no_color,
            term,
            ..Setup::default()
        };
        let (screen, mut peer) = joined_in(&setup, limits());
        peer.say("Bob", "hi");
        screen.log_ends_with("\nBob: hi");
        let colour = |column| screen.cell(1, column, vt100::Cell::fgcolor);
        assert_eq!(colour(0) != vt100::Color::Default, is_coloured, "{term}");
        assert_eq!(colour(5), vt100::Color::Default);
        assert!(screen.cell(1, 0, vt100::Cell::bold), "the name stands out");
        assert!(screen.cell(0, 0, vt100::Cell::dim), "a notice steps back");
    }
}

#[test]
fn a_mention_is_marked_and_rings_the_bell() {
    let (mut screen, mut peer) = joined();
    peer.say("Bob", "alicex");
    peer.say("Bob", "hi alice!");
    screen.log_ends_with("\nBob: hi alice!");
    let is_marked = |column| screen.cell(2, column, vt100::Cell::inverse);
    assert!(!is_marked(7) && is_marked(8) && is_marked(12) && !is_marked(13));
    assert!(!screen.cell(1, 5, vt100::Cell::inverse));
    screen.wait_until(|| screen.written().contains('\x07'));
    // While the terminal has no focus, they are counted, and a line tells where they
    // begin.
    screen.type_keys("\x1b[O");
    // The report and the messages take different ways.
    while !screen.rows()[22].contains("unread") {
        peer.say("Bob", "anybody?");
        thread::sleep(Duration::from_millis(LOOK_MS));
    }
    peer.say("Bob", "ALICE?");
    screen.status_has("1 for you · ");
    screen.has("\n── unread below ──\nBob: anybody?\n");
    screen.log_ends_with("\nBob: ALICE?");
    screen.type_keys("\x1b[I");
    screen.wait_until(|| !screen.rows()[22].contains("unread"));
    screen.type_keys("here\r");
    peer.accept_chat();
    screen.log_ends_with("\nBob: ALICE?\nAlice: here");
    assert!(!screen.log().contains("unread below"));
}

#[test]
fn older_messages_are_found() {
    let (mut screen, mut peer) = joined();
    for number in 0..200 {
        peer.say("Bob", &format!("number {number}"));
    }
    screen.log_ends_with("\nBob: number 199");
    screen.type_keys("\x1b[5~");
    screen.log_ends_with("\nBob: number 178");
    // What comes meanwhile does not move the view.
    peer.say("Bob", "news");
    screen.status_has("1 unread below");
    screen.log_ends_with("\nBob: number 178");
    // The wheel, Home and End.
    screen.type_keys("\x1b[<64;1;1M");
    screen.log_ends_with("\nBob: number 175");
    screen.type_keys("\x1b[H");
    screen.wait_until(|| screen.log().starts_with(GREETING));
    screen.type_keys("\x1b[F");
    screen.log_ends_with("\n── unread below ──\nBob: news");
    screen.type_keys("\x06NUMBER 1");
    screen.status_has("search: NUMBER 1 (1/111)");
    screen.type_keys("5");
    screen.status_has("search: NUMBER 15 (1/11)");
    screen.type_keys("\r");
    screen.status_has("(2/11)");
    screen.has("Bob: number 158");
    screen.type_keys("\x1b");
    screen.status_has("scrolled up");
    screen.type_keys("/search nothing such\r");
    screen.status_has("search: nothing such (0/0)");
    screen.type_keys("\x03");
    screen.log_ends_with("Bob: news");
}

#[test]
fn typed_lines_are_kept_for_the_user_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("chat/history");
    let lines = ["one", "two\\x"];
    for is_kept in ["on", "off"] {
        let setup = Setup {
            state_folder: Some(folder.path()),
            options: &["--no-reconnect", "--history", is_kept],
            ..Setup::default()
        };
        let (mut screen, mut peer) = joined_in(&setup, limits());
        for line in lines {
            screen.type_keys(&format!("{line}\r"));
            assert_eq!(peer.accept_chat(), line);
        }
        screen.type_keys("\x1b[A\x1b[A\r");
        assert_eq!(peer.accept_chat(), "one");
        screen.type_keys("\x04");
        peer.leave();
        check_end(&screen, "", 0);
    }
    assert_eq!(
        fs::read_to_string(&file).expect("a file"),
        "one\ntwo\\\\x\none\n"
    );
    let mode = |path| {
        fs::metadata(path)
            .expect("it is there")
            .permissions()
            .mode()
            & 0o777
    };
    assert_eq!(
        (mode(&*file), mode(file.parent().expect("a folder"))),
        (0o600, 0o700)
    );
    // A later client walks them.
    let setup = Setup {
        state_folder: Some(folder.path()),
        ..Setup::default()
    };
    let (mut screen, mut peer) = joined_in(&setup, limits());
    screen.type_keys("\x1b[A\x1b[A\r");
    assert_eq!(peer.accept_chat(), "two\\x");
}

#[test]
fn a_dumb_terminal_and_plain_are_used_like_a_pipe() {
    for (term, option) in [("dumb", "--listen"), ("xterm", "--plain")] {
        let server = Server::new();
        let setup = Setup {
            term,
            ..Setup::default()
        };
        let mut screen = Screen::start_in(&[&server.address(), "Alice", option], &setup);
        let (mut peer, register) = server.welcome();
        assert!(
            register
                .capabilities()
                .all(|asked| asked != Capability::Presence)
        );
        let key = if option == "--plain" { "D" } else { "C" };
        screen.ends_with(&format!(
            "chat-client: you are Alice; each line is sent as it is, Ctrl-{key} leaves"
        ));
        peer.say("Bob", "hi");
        screen.ends_with("@Bob: hi");
        screen.type_keys("hello\n");
        assert_eq!(peer.accept_chat(), "hello");
        match option {
            "--plain" => screen.type_keys("\x04"),
            _ => screen.type_keys("\x03"),
        }
        assert_eq!(peer.receive(), Some(FromClient::Leave(Default::default())));
        peer.close();
        screen.ends_with("code 0, terminal as before");
    }
}

/// How much CPU time a process has taken, in milliseconds, and how much memory it has, in
/// bytes.
fn cost(process_id: u32) -> (u64, u64) {
    let stat = fs::read_to_string(format!("/proc/{process_id}/stat")).expect("it runs");
    // The name in parentheses may contain anything.
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let field = |index: usize| -> u64 {
        let field = fields.split_whitespace().nth(index);
        field.and_then(|it| it.parse().ok()).expect("a number")
    };
    let ticks = field(11) + field(12);
    let page_bytes = 4_096;
    (ticks * 10, field(21) * page_bytes)
}

/// A thousand messages a second for ten seconds, with typing in between. Frames are drawn
/// together, so the cost is that of the frames; of the messages, the last are kept.
#[test]
fn a_flood_neither_touches_the_draft_nor_grows_without_bound() {
    const SECONDS: u64 = 10;
    const A_SECOND: u64 = 1_000;
    const BATCHES_A_SECOND: u64 = 50;
    // Of a debug build, which draws some ten times slower than a release.
    const CPU_PERCENT_MAX: u64 = 90;
    const GROWN_BYTES_MAX: u64 = 64 << 20;
    let (mut screen, mut peer) = joined();
    let client = screen.process_id();
    let (cpu_ms, memory) = cost(client);
    let began = Instant::now();
    let mut typed = String::new();
    let mut number = 0;
    for batch in 1..=SECONDS * BATCHES_A_SECOND {
        for _ in 0..A_SECOND / BATCHES_A_SECOND {
            number += 1;
            peer.say("Bob", &format!("message {number} {}", "x".repeat(100)));
        }
        if batch % 10 == 0 {
            let key = char::from(b'a' + (batch / 10 % 26) as u8);
            screen.type_keys(&key.to_string());
            typed.push(key);
        }
        let due = Duration::from_millis(batch * 1_000 / BATCHES_A_SECOND);
        thread::sleep(due.saturating_sub(began.elapsed()));
    }
    screen.drafts(&format!("> {typed}"));
    screen.wait_until(|| screen.log().contains(&format!("message {number} ")));
    let took_ms = began.elapsed().as_millis() as u64;
    let (cpu_after_ms, memory_after) = cost(client);
    let cpu_percent = (cpu_after_ms - cpu_ms) * 100 / took_ms;
    let grown_bytes = memory_after.saturating_sub(memory);
    println!("{took_ms} ms, CPU {cpu_percent} %, grown by {grown_bytes} bytes");
    assert!(cpu_percent <= CPU_PERCENT_MAX, "CPU {cpu_percent} %");
    assert!(grown_bytes <= GROWN_BYTES_MAX, "{grown_bytes} bytes");
    // What was typed goes out as it is.
    screen.type_keys("\r");
    assert_eq!(peer.accept_chat(), typed);
}
