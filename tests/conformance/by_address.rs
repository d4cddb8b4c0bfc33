//! The whole suite against a running server with the default limits, with many cases at
//! a time.

use crate::support::{CONFORMS, Ran, TIMEOUT_SCALE, listening_to, reference, report};

fn conforms(arguments: &[&str]) {
    let (_server, address) = listening_to(&reference(""));
    let more = ["server", &address, "--timeout-scale", TIMEOUT_SCALE];
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
