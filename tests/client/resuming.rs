//! Coming back after a lost connection: nothing is lost, nothing is doubled.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::thread;
use std::time::Duration;

use chat::client::{Backoff, Connector, Ended, Ending, Event, Session};
use chat::wire::{Capability, ErrorCode, Limits, Registered, Resume};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::cutting::{Cut, NEVER, Proxy};
use crate::fake::{Peer, Server, ToClient, WAIT_SECONDS, limits};
use crate::program::Program;
use crate::runtime::run;
use crate::support::TestServer;

/// How many chats each side sends in one conversation.
const CHATS: usize = 4;

/// More bytes than go in one direction of a conversation.
const BYTES_MAX: usize = 2_000;

/// A server that does not mind many connections from one address.
fn server() -> TestServer {
    TestServer::start(&["--connections-per-minute-max", "off", "--rate-limit", "off"])
}

fn impatient() -> Backoff {
    Backoff {
        first: Duration::from_millis(2),
        longest: Duration::from_millis(20),
        give_up_after: Duration::from_secs(WAIT_SECONDS),
    }
}

/// Waits for an event that means something to the caller.
async fn until<T>(session: &mut Session, mut find: impl FnMut(Event) -> Option<T>) -> T {
    let searching = async {
        loop {
            let event = session.next().await.expect("an event");
            assert!(!matches!(event, Event::Ended(_)), "{event:?}");
            if let Some(found) = find(event) {
                return found;
            }
        }
    };
    let wait = Duration::from_secs(WAIT_SECONDS);
    tokio::time::timeout(wait, searching)
        .await
        .expect("it comes")
}

/// Alice talks through the proxy with Bob, who sits at the server. Returns how many
/// connections that took; 0 if the first one did not let her register.
async fn talk(server: &TestServer, cuts: Vec<Cut>) -> usize {
    let proxy = Proxy::start(server.address, cuts.clone()).await;
    let connector = Connector::new().reconnecting(impatient());
    let Ok(mut alice) = connector.connect(&proxy.address, "Alice").await else {
        return 0;
    };
    let bob = Session::connect(&format!("chat://{}", server.address), "Bob").await;
    let mut bob = bob.expect("a session");
    let (mut alice_seen, mut bob_seen, mut receipts) = (Vec::new(), Vec::new(), Vec::new());
    let mut seqs = Vec::new();
    for number in 0..CHATS {
        // The same text each time: only number and id tell the chats apart.
        alice.send("from Alice").await.expect("sent");
        bob.send(format!("from Bob {number}")).await.expect("sent");
        until(&mut bob, |event| match event {
            Event::Message { text, sender, .. } => {
                bob_seen.push((sender, text));
                Some(())
            }
            _ => None,
        })
        .await;
    }
    until(&mut alice, |event| {
        match event {
            Event::Message {
                seq, sender, text, ..
            } => {
                seqs.push(seq);
                alice_seen.push((sender, text));
            }
            Event::Receipt { id, seq } => {
                receipts.push(id);
                seqs.push(seq);
            }
            Event::Resumed { missed, .. } => assert_eq!(missed, 0),
            Event::Reconnecting { .. } => {}
            event => panic!("{event:?} with {cuts:?}"),
        }
        (alice_seen.len() >= CHATS && receipts.len() >= CHATS).then_some(())
    })
    .await;
    let from = |name: &str, text: &str| (name.to_owned(), text.to_owned());
    let bobs: Vec<_> = (0..CHATS)
        .map(|number| from("Bob", &format!("from Bob {number}")))
        .collect();
    assert_eq!(alice_seen, bobs, "{cuts:?}");
    assert_eq!(
        bob_seen,
        vec![from("Alice", "from Alice"); CHATS],
        "{cuts:?}"
    );
    assert_eq!(receipts, (1..=CHATS as u64).collect::<Vec<_>>(), "{cuts:?}");
    seqs.sort_unstable();
    let first = seqs[0];
    let all: Vec<u64> = (first..first + 2 * CHATS as u64).collect();
    assert_eq!(seqs, all, "{cuts:?}");
    // A cut may come at the very end: the close behind Leave.
    alice.leave().await;
    bob.leave().await;
    proxy.accepted()
}

