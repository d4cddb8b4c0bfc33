//! Which rule a failure blames: the one that is broken, whatever the case is about. A
//! SHOULD that is not followed keeps no MUST behind it from being judged.

use serde_json::Value;

use crate::support::{self, CONFORMS, VIOLATES, cuts, python, report};

/// Deadlines that the suite waits for, and a rate that it keeps to.
const OPTIONS: &str = "--chat-burst 60 --chat-interval-ms 10 --register-deadline-ms 2000 \
    --name-check-deadline-ms 500 --keepalive-interval-ms 500 --idle-deadline-ms 2500";

fn judged(mutant: &str, arguments: &[&str]) -> (i32, Value) {
    let command = format!("{} --mutant {mutant} {OPTIONS}", python("server.py"));
    // No verdict here hangs on a busy machine: what does not come blames the same rule.
    let more = ["--cuts", "whole", "--jobs", "8"];
    let (ran, report) = report(&[&["server", "--cmd", &command], &more[..], arguments].concat());
    (ran.code, report)
}

/// Each case with a failure, and the rules that its failures blame.
fn blamed(report: &Value) -> Vec<(String, Vec<String>)> {
    let cases = report["cases"].as_array().expect("cases");
    let rules = |failure: &Value| -> Vec<String> {
        let rules = failure["rules"].as_array().into_iter().flatten();
        rules
            .filter_map(|r| r.as_str().map(str::to_owned))
            .collect()
    };
    cases
        .iter()
        .map(|case| {
            let warnings = case["warnings"].as_array().into_iter().flatten();
            let failures = case.get("failure").into_iter().chain(warnings);
            let id = case["case"].as_str().expect("an id").to_owned();
            (id, failures.flat_map(rules).collect::<Vec<_>>())
        })
        .filter(|(_, rules)| !rules.is_empty())
        .collect()
}

/// The rules that a case is about.
fn about<'a>(report: &'a Value, case: &str) -> Vec<&'a str> {
    let cases = report["cases"].as_array().expect("cases");
    let case = cases.iter().find(|c| c["case"] == case).expect("the case");
    let rules = case["rules"].as_array().expect("rules");
    rules.iter().filter_map(Value::as_str).collect()
}

/// Each of these breaks one rule, which many cases about others depend on.
#[test]
fn a_broken_rule_is_blamed_in_cases_about_other_rules() {
    for (mutant, rule, areas) in [
        (
            "second-register-ignored",
            "CHAT-REG-6",
            &["chatting", "errors", "framing", "order", "registering"][..],
        ),
        (
            "empty-ignored",
            "CHAT-GROW-1",
            &["errors", "framing", "growing", "leaving", "order"],
        ),
        (
            "echo-to-sender",
            "CHAT-CHAT-2",
            &["chatting", "framing", "leaving"],
        ),
        (
            "leave-not-closed",
            "CHAT-LEAVE-2",
            &["leaving", "names", "order"],
        ),
        (
            "receipt-missing",
            "CHAT-RCPT-1",
            &["growing", "order", "receipts"],
        ),
        (
            "error-id-missing",
            "CHAT-ERR-4",
            &["errors", "leaving", "receipts"],
        ),
        (
            "open-after-error",
            "CHAT-ERR-1",
            &["admission", "names", "registering"],
        ),
    ] {
        let areas = areas.iter().flat_map(|area| ["--area", area]);
        let (code, report) = judged(mutant, &areas.collect::<Vec<_>>());
        assert_eq!(code, VIOLATES, "{mutant}: {report}");
        let blamed = blamed(&report);
        assert!(blamed.len() > 2, "{mutant}: {blamed:?}");
        for (case, rules) in blamed {
            // A case about several rules may break any of those that decide a step.
            let is_about_it = about(&report, &case).contains(&rule);
            assert!(
                rules.iter().any(|blamed| blamed == rule),
                "{mutant}: {case} blames {rules:?}"
            );
            assert!(
                is_about_it || rules.len() == 1,
                "{mutant}: {case} blames {rules:?}"
            );
        }
    }
}

/// A frame that only some cuts break is the fault of the cut, in every case.
#[test]
fn a_failure_in_one_cut_alone_blames_the_rule_about_cuts() {
    let server = python("server.py");
    let command = format!("{server} --mutant cut-frame-dropped {OPTIONS}");
    let cuts = ["--area", "chatting", "--cuts", "whole,bytes"];
    let (ran, report) = report(&[&["server", "--cmd", &command], &cuts[..]].concat());
    assert_eq!(ran.code, VIOLATES, "{}", ran.stdout);
    let blamed = blamed(&report);
    assert!(blamed.len() > 2, "{blamed:?}");
    for (case, rules) in blamed {
        assert_eq!(rules, ["CHAT-FRAME-7"], "{case}");
    }
}

