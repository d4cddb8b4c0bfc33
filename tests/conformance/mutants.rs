//! Mutation tests: implementations broken on purpose, each in one rule, and the cases of
//! that rule that fail. A case that no mutant fails proves nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
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
    // Whether a server reads the two bytes of a length apart that are sent 300 µs apart.
    ("cut-length-refused", "framing/any-cut"),
    (
        "cut-length-refused",
        "framing/longest-envelopes-in-one-write",
    ),
];

/// Cases that fail no mutant for sure, each with the reason.
const FAILS_NONE: &[(&str, &str)] = &[(
    "closing/no-chat-is-accepted-any-more",
    "which client is told of a shutdown first is chance",
)];

/// A program that has mutants.
struct Program {
    script: &'static str,
    /// What its mutants fail: the snapshot that its ignored test keeps.
    matrix: &'static str,
}

const SERVER: Program = Program {
    script: "server.py",
    matrix: include_str!("snapshots/conformance__mutants__server-mutants.snap"),
};
const PROXY: Program = Program {
    script: "proxy.py",
    matrix: include_str!("snapshots/conformance__mutants__proxy-mutants.snap"),
};
const CLIENT: Program = Program {
    script: "client.py",
    matrix: include_str!("snapshots/conformance__mutants__client-mutants.snap"),
};
const PROGRAMS: [Program; 3] = [SERVER, PROXY, CLIENT];

/// Stands in a matrix in place of the cases of a rule that has none.
const UNCOVERED: &str = "(uncovered)";

#[derive(Clone, Debug, PartialEq)]
struct Mutant {
    name: String,
    rule: String,
}

/// A line of a matrix: a mutant, and the cases that catch it.
struct Line {
    mutant: Mutant,
    cases: Vec<String>,
}

impl Program {
    fn mutants(&self) -> Vec<Mutant> {
        mutants(self.script)
    }

    fn lines(&self) -> Vec<Line> {
        let (_, matrix) = self.matrix.rsplit_once("---\n").expect("a snapshot");
        let line = |line: &str| {
            let mut words = line.split_whitespace().map(str::to_owned);
            Some(Line {
                mutant: Mutant {
                    name: words.next()?,
                    rule: words.next()?,
                },
                cases: words.collect(),
            })
        };
        matrix.lines().filter_map(line).collect()
    }
}

/// The cases that are played against each mutant of a matrix in every run of the tests: one
/// that catches it, and each case of the matrix against one mutant at least. So each mutant
/// is seen to be caught, and each case to bite. The ignored tests play all.
fn chosen(lines: &[Line], is_slow: impl Fn(&str) -> bool) -> Vec<Vec<&str>> {
    let mut plays: BTreeMap<&str, usize> = BTreeMap::new();
    let mut chosen: Vec<Vec<&str>> = Vec::new();
    for line in lines {
        let cost = |case: &&str| (is_slow(case), plays.get(case).copied());
        let case = line.cases.iter().map(String::as_str).min_by_key(cost);
        let case = case.unwrap_or_else(|| panic!("no case in the line of {:?}", line.mutant));
        *plays.entry(case).or_default() += 1;
        chosen.push(vec![case]);
    }
    for (line, chosen) in lines.iter().zip(&mut chosen) {
        for case in &line.cases {
            if plays.insert(case, 1).is_none() {
                chosen.push(case);
            }
        }
    }
    chosen
}

/// The cases of the suite, as the runner lists them.
fn cases() -> Vec<Value> {
    let listed = run(&["list", "--json"]).stdout;
    let cases: Vec<Value> = listed
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON lines"))
        .collect();
    assert!(cases.len() > 200, "{listed}");
    cases
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

/// The cases of the mutant's rule that fail and blame it, of those named, or of all.
fn caught(mutant: &Mutant, cases: &[&str], arguments: &[&str]) -> Vec<String> {
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
    let cases: Vec<&str> = cases.iter().flat_map(|case| ["--case", case]).collect();
    let (_, report) = report(&[arguments, &more, &cases].concat());
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

/// Plays the named cases against a mutant, or all cases of its rule, and says which of
/// them catch it.
type Judge = Box<dyn Fn(&Mutant, &[&str]) -> Vec<String> + Sync>;

/// What `judge` says of each mutant, in their order; several are judged at a time.
fn each<T: Send>(mutants: &[Mutant], judge: impl Fn(usize, &Mutant) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let said = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some((i, mutant)) = {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    mutants.get(i).map(|m| (i, m))
                } {
                    let it = judge(i, mutant);
                    said.lock().expect("no panic").push((i, it));
                }
            });
        }
    });
    let mut said = said.into_inner().expect("no panic");
    said.sort_by_key(|(i, _)| *i);
    said.into_iter().map(|(_, it)| it).collect()
}

/// A line a mutant: its rule, and the cases that catch it. Each is caught by one.
fn matrix(program: &Program, judge: &Judge) -> String {
    let mutants = program.mutants();
    let lines = each(&mutants, |_, mutant| {
        let cases = judge(mutant, &[]);
        let (name, rule) = (&mutant.name, &mutant.rule);
        let line = format!("{name:<32} {rule:<13} {}", cases.join(" "));
        (line.trim_end().to_owned(), cases.is_empty())
    });
    let missed: Vec<&String> = lines.iter().filter(|l| l.1).map(|l| &l.0).collect();
    assert_eq!(missed, Vec::<&String>::new(), "not caught");
    lines.iter().map(|(line, _)| format!("{line}\n")).collect()
}

