//! Servers that take few connections: the suite blames none of their rules for it.

use serde_json::Value;

use crate::support::{
    CONFORMS, INCOMPLETE, SHORT_DEADLINES, TIMEOUT_SCALE, listening_to, reference, report,
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
