//! Cleanup: no process outlives a run, however the run ends, and a run that a signal
//! ends writes the reports that its options name.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use chat::wire::{self, ClientEnvelope, client_envelope::Message};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use prost::Message as _;
use serde_json::Value;

use crate::{
    files::json_schema,
    support::{
        CONFORMS, Ended, INCOMPLETE, USAGE, VIOLATES, listening, listening_to, reference,
        runner_with_signals,
    },
};

/// How long a run may take to end, and a process to be gone. Nothing waits this long
/// unless it fails.
const DEADLINE: Duration = Duration::from_secs(20);

/// How soon after a signal a run ends. The cases that are played wait for longer.
const SIGNAL_DEADLINE: Duration = Duration::from_secs(4);

/// The signals that end a run.
const SIGNALS: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
];

/// None of them is ignored, as in a terminal.
const CAUGHT: &str = "--default-signal=INT,TERM,HUP,QUIT";

/// A folder in which targets write down their process ids.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A command line that writes down its process id and that of a child, and then
    /// is `command`.
    fn target(&self, command: &str) -> String {
        let ids = self.path("ids");
        let ids = ids.display();
        let script = format!("sleep 600 & echo $! >>{ids}; echo $$ >>{ids}; {command}");
        format!("sh -c {}", shlex::try_quote(&script).expect("no NUL"))
    }

    fn ids(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.path("ids")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Waits until so many targets were started.
    fn wait_for(&self, targets: usize) {
        wait_until("the targets are started", || {
            self.ids().len() >= 2 * targets
        });
    }

    /// No target and no child of one runs any more.
    fn check_nothing_is_left(&self, way: &str) {
        let ids = self.ids();
        assert!(!ids.is_empty(), "{way}: no target was started");
        for id in ids {
            wait_until(&format!("{way}: {id} is gone"), || !is_running(id));
        }
    }
}

/// A test that fails leaves nothing behind either.
impl Drop for Folder {
    fn drop(&mut self) {
        for id in self.ids() {
            if is_running(id) {
                let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
            }
        }
    }
}