/// No error at a stream that ends inside a frame (a SHOULD); the rest of the case is
/// about acting on the frame (a MUST), and is judged all the same.
#[test]
fn the_steps_behind_a_should_are_judged() {
    let case = ["--case", "framing/cut-short"];
    let (code, report) = judged("cut-stream-unanswered", &case);
    assert_eq!(code, CONFORMS, "{report}");
    let outcome = &report["cases"][0];
    assert_eq!(outcome["verdict"], "warned");
    assert_eq!(
        outcome["failure"]["rules"],
        serde_json::json!(["CHAT-FRAME-10"])
    );
    let observed = outcome["observed"].as_array().expect("steps");
    assert_eq!(observed.last().expect("steps"), "the server still serves");
    let is_kept = |id: &str| {
        let rules = report["rules"].as_array().expect("rules");
        rules
            .iter()
            .any(|r| r["id"] == id && r["verdict"] == "kept")
    };
    assert!(is_kept("CHAT-FRAME-9"), "{report}");

    // And it bites: this one does not answer either, and acts on the frame.
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("framing")).expect("a folder in it");
    let text = "title: A SHOULD, then a MUST\nrules: CHAT-FRAME-10 CHAT-CHAT-1\nwhy: Both are judged.\n\
        alice joins\nbob joins\nalice says \"hello\"\n\
        bob receives error {\"code\": \"ERROR_CODE_MALFORMED_FRAME\"} @CHAT-FRAME-10\n\
        bob hears alice \"good-bye\" @CHAT-CHAT-1\n";
    std::fs::write(folder.path().join("framing/both.chat"), text).expect("a case");
    let folder = folder.path().to_str().expect("UTF-8");
    let (code, report) = judged("ping-missing", &["--transcripts", folder]);
    assert_eq!(code, VIOLATES, "{report}");
    let outcome = &report["cases"][0];
    assert_eq!(
        outcome["failure"]["rules"],
        serde_json::json!(["CHAT-CHAT-1"])
    );
    assert_eq!(
        outcome["warnings"][0]["rules"],
        serde_json::json!(["CHAT-FRAME-10"])
    );
}

/// Where a server does not check the holder of a name (a SHOULD), the steps that depend on
/// the check are not judged.
#[test]
fn a_should_ends_the_case_where_the_steps_behind_depend_on_it() {
    let (code, report) = judged("ping-missing", &["--case", "keepalive/listening-only"]);
    assert_eq!(code, CONFORMS, "{report}");
    assert_eq!(report["cases"][0]["verdict"], "warned");
}

/// A client is blamed for no rule about servers, whatever it does wrong.
#[test]
fn a_client_breaks_no_rule_about_servers() {
    let report_of = |command: &str| {
        let command = support::client(command);
        let arguments = ["client", "--cmd", &command, "--timeout-scale", "0.3"];
        let areas = ["chatting", "errors", "framing", "registering"];
        let areas: Vec<&str> = areas.iter().flat_map(|area| ["--area", area]).collect();
        report(&[&arguments[..], &["--jobs", "8"], &cuts("whole"), &areas].concat()).1
    };
    let client = python("client.py");
    for command in [
        format!("{client} --mutant padded-frames"),
        format!("{client} --mutant chat-first"),
        format!("{client} --mutant cut-frame-shown"),
        format!("{client} --mutant ends-session-ignored"),
        // It connects and says nothing; it dies; it ends well at once.
        "python3 -c \"import socket,sys,time; socket.create_connection(sys.argv[1][7:].rsplit(':',1)); time.sleep(60)\"".to_owned(),
        "sh -c 'exit 7'".to_owned(),
        "true".to_owned(),
    ] {
        let report = report_of(&command);
        let rules = report["rules"].as_array().expect("rules");
        assert!(rules.iter().all(|r| r["subject"] != "server"), "{command}");
        let known: Vec<&str> = rules.iter().filter_map(|r| r["id"].as_str()).collect();
        let blamed = blamed(&report);
        assert!(!blamed.is_empty(), "{command}: {report}");
        for (case, rules) in blamed {
            for rule in rules {
                assert!(known.contains(&rule.as_str()), "{command}: {case} blames {rule}");
            }
        }
    }
}
