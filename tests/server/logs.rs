//! What operators read in the log: where connections come from, as text and as JSON, with
//! a bound.

use std::{
    fs,
    io::Write,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Command, Stdio},
};

use chat::wire::ErrorCode;

use crate::support::{NOTHING, Peer, TestServer, leave};

const FILTER: &str = "packaging/fail2ban/chat-server.filter.conf";

/// The lines that say `words`, without their time.
fn lines(log: &str, words: &str) -> Vec<String> {
    let lines = log.lines().filter(|line| line.contains(words));
    lines
        .map(|line| line.split_once(' ').expect("a time").1.trim().to_owned())
        .collect()
}

/// Has the server refuse a connection.
fn is_refused(server: &TestServer) {
    let mut stranger = Peer::connect(server);
    stranger.say("hello");
    stranger.is_ended(ErrorCode::NotRegistered);
}

#[test]
fn each_line_about_a_connection_says_where_it_comes_from() {
    let server = TestServer::start(&[]);
    let stream = TcpStream::connect(server.address).expect("it listens");
    let port = stream.local_addr().expect("it is connected").port();
    let mut alice = Peer::from_stream(stream);
    alice.register("Alice", NOTHING);
    alice.say("hello");
    alice.send(&leave());
    alice.is_closed();
    is_refused(&server);
    server.wait_for_log("NOT_REGISTERED");
    let log = server.log();
    let from = format!("peer=127.0.0.1 port={port} transport=\"tcp\"");
    assert_eq!(
        lines(&log, "registered name"),
        [format!("INFO registered name=Alice {from}")]
    );
    assert_eq!(
        lines(&log, "left"),
        [format!(
            "INFO left name=Alice why=\"left\" messages=1 {from}"
        )]
    );
    let refused = lines(&log, "refused");
    assert_eq!(refused.len(), 1, "{log}");
    let from = "INFO refused why=\"NOT_REGISTERED\" peer=127.0.0.1 port=";
    assert!(refused[0].starts_with(from), "{log}");
}

/// A load balancer asks every second.
#[test]
fn a_connection_that_says_nothing_is_no_line() {
    let server = TestServer::start(&["--web-listen", "127.0.0.1:0"]);
    for _ in 0..3 {
        drop(TcpStream::connect(server.address).expect("it listens"));
    }
    is_refused(&server);
    server.wait_for_log("NOT_REGISTERED");
    assert_eq!(lines(&server.log(), "refused").len(), 1, "{}", server.log());
}

#[test]
fn connections_beyond_a_limit_are_told_with_their_address() {
    let server = TestServer::start(&["--limit-loopback", "--connections-per-minute-max", "1"]);
    let _alice = Peer::join(&server, "Alice");
    Peer::connect(&server).is_ended(ErrorCode::ConnectingTooFast);
    server.wait_for_log("INFO refused why=\"CONNECTING_TOO_FAST\" peer=127.0.0.1 port=");
}

#[test]
fn json_has_an_object_in_each_line() {
    let mut server = TestServer::start(&["--log-format", "json", "-v"]);
    let mut alice = Peer::join(&server, "Alice");
    alice.send(&leave());
    alice.is_closed();
    is_refused(&server);
    server.signal("TERM");
    server.wait();
    let log = server.log();
    let objects: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect();
    let find = |message: &str| {
        let mut objects = objects.iter();
        objects
            .find(|object| object["message"] == message)
            .unwrap_or_else(|| panic!("{log}"))
    };
    for object in &objects {
        assert!(
            object["time"].is_string() && object["level"].is_string(),
            "{object}"
        );
    }
    let left = find("left");
    assert_eq!(left["name"], "Alice");
    assert_eq!(left["peer"], "127.0.0.1");
    assert_eq!(left["messages"], 0);
    assert!(left["port"].is_u64(), "{left}");
    assert_eq!(find("refused")["why"], "NOT_REGISTERED");
    assert_eq!(find("connected")["level"], "DEBUG");
}

#[test]
fn lines_that_repeat_are_counted_and_summed() {
    let mut server = TestServer::start(&[]);
    for _ in 0..25 {
        is_refused(&server);
    }
    server.signal("TERM");
    server.wait();
    let log = server.log();
    let refused = lines(&log, "NOT_REGISTERED");
    let (sums, single): (Vec<_>, Vec<_>) =
        refused.iter().partition(|line| line.contains("repeated="));
    assert_eq!(single.len(), 10, "{log}");
    assert_eq!(
        sums,
        ["INFO refused why=\"NOT_REGISTERED\" peer=127.0.0.1 transport=\"tcp\" repeated=15"]
    );
}

