//! What a monitor sees: metrics in Prometheus' text format, health and readiness.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::TcpStream,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use chat::wire::ErrorCode;

use crate::support::{NOTHING, Peer, TestServer, command, leave, output};

/// A server, and where its metrics are.
fn start(options: &[&str]) -> (TestServer, String) {
    let mut server = TestServer::start(&[&["--metrics", "127.0.0.1:0"], options].concat());
    let address = address(&mut server);
    (server, address)
}

/// Where the metrics of a server are that was started just now.
pub fn address(server: &mut TestServer) -> String {
    let mut lines = std::iter::repeat_with(|| server.next_line()).take(3);
    let line = lines.find_map(|line| Some(line.strip_prefix("metrics on http://")?.to_owned()));
    let address = line.expect("the address");
    let address = address.strip_suffix("/metrics").expect("the path");
    address.to_owned()
}

/// The status and the body of the answer to a request.
fn get(address: &str, request: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    write!(stream, "{request} HTTP/1.1\r\nHost: x\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream
        .read_to_string(&mut answer)
        .expect("it answers and closes");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    (status.expect("a status"), body.to_owned())
}

/// The samples, by name and labels.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (name, value) = line.rsplit_once(' ').expect("a value");
            (name.to_owned(), value.parse().expect("a number"))
        })
        .collect()
}

