//! The library, as a bot uses it.

use std::{
    thread,
    time::{Duration, Instant},
};

use chat::client::{ConnectError, Connector, Ended, Ending, Event, SendError, Session};
use chat::wire::{Capability, ErrorCode, Left, LeftReason, Limits};

use crate::fake::{Peer, Server, ToClient, limits};
use crate::runtime::run;

/// Runs `bot` against a server that does `serve`.
fn check<F: Future>(
    serve: impl FnOnce(Server) + Send + 'static,
    bot: impl FnOnce(String) -> F,
) -> F::Output {
    let server = Server::new();
    let address = server.address();
    let serving = thread::spawn(move || serve(server));
    let output = run(bot(address));
    serving.join().expect("the server's part");
    output
}

fn left() -> Ended {
    Ended {
        ending: Ending::Left,
        unsent: 0,
        unconfirmed: 0,
    }
}

#[test]
fn a_bot_sees_everything_and_leaves() {
    let serve = |server: Server| {
        let (mut peer, register) = server.welcome();
        assert_eq!(register.name, "bot");
        peer.members(&["bot", "Bob"]);
        peer.say("Bob", "hi");
        assert_eq!(peer.accept_chat(), "Bob said: hi");
        peer.send(ToClient::Left(Left {
            name: "Bob".to_owned(),
            reason: 99,
        }));
        peer.leave();
    };
    let (mut events, ended) = check(serve, |address| async move {
        let mut session = Connector::new()
            .capabilities([Capability::Presence, Capability::Receipts])
            .connect(&address, "bot")
            .await
            .expect("a session");
        assert!(session.has(Capability::Presence));
        assert!(!session.has(Capability::Keepalive));
        let mut events = Vec::new();
        while let Some(event) = session.next().await {
            if let Event::Message { sender, text, .. } = &event {
                let id = session.send(format!("{sender} said: {text}")).await;
                assert_eq!(id, Ok(1));
            }
            let is_last = matches!(event, Event::Left { .. });
            events.push(event);
            if is_last {
                break;
            }
        }
        (events, session.leave().await)
    });
    for event in &mut events {
        if let Event::Message { time_unix_ms, .. } = event {
            assert!(*time_unix_ms > 1_000_000_000_000, "{time_unix_ms}");
            *time_unix_ms = 1;
        }
    }
    assert_eq!(
        events,
        [
            Event::Members {
                names: vec!["bot".to_owned(), "Bob".to_owned()],
                more: false
            },
            Event::Message {
                seq: 1,
                sender: "Bob".to_owned(),
                text: "hi".to_owned(),
                time_unix_ms: 1,
                topic: String::new(),
                mentions: Vec::new(),
                sender_id: None,
                files: Vec::new(),
            },
            Event::Receipt { id: 1, seq: 2 },
            Event::Left {
                name: "Bob".to_owned(),
                reason: LeftReason::Unspecified
            },
        ]
    );
    assert_eq!(ended, left());
}

#[test]
fn a_bot_that_only_sends_does_not_stand_still() {
    // More receipts than any queue holds, and no events are taken.
    const CHATS: u64 = 5_000;
    let serve = |server: Server| {
        let (mut peer, _) = server.welcome();
        for number in 0..CHATS {
            assert_eq!(peer.accept_chat(), number.to_string());
        }
        peer.leave();
    };
    let ended = check(serve, |address| async move {
        let mut session = Session::connect(&address, "bot").await.expect("a session");
        for number in 0..CHATS {
            session.send(number.to_string()).await.expect("sent");
        }
        // Less than the wait for a missing receipt.
        let wait = std::time::Duration::from_secs(8);
        let leaving = tokio::time::timeout(wait, session.leave());
        leaving.await.expect("leaving takes no time")
    });
    assert_eq!(ended, left());
}

#[test]
fn a_dropped_session_leaves() {
    let (left, has_left) = std::sync::mpsc::sync_channel(1);
    let serve = move |server: Server| {
        let (mut peer, _) = server.welcome();
        assert_eq!(peer.accept_chat(), "last");
        peer.leave();
        left.send(()).expect("a test");
    };
    check(serve, |address| async move {
        let mut session = Session::connect(&address, "bot").await.expect("a session");
        session.send("last").await.expect("sent");
        drop(session);
        // The task under it needs the runtime a little longer.
        let wait = std::time::Duration::from_secs(crate::fake::WAIT_SECONDS);
        let has_left = tokio::task::spawn_blocking(move || has_left.recv_timeout(wait));
        has_left.await.expect("no panic").expect("it left");
    });
}

