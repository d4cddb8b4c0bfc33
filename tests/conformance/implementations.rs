//! Independent implementations in Python, which share nothing with ours but the schema.

use std::{
    io::{BufRead, BufReader, Write},
    process::{ChildStdout, Command, Stdio},
    sync::mpsc::{Receiver, sync_channel},
    thread,
    time::Duration,
};

use crate::support::{
    Admission, CONFORMS, Ended, HEART_DEADLINES, TIMEOUT_SCALE, client, python, python_command,
    report,
};

#[test]
fn the_python_server_conforms() {
    let command = format!(
        "{} {HEART_DEADLINES} --chat-interval-ms 0",
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
fn the_python_server_conforms_with_a_password_and_a_list() {
    let admission = Admission::new();
    for (has_password, has_list, passed) in [(true, false, 6), (false, true, 2), (true, true, 3)] {
        let options = admission.options(has_password, has_list);
        let command = format!("{} {}", python("server.py"), options.join(" "));
        let mut arguments = vec![
            "server",
            "--cmd",
            &command,
            "--strict",
            "--area",
            "admission",
        ];
        arguments.extend(options.iter().map(String::as_str));
        arguments.extend(["--cuts", "whole,prefix", "--timeout-scale", TIMEOUT_SCALE]);
        let (ran, report) = report(&arguments);
        assert_eq!(ran.code, CONFORMS, "{}{}", ran.stdout, ran.stderr);
        assert_eq!(report["counts"]["passed"], passed);
    }
}

/// Limits may be as high as their fields go; the suite says what it leaves out for
/// that, and asks no machine for gigabytes or thousands of connections.
#[test]
fn a_server_that_announces_the_highest_limits_conforms() {
    let command = format!(
        "{} --text-bytes-max 4294967039 --frame-bytes-max 4294967295",
        python("server.py")
    );
    let (ran, report) = report(&[
        "server",
        "--cmd",
        &command,
        "--skip-slow",
        "--cuts",
        "whole",
        "--timeout-scale",
        TIMEOUT_SCALE,
    ]);
    assert_eq!(ran.code, CONFORMS, "{}{}", ran.stdout, ran.stderr);
    assert!(report["counts"]["passed"].as_u64() > Some(80), "{report}");
}

#[test]
fn the_python_client_conforms() {
    let command = client(&format!("{} {{resuming:--reconnect}}", python("client.py")));
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
    // It asks for no files.
    let cases = report["cases"].as_array().expect("cases").iter();
    let not_run: Vec<_> = cases.filter(|case| case["verdict"] == "not-run").collect();
    assert_eq!(report["counts"]["not_run"], not_run.len());
    for case in not_run {
        assert_eq!(case["case"], "client/files/not-fetched-unasked");
    }
}

/// They have tests of their own.
#[test]
fn the_python_implementations_pass_their_own_tests() {
    let unittest = python_command()
        .args(["-m", "unittest", "--quiet"])
        .output()
        .expect("the interpreter starts");
    assert!(
        unittest.status.success(),
        "{}",
        String::from_utf8_lossy(&unittest.stderr)
    );
}

/// As little as it is, it breaks no MUST.
#[test]
fn the_smallest_client_conforms() {
    // It knows of no password.
    let command = format!("{} {{address}} {{name}}", python("smallest_client.py"));
    let more = ["--cuts", "whole", "--timeout-scale", TIMEOUT_SCALE];
    let (ran, report) = report(&[&["client", "--cmd", &command], &more[..]].concat());
    assert_eq!(ran.code, CONFORMS, "{}{}", ran.stdout, ran.stderr);
    assert!(report["counts"]["passed"].as_u64() > Some(20), "{report}");
}

/// The client of thirty lines, which asks for no capability, works against the
/// reference server.
#[test]
fn the_smallest_client_chats_with_the_reference_client() {
    let mut server = Ended(
        Command::new(env!("CARGO_BIN_EXE_chat-server"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server starts"),
    );
    let address = next_line(&lines(server.0.stdout.take()))
        .trim_start_matches("listening on ")
        .to_owned();

    let mut listener = Ended(
        Command::new(env!("CARGO_BIN_EXE_chat-client"))
            .args([address.as_str(), "Rust"])
            .env("XDG_DATA_HOME", env!("CARGO_TARGET_TMPDIR"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the client starts"),
    );
    let mut smallest = Ended(
        python_command()
            .args(["smallest_client.py", &address, "Python"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the client starts"),
    );
    let heard_by_rust = lines(listener.0.stdout.take());
    let heard_by_python = lines(smallest.0.stdout.take());
    let mut typed_to_rust = listener.0.stdin.take().expect("it is piped");
    let mut typed_to_python = smallest.0.stdin.take().expect("it is piped");

    // Until both are in the room, what one says may come before the other is there.
    writeln!(typed_to_python, "are you there?").expect("it reads");
    let mut has_answered = false;
    for attempt in 0..ATTEMPTS_MAX {
        writeln!(typed_to_rust, "hello {attempt}").expect("it reads");
        thread::sleep(Duration::from_millis(ATTEMPT_MS));
        if heard_by_python
            .try_recv()
            .is_ok_and(|line| line.starts_with("@Rust: hello "))
        {
            has_answered = true;
            break;
        }
    }
    assert!(has_answered, "the smallest client hears what is said");
    writeln!(typed_to_python, "it works é").expect("it reads");
    loop {
        let line = next_line(&heard_by_rust);
        if line == "@Python: it works é" {
            break;
        }
        assert_eq!(line, "@Python: are you there?");
    }
    // The end of its input is a Leave; the server closes, and it ends.
    drop(typed_to_python);
    assert!(smallest.0.wait().expect("our child").success());
}

/// How often one client greets until the other is there, and how long it waits
/// each time, in milliseconds.
const ATTEMPTS_MAX: u32 = 200;
const ATTEMPT_MS: u64 = 100;

/// How long a line may take to come.
const LINE_WAIT: Duration = Duration::from_secs(20);

/// How many lines may wait to be looked at.
const LINES_WAITING_MAX: usize = 1_024;

/// The lines that a process prints, as they come.
fn lines(stdout: Option<ChildStdout>) -> Receiver<String> {
    let (sender, receiver) = sync_channel(LINES_WAITING_MAX);
    let stdout = BufReader::new(stdout.expect("it is piped"));
    thread::spawn(move || {
        for line in stdout.lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    receiver
}

fn next_line(lines: &Receiver<String>) -> String {
    lines.recv_timeout(LINE_WAIT).expect("a line comes")
}