/// Runs the conversation with a cut behind each byte, until it is over before the cut.
/// `cut` makes the cuts from the number of bytes.
fn cut_everywhere(cut: impl Fn(usize) -> Vec<Cut>) {
    let server = server();
    let mut resumed = 0;
    for bytes in 0..BYTES_MAX {
        let cuts = cut(bytes);
        let connections = run(talk(&server, cuts.clone()));
        resumed += usize::from(connections > 1);
        if connections > 0 && connections <= cuts.len() {
            assert!(
                resumed > 50,
                "only {resumed} cuts were within the conversation"
            );
            return;
        }
    }
    panic!("the conversation has no end");
}

#[test]
fn a_cut_behind_any_byte_from_the_server_loses_nothing() {
    cut_everywhere(|received_bytes| {
        vec![Cut {
            received_bytes,
            ..NEVER
        }]
    });
}

#[test]
fn a_cut_behind_any_byte_to_the_server_loses_nothing() {
    cut_everywhere(|sent_bytes| {
        vec![Cut {
            sent_bytes,
            leaves_ghost: sent_bytes % 2 == 0,
            ..NEVER
        }]
    });
}

/// The second connection is cut, while it registers and while it catches up.
#[test]
fn a_cut_behind_any_byte_of_a_resume_loses_nothing() {
    cut_everywhere(|received_bytes| {
        let first = Cut {
            received_bytes: 220,
            leaves_ghost: received_bytes % 2 == 0,
            ..NEVER
        };
        let second = Cut {
            received_bytes,
            ..first
        };
        vec![first, second]
    });
}

/// Four members talk at once while all their connections are cut again and again: each
/// sees every chat of the others once, all in the same order, and knows the numbers of
/// its own.
#[test]
fn a_storm_of_cuts_loses_nothing() {
    check_storm(&[], 0);
}

/// And while the server is killed again and again.
#[test]
fn a_storm_of_cuts_and_kills_loses_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("room");
    check_storm(&["--data", data.to_str().expect("UTF-8")], 3);
}

/// `SEED` makes another storm.
fn check_storm(options: &[&str], kills: usize) {
    let seed = std::env::var("SEED").map_or(1, |seed| seed.parse().expect("a number"));
    let rooms = run(storm(options, kills, &mut fastrand::Rng::with_seed(seed)));
    for room in &rooms {
        assert_eq!(room, &rooms[0], "seed {seed}");
    }
    let seqs: Vec<u64> = rooms[0].keys().copied().collect();
    let all: Vec<u64> = (1..=(MEMBERS * STORM_CHATS) as u64).collect();
    assert_eq!(seqs, all, "seed {seed}");
    // The order of each sender is kept.
    for member in 0..MEMBERS {
        let name = format!("m{member}");
        let chats = rooms[0].values().filter(|(sender, _)| *sender == name);
        let texts = chats.map(|(_, text)| text.parse::<usize>().expect("a number"));
        assert!(texts.eq(0..STORM_CHATS), "seed {seed}, member {member}");
    }
}

const MEMBERS: usize = 4;
const STORM_CHATS: usize = 100;

/// What each member has seen and said, by number.
async fn storm(
    options: &[&str],
    kills: usize,
    random: &mut fastrand::Rng,
) -> Vec<BTreeMap<u64, (String, String)>> {
    let start = || {
        let unlimited = ["--connections-per-minute-max", "off", "--rate-limit", "off"];
        TestServer::start(&[&unlimited, options].concat())
    };
    let mut server = start();
    let mut members = Vec::new();
    let mut proxies = Vec::new();
    for member in 0..MEMBERS {
        let mut cuts = vec![NEVER; 200];
        for cut in &mut cuts {
            cut.sent_bytes = random.usize(0..600);
            cut.received_bytes = random.usize(0..1_500);
            cut.leaves_ghost = random.bool();
        }
        // The first connect is not repeated.
        cuts[0].sent_bytes += 100;
        cuts[0].received_bytes += 400;
        let proxy = Proxy::start(server.address, cuts).await;
        let connector = Connector::new().reconnecting(impatient());
        let session = connector
            .connect(&proxy.address, &format!("m{member}"))
            .await;
        members.push(session.expect("a session"));
        proxies.push(proxy);
    }
    let killing = async {
        for _ in 0..kills {
            tokio::time::sleep(Duration::from_millis(50)).await;
            server.signal("KILL");
            server.wait();
            server = start();
            for proxy in &proxies {
                proxy.set_server(server.address);
            }
        }
    };
    let talking = members
        .into_iter()
        .enumerate()
        .map(|(member, mut session)| {
            let mut random = random.fork();
            async move {
                let name = format!("m{member}");
                let mut room = BTreeMap::new();
                let sender = session.sender();
                let saying = tokio::spawn(async move {
                    for number in 0..STORM_CHATS {
                        sender.send(number.to_string()).await.expect("sent");
                        if random.bool() {
                            tokio::time::sleep(Duration::from_millis(random.u64(0..5))).await;
                        }
                    }
                });
                while room.len() < MEMBERS * STORM_CHATS {
                    until(&mut session, |event| {
                        let (seq, said) = match event {
                            Event::Message {
                                seq, sender, text, ..
                            } => {
                                assert_ne!(sender, name, "an own chat came back");
                                (seq, (sender, text))
                            }
                            // Ids count from 1.
                            Event::Receipt { id, seq } => {
                                (seq, (name.clone(), (id - 1).to_string()))
                            }
                            Event::Resumed { missed, .. } => {
                                assert_eq!(missed, 0);
                                return Some(());
                            }
                            Event::Reconnecting { .. } => return Some(()),
                            event => panic!("{event:?}"),
                        };
                        let before = room.insert(seq, said);
                        assert_eq!(before, None, "{seq} came twice");
                        Some(())
                    })
                    .await;
                }
                saying.await.expect("no panic");
                session.leave().await;
                room
            }
        });
    let (rooms, ()) = tokio::join!(futures_util::future::join_all(talking), killing);
    for proxy in proxies {
        assert!(proxy.accepted() > 5, "{} connections", proxy.accepted());
    }
    rooms
}

