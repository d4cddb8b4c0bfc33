//! Mutation tests: implementations broken on purpose, each in one rule, and the cases of
//! that rule that fail. A case that no mutant fails proves nothing.

use std::{
    collections::BTreeSet,
    fmt::Write,
    fs,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::Value;

use crate::support::{self, Admission, CONFORMS, python, reference, report, run};

/// What the Python server does not have, and a proxy breaks.
const PROXY_AREAS: [&str; 14] = [
    "--area",
    "files",
    "--area",
    "resuming",
    "--area",
    "history",
    "--area",
    "direct",
    "--area",
    "moderation",
    "--area",
    "identity",
    "--area",
    "following",
];

/// As many as the smallest machine has cores.
const WORKERS: usize = 2;

/// Cases in which it is chance whether they catch a mutant (`*`: any). They stand in no
/// matrix, and no mutant counts as caught by one of them alone.
const BY_CHANCE: &[(&str, &str)] = &[
    // Who is told first is the server's affair, and a reset may take back what was on its way.
    ("*", "closing/no-chat-is-accepted-any-more"),
    // How much the system takes before the Leave comes.
    ("leave-drops-backlog", "leaving/what-was-sent-before-counts"),
    // Who is first, the client that waits or the third one.
    ("name-given-twice", "names/third-takes-the-name"),
    // Whether the chat before which it asks is there already.
    ("page-before-and-with", "history/seam-with-the-live-stream"),
];

/// Cases that fail no mutant for sure, each with the reason.
const FAILS_NONE: &[(&str, &str)] = &[(
    "closing/no-chat-is-accepted-any-more",
    "which client is told of a shutdown first is chance",
)];

/// What the mutants of each program fail.
const MATRICES: [&str; 3] = [
    include_str!("snapshots/conformance__mutants__server-mutants.snap"),
    include_str!("snapshots/conformance__mutants__proxy-mutants.snap"),
    include_str!("snapshots/conformance__mutants__client-mutants.snap"),
];

#[derive(Clone)]
struct Mutant {
    name: String,
    rule: String,
}

fn mutants(script: &str) -> Vec<Mutant> {
    let command = python(script);
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().expect("an interpreter"))
        .args(words)
        .arg("--list-mutants")
        .output()
        .expect("the list of mutants");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mutants: Vec<Mutant> = text
        .lines()
        .filter_map(|line| {
            let mut columns = line.split('\t').map(str::to_owned);
            Some(Mutant {
                name: columns.next()?,
                rule: columns.next()?,
            })
        })
        .collect();
    assert!(mutants.len() > 10, "{text}");
    mutants
}

/// The cases of the mutant's rule that fail and blame it.
fn caught(mutant: &Mutant, arguments: &[&str]) -> Vec<String> {
    // Only what the cut is about needs more than one; time is better spent on more mutants.
    let cuts = if mutant.rule == "CHAT-FRAME-7" {
        "whole,bytes,prefix,merged"
    } else {
        "whole"
    };
    let more = [
        "--rule",
        &mutant.rule,
        "--cuts",
        cuts,
        "--jobs",
        "2",
        "--timeout-scale",
        "0.7",
    ];
    let (_, report) = report(&[arguments, &more].concat());
    let blames = |case: &&Value| {
        let rules = case["failure"]["rules"].as_array();
        rules.into_iter().flatten().any(|r| *r == *mutant.rule)
    };
    report["cases"]
        .as_array()
        .expect("cases")
        .iter()
        .filter(blames)
        .filter_map(|c| c["case"].as_str())
        .filter(|case| {
            let mut by_chance = BY_CHANCE.iter();
            !by_chance.any(|(who, what)| what == case && [mutant.name.as_str(), "*"].contains(who))
        })
        .map(str::to_owned)
        .collect()
}

/// A line a mutant: its rule, and the cases that catch it; those that catch
/// nothing stand in the second list.
fn matrix(
    mutants: &[Mutant],
    caught: impl Fn(&Mutant) -> Vec<String> + Sync,
) -> (String, Vec<String>) {
    let next = AtomicUsize::new(0);
    let lines = Mutex::new(vec![(String::new(), true); mutants.len()]);
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((i, mutant)) = {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    mutants.get(i).map(|m| (i, m))
                } {
                    let cases = caught(mutant);
                    let line = format!(
                        "{:<32} {:<13} {}",
                        mutant.name,
                        mutant.rule,
                        cases.join(" ")
                    );
                    lines.lock().expect("no panic")[i] = (line, cases.is_empty());
                }
            });
        }
    });
    let mut text = String::new();
    let mut missed = Vec::new();
    for (line, is_missed) in lines.into_inner().expect("no panic") {
        let _ = writeln!(text, "{}", line.trim_end());
        if is_missed {
            missed.push(line);
        }
    }
    (text, missed)
}

/// The rules that no case shows, with the reasons in `uncovered.txt`.
fn uncovered() -> Vec<String> {
    run(&["coverage"])
        .stdout
        .lines()
        .filter(|l| l.contains("  no case: "))
        .filter_map(|l| l.split_whitespace().next().map(str::to_owned))
        .collect()
}

