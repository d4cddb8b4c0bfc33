//! Targets that are no chat servers: none passes, and none hangs the run.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use prost::Message as _;

use chat::wire::{self, ServerEnvelope, server_envelope::Message};

use crate::support::{CONFORMS, INCOMPLETE, TIMEOUT_SCALE, VIOLATES, reference, report, runner};

/// How long a run against such a target may take. It gives up long before.
const RUN_MAX: Duration = Duration::from_secs(60);

/// Listens and gives each connection to `serve`, in a thread of its own.
fn target(serve: fn(TcpStream)) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || serve(stream));
        }
    });
    address
}

fn frame(message: Message) -> Vec<u8> {
    ServerEnvelope {
        message: Some(message),
    }
    .encode_length_delimited_to_vec()
}

fn registered() -> Vec<u8> {
    frame(Message::Registered(wire::Registered {
        name: "Anybody".to_owned(),
        epoch: "e".to_owned(),
        ..Default::default()
    }))
}

fn refusal() -> Vec<u8> {
    frame(Message::Error(wire::Error {
        code: wire::ErrorCode::ServerFull.into(),
        ends_session: true,
        ..Default::default()
    }))
}

fn read_for_ever(mut stream: TcpStream) {
    let mut chunk = [0; 1024];
    while matches!(stream.read(&mut chunk), Ok(n) if n > 0) {}
}

/// Runs the suite against a hopeless target: the run ends soon, with this exit code.
fn check_hopeless(address: &str, code: i32) -> serde_json::Value {
    let began = Instant::now();
    let (ran, report) = report(&[
        "server",
        address,
        "--timeout-scale",
        "0.3",
        "--skip-slow",
        "--cuts",
        "whole",
    ]);
    assert_eq!(ran.code, code, "{}{}", ran.stdout, ran.stderr);
    assert!(began.elapsed() < RUN_MAX, "{:?}", began.elapsed());
    report
}

fn passed(report: &serde_json::Value) -> Vec<&str> {
    let cases = report["cases"].as_array().expect("cases");
    cases
        .iter()
        .filter(|c| c["verdict"] == "passed")
        .filter_map(|c| c["case"].as_str())
        .collect()
}

#[test]
fn a_silent_target_does_not_pass() {
    let report = check_hopeless(&target(read_for_ever), VIOLATES);
    assert_eq!(passed(&report), [] as [&str; 0]);
}

#[test]
fn a_target_that_closes_at_once_does_not_pass() {
    let report = check_hopeless(&target(drop), VIOLATES);
    assert_eq!(passed(&report), [] as [&str; 0]);
}

#[test]
fn an_echo_does_not_pass() {
    let report = check_hopeless(
        &target(|mut stream| {
            let mut copy = stream.try_clone().expect("a second handle");
            let _ = std::io::copy(&mut copy, &mut stream);
        }),
        VIOLATES,
    );
    assert_eq!(passed(&report), [] as [&str; 0]);
}

#[test]
fn a_target_that_accepts_all_does_not_pass() {
    let report = check_hopeless(
        &target(|mut stream| {
            let mut chunk = [0; 1024];
            while matches!(stream.read(&mut chunk), Ok(n) if n > 0) {
                if stream.write_all(&registered()).is_err() {
                    return;
                }
            }
        }),
        VIOLATES,
    );
    assert_eq!(passed(&report), [] as [&str; 0]);
}

#[test]
fn a_target_that_refuses_all_does_not_pass() {
    let report = check_hopeless(
        &target(|mut stream| {
            let _ = stream.write_all(&refusal());
            let _ = stream.shutdown(std::net::Shutdown::Write);
            read_for_ever(stream);
        }),
        VIOLATES,
    );
    assert_eq!(passed(&report), [] as [&str; 0]);
}

/// It registers members, and then sends nothing.
#[test]
fn a_target_that_hangs_does_not_pass() {
    let report = check_hopeless(
        &target(|mut stream| {
            let mut chunk = [0; 1024];
            if matches!(stream.read(&mut chunk), Ok(n) if n > 0) {
                let _ = stream.write_all(&registered());
            }
            read_for_ever(stream);
        }),
        VIOLATES,
    );
    // Nothing but the silence that a lone member may expect.
    assert!(report["counts"]["failed"].as_u64() > Some(0));
}

