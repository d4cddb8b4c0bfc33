//! Runs `chat-bench` briefly against the real server, to see that it works and counts
//! right, and against servers that lie, to see that it notices.

mod support;

use std::{
    ffi::OsStr,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    process::{Command, Output, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use chat::{
    frame::{self, Split},
    limits::Limits,
    wire::{
        self, ClientEnvelope, ServerEnvelope, client_envelope::Message as Sent,
        server_envelope::Message,
    },
};
use prost::Message as _;
use socket2::SockRef;
use support::TestServer;

/// Exit codes of chat-bench.
const LOST: i32 = 1;
const WRONG_USAGE: i32 = 2;
const UNUSABLE: i32 = 3;

fn bench(address: impl ToString, options: &str) -> Output {
    command(options)
        .arg(address.to_string())
        .output()
        .expect("chat-bench starts")
}

fn command(options: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chat-bench"));
    command.args(options.split_whitespace());
    command
}

/// A figure of a run that succeeded.
#[track_caller]
fn figure(output: &Output, key: &str) -> f64 {
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    text.split_once(&format!("\"{key}\":"))
        .and_then(|(_, rest)| rest.split([',', '}']).next()?.parse().ok())
        .unwrap_or_else(|| panic!("no {key} in {text}"))
}

#[track_caller]
fn check_failure(output: &Output, code: i32, sentence: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.contains(sentence), "{error}");
}

#[test]
fn a_burst_counts_every_delivery() {
    let server = TestServer::start(&["--rate-limit", "off"]);
    for senders in [1, 3] {
        let options =
            format!("burst --members 12 --senders {senders} --messages 5000 --seconds 20 --json");
        let output = bench(server.address, &options);
        assert_eq!(figure(&output, "messages"), 5_000.0);
        assert_eq!(figure(&output, "deliveries"), 5_000.0 * 11.0);
        assert!(figure(&output, "p50_ms") <= figure(&output, "max_ms"));
    }
}

/// All senders together receive some 250 MB here; the messages take 4 MB.
#[test]
fn messages_are_not_kept_once_for_each_sender() {
    const ADDRESS_SPACE_KIB: u32 = 128 * 1024;
    let server = TestServer::start(&["--rate-limit", "off"]);
    let options = "burst --members 65 --senders 64 --text-bytes 4096 --messages 1000 --seconds 60";
    let script = format!("ulimit -v {ADDRESS_SPACE_KIB} && exec \"$0\" {options} --json \"$1\"");
    let output = Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_chat-bench")])
        .arg(server.address.to_string())
        .output()
        .expect("a shell");
    assert_eq!(figure(&output, "deliveries"), 1_000.0 * 64.0);
}

#[test]
fn every_workload_works_with_the_real_server() {
    let server = TestServer::start(&["--rate-limit", "off"]);
    let paced = bench(
        server.address,
        "paced --members 10 --rate 100 --messages 50 --json",
    );
    assert_eq!(figure(&paced, "deliveries"), 50.0 * 9.0);
    let idle = bench(server.address, "idle --members 50 --json");
    assert_eq!(figure(&idle, "members"), 50.0);
    let join = bench(server.address, "join --members 50 --json");
    assert!(figure(&join, "joins_per_s") > 0.0);
    let churn = bench(
        server.address,
        "churn --members 5 --visitors 5 --rate 500 --seconds 1 --json",
    );
    assert!(figure(&churn, "visits") > 0.0);
    let slow = bench(
        server.address,
        "slow --members 10 --messages 2000 --seconds 20 --json",
    );
    assert_eq!(figure(&slow, "deliveries"), 2_000.0 * 8.0);
}

/// Each topic has followers here, some have more.
#[test]
fn members_that_follow_topics_are_measured() {
    let server = TestServer::start(&["--rate-limit", "off"]);
    let follow = "follow --members 40 --topics 20 --follows 3 --messages 2000 --seconds 20";
    let output = bench(server.address, &format!("{follow} --json"));
    assert_eq!(figure(&output, "messages"), 2_000.0);
    let deliveries = figure(&output, "deliveries");
    // Some of the 39 followers of each, as they are drawn: the same in each run.
    assert!((2_000.0..2_000.0 * 39.0).contains(&deliveries));
    let again = bench(server.address, &format!("{follow} --json"));
    assert_eq!(figure(&again, "deliveries"), deliveries);
    assert_eq!(figure(&output, "unfollowed"), 2_000.0);
    assert!(figure(&output, "times_unfiltered") > 0.0);
    assert!(figure(&output, "unfollowed_cpu_us") >= 0.0);
    let output = bench(lying_server(Lie::None), "follow --members 5 --messages 50");
    check_failure(&output, LOST, "a topic that it does not follow");
    for (options, sentence) in [
        ("--senders 2", "a single sender"),
        ("--topics 3 --follows 4", "more topics than there are"),
        ("--dialect irc", "no topics"),
    ] {
        let output = bench(server.address, &format!("follow {options}"));
        check_failure(&output, WRONG_USAGE, sentence);
    }
}

#[test]
fn a_file_goes_up_and_down_while_a_pair_chats() {
    let data = tempfile::tempdir().expect("a folder");
    let data = data.path().to_str().expect("a path in UTF-8");
    let server = TestServer::start(&["--rate-limit", "off", "--data", data]);
    let output = bench(server.address, "files --bytes 3000000 --seconds 1 --json");
    // A round of a second for each way at least.
    assert!(figure(&output, "messages") >= 300.0);
    assert!(figure(&output, "upload_mb_per_s") > 0.0);
    assert!(figure(&output, "download_mb_per_s") > 0.0);
    assert!(figure(&output, "p99_ms") < 5_000.0);
    let long = bench(server.address, "files --bytes 1000000000");
    check_failure(&long, UNUSABLE, "--file-bytes-max");
    let memory = TestServer::start(&["--rate-limit", "off"]);
    check_failure(&bench(memory.address, "files"), UNUSABLE, "--data DIR");
    let web = bench("ws://127.0.0.1:1", "files");
    check_failure(&web, WRONG_USAGE, "files works over chat:// only");
}

#[test]
fn members_come_back_and_have_what_they_missed() {
    let server = TestServer::start(&["--rate-limit", "off"]);
    let options = "resume --members 20 --missed 500 --seconds 1 --json";
    let output = bench(server.address, options);
    // And what the pair said before they came back.
    assert!(figure(&output, "resumed") >= 20.0 * 500.0);
    assert!(figure(&output, "messages") >= 200.0);
    assert!(figure(&output, "p99_ms") < 5_000.0);
    let forgets = TestServer::start(&["--rate-limit", "off", "--history-memory", "1KiB"]);
    let options = "resume --members 2 --missed 20000 --seconds 1";
    check_failure(&bench(forgets.address, options), UNUSABLE, "--data");
    let web = bench("ws://127.0.0.1:1", "resume");
    check_failure(&web, WRONG_USAGE, "resume works over chat:// only");
}

/// All listeners of one server, and the certificate that it makes for itself.
#[test]
fn every_transport_carries_the_workloads() {
    let folder = tempfile::tempdir().expect("a folder");
    let tls = folder.path().join("tls");
    let tls = tls.to_str().expect("a path in UTF-8");
    let options = |listener| {
        let all = ["--rate-limit", "off", "--listen", "none"];
        [
            &all[..],
            &[listener, "127.0.0.1:0", "--tls-self-signed", tls],
        ]
        .concat()
    };
    let secure = TestServer::start(&options("--tls-listen"));
    let web = TestServer::start(&options("--web-listen"));
    let quic = TestServer::start(&options("--quic-listen"));
    let plain_web = TestServer::start(&[
        "--rate-limit",
        "off",
        "--listen",
        "none",
        "--web-listen",
        "127.0.0.1:0",
    ]);
    let certificate = folder.path().join("tls/cert.pem");
    let ca = format!("--ca {}", certificate.display());
    for (address, trust) in [
        (format!("chats://{}", secure.address), &*ca),
        (format!("wss://{}", web.address), &*ca),
        (format!("chatq://{}", quic.address), &*ca),
        (format!("ws://{}", plain_web.address), ""),
    ] {
        let run = |workload: &str| bench(&address, &format!("{workload} --json {trust}"));
        let burst = run("burst --members 12 --senders 3 --messages 5000 --seconds 20");
        assert_eq!(figure(&burst, "deliveries"), 5_000.0 * 11.0, "{address}");
        assert!(
            figure(&burst, "server_cpu_s_per_million") > 0.0,
            "{address}"
        );
        // Longer than one frame of TLS, and than one that a client may send at once.
        let long = run("burst --members 3 --text-bytes 4096 --messages 500 --seconds 20");
        assert_eq!(figure(&long, "deliveries"), 500.0 * 2.0, "{address}");
        let paced = run("paced --members 10 --rate 100 --messages 50");
        assert_eq!(figure(&paced, "deliveries"), 50.0 * 9.0, "{address}");
        let idle = run("idle --members 30");
        assert_eq!(figure(&idle, "members"), 30.0, "{address}");
        let join = run("join --members 30");
        assert!(figure(&join, "joins_per_s") > 0.0, "{address}");
    }
    let stranger = bench(format!("chats://{}", secure.address), "join --members 2");
    check_failure(&stranger, UNUSABLE, "self-signed");
    let hostile = bench(format!("ws://{}", plain_web.address), "hostile");
    check_failure(&hostile, WRONG_USAGE, "hostile works over chat:// only");
    let nothing = bench(format!("ws://{}", secure.address), "join --members 2");
    check_failure(&nothing, UNUSABLE, "closed the connection");
}

#[test]
fn a_table_for_people_and_a_plot() {
    let server = TestServer::start(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("plot.svg");
    let options = format!(
        "paced --members 5 --rate 10 --messages 5 --svg {}",
        path.display()
    );
    let output = bench(server.address, &options);
    assert_eq!(output.status.code(), Some(0));
    let table = String::from_utf8_lossy(&output.stdout);
    for word in ["deliveries, all checked", "latency p99.9", "server CPU"] {
        assert!(table.contains(word), "{table}");
    }
    let plot = std::fs::read_to_string(path).expect("a plot");
    assert!(plot.starts_with("<svg") && plot.ends_with("</svg>\n"));
}

#[test]
fn a_closed_standard_output_is_no_failure_and_a_full_one_is() {
    let server = TestServer::start(&[]);
    let folder = tempfile::tempdir().expect("a folder");
    let run = |file: &str, stdout: Stdio, is_read: bool| {
        let path = folder.path().join(file);
        let options = format!(
            "paced --members 3 --rate 10 --messages 5 --svg {}",
            path.display()
        );
        let mut child = command(&options)
            .arg(server.address.to_string())
            .stdout(stdout)
            .stderr(Stdio::piped())
            .spawn()
            .expect("chat-bench starts");
        if !is_read {
            drop(child.stdout.take());
        }
        let output = child.wait_with_output().expect("it ends");
        let plot = std::fs::read_to_string(path).expect("a plot");
        assert!(plot.ends_with("</svg>\n"));
        output
    };
    let closed = run("closed.svg", Stdio::piped(), false);
    check_failure(&closed, 0, "");
    assert!(closed.stderr.is_empty());

    let full = || std::fs::File::create("/dev/full").expect("every Linux has it");
    let output = run("full.svg", full().into(), true);
    check_failure(&output, UNUSABLE, "cannot write to standard output");
    let bound = command("bound each")
        .stdout(full())
        .output()
        .expect("chat-bench starts");
    check_failure(&bound, UNUSABLE, "cannot write to standard output");
}

#[test]
fn an_address_is_written_as_for_the_client() {
    let server = TestServer::start(&[]);
    for address in ["CHAT://ADDRESS", "chat://ADDRESS/"] {
        let address = address.replace("ADDRESS", &server.address.to_string());
        let output = bench(address, "join --members 2 --json");
        assert_eq!(figure(&output, "members"), 2.0);
    }
    let named = bench(format!("Alice@{}", server.address), "join");
    check_failure(&named, WRONG_USAGE, "generated names");
    let other = bench(format!("http://{}", server.address), "join");
    check_failure(&other, WRONG_USAGE, "begins with http://");
}

/// A server with default limits, except for a register deadline that a short run
/// reaches.
#[test]
fn a_pair_chats_on_while_others_attack() {
    let server = TestServer::start(&["--register-deadline-ms", "1000"]);
    let output = bench(
        server.address,
        "hostile --seconds 3 --silent 200 --deaf 100 --lengths 500 --json",
    );
    // Ten a second of each user, in both runs; chat-bench fails if one is lost.
    assert_eq!(figure(&output, "messages"), 120.0);
    // Far more than it takes.
    assert!(figure(&output, "p99_ms") < 5_000.0);
    let peak_bytes = figure(&output, "peak_bytes");
    let bound_bytes = figure(&output, "memory_bytes_max");
    assert_eq!(bound_bytes, Limits::default().memory_bytes_max() as f64);
    assert!(peak_bytes < bound_bytes, "{peak_bytes}");
    // The error code of each kind of attacker.
    let text = String::from_utf8_lossy(&output.stdout);
    for told in [
        "flooding member: RATE_LIMITED",
        "connections that never register: REGISTER_TIMEOUT",
        "lengths of 2^63: FRAME_TOO_LONG 500\"",
    ] {
        assert!(text.contains(told), "{told}: {text}");
    }
}

#[test]
fn a_pair_that_loses_a_message_is_noticed() {
    let nobody = "--flood-times 0 --silent 0 --deaf 0 --lengths 0";
    for (lie, sentence) in [
        (Lie::OneMissesOne, "one is missing"),
        (Lie::OneHasTwo, "repeated"),
        (Lie::TextCut, "a text was changed"),
    ] {
        let options = format!("hostile --seconds 1 --rate 100 {nobody}");
        let output = bench(lying_server(lie), &options);
        check_failure(&output, LOST, sentence);
    }
}

#[test]
fn a_target_that_cannot_be_measured_is_told() {
    let limited = TestServer::start(&[]);
    let output = bench(limited.address, "burst --members 3");
    check_failure(&output, UNUSABLE, "--rate-limit off");

    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let http = thread::spawn(move || {
        let streams: Vec<_> = listener.incoming().take(3).collect();
        for stream in &streams {
            let mut stream = stream.as_ref().expect("it comes");
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nwhat?");
        }
        // The streams stay open: closing a socket with unread bytes would discard the
        // answer.
        streams
    });
    check_failure(
        &bench(address, "burst --members 3"),
        UNUSABLE,
        "not of this protocol",
    );
    drop(http.join().expect("it answered"));
    // Nobody listens there any more.
    check_failure(
        &bench(address, "burst --members 3"),
        UNUSABLE,
        "no server answers",
    );
    check_failure(&bench("::1", "burst"), WRONG_USAGE, "brackets");
    check_failure(
        &bench(address, "burst --members 2 --senders 2"),
        WRONG_USAGE,
        "only read",
    );
    check_failure(
        &bench(address, "burst --members 3 --messages 0"),
        WRONG_USAGE,
        "--messages",
    );
    check_failure(
        &bench(address, "slow --members 9"),
        WRONG_USAGE,
        "no member would stall",
    );
}

/// `benches/competitors/run` goes on with the other measurements: it has an hour's
/// results to lose.
#[test]
fn a_competitor_that_does_not_start_fails_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = folder.path().join("chat-server");
    std::fs::write(&server, "#!/bin/sh\nexit 1\n").expect("a file");
    let mode = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(&server, mode).expect("its own file");
    let output = Command::new("python3")
        .arg(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/benches/competitors/run"
        ))
        .args("--runs 1 --contenders chat-server --only join".split_whitespace())
        .args([OsStr::new("--bin"), folder.path().as_os_str()])
        .args([OsStr::new("--out"), folder.path().as_os_str()])
        .output()
        .expect("python3 is there");
    check_failure(&output, 0, "");
    let table = std::fs::read_to_string(folder.path().join("competitors.md")).expect("a table");
    assert!(table.contains("chat-server: 1 of 1 failed"), "{table}");
}

