//! Full screen: what it looks like, at three sizes.

use chat::wire::{Joined, Left, LeftReason};
use insta::assert_snapshot;

use crate::fake::{Server, ToClient};
use crate::screen::{Screen, Setup};

/// The screen after a conversation with everything in it.
fn screen_of(rows: u16, columns: u16) -> String {
    let server = Server::new();
    let setup = Setup {
        rows,
        columns,
        ..Setup::default()
    };
    let mut screen = Screen::start_in(&[&server.address(), "Alice"], &setup);
    let (mut peer, _) = server.welcome();
    peer.members(&["Alice", "Bob", "carol"]);
    screen.wait_until(|| screen.log().contains("/help"));
    for name in ["Dave", "Eve", "Frank"] {
        peer.send(ToClient::Joined(Joined {
            name: name.to_owned(),
        }));
    }
    peer.send(ToClient::Left(Left {
        name: "Eve".to_owned(),
        reason: LeftReason::Leave.into(),
    }));
    peer.say("Bob", "日本語 e\u{301} 👩\u{200d}🔬 🏴\u{e0067}\u{e0062}\u{e0073}\u{e0063}\u{e0074}\u{e007f} \u{202e}\x1b[2J");
    peer.say("carol", &format!("a long line: {}", "word ".repeat(20)));
    peer.say(
        "Bob",
        &format!("https://example.org/{}", "path/".repeat(12)),
    );
    peer.say("Bob", "/me looks at alice");
    screen.wait_until(|| screen.log().contains("Bob looks"));
    screen.type_keys("confirmed\r");
    peer.accept_chat();
    screen.log_ends_with("\nAlice: confirmed");
    screen.type_keys("not confirmed\r");
    peer.chat();
    screen.wait_until(|| screen.log().ends_with("(not confirmed)"));
    screen.type_keys("a draft\nof two lines");
    screen.wait_until(|| screen.text().ends_with("of two lines"));
    // The port and the round trip differ from run to run.
    let (before, status) = screen.text().rsplit_once("\n Alice · ").map_or_else(
        || panic!("no status line"),
        |(before, status)| (before.to_owned(), status.to_owned()),
    );
    let (_, draft) = status.split_once('\n').expect("a draft");
    format!("{before}\n Alice · STATUS\n{draft}")
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
