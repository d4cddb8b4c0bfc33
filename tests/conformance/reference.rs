//! Every case against the reference server and client: none fails, and the observed
//! steps equal the reviewed snapshots.

use std::fmt::Write;

use serde_json::Value;

use crate::{
    files::json_schema,
    support::{
        Admission, CONFORMS, SHORT_DEADLINES, TIMEOUT_SCALE, client, cuts, listening_to, reference,
        report,
    },
};

/// Compares the observed steps with a snapshot for each area.
fn snapshot(report: &Value, prefix: &str) {
    let cases = report["cases"].as_array().expect("cases");
    let area = |case: &Value| {
        let id = case["case"].as_str().expect("an id");
        id.rsplit_once('/').expect("an area").0.replace('/', "-")
    };
    let mut areas: Vec<String> = cases.iter().map(area).collect();
    areas.dedup();
    for name in areas {
        let mut text = String::new();
        for case in cases.iter().filter(|c| area(c) == name) {
            let word = |key: &str| case[key].as_str().unwrap_or_default().to_owned();
            let _ = writeln!(
                text,
                "== {}: {} {}",
                word("case"),
                word("verdict"),
                word("reason")
            );
            for line in case["observed"].as_array().into_iter().flatten() {
                let _ = writeln!(text, "{}", line.as_str().unwrap_or_default());
            }
        }
        insta::assert_snapshot!(format!("{prefix}-{name}"), text);
    }
}

fn conforms(arguments: &[&str]) -> Value {
    let (ran, report) = report(&[arguments, &["--timeout-scale", TIMEOUT_SCALE]].concat());
    assert_eq!(ran.code, CONFORMS, "{}{}", ran.stdout, ran.stderr);
    let schema = json_schema("report.schema.json");
    if let Some(error) = schema.iter_errors(&report).next() {
        panic!("{} at {}", error, error.instance_path);
    }
    report
}

/// In all cuts, with SHOULDs counted like MUSTs, and without a rate limit, so that the
/// case about a slow consumer sends its full load.
#[test]
fn the_reference_server_conforms() {
    let command = reference(&format!("{SHORT_DEADLINES} --rate-limit off"));
    snapshot(
        &conforms(&["server", "--cmd", &command, "--strict"]),
        "server",
    );
}

/// With a room on disk, all cases, those about the past and about crashes among them. The
/// others are shown in all cuts without.
#[test]
fn the_reference_server_conforms_with_a_room_on_disk() {
    let command = reference(&format!(
        "{SHORT_DEADLINES} --rate-limit off --data {{data}}"
    ));
    let arguments = ["server", "--cmd", &command, "--strict"];
    let report = conforms(&[&arguments[..], &cuts("whole")].concat());
    assert!(report["counts"]["passed"].as_u64() > Some(160), "{report}");
}

/// The cases in which the operator of the server acts.
#[test]
fn the_reference_server_conforms_with_an_operator() {
    let command = reference("--rate-limit off --data {data} --control {data}/control");
    let control = reference("ctl --control {data}/control");
    let target = ["server", "--cmd", &command, "--control-cmd", &control];
    let report = conforms(&[&target[..], &["--strict", "--area", "moderation"]].concat());
    assert_eq!(report["counts"]["not_run"], 0, "{report}");
    snapshot(&report, "operated");
}

/// A line that nobody continued for as long as was announced.
#[test]
fn the_reference_server_conforms_with_lines_that_end_soon() {
    let command = reference(&format!("{SHORT_DEADLINES} --resume-ms 1500"));
    let case = ["--case", "resuming/line-ends-with-time"];
    let report = conforms(&[&["server", "--cmd", &command, "--strict"], &case[..]].concat());
    assert_eq!(report["counts"]["not_run"], 0);
}