#[test]
fn leaving_now_counts_what_is_not_sent() {
    let serve = |server: Server| {
        let slow = Limits {
            chat_burst: 2,
            chat_interval_ms: 3_600_000,
            ..limits()
        };
        let (mut peer, _) = server.welcome_with(slow, None);
        assert_eq!(peer.accept_chat(), "0");
        peer.leave();
    };
    let ended = check(serve, |address| async move {
        let mut session = Session::connect(&address, "bot").await.expect("a session");
        for number in 0..5 {
            session.send(number.to_string()).await.expect("sent");
        }
        let receipt = session.next().await;
        assert_eq!(receipt, Some(Event::Receipt { id: 1, seq: 1 }));
        session.sender().leave_now();
        match session.next().await {
            Some(Event::Ended(ended)) => ended,
            other => panic!("expected the end, got {other:?}"),
        }
    });
    assert_eq!(
        ended,
        Ended {
            unsent: 4,
            ..left()
        }
    );
}

#[test]
fn every_end_is_told_once() {
    type End = fn(&mut Peer);
    let ends: [(End, Ending); 3] = [
        (
            |peer| peer.closing("bye"),
            Ending::ServerClosed {
                detail: "bye".to_owned(),
                retry_after_ms: 0,
            },
        ),
        (
            |peer| peer.end(ErrorCode::IdleTimeout.into(), "wake up"),
            Ending::Error {
                code: ErrorCode::IdleTimeout,
                detail: "wake up".to_owned(),
            },
        ),
        (
            |peer| peer.end(12_345, "new"),
            Ending::Error {
                code: ErrorCode::Unspecified,
                detail: "new".to_owned(),
            },
        ),
    ];
    for (end, expected) in ends {
        let serve = move |server: Server| {
            let (mut peer, _) = server.welcome();
            end(&mut peer);
            assert_eq!(peer.receive(), None);
        };
        let ending = check(serve, |address| async move {
            let mut session = Session::connect(&address, "bot").await.expect("a session");
            let ending = match session.next().await {
                Some(Event::Ended(ended)) => ended.ending,
                other => panic!("expected the end, got {other:?}"),
            };
            assert_eq!(session.next().await, None);
            assert_eq!(session.send("late").await, Err(SendError::Ended));
            ending
        });
        assert_eq!(ending, expected);
    }
}

/// CHAT-CLOSE-8: a server that restarts while a client comes refuses it nothing.
#[test]
fn a_first_connect_comes_back_once_when_the_server_is_back_soon() {
    let closing_for = |server: &Server, retry_after_ms| {
        let mut peer = server.accept();
        peer.register();
        peer.closing_for("a restart", retry_after_ms);
        assert_eq!(peer.receive(), None);
    };
    let restarts = move |server: Server| {
        closing_for(&server, 300);
        let (peer, _) = server.welcome();
        peer.leave();
    };
    check(restarts, |address| async move {
        let began = Instant::now();
        let session = Session::connect(&address, "bot").await.expect("a session");
        assert!(began.elapsed() >= Duration::from_millis(300));
        assert_eq!(session.leave().await, left());
    });
    // One that does not say when, is away for long, or restarts over and over.
    let gone: [(&[u32], u32); 3] = [(&[0], 0), (&[600_000], 600_000), (&[1, 2], 2)];
    for (closings, last) in gone {
        let serve = move |server: Server| {
            for &retry_after_ms in closings {
                closing_for(&server, retry_after_ms);
            }
        };
        let error = check(serve, |address| async move {
            Session::connect(&address, "bot").await.expect_err("none")
        });
        let ConnectError::ServerClosed { retry_after_ms, .. } = error else {
            panic!("{error}");
        };
        assert_eq!(retry_after_ms, last);
    }
}

#[test]
fn a_text_that_is_too_long_is_refused_locally() {
    let serve = |server: Server| {
        let (peer, _) = server.welcome();
        peer.leave();
    };
    check(serve, |address| async move {
        let mut session = Session::connect(&address, "bot").await.expect("a session");
        let expected = SendError::TooLong {
            text_bytes: 4_097,
            text_bytes_max: 4_096,
        };
        assert_eq!(session.send("x".repeat(4_097)).await, Err(expected));
        assert_eq!(session.leave().await, left());
    });
}

#[test]
fn a_name_that_no_frame_can_hold_is_refused_locally() {
    let serve = |server: Server| assert_eq!(server.accept().receive(), None);
    let error = check(serve, |address| async move {
        Session::connect(&address, &"x".repeat(2_000)).await
    });
    assert!(matches!(
        error,
        Err(ConnectError::Refused {
            code: ErrorCode::NameInvalid,
            ..
        })
    ));
}