fn is_running(id: i32) -> bool {
    // A zombie has ended.
    fs::read_to_string(format!("/proc/{id}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or("").starts_with('Z'))
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not so in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn start(arguments: &[&str]) -> Ended {
    let mut command = runner_with_signals(CAUGHT);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ended(command.spawn().expect("the runner starts"))
}

fn send(signal: Signal, child: &Child) {
    kill(Pid::from_raw(child.id().cast_signed()), signal).expect("the runner runs");
}

fn code(child: &mut Child, deadline: Duration) -> i32 {
    let deadline = Instant::now() + deadline;
    loop {
        if let Some(status) = child.try_wait().expect("our child") {
            return status.code().expect("it ends by itself");
        }
        assert!(Instant::now() < deadline, "the run does not end");
        thread::sleep(Duration::from_millis(5));
    }
}

/// The case that is played when the signal comes is not judged, the one before it is.
fn check_reports(folder: &Folder, signal: Signal) {
    let read = |name: &str| fs::read_to_string(folder.path(name)).expect("a report");
    let json: Value = serde_json::from_str(&read("json")).expect("JSON");
    if let Some(error) = json_schema("report.schema.json").iter_errors(&json).next() {
        panic!("{error} at {}", error.instance_path);
    }
    let sentence = format!("interrupted by {signal}");
    assert_eq!(json["result"], "incomplete");
    assert_eq!(json["exit_code"], INCOMPLETE);
    assert_eq!(json["interrupted"], sentence);
    assert!(json["counts"]["not_run"].as_u64() > Some(0), "{json}");
    for name in ["junit", "markdown", "html"] {
        assert!(read(name).contains(&sentence), "{name}");
    }
}

fn with_reports<'a>(folder: &'a [PathBuf; 4], arguments: &[&'a str]) -> Vec<&'a str> {
    let mut all = arguments.to_vec();
    for (option, path) in ["--json", "--junit", "--markdown", "--html"]
        .iter()
        .zip(folder)
    {
        all.extend([*option, path.to_str().expect("UTF-8")]);
    }
    all
}

fn report_paths(folder: &Folder) -> [PathBuf; 4] {
    ["json", "junit", "markdown", "html"].map(|name| folder.path(name))
}

#[test]
fn a_signal_ends_a_run_against_a_server() {
    for signal in SIGNALS {
        let folder = Folder::new();
        let server = reference("--register-deadline-ms 15000");
        let target = folder.target(&format!("exec {server}"));
        let paths = report_paths(&folder);
        let arguments = [
            "server",
            "--cmd",
            &target,
            "--case",
            "registering/deadline*",
        ];
        let mut run = start(&with_reports(&paths, &arguments));
        // Two of the cases wait for the deadline, each at a server of its own.
        folder.wait_for(2);
        send(signal, &run.0);
        assert_eq!(code(&mut run.0, SIGNAL_DEADLINE), INCOMPLETE, "{signal}");
        folder.check_nothing_is_left(signal.as_str());
        check_reports(&folder, signal);
    }
}

/// The folder in which a server keeps its room goes with the run.
#[test]
fn no_folder_of_a_server_is_left() {
    for signal in [None, Some(Signal::SIGTERM)] {
        let folder = Folder::new();
        let temporary = folder.path("temporary");
        fs::create_dir(&temporary).expect("a folder");
        let server = reference("--register-deadline-ms 15000 --data {data}");
        let target = folder.target(&format!("exec {server}"));
        let case = match signal {
            None => "registering/accepted",
            Some(_) => "registering/deadline*",
        };
        let mut command = runner_with_signals(CAUGHT);
        command
            .env("TMPDIR", &temporary)
            .args(["server", "--cmd", &target, "--case", case])
            .stdout(Stdio::null());
        let mut run = Ended(command.spawn().expect("the runner starts"));
        match signal {
            None => assert_eq!(code(&mut run.0, DEADLINE), CONFORMS),
            Some(signal) => {
                folder.wait_for(2);
                let in_use = fs::read_dir(&temporary).expect("a folder").count();
                assert!(in_use > 0, "the servers keep their rooms elsewhere");
                send(signal, &run.0);
                assert_eq!(code(&mut run.0, SIGNAL_DEADLINE), INCOMPLETE);
            }
        }
        let left = fs::read_dir(&temporary).expect("a folder").count();
        assert_eq!(left, 0, "{signal:?}");
    }
}

#[test]
fn a_signal_ends_a_run_against_a_server_that_does_not_start() {
    let folder = Folder::new();
    let target = folder.target("exec sleep 600");
    let paths = report_paths(&folder);
    let mut run = start(&with_reports(&paths, &["server", "--cmd", &target]));
    folder.wait_for(1);
    send(Signal::SIGINT, &run.0);
    assert_eq!(code(&mut run.0, SIGNAL_DEADLINE), INCOMPLETE);
    folder.check_nothing_is_left("while it starts");
    check_reports(&folder, Signal::SIGINT);
}

/// A server at an address is none of the run's to end.
#[test]
fn a_signal_ends_a_run_against_an_address() {
    let folder = Folder::new();
    let (mut server, address) = listening_to(&reference("--register-deadline-ms 15000"));
    let paths = report_paths(&folder);
    let arguments = ["server", &address, "--case", "registering/*"];
    let mut run = start(&with_reports(&paths, &arguments));
    thread::sleep(Duration::from_secs(1));
    send(Signal::SIGTERM, &run.0);
    assert_eq!(code(&mut run.0, SIGNAL_DEADLINE), INCOMPLETE);
    assert!(server.0.try_wait().expect("our child").is_none());
    check_reports(&folder, Signal::SIGTERM);
}

#[test]
fn a_signal_ends_a_run_against_a_client() {
    for signal in SIGNALS {
        let folder = Folder::new();
        let target = format!("{} {{address}}", folder.target("exec sleep 600"));
        let paths = report_paths(&folder);
        let mut run = start(&with_reports(&paths, &["client", "--cmd", &target]));
        // The first shows that it can be started at all.
        folder.wait_for(3);
        send(signal, &run.0);
        assert_eq!(code(&mut run.0, SIGNAL_DEADLINE), INCOMPLETE, "{signal}");
        folder.check_nothing_is_left(signal.as_str());
        check_reports(&folder, signal);
    }
}

/// A reader that has stopped reading, such as a pager, keeps no report from being written.
#[test]
fn a_signal_leaves_reports_when_nobody_reads_the_output() {
    let folder = Folder::new();
    let (_server, address) = listening_to(&reference(""));
    let paths = report_paths(&folder);
    let arguments = ["server", &address, "--cuts", "whole"];
    let mut command = runner_with_signals(CAUGHT);
    command.args(with_reports(&paths, &arguments));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    fill(&writer);
    let mut run = Ended(command.stdout(writer).spawn().expect("the runner starts"));
    drop(command);
    thread::sleep(Duration::from_secs(2));
    send(Signal::SIGINT, &run.0);
    assert_eq!(code(&mut run.0, DEADLINE), INCOMPLETE);
    check_reports(&folder, Signal::SIGINT);
    drop(reader);
}

/// Fills a pipe up, so that the next write to it waits.
fn fill(pipe: &std::io::PipeWriter) {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let set = |flags| fcntl(pipe, FcntlArg::F_SETFL(flags)).expect("a pipe has flags");
    set(OFlag::O_NONBLOCK);
    let mut writer = pipe;
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    set(OFlag::empty());
}

/// What was said before the signal is in the draft.
#[test]
fn a_signal_ends_a_recording() {
    for signal in SIGNALS {
        let folder = Folder::new();
        let draft = folder.path("draft.chat");
        let (_server, server) = listening_to(&reference(""));
        let (mut recorder, address) = listening(
            runner_with_signals(CAUGHT)
                .args(["record", &server, "--out"])
                .arg(&draft)
                .stdin(Stdio::null()),
        );
        let mut client = TcpStream::connect(&address).expect("the recorder listens");
        let register = ClientEnvelope {
            message: Some(Message::Register(wire::Register {
                name: "Alice".to_owned(),
                ..Default::default()
            })),
        };
        client
            .write_all(&register.encode_length_delimited_to_vec())
            .expect("the recorder reads");
        assert!(client.read(&mut [0; 1024]).expect("an answer") > 0);
        send(signal, &recorder.0);
        assert_eq!(
            code(&mut recorder.0, SIGNAL_DEADLINE),
            INCOMPLETE,
            "{signal}"
        );
        let text = fs::read_to_string(&draft).expect("a draft");
        assert!(text.contains("alice sends register"), "{text}");
        assert!(text.contains("alice receives registered"), "{text}");
        assert!(
            text.contains(&format!("# interrupted by {signal}")),
            "{text}"
        );
    }
}

/// `nohup` starts a program that outlives its terminal.
#[test]
fn a_hangup_that_is_ignored_ends_no_run() {
    let folder = Folder::new();
    let target = folder.target(&format!("exec {}", reference("")));
    let mut command = runner_with_signals("--ignore-signal=HUP");
    command.args(["server", "--cmd", &target, "--case", "framing/*"]);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let mut run = Ended(command.spawn().expect("the runner starts"));
    folder.wait_for(2);
    send(Signal::SIGHUP, &run.0);
    assert_eq!(code(&mut run.0, DEADLINE), CONFORMS);
    folder.check_nothing_is_left("SIGHUP ignored");
}

/// All the other ways in which a run ends.
#[test]
fn a_run_that_ends_by_itself_leaves_nothing_behind() {
    let folder = Folder::new();
    let known = folder.path("known.txt");
    fs::write(&known, "names/in-use  # not so\n").expect("a file");
    let known = known.to_str().expect("UTF-8");
    let server = format!("exec {}", reference(""));
    for (way, command, more, expected) in [
        ("it conforms", server.as_str(), &[][..], CONFORMS),
        (
            "it violates",
            &server,
            &["--known-failures", known],
            VIOLATES,
        ),
        (
            "a report cannot be written",
            &server,
            &["--json", "/nonexistent/report"],
            USAGE,
        ),
        (
            "nobody listens where it says",
            "echo listening on chat://127.0.0.1:1; exec sleep 600",
            &[],
            INCOMPLETE,
        ),
        ("it ends at once", "exit 7", &[], INCOMPLETE),
    ] {
        let folder = Folder::new();
        let target = folder.target(command);
        let arguments = ["server", "--cmd", &target, "--case", "names/in-use"];
        let mut run = start(&[&arguments, more].concat());
        assert_eq!(code(&mut run.0, DEADLINE), expected, "{way}");
        folder.check_nothing_is_left(way);
    }
}
