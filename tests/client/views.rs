//! Full screen: the room, topics and directs as views.

use chat::wire::{Chat, File, Limits};
use insta::assert_snapshot;

use crate::fake::{FromClient, Peer, Server, ToClient, limits, now_unix_ms};
use crate::screen::{Screen, Setup};

fn joined(setup: &Setup) -> (Screen, Peer) {
    let server = Server::new();
    let screen = Screen::start_in(&[&server.address(), "Alice"], setup);
    let limits = Limits {
        mentions_max: 8,
        filter_entries_max: 8,
        ..limits()
    };
    let (mut peer, _) = server.welcome_with(limits, None);
    peer.members(&["Alice", "Bob"]);
    screen.wait_until(|| screen.log().contains("/help"));
    (screen, peer)
}

/// What the client sends next, with the member that it is for.
fn sent_direct(peer: &mut Peer) -> (String, String) {
    match peer.receive() {
        Some(FromClient::Direct(direct)) => (direct.peer, direct.text),
        other => panic!("expected Direct, got {other:?}"),
    }
}

fn sent(peer: &mut Peer) -> (String, String) {
    let Chat {
        id, topic, text, ..
    } = peer.chat();
    peer.receipt(id);
    (topic, text)
}

fn pair(one: &str, other: &str) -> (String, String) {
    (one.to_owned(), other.to_owned())
}

#[test]
fn a_topic_is_a_view_and_lines_typed_in_it_have_the_topic() {
    let (mut screen, mut peer) = joined(&Setup::default());
    peer.say("Bob", "for all");
    peer.say_in("build", "Bob", "it works");
    // The room shows everything, so nothing is unread.
    screen.log_ends_with("\nBob: for all\nBob #build: it works");
    screen.status_has("1 room · Alice");
    assert!(!screen.status().contains("2:#build"));
    screen.type_keys("\x1b2");
    screen.shows_log("Bob: it works", "#build>");
    screen.status_has("2 #build · Alice");
    screen.type_keys("good\r");
    assert_eq!(sent(&mut peer), pair("build", "good"));
    screen.shows_log("Bob: it works\nAlice: good", "#build>");
    // Another topic at the begin of a line still counts.
    screen.type_keys("#ops look\r");
    assert_eq!(sent(&mut peer), pair("ops", "look"));
    peer.say_in("BUILD", "Bob", "really");
    screen.shows_log("Bob: it works\nAlice: good\nBob: really", "#build>");
    // What comes elsewhere is counted.
    peer.say("Bob", "one");
    peer.say("Bob", "two");
    peer.say_in("ops", "Bob", "alice, look");
    screen.status_has("1 for you · 3:#ops 1! 1:room 2");
    screen.type_keys("\x1ba");
    screen.shows_log("Alice: look\n── unread below ──\nBob: alice, look", "#ops>");
    screen.status_has("1:room 2");
    assert!(!screen.status().contains("for you"));
    screen.type_keys("\x1b1");
    screen.log_ends_with("── unread below ──\nBob: one\nBob: two\nBob #ops: alice, look");
    screen.wait_until(|| !screen.status().contains("room 2"));
    screen.type_keys("to all\r");
    assert_eq!(sent(&mut peer), pair("", "to all"));
}

#[test]
fn a_direct_is_a_view_and_lines_typed_in_it_are_for_one_member() {
    let (mut screen, mut peer) = joined(&Setup::default());
    peer.say_direct("Bob", 1, "psst");
    screen.log_ends_with("\nBob to you alone: psst");
    screen.type_keys("/view bob\r");
    screen.shows_log("Bob: psst", "@Bob>");
    // Whatever it begins with.
    for (typed, text) in [
        ("yes?", "yes?"),
        ("#build no topic", "#build no topic"),
        ("//slash", "/slash"),
        ("/me waves", "/me waves"),
    ] {
        screen.type_keys(&format!("{typed}\r"));
        assert_eq!(sent_direct(&mut peer), pair("Bob", text));
    }
}

#[test]
fn a_draft_stays_with_its_view() {
    let (mut screen, mut peer) = joined(&Setup::default());
    screen.type_keys("for all");
    screen.drafts("> for all");
    peer.say_direct("Bob", 1, "psst");
    screen.log_ends_with("\nBob to you alone: psst");
    screen.type_keys("\x1b[1;3C");
    screen.drafts("@Bob>");
    screen.type_keys("for Bob");
    screen.drafts("@Bob> for Bob");
    screen.type_keys("\x1b[1;3D");
    screen.drafts("> for all");
    screen.type_keys("\r");
    assert_eq!(sent(&mut peer), pair("", "for all"));
    // Around the end.
    screen.type_keys("\x1b[1;3D\r");
    assert_eq!(sent_direct(&mut peer), pair("Bob", "for Bob"));
    // What Up had brought does not go along.
    screen.type_keys("half\x1b[A");
    screen.drafts("@Bob> for Bob");
    screen.type_keys("\x1b1");
    screen.drafts(">");
    screen.type_keys("\x1b2");
    screen.drafts("@Bob> half");
}

