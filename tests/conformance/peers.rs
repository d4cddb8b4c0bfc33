//! The independent peers in Python, which share nothing with ours but the schema.

use crate::support::{CONFORMS, SHORT_DEADLINES, TIMEOUT_SCALE, python, report};

#[test]
fn the_python_server_conforms() {
    let command = format!(
        "{} {SHORT_DEADLINES} --chat-interval-ms 0",
        python("server.py")
    );
    // In two cuts: what the others add is shown against the reference server.
    let (ran, report) = report(&[
        "server",
        "--cmd",
        &command,
        "--strict",
        "--cuts",
        "whole,prefix",
        "--timeout-scale",
        TIMEOUT_SCALE,
    ]);
    assert_eq!(ran.code, CONFORMS, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(report["counts"]["failed"], 0);
}

#[test]
fn the_python_client_conforms() {
    let command = format!("{} {{address}} {{name}}", python("client.py"));
    let (ran, report) = report(&[
        "client",
        "--cmd",
        &command,
        "--strict",
        "--cuts",
        "whole,bytes",
        "--timeout-scale",
        TIMEOUT_SCALE,
    ]);
    assert_eq!(ran.code, CONFORMS, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(report["counts"]["not_run"], 0);
}
