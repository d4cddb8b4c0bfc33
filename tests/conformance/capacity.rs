//! Servers that take few connections: the suite blames none of their rules for it.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use prost::Message as _;
use serde_json::Value;

use chat::wire::{self, ErrorCode, ServerEnvelope, server_envelope};

use crate::support::{
    Admission, CONFORMS, INCOMPLETE, SHORT_DEADLINES, TIMEOUT_SCALE, VIOLATES, listening_to,
    reference, report,
};

/// As few connections a minute as the largest ordinary case opens.
const LIMITS: &str = "--limit-loopback --connections-per-minute-max 20";

fn run(target: &[&str], more: &[&str]) -> (i32, Value) {
    let arguments = [
        &["server"],
        target,
        &[
            "--skip-slow",
            "--cuts",
            "whole",
            "--timeout-scale",
            TIMEOUT_SCALE,
        ],
        more,
    ];
    let (ran, report) = report(&arguments.concat());
    assert_eq!(report["counts"]["failed"], 0, "{}", ran.stdout);
    (ran.code, report)
}

fn reasons(report: &Value) -> Vec<&str> {
    let cases = report["cases"].as_array().expect("cases");
    cases.iter().filter_map(|c| c["reason"].as_str()).collect()
}

/// The suite starts the server anew whenever it has opened too many connections.
#[test]
fn a_server_that_takes_few_connections_a_minute_conforms() {
    let command = reference(&format!("{SHORT_DEADLINES} {LIMITS}"));
    let (code, report) = run(
        &["--cmd", &command],
        &["--connections-per-minute-max", "20"],
    );
    assert_eq!(code, CONFORMS, "{:?}", reasons(&report));
    assert!(report["counts"]["passed"].as_u64() > Some(80), "{report}");
    let crowd = "it needs 274 new connections a minute, and the server takes 20";
    let is_skipped = reasons(&report).iter().any(|r| r.starts_with(crowd));
    assert!(is_skipped, "{:?}", reasons(&report));
}

/// At an address it cannot, so most cases are not run.
#[test]
fn a_run_that_opens_too_many_connections_a_minute_is_incomplete() {
    let (_server, address) = listening_to(&reference(LIMITS));
    let (code, report) = run(&[&address], &["--connections-per-minute-max", "20"]);
    assert_eq!(code, INCOMPLETE, "{report}");
    let is_said = |words: &str| reasons(&report).iter().any(|r| r.contains(words));
    assert!(
        is_said("of the 20 that the server takes in a minute"),
        "{report}"
    );
}

/// The same when nobody told the suite.
#[test]
fn a_server_that_refuses_further_connections_leaves_the_run_incomplete() {
    for (limit, code_said) in [
        (LIMITS, "the server said CONNECTING_TOO_FAST"),
        (
            "--limit-loopback --connections-per-minute-max 10000 --connections-per-address-max 2",
            "the server said TOO_MANY_CONNECTIONS",
        ),
    ] {
        let (_server, address) = listening_to(&reference(limit));
        let (code, report) = run(&[&address], &["--area", "chatting", "--area", "order"]);
        assert_eq!(code, INCOMPLETE, "{report}");
        let is_said = reasons(&report).iter().any(|r| r.starts_with(code_said));
        assert!(is_said, "{:?}", reasons(&report));
    }
}

/// Cases that are played at the same time share the few connections.
#[test]
fn a_server_that_takes_few_connections_at_a_time_conforms() {
    let (_server, address) = listening_to(&reference("--connections-max 8"));
    let arguments = ["--connections-max", "8", "--jobs", "8"];
    let (code, report) = run(&[&address], &arguments);
    assert_eq!(code, CONFORMS, "{:?}", reasons(&report));
    assert!(report["counts"]["passed"].as_u64() > Some(70), "{report}");
    let full = report["cases"].as_array().expect("cases").iter();
    let full = full.filter(|c| c["case"] == "registering/server-full");
    assert_eq!(
        full.map(|c| c["verdict"].as_str()).next_back(),
        Some(Some("passed"))
    );
}

