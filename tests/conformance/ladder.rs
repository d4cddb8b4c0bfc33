//! The ladder: a score rung by rung, and one next step, on a screen.

use serde_json::Value;

use crate::support::{CONFORMS, INCOMPLETE, VIOLATES, python, reference, report, run};

/// The most lines that `--ladder` prints about a server that does nothing right.
const SCREEN_LINES_MAX: usize = 70;

fn rung<'a>(report: &'a Value, title: &str) -> &'a Value {
    let rungs = report["ladder"]["rungs"].as_array().expect("rungs");
    rungs
        .iter()
        .find(|rung| rung["title"] == title)
        .unwrap_or_else(|| panic!("no rung {title:?} in {rungs:?}"))
}

/// Each case that was judged is a point of its rung, and the rungs add up.
#[test]
fn the_score_counts_each_case_once() {
    let server = reference("");
    let arguments = ["server", "--cmd", &server, "--skip-slow", "--cuts", "whole"];
    let areas = ["--area", "registering", "--area", "chatting"];
    let (ran, report) = report(&[&arguments[..], &areas].concat());
    assert_eq!(ran.code, CONFORMS, "{}", ran.stdout);
    let sum = |field: &str| -> u64 {
        let rungs = report["ladder"]["rungs"].as_array().expect("rungs");
        rungs
            .iter()
            .map(|rung| rung[field].as_u64().expect("a number"))
            .sum()
    };
    let counts = &report["counts"];
    assert_eq!(sum("points"), sum("total"));
    assert_eq!(
        sum("points"),
        report["ladder"]["points"].as_u64().expect("points")
    );
    assert_eq!(sum("not_run"), counts["not_run"].as_u64().expect("a count"));
    assert_eq!(
        sum("total") + sum("not_run"),
        counts["selected"].as_u64().expect("a count")
    );
    assert!(rung(&report, "says hello").get("next").is_none());
}

/// The lowest rung that is not complete is what the screen ends with: the rule, what came,
/// and what to do. Failures of higher rungs are named, and nothing is printed in full.
#[test]
fn the_ladder_shows_one_next_step() {
    let command = format!("{} --mutant second-register-ignored", python("server.py"));
    let arguments = [
        "server",
        "--cmd",
        &command,
        "--skip-slow",
        "--cuts",
        "whole",
    ];
    let more = [
        "--area",
        "registering",
        "--area",
        "errors",
        "--jobs",
        "8",
        "--ladder",
    ];
    let (ran, report) = report(&[&arguments[..], &more].concat());
    assert_eq!(ran.code, VIOLATES, "{}", ran.stderr);
    let next = &rung(&report, "knows its members")["next"];
    assert_eq!(next["case"], "registering/twice");
    assert_eq!(next["rule"], "CHAT-REG-6");

    let says = |words: &str| assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    let score = &report["ladder"];
    says(&format!("\nscore {}/{}\n", score["points"], score["total"]));
    says("\nnext: rung 3, knows its members\n");
    says("\n  case      registering/twice: ");
    says("\n  rule      CHAT-REG-6: A server that receives a Register from a member MUST");
    says("\n  do        Remember that a session is open");
    assert!(
        ran.stdout.lines().count() < SCREEN_LINES_MAX,
        "{}",
        ran.stdout
    );
    assert!(!ran.stdout.contains("\nfailed "), "{}", ran.stdout);

    let more = ["--case", "registering/twice", "--ladder", "--verbose"];
    let ran = run(&[&arguments[..], &more].concat());
    assert!(
        ran.stdout.contains("\nfailed registering/twice"),
        "{}",
        ran.stdout
    );
    assert!(ran.stdout.contains("\nnext: rung 3, "), "{}", ran.stdout);
}

/// A server that takes connections and answers nothing gets its first rung, not a list.
#[test]
fn a_server_that_answers_nothing_is_told_to_say_hello() {
    let script = "import socket\n\
        s = socket.create_server(('127.0.0.1', 0))\n\
        print(f'listening on chat://127.0.0.1:{s.getsockname()[1]}', flush=True)\n\
        kept = []\n\
        while True: kept.append(s.accept())";
    let quoted = shlex::try_quote(script).expect("no NUL").into_owned();
    let command = format!("python3 -c {quoted}");
    let ran = run(&["server", "--ladder", "--skip-slow", "--cmd", &command]);
    assert_eq!(ran.code, VIOLATES, "{}{}", ran.stdout, ran.stderr);
    let says = |words: &str| assert!(ran.stdout.contains(words), "{words}: {}", ran.stdout);
    says("\nnext: rung 1, says hello\n");
    says("\n  case      registering/accepted: ");
    says("\n  received  nothing\n");
    says("\n  do        Answer Register with ServerEnvelope{registered: ");
    assert!(
        ran.stdout.lines().count() < SCREEN_LINES_MAX,
        "{}",
        ran.stdout
    );
}

/// The first thing that goes wrong for a beginner.
#[test]
fn a_server_that_does_not_say_where_it_listens_is_told_how() {
    let ran = run(&["server", "--ladder", "--cmd", "false"]);
    assert_eq!(ran.code, INCOMPLETE);
    for words in ["its first line must be", "flush it", "a free port (port 0)"] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
}

/// A teacher's table is made from any of the reports.
#[test]
fn the_score_stands_in_the_reports_for_programs_and_people() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| {
        let path = folder.path().join(name);
        path.to_str().expect("a path in UTF-8").to_owned()
    };
    let (junit, html) = (path("junit"), path("html"));
    let server = reference("");
    let arguments = ["server", "--cmd", &server, "--rule", "CHAT-NAME-2"];
    let ran = run(&[&arguments[..], &["--junit", &junit, "--html", &html]].concat());
    assert_eq!(ran.code, CONFORMS, "{}", ran.stderr);
    let junit = std::fs::read_to_string(junit).expect("a report");
    assert!(
        junit.contains("<property name=\"score\" value=\"1/1\"/>"),
        "{junit}"
    );
    assert!(
        junit.contains("<property name=\"rung 3: knows its members\" value=\"1/1\"/>"),
        "{junit}"
    );
    let html = std::fs::read_to_string(html).expect("a report");
    assert!(html.contains("<h2>Score 1/1</h2>"), "{html}");
    // Rules stand by area, with what to do and the bytes of their cases, and are chosen by
    // verdict without a script.
    for words in [
        "<h2>NAMES <small>",
        "<p>What to do: Compare the lowered name",
        "<label for=\"show-kept\">kept (",
        "#show-kept:checked~main .rule:not(.kept){display:none}",
        "alice sends register",
    ] {
        assert!(html.contains(words), "{words}: {html}");
    }
    assert!(!html.contains("<script"), "{html}");
}

/// The rule that a client breaks without a connection says little about what to do.
#[test]
fn a_client_that_does_not_connect_is_told_where() {
    let command = "sh -c 'sleep 60' {address} {name}";
    let case = ["--case", "client/registering/register-first"];
    let ran = run(&[&["client", "--ladder", "--cmd", command], &case[..]].concat());
    assert_eq!(ran.code, VIOLATES, "{}{}", ran.stdout, ran.stderr);
    let advice = "\n  do        Connect to the address that the suite puts";
    assert!(ran.stdout.contains(advice), "{}", ran.stdout);
}