#[test]
fn each_mutant_of_the_server_is_caught_by_a_case_of_its_rule() {
    let server = python("server.py");
    let uncovered = uncovered();
    let mutants = mutants("server.py");
    let admission = Admission::new();
    let (matrix, missed) = matrix(&mutants, |mutant| {
        if uncovered.contains(&mutant.rule) {
            return vec!["(uncovered)".to_owned()];
        }
        let limits = match mutant.rule.as_str() {
            // More than the system's buffers hold, and less than ends a slow session.
            _ if mutant.name.ends_with("-backlog") => {
                "--chat-interval-ms 0 --lag-bytes-max 8388608"
            }
            // No credit may come back while the burst is being sent.
            "CHAT-LIM-2" => "--chat-burst 20 --chat-interval-ms 250",
            // Gives slow members up sooner than a step of the suite does.
            "CHAT-LIM-4" => "--chat-interval-ms 0 --write-deadline-ms 1000",
            "CHAT-ERR-9" => "--errors-max 200",
            "CHAT-LIM-9" => "--chat-interval-ms 0 --frames-per-second-max 40",
            "CHAT-REG-9" => "--connections-max 8",
            "CHAT-REG-11" => "--connections-per-address-max 8",
            "CHAT-REG-12" => "--connections-per-minute-max 8",
            _ => "--chat-burst 60 --chat-interval-ms 10",
        };
        let deadlines = "--register-deadline-ms 800 --name-check-deadline-ms 300 --keepalive-interval-ms 400 --idle-deadline-ms 1000";
        let (has_password, has_list) = match (mutant.rule.as_str(), mutant.name.as_str()) {
            ("CHAT-ADM-2", "password-after-list") => (true, true),
            (_, "password-before-session") => (true, false),
            ("CHAT-ADM-1" | "CHAT-ADM-2" | "CHAT-ADM-5", _) => (true, false),
            ("CHAT-ADM-4", _) => (false, true),
            _ => (false, false),
        };
        let options = admission.options(has_password, has_list);
        let command = format!(
            "{server} --mutant {} {deadlines} {limits} {}",
            mutant.name,
            options.join(" ")
        );
        let mut arguments = vec!["server", "--cmd", &command];
        arguments.extend(options.iter().map(String::as_str));
        match mutant.rule.as_str() {
            "CHAT-REG-9" => arguments.extend(["--connections-max", "8"]),
            "CHAT-REG-11" => arguments.extend(["--connections-per-address-max", "8"]),
            "CHAT-REG-12" => arguments.extend(["--connections-per-minute-max", "8"]),
            _ => {}
        }
        caught(mutant, &arguments)
    });
    assert!(missed.is_empty(), "not caught:\n{}", missed.join("\n"));
    insta::assert_snapshot!("server-mutants", matrix);
}

/// Resuming, the past and following, which the Python server does not have: a proxy in front of the
/// reference server breaks its rules.
#[test]
fn each_mutant_of_the_proxy_is_caught_by_a_case_of_its_rule() {
    let proxy = python("proxy.py");
    let server = |rate: &str| {
        reference(&format!(
            "{rate} --covered-interval-ms 1000 --names owned --data {{data}} --control {{data}}/control"
        ))
    };
    let control = reference("ctl --control {data}/control");
    let mutants = mutants("proxy.py");
    let (matrix, missed) = matrix(&mutants, |mutant| {
        let rate = match mutant.name.ends_with("-the-rate") {
            true => "--rate-limit 60/min --rate-burst 10",
            false => "--rate-limit off",
        };
        let command = format!("{proxy} --mutant {} {}", mutant.name, server(rate));
        let target = ["server", "--cmd", &command, "--control-cmd", &control];
        caught(mutant, &[&target[..], &PROXY_AREAS].concat())
    });
    assert!(missed.is_empty(), "not caught:\n{}", missed.join("\n"));
    insta::assert_snapshot!("proxy-mutants", matrix);
}

/// The proxy alone breaks nothing.
#[test]
fn a_proxy_that_changes_nothing_conforms() {
    let server = reference("--rate-limit off --names owned --data {data} --control {data}/control");
    let control = reference("ctl --control {data}/control");
    let command = format!("{} --mutant none {server}", python("proxy.py"));
    let target = ["server", "--cmd", &command, "--control-cmd", &control];
    let more = ["--cuts", "whole"];
    let (ran, _) = report(&[&target[..], &PROXY_AREAS, &more].concat());
    assert_eq!(ran.code, CONFORMS, "{}{}", ran.stdout, ran.stderr);
}

#[test]
fn each_mutant_of_the_client_is_caught_by_a_case_of_its_rule() {
    let client = python("client.py");
    let mutants = mutants("client.py");
    let (matrix, missed) = matrix(&mutants, |mutant| {
        let command = format!("{client} --mutant {} {{resuming:--reconnect}}", mutant.name);
        let command = support::client(&command);
        caught(mutant, &["client", "--cmd", &command])
    });
    assert!(missed.is_empty(), "not caught:\n{}", missed.join("\n"));
    insta::assert_snapshot!("client-mutants", matrix);
}

