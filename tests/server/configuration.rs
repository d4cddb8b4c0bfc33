//! The configuration file, what is printed of it, and files that are pipes.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use nix::{sys::stat::Mode, unistd::mkfifo};

use crate::support::{NOTHING, Peer, TestServer, command, file, output};

/// What `command` prints, and its exit code.
#[track_caller]
fn printed(command: Command) -> (String, String, Option<i32>) {
    let output = output(command);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    let stderr = text(output.stderr);
    let unwrapped = stderr.split_whitespace().collect::<Vec<_>>().join(" ");
    (text(output.stdout), unwrapped, output.status.code())
}

#[test]
fn a_file_configures_it_and_variables_and_options_override_it() {
    let config = file(
        b"# the room\nrate-limit = \"20/min\"\nrate-burst = 7\ntext-bytes-max = 99\n",
        0o644,
    );
    let config = config.to_str().expect("a path");
    for by in ["option", "variable"] {
        let mut command = command(&["--rate-burst", "8"]);
        match by {
            "option" => command.args(["--config", config]),
            _ => command.env("CHAT_CONFIG", config),
        };
        command.env("CHAT_TEXT_BYTES_MAX", "98");
        let server = TestServer::run(command);
        let limits = Peer::join_with(&server, "Alice", NOTHING).1.limits;
        let limits = limits.expect("CHAT-LIM-1");
        let found = (
            limits.chat_interval_ms,
            limits.chat_burst,
            limits.text_bytes_max,
        );
        assert_eq!(found, (3_000, 8, 98), "{by}");
    }
}

#[test]
fn a_wrong_file_is_told_with_its_name_and_the_nearest_key() {
    for (text, words) in [
        (
            "rate-limt = 1",
            "unknown key rate-limt: did you mean rate-limit?",
        ),
        (
            "rate-limit = \"fast\"",
            "invalid value 'fast' for '--rate-limit",
        ),
        ("rate-limit", "line 1: "),
        ("rate-limit = 1\nrate-limit = 2", "line 2: "),
    ] {
        let config = file(text.as_bytes(), 0o644);
        let config = config.to_str().expect("a path");
        for option in [&[][..], &["--check"], &["--print-config"]] {
            let (stdout, stderr, code) =
                printed(command(&[&["--config", config], option].concat()));
            assert_eq!((stdout.as_str(), code), ("", Some(2)), "{stderr}");
            assert!(stderr.contains(&format!("{config}: {words}")), "{stderr}");
        }
    }
    let (_, stderr, code) = printed(command(&["--config", "/nowhere/at/all"]));
    assert_eq!(code, Some(2));
    assert!(
        stderr.contains("cannot read /nowhere/at/all: No such file"),
        "{stderr}"
    );
}

