//! The whole suite against a running server with the default limits, with many cases at
//! a time.

use std::time::Duration;

// What it does not use, others do.
#[allow(dead_code)]
#[path = "../support/websocket.rs"]
mod websocket;

use crate::support::{CONFORMS, Ran, TIMEOUT_SCALE, listening_to, reference, report};

/// How long a handshake may take on a crowded machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn conforms(arguments: &[&str]) {
    conforms_with("", arguments);
}

fn conforms_with(options: &str, arguments: &[&str]) {
    let (_server, address) = listening_to(&reference(options));
    conforms_at(&address, arguments);
}

fn conforms_at(address: &str, arguments: &[&str]) {
    let more = ["server", address, "--timeout-scale", TIMEOUT_SCALE];
    let (Ran { code, stdout, .. }, report) = report(&[&more, arguments].concat());
    assert_eq!(code, CONFORMS, "{stdout}");
    assert!(report["counts"]["passed"].as_u64() > Some(90), "{report}");
}

#[test]
fn a_server_at_an_address_conforms() {
    conforms(&[]);
}

#[test]
fn a_server_at_an_address_conforms_with_sixteen_cases_at_a_time() {
    conforms(&["--jobs", "16"]);
}

/// The address has the pin of its self-signed certificate.
#[test]
fn a_server_at_an_encrypted_address_conforms() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().display();
    let options = format!("--listen none --tls-listen 127.0.0.1:0 --tls-self-signed {folder}");
    conforms_with(&options, &["--skip-slow", "--jobs", "16"]);
}

/// The suite speaks TCP to a bridge, which speaks WebSocket to the server.
#[test]
fn a_server_behind_websocket_conforms() {
    let options = "--listen none --web-listen 127.0.0.1:0";
    let (_server, address) = listening_to(&reference(options));
    let web = address.strip_prefix("http://").expect("a page");
    let bridge = websocket::bridge(web.parse().expect("an address"));
    conforms_at(&bridge.to_string(), &["--skip-slow", "--jobs", "16"]);
}

/// The address has the pin of its self-signed certificate.
#[test]
fn a_server_at_a_quic_address_conforms() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path().display();
    let options = format!("--listen none --quic-listen 127.0.0.1:0 --tls-self-signed {folder}");
    conforms_with(&options, &["--skip-slow", "--jobs", "16"]);
}