#[test]
fn a_connection_that_the_server_closes_fails_the_run() {
    for workload in ["idle", "join"] {
        let server = lying_server(Lie::ClosesAll);
        let output = bench(server, &format!("{workload} --members 20"));
        check_failure(&output, LOST, "the server closed the connection");
    }
}

/// The one fault of a lying server, in the middle of the run.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Lie {
    None,
    OneMissesOne,
    AllMissOne,
    OneHasTwo,
    AllHaveTwo,
    OneHasAnotherOrder,
    /// A sender receives another text than the other members.
    SenderHasAnotherText,
    AnotherText,
    TextCut,
    AnotherEndOfText,
    AnotherNumber,
    AnotherSender,
    ToItsSender,
    /// Closes every connection, in the same segment as Registered.
    ClosesAll,
}

#[test]
fn every_lie_of_a_server_is_found() {
    let honest = lying_server(Lie::None);
    let output = bench(honest, "burst --members 5 --messages 100 --json");
    assert_eq!(figure(&output, "deliveries"), 400.0);
    for (lie, sentence) in [
        (Lie::OneMissesOne, "one is missing"),
        (Lie::AllMissOne, "some are missing"),
        (Lie::OneHasTwo, "repeated"),
        (Lie::AllHaveTwo, "repeated"),
        (Lie::OneHasAnotherOrder, "out of order"),
        (Lie::AnotherText, "a text was changed"),
        (Lie::TextCut, "a text was changed"),
        (Lie::AnotherEndOfText, "a text was changed"),
        (Lie::AnotherNumber, "was followed by seq"),
        (Lie::AnotherSender, "under the name"),
        (Lie::ToItsSender, "its own message"),
    ] {
        let output = bench(lying_server(lie), "burst --members 5 --messages 100");
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(LOST), "{lie:?}: {error}");
        assert!(error.contains(sentence), "{lie:?}: {error}");
    }
    let server = lying_server(Lie::SenderHasAnotherText);
    let output = bench(server, "burst --members 5 --senders 2 --messages 100");
    check_failure(&output, LOST, "did not receive what the others received");
}

