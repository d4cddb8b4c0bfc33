//! The whole suite against a running server with the default limits, with many cases at
//! a time.

use std::{
    io::Write,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;

// What it does not use, others do.
#[allow(dead_code)]
#[path = "../support/websocket.rs"]
mod websocket;

use crate::support::{CONFORMS, Ended, Ran, TIMEOUT_SCALE, cuts, listening_to, reference, report};

/// The pause of a member that talks all the time.
const BETWEEN_WORDS: Duration = Duration::from_millis(5);

/// How long a handshake may take on a crowded machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn conforms(arguments: &[&str]) {
    conforms_with("", arguments);
}

fn conforms_with(options: &str, arguments: &[&str]) {
    let (_server, address) = listening_to(&reference(options));
    conforms_at(&address, arguments);
}

fn conforms_at(address: &str, arguments: &[&str]) -> Value {
    let more = ["server", address, "--timeout-scale", TIMEOUT_SCALE];
    let (Ran { code, stdout, .. }, report) = report(&[&more, arguments].concat());
    assert_eq!(code, CONFORMS, "{stdout}");
    assert!(report["counts"]["passed"].as_u64() > Some(90), "{report}");
    report
}

#[test]
fn a_server_at_an_address_conforms() {
    conforms(&[]);
}

#[test]
fn a_server_at_an_address_conforms_with_sixteen_cases_at_a_time() {
    conforms(&[&["--jobs", "16"][..], &cuts("whole")].concat());
}

/// The address has the pin of its self-signed certificate.
#[test]
fn a_server_at_an_encrypted_address_conforms() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().display();
    let options = format!("--listen none --tls-listen 127.0.0.1:0 --tls-self-signed {folder}");
    let more = ["--skip-slow", "--jobs", "16"];
    conforms_with(&options, &[&more[..], &cuts("whole,merged")].concat());
}

/// The suite speaks TCP to a bridge, which speaks WebSocket to the server.
#[test]
fn a_server_behind_websocket_conforms() {
    let options = "--listen none --web-listen 127.0.0.1:0";
    let (_server, address) = listening_to(&reference(options));
    let web = address.strip_prefix("http://").expect("a page");
    let bridge = websocket::bridge(web.parse().expect("an address"));
    let more = ["--skip-slow", "--jobs", "16"];
    conforms_at(
        &bridge.to_string(),
        &[&more[..], &cuts("whole,merged")].concat(),
    );
}

/// Every case that may be played beside others, the operator's too, in a room in which a
/// member says something between any two chats of the suite.
#[test]
fn others_who_talk_disturb_no_case() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().display();
    let options =
        format!("--data {folder}/room --control {folder}/control --rate-limit off --names owned");
    let (_server, address) = listening_to(&reference(&options));
    let talker = format!("{} {address} Talker", env!("CARGO_BIN_EXE_chat-client"));
    let mut words = talker.split_whitespace();
    let mut talker = Command::new(words.next().expect("a program"))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map(Ended)
        .expect("it starts");
    let mut says = talker.0.stdin.take().expect("it is piped");
    thread::spawn(move || {
        while says.write_all(b"a word\n").is_ok() {
            thread::sleep(BETWEEN_WORDS);
        }
    });
    let control = reference(&format!("ctl --control {folder}/control"));
    let options = ["--skip-slow", "--cuts", "whole", "--control-cmd", &control];
    let report = conforms_at(&address, &options);
    for name in [
        "moderation/removed-from-a-resume",
        "moderation/server-speaks",
    ] {
        let cases = report["cases"].as_array().expect("cases");
        let case = cases.iter().find(|case| case["case"] == name);
        assert_eq!(case.expect("the case")["verdict"], "passed", "{name}");
    }
}

/// The address has the pin of its self-signed certificate.
#[test]
fn a_server_at_a_quic_address_conforms() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().display();
    let options = format!("--listen none --quic-listen 127.0.0.1:0 --tls-self-signed {folder}");
    let more = ["--skip-slow", "--jobs", "16"];
    conforms_with(&options, &[&more[..], &cuts("whole,merged")].concat());
}