/// The expressions of the filter as other programs read them, and how many lines of `log`
/// match one of them.
fn matches(log: &str) -> usize {
    let filter = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(FILTER));
    let filter = filter.expect("the filter");
    let why = filter.lines().find_map(|line| line.strip_prefix("_why = "));
    let expressions: Vec<regex::Regex> = filter
        .lines()
        .filter_map(|line| {
            line.trim_start_matches("failregex =")
                .trim()
                .strip_prefix('^')
        })
        .filter(|line| line.contains("<HOST>"))
        .map(|line| {
            let host = r"(?:[0-9.]+|[0-9a-fA-F:.]+)";
            let line = line
                .replace("<HOST>", host)
                .replace("%(_why)s", why.expect("reasons"));
            regex::Regex::new(&format!("^{line}")).expect("an expression")
        })
        .collect();
    assert_eq!(expressions.len(), 2);
    let is_match = |line: &&str| expressions.iter().any(|it| it.is_match(line));
    log.lines().filter(is_match).count()
}

/// As fail2ban itself counts them, where it is installed.
fn matches_of_fail2ban(log: &str) -> Option<usize> {
    let file = tempfile::Builder::new()
        .suffix(".log")
        .tempfile()
        .expect("a place for files");
    file.as_file().write_all(log.as_bytes()).expect("ours");
    let filter = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILTER);
    let output = Command::new("fail2ban-regex")
        .arg(file.path())
        .arg(filter)
        .stdin(Stdio::null())
        .output();
    let Ok(output) = output else {
        eprintln!("fail2ban-regex is not installed");
        return None;
    };
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let matched = report
        .split(" matched")
        .next()
        .and_then(|it| it.split(' ').next_back());
    Some(
        matched
            .and_then(|it| it.parse().ok())
            .unwrap_or_else(|| panic!("{report}")),
    )
}

/// Guests of every kind, some of whom an attacker is too.
#[test]
fn fail2ban_finds_the_attackers_in_the_log() {
    for format in ["text", "json"] {
        let password = crate::support::file(b"open sesame", 0o600);
        let password = password.to_str().expect("a path");
        let mut server = TestServer::start(&[
            "--log-format",
            format,
            "--password-file",
            password,
            "--register-deadline-ms",
            "300",
            "-v",
        ]);
        // Refused, for four reasons that count.
        let mut wrong = Peer::connect(&server);
        wrong.send(&crate::support::register_with_password("Eve", "guessed"));
        wrong.is_ended(ErrorCode::PasswordWrong);
        is_refused(&server);
        let mut scan = TcpStream::connect(server.address).expect("it listens");
        scan.write_all(
            b"GET / HTTP/1.1\r\nHost: chat.example.org\r\nUser-Agent: a scanner of ports\r\n\r\n",
        )
        .expect("it reads");
        Peer::from_stream(scan).is_ended(ErrorCode::MalformedFrame);
        Peer::connect(&server).is_ended(ErrorCode::RegisterTimeout);
        // None of these counts.
        let join = |name: &str| {
            let mut peer = Peer::connect(&server);
            peer.send(&crate::support::register_with_password(name, "open sesame"));
            peer
        };
        let mut alice = join("Alice");
        alice.registered();
        join("alice").is_ended(ErrorCode::NameInUse);
        alice.send(&leave());
        alice.is_closed();
        drop(TcpStream::connect(server.address));
        server.signal("TERM");
        server.wait();
        let log = server.log();
        assert_eq!(matches(&log), 4, "{log}");
        // In the journal.
        let prefixed: String = log
            .lines()
            .map(|line| format!("host chat-server[123]: {line}\n"))
            .collect();
        assert_eq!(matches(&prefixed), 4, "{prefixed}");
        if let Some(count) = matches_of_fail2ban(&log) {
            assert_eq!(count, 4, "{log}");
        }
    }
}

/// An operator who looks for who it was.
#[test]
fn addresses_of_ipv6_are_plain() {
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let server = TestServer::start(&["--listen", "[::1]:0"]);
    is_refused(&server);
    server.wait_for_log("refused why=\"NOT_REGISTERED\" peer=::1 port=");
    // IPv4 on a socket of IPv6.
    let server = TestServer::start(&["--listen", ":0"]);
    let stream = TcpStream::connect(("127.0.0.1", server.address.port())).expect("it listens");
    let mut stranger = Peer::from_stream(stream);
    stranger.say("hello");
    stranger.is_ended(ErrorCode::NotRegistered);
    server.wait_for_log("refused why=\"NOT_REGISTERED\" peer=127.0.0.1 port=");
}