/// The cases that need a rate limit or few connections.
#[test]
fn the_reference_server_conforms_with_a_rate_and_few_connections() {
    let options = "--rate-limit 50 --rate-burst 20 --connections-max 12";
    let command = reference(&format!("{SHORT_DEADLINES} {options}"));
    let report = conforms(&[
        "server",
        "--cmd",
        &command,
        "--strict",
        "--connections-max",
        "12",
        "--case",
        "limits/*rate*",
        "--case",
        "limits/burst*",
        "--case",
        "limits/one*",
        "--case",
        "resuming/resends-above-the-rate",
        "--case",
        "registering/server-full",
    ]);
    assert_eq!(report["counts"]["not_run"], 0);
    snapshot(&report, "limited");
}

/// The cases about admission, in all cuts.
#[test]
fn the_reference_server_conforms_with_a_password_and_a_list() {
    let admission = Admission::new();
    for (prefix, has_password, has_list, least_passed) in [
        ("password", true, false, 4),
        ("list", false, true, 2),
        ("password-and-list", true, true, 3),
    ] {
        let options = admission.options(has_password, has_list);
        let command = reference(&options.join(" "));
        let mut arguments = vec![
            "server",
            "--cmd",
            &command,
            "--strict",
            "--area",
            "admission",
        ];
        arguments.extend(options.iter().map(String::as_str));
        let report = conforms(&arguments);
        assert!(report["counts"]["passed"].as_u64() >= Some(least_passed));
        snapshot(&report, prefix);
    }
}

/// All other cases pass on a server with a password as well.
#[test]
fn the_reference_server_conforms_with_a_password_in_every_register() {
    let options = Admission::new();
    let options = options.options(true, false);
    let command = reference(&format!("{SHORT_DEADLINES} {}", options.join(" ")));
    let mut arguments = vec![
        "server",
        "--cmd",
        &command,
        "--skip-slow",
        "--cuts",
        "whole",
    ];
    arguments.extend(options.iter().map(String::as_str));
    let report = conforms(&arguments);
    assert!(report["counts"]["passed"].as_u64() > Some(80), "{report}");
}

/// With `--limit-loopback`, and one limit at a time, since the cases need limits that
/// exclude each other.
#[test]
fn the_reference_server_conforms_with_limits_for_each_address() {
    for (option, case) in [
        (
            "--connections-per-address-max",
            "registering/too-many-from-one-address",
        ),
        (
            "--connections-per-minute-max",
            "registering/too-often-from-one-address",
        ),
    ] {
        let options = format!("--limit-loopback {option} 10");
        let command = reference(&format!("{SHORT_DEADLINES} {options}"));
        let arguments = ["server", "--cmd", &command, "--strict", option, "10"];
        let report = conforms(&[&arguments[..], &["--case", case]].concat());
        assert_eq!(report["counts"]["not_run"], 0);
        snapshot(&report, option.trim_start_matches('-'));
    }
}

/// Frames so small that Members needs several even for a small room.
#[test]
fn the_reference_server_conforms_with_small_frames() {
    let options = "--text-bytes-max 128 --frame-bytes-max 384 --rate-limit off";
    let command = reference(&format!("{SHORT_DEADLINES} {options}"));
    let arguments = ["server", "--cmd", &command, "--skip-slow"];
    conforms(&[&arguments[..], &cuts("whole,merged")].concat());
}

/// One chat at a time, each in its own time: the suite keeps to the rate also with
/// frames that take a while to write.
#[test]
fn the_reference_server_conforms_with_a_burst_of_one() {
    let command = reference(&format!("{SHORT_DEADLINES} --rate-limit 10 --rate-burst 1"));
    conforms(&[
        "server",
        "--cmd",
        &command,
        "--case",
        "framing/longest-envelope",
        "--cuts",
        "bytes",
    ]);
}

/// Two runs at once on one server, as two classes might do.
#[test]
fn two_runs_share_a_server() {
    let command = reference(&format!("{SHORT_DEADLINES} --rate-limit off"));
    let (_server, address) = listening_to(&command);
    let address = address.as_str();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| conforms(&["server", address, "--skip-slow", "--cuts", "whole,merged"]));
        }
    });
}

#[test]
fn the_reference_client_conforms() {
    let program = env!("CARGO_BIN_EXE_chat-client");
    let command = client(&format!("{program} {{resuming:--reconnect}}"));
    let report = conforms(&["client", "--cmd", &command, "--strict"]);
    snapshot(&report, "client");
}