/// Starts a client that writes what it hears to its output, and waits until it listens.
fn start_log(server: &TestServer, proxy: &Proxy) -> Program {
    let mut log = Program::start(&["--listen", "--reconnect", &proxy.address, "log"]);
    log.end_input();
    run(async {
        let address = format!("chat://{}", server.address);
        let session = Connector::new().capabilities([Capability::Presence]);
        let mut session = session.connect(&address, "probe").await.expect("a session");
        until(&mut session, |event| match event {
            Event::Joined { name } if name == "log" => Some(()),
            Event::Members { names, .. } if names.iter().any(|it| it == "log") => Some(()),
            _ => None,
        })
        .await;
        session.leave().await;
    });
    log
}

/// What an operator does with a pipe: 60 lines at 20 a second, to a log of somebody else,
/// while both connections are cut twice.
#[test]
fn pipes_go_on_through_cuts() {
    let server = server();
    let cut = |sent_bytes, received_bytes| Cut {
        sent_bytes,
        received_bytes,
        leaves_ghost: sent_bytes % 2 == 0,
    };
    let cuts = vec![cut(200, 10_000), cut(400, 10_000)];
    let sender = Proxy::start_in_thread(server.address, cuts);
    let cuts = vec![cut(10_001, 555), cut(10_000, 777)];
    let listener = Proxy::start_in_thread(server.address, cuts);
    let log = start_log(&server, &listener);
    let mut program = Program::start(&["--reconnect", &sender.address, "ci"]);
    let mut expected = String::new();
    for number in 0..60 {
        program.write(format!("line {number}\n").as_bytes());
        writeln!(expected, "@ci: line {number}").expect("a string grows");
        thread::sleep(Duration::from_millis(50));
    }
    program.end_input();
    let outcome = program.outcome();
    assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
    assert_eq!(sender.accepted(), 3, "{}", outcome.errors);
    let cut_lines = |errors: &str| errors.matches("connection is lost").count();
    assert_eq!(cut_lines(&outcome.errors), 2, "{}", outcome.errors);
    // What was missed comes before what is new.
    run(async {
        let address = format!("chat://{}", server.address);
        let mut last = Session::connect(&address, "last").await.expect("a session");
        last.send("the end").await.expect("sent");
        last.leave().await;
    });
    expected += "@last: the end\n";
    log.shows("the end");
    kill(Pid::from_raw(log.id().cast_signed()), Signal::SIGTERM).expect("it runs");
    let outcome = log.outcome();
    assert_eq!(outcome.output, expected, "{}", outcome.errors);
    assert_eq!(cut_lines(&outcome.errors), 2, "{}", outcome.errors);
    assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
}

/// The same through a restart of a server that keeps the room on disk.
#[test]
fn pipes_go_on_through_a_kill_of_the_server() {
    through_a_restart("KILL");
}

#[test]
fn pipes_go_on_through_a_restart_of_the_server() {
    through_a_restart("TERM");
}

