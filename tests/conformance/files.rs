//! The transcripts: lint, coverage, syntax errors and export.

use std::{collections::BTreeMap, fs};

use crate::support::{CONFORMS, USAGE, VIOLATES, run};

#[test]
fn the_transcripts_pass_the_lint() {
    let ran = run(&["lint"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (CONFORMS, ""));
}

#[test]
fn every_rule_has_a_case_or_a_reason() {
    let ran = run(&["coverage"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (CONFORMS, ""));
}

/// A rule without cases is an error, and so is a reason for a rule with cases.
#[test]
fn coverage_fails_both_ways() {
    let ran = lint_folder(
        "coverage",
        &[("order/x.chat", GOOD)],
        "CHAT-CHAT-1  # not needed\n",
    );
    assert_eq!(ran.code, VIOLATES);
    let says = |what: &str| assert!(ran.stderr.contains(what), "{what:?} not in {}", ran.stderr);
    says("CHAT-REG-3 (MUST) has no case about the server, and no reason");
    says("CHAT-REG-1 (MUST) has no case about the client, and no reason");
    says("CHAT-NAME-10 (SHOULD) has no case, and no reason");
    says("CHAT-REG-8 (MAY) has no case, and no reason");
    says("CHAT-CHAT-1 has cases (order/x) and stands in uncovered.txt");
}

const GOOD: &str = "title: One\nrules: CHAT-CHAT-1\nwhy: Because.\nalice joins\n";

fn lint_folder(command: &str, files: &[(&str, &str)], uncovered: &str) -> crate::support::Ran {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().expect("an area")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    fs::write(folder.path().join("uncovered.txt"), uncovered).expect("a file");
    run(&[
        "--transcripts",
        folder.path().to_str().expect("UTF-8"),
        command,
    ])
}

fn check_lint(text: &str, complaint: &str) {
    let ran = lint_folder("lint", &[("order/x.chat", text)], "");
    assert_eq!(ran.code, VIOLATES, "{text}");
    assert!(
        ran.stderr.contains(complaint),
        "{complaint:?} not in {:?}",
        ran.stderr
    );
}

#[test]
fn the_lint_refuses_cases_that_prove_too_little() {
    assert_eq!(
        lint_folder("lint", &[("order/x.chat", GOOD)], "").code,
        CONFORMS
    );
    check_lint(
        &GOOD.replace("why:", "status: draft\nwhy:"),
        "it is a draft",
    );
    check_lint(
        "title: One\nwhy: Because.\nalice joins\n",
        "it names no rule",
    );
    check_lint(
        "rules: CHAT-CHAT-1\nwhy: Because.\nalice joins\n",
        "it needs a title",
    );
    // As a recording leaves it.
    check_lint(
        "title: One\nrules:\nwhy: Because.\nalice joins\n",
        "it names no rule",
    );
    check_lint(
        "title: One\nrules: CHAT-CHAT-1\nalice joins\n",
        "why it matters",
    );
    // In two pieces, since no such rule may be cited anywhere.
    let unknown = ["CHAT-NONE", "1"].join("-");
    check_lint(
        &GOOD.replace("CHAT-CHAT-1", &unknown),
        &format!("has no rule {unknown}"),
    );
    check_lint(
        "title: One\nrules: CHAT-REG-1\nwhy: B.\nalice joins\n",
        "does not bind the end",
    );
    check_lint(
        &format!("{GOOD}alice receives nothing\n"),
        "no later step proves it",
    );
    check_lint(
        &format!("{GOOD}alice sends bytes ff\n"),
        "must end with \"the server still serves\"",
    );
    check_lint(
        &format!("{GOOD}bob joins with presence\n"),
        "which \"needs:\" does not name",
    );
    check_lint(
        &GOOD.replace("why:", "listed: bob\nwhy:"),
        "\"listed:\" names bob, but no step is about bob",
    );
    check_lint(
        &format!("listed: alice\n{GOOD}the server still serves\n"),
        "members whose names are on no list",
    );
    let ran = lint_folder("lint", &[("Order/X y.chat", GOOD)], "");
    assert!(ran.stderr.contains("kebab-case"), "{}", ran.stderr);
}

fn check_malformed(steps: &str, complaint: &str) {
    let text = format!("title: One\nrules: CHAT-CHAT-1\nwhy: B.\n{steps}\n");
    let ran = lint_folder("lint", &[("order/x.chat", &text)], "");
    assert_eq!(ran.code, USAGE, "{steps}: {}", ran.stderr);
    let place = "order/x.chat:4: ";
    assert!(
        ran.stderr.contains(place) && ran.stderr.contains(complaint),
        "{complaint:?} not in {:?}",
        ran.stderr
    );
    assert_eq!(
        ran.stderr.lines().count(),
        1,
        "one sentence: {}",
        ran.stderr
    );
}

#[test]
fn an_unknown_word_after_password_is_refused() {
    let text = format!("password: perhaps\n{GOOD}");
    let ran = lint_folder("lint", &[("order/x.chat", &text)], "");
    assert_eq!(ran.code, USAGE);
    let words = "order/x.chat:1: expected \"password: asked\" or \"password: not asked\"";
    assert!(ran.stderr.contains(words), "{}", ran.stderr);
}

/// File, line, and what was expected there.
#[test]
fn a_malformed_transcript_is_refused_with_file_and_line() {
    check_malformed("alice dances", "expected a step of alice");
    check_malformed("Alice joins", "expected a step such as");
    check_malformed(
        "alice sends chat {\"text\": 5",
        "expected the end of a JSON body",
    );
    check_malformed("alice sends chat {\"text\": nope}", "expected JSON");
    check_malformed("alice sends registered", "found \"registered\"");
    check_malformed("alice receives register", "found \"register\"");
    check_malformed("alice sends bytes 0g", "expected bytes in hex");
    check_malformed("alice sends length some", "expected a number or a limit");
    check_malformed(
        "alice joins with wings",
        "expected a capability such as presence",
    );
    check_malformed(
        "alice sends chat {\"txt\": \"a\"}",
        "expected a field of Chat",
    );
    check_malformed(
        "alice receives registered {\"limits\": {\"frame_bytes\": 1}}",
        "expected a field of Limits",
    );
    check_malformed(
        "alice sends register {\"capabilities\": [\"CAPABILITY_NOPE\"]}",
        "expected a value of Capability",
    );
    check_malformed(
        "alice receives error {\"code\": \"</(/>\"}",
        "expected a regular expression",
    );
    check_malformed("client starts with a word", "after \"starts\"");
    check_malformed("password joins", "expected a step such as");
    check_malformed("alice is refused RUDENESS", "expected an error code");
    check_malformed("repeat 3", "expected \"end\" before the end of the file");
    check_malformed(
        "in any order\nalice joins\nend",
        "expected only \"receives\" and \"hears\"",
    );
}

/// Runners in other languages are built on it.
#[test]
fn the_export_has_every_case_in_the_documented_form() {
    let ran = run(&["export"]);
    assert_eq!(ran.code, CONFORMS);
    let schema = json_schema("case.schema.json");
    let mut sides = BTreeMap::new();
    for line in ran.stdout.lines() {
        let case: serde_json::Value = serde_json::from_str(line).expect("JSON lines");
        if let Some(error) = schema.iter_errors(&case).next() {
            panic!("{}: {} at {}", case["case"], error, error.instance_path);
        }
        *sides.entry(case["side"].to_string()).or_insert(0) += 1;
    }
    let listed = run(&["list"]).stdout.lines().count();
    assert_eq!(sides.values().sum::<usize>(), listed);
    assert_eq!(sides.len(), 2);
}

/// One of the schemas that the README refers to.
pub fn json_schema(name: &str) -> jsonschema::Validator {
    let path = format!("{}/conformance/schema/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(&path).expect("the schema");
    jsonschema::validator_for(&serde_json::from_str(&text).expect("JSON")).expect("a JSON schema")
}
