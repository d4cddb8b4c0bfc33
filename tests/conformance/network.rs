//! A network in between: the suite against the reference server through a proxy that
//! delays every byte. Nothing is wrong with the server, so every case passes.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::support::{CONFORMS, INCOMPLETE, listening_to, reference, report};

/// How long a run at an address may take, with the defaults of the suite.
const RUN_MAX: Duration = Duration::from_secs(4 * 60);

/// How many pieces may be on their way in one direction of a connection, as in the
/// buffers of a network.
const PIECES_MAX: usize = 64;

/// A piece of a stream and when it is due; empty: the end of the stream.
type Piece = (Instant, Vec<u8>);

/// The delay of what comes now.
type Delay = Arc<dyn Fn() -> Duration + Send + Sync>;

/// Starts a proxy to `server` that delays everything in both directions, and says where
/// it listens.
fn delayed(server: &str, delay: Duration) -> String {
    delayed_by(server, move || delay)
}

/// The same with a delay that changes, and never gets shorter.
fn delayed_by(server: &str, delay: impl Fn() -> Duration + Send + Sync + 'static) -> String {
    let delay: Delay = Arc::new(delay);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let server = server.to_owned();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (server, delay) = (server.clone(), Arc::clone(&delay));
            thread::spawn(move || connect(client, &server, &delay));
        }
    });
    address
}

fn connect(client: TcpStream, server: &str, delay: &Delay) {
    thread::sleep(delay());
    let Ok(upstream) = TcpStream::connect(server) else {
        return;
    };
    for stream in [&client, &upstream] {
        stream.set_nodelay(true).expect("a socket");
    }
    for (source, sink) in [(&client, &upstream), (&upstream, &client)] {
        let source = source.try_clone().expect("a second handle");
        let sink = sink.try_clone().expect("a second handle");
        let (sender, receiver) = sync_channel(PIECES_MAX);
        let delay = Arc::clone(delay);
        thread::spawn(move || read(source, &sender, &delay));
        thread::spawn(move || write(sink, &receiver));
    }
}

fn read(mut source: TcpStream, pieces: &SyncSender<Piece>, delay: &Delay) {
    let mut buffer = [0; 16 * 1024];
    loop {
        let read = source.read(&mut buffer).unwrap_or(0);
        let piece = (Instant::now() + delay(), buffer[..read].to_vec());
        if pieces.send(piece).is_err() || read == 0 {
            return;
        }
    }
}

fn write(mut sink: TcpStream, pieces: &Receiver<Piece>) {
    for (due, piece) in pieces {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        if piece.is_empty() || sink.write_all(&piece).is_err() {
            let _ = sink.shutdown(Shutdown::Write);
            return;
        }
    }
}

/// All cases conform through a network with this delay each way, as many as without it, and
/// in time.
fn conforms_over(delay: Duration) {
    // Short enough that the suite waits for them, long enough for the round trip.
    let deadlines = "--register-deadline-ms 5000 --name-check-deadline-ms 3000 \
        --keepalive-interval-ms 3000 --idle-deadline-ms 9000";
    let (_server, address) = listening_to(&reference(deadlines));
    let address = delayed(&address, delay);
    let began = Instant::now();
    let (ran, report) = report(&["server", &address]);
    let took = began.elapsed();
    assert_eq!(ran.code, CONFORMS, "{}{}", ran.stdout, ran.stderr);
    println!("{delay:?} each way: {took:?}");
    assert!(took < RUN_MAX, "{took:?}");
    // Those that end the server, flood the room, or need options that are not given.
    let not_run: Vec<_> = report["cases"]
        .as_array()
        .expect("cases")
        .iter()
        .filter(|case| case["verdict"] == "not-run")
        .filter(|case| {
            let reason = case["reason"].as_str().expect("a reason");
            let is_known = [
                "it ends the server",
                "it floods the room",
                "it needs ",
                "it waits ",
                "give --",
                "the operator acts",
                "the server does not grant",
                "the first proof of a key",
            ]
            .iter()
            .any(|known| reason.starts_with(known));
            // At an address others may talk.
            !is_known && !reason.contains("give --exclusive")
        })
        .collect();
    assert!(not_run.is_empty(), "{not_run:?}");
    let passed = report["counts"]["passed"].as_u64();
    assert!(passed > Some(100), "{report}");
}

/// The part of it that takes a few seconds: a crowd, and a contested name.
#[test]
fn a_server_behind_a_slow_network_conforms() {
    let (_server, address) = listening_to(&reference("--name-check-deadline-ms 3000"));
    let address = delayed(&address, Duration::from_millis(200));
    let arguments = ["server", &address, "--jobs", "16", "--cuts", "whole"];
    let cases = ["presence/m*", "names/holder*", "chatting/*"];
    let cases = cases.iter().flat_map(|case| ["--case", case]);
    let arguments: Vec<&str> = arguments.into_iter().chain(cases).collect();
    let (ran, report) = report(&arguments);
    assert_eq!(ran.code, CONFORMS, "{}{}", ran.stdout, ran.stderr);
    let names = ["presence/many-members", "names/holder-answers"];
    for case in report["cases"].as_array().expect("cases") {
        let is_named = names.iter().any(|name| case["case"] == *name);
        assert!(!is_named || case["verdict"] == "passed", "{case}");
    }
}

/// The round trip at the start says nothing of a network, or a machine, that becomes slow
/// later: an answer takes longer than a step waits at first.
#[test]
#[ignore = "takes minutes"]
fn a_server_behind_a_network_that_becomes_slow_is_not_blamed() {
    const QUICK: Duration = Duration::from_millis(1_500);
    const SLOWEST: Duration = Duration::from_millis(2_000);
    let (_server, address) = listening_to(&reference(""));
    let began = Instant::now();
    let address = delayed_by(&address, move || {
        (began.elapsed().saturating_sub(QUICK) / 4).min(SLOWEST)
    });
    let arguments = ["server", &address, "--jobs", "8", "--cuts", "whole"];
    let (ran, report) = report(&[&arguments[..], &["--case", "chatting/*"]].concat());
    assert_eq!(
        report["counts"]["failed"], 0,
        "{}{}",
        ran.stdout, ran.stderr
    );
    assert!(report["counts"]["passed"].as_u64() > Some(5), "{report}");
}

/// The suite cannot answer within such deadlines, on any machine: that is no fault of the
/// server.
#[test]
fn a_server_whose_deadlines_are_too_short_for_the_suite_is_not_blamed() {
    let server = reference("--name-check-deadline-ms 1");
    let arguments = ["server", "--cmd", &server, "--cuts", "whole"];
    let (ran, report) = report(&[&arguments[..], &["--case", "names/holder*"]].concat());
    assert_eq!(ran.code, INCOMPLETE, "{}{}", ran.stdout, ran.stderr);
    let is_late = |case: &Value| {
        let reason = case["reason"].as_str().unwrap_or_default();
        case["verdict"] == "not-run" && reason.contains("too long for a name_check_deadline_ms")
    };
    let cases = report["cases"].as_array().expect("cases");
    assert!(cases.iter().any(is_late), "{report}");
}

#[test]
#[ignore = "takes minutes"]
fn every_case_passes_over_a_network_of_50_ms_each_way() {
    conforms_over(Duration::from_millis(50));
}

#[test]
#[ignore = "takes minutes"]
fn every_case_passes_over_a_network_of_200_ms_each_way() {
    conforms_over(Duration::from_millis(200));
}
