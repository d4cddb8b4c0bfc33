//! Errors before a rule is judged: each has one sentence and its exit code.

use std::{fs, io::Write, net::TcpListener, thread};

use crate::support::{
    CONFORMS, INCOMPLETE, SHORT_DEADLINES, USAGE, VIOLATES, reference, report, run,
};

fn check(arguments: &[&str], code: i32, sentence: &str) {
    let ran = run(arguments);
    assert_eq!(
        ran.code, code,
        "{arguments:?}: {}{}",
        ran.stdout, ran.stderr
    );
    assert!(
        ran.stderr.contains(sentence),
        "{sentence:?} not in {:?}",
        ran.stderr
    );
    assert!(
        ran.stderr.starts_with("chat-conformance: "),
        "{:?}",
        ran.stderr
    );
    assert_eq!(
        ran.stderr.lines().count(),
        1,
        "one sentence: {:?}",
        ran.stderr
    );
}

#[test]
fn wrong_addresses_are_wrong_usage() {
    check(&["server", "http://127.0.0.1"], USAGE, "is no address");
    check(&["server", "chat://::1"], USAGE, "is no address");
    check(&["server", "127.0.0.1:99999"], USAGE, "is no address");
    check(&["server", ":7000"], USAGE, "is no address");
    check(
        &["server", "no-such-host.invalid:7000"],
        USAGE,
        "cannot be looked up",
    );
}

#[test]
fn an_unreachable_server_leaves_the_run_incomplete() {
    check(
        &["server", "127.0.0.1:1"],
        INCOMPLETE,
        "the server cannot be reached",
    );
    check(
        &["server", "--cmd", "/no/such/program"],
        INCOMPLETE,
        "does not start",
    );
    check(
        &["server", "--cmd", "false"],
        INCOMPLETE,
        "did not say where it listens",
    );
    check(
        &["server", "--cmd", "echo hello"],
        INCOMPLETE,
        "printed \"hello\" first",
    );
    check(
        &["server", "--cmd", "echo 'open"],
        INCOMPLETE,
        "a quote without its end",
    );
    check(&["server", "--cmd", ""], INCOMPLETE, "has no program");
}

#[test]
fn unusable_admission_files_are_wrong_usage() {
    let missing = "/nonexistent/file";
    let empty = "/dev/null";
    for (option, file, words) in [
        (
            "--password-file",
            missing,
            "/nonexistent/file cannot be read",
        ),
        ("--password-file", empty, "/dev/null holds no password"),
        ("--allow", missing, "/nonexistent/file cannot be read"),
        ("--allow", empty, "/dev/null holds no name"),
    ] {
        check(&["server", "127.0.0.1:1", option, file], USAGE, words);
    }
}

#[test]
fn a_client_that_does_not_start_leaves_the_run_incomplete() {
    check(
        &["client", "--cmd", "/no/such/program {address}"],
        INCOMPLETE,
        "does not start",
    );
    check(
        &["client", "--cmd", "echo 'open {address}"],
        INCOMPLETE,
        "a quote without its end",
    );
}

#[test]
fn another_protocol_is_named() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let _ = stream.write_all(b"SSH-2.0-OpenSSH_9.6\r\n");
            let _ = stream.shutdown(std::net::Shutdown::Write);
            thread::sleep(std::time::Duration::from_millis(100));
        }
    });
    check(
        &["server", &address],
        INCOMPLETE,
        "does not speak chat.v1: it answered \"SSH-2.0",
    );
}