#[test]
fn views_are_listed_opened_closed_and_told_apart() {
    let (mut screen, mut peer) = joined(&Setup::default());
    screen.type_keys("/follow #build\r");
    screen.log_ends_with("* you follow #build and what mentions you");
    assert!(matches!(peer.receive(), Some(FromClient::Follow(_))));
    screen.type_keys("/view\r");
    screen.log_ends_with("\n* 1 room, shown now\n* 2 #build");
    screen.type_keys("/view @Eve\r");
    screen.shows_log("", "@Eve>");
    // What the program says there is said there.
    screen.type_keys("/view 9\r");
    screen.log_ends_with(
        "* there is no view 9: /view shows which there are, /view #TOPIC and /view @NAME\n  open one",
    );
    screen.type_keys("/view BUILD\r");
    screen.shows_log("", "#build>");
    // Another topic is another view, and none is the room.
    screen.type_keys("/topic ops\r");
    screen.drafts("#ops>");
    screen.type_keys("/topic\r");
    screen.drafts(">");
    screen.type_keys("/close\r");
    screen.log_ends_with("\n* the room stays; /quit leaves");
    screen.type_keys("/view 3\r/close\r");
    screen.drafts(">");
    screen.type_keys("/view\r");
    screen.log_ends_with("\n* 1 room, shown now\n* 2 #build\n* 3 #ops");
    // Its own topic of the room shows at the prompt.
    screen.type_keys("/topic ops\r");
    screen.drafts("#ops>");
    screen.type_keys("/topic\r/view 2\rhi\r");
    assert_eq!(sent(&mut peer), pair("build", "hi"));
    screen.shows_log("Alice: hi", "#build>");
    // Clearing a view leaves the others alone.
    screen.type_keys("/clear\r");
    screen.shows_log("", "#build>");
    screen.type_keys("\x1b1");
    screen.wait_until(|| screen.log().contains("* you follow #build"));
    assert!(!screen.log().contains("#build: hi"));
    // Nothing is searched for in other views.
    peer.say("Bob", "a needle");
    peer.say_in("build", "Bob", "needles");
    screen.log_ends_with("Bob #build: needles");
    screen.type_keys("/search needle\r");
    screen.status_has("(1/2)");
    screen.type_keys("\x1b2/search needle\r");
    screen.status_has("(1/1)");
}

#[test]
fn a_file_is_announced_in_the_view_of_its_message() {
    let (mut screen, mut peer) = joined(&Setup::default());
    peer.send(ToClient::Chat(Chat {
        text: "see a.pdf".to_owned(),
        topic: "build".to_owned(),
        sender: "Bob".to_owned(),
        seq: 1,
        time_unix_ms: now_unix_ms(),
        files: vec![File {
            sha256: vec![1; 32],
            size: 12,
            name: "a.pdf".to_owned(),
        }],
        ..Chat::default()
    }));
    screen.status_has("1 room");
    screen.type_keys("\x1b2");
    screen.shows_log(
        "Bob: see a.pdf\n* file 1: a.pdf, 12 B; /save 1 fetches it",
        "#build>",
    );
}

/// The screen in a topic, with news elsewhere.
fn screen_of(rows: u16, columns: u16) -> String {
    let setup = Setup {
        rows,
        columns,
        ..Setup::default()
    };
    let (mut screen, mut peer) = joined(&setup);
    peer.say_in("build", "Bob", "the first of the day");
    screen.has("the first of the day");
    screen.type_keys("/view #build\rI see\r");
    assert_eq!(sent(&mut peer), pair("build", "I see"));
    peer.say_in(
        "build",
        "carol",
        &format!("a long line: {}", "word ".repeat(20)),
    );
    peer.say_direct("Bob", 1, "psst");
    peer.say("Dave", "hello");
    peer.say("Dave", "anybody?");
    for number in 0..3 {
        peer.say_in("a-rather-long-name-of-a-topic", "Eve", &format!("{number}"));
    }
    peer.say_in("build", "Bob", "done");
    screen.has("Bob: done");
    screen.type_keys("a draft");
    screen.wait_until(|| screen.text().ends_with("a draft"));
    // The port and the round trip differ from run to run.
    let status = screen.status();
    let mut shown = String::new();
    for row in screen.text().lines() {
        shown += &match row.trim() == status {
            true => hidden(row),
            false => row.to_owned(),
        };
        shown.push('\n');
    }
    shown
}

/// A status line without what differs.
fn hidden(status: &str) -> String {
    let news = status.find("1 for you").expect("news");
    assert!(status.starts_with(" 2 #build · A"), "{status:?}");
    format!(" 2 #build · A…{}", &status[news..])
}

#[test]
fn at_80x24() {
    assert_snapshot!(screen_of(24, 80));
}

#[test]
fn at_40x20() {
    assert_snapshot!(screen_of(20, 40));
}

#[test]
fn at_200x50() {
    assert_snapshot!(screen_of(50, 200));
}