/// Each mutant that the program has is caught by the cases that are chosen for it.
fn check_chosen(program: &Program, judge: &Judge) {
    let lines = program.lines();
    let known: Vec<Mutant> = lines.iter().map(|line| line.mutant.clone()).collect();
    assert_eq!(
        known,
        program.mutants(),
        "INSTA_UPDATE=always cargo test --locked --test conformance -- --ignored matrix"
    );
    let slow: BTreeSet<String> = cases()
        .iter()
        .filter(|case| case["slow"] == true || case["closing"] == true)
        .filter_map(|case| case["case"].as_str().map(str::to_owned))
        .collect();
    let chosen = chosen(&lines, |case| slow.contains(case));
    let missed = each(&known, |i, mutant| {
        let caught = judge(mutant, &chosen[i]);
        let is_missed = |case: &&&str| !caught.iter().any(|it| it == **case);
        let missed: Vec<&str> = chosen[i].iter().filter(is_missed).copied().collect();
        (!missed.is_empty()).then(|| format!("{}: {}", mutant.name, missed.join(" ")))
    });
    let missed: Vec<String> = missed.into_iter().flatten().collect();
    assert_eq!(missed, Vec::<String>::new(), "not caught");
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

fn judge_of_the_server() -> Judge {
    let server = python(SERVER.script);
    let uncovered = uncovered();
    let admission = Admission::new();
    Box::new(move |mutant, cases| {
        if uncovered.contains(&mutant.rule) {
            return vec![UNCOVERED.to_owned()];
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
        caught(mutant, cases, &arguments)
    })
}

/// Resuming, the past and following, which the Python server does not have: a proxy in front of the
/// reference server breaks its rules.
fn judge_of_the_proxy() -> Judge {
    let proxy = python(PROXY.script);
    let server = |rate: &str| {
        reference(&format!(
            "{rate} --covered-interval-ms 1000 --names owned --data {{data}} --control {{data}}/control"
        ))
    };
    let control = reference("ctl --control {data}/control");
    Box::new(move |mutant, cases| {
        let rate = match mutant.name.ends_with("-the-rate") {
            true => "--rate-limit 60/min --rate-burst 10",
            false => "--rate-limit off",
        };
        let command = format!("{proxy} --mutant {} {}", mutant.name, server(rate));
        let target = ["server", "--cmd", &command, "--control-cmd", &control];
        caught(mutant, cases, &[&target[..], &PROXY_AREAS].concat())
    })
}

fn judge_of_the_client() -> Judge {
    let client = python(CLIENT.script);
    Box::new(move |mutant, cases| {
        let command = format!("{client} --mutant {} {{resuming:--reconnect}}", mutant.name);
        let command = support::client(&command);
        caught(mutant, cases, &["client", "--cmd", &command])
    })
}

#[test]
fn each_mutant_of_the_server_is_caught_by_a_case_of_its_rule() {
    check_chosen(&SERVER, &judge_of_the_server());
}

#[test]
fn each_mutant_of_the_proxy_is_caught_by_a_case_of_its_rule() {
    check_chosen(&PROXY, &judge_of_the_proxy());
}

#[test]
fn each_mutant_of_the_client_is_caught_by_a_case_of_its_rule() {
    check_chosen(&CLIENT, &judge_of_the_client());
}

#[test]
#[ignore = "takes minutes"]
fn the_matrix_of_the_server_is_what_its_mutants_fail() {
    insta::assert_snapshot!("server-mutants", matrix(&SERVER, &judge_of_the_server()));
}

#[test]
#[ignore = "takes minutes"]
fn the_matrix_of_the_proxy_is_what_its_mutants_fail() {
    insta::assert_snapshot!("proxy-mutants", matrix(&PROXY, &judge_of_the_proxy()));
}

#[test]
#[ignore = "takes minutes"]
fn the_matrix_of_the_client_is_what_its_mutants_fail() {
    insta::assert_snapshot!("client-mutants", matrix(&CLIENT, &judge_of_the_client()));
}

/// The proxy alone breaks nothing.
#[test]
fn a_proxy_that_changes_nothing_conforms() {
    let server = reference("--rate-limit off --names owned --data {data} --control {data}/control");
    let control = reference("ctl --control {data}/control");
    let command = format!("{} --mutant none {server}", python(PROXY.script));
    let target = ["server", "--cmd", &command, "--control-cmd", &control];
    let more = ["--cuts", "whole"];
    let (ran, _) = report(&[&target[..], &PROXY_AREAS, &more].concat());
    assert_eq!(ran.code, CONFORMS, "{}{}", ran.stdout, ran.stderr);
}

/// Every MUST that binds a server and has cases has a mutant that breaks it.
#[test]
fn each_must_of_the_server_has_a_mutant() {
    let mutants = [SERVER.mutants(), PROXY.mutants()].concat();
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
    let lines: Vec<Line> = PROGRAMS.iter().flat_map(Program::lines).collect();
    let failing: BTreeSet<&str> = lines
        .iter()
        .flat_map(|line| line.cases.iter().map(String::as_str))
        .collect();
    let page = fs::read_to_string(PAGE).expect("the page");
    let cases: Vec<String> = cases()
        .iter()
        .filter_map(|case| case["case"].as_str().map(str::to_owned))
        .collect();
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
    let command = format!(
        "{} --mutant ping-missing {deadlines}",
        python(SERVER.script)
    );
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
    let programs = PROGRAMS.map(|program| program.mutants());
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