/// Every MUST that binds a server and has cases has a mutant that breaks it.
#[test]
fn each_must_of_the_server_has_a_mutant() {
    let mutants = [mutants("server.py"), mutants("proxy.py")].concat();
    let uncovered = uncovered();
    let missing: Vec<String> = run(&["list", "--rules", "--json"])
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON lines"))
        .filter(|rule| rule["level"] == "MUST" && rule["subject"] != "client")
        .filter_map(|rule| rule["id"].as_str().map(str::to_owned))
        .filter(|id| !uncovered.contains(id) && !mutants.iter().any(|m| m.rule == *id))
        .collect();
    assert_eq!(missing, Vec::<String>::new());
}

/// A case that no mutant fails proves nothing.
#[test]
fn each_case_fails_a_mutant_or_has_a_reason() {
    let lines = MATRICES.iter().flat_map(|matrix| matrix.lines());
    let failing: BTreeSet<&str> = lines.flat_map(|l| l.split_whitespace().skip(2)).collect();
    let page = fs::read_to_string(PAGE).expect("the page");
    let listed = run(&["list", "--json"]).stdout;
    let cases: Vec<String> = listed
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).expect("JSON lines"))
        .filter_map(|case| case["case"].as_str().map(str::to_owned))
        .collect();
    assert!(cases.len() > 200, "{listed}");
    let reason = |case: &str| FAILS_NONE.iter().find(|(name, _)| *name == case);
    let without: Vec<&String> = cases
        .iter()
        .filter(|case| failing.contains(case.as_str()) == reason(case).is_some())
        .collect();
    assert_eq!(
        without,
        Vec::<&String>::new(),
        "no mutant and no reason, or both"
    );
    for (case, _) in FAILS_NONE {
        assert!(page.contains(case), "{PAGE} does not say why of {case}");
    }
}

/// To ping is a SHOULD: a server that does not is told so, and conforms.
#[test]
fn a_server_that_does_not_ping_breaks_no_must() {
    let deadlines = "--keepalive-interval-ms 300 --idle-deadline-ms 900";
    let command = format!("{} --mutant ping-missing {deadlines}", python("server.py"));
    let (ran, report) = report(&["server", "--cmd", &command, "--case", "keepalive/*"]);
    assert_eq!(ran.code, CONFORMS, "{}{}", ran.stdout, ran.stderr);
    assert!(report["counts"]["warned"].as_u64() > Some(0), "{report}");
}

/// The page that counts the mutants.
const PAGE: &str = "conformance/mutants.md";

/// A line an area of rules: how many mutants of each program there are, and how many survive.
fn counted(programs: &[Vec<Mutant>], uncovered: &[String]) -> String {
    let area = |mutant: &Mutant| {
        mutant
            .rule
            .rsplit_once('-')
            .map_or("", |(a, _)| a)
            .to_owned()
    };
    let mut areas: Vec<String> = programs.concat().iter().map(area).collect();
    areas.sort_unstable();
    areas.dedup();
    let mut text = String::from(
        "| rules | of the server | of the proxy | of the client | rules with one | survive |\n|---|---|---|---|---|---|\n",
    );
    let mut row = |name: &str, is_in: &dyn Fn(&Mutant) -> bool| {
        let counts: Vec<usize> = programs
            .iter()
            .map(|mutants| mutants.iter().filter(|m| is_in(m)).count())
            .collect();
        let all = programs.concat();
        let of_area = || all.iter().filter(|m| is_in(m));
        let mut rules: Vec<&str> = of_area().map(|m| m.rule.as_str()).collect();
        rules.sort_unstable();
        rules.dedup();
        let survive = of_area().filter(|m| uncovered.contains(&m.rule)).count();
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {survive} |",
            counts[0],
            counts[1],
            counts[2],
            rules.len()
        );
    };
    for name in &areas {
        row(name, &|mutant| area(mutant) == *name);
    }
    row("all", &|_| true);
    text
}

/// The page says how many mutants there are, and names none that does not exist.
#[test]
fn the_page_about_mutants_is_true() {
    let programs = ["server.py", "proxy.py", "client.py"].map(mutants);
    let page = fs::read_to_string(PAGE).expect("the page");
    let (head, rest) = page.split_once("<!-- table -->\n").expect("its table");
    let (_, tail) = rest.split_once("<!-- end -->").expect("its end");
    let table = counted(&programs, &uncovered());
    let wanted = format!("{head}<!-- table -->\n{table}<!-- end -->{tail}");
    if std::env::var_os("BLESS").is_some() {
        fs::write(PAGE, &wanted).expect("the page");
    } else {
        assert_eq!(page, wanted, "write it with BLESS=1");
    }
    let (_, kinds) = tail.split_once("## Kinds").expect("the kinds");
    let all = programs.concat();
    let named = kinds.split('`').skip(1).step_by(2);
    let unknown: Vec<&str> = named
        .filter(|name| all.iter().all(|mutant| mutant.name != **name))
        .collect();
    assert_eq!(unknown, Vec::<&str>::new());
}