/// Waits for a value, which comes soon.
#[track_caller]
pub fn becomes(address: &str, name: &str, expected: f64) {
    for _ in 0..200 {
        if samples(&get(address, "GET /metrics").1).get(name) == Some(&expected) {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    panic!(
        "{name} is not {expected}: {}",
        get(address, "GET /metrics").1
    );
}

#[test]
fn it_counts_what_happens_and_shows_nobody() {
    let (server, address) = start(&[]);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    let mut carol = Peer::join(&server, "Carol");
    for _ in 0..5 {
        alice.say("a secret that nobody counts");
        bob.hears("a secret that nobody counts");
        carol.hears("a secret that nobody counts");
    }
    let mut stranger = Peer::connect(&server);
    stranger.say("hello");
    stranger.is_ended(ErrorCode::NotRegistered);
    drop(stranger);
    carol.send(&leave());
    carol.is_closed();
    drop(carol);
    becomes(&address, "chat_connections", 2.0);
    let (status, page) = get(&address, "GET /metrics");
    assert_eq!(status, 200);
    let found = samples(&page);
    for (name, expected) in [
        ("chat_members", 2.0),
        ("chat_connections_total{transport=\"tcp\"}", 4.0),
        ("chat_messages_total", 5.0),
        ("chat_deliveries_total", 10.0),
        ("chat_refusals_total{code=\"NOT_REGISTERED\"}", 1.0),
        ("chat_slow_readers", 0.0),
        ("chat_read_paused", 0.0),
    ] {
        assert_eq!(found.get(name), Some(&expected), "{name}: {page}");
    }
    for name in [
        "chat_received_bytes_total",
        "chat_sent_bytes_total",
        "chat_log_bytes",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(
            found.get(name).is_some_and(|&value| value > 0.0),
            "{name}: {page}"
        );
    }
    // Each chat has its length, and goes to two.
    assert!(found["chat_sent_bytes_total"] > 2.0 * 5.0 * 27.0, "{page}");
    for secret in ["Alice", "Bob", "secret", "127.0.0.1"] {
        assert!(!page.contains(secret), "{page}");
    }
    assert!(!page.contains("chat_store"), "there is none: {page}");
}

/// One message in each tenth of a second is measured, for each that receives it.
#[test]
fn it_measures_how_long_deliveries_take() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().to_str().expect("a path");
    let (server, address) = start(&["--data", data]);
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    let mut measured = 0.0;
    for _ in 0..50 {
        alice.say("hello");
        bob.hears("hello");
        std::thread::sleep(std::time::Duration::from_millis(50));
        let found = samples(&get(&address, "GET /metrics").1);
        measured = found["chat_delivery_seconds_count"];
        assert_eq!(found["chat_delivery_seconds_bucket{le=\"+Inf\"}"], measured);
        if measured >= 3.0 {
            assert!(found["chat_delivery_seconds_sum"] > 0.0);
            assert!(found["chat_store_commit_seconds_count"] >= 3.0);
            assert_eq!(found["chat_store_full"], 0.0);
            break;
        }
    }
    assert!(measured >= 3.0, "{measured}");
}

#[test]
fn health_and_readiness_are_told() {
    let (server, address) = start(&[]);
    assert_eq!(get(&address, "GET /healthz"), (200, "ok\n".to_owned()));
    assert_eq!(get(&address, "GET /readyz"), (200, "ready\n".to_owned()));
    assert_eq!(get(&address, "GET /").0, 404);
    assert_eq!(get(&address, "POST /metrics").0, 405);
    // It closes, and waits for a member that does not.
    let _alice = Peer::join(&server, "Alice");
    server.signal("TERM");
    server.wait_for_log("closing");
    assert_eq!(get(&address, "GET /readyz").0, 503);
    assert_eq!(get(&address, "GET /healthz").0, 200);
}

/// What a container's health check runs.
#[test]
fn the_program_asks_for_health_itself() {
    let ask = |address: &str, more: &[&str]| {
        let asked = output(command(&[&["health", "--metrics", address], more].concat()));
        let sentence = String::from_utf8_lossy(&asked.stderr).into_owned();
        (asked.status.code(), sentence)
    };
    let (server, address) = start(&[]);
    let port = address.rsplit(':').next().expect("a port");
    for address in [&*address, &format!(":{port}"), &format!("0.0.0.0:{port}")] {
        assert_eq!(ask(address, &[]), (Some(0), String::new()));
    }
    assert_eq!(ask(&address, &["--ready"]), (Some(0), String::new()));
    // It closes, and waits for a member that does not.
    let _alice = Peer::join(&server, "Alice");
    server.signal("TERM");
    server.wait_for_log("closing");
    assert_eq!(ask(&address, &[]).0, Some(0));
    let (code, sentence) = ask(&address, &["--ready"]);
    assert!(code == Some(1) && sentence.contains("503"), "{sentence}");
    drop(server);
    let (code, sentence) = ask(&address, &[]);
    assert!(
        code == Some(1) && sentence.contains("refused"),
        "{sentence}"
    );
    assert_eq!(ask("nonsense:x", &[]).0, Some(2));
}

/// Monitors that say nothing take neither memory nor the answers of others for long.
#[test]
fn silent_monitors_are_bounded() {
    let (server, address) = start(&[]);
    // More than are answered at a time: a monitor takes the place of one that is silent.
    let silent: Vec<TcpStream> = (0..300)
        .map(|_| TcpStream::connect(&address).expect("it listens"))
        .collect();
    let began = Instant::now();
    assert_eq!(get(&address, "GET /healthz").0, 200);
    // Far less than a silent one has.
    assert!(began.elapsed() < Duration::from_secs(8));
    let mut alice = Peer::join(&server, "Alice");
    let mut bob = Peer::join(&server, "Bob");
    alice.say("hello");
    bob.hears("hello");
    drop(silent);
}

/// The alarm that nobody wants to miss.
#[test]
fn the_end_of_the_certificate_is_shown() {
    const NAME: &str = "chat_certificate_expiry_timestamp_seconds{certificate=\"server\"}";
    // 2300-01-01; self-signed ones last for long.
    const FAR_UNIX_S: f64 = 10_413_792_000.0;
    let folder = tempfile::tempdir().expect("a folder");
    let tls = folder.path().to_str().expect("a path");
    let options = [
        "--listen",
        "none",
        "--tls-listen",
        "127.0.0.1:0",
        "--tls-self-signed",
        tls,
    ];
    let (_server, address) = start(&options);
    let found = samples(&get(&address, "GET /metrics").1);
    assert!(found[NAME] > FAR_UNIX_S, "{found:?}");
    let (_server, address) = start(&[]);
    let (_, page) = get(&address, "GET /metrics");
    assert!(!page.contains("certificate"), "{page}");
}

/// A server that has everything that is counted, with its folder and its page.
fn everything() -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| {
        folder
            .path()
            .join(name)
            .to_str()
            .expect("a path")
            .to_owned()
    };
    let (data, tls) = (path("room"), path("tls"));
    let options = [
        "--data",
        &data,
        "--web-listen",
        "127.0.0.1:0",
        "--tls-self-signed",
        &tls,
    ];
    let (server, address) = start(&options);
    let _alice = Peer::join_with(&server, "Alice", NOTHING);
    let mut stranger = Peer::connect(&server);
    stranger.say("hello");
    stranger.is_ended(ErrorCode::NotRegistered);
    let (_, page) = get(&address, "GET /metrics");
    (folder, page)
}