/// The number of the message that the fault concerns.
const LIE_SEQ: u64 = 50;

/// How long the victim of the fault, if it is one member, waits for that message, in
/// milliseconds.
const LIE_PAUSE_MS: u64 = 100;

/// Linux: more data follows, so the system holds this back until the socket is closed.
const MSG_MORE: i32 = 0x8000;

/// A small server, as slow as it is simple.
fn lying_server(lie: Lie) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("it is bound");
    let room = Arc::new(Mutex::new(Room {
        lie,
        seq: 0,
        members: Vec::new(),
        kept_back: Vec::new(),
    }));
    // Ends with the test.
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let room = Arc::clone(&room);
            thread::spawn(move || listen_to(stream, &room));
        }
    });
    address
}

struct Room {
    lie: Lie,
    seq: u64,
    members: Vec<(String, TcpStream)>,
    /// Bytes that the last member receives after the next message.
    kept_back: Vec<u8>,
}

fn listen_to(mut stream: TcpStream, room: &Mutex<Room>) {
    let mut name = String::new();
    let mut held = Vec::new();
    let mut buffer = [0; 4_096];
    while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
        held.extend_from_slice(&buffer[..bytes]);
        while let Ok(Split::Frame { body, rest }) = frame::split(&held, u32::MAX) {
            let sent = ClientEnvelope::decode(body).expect("an envelope").message;
            held = rest.to_vec();
            let mut room = room.lock().expect("nobody panics");
            match sent {
                Some(Sent::Register(register)) => {
                    name = register.name;
                    let registered = Message::Registered(wire::Registered {
                        name: name.clone(),
                        epoch: "1".to_owned(),
                        ..Default::default()
                    });
                    if room.lie == Lie::ClosesAll {
                        let socket = SockRef::from(&stream);
                        let _ = socket.send_with_flags(&framed(registered), MSG_MORE);
                        return;
                    }
                    let _ = stream.write_all(&framed(registered));
                    let copy = stream.try_clone().expect("a copy");
                    room.members.push((name.clone(), copy));
                }
                Some(Sent::Chat(chat)) => room.publish(&name, chat),
                _ => {}
            }
        }
    }
}

