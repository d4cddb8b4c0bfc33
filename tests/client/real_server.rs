//! The real server and real clients on terminals, from the first chat to the server's
//! end.

use crate::{screen::Screen, support::TestServer};

const HELP: &str = "/help shows the commands\n";
const ENDED: &str = "code 0, terminal as before";

#[test]
fn two_people_talk_on_terminals() {
    let mut server = TestServer::start(&[]);
    let address = format!("chat://{}", server.address);
    let mut alice = Screen::start(&[&address, "Alice"]);
    let mut alices = format!("* you are Alice, nobody else is here; {HELP}");
    alice.shows(&format!("{alices}>"));
    let mut bob = Screen::start(&[&address, "Bob"]);
    let mut bobs = format!("* you are Bob, here with you: Alice; {HELP}");
    bob.shows(&format!("{bobs}>"));
    alices += "* Bob joined\n";
    alice.shows(&format!("{alices}>"));

    // Each types a line while the other's chat arrives.
    for round in 0..4 {
        let (hello, answer) = (format!("hello {round}"), format!("answer {round}"));
        alice.type_keys(&hello);
        alice.shows(&format!("{alices}> {hello}"));
        bob.type_keys(&answer);
        bob.shows(&format!("{bobs}> {answer}"));
        alice.type_keys("\r");
        alices += &format!("> {hello}\n");
        bobs += &format!("@Alice: {hello}\n");
        bob.shows(&format!("{bobs}> {answer}"));
        // No chat returns to its sender (CHAT-CHAT-2).
        alice.shows(&format!("{alices}>"));
        bob.type_keys("\r");
        bobs += &format!("> {answer}\n");
        alices += &format!("@Bob: {answer}\n");
        alice.shows(&format!("{alices}>"));
        bob.shows(&format!("{bobs}>"));
    }

    // Alice leaves; her name is free at once, in any case (CHAT-NAME-5).
    alice.type_keys("/quit\r");
    alice.ends_with(ENDED);
    bobs += "* Alice left\n";
    bob.shows(&format!("{bobs}>"));
    let second = Screen::start(&[&address, "aLICE"]);
    second.shows(&format!("* you are aLICE, here with you: Bob; {HELP}>"));
    bobs += "* aLICE joined\n";
    bob.shows(&format!("{bobs}>"));

    // The server closes while a line is being typed; every client is told and exits
    // normally.
    bob.type_keys("never said");
    bob.shows(&format!("{bobs}> never said"));
    server.signal("TERM");
    bob.ends_with(ENDED);
    second.ends_with(ENDED);
    assert!(bob.text().contains("the server closed"), "{}", bob.text());
    assert_eq!(server.wait().code(), Some(0));
}