/// Starts a relay to `server` that refuses each connection of which `is_refused` holds,
/// counted from 0, with this code, and says where it listens.
fn refusing(server: &str, code: ErrorCode, is_refused: fn(usize) -> bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let server = server.to_owned();
    thread::spawn(move || {
        for (i, client) in listener.incoming().flatten().enumerate() {
            if is_refused(i) {
                thread::spawn(move || refuse(client, code));
                continue;
            }
            let upstream = TcpStream::connect(&server).expect("the server listens");
            for (mut from, mut to) in [both(&client, &upstream), both(&upstream, &client)] {
                thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        }
    });
    address
}

fn both(from: &TcpStream, to: &TcpStream) -> (TcpStream, TcpStream) {
    let again = |stream: &TcpStream| stream.try_clone().expect("a second handle");
    (again(from), again(to))
}

fn refuse(mut client: TcpStream, code: ErrorCode) {
    let error = wire::Error {
        code: code.into(),
        detail: "There is no room now; come again.".to_owned(),
        ends_session: true,
        ..Default::default()
    };
    let message = Some(server_envelope::Message::Error(error));
    let frame = ServerEnvelope { message }.encode_length_delimited_to_vec();
    let _ = client.write_all(&frame);
    let _ = client.shutdown(Shutdown::Write);
    let _ = client.read_to_end(&mut Vec::new());
}

const CASES: [&str; 6] = [
    "--area",
    "chatting",
    "--area",
    "leaving",
    "--area",
    "admission",
];

/// A busy server has not seen yet that connections of the suite were closed: the suite
/// comes again in a moment.
#[test]
fn a_server_that_has_no_room_for_a_moment_conforms() {
    let admission = Admission::new();
    let list = admission.options(false, true);
    let list: Vec<&str> = list.iter().map(String::as_str).collect();
    let takes_eight = ["--connections-max", "8"];
    let many = &CASES[..];
    // The other cases with a list are about names that are in use.
    let one = &["--case", "admission/list-in-any-case"][..];
    for (code, cases, options) in [
        (ErrorCode::ServerFull, many, &[][..]),
        (ErrorCode::ServerFull, many, &takes_eight),
        (ErrorCode::TooManyConnections, many, &[]),
        (ErrorCode::NameInUse, one, &list),
    ] {
        let is_list = code == ErrorCode::NameInUse;
        let server_options = if is_list {
            list.join(" ")
        } else {
            String::new()
        };
        let (_server, server) = listening_to(&reference(&server_options));
        // Twice in a row in a case, and once in another one.
        let address = refusing(&server, code, |i| [1, 2, 6].contains(&i));
        let (exit, report) = run(&[&address], &[cases, &["--jobs", "1"], options].concat());
        let why = reasons(&report);
        assert_eq!(exit, CONFORMS, "{code:?} {options:?}: {why:?}");
        assert!(report["counts"]["passed"].as_u64() > Some(0), "{report}");
        let is_said = why.iter().any(|r| r.contains("the server said"));
        assert!(!is_said, "{why:?}");
    }
}

/// One that never has room again is not waited for in each case.
#[test]
fn a_server_that_never_has_room_is_not_waited_for_for_ever() {
    /// Less than the pauses of all cases together.
    const RUN_MAX: Duration = Duration::from_secs(120);
    for (code, exit) in [
        (ErrorCode::ServerFull, VIOLATES),
        (ErrorCode::TooManyConnections, INCOMPLETE),
    ] {
        let (_server, server) = listening_to(&reference(""));
        let address = refusing(&server, code, |i| i >= 2);
        let began = Instant::now();
        let arguments = [
            "server",
            &address,
            "--skip-slow",
            "--cuts",
            "whole",
            "--jobs",
            "2",
        ];
        let (ran, report) = report(&arguments);
        assert_eq!(ran.code, exit, "{code:?}: {:?}", reasons(&report));
        assert!(began.elapsed() < RUN_MAX, "{:?}", began.elapsed());
    }
}