fn through_a_restart(signal: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("room");
    let data = data.to_str().expect("UTF-8");
    let start = || TestServer::start(&["--data", data]);
    let mut server = start();
    let proxy = Proxy::start_in_thread(server.address, Vec::new());
    let log = start_log(&server, &proxy);
    let mut program = Program::start(&["--reconnect", &proxy.address, "ci"]);
    let mut expected = String::new();
    for number in 0..60 {
        if number == 20 {
            server.signal(signal);
            server.wait();
        }
        if number == 25 {
            server = start();
            proxy.set_server(server.address);
        }
        program.write(format!("line {number}\n").as_bytes());
        writeln!(expected, "@ci: line {number}").expect("a string grows");
        thread::sleep(Duration::from_millis(50));
    }
    program.end_input();
    let outcome = program.outcome();
    assert_eq!(outcome.code, Some(0), "{}", outcome.errors);
    log.shows("line 59");
    kill(Pid::from_raw(log.id().cast_signed()), Signal::SIGTERM).expect("it runs");
    let outcome = log.outcome();
    assert_eq!(outcome.output, expected, "{}", outcome.errors);
    assert!(
        outcome.errors.contains("nothing is missed"),
        "{}",
        outcome.errors
    );
}

/// Registers the next connection of a client that reconnects.
fn admit(server: &Server, seq: u64, resumed_from: u64) -> (Peer, Option<Resume>) {
    let mut peer = server.accept();
    let register = peer.register();
    peer.send(ToClient::Registered(Registered {
        name: register.name,
        epoch: "e".to_owned(),
        seq,
        capabilities: register.capabilities,
        limits: Some(Limits {
            resend_ids_max: 64,
            ..limits()
        }),
        resume_token: b"token".to_vec(),
        resumed_from,
        ..Registered::default()
    }));
    (peer, register.resume)
}

/// Runs `serve` beside a client that reconnects.
fn check<F: Future>(
    serve: impl FnOnce(Server) + Send + 'static,
    bot: impl FnOnce(Session) -> F,
) -> F::Output {
    let server = Server::new();
    let address = server.address();
    let serving = thread::spawn(move || serve(server));
    let output = run(async {
        let connector = Connector::new().reconnecting(impatient());
        bot(connector
            .connect(&address, "Alice")
            .await
            .expect("a session"))
        .await
    });
    serving.join().expect("the server's part");
    output
}

async fn end(session: &mut Session) -> Ended {
    loop {
        if let Some(Event::Ended(ended)) = session.next().await {
            return ended;
        }
    }
}

/// An event that was read and not taken yet when writing fails is not lost.
#[test]
fn a_slow_user_loses_nothing_when_writing_fails() {
    const CHATS: u64 = 100;
    let serve = |server: Server| {
        let (mut peer, _) = admit(&server, 0, 0);
        for number in 1..=CHATS {
            peer.say("Bob", &number.to_string());
        }
        assert_eq!(peer.chat().text, "first");
        thread::sleep(Duration::from_millis(200));
        drop(peer);
        let mut peer = server.accept();
        let register = peer.register();
        let seq = register.resume.expect("a line").seq;
        peer.send(ToClient::Registered(Registered {
            name: register.name,
            epoch: "e".to_owned(),
            seq: CHATS,
            capabilities: register.capabilities,
            limits: Some(limits()),
            resume_token: b"token".to_vec(),
            resumed_from: seq + 1,
            ..Registered::default()
        }));
        peer.has_sent(seq);
        for number in seq + 1..=CHATS {
            peer.say("Bob", &number.to_string());
        }
        for text in ["first", "second", "third"] {
            assert_eq!(peer.accept_chat(), text);
        }
        peer.leave();
    };
    let texts = check(serve, |mut session| async move {
        let sender = session.sender();
        sender.send("first").await.expect("sent");
        tokio::time::sleep(Duration::from_millis(400)).await;
        // The closed end answers the first with a reset, so the second cannot be written.
        sender.send("second").await.expect("sent");
        tokio::time::sleep(Duration::from_millis(100)).await;
        sender.send("third").await.expect("sent");
        // The connection is given up a second after writing has failed.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        let mut texts = Vec::new();
        until(&mut session, |event| {
            if let Event::Message { text, .. } = event {
                texts.push(text);
            }
            (texts.len() >= CHATS as usize).then_some(())
        })
        .await;
        session.leave().await;
        texts
    });
    let all: Vec<_> = (1..=CHATS).map(|number| number.to_string()).collect();
    assert_eq!(texts, all);
}

