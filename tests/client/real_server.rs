//! The real server and real clients on terminals, from the first chat to the server's
//! end.

use std::net::{Ipv4Addr, Ipv6Addr};

use chat::address::DEFAULT_PORT;

use crate::{program::Program, screen::Screen, support::TestServer};

const HELP: &str = "/help shows the commands";

#[test]
fn two_people_talk_on_terminals() {
    let mut server = TestServer::start(&[]);
    let address = format!("chat://{}", server.address);
    let mut alice = Screen::start(&[&address, "Alice"]);
    let mut alices = format!("* you are Alice, nobody else is here; {HELP}");
    alice.shows_log(&alices, ">");
    let mut bob = Screen::start(&[&address, "Bob"]);
    let mut bobs = format!("* you are Bob, here with you: Alice; {HELP}");
    bob.shows_log(&bobs, ">");
    alices += "\n* Bob joined";
    alice.shows_log(&alices, ">");

    // Each types a line while the other's chat arrives.
    for round in 0..4 {
        let (hello, answer) = (format!("hello {round}"), format!("answer {round}"));
        alice.type_keys(&hello);
        alice.shows_log(&alices, &format!("> {hello}"));
        bob.type_keys(&answer);
        bob.shows_log(&bobs, &format!("> {answer}"));
        alice.type_keys("\r");
        // No chat returns to its sender (CHAT-CHAT-2), and its receipt confirms it.
        alices += &format!("\nAlice: {hello}");
        bobs += &format!("\nAlice: {hello}");
        bob.shows_log(&bobs, &format!("> {answer}"));
        alice.shows_log(&alices, ">");
        bob.type_keys("\r");
        bobs += &format!("\nBob: {answer}");
        alices += &format!("\nBob: {answer}");
        alice.shows_log(&alices, ">");
        bob.shows_log(&bobs, ">");
    }

    // Alice leaves; her name is free at once, in any case (CHAT-NAME-5).
    alice.type_keys("/quit\r");
    alice.ends_with("code 0, terminal as before");
    bobs += "\n* Alice left";
    bob.shows_log(&bobs, ">");
    let second = Screen::start(&[&address, "aLICE"]);
    second.shows_log(&format!("* you are aLICE, here with you: Bob; {HELP}"), ">");
    bobs += ", aLICE joined";
    bob.shows_log(&bobs, ">");

    // The server closes while a line is being typed; every client is told and exits
    // normally.
    bob.type_keys("never said");
    bob.shows_log(&bobs, "> never said");
    server.signal("TERM");
    for screen in [bob, second] {
        screen.ends_with("code 0, terminal as before");
        assert!(screen.text().contains("the server closed"));
    }
    assert_eq!(server.wait().code(), Some(0));
}

/// An address of this machine that only this test run uses, since the port is fixed.
fn own_loopback_address() -> Ipv4Addr {
    let [_, b, c, d] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, b, c, d.max(2))
}

/// Without a port, the server listens where the client looks for it; and an IPv6 address
/// may have a scope with a name.
#[test]
fn an_address_may_lack_a_port_and_have_a_scope() {
    let host = own_loopback_address().to_string();
    let server = TestServer::start(&["--listen", &host]);
    assert_eq!(server.address.port(), DEFAULT_PORT);
    let say = |address: &str| {
        let mut program = Program::start(&[address, "Alice"]);
        program.end_input();
        let outcome = program.outcome();
        assert_eq!((outcome.code, &*outcome.errors), (Some(0), ""), "{address}");
    };
    say(&host);
    say(&format!("chat://{host}/"));
    // Only link-local addresses have scopes; a machine without a network has none.
    if let Some((address, interface)) = link_local_address() {
        let server = TestServer::start(&["--listen", &format!("[{address}%{interface}]:0")]);
        say(&format!(
            "[{address}%{interface}]:{}",
            server.address.port()
        ));
    }
}

/// A link-local IPv6 address of this machine, and the name of its interface.
fn link_local_address() -> Option<(Ipv6Addr, String)> {
    const SCOPE_LINK: &str = "20";
    let table = std::fs::read_to_string("/proc/net/if_inet6").ok()?;
    table.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let [digits, _, _, SCOPE_LINK, _, interface] = fields[..] else {
            return None;
        };
        let address = u128::from_str_radix(digits, 16).ok()?;
        Some((Ipv6Addr::from(address), interface.to_owned()))
    })
}
