//! Full screen: what terminals send, byte by byte, and what they should not send.

use std::time::Duration;
use std::{fs, thread};

use crate::fake::{Peer, Server};
use crate::screen::Screen;

/// How long the client waits for what may belong to an Esc, in milliseconds.
const ESC_MS: u64 = 100;

/// A pause between two bytes in which the client reads the first, in milliseconds.
const PAUSE_MS: u64 = 15;

fn joined() -> (Screen, Peer) {
    let server = Server::new();
    let screen = Screen::start(&[&server.address(), "Alice"]);
    let (mut peer, _) = server.welcome();
    peer.members(&["Alice", "Bob"]);
    screen.status_has("2 here");
    (screen, peer)
}

fn type_slowly(screen: &mut Screen, bytes: &[u8]) {
    for byte in bytes {
        screen.type_bytes(&[*byte]);
        thread::sleep(Duration::from_millis(PAUSE_MS));
    }
}

/// The sequences of xterm, rxvt, the Linux console and others, each with what becomes of
/// the draft "ab cd" with the cursor at its end, once X is typed after it.
#[test]
fn key_sequences_of_many_terminals() {
    let (mut screen, _peer) = joined();
    for (keys, draft) in [
        ("\x1b[D", "ab cXd"),
        ("\x1bOD", "ab cXd"),
        ("\x1b[1;5D", "ab Xcd"),
        // Alt-Left is another view, and there is none.
        ("\x1b[1;3D", "ab cdX"),
        ("\x1bb", "ab Xcd"),
        ("\x1b[H", "Xab cd"),
        ("\x1bOH", "Xab cd"),
        ("\x1b[1~", "Xab cd"),
        ("\x1b[7~", "Xab cd"),
        ("\x01", "Xab cd"),
        ("\x01\x1b[F", "ab cdX"),
        ("\x01\x1bOF", "ab cdX"),
        ("\x01\x1b[4~", "ab cdX"),
        ("\x01\x1b[8~", "ab cdX"),
        ("\x01\x1b[3~", "Xb cd"),
        ("\x01\x04", "Xb cd"),
        ("\x01\x1b[C", "aXb cd"),
        ("\x01\x06", "ab cdX"),
        ("\x7f", "ab cX"),
        ("\x08", "ab cX"),
        ("\x17", "ab X"),
        ("\x1b\x7f", "ab X"),
        ("\x01\x1bd", "X cd"),
        ("\x02\x0b", "ab cX"),
        ("\x15", "X"),
        ("\x15\x19", "ab cdX"),
        ("\x14", "ab dcX"),
        // Keys without a meaning here, and reports.
        ("\x1b[15~", "ab cdX"),
        ("\x1b[24~", "ab cdX"),
        ("\x1b[2~", "ab cdX"),
        ("\x1b[<35;10;10M", "ab cdX"),
        ("\x1b[<0;10;10M\x1b[<0;10;10m", "ab cdX"),
        ("\x1b[I", "ab cdX"),
        ("\x1b[O", "ab cdX"),
        ("\x1b[1;2A", "ab cdX"),
    ] {
        screen.type_keys("ab cd");
        screen.drafts("> ab cd");
        // Esc and a letter with a pause between them are two keys.
        match keys.contains("\x1b") && !keys.contains(['[', 'O']) {
            true => screen.type_keys(keys),
            false => type_slowly(&mut screen, keys.as_bytes()),
        }
        // Ctrl-F begins a search, which Esc ends.
        if keys.ends_with('\x06') {
            screen.status_has("search");
            screen.type_keys("\x1b");
            screen.wait_until(|| !screen.rows()[22].contains("search"));
            screen.type_keys("\x05");
        }
        screen.type_keys("X");
        screen.drafts(&format!("> {draft}"));
        screen.type_keys("\x05\x15");
        screen.drafts(">");
    }
}

#[test]
fn esc_does_not_swallow_the_next_key() {
    let (mut screen, mut peer) = joined();
    type_slowly(&mut screen, b"a\x1bb\x1b\x1bc\x1b");
    peer.say("Bob", "hi");
    screen.log_ends_with("\nBob: hi");
    screen.drafts("> abc");
    thread::sleep(Duration::from_millis(2 * ESC_MS));
    // At once, as over a slow link: still both.
    screen.type_keys("\x1bx\x1bz");
    screen.drafts("> abcxz");
    screen.type_keys("\r");
    assert_eq!(peer.accept_chat(), "abcxz");
}

#[test]
fn half_a_character_holds_up_nothing() {
    let (mut screen, mut peer) = joined();
    let mut sent = String::new();
    for character in ["é", "日", "👍"] {
        let (first, rest) = character.as_bytes().split_at(1);
        screen.type_bytes(first);
        peer.say("Bob", &format!("before {character}"));
        screen.log_ends_with(&format!("\nBob: before {character}"));
        peer.ping(7);
        assert!(peer.receive().is_some(), "a pong");
        type_slowly(&mut screen, rest);
        sent += character;
        screen.drafts(&format!("> {sent}"));
    }
    screen.type_keys("\r");
    assert_eq!(peer.accept_chat(), sent);
}