#[test]
fn a_line_that_is_not_resumed_is_told_and_not_sent_again() {
    let serve = |server: Server| {
        let (mut peer, resume) = admit(&server, 3, 0);
        assert_eq!(resume, None);
        assert_eq!(peer.chat().text, "lost");
        drop(peer);
        let (mut peer, resume) = admit(&server, 5, 0);
        assert_eq!(resume.map(|resume| resume.seq), Some(3));
        assert_eq!(peer.accept_chat(), "new");
        peer.leave();
    };
    let events = check(serve, |mut session| async move {
        session.send("lost").await.expect("sent");
        let mut events = Vec::new();
        until(&mut session, |event| {
            let is_last = matches!(event, Event::Unknown { .. });
            events.push(match event {
                Event::Reconnecting { .. } => "reconnecting".to_owned(),
                Event::NotResumed { reason, registered } => {
                    format!("{reason:?} {}", registered.seq)
                }
                event => format!("{event:?}"),
            });
            is_last.then_some(())
        })
        .await;
        assert_eq!(session.registered().seq, 5);
        session.send("new").await.expect("sent");
        let ended = session.leave().await;
        assert_eq!((ended.unsent, ended.unconfirmed), (0, 0));
        events
    });
    let expected = [
        "reconnecting",
        "Gap { from: 4, to: 5, is_filtered: false }",
        "Unspecified 5",
        "Unknown { id: 1, text: \"lost\" }",
    ];
    assert_eq!(events, expected);
}

#[test]
fn what_only_the_user_can_change_ends_the_session() {
    // In the session, and when it is to be continued.
    for code in [ErrorCode::Replaced, ErrorCode::NameReclaimed] {
        let serve = move |server: Server| {
            let (mut peer, _) = admit(&server, 0, 0);
            peer.end(code.into(), "");
            assert_eq!(peer.receive(), None);
        };
        let ended = check(serve, |mut session| async move { end(&mut session).await });
        assert!(matches!(ended.ending, Ending::Error { code: it, .. } if it == code));
    }
    for code in [
        ErrorCode::Replaced as i32,
        ErrorCode::PasswordWrong as i32,
        12_345,
    ] {
        let serve = move |server: Server| {
            drop(admit(&server, 0, 0));
            let mut peer = server.accept();
            peer.register();
            peer.end(code, "no");
            assert_eq!(peer.receive(), None);
        };
        let ended = check(serve, |mut session| async move { end(&mut session).await });
        assert!(matches!(ended.ending, Ending::Error { detail, .. } if detail == "no"));
    }
}

/// Ghosts hold a name for a while where a server does not resume; servers restart.
#[test]
fn what_passes_is_tried_again() {
    let serve = |server: Server| {
        let (mut peer, _) = admit(&server, 0, 0);
        peer.end(ErrorCode::SlowConsumer.into(), "");
        for attempt in 1..=3 {
            let mut peer = server.accept();
            let resume = peer.register().resume.expect("a line");
            assert_eq!((resume.attempt, resume.seq), (attempt, 0));
            match attempt {
                1 => peer.end(ErrorCode::NameInUse.into(), ""),
                2 => peer.closing("restarting"),
                _ => {}
            }
        }
        let (mut peer, _) = admit(&server, 0, 1);
        peer.closing("restarting");
        drop(peer);
        let (peer, resume) = admit(&server, 0, 1);
        assert_eq!(resume.map(|resume| resume.attempt), Some(5));
        peer.leave();
    };
    let ended = check(serve, |mut session| async move {
        for _ in 0..2 {
            until(&mut session, |event| match event {
                Event::Resumed { missed, .. } => (missed == 0).then_some(()),
                _ => None,
            })
            .await;
        }
        session.leave().await
    });
    assert_eq!(ended.ending, Ending::Left);
}

/// A client that waits for a server that is gone leaves when it is told to.
#[test]
fn a_client_without_a_server_leaves() {
    for is_confirmed in [true, false] {
        let serve = move |server: Server| {
            let (mut peer, _) = admit(&server, 0, 0);
            match is_confirmed {
                true => drop(peer.accept_chat()),
                false => drop(peer.chat()),
            }
        };
        let ended = check(serve, |mut session| async move {
            session.send("text").await.expect("sent");
            until(&mut session, |event| {
                matches!(event, Event::Reconnecting { .. }).then_some(())
            })
            .await;
            match is_confirmed {
                // Nothing is left to do.
                true => session.leave().await,
                false => {
                    session.sender().leave_now();
                    end(&mut session).await
                }
            }
        });
        assert_eq!(ended.ending, Ending::Left);
        assert_eq!(ended.unconfirmed, usize::from(!is_confirmed));
    }
}