/// It registers members and then sends chats faster than the suite reads them.
#[test]
fn a_target_that_never_stops_sending_does_not_pass() {
    check_hopeless(
        &target(|mut stream| {
            let mut chunk = [0; 1024];
            let Ok(n) = stream.read(&mut chunk) else {
                return;
            };
            let Ok(wire::ClientEnvelope {
                message: Some(wire::client_envelope::Message::Register(register)),
            }) = wire::ClientEnvelope::decode_length_delimited(&chunk[..n])
            else {
                return;
            };
            let registered = frame(Message::Registered(wire::Registered {
                name: register.name,
                epoch: "e".to_owned(),
                limits: Some(wire::Limits {
                    frame_bytes_max: 8192,
                    text_bytes_max: 4096,
                    ..Default::default()
                }),
                ..Default::default()
            }));
            let chat = frame(Message::Chat(wire::Chat {
                text: "and on".to_owned(),
                sender: "Somebody".to_owned(),
                ..Default::default()
            }));
            let chats = chat.repeat(1000);
            if stream.write_all(&registered).is_ok() {
                while stream.write_all(&chats).is_ok() {}
            }
        }),
        VIOLATES,
    );
}

/// Its connections are never accepted.
#[test]
fn a_target_that_accepts_no_connection_does_not_pass() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let report = check_hopeless(&address, VIOLATES);
    assert_eq!(passed(&report), [] as [&str; 0]);
    drop(listener);
}

/// The process ends at the first byte: a crash, not a refusal and not a hang.
#[test]
fn a_crash_is_reported_as_a_crash() {
    let script = "import socket,sys\n\
        s=socket.create_server(('127.0.0.1',0))\n\
        print('listening on chat://127.0.0.1:%d'%s.getsockname()[1],flush=True)\n\
        c,_=s.accept()\n\
        c.recv(1)\n\
        sys.exit('cannot cope')";
    let command = format!("python3 -c {}", shlex::try_quote(script).expect("no NUL"));
    let (ran, report) = report(&[
        "server",
        "--cmd",
        &command,
        "--case",
        "names/*",
        "--timeout-scale",
        // A busy machine takes a while to bury a process.
        TIMEOUT_SCALE,
        "--jobs",
        "2",
    ]);
    assert_eq!(ran.code, VIOLATES, "{}{}", ran.stdout, ran.stderr);
    let kinds: Vec<&str> = report["cases"]
        .as_array()
        .expect("cases")
        .iter()
        .filter_map(|c| c["failure"]["kind"].as_str())
        .collect();
    assert!(
        !kinds.is_empty() && kinds.iter().all(|k| *k == "crash"),
        "{kinds:?}"
    );
    assert!(
        ran.stdout.contains("its error output: cannot cope"),
        "{}",
        ran.stdout
    );
}

/// Reports are written when no case could be judged.
#[test]
fn reports_are_written_when_nobody_listens() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let (ran, report) = report(&["server", &address]);
    assert_eq!(ran.code, INCOMPLETE);
    assert_eq!(report["result"], "incomplete");
    assert_eq!(report["counts"]["not_run"], report["counts"]["selected"]);
}

/// The error output of a client is in the report, however soon the client ended.
#[test]
fn the_error_output_of_a_client_is_reported() {
    let (ran, _) = report(&[
        "client",
        "--cmd",
        "sh -c 'echo cannot cope >&2; exit 7' {address}",
        "--case",
        "client/leaving/*",
    ]);
    assert_eq!(ran.code, VIOLATES, "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.contains("its error output: cannot cope"),
        "{}",
        ran.stdout
    );
}

/// A closed output does not end the run, and its reports are written.
#[test]
fn reports_are_written_when_nobody_reads_the_output() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("report.json");
    let mut child = runner()
        .args(["server", "--cmd", &reference(""), "--case", "names/in-use"])
        .arg("--json")
        .arg(&path)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the runner starts");
    drop(child.stdout.take());
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(CONFORMS));
    assert!(path.exists());
}