#[test]
fn bytes_that_are_not_utf8_end_nothing() {
    let (mut screen, mut peer) = joined();
    for bad in [
        &b"\xe9"[..],        // Latin-1
        b"\xff",             // never in UTF-8
        b"\x80",             // a continuation alone
        b"\xc0\xaf",         // overlong
        b"\xed\xa0\x80",     // a surrogate
        b"\xf4\x90\x80\x80", // beyond Unicode
        b"\xf0\x9f\x91",     // cut
    ] {
        screen.type_keys("before ");
        screen.type_bytes(bad);
        // At most the two bytes behind a bad one are lost.
        screen.type_keys("..after\r");
        let text = peer.accept_chat();
        assert!(
            text.starts_with("before") && text.ends_with("after"),
            "{bad:x?}: {text:?}"
        );
    }
    // In a paste nothing but the bad byte is lost.
    screen.type_bytes(b"\x1b[200~a\xe9b\x1b[201~\r");
    assert_eq!(peer.accept_chat(), "a\u{fffd}b");
    screen.type_keys("/quit\r");
    peer.leave();
    screen.ends_with("code 0, terminal as before");
}

#[test]
fn esc_in_a_paste_is_harmless() {
    let (mut screen, mut peer) = joined();
    for pasted in [
        "\x1b",
        "a\x1b",
        "\x1bb",
        "a\x1b[31mb",
        "\x1b[A\x1bOH\x1b[3~",
        "\x1b[2",
        "\x07\x08\x7f",
    ] {
        screen.type_keys(&format!("\x1b[200~{pasted}\x1b[201~!\r"));
        let mut visible = String::new();
        for character in pasted.chars() {
            match character.is_control() {
                true => visible.extend(character.escape_unicode()),
                false => visible.push(character),
            }
        }
        assert_eq!(peer.accept_chat(), format!("{visible}!"), "{pasted:?}");
    }
    // In pieces, it is the same paste.
    type_slowly(&mut screen, b"\x1b[200~x\x1by\rz\x1b[201~\r");
    assert_eq!(peer.accept_chat(), "x\\u{1b}y");
    assert_eq!(peer.accept_chat(), "z");
}

/// The processor time of a process, in ticks of a hundredth of a second, and its memory,
/// in kB.
fn usage(process_id: u32) -> (u64, u64) {
    let file = |name| fs::read_to_string(format!("/proc/{process_id}/{name}")).expect("it runs");
    let stat = file("stat");
    let (_, fields) = stat.rsplit_once(')').expect("a name");
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().expect("a number"))
        .sum();
    let status = file("status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let memory = line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok());
    (ticks, memory.expect("a number"))
}

#[test]
fn a_flood_leaves_the_draft_alone_and_the_machine_usable() {
    const MESSAGES: u64 = 20_000;
    // What is on its way: no more than a busy machine draws in the time of a test's wait.
    const UNANSWERED_MAX: u64 = 1_000;
    let (mut screen, mut peer) = joined();
    let process_id = screen.process_id();
    let (ticks_before, _) = usage(process_id);
    let flood = thread::spawn(move || {
        for number in 0..MESSAGES {
            peer.say("Bob", &format!("{number} {}", "word ".repeat(12)));
            if number % UNANSWERED_MAX == 0 {
                peer.ping(number);
                assert!(peer.receive().is_some(), "a pong");
            }
        }
        peer.say("Bob", "the end");
        peer
    });
    let mut typed = String::new();
    while !flood.is_finished() {
        typed.push('x');
        screen.type_keys("x");
        thread::sleep(Duration::from_millis(PAUSE_MS));
        if typed.len() >= 70 {
            screen.type_keys("\x15");
            typed.clear();
        }
    }
    let mut peer = flood.join().expect("the flood");
    screen.log_ends_with("\nBob: the end");
    screen.drafts(format!("> {typed}").trim_end());
    let (ticks, memory_kb) = usage(process_id);
    // Debug builds take a fraction of this; a redraw for each message takes far more.
    assert!(
        ticks - ticks_before < 1_500,
        "{} ticks",
        ticks - ticks_before
    );
    assert!(memory_kb < 64 << 10, "{memory_kb} kB");
    screen.type_keys("!\r");
    assert_eq!(peer.accept_chat(), typed + "!");
}

#[test]
fn a_terminal_that_does_not_read_holds_up_nothing() {
    let (screen, mut peer) = joined();
    screen.while_nobody_reads(|| {
        for number in 0..2_000 {
            peer.say("Bob", &format!("{number} {}", "word ".repeat(12)));
            if number % 50 == 0 {
                peer.ping(number);
                assert!(peer.receive().is_some(), "a pong");
                // Another frame fills the pty further.
                thread::sleep(Duration::from_millis(30));
            }
        }
        screen.signal("TERM");
        peer.leave();
    });
    screen.ends_with("code 0, terminal as before");
}
