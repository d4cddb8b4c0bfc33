//! The programs in `examples/`, against the real server.

#[allow(dead_code)] // Its `main`.
#[path = "../examples/echo.rs"]
mod echo;
mod support;

use std::thread;

use support::{Peer, TestServer};

#[test]
fn the_echo_bot_repeats_what_it_is_asked_to_and_ends_with_the_server() {
    let server = TestServer::start(&[]);
    let mut alice = Peer::join(&server, "Alice");
    let address = format!("chat://{}", server.address);
    let bot = thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let run = async { echo::run(&address).await.map_err(|error| error.to_string()) };
        runtime.expect("a runtime").block_on(run)
    });
    server.wait_for_log("name=echo");
    let longest = "x".repeat(4_096 - "!echo ".len());
    for text in [
        "not for you",
        "!echo ",
        &format!("!echo {longest}"),
        "!echo hi",
    ] {
        alice.say(text);
    }
    alice.hears(&longest);
    alice.hears("hi");
    server.signal("TERM");
    assert_eq!(bot.join().expect("no panic"), Ok(()));
}
