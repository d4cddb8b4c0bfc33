//! The reports of a run, and the drafts of `record`.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use crate::support::{
    Admission, CONFORMS, VIOLATES, listening, python, reference, report, run, runner,
};

/// The four reports of one run.
struct Reports {
    code: i32,
    junit: String,
    json: String,
    markdown: String,
    html: String,
}

fn reports(target: &str, more: &[&str]) -> Reports {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| {
        let path = folder.path().join(name);
        path.to_str().expect("a path in UTF-8").to_owned()
    };
    let paths = ["junit", "json", "markdown", "html"].map(path);
    let mut arguments = vec!["server", "--cmd", target, "--cuts", "whole"];
    let flags = ["--junit", "--json", "--markdown", "--html"];
    for (flag, path) in flags.iter().zip(&paths) {
        arguments.extend([*flag, path.as_str()]);
    }
    arguments.extend(more);
    let ran = run(&arguments);
    let [junit, json, markdown, html] =
        paths.map(|path| fs::read_to_string(path).expect("each report is written"));
    Reports {
        code: ran.code,
        junit,
        json,
        markdown,
        html,
    }
}

#[test]
fn reports_of_a_run_that_conforms() {
    let reports = reports(&reference(""), &["--rule", "CHAT-NAME-2"]);
    assert_eq!(reports.code, CONFORMS);
    assert!(
        reports.junit.contains("failures=\"0\""),
        "{}",
        reports.junit
    );
    assert!(
        reports
            .junit
            .contains("classname=\"names\" name=\"reserved\""),
        "{}",
        reports.junit
    );
    for report in [&reports.json, &reports.markdown, &reports.html] {
        assert!(report.contains("names/reserved"), "{report}");
    }
    assert!(!reports.junit.contains("<failure"), "{}", reports.junit);
    // The page needs nothing but itself.
    for reference in ["src=", "href=\"http", "@import", "url("] {
        assert!(!reports.html.contains(reference), "{}", reports.html);
    }
}

#[test]
fn reports_of_a_run_that_violates() {
    let target = format!("{} --mutant echo-to-sender", python("server.py"));
    let reports = reports(&target, &["--rule", "CHAT-CHAT-2"]);
    assert_eq!(reports.code, VIOLATES);
    assert!(reports.junit.contains("<failure"), "{}", reports.junit);
    assert!(
        !reports.junit.contains("failures=\"0\""),
        "{}",
        reports.junit
    );
    let json: serde_json::Value = serde_json::from_str(&reports.json).expect("JSON");
    assert_ne!(json["counts"]["failed"], 0);
    for report in [
        &reports.junit,
        &reports.json,
        &reports.markdown,
        &reports.html,
    ] {
        // The rule and its sentence stand beside the verdict.
        assert!(report.contains("CHAT-CHAT-2"), "{report}");
        assert!(report.contains("to the session that sent it"), "{report}");
    }
}

/// A rule that every step depends on is blamed in every case, in place of the rules of
/// the case. A server that ends when it is told to has not crashed.
#[test]
fn a_failure_blames_the_rule_that_is_broken() {
    for (mutant, case, kind, rules) in [
        (
            "echo-to-sender",
            "framing/lengths-are-minimal",
            "wrong-answer",
            &["CHAT-CHAT-2"][..],
        ),
        (
            "closing-unannounced",
            "closing/clients-that-do-nothing",
            "closed",
            &["CHAT-CLOSE-1"],
        ),
    ] {
        let target = format!("{} --mutant {mutant}", python("server.py"));
        let (ran, report) = report(&["server", "--cmd", &target, "--case", case]);
        assert_eq!(ran.code, VIOLATES, "{mutant}");
        let failure = &report["cases"][0]["failure"];
        assert_eq!(failure["kind"], kind, "{mutant}: {failure}");
        assert_eq!(failure["rules"], serde_json::json!(rules), "{mutant}");
    }
}

/// A session between real programs becomes a draft without its password. The lint
/// refuses it until a person has checked it, and then it plays.
#[test]
fn a_recorded_session_becomes_a_case() {
    let folder = tempfile::tempdir().expect("a folder");
    let area = folder.path().join("recorded");
    fs::create_dir(&area).expect("a folder in it");
    let draft = area.join("greeting.chat");

    let admission = Admission::new();
    let password = admission.options(true, false);
    let (_server, address) = listening(
        Command::new(env!("CARGO_BIN_EXE_chat-server"))
            .args(&password)
            .stdin(Stdio::null()),
    );
    let (mut recorder, address) = listening(
        runner()
            .args(["record", address.as_str(), "--out"])
            .arg(&draft),
    );
    let mut client = Command::new(env!("CARGO_BIN_EXE_chat-client"))
        .args([address.as_str(), "Alice"])
        .args(&password)
        .env("XDG_DATA_HOME", env!("CARGO_TARGET_TMPDIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the client starts");
    let mut typed = client.stdin.take().expect("it is piped");
    writeln!(typed, "hello").expect("it reads");
    // Longer than what reports show of a text.
    let long = "no end of it, ".repeat(50);
    writeln!(typed, "{long}").expect("it reads");
    drop(typed);
    assert!(client.wait().expect("our child").success());
    assert!(recorder.0.wait().expect("our child").success());

    let text = fs::read_to_string(&draft).expect("the draft");
    assert!(text.contains("status: draft"), "{text}");
    assert!(text.contains("\"text\": \"hello\""), "{text}");
    assert!(text.contains(&format!("\"text\": \"{long}\"")), "{text}");
    assert!(text.contains("password: asked\n"), "{text}");
    assert!(text.contains("\"password\": \"<password>\""), "{text}");
    assert!(!text.contains("ajar"), "{text}");
    let transcripts = folder.path().to_str().expect("a path in UTF-8");
    assert_ne!(run(&["lint", "--transcripts", transcripts]).code, CONFORMS);

    // What a person does after reading it.
    let (_, steps) = text.split_once("status: draft\n").expect("a header");
    let checked = format!(
        "title: A chat of one who is alone is confirmed\nrules: CHAT-RCPT-1\nwhy: As recorded.\nneeds: receipts keepalive\npassword: asked\n{steps}"
    );
    fs::write(&draft, &checked).expect("the folder is ours");
    let command = reference(&password.join(" "));
    let mut arguments = vec!["server", "--cmd", &command, "--transcripts", transcripts];
    arguments.extend(password.iter().map(String::as_str));
    let ran = run(&arguments);
    assert_eq!(ran.code, CONFORMS, "{checked}{}{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("1 passed"), "{}", ran.stdout);
}