#[test]
fn unknown_words_are_wrong_usage() {
    // In two pieces, since no such rule may be cited anywhere.
    let unknown = ["CHAT-REG", "999"].join("-");
    check(&["explain", &unknown], USAGE, "neither a rule nor a case");
    check(
        &["explain", "nothing/at-all"],
        USAGE,
        "neither a rule nor a case",
    );
    check(
        &["list", "--area", "cooking"],
        USAGE,
        "there is no area \"cooking\"",
    );
    check(
        &["list", "--rule", &unknown],
        USAGE,
        "the schema has no rule",
    );
    check(&["list", "--case", "zzz*"], USAGE, "no case matches");
    check(&["list", "--case", "["], USAGE, "is no glob");
    check(
        &["list", "--level", "OUGHT"],
        USAGE,
        "is no weight of a rule",
    );
    check(
        &["list", "--capability", "wings"],
        USAGE,
        "expected a capability",
    );
    check(
        &["server", "127.0.0.1:1", "--cuts", "thirds"],
        USAGE,
        "is no cut",
    );
    check(&["client", "--cmd", "cat"], USAGE, "must hold {address}");
    check(
        &["--transcripts", "/no/such/folder", "list"],
        USAGE,
        "cannot be read",
    );
}

/// Those that clap refuses in its own words.
#[test]
fn wrong_options_are_wrong_usage() {
    for arguments in [
        &["server"][..],
        &["server", "127.0.0.1:1", "--cmd", "x"],
        &["server", "127.0.0.1:1", "--timeout-scale", "0"],
        &["server", "127.0.0.1:1", "--jobs", "0"],
        &["dance"],
    ] {
        assert_eq!(run(arguments).code, USAGE, "{arguments:?}");
    }
    assert_eq!(run(&["--help"]).code, CONFORMS);
    assert_eq!(run(&["--version"]).code, CONFORMS);
}

/// A list of known failures must be true, in both directions.
#[test]
fn a_list_of_known_failures_must_match_the_run() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("known.txt");
    let path = file.to_str().expect("UTF-8");
    let server = reference(SHORT_DEADLINES);
    let arguments = [
        "server",
        "--cmd",
        &server,
        "--case",
        "chatting/empty",
        "--known-failures",
        path,
    ];

    fs::write(&file, "chatting/empty  # being worked on\n").expect("a file");
    let (ran, passing) = report(&arguments);
    assert_eq!(ran.code, VIOLATES, "{}", ran.stdout);
    assert_eq!(passing["cases"][0]["verdict"], "unexpected-pass");

    fs::write(&file, "no/such-case  # gone\n").expect("a file");
    check(
        &arguments,
        USAGE,
        "no case matches \"no/such-case\"; take the line out",
    );
    fs::write(&file, "chatting/empty\n").expect("a file");
    check(&arguments, USAGE, "1: expected a case, then \"# reason\"");
    fs::remove_file(&file).expect("it was there");
    check(&arguments, USAGE, "cannot be read");
}

/// A failure that is known is no violation, and stays in the report.
#[test]
fn a_known_failure_is_no_violation() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("known.txt");
    fs::write(&file, "names/reserved  # allowed here for a while\n").expect("a file");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || for _ in listener.incoming() {});
    let (ran, report) = report(&[
        "server",
        &address,
        "--case",
        "names/reserved",
        "--timeout-scale",
        "0.3",
        "--known-failures",
        file.to_str().expect("UTF-8"),
    ]);
    assert_eq!(ran.code, CONFORMS, "{}{}", ran.stdout, ran.stderr);
    assert_eq!(report["cases"][0]["verdict"], "known-failure");
    assert_eq!(report["cases"][0]["reason"], "allowed here for a while");
}

/// Before anything else is done: a report that cannot be written is no use after it.
#[test]
fn a_report_goes_into_a_regular_file_or_to_the_standard_output() {
    let refused = |arguments: &[&str]| {
        let ran = run(arguments);
        assert_eq!(ran.code, USAGE, "{}", ran.stderr);
        assert!(
            ran.stderr.contains("it is a symbolic link"),
            "{}",
            ran.stderr
        );
    };
    for option in ["--json", "--junit", "--markdown", "--html"] {
        refused(&["server", "127.0.0.1:1", option, "/dev/fd/1"]);
    }
    refused(&["record", "127.0.0.1:1", "--out", "/dev/fd/1"]);
    let ran = run(&["server", "127.0.0.1:1", "--quiet", "--json", "-"]);
    assert!(ran.stdout.starts_with('{'), "{}", ran.stdout);
}
