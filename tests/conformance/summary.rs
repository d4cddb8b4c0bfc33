//! The last lines of a run, which a person reads first: common causes, capabilities that
//! are not granted, and the way they share the output with a report.

use std::fs;

use crate::support::{CONFORMS, USAGE, VIOLATES, python, python_folder, reference, report, run};

/// One cause, and failures in many cases: the summary names it, and the rule to mend.
#[test]
fn a_common_cause_is_named_with_the_rule_to_mend_first() {
    let command = format!("{} --mutant second-register-ignored", python("server.py"));
    let areas = [
        "--area",
        "chatting",
        "--area",
        "errors",
        "--area",
        "registering",
    ];
    let more = ["--cuts", "whole", "--skip-slow", "--jobs", "8"];
    let (ran, report) = report(&[&["server", "--cmd", &command], &areas[..], &more].concat());
    assert_eq!(ran.code, VIOLATES, "{}", ran.stdout);
    let failed = report["counts"]["failed"].as_u64().expect("a count");
    assert!(failed > 3, "{report}");
    let cause = &report["causes"][0];
    assert_eq!(cause["cause"], "no ALREADY_REGISTERED");
    assert_eq!(cause["rule"], "CHAT-REG-6");
    assert_eq!(cause["case"], "registering/twice");
    let failures = cause["failures"].as_u64().expect("a count");
    let says = |line: &str| assert!(ran.stdout.contains(line), "{line}: {}", ran.stdout);
    says(&format!(
        "\n{failures} of {failed} failures begin with: no ALREADY_REGISTERED\n"
    ));
    says("\nmend first: CHAT-REG-6: A server that receives a Register from a member MUST");
    says("(--case registering/twice)\n");
}

/// A server without capabilities conforms, and not in silence.
#[test]
fn a_server_that_grants_no_capability_is_told_what_was_not_judged() {
    let folder = python_folder();
    let script = format!(
        "import sys, runpy; sys.path.insert(0, {folder:?}); import room; \
         room.CAPABILITIES = (); runpy.run_path({folder:?} + '/server.py', run_name='__main__')"
    );
    let interpreter = python("")
        .split_whitespace()
        .next()
        .expect("an interpreter")
        .to_owned();
    let quoted = shlex::try_quote(&script).expect("no NUL").into_owned();
    let command = format!("{interpreter} -c {quoted}");
    let more = ["--cuts", "whole", "--skip-slow", "--jobs", "8"];
    let (ran, report) = report(&[&["server", "--cmd", &command], &more[..]].concat());
    assert_eq!(ran.code, CONFORMS, "{}", ran.stdout);
    assert_eq!(report["granted"], serde_json::json!([]));
    let last = ran.stdout.lines().last().expect("a summary");
    assert!(last.starts_with("conforms: "), "{last}");
    assert!(
        last.contains("; the server grants no capability, so "),
        "{last}"
    );
    assert!(last.ends_with(" cases about that were not run"), "{last}");
}

/// A program reads standard output as a whole; the lines for people are elsewhere.
#[test]
fn a_report_on_the_standard_output_stands_there_alone() {
    let server = reference("");
    let arguments = ["server", "--cmd", &server, "--case", "names/in-use"];
    let ran = run(&[&arguments[..], &["--json", "-"]].concat());
    assert_eq!(ran.code, CONFORMS, "{}", ran.stderr);
    let report: serde_json::Value = serde_json::from_str(&ran.stdout).expect("JSON alone");
    assert_eq!(report["result"], "conforms");
    assert!(ran.stderr.contains("names/in-use"), "{}", ran.stderr);
    assert!(
        ran.stderr.contains("conforms: 1 cases, 1 passed"),
        "{}",
        ran.stderr
    );
    let ran = run(&[&arguments[..], &["--json", "-", "--junit", "-"]].concat());
    assert_eq!(ran.code, USAGE);
    assert!(
        ran.stderr
            .contains("only one report fits on the standard output")
    );
}

/// The cause of a crash stands at the beginning of an error output, or at its end.
#[test]
fn the_first_and_last_lines_of_an_error_output_are_reported() {
    let script = "echo 'Error: cannot cope' >&2; seq -f '    at call %.0f' 200 >&2; \
        echo 'Node.js v20' >&2; exit 7";
    let quoted = shlex::try_quote(script).expect("no NUL").into_owned();
    let command = format!("sh -c {quoted} {{address}}");
    let arguments = ["client", "--cmd", &command, "--case", "client/leaving/*"];
    let (ran, _) = report(&arguments);
    assert_eq!(ran.code, VIOLATES, "{}", ran.stdout);
    let output = "its error output: Error: cannot cope |     at call 1 | ... |     at call 198 | \
        \u{20}   at call 199 |     at call 200 | Node.js v20";
    assert!(ran.stdout.contains(output), "{}", ran.stdout);
}

/// An editor may begin a file with a byte order mark.
#[test]
fn a_byte_order_mark_is_no_part_of_a_transcript() {
    let folder = tempfile::tempdir().expect("a folder");
    let area = folder.path().join("names");
    fs::create_dir(&area).expect("a folder in it");
    let marked = "\u{feff}title: One\nrules: CHAT-NAME-3\nwhy: Because.\nalice joins\n";
    fs::write(area.join("marked.chat"), marked).expect("a case");
    let path = folder.path().to_str().expect("UTF-8");
    let ran = run(&["--transcripts", path, "lint"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (CONFORMS, ""));
    let known = folder.path().join("known.txt");
    fs::write(&known, "\u{feff}names/in-use  # not yet\n").expect("a file");
    let known = known.to_str().expect("UTF-8");
    let server = reference("");
    let arguments = ["server", "--cmd", &server, "--case", "names/in-use"];
    let ran = run(&[&arguments[..], &["--known-failures", known]].concat());
    assert_eq!(ran.code, VIOLATES, "it passes unexpectedly: {}", ran.stderr);

    // The server has the same file, and takes the mark for a part of it or not.
    for option in ["--password-file", "--allow"] {
        let ran = run(&["server", "127.0.0.1:1", option, known]);
        assert_eq!(ran.code, USAGE);
        assert!(
            ran.stderr.contains("begins with a byte order mark"),
            "{}",
            ran.stderr
        );
    }
}