impl Room {
    fn publish(&mut self, sender: &str, mut chat: wire::Chat) {
        self.seq += 1;
        let lie = if self.seq == LIE_SEQ {
            self.lie
        } else {
            Lie::None
        };
        chat.seq = self.seq;
        chat.sender = sender.to_owned();
        match lie {
            Lie::AnotherText => chat.text = "y".repeat(chat.text.len()),
            Lie::TextCut => chat.text.truncate(40),
            Lie::AnotherEndOfText => {
                chat.text.pop();
                chat.text.push('y');
            }
            Lie::AnotherNumber => chat.seq += 1,
            Lie::AnotherSender => chat.sender = "bench00001".to_owned(),
            _ => {}
        }
        let bytes = framed(Message::Chat(chat));
        let last = self.members.iter().rposition(|(name, _)| name != sender);
        for (index, (name, stream)) in self.members.iter_mut().enumerate() {
            let is_last = Some(index) == last;
            if is_last && lie != Lie::None {
                // By then the others have received it, and chat-bench knows the order.
                thread::sleep(Duration::from_millis(LIE_PAUSE_MS));
            }
            let times = match lie {
                _ if name == sender => usize::from(lie == Lie::ToItsSender),
                Lie::AllMissOne => 0,
                Lie::AllHaveTwo => 2,
                Lie::OneMissesOne | Lie::OneHasAnotherOrder if is_last => 0,
                Lie::OneHasTwo if is_last => 2,
                _ => 1,
            };
            let mut bytes = bytes.clone();
            let is_sender = ["bench00000", "bench00001"].contains(&name.as_str());
            if lie == Lie::SenderHasAnotherText && is_sender {
                let end = bytes.iter().rposition(|&byte| byte == b'x');
                bytes[end.expect("a text ends with it")] = b'y';
            }
            // chat-bench closes once it has noticed.
            let _ = stream.write_all(&bytes.repeat(times));
            if is_last && lie == Lie::OneHasAnotherOrder {
                self.kept_back = bytes.clone();
            } else if is_last {
                let _ = stream.write_all(&std::mem::take(&mut self.kept_back));
            }
        }
    }
}

fn framed(message: Message) -> Vec<u8> {
    ServerEnvelope {
        message: Some(message),
    }
    .encode_length_delimited_to_vec()
}

#[test]
fn a_plot_goes_into_a_regular_file_or_to_the_standard_output() {
    let output = bench("127.0.0.1:1", "idle --members 1 --svg /dev/fd/1");
    check_failure(&output, WRONG_USAGE, "it is a symbolic link");
    let server = TestServer::start(&[]);
    let output = bench(
        server.address,
        "paced --members 5 --rate 10 --messages 5 --svg -",
    );
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("<svg"), "{text}");
}