/// A server of a cluster, and where its metrics are.
#[cfg(feature = "cluster")]
fn node() -> (crate::cluster::Nats, TestServer, String) {
    let nats = crate::cluster::Nats::start();
    let cluster = format!("nats://127.0.0.1:{}", nats.port);
    let (server, address) = start(&["--cluster", &cluster, "--node", "first"]);
    (nats, server, address)
}

/// Also what promtool says to its metrics.
#[cfg(feature = "cluster")]
#[test]
fn a_node_that_is_cut_off_is_not_ready() {
    let (nats, server, address) = node();
    server.wait_for_log("in the cluster");
    let metric = |name: &str| samples(&get(&address, "GET /metrics").1)[name];
    assert_eq!(get(&address, "GET /readyz").0, 200);
    assert_eq!(metric("chat_cluster_reachable"), 1.0);
    assert_eq!(metric("chat_cluster_nodes"), 1.0);
    assert!(metric("chat_cluster_applied_position") >= 1.0);
    assert!(metric("chat_cluster_batch_seconds_count") >= 1.0);
    let page = get(&address, "GET /metrics").1;
    if let Some((is_good, said)) = promtool(&["check", "metrics"], &page) {
        assert!(is_good && said.trim().is_empty(), "{said}\n{page}");
    }
    nats.signal("STOP");
    server.wait_for_log("cut off the cluster");
    assert_eq!(get(&address, "GET /readyz").0, 503);
    assert_eq!(get(&address, "GET /healthz").0, 200);
    assert_eq!(metric("chat_cluster_reachable"), 0.0);
    assert_eq!(metric("chat_cluster_cut_off_total"), 1.0);
    nats.signal("CONT");
    let began = std::time::Instant::now();
    while get(&address, "GET /readyz").0 != 200 {
        assert!(
            began.elapsed() < crate::support::PATIENCE,
            "it does not come back"
        );
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert_eq!(metric("chat_cluster_reachable"), 1.0);
}

/// What promtool says to `input`; nothing where it is not installed.
fn promtool(arguments: &[&str], input: &str) -> Option<(bool, String)> {
    let promtool = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        eprintln!("promtool is not installed");
        return None;
    };
    let mut stdin = promtool.stdin.take().expect("it is piped");
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = promtool.wait_with_output().expect("our child");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    Some((output.status.success(), said))
}

/// Prometheus' own check, where it is installed: of names, units and the format.
#[test]
fn promtool_finds_nothing_to_say() {
    let (_folder, page) = everything();
    if let Some((is_good, said)) = promtool(&["check", "metrics"], &page) {
        assert!(is_good && said.trim().is_empty(), "{said}\n{page}");
    }
}

/// The metrics of `docs/operate.md` are those of the page, and its alarms are rules.
#[cfg(feature = "cluster")]
#[test]
fn the_documentation_names_what_is_shown() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operate.md");
    let docs = std::fs::read_to_string(docs).expect("it is there");
    let (_, docs) = docs.split_once("## Metrics and health").expect("its head");
    let (docs, _) = docs.split_once("\n## ").expect("the next head");
    let (_folder, page) = everything();
    // A room on disk and one of several servers do not go together.
    let (_nats, node, address) = node();
    node.wait_for_log("in the cluster");
    let of_node = get(&address, "GET /metrics").1;
    let shown: BTreeSet<&str> = page
        .lines()
        .chain(of_node.lines())
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .filter(|name| name.starts_with("chat_"))
        .collect();
    let table = docs.lines().filter(|line| line.starts_with("| `"));
    let first = table.filter_map(|line| line.split('|').nth(1));
    let named: BTreeSet<&str> = first
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(|name| name.split('{').next().unwrap_or_default())
        .filter(|name| name.starts_with("chat_"))
        .collect();
    assert_eq!(named, shown);
    let (_, rules) = docs.split_once("```yaml\n").expect("the alarms");
    let (rules, _) = rules.split_once("```").expect("their end");
    for word in rules.split(|c: char| !(c.is_alphanumeric() || c == '_')) {
        let name = ["_bucket", "_count", "_sum"]
            .iter()
            .find_map(|end| word.strip_suffix(end))
            .unwrap_or(word);
        let is_name = name.starts_with("chat_");
        assert!(!is_name || shown.contains(name), "{word}");
    }
    if let Some((is_good, said)) = promtool(&["check", "rules", "/dev/stdin"], rules) {
        assert!(is_good, "{said}\n{rules}");
    }
}