#[test]
fn the_configuration_is_printed_and_checked_without_serving() {
    let config = file(b"idle-deadline-ms = \"30s\"\n", 0o644);
    let config = config.to_str().expect("a path");
    let mut it = command(&["--config", config, "--listen", ":7", "--print-config"]);
    it.env("CHAT_PASSWORD", "open sesame")
        .env("CHAT_ERRORS_MAX", "5");
    let (stdout, _, code) = printed(it);
    assert_eq!(code, Some(0));
    let words: Vec<Vec<&str>> = stdout
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    let has = |line: &[&str]| assert!(words.iter().any(|it| it == line), "{line:?}: {stdout}");
    has(&["listen", "=", "\":7\"", "#", "option"]);
    has(&["idle-deadline-ms", "=", "\"30s\"", "#", "file", config]);
    has(&[
        "errors-max",
        "=",
        "\"5\"",
        "#",
        "variable",
        "CHAT_ERRORS_MAX",
    ]);
    // It follows from the deadline.
    has(&["#", "keepalive-interval-ms", "=", "\"10s\"", "#", "default"]);
    assert!(!stdout.contains("sesame"), "{stdout}");

    // A configuration as it was printed configures the same.
    let again = file(stdout.as_bytes(), 0o600);
    let mut it = command(&["--config", again.to_str().expect("a path"), "--check"]);
    it.env("CHAT_PASSWORD", "open sesame");
    let (stdout, stderr, code) = printed(it);
    assert_eq!(
        (stdout.as_str(), code),
        ("the configuration is good\n", Some(0)),
        "{stderr}"
    );

    for (options, words) in [
        (
            &["--allow", "/nowhere/at/all"][..],
            "cannot read the list of names",
        ),
        (&["--listen", "none"], "the server listens nowhere"),
        (&["--listen", "a..b"], "cannot listen on a..b: "),
        (&["--metrics", "a..b:1"], "cannot listen on a..b:1: "),
        (&["--control", "/dev/null"], "something else than a socket"),
        #[cfg(feature = "store")]
        (&["--data", "/dev/null"], "/dev/null is no folder"),
        (&["--tls-listen", ":0"], "need a certificate"),
        (
            &["--tls-cert", "x", "--tls-key", "y"],
            "a certificate needs --tls-listen",
        ),
        #[cfg(feature = "cluster")]
        (
            &[
                "--cluster",
                "nats://127.0.0.1",
                "--cluster-credentials",
                "/nowhere",
            ],
            "cannot read /nowhere",
        ),
        #[cfg(feature = "cluster")]
        (
            &["--cluster", "nats://127.0.0.1", "--cluster-ca", "/dev/null"],
            "is no regular file",
        ),
    ] {
        let (stdout, stderr, code) = printed(command(&[options, &["--check"]].concat()));
        assert_eq!(
            (stdout.as_str(), code),
            ("", Some(2)),
            "{options:?}: {stderr}"
        );
        assert!(stderr.contains(words), "{options:?}: {stderr}");
    }
    // A check makes nothing.
    let folder = tempfile::tempdir().expect("a folder");
    let certificate = folder.path().join("new");
    let certificate = certificate.to_str().expect("a path");
    let options = [
        "--tls-listen",
        ":0",
        "--tls-self-signed",
        certificate,
        "--check",
    ];
    assert_eq!(printed(command(&options)).2, Some(0));
    assert!(!folder.path().join("new").exists());
}

#[test]
fn a_port_alone_is_every_address() {
    let server = TestServer::start(&["--listen", ":0"]);
    let port = server.address.port();
    let mut alice = Peer::from_stream(
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens on IPv4"),
    );
    alice.register("Alice", NOTHING);
    // Not every machine has IPv6.
    if let SocketAddr::V6(_) = server.address {
        let bob = TcpStream::connect((Ipv6Addr::LOCALHOST, port)).expect("and on IPv6");
        let mut bob = Peer::from_stream(bob);
        bob.register("Bob", NOTHING);
        bob.say("both");
        alice.hears("both");
    }
}

/// Each file that an option names may be a pipe.
#[test]
fn a_pipe_that_nobody_writes_to_does_not_hold_up_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let pipe = folder.path().join("pipe");
    mkfifo(&pipe, Mode::S_IRWXU).expect("ours");
    let pipe = pipe.to_str().expect("a path");
    let begun = Instant::now();
    let started: Vec<_> = [
        &["--password-file", pipe][..],
        &["--allow", pipe],
        &["--config", pipe],
        &["--tls-listen", ":0", "--tls-cert", pipe, "--tls-key", pipe],
    ]
    .into_iter()
    .map(|options| {
        let it = command(options);
        std::thread::spawn(move || printed(it))
    })
    .collect();
    for server in started {
        let (_, stderr, code) = server.join().expect("it ended");
        assert_eq!(code, Some(2), "{stderr}");
        assert!(stderr.contains("a pipe that nobody wrote to"), "{stderr}");
    }
    assert!(begun.elapsed() < Duration::from_secs(15));
    // One that is written is read.
    let mut shell = Command::new("bash");
    let script = "exec \"$0\" --password-file <(echo secret) --allow <(echo Alice)";
    shell.args(["-c", script, env!("CARGO_BIN_EXE_chat-server")]);
    let server = TestServer::run(shell);
    server.wait_for_log("not for everybody");
}
